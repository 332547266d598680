"""Numeric tables whose cells are hidden, and how."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from sklearn import datasets
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from benchmarks._common import require

MAX_ROWS = 10_000
BUNDLED = ("breast_cancer", "wine", "diabetes", "digits", "iris", "linnerud")


class Case(NamedTuple):
    """A complete table, in the units of its errors, and which of its cells are hidden, True for those."""

    X: np.ndarray
    hidden: np.ndarray

    @property
    def gappy(self) -> np.ndarray:
        """The table with NaN for the hidden cells."""
        return np.where(self.hidden, np.nan, self.X)


class Mechanism(NamedTuple):
    """Which cells are hidden, by how many masks, and the units of the table."""

    hide: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    n_masks: int
    scaler: type = StandardScaler


def load(name: str) -> np.ndarray:
    """The columns of a table in double precision, without its target."""
    if name in BUNDLED:
        return getattr(datasets, f"load_{name}")().data.astype(np.float64)
    with np.load(require("imputation", f"{name}.npz")) as stored:
        return stored["X"].astype(np.float64)


@cache
def sizes() -> dict[str, tuple[int, int]]:
    """Rows and columns of every table, those of few cells first."""
    names = [*BUNDLED, *(path.stem for path in require("imputation").glob("*.npz"))]
    made = {name: load(name).shape for name in sorted(names)}
    return dict(sorted(made.items(), key=lambda item: item[1][0] * item[1][1]))


def case(name: str, mechanism: str, seed: int, max_rows: int | None = MAX_ROWS) -> Case:
    """A table, cut to `max_rows` rows at random and scaled, with cells hidden; the same for the same arguments."""
    X, how = load(name), MECHANISMS[mechanism]
    if max_rows is not None and len(X) > max_rows:
        X = X[np.random.default_rng(0).permutation(len(X))[:max_rows]]
    X = how.scaler().fit_transform(X)
    generator = np.random.default_rng([zlib.crc32(f"{name}, {mechanism}".encode()), seed])
    return Case(X, how.hide(X, generator))


def drawn(share: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Cells hidden with these probabilities; a column that loses all its cells is drawn again."""
    hidden = generator.random(share.shape) < share
    while (lost := hidden.all(axis=0)).any():
        hidden[:, lost] = generator.random((len(share), int(lost.sum()))) < share[:, lost]
    return hidden


def at_random(rate: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Missing completely at random."""
    return lambda X, generator: drawn(np.full(X.shape, rate), generator)


def logistic(scores: np.ndarray, rate: float) -> np.ndarray:
    """Probabilities expit(scores + b), with b by column such that their mean is the rate."""
    intercepts = [brentq(lambda b, column=column: expit(column + b).mean() - rate, -50, 50) for column in scores.T]
    return expit(scores + np.array(intercepts))


def by_other_columns(rate: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Missing at random: a random half of the columns is complete and decides by a logistic model about the others.

    As in Muzellec et al., "Missing data imputation using optimal transport", ICML 2020: the
    scores of each column are a random combination of the complete ones, of unit deviation.
    """

    def hide(X, generator):
        order = generator.permutation(X.shape[1])
        kept, others = np.split(order, [max(1, X.shape[1] // 2)])
        scores = X[:, kept] @ generator.normal(size=(len(kept), len(others)))
        deviation = scores.std(axis=0)
        hidden = np.zeros(X.shape, dtype=bool)
        hidden[:, others] = drawn(logistic(scores / np.where(deviation > 0, deviation, 1), rate), generator)
        return hidden

    return hide


def by_own_value(rate: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Missing not at random: a logistic model of the value itself, ± x standardised, the sign drawn by column."""

    def hide(X, generator):
        return drawn(logistic(X * generator.choice([-1.0, 1.0], size=X.shape[1]), rate), generator)

    return hide


def above_mean(X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Missing not at random: of the first half of the columns, each value above the mean is hidden.

    As in Ipsen et al., "not-MIWAE", ICLR 2021.
    """
    hidden = np.zeros(X.shape, dtype=bool)
    half = X.shape[1] // 2
    hidden[:, :half] = X[:, :half] > X[:, :half].mean(axis=0)
    return hidden


# In the order in which they are measured.
MECHANISMS = {
    "MCAR 50": Mechanism(at_random(0.5), 3),
    "MCAR 20": Mechanism(at_random(0.2), 3),
    "MAR 30": Mechanism(by_other_columns(0.3), 2),
    "MNAR 30": Mechanism(by_own_value(0.3), 2),
    "above mean": Mechanism(above_mean, 1),
    "GAIN 20": Mechanism(at_random(0.2), 3, MinMaxScaler),
}
PANEL = ("MCAR 50", "MCAR 20", "MAR 30", "MNAR 30")
