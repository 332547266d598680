"""SemanticHashing."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._estimator import all_or_nothing
from skae.autoencoders._hamming import ENGINES, nearest, pack_bits
from skae.base.parameters import at_least, checked_arguments, not_negative, share
from skae.model.bits import Bits, EncoderNetwork
from skae.model.pca_start import PrincipalAxes, start_at_pca

# Share of the hidden units that is zeroed at each training step.
DROPOUT = 0.2
# Share of the variance below which an axis is rounding.
LEAST_VARIANCE = 1e-10


class SemanticHashing(BaseAutoencoder):
    r"""Autoencoder whose code is bits, so that similar rows are found by counting the bits that differ.

    .. math:: \max E_{q(z \mid x)} [\log p(x \mid z)] - \beta\, KL(q(z \mid x) \,\|\, \tfrac12),
        \quad q(z_j = 1 \mid x) = 1 / (1 + e^{-l_j(x)})

    A bit is one where its logit is positive. The KL term asks for fair coins, and a linear decoder
    adds up what each bit says of the row, so that rows that share most bits are alike. `fit`
    indexes the training rows; `kneighbors` finds the nearest of them, among a million 64-bit codes
    in about a millisecond.

    Parameters
    ----------
    n_components : int, default=64
        Number of bits.
    {hidden_layer_sizes ... network}
    {likelihood}
    init : {"pca", "random"}, default="pca"
        "pca" puts a linear path beside the networks: logits start as PCA's components, so that bits
        start balanced and the decoder knows the columns' means. "random" has no linear path.
    {n_init}
    beta : float, default=1.0
        Weight of the KL term. It makes bits undecided that tell little of a row, so that codes hold
        what rows have in common; too much of it, and no bit tells anything (`kl_by_component_` is
        zero). It is in units of the log-likelihood: rows of a small total need a small `beta` with
        `likelihood="multinomial"`.
    kl_warm_up : float, default=0.0
        Share of the training over which the weight rises from 0 to `beta`, against collapse.
    noise : "bernoulli" or float, default="bernoulli"
        What makes the code binary while training: bits are drawn and gradients pass straight
        through [2]_, or Gaussian noise of this standard deviation is added to the logits [1]_.
    {max_iter ... verbose}

    Attributes
    ----------
    {model_ ... table_encoder_}
    kl_by_component_ : ndarray of shape (n_components_,)
        Mean KL of each bit over the training rows, in nats, from 0 for a bit that tells nothing to
        log 2 for one that is always sure.
    bit_means_ : ndarray of shape (n_components_,)
        Share of the training rows in which each bit is one.
    codes_ : ndarray of shape (n_indexed, n_words), uint64
        The packed codes of the rows that `fit` or `index` saw.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : Neighbours by other distances, of the codes of any class.

    References
    ----------
    .. [1] Salakhutdinov and Hinton, "Semantic hashing", International Journal of Approximate
       Reasoning 50, 2009.
    .. [2] Shen et al., "NASH: toward end-to-end neural architecture for generative semantic
       hashing", ACL 2018.
    .. [3] Chaidaroon and Fang, "Variational deep semantic hashing for text documents", SIGIR 2017.

    Examples
    --------
    >>> from skae import SemanticHashing
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> hashing = SemanticHashing(16, max_iter=5, random_state=0).fit(X)
    >>> hashing.transform(X).shape, hashing.codes_.shape
    ((1797, 16), (1797, 1))
    >>> distances, indices = hashing.kneighbors(X[:2], n_neighbors=3)
    >>> indices.shape
    (2, 3)
    """

    _parameter_constraints = {
        "n_components": [at_least(1)],
        "beta": [not_negative()],
        "kl_warm_up": [share()],
        "noise": [not_negative(), StrOptions({"bernoulli"})],
    }

    beta: float
    kl_warm_up: float
    noise: float | str

    def __init__(
        self,
        n_components: int = 64,
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        init: str = "pca",
        n_init: int = 1,
        beta: float = 1.0,
        kl_warm_up: float = 0.0,
        noise: float | str = "bernoulli",
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

    def _dense_network(self, hidden_layer_sizes, activation):
        return EncoderNetwork(hidden_layer_sizes, activation, dropout=DROPOUT)

    def _posterior(self):
        return Bits(self.beta, kl_warm_up=self.kl_warm_up, noise=self.noise)

    def _start_at_pca(self, model, axes):
        # Bits without an axis start at random, those of axes without variance too.
        kept = axes.variances > LEAST_VARIANCE * axes.total
        start_at_pca(model, PrincipalAxes(axes.variances[kept], axes.vectors[:, kept], axes.total))
        if "log_scale" in model._learnt:
            # Bits leave more of a row than PCA's components do: begin as if they left all.
            with torch.no_grad():
                model._learnt["log_scale"].zero_()

    # Fitting ---------------------------------------------------------------------------------

    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Fit the autoencoder to X, and index X for `kneighbors`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows. NaN marks an entry as not observed: it counts in no term of the loss.
            Sparse matrices and memory maps are read a chunk at a time.
        y : array-like of shape (n_samples,), default=None
            Ignored, but handed to callbacks that score.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None weighs them equally. All rows are indexed.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range.
        FloatingPointError
            If training diverges. An earlier fit stays as it was.
        KeyboardInterrupt
            On Ctrl-C while folds or layers are trained, or in a pipeline, search or ensemble: an
            earlier fit stays as it was. In a single training Ctrl-C keeps the model so far and warns.
        """
        with all_or_nothing(self):
            super().fit(X, y, sample_weight)
            return self.index(X)

    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Train for one pass over X and keep what was learnt before; nothing is indexed.

        The codes of rows change, so `codes_` is dropped: call `index` after the last call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Some rows.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        super().partial_fit(X, y, sample_weight)
        self.__dict__.pop("codes_", None)
        return self

    def _after_fit(self, raw):
        sums, total = torch.zeros(2, self.n_components_, dtype=torch.float64), 0.0
        for start, step in self._steps(raw, self.model_):
            kl, code = self.model_.posterior.kl_divergence(step.encoded), step.code
            weight = raw.take_weight(slice(start, start + len(code)))
            weight = torch.ones(len(code)).double() if weight is None else weight
            sums += weight @ torch.stack([kl, code > 0]).double().cpu()
            total += float(weight.sum())
        kl, ones = (sums / total).numpy()
        return {"kl_by_component_": kl, "bit_means_": ones}

    # Codes -----------------------------------------------------------------------------------

    def transform(self, X) -> Any:
        """Bits of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as not observed.

        Returns
        -------
        ndarray of shape (n_samples, n_components_), uint8
            Zeros and ones.
        """
        return self._map_rows(X, lambda model, step: step.code > 0, self._code_width).astype(np.uint8)

    def inverse_transform(self, X) -> Any:
        """Decode bits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Zeros and ones.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Expected rows in the units of the training data, float32 for float32 bits, else float64;
            with likelihood="mixed" a table like that of fit.
        """
        bits = self._checked_codes(X)
        if not ((bits == 0) | (bits == 1)).all():
            raise ValueError("X must hold bits, zeros and ones, as transform makes them, but it has other values.")
        return super().inverse_transform(X)

    def _latent(self, model, codes):
        return super()._latent(model, 2 * codes - 1)

    def pack(self, X) -> np.ndarray:
        """Bits of X, packed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, ceil(n_components_ / 64)), uint64
            Bit j is bit j mod 64, the lowest first, of word j // 64; the rest of the last is zero.
        """
        return pack_bits(self.transform(X))

    # Retrieval -------------------------------------------------------------------------------

    def index(self, X) -> Self:
        """Let `kneighbors` search these rows in place of those that it searched before.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_indexed, n_features)
            Rows.

        Returns
        -------
        self : object
            With new `codes_`.
        """
        self.codes_ = self.pack(X)
        return self

    @checked_arguments(n_neighbors=[at_least(1)], return_distance=["boolean"], engine=[StrOptions(set(ENGINES))])
    def kneighbors(self, X=None, n_neighbors=5, return_distance=True, *, engine="auto") -> Any:
        """The indexed rows whose bits differ least from those of each row of X.

        The search is exact, compares all codes and runs on all cores. Beside the result it needs
        the memory of one more copy of `codes_` and of a few blocks of the size of a cache.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_queries, n_features), default=None
            Rows; None takes the indexed rows themselves, each without itself.
        n_neighbors : int, default=5
            Number of neighbours.
        return_distance : bool, default=True
            Whether to return the distances too.
        engine : {"auto", "numpy", "faiss"}, default="auto"
            "auto" is faiss where it is installed; the result is the same.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), int64
            Number of bits that differ, in rising order; only with `return_distance`.
        indices : ndarray of shape (n_queries, n_neighbors), int64
            Which indexed rows; those at the same distance in the order in which they were indexed.

        Raises
        ------
        ValueError
            If there are fewer indexed rows than neighbours asked for.
        """
        check_is_fitted(self)
        if not hasattr(self, "codes_"):
            raise NotFittedError("No rows are indexed, because partial_fit indexes none: call index(X) first.")
        self._check_neighbors(n_neighbors, len(self.codes_) - (X is None))
        if X is not None:
            distances, indices = nearest(self.pack(X), self.codes_, n_neighbors, engine)
        else:
            distances, indices = nearest(self.codes_, self.codes_, n_neighbors + 1, engine)
            distances, indices = (without_self(values, indices) for values in (distances, indices))
        return (distances, indices) if return_distance else indices

    @staticmethod
    def _check_neighbors(n_neighbors: int, n_others: int) -> None:
        if n_neighbors > n_others:
            raise ValueError(
                f"n_neighbors={n_neighbors} is above the number of other indexed rows, {n_others}: lower it, or index "
                "more rows."
            )

    def __sklearn_tags__(self):
        """Bits are uint8, whatever the dtype of X."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def without_self(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Values without those at which row i has index i, or without the last where copies of the row crowd it out."""
    own = indices == np.arange(len(indices))[:, None]
    own[~own.any(1), -1] = True
    return values[~own].reshape(len(values), -1)
