"""Random configurations of every estimator: usable results, or an error that names the cause.

`tests/properties` has the tables, the parameters and the invariants; `python -m tests.properties` is the long run.
"""

import pytest
from properties.invariants import examine
from properties.runner import print_counts, run
from properties.shrunk import SHRUNK


# Parts, so that several processes share them: 300 examples in all.
@pytest.mark.parametrize("part", range(4))
def test_random_configurations(part):
    counts, faults = run(75, seed=part)
    print_counts(counts)
    assert not faults, "\n".join(f"{error}: {configuration}" for configuration, error in faults.values())


@pytest.mark.parametrize("configuration", SHRUNK, ids=repr)
def test_what_once_failed(configuration):
    examine(configuration)
