"""VQVAE."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.base.parameters import at_least, checked_arguments, not_negative
from skae.model.quantised import Quantised


class VQVAE(BaseAutoencoder):
    r"""Vector-quantised autoencoder: a code of integers, for compression and for models of sequences.

    The encoder's output is cut into groups, and each group z is replaced by the nearest vector e of
    its codebook [1]_:

    .. math:: \min -\log p(x \mid e) + \tfrac12 \|\mathrm{sg}(z) - e\|^2 + \tfrac\beta2 \|z - \mathrm{sg}(e)\|^2

    where sg has no gradient, and the first term's passes from e straight to z. A row is
    `n_components_` integers, each of log₂ `n_codes` bits. Codes that no row has been near to for
    long start again at rows of the batch, so that codebooks do not collapse.

    Parameters
    ----------
    n_components : int, float, "auto" or None, default="auto"
        Integers of a code; a share of the variance that PCA needs, in (0, 1); the number of
        components with more than the mean variance; or, with None, as many as there are rows or
        features, whichever are fewer.
    n_codes : int, default=256
        Vectors of a codebook, at most 65536. By default an integer is a byte.
    code_width : int or "auto", default="auto"
        Numbers that stand behind an integer. "auto" is four, or fewer where all groups together
        would have more numbers than X has columns.
    shared_codebook : bool, default=False
        Whether one codebook serves all integers: fewer parameters, and about the same error
        (held-out digits, eight integers of eight bits, 15 epochs: 102.5, and 101.9 with their own),
        with fewer of the codes in use.
    commitment : float, default=1.0
        β: how much the encoder, rather than the codebook, has to move. A unit of the code costs as
        much as a unit of error in the row, so that the data's units do not change what it does.
    {hidden_layer_sizes ... likelihood}
    init : {"pca", "random"}, default="pca"
        "pca" starts as product quantisation of PCA's components: a linear path beside the networks,
        which start at zero, and codebooks by k-means. "random" has no linear path.
    {n_init}
    {max_iter ... verbose}

    Attributes
    ----------
    {model_}
    n_components_ : int
        Integers of a code.
    {n_iter_ ... loss_terms_}
    explained_variance_, explained_variance_ratio_ : ndarray of shape (n_axes,)
        Variance of the PCA components that the groups start from, and its share, with `init="pca"`.
    code_usage_ : ndarray of shape (n_components_, n_codes)
        How often the training rows have each code, by integer; rows sum to one.
    perplexity_ : ndarray of shape (n_components_,)
        exp of the entropy of `code_usage_`: how many equally frequent codes would be as varied. One
        means that the codebook has collapsed.
    bits_per_row_ : float
        Size of a code, `n_components_` · log₂ `n_codes`.
    entropy_per_row_ : float
        Bits a row after entropy coding of each integer by its `code_usage_`.
    {n_features_in_ ... table_encoder_}

    See Also
    --------
    VAE : A code of real numbers, with a distribution.
    AutoencoderTransformer : A code of real numbers.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning",
       NIPS 2017, equation 3.

    Examples
    --------
    >>> from skae import VQVAE
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> vqvae = VQVAE(4, n_codes=64, max_iter=5, random_state=0).fit(X)
    >>> codes = vqvae.transform(X)
    >>> codes.shape, codes.dtype
    ((1797, 4), dtype('int64'))
    >>> vqvae.bits_per_row_
    24.0
    >>> vqvae.inverse_transform(codes).shape
    (1797, 64)
    """

    _parameter_constraints = {
        "n_codes": [Interval(Integral, 2, 2**16, closed="both")],
        "code_width": [at_least(1), StrOptions({"auto"})],
        "shared_codebook": ["boolean"],
        "commitment": [not_negative()],
    }

    n_codes: int
    code_width: int | str
    shared_codebook: bool
    commitment: float
    code_usage_: np.ndarray

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        n_codes: int = 256,
        code_width: int | str = "auto",
        shared_codebook: bool = False,
        commitment: float = 1.0,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        init: str = "pca",
        n_init: int = 1,
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

    def _posterior(self):
        return Quantised(
            self.n_codes,
            self.code_width,
            n_features=self._n_columns(),
            shared=self.shared_codebook,
            commitment=self.commitment,
            # A line search needs a function, which a codebook that changes meanwhile is not.
            revive=not getattr(self.optimizer, "full_batch", self.optimizer == "lbfgs"),
        )

    def _after_fit(self, raw):
        counts = torch.zeros(self.n_components_, self.n_codes, dtype=torch.float64)
        start = 0
        for _, step in self._steps(raw, self.model_):
            indices = step.indices.cpu()
            stop = start + len(indices)
            weight = torch.ones(len(indices)) if raw.weight is None else torch.as_tensor(raw.weight[start:stop])
            counts.scatter_add_(1, indices.T, weight.double().expand(len(counts), -1))
            start = stop
        usage = (counts / counts.sum(1, keepdim=True)).numpy()
        entropy = -np.where(usage > 0, usage * np.log(np.where(usage > 0, usage, 1.0)), 0.0).sum(1)
        return {
            "code_usage_": usage,
            "perplexity_": np.exp(entropy),
            "bits_per_row_": float(self.n_components_ * np.log2(self.n_codes)),
            "entropy_per_row_": float(entropy.sum() / np.log(2)),
        }

    def transform(self, X) -> Any:
        """Encode X as integers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as not observed.

        Returns
        -------
        ndarray of shape (n_samples, n_components_), int64
            Codes, from 0 to `n_codes` − 1.
        """
        return self._map_rows(X, lambda model, step: step.indices, self._code_width).astype(np.int64, copy=False)

    def inverse_transform(self, X) -> Any:
        """Decode integers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, whole numbers from 0 to `n_codes` − 1.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Expected rows in the units of the training data, float64 (float32 for codes in float32).

        Raises
        ------
        ValueError
            If X has another number of columns, or values that are no codes.
        """
        codes = self._checked_codes(X)
        bad = codes[(codes != np.floor(codes)) | (codes < 0) | (codes >= self.n_codes)]
        if len(bad):
            raise ValueError(
                f"X holds {bad[0]:g}, which is no code: inverse_transform takes whole numbers from 0 to "
                f"{self.n_codes - 1}, as transform returns them."
            )
        return super().inverse_transform(X)

    def _latent(self, model, codes):
        return model.code_module.chosen(codes.long())

    @checked_arguments(n_samples=[at_least(1)], random_state=["random_state"])
    def sample(self, n_samples=1, *, random_state=None) -> Any:
        """Draw codes by their frequencies among the training rows, each integer by itself, and decode them.

        What the integers of a row have to do with each other is not kept: for rows like the
        training rows, fit a model of sequences to the codes and hand its draws to
        `inverse_transform`.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Expected rows in the units of the training data.
        """

        def draw(model, generator):
            usage = torch.as_tensor(self.code_usage_).to(model.reference)
            codes = torch.multinomial(usage, n_samples, replacement=True, generator=generator).T
            return model.likelihood.mean(model.decoder(model.code_module.chosen(codes)))

        return self._drawn(draw, n_samples, random_state)

    def __sklearn_tags__(self):
        """Codes are integers, whatever the dtype of X."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
