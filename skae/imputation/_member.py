"""One member of an imputer: an autoencoder, and the linear guess of the same rows."""

from __future__ import annotations

import warnings

import numpy as np

from skae.autoencoders._estimator import seeded
from skae.autoencoders._masked import MaskedAE
from skae.imputation._linear import LinearGuess

# Rows that tell how often an autoencoder is asked.
TRIED_ROWS = 1000


class Member:
    """A fitted autoencoder and a normal distribution, which both fill rows.

    Parameters
    ----------
    autoencoder : estimator
        Is cloned and fitted.
    Z : ndarray of shape (n_rows, n_columns)
        Rows with NaN in their gaps.
    max_iter, tol : int, float
        How often an autoencoder that is not told what is missing gets its own answer back, and the
        change, in units of the columns, at which that ends.
    random_state : RandomState
    """

    def __init__(self, autoencoder, Z: np.ndarray, *, max_iter: int, tol: float, random_state):
        with warnings.catch_warnings():
            # A column may have no value in one member's rows: what is rebuilt of it is the mean.
            warnings.filterwarnings("ignore", message=".*no observed value", category=UserWarning)
            self.autoencoder = seeded(autoencoder, random_state).fit(Z)
        self.linear = LinearGuess.of(self.autoencoder, Z, random_state)
        self.max_iter, self.tol = max_iter, tol
        self.n_iter = self._settled(Z[:TRIED_ROWS], self.linear(Z[:TRIED_ROWS])[0])[1]

    def fill(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Z filled by the linear guess, the deviation of that, and Z filled by the autoencoder."""
        guess, deviation = self.linear(Z)
        return guess, deviation, self._settled(Z, guess)[0]

    def _settled(self, Z: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, int]:
        """Z filled by the autoencoder, and how often it was asked."""
        autoencoder, missing = self.autoencoder, np.isnan(Z)
        if hasattr(autoencoder, "complete"):
            return autoencoder.complete(Z, random_state=0), 1
        if isinstance(autoencoder, MaskedAE) or getattr(autoencoder, "conditioning", None) == "mask":
            return np.where(missing, autoencoder.reconstruct(Z), Z), 1
        # A row whose answers move away, each farther than the last, keeps the one before.
        filled, moving, last = guess.copy(), np.arange(len(Z)), np.full(len(Z), np.inf)
        n_iter = 0
        while n_iter < self.max_iter and len(moving):
            made = np.where(missing[moving], autoencoder.reconstruct(filled[moving]), Z[moving])
            change = np.linalg.norm(made - filled[moving], axis=1)
            nearer = change < last[moving]
            filled[moving[nearer]], last[moving] = made[nearer], change
            moving, n_iter = moving[nearer & (change >= self.tol)], n_iter + 1
        return filled, n_iter
