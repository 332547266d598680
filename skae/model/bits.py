"""A posterior over bits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skae.model.networks import Dense, DenseNetwork
from skae.model.posteriors import DiagonalGaussian, Posterior

if TYPE_CHECKING:
    from skae.model.step import Step


# Logits up to this are zero but for rounding: rows that lie on the border of a bit stay on one side of it.
TIE = 1e-9


class Bits(Posterior):
    r"""Independent bits, q(zⱼ = 1 | x) = pⱼ(x) = 1 / (1 + exp(−lⱼ(x))), with fair coins as the prior.

    The decoder gets −1 and 1 for 0 and 1: centred and of unit variance, as the codes of
    probabilistic PCA are, so that a start at PCA is a start here too. While training it gets a
    draw, and the gradient passes as if that were the mean, 2p − 1 (straight through, [2]_); or
    tanh of half the logits with noise, which only logits far from zero survive [1]_. Otherwise it
    gets the hard bits, lⱼ > 0.

    Parameters
    ----------
    beta : float
        Weight of Σⱼ KL(q(zⱼ | x) ‖ ½) [2]_.
    kl_warm_up : float
        Share of the training over which the weight rises from 0 to `beta`.
    noise : "bernoulli" or float
        The draw, or the standard deviation of Gaussian noise on the logits.

    References
    ----------
    .. [1] Salakhutdinov and Hinton, "Semantic hashing", International Journal of Approximate
       Reasoning 50, 2009.
    .. [2] Shen et al., "NASH: toward end-to-end neural architecture for generative semantic
       hashing", ACL 2018.
    """

    variational, is_random, is_choice = True, True, True
    term_names = ("negative_log_likelihood", "kl_divergence")
    weight: Any = DiagonalGaussian.weight

    def __init__(self, beta=1.0, *, kl_warm_up=0.0, noise="bernoulli") -> None:
        self.beta = beta
        self.kl_warm_up = kl_warm_up
        self.noise = noise

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """The hard bits as −1 and 1, of shape (n_rows, n_components)."""
        return (encoded > TIE).to(encoded.dtype).mul_(2).sub_(1)

    def sample(
        self,
        encoded: Tensor,
        generator: torch.Generator,
        progress: float | Tensor = 1.0,
        module: nn.Module | None = None,
    ) -> Tensor:
        """What is decoded while training: a draw of −1 and 1, or noisy values between."""
        if self.noise != "bernoulli":
            noise = torch.randn(encoded.shape, generator=generator, device=encoded.device, dtype=encoded.dtype)
            return torch.tanh(0.5 * (encoded + self.noise * noise))
        # A training that diverges is known by its loss, which is no number either.
        chance = torch.sigmoid(encoded.detach()).nan_to_num(0.5)
        hard = torch.bernoulli(chance, generator=generator).mul_(2).sub_(1)
        return self.with_gradient(encoded, hard)

    def with_gradient(self, encoded: Tensor, code: Tensor) -> Tensor:
        """Bits whose gradient is that of their mean, tanh(encoded / 2)."""
        soft = torch.tanh(0.5 * encoded)
        return soft + (code - soft.detach())

    def kl_divergence(self, encoded: Tensor) -> Tensor:
        """KL(Bernoulli(p) ‖ Bernoulli(½)) by row and bit, log 2 − H(p), in nats."""
        return torch.sigmoid(encoded) * encoded - functional.softplus(encoded) + math.log(2)

    def terms(self, step: Step) -> dict[str, Tensor]:
        """What is minimised, by name, each of shape (n_rows,)."""
        kl = self.kl_divergence(step.encoded).sum(1)
        return {"negative_log_likelihood": -step.log_likelihood, "kl_divergence": self.weight(step.progress) * kl}


class EncoderNetwork(DenseNetwork):
    """A fully connected encoder and a linear decoder.

    What a bit says of a row then does not depend on the other bits, so that rows that share most
    of them are alike. Parameters are those of `DenseNetwork`.
    """

    def decoder(self, n_in: int, n_out: int, encoder: nn.Module) -> nn.Module:
        """The linear map from `n_in` bits to `n_out` numbers about the row."""
        return Dense((n_in, n_out), self.activation)
