"""A long run: `python -m tests.properties --examples 20000 --seed 0`.

Faults are shrunk, printed as entries for `shrunk.py`, and counted; the exit status is 1 where there was one.
"""

from __future__ import annotations

import argparse
import sys

import torch

from .estimators import OWN
from .runner import print_counts, run


def main() -> int:
    """Run as many examples as asked for, and print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.properties", description=__doc__)
    parser.add_argument("--examples", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimators", nargs="+", default=list(OWN), choices=list(OWN), metavar="CLASS")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts, faults = run(arguments.examples, arguments.seed, tuple(arguments.estimators), verbose=True)
    print_counts(counts)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
