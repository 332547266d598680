"""AutoencoderTransformer."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.model.posteriors import CODE_ACTIVATIONS, Point


class AutoencoderTransformer(BaseAutoencoder):
    r"""Autoencoder: a code from which each row can be rebuilt.

    .. math:: \min \frac1n \sum_i -\log p(x_i \mid z_i) + \sum_k \lambda_k P_k, \quad z_i = f(x_i)

    It drops in where `PCA` stood: it starts there, works on unscaled data, and held-out rows decide
    how far it goes. Any mix of network, likelihood, corruption and penalties.

    Parameters
    ----------
    {n_components ... network}
    code_activation : {"identity", "relu", "tanh", "logistic", "gelu", "silu", "elu"}, default="identity"
        Activation of the code. Anything but "identity" needs ``init="random"``: a code that starts as
        PCA's is linear.
    {likelihood ... verbose}

    Attributes
    ----------
    {model_ ... table_encoder_}

    See Also
    --------
    sklearn.decomposition.PCA : The linear case, and the start.
    DenoisingAE : Learns to undo a corruption.
    VAE : With a distribution over codes and rows.

    References
    ----------
    Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks",
    Science 313, 2006.

    Examples
    --------
    >>> from skae import AutoencoderTransformer
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> ae = AutoencoderTransformer(5, max_iter=5, random_state=0).fit(X)
    >>> ae.transform(X).shape
    (1797, 5)
    >>> ae.reconstruct(X).shape
    (1797, 64)
    """

    _parameter_constraints = {"code_activation": [StrOptions(set(CODE_ACTIVATIONS))]}
    _trains_on_scores = True

    code_activation: str
    corruption: Any
    penalties: Any

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        code_activation: str = "identity",
        likelihood: Any = "gaussian",
        init: str = "pca",
        n_init: int = 1,
        corruption: Any = None,
        penalties: Any = "auto",
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
        if self.init == "pca" and self.code_activation != "identity":
            raise ValueError(
                f"code_activation={self.code_activation!r}: a code that starts as PCA's is linear; use "
                "init='random', or code_activation='identity'."
            )
        return Point(self.code_activation)
