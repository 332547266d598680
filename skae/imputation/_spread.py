"""How the size of residuals changes with the prediction."""

from __future__ import annotations

import numpy as np

# Cells that a spread needs, steps of the fit, and how far predictions count, in their standard deviations.
MIN_CELLS, N_STEPS, MOST_DEVIATIONS = 50, 20, 3.0
# The largest factor, and the share of the residuals' sizes beyond which they count as that quantile.
MOST_FACTOR, CLIPPED_SHARE = 5.0, 0.02
# What a model of two slopes gains by chance, in variances of that.
N_CHANCES = 1.0


class Spread:
    r"""A factor of the residuals' scale, by the prediction of one column.

    With predictions a in standard deviations from their mean, the expected size of a residual is

    .. math:: E|r| = \exp(\beta_0 + \beta_1 a + \beta_2 |a|)

    fitted by the gamma likelihood, and no more of it than chance does not explain.

    Parameters
    ----------
    predicted, residual : ndarray of shape (n_cells,)
        Of held-out cells.
    n_repeats : float
        How often a cell is among them.

    References
    ----------
    Harvey, "Estimating regression models with multiplicative heteroscedasticity", Econometrica 44,
    1976.
    """

    def __init__(self, predicted: np.ndarray, residual: np.ndarray, n_repeats: float) -> None:
        self.slopes = np.zeros(2)
        self.location, self.scale, self.center = 0.0, 1.0, 0.0
        size = np.abs(residual)
        if len(size) < MIN_CELLS * n_repeats or predicted.std() == 0 or np.median(size) == 0:
            return
        self.location, self.scale = float(predicted.mean()), float(predicted.std())
        self.center = float(np.abs(self._standardised(predicted)).mean())
        features = np.column_stack([np.ones(len(size)), self._features(predicted)])
        size = np.minimum(size, np.quantile(size, 1 - CLIPPED_SHARE))
        information = features.T @ features
        beta = np.array([np.log(size.mean()), 0.0, 0.0])
        for _ in range(N_STEPS):
            relative = size * np.exp(-features @ beta)
            step = np.linalg.lstsq(information, features.T @ (relative - 1), rcond=None)[0]
            beta = beta + step.clip(-1, 1)
        relative = size * np.exp(-features @ beta)
        precision = np.linalg.inv(np.linalg.pinv(information)[1:, 1:] + 1e-12 * np.eye(2))
        evidence = beta[1:] @ precision @ beta[1:] / (relative.var() * n_repeats)
        if np.isfinite(evidence):
            self.slopes = beta[1:] * max(0.0, 1 - 2 * N_CHANCES / max(evidence, 1e-300))

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """The factor at these predictions, of shape (n_cells,)."""
        return np.exp(self._features(predicted) @ self.slopes).clip(1 / MOST_FACTOR, MOST_FACTOR)

    def _standardised(self, predicted: np.ndarray) -> np.ndarray:
        return ((predicted - self.location) / self.scale).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)

    def _features(self, predicted: np.ndarray) -> np.ndarray:
        values = self._standardised(predicted)
        return np.column_stack([values, np.abs(values) - self.center])
