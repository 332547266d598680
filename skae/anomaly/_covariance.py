"""Mahalanobis distance by the covariance of all rows, or of the share that lies closest together."""

from __future__ import annotations

import numpy as np

# Variances along the axes are at least this share of their mean: rows that lie in a plane have an inverse.
LEAST_VARIANCE = 1e-3
# Few steps: from the medians, more of them shrink an ellipsoid around rows that lie on a curve to an arc of it.
MAX_STEPS = 5
# Rows that the concentration steps look at: more do not change a covariance.
MAX_ROWS = 20_000


class Ellipsoid:
    """Mean and covariance, and the distance by them.

    `sklearn.covariance.MinCovDet` starts many times at random, which takes seconds, and has no
    inverse where rows lie in a plane; one start and a floor under the variances serve here.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)
    support_fraction : float, default=1.0
        Share of the rows that are kept in turn with the covariance, from a start at the medians.
    centred : bool, default=True
        Whether the mean is subtracted.
    """

    def __init__(self, X: np.ndarray, support_fraction: float = 1.0, *, centred: bool = True) -> None:
        X = np.asarray(X[:: -(-len(X) // MAX_ROWS)], dtype=np.float64)
        self.centred = centred
        self._fit(X)
        n_kept = max(int(support_fraction * len(X)), min(len(X), X.shape[1] + 2))
        if n_kept == len(X):
            return
        distance = np.square(X - np.median(X, axis=0)).sum(axis=1)
        for _ in range(MAX_STEPS):
            self._fit(X[np.argpartition(distance, n_kept - 1)[:n_kept]])
            before, distance = distance, self(X)
            if np.allclose(before, distance):
                break

    def _fit(self, X: np.ndarray) -> None:
        self.centre = X.mean(axis=0) if self.centred else np.zeros(X.shape[1])
        variance, axes = _principal_axes(X - self.centre)
        least = LEAST_VARIANCE * variance.sum() / X.shape[1]
        self.least = least if least > 0 else 1.0
        self.axes, self.deviation = axes, np.sqrt(np.maximum(variance, self.least))

    @property
    def whitening(self) -> np.ndarray:
        """What brings rows to unit variance along the axes, of shape (n_columns, n_axes)."""
        return self.axes / self.deviation

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Mean squared distance along the axes, of shape (n_rows,)."""
        Z = X - self.centre
        along = Z @ self.axes
        total = np.square(along / self.deviation, dtype=np.float64).sum(axis=1)
        if self.axes.shape[1] < Z.shape[1]:
            # Beyond the axes of rows that are fewer than columns there is the least variance.
            total += np.square(Z - along @ self.axes.T, dtype=np.float64).sum(axis=1) / self.least
        return total / Z.shape[1]


def _principal_axes(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances and axes of centred rows: all of them, or, of fewer rows than columns, those that they span."""
    n, p = Z.shape
    if p <= n:
        return np.linalg.eigh(Z.T @ Z / n)
    variance, left = np.linalg.eigh(Z @ Z.T / n)
    spanned = variance > 1e-12 * max(variance[-1], 0)
    variance, left = variance[spanned], left[:, spanned]
    return variance, Z.T @ left / np.sqrt(n * variance)
