"""Columns brought to one scale: distances across units mean nothing."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse, stats

N_KNOTS = 256
# Rows that quantiles are computed of: more do not change them.
MAX_ROWS = 50_000
# The unit of a column that is constant in training: a departure of its size is ten standard deviations.
CONSTANT_UNIT = 0.1


def _some(X: np.ndarray) -> np.ndarray:
    return X[:: -(-len(X) // MAX_ROWS)]


class StandardColumns:
    """Columns of mean 0 and variance 1; sparse ones are not centred, so that they stay sparse.

    A column that is constant in training has a tenth of its value as its unit (0.1 where that is
    smaller), so that a departure raises the score and nothing is divided by zero.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_rows, n_columns)
    entry : ndarray of shape (n_columns,) or None
        Which column of a table each belongs to. Those of a category have one unit, and a variance
        of 1 together: rows differ as much in a category as in a number.
    """

    def __init__(self, X, entry: np.ndarray | None = None):
        mean: np.ndarray
        if sparse.issparse(X):
            n = X.shape[0]
            mean = np.asarray(X.mean(axis=0), dtype=np.float64).ravel()
            square = np.asarray(X.multiply(X).mean(axis=0), dtype=np.float64).ravel()
            spread, self.centre = np.sqrt(np.maximum(square - mean**2, 0)), np.zeros(X.shape[1])
            constant = spread <= 1e-9 * np.abs(mean) + 1e-12 / max(n, 1)
        else:
            with warnings.catch_warnings():
                # Columns without a value.
                warnings.simplefilter("ignore", RuntimeWarning)
                mean = np.nan_to_num(np.asarray(np.nanmean(X, axis=0, dtype=np.float64)))
                spread = np.nan_to_num(np.asarray(np.nanstd(X, axis=0, dtype=np.float64)))
            self.centre = mean
            constant = spread <= 1e-9 * np.abs(mean)
        self.spread = np.where(constant, CONSTANT_UNIT * np.maximum(np.abs(mean), 1.0), spread)
        if entry is not None:
            self.spread = np.where(is_shared(entry), shared_spread(spread, entry), self.spread)

    def leave(self, columns: np.ndarray) -> None:
        """Let these columns be as they are."""
        self.centre, self.spread = np.where(columns, 0.0, self.centre), np.where(columns, 1.0, self.spread)

    def __call__(self, X):
        """Scale rows, in the dtype that they have."""
        if sparse.issparse(X):
            return (X @ sparse.diags_array(1 / self.spread)).astype(X.dtype).tocsr()
        return ((X - self.centre) / self.spread).astype(X.dtype, copy=False)

    def back(self, Z: np.ndarray) -> np.ndarray:
        """Scaled rows in the data's units."""
        return Z * self.spread + self.centre


class AsTheyAre:
    """No scaling."""

    def __init__(self, X, entry=None):
        self.spread = np.ones(X.shape[1])

    def __call__(self, X):
        """The rows."""
        return X

    back = __call__


class RankColumns:
    """Each column by its ranks, as a normal distribution has them; linear beyond the training values.

    Neither units nor wild values nor the shape of a column matter then, only the order.
    """

    def __init__(self, X: np.ndarray):
        some = np.asarray(_some(X), dtype=np.float64)
        self.columns = [self._knots(column[np.isfinite(column)]) for column in some.T]

    @staticmethod
    def _knots(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        if not len(values):
            return np.zeros(1), np.zeros(1), 1.0
        value, count = np.unique(values, return_counts=True)
        # The middle of its ranks, of a value that occurs several times.
        score = stats.norm.ppf((np.cumsum(count) - 0.5 * count) / len(values))
        if len(value) > N_KNOTS:
            at = np.unique(np.round(np.linspace(0, len(value) - 1, N_KNOTS)).astype(int))
            value, score = value[at], score[at]
        spread = values.std()
        return value, score, spread if spread > 0 else CONSTANT_UNIT * max(abs(value[0]), 1.0)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Scale rows."""
        made = np.empty(X.shape, dtype=X.dtype)
        for j, (value, score, spread) in enumerate(self.columns):
            x = X[:, j]
            beyond = np.maximum(x - value[-1], 0) + np.minimum(x - value[0], 0)
            made[:, j] = np.interp(x, value, score) + beyond / spread
        return made


class RobustColumns:
    """Columns by median and quartiles, with wild values drawn in by asinh, at variance 1."""

    def __init__(self, X: np.ndarray):
        low, self.centre, high = np.nan_to_num(quartiles(_some(X)))
        spread = (high - low) / (2 * stats.norm.ppf(0.75))
        self.width = np.where(spread > 0, spread, StandardColumns(X).spread)
        self.standard = StandardColumns(self._drawn_in(X))

    def _drawn_in(self, X):
        return np.arcsinh((X - self.centre) / self.width)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Scale rows."""
        return self.standard(self._drawn_in(X)).astype(X.dtype, copy=False)


class ByEntry:
    """Another scaling, and the columns of a category at a variance of 1 together."""

    def __init__(self, columns, X: np.ndarray, entry: np.ndarray):
        self.columns = columns
        spread = StandardColumns(columns(X)).spread
        self.spread = np.where(is_shared(entry), shared_spread(spread, entry), 1.0)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Scale rows."""
        return (self.columns(X) / self.spread).astype(X.dtype, copy=False)


def quartiles(X: np.ndarray) -> np.ndarray:
    """The quartiles of each column's numbers, of shape (3, n_columns); NaN where there are none.

    As `numpy.nanpercentile`, which goes from column to column, and takes seconds for thousands.
    """
    if not np.isnan(X).any():
        return np.percentile(X, [25, 50, 75], axis=0)
    ordered = np.sort(X, axis=0)
    last = np.maximum((~np.isnan(X)).sum(axis=0) - 1, 0)
    made = []
    for level in (0.25, 0.5, 0.75):
        place = level * last
        below = place.astype(int)
        low, high = (np.take_along_axis(ordered, at[None], axis=0)[0] for at in (below, np.minimum(below + 1, last)))
        made.append(low + (place - below) * (high - low))
    return np.array(made)


def is_shared(entry: np.ndarray) -> np.ndarray:
    """Whether a column of the table has other columns here too, of shape (n_columns,)."""
    return np.bincount(entry)[entry] > 1


def shared_spread(spread: np.ndarray, entry: np.ndarray) -> np.ndarray:
    """The root of the variance of all columns of the same entry, of shape (n_columns,)."""
    shared = np.sqrt(np.bincount(entry, np.square(spread))[entry])
    return np.where(shared > 0, shared, CONSTANT_UNIT)


def entry_weight(entry: np.ndarray) -> np.ndarray:
    """What each column counts, so that an entry of the table counts one, of shape (n_columns,)."""
    return 1 / np.bincount(entry)[entry]


GEOMETRIES = {"standard": StandardColumns, "robust": RobustColumns, "rank": RankColumns, "none": AsTheyAre}
