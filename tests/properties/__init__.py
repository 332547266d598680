"""Random configurations of every estimator, and what must be true of each.

`python -m tests.properties --examples 20000 --seed 0` is the long run; `tests/test_properties.py` the short one.
"""
