"""Penalties: what an objective holds beside the likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

if TYPE_CHECKING:
    from skae.model.step import Step


class Penalty(BaseEstimator):
    """Base of the penalties: `penalty(step)` returns a tensor of shape (n_rows,).

    A penalty with a critic returns a module from `critic` and that module's own loss from
    `critic_terms`; the trainer then has a second player.
    """

    weight = 1.0

    @property
    def name(self) -> str:
        """The name of the term in `loss_terms_`."""
        return "".join("_" + c.lower() if c.isupper() else c for c in type(self).__name__).lstrip("_")

    def __call__(self, step: Step) -> Tensor:
        """The penalty of each row, before it is multiplied by `weight`."""
        raise NotImplementedError

    def critic(self, n_features: int, n_components: int) -> nn.Module | None:
        """A network that this penalty trains against the autoencoder; most have none."""
        return None

    def critic_terms(self, step: Step) -> dict[str, Tensor]:
        """What the critic minimises, by name, each of shape (n_rows,)."""
        raise NotImplementedError


class LaplaceCode(Penalty):
    """Sparsity of the code by its absolute values, Σ|hⱼ|: a Laplace prior.

    Parameters
    ----------
    weight : float, default=0.01

    Examples
    --------
    >>> from skae import AutoencoderTransformer, LaplaceCode
    >>> AutoencoderTransformer(20, penalties=[LaplaceCode(0.1)])
    AutoencoderTransformer(n_components=20, penalties=[LaplaceCode(weight=0.1)])
    """

    def __init__(self, weight=0.01):
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """Sum of the absolute values of each row's code."""
        return step.code.abs().sum(1)


class GaussianCode(Penalty):
    """Small codes, ½ Σ hⱼ²: a Gaussian prior.

    Parameters
    ----------
    weight : float, default=0.01
    """

    def __init__(self, weight=0.01):
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """Half the squared length of each row's code."""
        return 0.5 * step.code.square().sum(1)


class Contraction(Penalty):
    """An insensitive code, ‖∂f/∂x‖²_F, estimated by one random projection (Hutchinson).

    Parameters
    ----------
    weight : float, default=0.1

    References
    ----------
    Rifai et al., "Contractive auto-encoders", ICML 2011, equation 2.
    """

    def __init__(self, weight=0.1):
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """An unbiased estimate of each row's squared Frobenius norm of the encoder's Jacobian."""
        direction = torch.randn(
            step.code.shape, generator=step.generator, device=step.code.device, dtype=step.code.dtype
        )
        _, pull = torch.func.vjp(step.encoder_function, step.seen)
        return pull(direction)[0].square().sum(1)
