"""One member of an imputer: an autoencoder, and the linear guess of the same rows."""

from __future__ import annotations

import numpy as np

from skae.autoencoders._ensemble import fit_weighted
from skae.autoencoders._estimator import seeded
from skae.autoencoders._known_gaps import empty_columns_known
from skae.autoencoders._masked import MaskedAE
from skae.imputation._linear import LinearGuess
from skae.imputation._scale import ColumnScale
from skae.model.named_likelihoods import as_likelihood
from skae.training.progress import Task

# Rows that tell how often an autoencoder is asked.
TRIED_ROWS = 1000
# An autoencoder, which computes in single precision, sees no cell farther out than this.
MAX_DEVIATIONS = 1e6


class Member:
    """A fitted autoencoder and a normal distribution, which both fill rows.

    Parameters
    ----------
    autoencoder : estimator
        Is cloned and fitted: to standardised rows, or, where its likelihood scores values as they
        are (counts, bits), to rows in the table's units.
    Z : ndarray of shape (n_rows, n_columns)
        Standardised rows with NaN in their gaps.
    columns : ColumnScale
        The columns' units.
    max_iter, tol : int, float
        How often an autoencoder that is not told what is missing gets its own answer back, and the
        change, in units of the columns, at which that ends.
    random_state : RandomState
    task : Task
        The member's among those of the imputer's fit.
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows, of mean one.
    """

    def __init__(
        self,
        autoencoder,
        Z: np.ndarray,
        columns: ColumnScale,
        *,
        max_iter: int,
        tol: float,
        random_state,
        task: Task,
        weight: np.ndarray | None = None,
    ) -> None:
        scores_as_they_are = not as_likelihood(autoencoder._likelihood_part()).continuous
        self.columns = columns if scores_as_they_are else None
        # A column may have no value in one member's rows: what is rebuilt of it is the mean.
        with empty_columns_known():
            self.autoencoder = seeded(autoencoder, random_state)
            with task.fit_of(self.autoencoder):
                fit_weighted(self.autoencoder, self._to_autoencoder(Z), weight)
        # The normal distribution that an autoencoder started from is in the units that it saw.
        started = self.autoencoder if self.columns is None else None
        self.linear = LinearGuess.of(started, Z, random_state, weight)
        self.max_iter, self.tol = max_iter, tol
        self.n_iter = self._settled(Z[:TRIED_ROWS], self.linear(Z[:TRIED_ROWS])[0])[1]

    def fill(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Z filled by the linear guess, the deviation of that, and Z filled by the autoencoder."""
        guess, deviation = self.linear(Z)
        return guess, deviation, self._settled(Z, guess)[0]

    def draw(self, Z: np.ndarray, n_draws: int, random_state) -> np.ndarray:
        """Draws of the autoencoder's own, of shape (n_draws, n_rows, n_columns)."""
        if len(Z) == 0:
            return np.empty((n_draws, *Z.shape))
        drawn = self.autoencoder.sample_completions(self._to_autoencoder(Z), n_draws, random_state=random_state)
        return np.stack([self._filled(Z, each) for each in drawn])

    def _to_autoencoder(self, Z: np.ndarray) -> np.ndarray:
        """Rows as the autoencoder sees them."""
        if self.columns is None:
            return Z.clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        return self.columns.restore(Z).clip(self.columns.low, self.columns.high)

    def _filled(self, Z: np.ndarray, made: np.ndarray) -> np.ndarray:
        """Z with its gaps filled by what the autoencoder has there."""
        made = made if self.columns is None else self.columns.standardise(made)
        return np.where(np.isnan(Z), made, Z)

    def _settled(self, Z: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, int]:
        """Z filled by the autoencoder, and how often it was asked."""
        autoencoder, missing = self.autoencoder, np.isnan(Z)
        if hasattr(autoencoder, "complete"):
            return self._filled(Z, autoencoder.complete(self._to_autoencoder(Z), random_state=0)), 1
        if isinstance(autoencoder, MaskedAE) or getattr(autoencoder, "conditioning", None) == "mask":
            return self._filled(Z, autoencoder.reconstruct(self._to_autoencoder(Z))), 1
        # A row whose answers move away, each farther than the last, keeps the one before.
        filled, moving, last = guess.copy(), np.arange(len(Z)), np.full(len(Z), np.inf)
        n_iter = 0
        while n_iter < self.max_iter and len(moving):
            made = autoencoder.reconstruct(self._to_autoencoder(filled[moving]))
            made = self._filled(np.where(missing[moving], np.nan, Z[moving]), made)
            change = np.linalg.norm(made - filled[moving], axis=1)
            nearer = change < last[moving]
            filled[moving[nearer]], last[moving] = made[nearer], change
            moving, n_iter = moving[nearer & (change >= self.tol)], n_iter + 1
        return filled, n_iter
