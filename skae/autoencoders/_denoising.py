"""DenoisingAE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array, check_is_fitted

from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._estimator import model_step
from skae.base.parameters import at_least, checked_arguments, positive
from skae.model.corruptions import CORRUPTIONS, Corrupted, Corruption, GaussianNoise, as_corruption
from skae.model.settings import own_settings
from skae.model.walkback import Chain
from skae.training.batches import RawRows
from skae.training.device import new_generator

# Rows that are kept for `sample`: at most the first number of them, and the second of entries but for the least.
MAX_KEPT, MAX_ENTRIES, MIN_KEPT = 2000, 2**14, 200


def _kept(n_rows: int, n_features: int) -> int:
    """How many of so many rows are kept."""
    return min(n_rows, MAX_KEPT, max(MIN_KEPT, MAX_ENTRIES // n_features))


def _spread(rows: np.ndarray, n: int) -> np.ndarray:
    """So many of the rows, at random places that do not depend on the seed of the fit."""
    return rows[np.sort(np.random.RandomState(0).permutation(len(rows))[:n])]


class DenoisingAE(BaseAutoencoder):
    r"""Denoising autoencoder: rebuilds a row from a corrupted copy.

    .. math:: \min E_{\tilde x \sim C(\tilde x \mid x)} [-\log p(x \mid g(f(\tilde x)))]

    With Gaussian noise of standard deviation σ, (r(x) − x)/σ² estimates the score ∇ log p(x) [2]_,
    and corrupting and rebuilding in turn draws from the data's distribution [3]_.

    Parameters
    ----------
    {n_components ... n_init}
    corruption : {"gaussian", "masking", "salt_and_pepper", "swap"}, Corruption or callable, default="gaussian"
        What is done to a row before the encoder sees it while training. A callable maps an array
        of rows to an array of the same shape (blur, grayscale, downsample).
    conditioning : {"noise_level", "mask"} or None, default=None
        What the encoder is told beside the row: the logarithm of the noise's standard deviation
        (for `GaussianNoise`, useful with a range of scales), or which entries are intact. With
        "noise_level" and init="random" the network is preconditioned, so that all levels are
        learnt alike [4]_: it sees rows of unit variance and adds to the best linear guess; the
        likelihood is then that of the residual in units of what that guess leaves over.
    emphasis : float, default=1.0
        Weight of the corrupted entries in the loss, where the corruption replaces some.
    walkback : int, default=0
        Walkback training [3]_: before it is rebuilt, a row goes up to so many further steps of corrupting
        and drawing, each with probability one half, so that the chain of `sample` learns to come
        back from where it strays. A step costs about a forward pass.
    {max_iter ... verbose}

    Attributes
    ----------
    {model_ ... table_encoder_}
    chain_rows_ : ndarray of shape (n_kept, n_features), float32
        Training rows whose residuals `sample` draws: 2000, or fewer of more than 8 columns, and no
        fewer than 200. Their gaps hold the reconstruction.
    n_samples_seen_ : int
        Rows of `fit`, and of `partial_fit` after it.

    See Also
    --------
    AutoencoderTransformer : Without corruption by default.

    References
    ----------
    .. [1] Vincent, Larochelle, Lajoie, Bengio and Manzagol, "Stacked denoising autoencoders",
       JMLR 11, 2010.
    .. [2] Alain and Bengio, "What regularized auto-encoders learn from the data-generating
       distribution", JMLR 15, 2014, theorem 1.
    .. [3] Bengio, Yao, Alain and Vincent, "Generalized denoising auto-encoders as generative
       models", NIPS 2013, algorithm 1 (walkback).
    .. [4] Karras, Aittala, Aila and Laine, "Elucidating the design space of diffusion-based
       generative models", NeurIPS 2022, table 1.

    Examples
    --------
    >>> from skae import DenoisingAE, GaussianNoise
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> dae = DenoisingAE(10, corruption=GaussianNoise(0.5), max_iter=5, random_state=0).fit(X)
    >>> dae.reconstruct(X).shape
    (1797, 64)
    """

    _trains_on_scores = True
    _parameter_constraints = {
        "corruption": [StrOptions(set(CORRUPTIONS)), Corruption, callable],
        "conditioning": [StrOptions({"noise_level", "mask"}), None],
        "emphasis": [positive()],
        "walkback": [at_least(0)],
    }

    corruption: Any
    conditioning: str | None
    emphasis: float
    walkback: int
    chain_rows_: np.ndarray

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        init: str = "pca",
        n_init: int = 1,
        corruption: Any = "gaussian",
        conditioning: str | None = None,
        emphasis: float = 1.0,
        walkback: int = 0,
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        optimizer: Any = "adamw",
        early_stopping: Any = True,
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self._set_parameters(locals())

    def _conditioning(self):
        if self.conditioning == "noise_level" and not isinstance(as_corruption(self.corruption), GaussianNoise):
            raise ValueError(
                f"conditioning='noise_level' needs Gaussian noise, but corruption={self.corruption!r}; "
                "use conditioning='mask' or corruption='gaussian'."
            )
        return self.conditioning

    def _emphasis(self):
        return float(self.emphasis)

    def _walkback(self):
        return self.walkback

    def _after_fit(self, raw: RawRows) -> dict:
        return {"chain_rows_": self._kept_rows(raw), "n_samples_seen_": raw.n_rows}

    def _after_partial_fit(self, raw: RawRows) -> dict:
        earlier, made = vars(self).get("n_samples_seen_", 0), self._after_fit(raw)
        if not earlier:
            return made
        # In proportion to the rows seen before and now.
        rows, total = made["chain_rows_"], earlier + raw.n_rows
        n_kept = min(_kept(total, raw.n_features), len(self.chain_rows_) + len(rows))
        n_now = max(n_kept - len(self.chain_rows_), min(len(rows), round(n_kept * raw.n_rows / total)))
        parts = [_spread(self.chain_rows_, n_kept - n_now), _spread(rows, n_now)]
        return {"chain_rows_": np.concatenate(parts), "n_samples_seen_": total}

    def _kept_rows(self, raw: RawRows) -> np.ndarray:
        """Rows whose residuals `sample` draws, each as often as its weight says; gaps hold the reconstruction."""
        n_kept = _kept(raw.n_rows, raw.n_features)
        index = _spread(np.arange(raw.n_rows), n_kept)
        if raw.weight is not None:
            total = np.cumsum(raw.weight)
            index = np.searchsorted(total, (np.arange(n_kept) + 0.5) * total[-1] / n_kept)
        size = raw.chunk_rows
        parts = [raw.take(index[start : start + size]) for start in range(0, len(index), size)]
        rows = torch.cat(parts).to(self.model_.reference)
        with torch.inference_mode():
            rebuilt = self.model_.scaling.from_target(model_step(self.model_, rows).rebuilt)
            return torch.where(torch.isnan(rows), rebuilt, rows).cpu().numpy()

    @checked_arguments(scale=[positive(), None])
    def score_function(self, X, *, scale=None) -> np.ndarray:
        """Estimate ∇ log p(x), the direction in which data get denser: (r(x) − x)/σ².

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        scale : float or None, default=None
            σ in the units of `GaussianNoise.scale`; None is the smallest that was trained on.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In one over the units of X. Of a table, a column for each that `table_encoder_` makes.

        Raises
        ------
        ValueError
            If the corruption is not Gaussian noise, or `scale` was not trained on.
        """
        check_is_fitted(self)
        noise = self.model_.corruption
        if not isinstance(noise, GaussianNoise):
            raise ValueError(f"score_function needs corruption=GaussianNoise(...), but it is {self.corruption!r}.")
        scale = noise.bounds[0] if scale is None else scale
        self._check_scale(scale)
        sigma = scale * self.model_.scaling.unit if noise.relative else scale

        def score(model, step):
            rebuilt = model.scaling.from_target(self._told(step, scale).rebuilt)
            return (rebuilt - model.scaling.from_input(step.input)) / sigma**2

        # A difference of rows that are nearly the same.
        made = self._map_rows(X, score, self._n_columns, dtype=np.dtype(np.float64))
        return made.astype(np.float32) if getattr(X, "dtype", None) == np.float32 else made

    def _check_scale(self, scale) -> None:
        low, high = self.model_.corruption.bounds
        if not low <= scale <= high:
            raise ValueError(f"scale={scale!r} is outside of what was trained on, [{low:g}, {high:g}].")

    @staticmethod
    def _told(step, scale):
        """The step of clean rows, whose encoder is told this level of noise where it is told of noise at all."""
        model = step.model
        if model.conditioning == "noise_level":
            unit = 1.0 if model.corruption.relative else model.scaling.unit
            step.corrupted = Corrupted(step.input, log_level=torch.full_like(step.input[:, :1], scale / unit).log())
        return step

    @checked_arguments(scale=[positive(), None])
    def reconstruct(self, X, *, scale=None) -> Any:
        """Encode and decode X, uncorrupted; entries that are NaN come back filled.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        scale : float or None, default=None
            With conditioning="noise_level", the level of noise that the encoder is told of, in the
            units of `GaussianNoise.scale`: the larger, the more of a row is taken for noise. None
            is the smallest that was trained on.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Expected rows in the units of X; of a table a table, with the index of X.

        Raises
        ------
        ValueError
            If `scale` was not trained on, or the encoder is not told of the noise.
        """
        check_is_fitted(self)
        if scale is None:
            return super().reconstruct(X)
        if self.model_.conditioning != "noise_level":
            raise ValueError(f"scale={scale!r} needs conditioning='noise_level', but it is {self.conditioning!r}.")
        self._check_scale(scale)
        return self._rebuilt(X, lambda step: self._told(step, scale))

    def inverse_transform(self, X) -> Any:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Expected rows in the units of the training data.

        Raises
        ------
        ValueError
            If the network is preconditioned: it adds to the row itself, which a code does not hold.
        """
        check_is_fitted(self)
        if self.model_.preconditioned:
            raise ValueError(
                "With conditioning='noise_level' and init='random' a code does not hold the row: the network adds to "
                "the row itself. Use reconstruct, or init='pca'."
            )
        return super().inverse_transform(X)

    @checked_arguments(n_samples=[at_least(1)], n_steps=[at_least(1)], random_state=["random_state"])
    @own_settings()
    def sample(self, n_samples=1, *, n_steps=100, init=None, random_state=None) -> Any:
        """Draw rows by a Markov chain: corrupt, draw a row given the corrupted one, again and again [3]_.

        The draw of p(x | x̃) is the reconstruction and the residual of a kept training row whose
        corrupted copy is near, so that the chain's stationary distribution has the data's spread, not
        that of means. Counts, bits and categories are drawn as such. Of a range of noise, the chain
        starts with the largest and ends with the smallest.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, each the end of a chain of its own.
        n_steps : int, default=100
            Length of each chain.
        init : array-like of shape (n_samples, n_features) or None, default=None
            Where the chains start, one for each row; None starts at kept training rows, from which the
            distribution is right however slowly the chain moves.
        random_state : int, RandomState instance or None, default=None
            Seed of the chains.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; a table where fit had one.
        """
        check_is_fitted(self)
        model = self.model_
        device = model.reference.device
        generator = new_generator(device, check_random_state(random_state))
        if init is not None:
            init = check_array(self._validate(init, reset=False), dtype=np.float32, estimator=self, input_name="init")
            if len(init) != n_samples:
                raise ValueError(f"init has {len(init)} rows for n_samples={n_samples}: each chain starts at one.")
        with torch.inference_mode(), self._threads_for(n_samples):
            rows = torch.tensor(self.chain_rows_, device=device)
            chain = Chain(model, rows, generator)
            if init is None:
                x = rows[torch.randint(len(rows), (n_samples,), generator=generator, device=device)]
            else:
                x = torch.tensor(init, device=device)
            for corruption in model.corruption.schedule(n_steps):
                x = chain.advance(x, corruption)
        return self._as_table(x.cpu().numpy())
