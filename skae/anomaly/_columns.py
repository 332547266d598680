"""Columns brought to one scale: distances across units mean nothing."""

from __future__ import annotations

import numpy as np
from scipy import sparse, stats

N_KNOTS = 256
# Rows that quantiles are computed of: more do not change them.
MAX_ROWS = 50_000
# Cells that are farther out than so many times what is usual in a column are faults or fill values.
WILD = 1e10
# The largest scaled value: its square and sums of such squares are finite in single precision.
LARGEST = 1e6
# Rows that say what is usual.
USUAL_ROWS = 1000
# Entries whose moments are taken at once.
BLOCK = 2**22
# Columns whose largest value is beyond these are brought between them before they are squared.
SQUARED_SAFELY = (1e-100, 1e100)
# Beyond these, in single precision, all columns are brought to another unit together.
COMMON = (1e-6, 1e6)
# The unit of a column that is constant in training: a departure of its size is ten standard deviations.
CONSTANT_UNIT = 0.1


def _some(X: np.ndarray) -> np.ndarray:
    return X[:: -(-len(X) // MAX_ROWS)]


def _usual_size(X: np.ndarray, centre: np.ndarray | float = 0.0) -> np.ndarray:
    """Median distance from the centre of what is not in it, by column; infinite where there is nothing."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(X[:: -(-len(X) // USUAL_ROWS)] - centre)
    return _median(np.where(distance > 0, distance, np.nan), np.inf)


def _median(X: np.ndarray, empty: float) -> np.ndarray:
    # numpy would warn of columns without a value, and its warnings cannot be silenced in one thread alone.
    has_values = ~np.isnan(X).all(axis=0)
    middle = np.full(X.shape[1], empty)
    middle[has_values] = np.nanmedian(X[:, has_values], axis=0)
    return middle


def _without_wild(X: np.ndarray) -> np.ndarray:
    """X with gaps in place of cells that are out of all proportion to their column."""
    middle = _median(X[:: -(-len(X) // USUAL_ROWS)], 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        reach = WILD * _usual_size(X, middle)
        wild = np.abs(X - middle) > reach
    return np.where(wild, np.nan, X) if wild.any() else X


def _power_of_two(size: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """What sizes out of bounds are divided by, without rounding, to be about one; 1 for the others."""
    outside = (size > 0) & np.isfinite(size) & ((size < bounds[0]) | (size > bounds[1]))
    return np.where(outside, np.exp2(np.frexp(np.where(outside, size, 1.0))[1] - 1), 1.0)


def _moments(X: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each column, in double precision, without the cells that are wild."""
    mean, spread = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    step = max(1, BLOCK // max(len(X), 1))
    for start in range(0, X.shape[1], step):
        block = _without_wild(np.asarray(X[:, start : start + step], dtype=np.float64))
        known = np.flatnonzero(~np.isnan(block).all(axis=0))
        block = block if len(known) == block.shape[1] else block[:, known]
        unit = _power_of_two(np.nanmax(np.abs(block), axis=0), SQUARED_SAFELY)
        block = block if (unit == 1).all() else block / unit
        middle, deviation = _mean_and_deviation(block, weight)
        mean[start + known], spread[start + known] = unit * middle, unit * deviation
    return mean, spread


def _mean_and_deviation(X: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Of the observed entries of columns that have some."""
    if weight is None:
        return np.nanmean(X, axis=0), np.nanstd(X, axis=0)
    counted = np.where(np.isnan(X), 0.0, weight[:, None])
    total = counted.sum(axis=0)
    mean = np.nansum(counted * X, axis=0) / total
    return mean, np.sqrt(np.nansum(counted * (X - mean) ** 2, axis=0) / total)


def _sparse_moments(X, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each column of a sparse matrix."""
    X = X.astype(np.float64)
    unit = _power_of_two(abs(X).max(axis=0).toarray().ravel(), SQUARED_SAFELY)
    X = X if (unit == 1).all() else X @ sparse.diags_array(1 / unit)
    mean = np.asarray(X.mean(axis=0)).ravel() if weight is None else weight @ X / weight.sum()
    X = X.multiply(X)
    square = np.asarray(X.mean(axis=0)).ravel() if weight is None else weight @ X / weight.sum()
    return unit * mean, unit * np.sqrt(np.maximum(square - mean**2, 0))


def _within(X, bound: float):
    """Rows whose values are at most so large, in place."""
    values = X.data if sparse.issparse(X) else X
    np.clip(values, -bound, bound, out=values)
    return X


class StandardColumns:
    """Columns of mean 0 and variance 1; sparse ones are not centred, so that they stay sparse.

    A column that is constant in training has a tenth of its value as its unit (0.1 where that is
    smaller), so that a departure raises the score and nothing is divided by zero. Cells that are
    out of all proportion (a fill value such as 9.97e36) have no say in mean and variance. Scaled
    values are at most a million.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_rows, n_columns)
    entry : ndarray of shape (n_columns,) or None
        Which column of a table each belongs to. Those of a category have one unit, and a variance
        of 1 together: rows differ as much in a category as in a number.
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows.
    """

    bound = LARGEST

    def __init__(self, X, entry: np.ndarray | None = None, weight: np.ndarray | None = None) -> None:
        mean: np.ndarray
        if sparse.issparse(X):
            mean, spread = _sparse_moments(X, weight)
            self.centre = np.zeros(X.shape[1])
            constant = spread <= 1e-9 * np.abs(mean) + 1e-12 / max(X.shape[0], 1)
        else:
            mean, spread = _moments(X, weight)
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
            return _within(X @ sparse.diags_array(1 / self.spread), self.bound).astype(X.dtype).tocsr()
        with np.errstate(over="ignore"):
            scaled = X - self.centre
            scaled /= self.spread
        return _within(scaled, self.bound).astype(X.dtype, copy=False)

    def back(self, Z: np.ndarray) -> np.ndarray:
        """Scaled rows in the data's units."""
        return Z * self.spread + self.centre

    def without_wild(self, Z):
        """Scaled rows to fit to: what is out of bounds becomes the usual value of its column."""
        return Z if sparse.issparse(Z) else np.where(np.abs(Z) >= self.bound, Z.dtype.type(0), Z)


class CommonScale:
    """Columns as they are, or in one other unit for all, where numbers are too large or too small to be squared.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_rows, n_columns)
    entry : ndarray of shape (n_columns,) or None
        Not used.
    keep_units : bool, default=False
        Whether the unit must stay, as that of counts.
    """

    def __init__(self, X, entry: np.ndarray | None = None, *, keep_units: bool = False) -> None:
        if sparse.issparse(X):
            usual = np.atleast_1d(_usual_size(np.asarray(X.data, dtype=np.float64)[:, None]))
            self.middle = np.zeros(X.shape[1])
        else:
            usual = _usual_size(np.asarray(X, dtype=np.float64))
            self.middle = _median(X[:: -(-len(X) // USUAL_ROWS)], 0.0)
        size = np.max(usual, where=np.isfinite(usual), initial=0.0)
        unit = 1.0 if keep_units else float(_power_of_two(size, COMMON))
        self.middle = self.middle / unit
        self.bound = WILD * (size / unit or 1.0)
        self.spread = np.full(X.shape[1], unit)

    def __call__(self, X):
        """Rows in the common unit."""
        unit = self.spread[0]
        values = X.data if sparse.issparse(X) else X
        with np.errstate(invalid="ignore"):
            inside = unit == 1 and not (np.abs(values) > self.bound).any()
        return X if inside else _within(X * (1 / unit), self.bound).astype(X.dtype, copy=False)

    def back(self, Z: np.ndarray) -> np.ndarray:
        """Rows in the data's units."""
        return Z if self.spread[0] == 1 else Z * self.spread[0]

    def without_wild(self, Z):
        """Rows to fit to: what is out of bounds becomes the usual value of its column."""
        if sparse.issparse(Z) or not (np.abs(Z) >= self.bound).any():
            return Z
        return np.where(np.abs(Z) >= self.bound, self.middle, Z).astype(Z.dtype, copy=False)


class AsTheyAre:
    """No scaling."""

    def __init__(self, X, entry=None) -> None:
        self.spread = np.ones(X.shape[1])

    def __call__(self, X):
        """The rows."""
        return X

    back = __call__


class RankColumns:
    """Each column by its ranks, as a normal distribution has them; linear beyond the training values.

    Neither units nor wild values nor the shape of a column matter then, only the order.
    """

    def __init__(self, X: np.ndarray) -> None:
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

    def __init__(self, X: np.ndarray) -> None:
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

    def __init__(self, columns, X: np.ndarray, entry: np.ndarray) -> None:
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
