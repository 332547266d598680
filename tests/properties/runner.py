"""Many examples, one shrunk configuration for each kind of fault, and counts."""

from __future__ import annotations

import re
import time
from collections import Counter

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from .estimators import OWN, Configuration, configurations
from .invariants import Fault, examine

# Examples between two starts of hypothesis, and those that are tried to make one smaller.
A_CHUNK, MOST_SHRINKS = 50, 60
SETTINGS = settings(
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    verbosity=hypothesis.Verbosity.quiet,
)
Kind = tuple[str, str]


def run(n_examples: int, seed: int, names=tuple(OWN), *, verbose: bool = False) -> tuple[Counter, dict]:
    """Counts by estimator and outcome, and what went wrong: a shrunk configuration and its error by kind."""
    counts: Counter = Counter()
    faults: dict[Kind, tuple[Configuration, Exception]] = {}
    start, part = time.time(), 0
    while sum(counts.values()) < n_examples:
        n = min(A_CHUNK, n_examples - sum(counts.values()))
        found = _Search(faults, counts).run(n, seed * 1_000_003 + part, names)
        part += 1
        if verbose:
            if found is not None:
                configuration, error = faults[found]
                print(f"    # {type(error).__name__}: {error}\n    {configuration!r},")
            print(f"{sum(counts.values())} examples, {len(faults)} faults, {time.time() - start:.0f} s", flush=True)
    return counts, faults


class _Search:
    """Examples until the first fault of a new kind, which is shrunk; those of known kinds are counted."""

    def __init__(self, faults: dict, counts: Counter):
        self.faults, self.counts = faults, counts
        self.found: Kind | None = None
        self.smallest: tuple[Configuration, Exception] | None = None
        self.n_shrinks = 0

    def run(self, n_examples: int, seed: int, names) -> Kind | None:
        examples = settings(SETTINGS, max_examples=n_examples)(given(configurations(names))(self._check))
        try:
            hypothesis.seed(seed)(examples)()
        except Exception:
            if self.found is None:
                raise
        if self.found is not None:
            self.faults[self.found] = self.smallest
        return self.found

    def _check(self, configuration: Configuration) -> None:
        self.n_shrinks += self.found is not None
        if self.n_shrinks > MOST_SHRINKS:
            return
        try:
            outcome = examine(configuration)
        except Exception as error:
            kind = kind_of(configuration, error)
            if self.found is None:
                self.counts[configuration.estimator, f"FAULT: {kind[1]}"] += 1
                if kind not in self.faults:
                    self.found = kind
            if kind == self.found:
                self.smallest = configuration, error
                raise
        else:
            if self.found is None:
                self.counts[configuration.estimator, outcome] += 1


def kind_of(configuration: Configuration, error: Exception) -> Kind:
    """What counts as the same fault: of one class, with a message that is equal but for its numbers."""
    text = str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
    return configuration.estimator, re.sub(r"[-+\d.e]*\d[-+\d.e]*|\binf\b|\bnan\b", "#", text.splitlines()[0])[:120]


def print_counts(counts: Counter) -> None:
    """A line for each estimator and outcome."""
    for (name, outcome), count in sorted(counts.items()):
        print(f"{name:30} {outcome:80} {count:6}")
    print(f"{sum(counts.values())} examples")
