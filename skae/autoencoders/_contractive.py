"""ContractiveAE."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.base.parameters import not_negative, positive
from skae.model.contraction import ESTIMATORS, Contraction
from skae.model.posteriors import Point


class ContractiveAE(BaseAutoencoder):
    r"""Contractive autoencoder: a code that hardly moves when a row does.

    .. math:: \min \frac1n \sum_i -\log p(x_i \mid z_i) + \lambda \Big\|\frac{\partial f}{\partial x}(x_i)\Big\|_F^2,
        \quad z_i = f(x_i)

    What is left of the Jacobian are the directions that the data take, so that the code ignores the
    others [1]_. The code is logistic, as in the paper: bounded, where a linear one could become
    insensitive by being small alone.

    Parameters
    ----------
    {n_components ... likelihood}
    init : {"pca", "random"}, default="random"
        "random" has a logistic code and no linear path. "pca" has a linear code that starts as
        PCA's: its Jacobian is of full size at first and shrinks with the code, so that a contraction
        by the same factor takes longer and leaves more of it sensitive.
    {n_init}
    contraction : float, default=0.1
        λ, in units of a row's variance: neither the data's units nor the number of columns change
        what it does. With 0.1 the Jacobian is more than ten times below the plain autoencoder's.
    estimator : {"hutchinson", "exact", "finite_difference"}, default="hutchinson"
        How the norm is computed. "hutchinson" is unbiased and costs one more backward pass;
        "exact" is not random, which L-BFGS needs, and costs one a component (no hidden layer has
        the closed form of [1]_); "finite_difference" costs a second forward pass.
    second_order : float, default=0.0
        γ: weight, beside λ, of ‖J(x) − J(x + ε)‖²_F, which lets the Jacobian change slowly [2]_.
    noise_scale : float, default=0.1
        Standard deviation of ε, and of the finite difference, in units of the standardised rows.
    {max_iter ... verbose}

    Attributes
    ----------
    {model_ ... table_encoder_}

    See Also
    --------
    DenoisingAE : Insensitive to corruption, over larger distances.

    References
    ----------
    .. [1] Rifai, Vincent, Muller, Glorot and Bengio, "Contractive auto-encoders: explicit
       invariance during feature extraction", ICML 2011, equation 7.
    .. [2] Rifai, Mesnil, Vincent, Muller, Bengio, Dauphin and Glorot, "Higher order contractive
       auto-encoder", ECML 2011.

    Examples
    --------
    >>> from skae import ContractiveAE
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> cae = ContractiveAE(10, max_iter=5, random_state=0).fit(X)
    >>> cae.transform(X).shape
    (1797, 10)
    """

    _parameter_constraints = {
        "contraction": [not_negative()],
        "estimator": [StrOptions(set(ESTIMATORS))],
        "second_order": [not_negative()],
        "noise_scale": [positive()],
    }

    contraction: float
    estimator: str
    second_order: float
    noise_scale: float

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        init: str = "random",
        n_init: int = 1,
        contraction: float = 0.1,
        estimator: str = "hutchinson",
        second_order: float = 0.0,
        noise_scale: float = 0.1,
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
        return Point("identity" if self.init == "pca" else "logistic")

    def _penalty_parts(self):
        return [
            Contraction(
                self.contraction,
                estimator=self.estimator,
                second_order=self.second_order,
                noise_scale=self.noise_scale,
            )
        ]
