"""MaskedAE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from skae.autoencoders._base import BaseAutoencoder
from skae.base.parameters import at_least, range_of, share
from skae.model.conditional_gaussian import Normal, estimate_normal, n_factors_of
from skae.model.corruptions import Masking
from skae.model.factor_analysis import Factors
from skae.model.masked import MaskedModel
from skae.model.pca_start import silence
from skae.training.optimizers import OPTIMIZERS, AdamW, Optimizer

# Rows that the start is estimated from: more would hardly move it.
START_ROWS = 10_000
# Parts of a row that are hidden in turn to score it.
N_TURNS = 8


def _codes_are_rows(estimator) -> bool:
    raise AttributeError(
        f"The code of {type(estimator).__name__} holds what the network adds to a guess that is made of the row, so a "
        "code alone is no row. Use reconstruct, or another autoencoder to decode codes."
    )


class MaskedAE(BaseAutoencoder):
    r"""Masked autoencoder: fills in entries that are missing, from those that are there.

    It starts at the best linear guess: the conditional mean under a normal distribution of the
    rows, estimated from rows with gaps by expectation maximisation. While training, entries are
    hidden at random, the network is told which are known, and learns what the guess m leaves over,
    in units of its deviation s,

    .. math:: \min E_{h \sim \mathrm{masks}} \sum_{j \in h}
        -\log p\big(x_j \mid m_j(x_o) + s_j(o)\, F_j(x_o, m, o)\big)

    where o are the entries that are neither hidden nor missing. It is what `AutoencoderImputer`
    takes by default; that one also says how sure it is, and takes tables of any kind.

    Parameters
    ----------
    n_components : int, default=64
        Size of the code: of the bottleneck of what the network adds to the guess.
    hidden_layer_sizes : int or tuple of int, default=(256,)
        Hidden units of the encoder; the decoder has them in reverse order.
    activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", "elu", "auto"}, default="auto"
        Activation of the hidden units; "auto" is "silu".
    {network ... likelihood}
    {n_init}
    share : float or pair of float, default=(0.0, 0.6)
        Share of the entries that are hidden while training; of a pair, each row draws its own.
        Rows in which more is missing later are told from fewer entries than any that were seen.
    {max_iter ... learning_rate}
    optimizer : {"adamw", "sgd", "lbfgs"} or Optimizer, default="auto"
        How the loss is minimised; "auto" is `AdamW(weight_decay=0.1)`, which pulls towards the
        linear guess.
    {early_stopping ... verbose}

    Attributes
    ----------
    {model_ ... feature_names_in_}
    location_ : ndarray of shape (n_features_in_,)
        Mean of the normal distribution whose guess the network adds to, on the scale that the
        network sees (the logarithm of counts, else the units of X).
    covariance_ : ndarray of shape (n_features_in_, n_features_in_)
        Its covariance. In tables of more than 32 columns it is that of at most 32 factors and a
        variance of each column's own, and is computed when it is asked for.

    See Also
    --------
    AutoencoderImputer : Fills tables of numbers and categories, once or several times.
    DenoisingAE : Rebuilds rows from noisy copies.

    References
    ----------
    .. [1] Vincent, Larochelle, Lajoie, Bengio and Manzagol, "Stacked denoising autoencoders",
       JMLR 11, 2010: masking noise, and its emphasis on what was hidden.
    .. [2] He, Chen, Xie, Li, Dollár and Girshick, "Masked autoencoders are scalable vision
       learners", CVPR 2022: a loss of hidden entries alone.
    .. [3] Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep
       learning", NeurIPS 2022, section 3.2: the bins in which the network also sees numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import MaskedAE
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> gappy = X.copy()
    >>> gappy[::3, 2] = np.nan
    >>> mae = MaskedAE(8, hidden_layer_sizes=(32,), max_iter=20, random_state=0).fit(gappy)
    >>> filled = mae.reconstruct(gappy)
    >>> bool(np.abs(filled - X)[::3, 2].mean() < 0.4)
    True
    """

    _parameter_constraints = {
        "n_components": [at_least(1)],
        "share": [share("right"), range_of(share())],
        "optimizer": [StrOptions({*OPTIMIZERS, "auto"}), Optimizer],
    }
    _batch_bounds = (128, 512)
    _starts_well = True
    _scores_by_likelihood, _rebuilds_observed = True, False

    share: Any

    def __init__(
        self,
        n_components: int = 64,
        *,
        hidden_layer_sizes: Any = (256,),
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        n_init: int = 1,
        share: Any = (0.0, 0.6),
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        optimizer: Any = "auto",
        early_stopping: Any = True,
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self._set_parameters(locals())

    _sees_gaps = True

    def _default_activation(self):
        return "silu"

    def _optimizer_part(self):
        return AdamW(weight_decay=0.1) if self.optimizer == "auto" else self.optimizer

    def _corruption_part(self):
        bounds = tuple(self.share) if isinstance(self.share, tuple | list) else (self.share, self.share)
        if bounds[1] == 0:
            raise ValueError(
                f"MaskedAE(share={self.share!r}): something must be masked to be learnt; use a pair (low, high) with "
                "0 < high."
            )
        return Masking(bounds, fill="mean")

    def _build_model(self, fitting, columns, n_components):
        earlier = fitting.model
        n_factors = n_factors_of(fitting.raw.n_rows, len(columns.mean)) if earlier is None else earlier.n_factors
        return MaskedModel(
            fitting.network,
            self._posterior(),
            fitting.likelihood,
            columns,
            n_components,
            n_factors=n_factors,
            corruption=fitting.corruption,
            penalties=self._penalty_parts(),
        )

    def _start_model(self, model, raw, fitting):
        """Estimate the normal distribution, and the columns' bins, by training rows."""
        order = torch.randperm(raw.n_rows, generator=fitting.cpu_generator)[:START_ROWS].sort().values.numpy()
        rows, known = model.scaling.input(raw.take(order).double())
        known = torch.ones_like(rows) if known is None else known
        # What is lost in single precision, the network's, is lost here too.
        rows = rows.float().double()
        normal = estimate_normal(rows, known, raw.take_weight(order), model.n_factors)
        numbers = torch.where(known > 0, rows / model.column_unit.double(), torch.nan)[:, model.is_number]
        model.set_start(normal, _quantiles(numbers.numpy(), model.knots.shape[1]))
        with torch.no_grad():
            silence(model.decoder, 0, model.n_features)

    def _after_fit(self, raw):
        return {"location_": self._normal().mean.numpy()}

    def _normal(self) -> Normal | Factors:
        """The normal distribution that the network adds to, on the scale that the network sees, in float64."""
        model = self.model_
        units = model.scaling.units(torch.zeros(0, dtype=torch.float64))
        normal = type(model.normal)(*(moment.detach().cpu().double() for moment in model.normal))
        normal = normal.scaled(model.column_unit.cpu().double() * units.spread)
        return normal._replace(mean=normal.mean + units.mean)

    @property
    def covariance_(self) -> np.ndarray:
        """Covariance of the normal distribution that the network adds to, of shape (n_features_in_, n_features_in_)."""
        if not hasattr(self, "model_"):
            raise AttributeError("covariance_ is known after fit.")
        return self._normal().covariance.numpy()

    def score_samples(self, X) -> np.ndarray:
        """Log-likelihood of each entry given others of its row, summed; higher is more normal.

        The entries are hidden in turn, an eighth at a time: a pseudo-likelihood.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; entries that are NaN do not count.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In nats.
        """
        return self._scores(X, _pseudo_log_likelihood)

    def reconstruct(self, X) -> Any:
        """Fill in what is missing; entries that are there come back as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as missing.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Rows with the expectation of missing entries given the others, in the units of X.
        """
        return super().reconstruct(X)

    @available_if(_codes_are_rows)
    def inverse_transform(self, X) -> Any:
        """Not available: a code holds what the network adds to the guess, not the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes.

        Raises
        ------
        AttributeError
            Always.
        """


def _quantiles(numbers: np.ndarray, n_knots: int) -> torch.Tensor:
    """The limits of equally filled bins by column, of shape (n_columns, n_knots); zero for an empty column."""
    levels = np.linspace(0, 1, n_knots)
    made = np.zeros((numbers.shape[1], n_knots))
    if n_knots == 1:
        # No bin.
        return torch.from_numpy(made)
    for column, out in zip(numbers.T, made, strict=True):
        seen = column[~np.isnan(column)]
        if len(seen):
            out[:] = np.quantile(seen, levels)
    return torch.from_numpy(made)


def _pseudo_log_likelihood(model, step) -> torch.Tensor:
    entry = model.likelihood.entry_columns(model.n_features, step.input.device)
    entry = torch.arange(model.n_features, device=step.input.device) if entry is None else entry
    total = torch.zeros_like(step.input[:, 0])
    for turn in range(min(N_TURNS, int(entry[-1]) + 1)):
        made = model.step(step.input, step._target, step.observed)
        hidden = (entry % N_TURNS == turn).expand_as(step.input)
        total += model.hiding(made, hidden).log_density
    return total
