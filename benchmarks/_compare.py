"""Methods compared over sets: which have every set, their mean ranks; growth of seconds; names of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import rankdata

# Figures that were printed with two decimals, in per cent, cannot be told apart beyond the fourth.
DECIMALS = 4

Values = dict[str, dict[str, float]]


def complete(values: Values, names: Sequence[str]) -> Values:
    """The methods that have a value for each of these sets, and these values alone."""
    return {
        method: {name: by_set[name] for name in names}
        for method, by_set in values.items()
        if all(name in by_set for name in names)
    }


def mean_ranks(values: Values, names: Sequence[str], largest: bool = True) -> dict[str, float]:
    """By method, the mean over the sets of its rank; 1 is the largest value, equal ones share their ranks' mean.

    With ``largest=False``, 1 is the smallest value.
    """
    table = np.array([[round(by_set[name], DECIMALS) for name in names] for by_set in values.values()])
    if not table.size:
        return {}
    ordered = -table if largest else table
    return dict(zip(values, rankdata(ordered, axis=0).mean(axis=1).tolist(), strict=True))


def mean_of(by_set: dict[str, float]) -> float:
    """The mean of the values."""
    return float(np.mean(list(by_set.values())))


def power(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The power of the size by which seconds grow: the slope of their logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def known_names(names: Iterable[str], known: Sequence[str], what: str) -> list[str]:
    """The names; ends with a message where one is not known."""
    chosen = list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise SystemExit(f"No {what} {', '.join(unknown)}; there are: {', '.join(known)}.")
    return chosen
