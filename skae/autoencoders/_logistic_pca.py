"""LogisticPCA."""

from __future__ import annotations

from typing import Any

from skae.autoencoders._base import BaseAutoencoder
from skae.model.likelihoods import Bernoulli
from skae.model.networks import DenseNetwork


class LogisticPCA(BaseAutoencoder):
    r"""Principal component analysis of values between 0 and 1, by cross-entropy.

    Encoder and decoder are linear, the output is logistic:

    .. math:: z = W x + b, \quad r = \sigma(V z + c), \quad
        \min -\sum_{ij} x_{ij} \log r_{ij} + (1 - x_{ij}) \log (1 - r_{ij})

    Parameters
    ----------
    n_components : int, float, "auto" or None, default="auto"
        Size of the code; a share of the variance that PCA needs, in (0, 1); the number of
        components with more than the mean variance; or, with None, as many as there are rows or
        features, whichever are fewer.
    bounds : pair of float or "auto", default="auto"
        The values that count as zero and one. "auto" takes (0, 1) for data within it, and each
        column's smallest and largest training value otherwise; later values beyond are clipped. A
        pair raises an error for values beyond it.
    init : {"pca", "random"}, default="pca"
        Start at PCA, with the logistic function's tangent, or at random weights.
    {n_init}
    {max_iter ... batch_size}
    learning_rate : float or "auto", default=0.01
        First learning rate, larger than a deep network could bear; "auto" is the optimizer's own.
    optimizer : {"adamw", "sgd", "lbfgs"} or Optimizer, default="adamw"
        How the loss is minimised. "lbfgs" sees all rows at each step: exact, and slow on many rows.
    {early_stopping ... verbose}

    Attributes
    ----------
    {model_ ... feature_names_in_}

    See Also
    --------
    sklearn.decomposition.PCA : For real values, by squared error.

    References
    ----------
    Schein, Saul and Ungar, "A generalized linear model for principal component analysis of binary
    data", AISTATS 2003.

    Examples
    --------
    >>> from skae import LogisticPCA
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> lpca = LogisticPCA(5, bounds=(0, 16), max_iter=10, random_state=0).fit(X)
    >>> lpca.transform(X).shape
    (1797, 5)
    >>> bool(lpca.reconstruct(X).max() <= 16)
    True
    """

    _parameter_constraints = {"bounds": Bernoulli._parameter_constraints["bounds"]}

    bounds: Any

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        bounds: Any = "auto",
        init: str = "pca",
        n_init: int = 1,
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = 0.01,
        optimizer: Any = "adamw",
        early_stopping: Any = True,
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self._set_parameters(locals())

    def _network_part(self):
        return DenseNetwork(())

    def _likelihood_part(self):
        return Bernoulli(self.bounds)
