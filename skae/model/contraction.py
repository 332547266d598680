"""The contraction penalty: an encoder whose Jacobian is small."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from skae.base.parameters import not_negative, positive
from skae.model.networks import Dense
from skae.model.penalties import Penalty
from skae.model.posteriors import Point

if TYPE_CHECKING:
    from skae.model.step import Step

ESTIMATORS = ("exact", "hutchinson", "finite_difference")
# Derivatives of the activations by their input.
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.ones_like,
    "relu": lambda a: (a > 0).to(a.dtype),
    "tanh": lambda a: 1 - torch.tanh(a).square(),
    "logistic": lambda a: torch.sigmoid(a) * torch.sigmoid(-a),
    "gelu": lambda a: torch.special.ndtr(a) + a * torch.exp(-0.5 * a.square()) / math.sqrt(2 * math.pi),
    "silu": lambda a: torch.sigmoid(a) * (1 + a * torch.sigmoid(-a)),
    "elu": lambda a: torch.exp(a.clamp_max(0.0)),
}


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian of a function that maps each row by itself, of shape (n_rows, n_out, n_in)."""
    y, pull = torch.func.vjp(function, x)
    units = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
    rows = torch.func.vmap(lambda unit: pull(unit.expand_as(y))[0])(units)
    return rows.transpose(0, 1)


def closed_form(step: Step) -> Tensor | None:
    """‖∂f/∂x‖²_F by row for a shallow dense encoder, where it costs less than the Jacobian; None for others.

    Without a hidden layer it is Σⱼ s(aⱼ)² ‖Wⱼ‖², equation 7 of Rifai et al. (2011), for a code with the
    derivative s. With one, and a linear code, ‖V diag(s) U‖²_F = sᵀ(VᵀV ∘ UUᵀ)s.
    """
    encoder, posterior = step.model.encoder, step.model.posterior
    bare = type(encoder) is Dense and encoder.dropout is None and encoder.input_dropout is None
    plain = type(posterior) is Point and posterior.start == 0.5 and step.condition is None
    if not (bare and plain):
        return None
    if len(encoder.layers) == 1:
        squared_lengths = encoder.layers[0].matrix().square().sum(1)
        return SLOPES[posterior.activation](step.encoded).square() @ squared_lengths
    if len(encoder.layers) > 2 or not posterior.is_linear:
        return None
    u, v = (layer.matrix() for layer in encoder.layers)
    slope = SLOPES[encoder.activation](encoder.layers[0](step.seen))
    return ((slope @ ((v.t() @ v) * (u @ u.t()))) * slope).sum(1)


class Contraction(Penalty):
    r"""An insensitive code: the squared Frobenius norm of the encoder's Jacobian.

    .. math:: p\, \Big\|\frac{\partial f}{\partial x}(x)\Big\|_F^2
        + p\, \gamma\, \Big\|\frac{\partial f}{\partial x}(x)
        - \frac{\partial f}{\partial x}(x + \epsilon)\Big\|_F^2, \quad \epsilon \sim N(0, \sigma^2 I)

    The first term is p times equation 2 of [1]_, the second p times equation 8 of [2]_, which also
    makes the Jacobian change slowly. x is the standardised row that the encoder sees, whose variance
    is the number p of columns, so that neither the data's units nor this number change what a weight
    does.

    Parameters
    ----------
    weight : float, default=0.1
        1 charges a unit of ‖∂f/∂x‖²_F as much as twice the variance of a whole row.
    estimator : {"exact", "hutchinson", "finite_difference"}, default="hutchinson"
        "exact" is the norm itself, without randomness, at the cost of a backward pass a component
        (a shallow dense network has a closed form). "hutchinson" is unbiased and costs one
        backward pass: E‖vᵀJ‖² for v ~ N(0, I). "finite_difference", ‖f(x + ε) − f(x)‖²/σ², costs
        a second forward pass and is unbiased for small σ.
    second_order : float, default=0.0
        γ.
    noise_scale : float, default=0.1
        σ, in units of the standardised rows.

    References
    ----------
    .. [1] Rifai, Vincent, Muller, Glorot and Bengio, "Contractive auto-encoders", ICML 2011.
    .. [2] Rifai, Mesnil, Vincent, Muller, Bengio, Dauphin and Glorot, "Higher order contractive
       auto-encoder", ECML 2011.

    Examples
    --------
    >>> from skae import Contraction
    >>> Contraction(0.5, estimator="exact")
    Contraction(estimator='exact', weight=0.5)
    """

    _parameter_constraints = {
        **Penalty._parameter_constraints,
        "estimator": [StrOptions(set(ESTIMATORS))],
        "second_order": [not_negative()],
        "noise_scale": [positive()],
    }

    def __init__(
        self, weight: float = 0.1, *, estimator: str = "hutchinson", second_order: float = 0.0, noise_scale: float = 0.1
    ) -> None:
        self.weight = weight
        self.estimator = estimator
        self.second_order = second_order
        self.noise_scale = noise_scale

    def __call__(self, step: Step) -> Tensor:
        """The penalty of each row."""
        return step.model.n_features * self.squared_norm(step)

    def squared_norm(self, step: Step) -> Tensor:
        """The squared norm of each row's Jacobian, or an estimate, and γ times the second-order term."""
        if self.estimator == "exact" and not self.second_order:
            known = closed_form(step)
            if known is not None:
                return known
        projection = self._projection(step)
        here = projection(step.seen)
        norm = here.square().sum(1)
        if self.second_order:
            there = projection(step.seen + self._noise(step, step.seen))
            norm = norm + self.second_order * (here - there).square().sum(1)
        return norm

    def _noise(self, step: Step, like: Tensor) -> Tensor:
        return self.noise_scale * _normal(step, like)

    def _projection(self, step: Step) -> Callable[[Tensor], Tensor]:
        """A linear map of the Jacobian at x whose squared length is ‖J(x)‖²_F on average."""
        f = step.encoder_function
        if self.estimator == "exact":
            return lambda x: jacobian(f, x).flatten(1)
        if self.estimator == "finite_difference":
            shift = self._noise(step, step.seen)
            return lambda x: (f(x + shift) - f(x)) / self.noise_scale
        direction = _normal(step, step.code)
        return lambda x: torch.func.vjp(f, x)[1](direction)[0]


def _normal(step: Step, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=step.generator, device=like.device, dtype=like.dtype)
