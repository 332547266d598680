"""The columns' units: numbers are standardised for what fills them, and brought back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skae.imputation._shapes import Shape

# Standard deviations, after its map, by which a filled value may lie beyond the observed ones.
MARGIN = 0.5


class ColumnScale:
    """Standardises the numbers of a matrix, some of them after a monotone map; other columns stay as they are.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_columns)
        Rows of fit, NaN where a value is missing.
    is_number : ndarray of bool, of shape (n_columns,)
    shapes : mapping of int to Shape
        Maps of columns that are skewed or have heavy tails.
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows.

    Attributes
    ----------
    location, scale : ndarray of shape (n_columns,)
        Means and deviations of the numbers, after their maps.
    deviation : ndarray of shape (n_columns,)
        Standard deviations of the numbers in the table's units; 1 for others.
    low, high : ndarray of shape (n_columns,)
        The range of the observed values, in the table's units.
    """

    def __init__(
        self,
        Z: np.ndarray,
        is_number: np.ndarray,
        shapes: Mapping[int, Shape] | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        self.shapes = dict(shapes or {})
        self.location, self.scale = _moments(self._mapped(Z), is_number, weight)
        self.deviation = _moments(Z, is_number, weight)[1] if self.shapes else self.scale
        self.low, self.high = np.nanmin(Z, axis=0), np.nanmax(Z, axis=0)

    def standardise(self, Z: np.ndarray) -> np.ndarray:
        """Rows in standard deviations from the columns' means."""
        return (self._mapped(Z) - self.location) / self.scale

    def restore(self, Z: np.ndarray) -> np.ndarray:
        """Standardised rows in the table's units."""
        made = Z * self.scale + self.location
        for column, shape in self.shapes.items():
            made[..., column] = shape.backward(made[..., column])
        return made

    def restore_cells(self, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Standardised cells of these columns, of shape (..., n_cells), in the table's units, within limits."""
        low, high = self.limits()[:, columns]
        made = values.clip(low, high) * self.scale[columns] + self.location[columns]
        for column, shape in self.shapes.items():
            chosen = columns == column
            made[..., chosen] = shape.backward(made[..., chosen])
        return made

    def limits(self) -> np.ndarray:
        """Least and largest standardised value that a gap may be filled with, of shape (2, n_columns).

        They bound the columns that have a map, whose inverse grows fast; others have none.
        """
        made = np.tile([[-np.inf], [np.inf]], (1, len(self.scale)))
        columns = list(self.shapes)
        made[:, columns] = self.standardise(np.stack([self.low, self.high]))[:, columns] + [[-MARGIN], [MARGIN]]
        return made

    def unit(self, Z: np.ndarray) -> np.ndarray:
        """How much a row's values grow, in the table's units, with its standardised ones."""
        made = np.broadcast_to(self.scale, Z.shape).copy()
        for column, shape in self.shapes.items():
            made[:, column] /= shape.slope(Z[:, column])
        return made

    def _mapped(self, Z: np.ndarray) -> np.ndarray:
        if not self.shapes:
            return Z
        made = np.array(Z, dtype=np.float64)
        for column, shape in self.shapes.items():
            made[..., column] = shape.forward(made[..., column])
        return made


def _moments(Z: np.ndarray, is_number: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means and deviations of the numbers; 0 and 1 for other columns."""
    location, scale = np.zeros(Z.shape[1]), np.ones(Z.shape[1])
    for index in np.flatnonzero(is_number):
        known = ~np.isnan(Z[:, index])
        column, counted = Z[known, index], None if weight is None else weight[known]
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = mean_and_deviation(column, counted)
        if not np.isfinite(deviation):
            # Squares of values beyond the root of the largest float.
            most = np.abs(column).max()
            mean, deviation = (most * each for each in mean_and_deviation(column / most, counted))
        location[index], scale[index] = mean, deviation if deviation > 0 else 1.0
    return location, scale


def mean_and_deviation(values: np.ndarray, weight: np.ndarray | None) -> tuple[float, float]:
    """Of the values of a column, all of them known."""
    if weight is None:
        return values.mean(), values.std()
    mean = np.average(values, weights=weight)
    return mean, np.sqrt(np.average((values - mean) ** 2, weights=weight))
