"""Ranges of the columns: what imputed numbers may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AUTO = "auto"


def resolve_bounds(
    min_value, max_value, Z: np.ndarray, column: np.ndarray, is_number: np.ndarray, n_features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest imputed value of each column of the table, infinite where there is no bound.

    Parameters
    ----------
    min_value, max_value : float, "auto" or array-like of shape (n_features,)
        "auto" is `observed_range`.
    Z : ndarray of shape (n_rows, n_columns)
        The table as a matrix, in the table's units, NaN where a value is missing.
    column : ndarray of int, of shape (n_columns,)
        Which column of the table a column of the matrix belongs to.
    is_number : ndarray of bool, of shape (n_columns,)
        Other columns have no bounds.
    n_features : int
        Columns of the table.

    Returns
    -------
    low, high : ndarray of shape (n_features,)
    """
    ranges = np.tile([[-np.inf], [np.inf]], (1, n_features))
    for index in np.flatnonzero(is_number):
        ranges[:, column[index]] = observed_range(Z[:, index])
    numeric = np.zeros(n_features, dtype=bool)
    numeric[column[is_number]] = True
    low, high = (
        np.where(numeric, _by_column(value, name, auto, n_features), unbounded)
        for value, name, auto, unbounded in zip(
            (min_value, max_value), ("min_value", "max_value"), ranges, (-np.inf, np.inf), strict=True
        )
    )
    if (low > high).any():
        first = int(np.flatnonzero(low > high)[0])
        raise ValueError(
            f"min_value is above max_value in column {first}: {low[first]:g} > {high[first]:g}. Give a range that "
            "holds a value."
        )
    return low, high


def observed_range(values: np.ndarray) -> tuple[float, float]:
    """The range that a column's observed values suggest: a share keeps to [0, 1], and a sign is kept.

    A column that is never negative, as counts, amounts and ages, stays at 0 or above; one that is
    never positive at 0 or below; one within [0, 1] there. Others have no bound.
    """
    seen = values[~np.isnan(values)]
    if len(seen) == 0:
        return -np.inf, np.inf
    if seen.min() >= 0:
        return 0.0, 1.0 if seen.max() <= 1 and seen.max() > 0 else np.inf
    return -np.inf, 0.0 if seen.max() <= 0 else np.inf


def _by_column(value, name: str, auto: np.ndarray, n_features: int) -> np.ndarray:
    """One bound a column, of a number or "auto", or of one for each column."""
    if isinstance(value, str) or np.ndim(value) == 0:
        value = [value] * n_features
    if np.ndim(value) != 1 or len(value) != n_features:
        raise ValueError(
            f"{name} has {len(value)} entries, but X has {n_features} columns: give a number, 'auto', or one of these "
            "for each column."
        )
    return np.array(
        [of_auto if isinstance(entry, str) else entry for entry, of_auto in zip(value, auto, strict=True)], dtype=float
    )


def point_masses(Z: np.ndarray, is_number: np.ndarray, share: float = 0.1) -> dict[int, np.ndarray]:
    """Columns that are semicontinuous: an end of their range holds many rows, the rest is spread.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_columns)
        NaN where a value is missing.
    is_number : ndarray of bool, of shape (n_columns,)
    share : float, default=0.1
        Of a column's values, at least so many are the same, and three times as many as any other.

    Returns
    -------
    dict of int to ndarray
        By column, the lowest value, the highest, or both.
    """
    made: dict[int, np.ndarray] = {}
    for index in np.flatnonzero(is_number):
        seen = Z[~np.isnan(Z[:, index]), index]
        values, counts = np.unique(seen, return_counts=True)
        if len(values) < 3:
            continue
        ends = np.array([0, len(values) - 1])
        most = counts[1:-1].max()
        ends = ends[(counts[ends] >= share * len(seen)) & (counts[ends] >= 3 * most)]
        if len(ends):
            made[int(index)] = values[ends]
    return made


class ConditionalDistribution:
    """The values of one column among held-out cells with nearly the same prediction.

    It serves columns that hold one value in many rows: residuals around a prediction cannot draw
    exactly that value, and the values of similar predictions can, as predictive mean matching does.

    Parameters
    ----------
    predicted, observed : sequence of float, of shape (n_cells,)
        Of held-out cells.

    References
    ----------
    Little, "Missing-data adjustments in large surveys", Journal of Business and Economic
    Statistics 6, 1988: predictive mean matching.
    """

    N_WINDOWS, MIN_CELLS, SHARE = 64, 20, 0.1

    def __init__(self, predicted: Sequence[float], observed: Sequence[float]) -> None:
        order = np.argsort(predicted, kind="stable")
        values, ranked = np.asarray(observed)[order], np.asarray(predicted)[order]
        n = len(order)
        width = min(n, max(self.MIN_CELLS, int(self.SHARE * n)))
        starts = np.unique(np.linspace(0, n - width, self.N_WINDOWS).astype(int))
        self.centers = np.array([ranked[start : start + width].mean() for start in starts])
        self.values = np.stack([np.sort(values[start : start + width]) for start in starts])

    def quantile(self, predicted: np.ndarray, level: np.ndarray) -> np.ndarray:
        """The values below which this share of the distribution lies, of the shape of both."""
        window = np.searchsorted((self.centers[1:] + self.centers[:-1]) / 2, predicted)
        width = self.values.shape[1]
        # In this order, as n + 1 values have n gaps between them, of equal probability.
        place = np.clip(np.ceil(level * (width + 1)) - 1, 0, width - 1).astype(int)
        return self.values[window, place]
