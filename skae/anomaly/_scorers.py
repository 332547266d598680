"""Scorers: what is anomalous about a row, in the eyes of a fitted autoencoder or of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions

from skae.anomaly._columns import GEOMETRIES, ByEntry, entry_weight
from skae.anomaly._covariance import Ellipsoid
from skae.anomaly._neighbors import NearestOfSubsamples
from skae.base.parameters import Part, at_least, list_of, positive, share

# Parts of a row that are hidden in turn, where an autoencoder returns what is observed as it is.
N_TURNS = 8
# Where distances are taken, and the methods that lead there.
SPACES: dict[str, tuple[str, ...]] = {"input": (), "code": ("transform",), "output": ("reconstruct",)}


def receives_noise_level(autoencoder) -> bool:
    """Whether an autoencoder, of skae or not, is a denoiser that is conditioned on the level of the noise."""
    return getattr(autoencoder, "conditioning", None) == "noise_level"


def rebuilt(autoencoder, X: np.ndarray, entry: np.ndarray | None = None, **options) -> np.ndarray:
    """Rows as the autoencoder rebuilds them.

    One that fills gaps and returns what is observed as it is, as `MaskedAE` does, gets an eighth of
    the columns as gaps at a time, and fills them from the others.

    Parameters
    ----------
    autoencoder : estimator
        Fitted.
    X : ndarray of shape (n_rows, n_columns)
        Rows; entries may be NaN.
    entry : ndarray of int, of shape (n_columns,), or None
        Which column of the table each column belongs to.
    **options
        Of `reconstruct`.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)
    """
    if getattr(autoencoder, "_rebuilds_observed", True):
        return autoencoder.reconstruct(X, **options)
    made, entry = np.empty_like(X), np.arange(X.shape[1]) if entry is None else entry
    for turn in range(min(N_TURNS, int(entry[-1]) + 1)):
        hidden = entry % N_TURNS == turn
        made[:, hidden] = autoencoder.reconstruct(np.where(hidden, X.dtype.type(np.nan), X), **options)[:, hidden]
    return made


class Scorer(Part):
    """Base of the scorers: hyperparameters only.

    A scorer of your own has `score`, and `fit` where it learns something; see CONTRIBUTING.

    Attributes
    ----------
    logarithmic : bool
        Whether the scores are logarithms, and may be negative.
    needs : sequence of str
        The methods of the autoencoder that it calls.
    entry : ndarray of int, of shape (n_columns,), or None
        Which column of the table each column of the rows belongs to: the detector sets it where a
        category has several.
    """

    logarithmic = False
    entry: np.ndarray | None = None
    needs: Sequence[str] = ()

    def check(self, autoencoder) -> None:
        """Raise ValueError for an autoencoder that it cannot read."""
        self._require(autoencoder, self.needs)

    def _require(self, autoencoder, methods: Sequence[str]) -> None:
        missing = [method for method in methods if not hasattr(autoencoder, method)]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs an autoencoder with {' and '.join(missing)}, which "
                f"{type(autoencoder).__name__} does not have; choose another scorer."
            )

    def fit(self, autoencoder, X: np.ndarray, random_state: np.random.RandomState) -> Any:
        """Learn what the scores need.

        Parameters
        ----------
        autoencoder : estimator
            Fitted; only its public methods may be called.
        X : ndarray of shape (n_rows, n_features)
            The rows that it was fitted on, scaled; entries may be NaN.
        random_state : RandomState
            The source of what is random.

        Returns
        -------
        object
            What was learnt, for `score`; it must be possible to pickle it.
        """
        return None

    def score(self, autoencoder, learnt: Any, X: np.ndarray) -> np.ndarray:
        """Score rows.

        Parameters
        ----------
        autoencoder : estimator
            Fitted.
        learnt : object
            What `fit` returned.
        X : ndarray of shape (n_rows, n_features)
            Scaled rows; entries may be NaN.

        Returns
        -------
        ndarray of shape (n_rows,)
            Higher is more anomalous.
        """
        raise NotImplementedError

    def mean(self, values: np.ndarray, X: np.ndarray) -> np.ndarray:
        """The mean of each row over the entries that it has.

        Parameters
        ----------
        values : ndarray of shape (n_rows, n_features)
            An error of each entry, say.
        X : ndarray of shape (n_rows, n_features)
            The rows; entries that are NaN do not count, and the columns of a category count as one.

        Returns
        -------
        ndarray of shape (n_rows,)
            Zero where a row has nothing.
        """
        observed = ~np.isnan(X)
        count = observed.sum(axis=1) if self.entry is None else observed @ entry_weight(self.entry)
        return np.where(observed, values, 0).sum(axis=1) / np.maximum(count, 1)


class ReconstructionError(Scorer):
    r"""Error of the reconstruction, a mean over the columns that a row has.

    Parameters
    ----------
    loss : {"squared", "absolute", "relative", "scaled", "mahalanobis"}, default="squared"
        "squared" and "absolute" errors; "relative": the squared error as a share of the row's own
        squared length, for images and counts, where a row with little in it has little to rebuild;
        "scaled": squared errors in units of each column's own
        mean squared error on the training rows, so that columns that cannot be rebuilt do not rule;
        "mahalanobis": (x − r)ᵀ S⁻¹ (x − r) / p with the covariance S of the training rows'
        residuals, so that residuals that always come together are counted once.

    References
    ----------
    Hawkins, He, Williams and Baxter, "Outlier detection using replicator neural networks", DaWaK 2002.

    Examples
    --------
    >>> from skae import AutoencoderOutlierDetector, AutoencoderTransformer
    >>> from skae.anomaly import ReconstructionError
    >>> AutoencoderOutlierDetector(AutoencoderTransformer(3), scorer=ReconstructionError("absolute"))
    AutoencoderOutlierDetector(autoencoder=AutoencoderTransformer(n_components=3),
                               scorer=ReconstructionError(loss='absolute'))
    """

    needs = ("reconstruct",)

    _parameter_constraints = {"loss": [StrOptions({"squared", "absolute", "relative", "scaled", "mahalanobis"})]}

    def __init__(self, loss: str = "squared") -> None:
        self.loss = loss

    def fit(self, autoencoder, X, random_state):
        """Learn the size of rows or residuals."""
        if self.loss == "relative":
            # Keeps empty rows from a division by zero.
            return 1e-3 * self.mean(np.square(X), X).mean() + np.finfo(np.float32).tiny
        if self.loss in ("squared", "absolute"):
            return None
        residuals = np.nan_to_num(X - rebuilt(autoencoder, X, self.entry))
        if self.loss == "mahalanobis":
            return Ellipsoid(residuals, centred=False)
        error = np.square(residuals).mean(axis=0)
        return np.maximum(error, 1e-3 * error.mean()) if error.any() else np.ones_like(error)

    def score(self, autoencoder, learnt, X):
        """Score rows."""
        # A small difference of large numbers: in float32 it would depend on the other rows of the call.
        X = np.asarray(X, dtype=np.float64)
        residuals = X - rebuilt(autoencoder, X, self.entry)
        if self.loss == "mahalanobis":
            return learnt(np.nan_to_num(residuals))
        if self.loss == "absolute":
            return self.mean(np.abs(residuals), X)
        error = np.square(residuals)
        if self.loss == "relative":
            return self.mean(error, X) / (self.mean(np.square(X), X) + learnt)
        return self.mean(error / learnt if self.loss == "scaled" else error, X)


class NegativeLogLikelihood(Scorer):
    """−score_samples of the autoencoder: what it takes for unlikely, or a critic for less real.

    It is −log p(x | z) for most classes, the importance-weighted bound for `VAE`, the free energy
    for `RBM`, and the output of the critic for `GAN`.

    Parameters
    ----------
    n_samples : int or None, default=None
        Importance samples, for `VAE`; None is the method's own number.
    """

    needs = ("score_samples",)
    logarithmic = True

    _parameter_constraints = {"n_samples": [at_least(1), None]}

    def __init__(self, n_samples: int | None = None) -> None:
        self.n_samples = n_samples

    def check(self, autoencoder) -> None:
        """Raise ValueError for samples of an autoencoder that draws none, or one without scores."""
        super().check(autoencoder)
        if self.n_samples is not None and "n_samples" not in signature(autoencoder.score_samples).parameters:
            raise ValueError(
                f"NegativeLogLikelihood(n_samples={self.n_samples!r}): {type(autoencoder).__name__} draws no samples; "
                "use n_samples=None."
            )

    def score(self, autoencoder, learnt, X):
        """Score rows."""
        options = {} if self.n_samples is None else {"n_samples": self.n_samples}
        return -autoencoder.score_samples(X, **options)


class DenoisingError(Scorer):
    r"""What a denoiser changes in a row, at several levels of noise: the mean of log ‖x − r(x, σ)‖².

    With small σ it is the length of ∇ log p(x), the pull towards the data; with large σ the
    distance from what is usual. `DenoisingAE(conditioning="noise_level")` is conditioned on σ; any other
    autoencoder has one level, its own.

    Parameters
    ----------
    scales : tuple of float, default=(0.08, 0.7)
        The levels σ that the denoiser is conditioned on, in the units of its corruption.
    """

    needs = ("reconstruct",)
    logarithmic = True

    _parameter_constraints = {"scales": [list_of(positive())]}

    def __init__(self, scales: Any = (0.08, 0.7)) -> None:
        self.scales = scales

    def score(self, autoencoder, learnt, X):
        """Score rows."""
        # Small differences of large numbers: in float32 they would depend on the other rows of the call.
        X = np.asarray(X, dtype=np.float64)
        options = [{"scale": scale} for scale in self.scales] if receives_noise_level(autoencoder) else [{}]
        total = np.zeros(len(X))
        for option in options:
            error = self.mean(np.square(X - rebuilt(autoencoder, X, self.entry, **option)), X)
            # The floor is what float32 leaves of a perfect reconstruction.
            total += np.log(error + 1e-12)
        return total / len(options)


class CodeDensity(Scorer):
    """Mahalanobis distance of the code from the training rows' codes: −log of a normal density.

    Parameters
    ----------
    support_fraction : float, default=1.0
        Share of the codes that the covariance is computed of, as in `RobustDistance`.
    """

    needs = ("transform",)

    _parameter_constraints = {"support_fraction": [share("right")]}

    def __init__(self, support_fraction: float = 1.0) -> None:
        self.support_fraction = support_fraction

    def fit(self, autoencoder, X, random_state):
        """Learn the codes' covariance."""
        return Ellipsoid(autoencoder.transform(X), self.support_fraction)

    def score(self, autoencoder, learnt, X):
        """Score rows."""
        return learnt(autoencoder.transform(X))


class RobustDistance(Scorer):
    """Mahalanobis distance in the input space, by the covariance of the rows that are nearest by it.

    Rows are kept and the covariance computed in turn, as the concentration steps of the minimum
    covariance determinant do, from a start at the medians. It is what a linear autoencoder sees that
    is fitted to most of the rows, reconstruction error and code together.

    Parameters
    ----------
    support_fraction : float, default=0.75
        Share of the rows that are kept. `sklearn.covariance.MinCovDet` has the same parameter.

    References
    ----------
    Rousseeuw and Van Driessen, "A fast algorithm for the minimum covariance determinant estimator",
    Technometrics 41, 1999.
    """

    _parameter_constraints = {"support_fraction": [share("right")]}

    def __init__(self, support_fraction: float = 0.75) -> None:
        self.support_fraction = support_fraction

    def fit(self, autoencoder, X, random_state):
        """Learn the covariance."""
        return Ellipsoid(np.nan_to_num(X), self.support_fraction)

    def score(self, autoencoder, learnt, X):
        """Score rows."""
        return learnt(np.nan_to_num(X))


class NeighborDistance(Scorer):
    r"""Distance to the nearest of `max_samples` training rows, a mean of logarithms over subsamples.

    Small subsamples see whether a row is far from everything, large ones whether it lies in a gap;
    and however many rows there are, a row is compared with at most `max_references`. A training
    row is not its own neighbour: the scores of training rows are those of new ones.

    Parameters
    ----------
    space : {"input", "code", "output"}, default="input"
        Whether rows, their codes or their reconstructions are compared.
    max_samples : int, default=512
        Rows in a subsample. With clean training rows large ones are better; with polluted ones,
        anomalies have neighbours of their kind in large subsamples and seldom in small ones.
    max_references : int, default=2048
        Rows in all subsamples together.
    columns : {"standard", "robust", "rank", "none"}, default="none"
        Scaling of the columns before distances are taken: "standard" to variance 1; "robust" by
        median and quartiles, with asinh; "rank" by their order alone, as normal scores; "none"
        takes what the detector made of them.

    References
    ----------
    Sugiyama and Borgwardt, "Rapid distance-based outlier detection via sampling", NIPS 2013.
    Bandaragoda et al., "Isolation-based anomaly detection using nearest-neighbor ensembles",
    Computational Intelligence 34, 2018.
    """

    logarithmic = True

    _parameter_constraints = {
        "space": [StrOptions(set(SPACES))],
        "max_samples": [at_least(1)],
        "max_references": [at_least(1)],
        "columns": [StrOptions(set(GEOMETRIES))],
    }

    def __init__(
        self, space: str = "input", *, max_samples: int = 512, max_references: int = 2048, columns: str = "none"
    ) -> None:
        self.space = space
        self.max_samples = max_samples
        self.max_references = max_references
        self.columns = columns

    def check(self, autoencoder) -> None:
        """Raise ValueError for an autoencoder that does not map to the space."""
        self._require(autoencoder, SPACES[self.space])

    def fit(self, autoencoder, X, random_state):
        """Draw the subsamples."""
        placed = self._placed(autoencoder, X)
        columns: Any = GEOMETRIES[self.columns](placed)
        weight = None
        if self.entry is not None and self.space != "code":
            columns, weight = ByEntry(columns, placed, self.entry), entry_weight(self.entry)
        sizes = (self.max_samples, self.max_references)
        return columns, NearestOfSubsamples(columns(placed), *sizes, random_state, weight)

    def score(self, autoencoder, learnt, X):
        """Score rows."""
        columns, nearest = learnt
        return nearest(columns(self._placed(autoencoder, X)))

    def _placed(self, autoencoder, X):
        """The rows in the space where distances are taken."""
        if self.space == "input":
            return X
        placed = autoencoder.transform(X) if self.space == "code" else rebuilt(autoencoder, X, self.entry)
        # Bits and numbers of codes are integers.
        return placed if placed.dtype.kind == "f" else placed.astype(np.float64)
