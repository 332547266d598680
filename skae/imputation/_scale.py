"""The columns' units: numbers are standardised for what fills them, and brought back."""

from __future__ import annotations

import numpy as np


class ColumnScale:
    """Standardises the numbers of a matrix; other columns stay as they are.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_columns)
        Rows of fit, NaN where a value is missing.
    is_number : ndarray of bool, of shape (n_columns,)

    Attributes
    ----------
    location, scale : ndarray of shape (n_columns,)
    low, high : ndarray of shape (n_columns,)
        The range of the observed values, in the table's units.
    """

    def __init__(self, Z: np.ndarray, is_number: np.ndarray):
        self.location, self.scale = _moments(Z, is_number)
        self.low, self.high = np.nanmin(Z, axis=0), np.nanmax(Z, axis=0)

    def standardise(self, Z: np.ndarray) -> np.ndarray:
        """Rows in standard deviations from the columns' means."""
        return (Z - self.location) / self.scale

    def restore(self, Z: np.ndarray) -> np.ndarray:
        """Standardised rows in the table's units."""
        return Z * self.scale + self.location


def _moments(Z: np.ndarray, is_number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of the numbers; 0 and 1 for other columns."""
    location, scale = np.zeros(Z.shape[1]), np.ones(Z.shape[1])
    for index in np.flatnonzero(is_number):
        column = Z[:, index]
        column = column[~np.isnan(column)]
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = column.mean(), column.std()
        if not np.isfinite(deviation):
            # Squares of values beyond the root of the largest float.
            most = np.abs(column).max()
            mean, deviation = (column / most).mean() * most, (column / most).std() * most
        location[index], scale[index] = mean, deviation if deviation > 0 else 1.0
    return location, scale
