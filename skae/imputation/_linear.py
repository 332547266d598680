"""The guess of a normal distribution, which the autoencoder's is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from skae.model.conditional_gaussian import (
    MAX_DENSE,
    N_FACTORS,
    estimate,
    factors_of,
    guess_by_factors,
    guess_hidden,
)

# Rows that it is estimated from, and rows that are filled at once.
MAX_ROWS, CHUNK_ROWS = 10_000, 8192
# Share of a column's variance that a guess is never taken to be surer than.
LEAST_VARIANCE = 1e-5
# Degrees of freedom of how far a drawn model is from the estimate, at least, and the farthest.
MIN_DEGREES, MAX_WEIGHT = 4, 3.0


class LinearGuess:
    """Conditional mean and deviation of the missing entries of a row, given the others.

    Parameters
    ----------
    mean : Tensor of shape (n_columns,)
    covariance : Tensor of shape (n_columns, n_columns)
    """

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor):
        self.mean, self.covariance = mean, covariance
        self.least = covariance.diagonal() * LEAST_VARIANCE
        self._moments = (covariance,) if len(mean) <= MAX_DENSE else factors_of(covariance, N_FACTORS)

    @classmethod
    def of(cls, autoencoder, Z: np.ndarray, random_state) -> LinearGuess:
        """The one that the autoencoder started from, or, without one, that of rows with NaN in their gaps."""
        if hasattr(autoencoder, "covariance_"):
            return cls(torch.from_numpy(autoencoder.location_), torch.from_numpy(autoencoder.covariance_))
        if len(Z) > MAX_ROWS:
            Z = Z[np.sort(random_state.permutation(len(Z))[:MAX_ROWS])]
        return cls(*estimate(*_rows_and_known(Z)))

    def __call__(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows with the expectation in their gaps, and by how much it may be off; float64."""
        filled, deviation = np.empty(Z.shape), np.empty(Z.shape)
        for start in range(0, len(Z), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            rows, known = _rows_and_known(Z[part])
            guess = guess_hidden if len(self._moments) == 1 else guess_by_factors
            mean, variance = guess(rows, known, self.mean, *self._moments)
            filled[part], deviation[part] = mean.numpy(), torch.maximum(variance, self.least).sqrt().numpy()
        return filled, deviation

    def draw(self, Z: np.ndarray, random_state) -> np.ndarray:
        """A draw of how far the missing entries are from their expectation, in units of their deviation.

        A row is drawn as a whole, and what its known entries tell of the others is taken away.
        """
        shape = (len(Z), len(self.mean))
        if len(self._moments) == 1:
            (covariance,) = self._moments
            values, vectors = np.linalg.eigh(covariance.numpy())
            rows = random_state.standard_normal(shape) @ (vectors * np.sqrt(values.clip(0))).T
        else:
            loadings, own = (moment.numpy() for moment in self._moments)
            rows = random_state.standard_normal((len(Z), loadings.shape[1])) @ loadings.T
            rows += random_state.standard_normal(shape) * np.sqrt(own)
        rows += self.mean.numpy()
        expected, deviation = self(np.where(np.isnan(Z), np.nan, rows))
        return (rows - expected) / deviation


def jackknife_weights(n_members: int, random_state) -> np.ndarray:
    """By how much of each member's difference from their mean an estimate is moved, in a draw of it.

    Members without a Kth of the rows differ by less than estimates do. There are few of them, so
    that how much they differ is itself uncertain: a draw of Student's t, though not of its
    far tails, which would now and then move a model out of all bounds.
    """
    if n_members == 1:
        return np.zeros(1)
    degrees = max(MIN_DEGREES, n_members - 1)
    size = np.sqrt((n_members - 1) / n_members) * np.sqrt(degrees / random_state.chisquare(degrees))
    return np.clip(random_state.standard_normal(n_members) * size, -MAX_WEIGHT, MAX_WEIGHT)


def drawn_guess(guesses: Sequence[LinearGuess], weights: np.ndarray, n_rows: float, random_state) -> LinearGuess:
    """A draw of the normal distribution itself, as far as its estimate is uncertain.

    Parameters
    ----------
    guesses : sequence of LinearGuess
        The members'; their means and the logarithms of their covariances are combined by the
        jackknife's weights. A single one is drawn as its estimate from rows would be.
    weights : ndarray of shape (n_guesses,)
    n_rows : float
        Rows without gaps that tell as much as those of fit.
    random_state : RandomState
    """
    unit = np.sqrt(np.mean([np.diagonal(guess.covariance) for guess in guesses], axis=0))
    means = np.stack([guess.mean.numpy() for guess in guesses])
    scaled = [guess.covariance.numpy() / np.outer(unit, unit) for guess in guesses]
    if len(guesses) == 1:
        p, root = len(unit), _spectral(scaled[0], np.sqrt)
        rows = random_state.standard_normal((p, p))
        # Bartlett's decomposition of a draw of Wishart's distribution.
        degrees = np.maximum(n_rows - np.arange(p), 1.0)
        factor = np.tril(rows, -1) + np.diag(np.sqrt(random_state.chisquare(degrees)))
        covariance = root @ factor @ factor.T @ root / max(n_rows, 1.0)
        mean = means[0] + unit * (root @ random_state.standard_normal(p)) / np.sqrt(max(n_rows, 1.0))
    else:
        logarithms = np.stack([_spectral(each, np.log) for each in scaled])
        covariance = _spectral(_moved(logarithms, weights), np.exp)
        mean = _moved(means, weights)
    return LinearGuess(torch.from_numpy(mean), torch.from_numpy(covariance * np.outer(unit, unit)))


def _moved(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over the members, and their weighted differences from it."""
    mean = values.mean(0)
    return mean + np.tensordot(weights, values - mean, 1)


def _spectral(matrix: np.ndarray, function) -> np.ndarray:
    """A function of a symmetric matrix; what takes logarithms and roots gets no value below a tiny one."""
    values, vectors = np.linalg.eigh(matrix)
    if function is not np.exp:
        values = np.maximum(values, 1e-12 * values.max())
    return (vectors * function(values)) @ vectors.T


def _rows_and_known(Z: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.from_numpy(np.array(Z, dtype=np.float64))
    known = ~torch.isnan(rows)
    return rows.masked_fill_(~known, 0.0), known.double()
