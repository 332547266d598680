"""One member of an imputer: an autoencoder, and the linear guess of the same rows."""

from __future__ import annotations

import numpy as np

from skae.autoencoders._estimator import seeded
from skae.autoencoders._masked import MaskedAE
from skae.imputation._linear import LinearGuess


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
        self.autoencoder = seeded(autoencoder, random_state).fit(Z)
        self.linear = LinearGuess.of(self.autoencoder, Z, random_state)
        self.max_iter, self.tol = max_iter, tol

    def fill(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Z filled by the linear guess, the deviation of that, and Z filled by the autoencoder."""
        guess, deviation = self.linear(Z)
        return guess, deviation, self._rebuilt(Z, guess)

    def _rebuilt(self, Z: np.ndarray, guess: np.ndarray) -> np.ndarray:
        autoencoder, missing = self.autoencoder, np.isnan(Z)
        if hasattr(autoencoder, "complete"):
            return autoencoder.complete(Z, random_state=0)
        if isinstance(autoencoder, MaskedAE) or getattr(autoencoder, "conditioning", None) == "mask":
            return np.where(missing, autoencoder.reconstruct(Z), Z)
        filled = guess
        for _ in range(self.max_iter):
            made = np.where(missing, autoencoder.reconstruct(filled), Z)
            change = np.abs(made - filled).max(initial=0.0)
            filled = made
            if change < self.tol:
                break
        return filled
