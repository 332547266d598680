"""A scorer: the worst column of the reconstruction."""

import numpy as np

from skae.anomaly import Scorer


class WorstColumn(Scorer):
    """Largest error of a column, |xⱼ − rⱼ| in units of the column's mean error on the training rows.

    One sensor that fails is not averaged away by the many that work.

    Parameters
    ----------
    least : float, default=0.01
        Units are at least this share of the largest one.
    """

    needs = ("reconstruct",)

    def __init__(self, least=0.01):
        self.least = least

    def fit(self, autoencoder, X, random_state):
        """Learn the mean error of each column."""
        mean = self._error(autoencoder, X).mean(axis=0)
        return np.maximum(mean, self.least * mean.max() + np.finfo(mean.dtype).tiny)

    def score(self, autoencoder, learnt, X):
        """Score scaled rows of shape (n_rows, n_features); a gap is no error."""
        return (self._error(autoencoder, X) / learnt).max(axis=1)

    def _error(self, autoencoder, X):
        return np.nan_to_num(np.abs(X - autoencoder.reconstruct(X)))
