"""The guess of a normal distribution, which the autoencoder's is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from skae.autoencoders._masked import MaskedAE
from skae.model.conditional_gaussian import Normal, estimate_normal, flops_of_guess, guess, n_factors_of
from skae.model.factor_analysis import Factors
from skae.model.threads import threads

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
    normal : Normal or Factors
    """

    def __init__(self, normal: Normal | Factors) -> None:
        self.normal, self.least = normal, normal.variance * LEAST_VARIANCE

    @classmethod
    def of(cls, autoencoder, Z: np.ndarray, random_state, weight: np.ndarray | None = None) -> LinearGuess:
        """The one that the autoencoder started from, or one of rows with NaN in their gaps, by their weights."""
        if isinstance(autoencoder, MaskedAE):
            return cls(_compact(autoencoder._normal()))
        if len(Z) > MAX_ROWS:
            some = np.sort(random_state.permutation(len(Z))[:MAX_ROWS])
            Z, weight = Z[some], None if weight is None else weight[some]
        counted = None if weight is None else torch.from_numpy(weight)
        return cls(_compact(estimate_normal(*_rows_and_known(Z), counted, n_factors_of(*Z.shape))))

    def __call__(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows with the expectation in their gaps, and by how much it may be off; float64."""
        filled, deviation = np.empty(Z.shape), np.empty(Z.shape)
        n_factors = self.normal.loadings.shape[1] if isinstance(self.normal, Factors) else 0
        with threads.for_work(flops_of_guess(min(len(Z), CHUNK_ROWS), Z.shape[1], n_factors)):
            for start in range(0, len(Z), CHUNK_ROWS):
                part = slice(start, start + CHUNK_ROWS)
                rows, known = _rows_and_known(Z[part])
                mean, variance = guess(rows, known, self.normal)
                filled[part], deviation[part] = mean.numpy(), torch.maximum(variance, self.least).sqrt().numpy()
        return filled, deviation

    def draw(self, Z: np.ndarray, random_state) -> np.ndarray:
        """A draw of how far the missing entries are from their expectation, in units of their deviation.

        A row is drawn as a whole, and what its known entries tell of the others is taken away.
        """
        normal, shape = self.normal, (len(Z), len(self.normal.mean))
        if isinstance(normal, Normal):
            values, vectors = np.linalg.eigh(normal.covariance.numpy())
            rows = random_state.standard_normal(shape) @ (vectors * np.sqrt(values.clip(0))).T
        else:
            loadings = normal.loadings.numpy()
            rows = random_state.standard_normal((len(Z), loadings.shape[1])) @ loadings.T
            rows += random_state.standard_normal(shape) * np.sqrt(normal.uniqueness.numpy())
        rows += normal.mean.numpy()
        expected, deviation = self(np.where(np.isnan(Z), np.nan, rows))
        return (rows - expected) / deviation


def _compact(normal: Normal | Factors) -> Normal | Factors:
    return normal if isinstance(normal, Normal) else normal.compact()


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
    unit = torch.stack([guess.normal.variance for guess in guesses]).mean(0).sqrt()
    scaled = [guess.normal.scaled(1 / unit) for guess in guesses]
    normals = [normal for normal in scaled if isinstance(normal, Normal)]
    factors = [normal for normal in scaled if isinstance(normal, Factors)]
    drawn: Normal | Factors
    if len(guesses) == 1:
        options = (max(n_rows, 1.0), random_state)
        drawn = _drawn_normal(normals[0], *options) if normals else _drawn_factors(factors[0], *options)
    else:
        drawn = _moved_normal(normals, weights) if normals else _moved_factors(factors, weights)
    return LinearGuess(drawn.scaled(unit))


def _drawn_normal(normal: Normal, n_rows: float, random_state) -> Normal:
    """By Bartlett's decomposition of a draw of Wishart's distribution."""
    p, root = len(normal.mean), _spectral(normal.covariance.numpy(), np.sqrt)
    rows = random_state.standard_normal((p, p))
    degrees = np.maximum(n_rows - np.arange(p), 1.0)
    factor = np.tril(rows, -1) + np.diag(np.sqrt(random_state.chisquare(degrees)))
    covariance = root @ factor @ factor.T @ root / n_rows
    mean = normal.mean.numpy() + (root @ random_state.standard_normal(p)) / np.sqrt(n_rows)
    return Normal(torch.from_numpy(mean), torch.from_numpy(covariance))


def _drawn_factors(normal: Factors, n_rows: float, random_state) -> Factors:
    """As regressions on known factors would be drawn, and the factors' covariance by Wishart's distribution."""
    loadings, own = normal.loadings.numpy(), normal.uniqueness.numpy()
    p, k = loadings.shape
    drawn = _drawn_normal(Normal(torch.zeros(k).double(), torch.eye(k).double()), n_rows, random_state)
    noise = np.sqrt(own / n_rows)
    mean = normal.mean.numpy() + loadings @ drawn.mean.numpy() + noise * random_state.standard_normal(p)
    used = loadings.any(0)
    loadings = loadings + noise[:, None] * random_state.standard_normal((p, k)) * used
    loadings = loadings @ _spectral(drawn.covariance.numpy(), np.sqrt)
    own = own * random_state.chisquare(n_rows, p) / n_rows
    return Factors(*(torch.from_numpy(each) for each in (mean, loadings, own)))


def _moved_normal(normals: Sequence[Normal], weights: np.ndarray) -> Normal:
    """Means and logarithms of covariances, moved by the jackknife's weights."""
    logarithms = np.stack([_spectral(normal.covariance.numpy(), np.log) for normal in normals])
    covariance = _spectral(_moved(logarithms, weights), np.exp)
    mean = _moved(np.stack([normal.mean.numpy() for normal in normals]), weights)
    return Normal(torch.from_numpy(mean), torch.from_numpy(covariance))


def _moved_factors(normals: Sequence[Factors], weights: np.ndarray) -> Factors:
    """The same for factors: in units of the uniqueness, logarithms differ within the span of all loadings alone."""
    mean, own = (
        _moved(np.stack(values), weights)
        for values in ([n.mean.numpy() for n in normals], [n.uniqueness.log().numpy() for n in normals])
    )
    each = [(n.loadings / n.uniqueness.sqrt().unsqueeze(1)).numpy() for n in normals]
    basis = np.linalg.svd(np.hstack(each), full_matrices=False)[0]
    inside = [basis.T @ loadings for loadings in each]
    logarithms = [_spectral(np.eye(len(a)) + a @ a.T, np.log) for a in inside]
    values, vectors = np.linalg.eigh(_moved(np.stack(logarithms), weights))
    root = vectors * np.sqrt(np.expm1(values.clip(0)))
    kept = np.argsort(values)[-max(n.loadings.shape[1] for n in normals) :]
    loadings = np.exp(own / 2)[:, None] * (basis @ root[:, kept])
    return Factors(*(torch.from_numpy(array) for array in (mean, loadings, np.exp(own))))


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
