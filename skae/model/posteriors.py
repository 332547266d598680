"""Posteriors q(z | x): what the encoder's output says of the code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

if TYPE_CHECKING:
    from skae.model.step import Step


class Point(BaseEstimator):
    """The code is the encoder's output: a plain autoencoder."""

    variational = False

    def n_outputs(self, n_components: int) -> int:
        """How many numbers the encoder says about a code."""
        return n_components

    def mean(self, encoded: Tensor) -> Tensor:
        """The code."""
        return encoded

    def sample(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        """The code that is decoded while training."""
        return encoded

    def is_solved_by_pca(self, learnt_scale: bool) -> bool:
        """Whether PCA minimises a linear model's loss: it does, if that is squared error alone."""
        return not learnt_scale

    def terms(self, step: Step) -> dict[str, Tensor]:
        """What is minimised, by name, each of shape (n_rows,)."""
        return {"negative_log_likelihood": -step.log_likelihood}


class DiagonalGaussian(BaseEstimator):
    r"""q(z | x) = N(μ(x), diag σ²(x)), with the standard normal prior.

    One sample minimises −E log p(x | z) + β·KL(q ‖ p), equation 10 of [1]_; several minimise the
    importance-weighted bound, equation 8 of [2]_.

    Parameters
    ----------
    beta : float
        Weight of the KL term [3]_; of the importance-weighted bound, of log p(z) − log q(z | x).
    kl_warm_up : float
        Share of the training over which the weight rises from 0 to `beta`.
    free_bits : float
        Nats of each component's mean KL that cost nothing [4]_.
    n_importance_samples : int
        Samples a row while training.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014.
    .. [2] Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    .. [3] Higgins et al., "beta-VAE", ICLR 2017.
    .. [4] Kingma et al., "Improved variational inference with inverse autoregressive flow", NIPS 2016.
    """

    variational = True

    def __init__(self, beta=1.0, *, kl_warm_up=0.0, free_bits=0.0, n_importance_samples=1):
        self.beta = beta
        self.kl_warm_up = kl_warm_up
        self.free_bits = free_bits
        self.n_importance_samples = n_importance_samples

    def n_outputs(self, n_components: int) -> int:
        """How many numbers the encoder says about a code: a mean and a log-variance each."""
        return 2 * n_components

    def mean(self, encoded: Tensor) -> Tensor:
        """μ, of shape (n_rows, n_components)."""
        return encoded[:, : encoded.shape[1] // 2]

    def log_variance(self, encoded: Tensor) -> Tensor:
        """log σ², bounded so that neither σ nor 1/σ overflows."""
        return encoded[:, encoded.shape[1] // 2 :].clamp(-30.0, 20.0)

    def sample(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        """z = μ + σ·ε, of shape (n_rows, n_components), or (n_samples, n_rows, n_components)."""
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        k = self.n_importance_samples
        shape = mean.shape if k == 1 else (k, *mean.shape)
        noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return torch.addcmul(mean, torch.exp(0.5 * log_variance), noise)

    def kl_divergence(self, encoded: Tensor) -> Tensor:
        """KL(q ‖ N(0, 1)) by row and component, ½(μ² + σ² − log σ² − 1)."""
        log_variance = self.log_variance(encoded)
        return 0.5 * (self.mean(encoded).square() + log_variance.exp() - log_variance - 1)

    def log_ratio(self, encoded: Tensor, sample: Tensor) -> Tensor:
        """log p(z) − log q(z | x), summed over the components."""
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        log_q = -0.5 * ((sample - mean).square() * torch.exp(-log_variance) + log_variance)
        return (-0.5 * sample.square() - log_q).sum(-1)

    def is_solved_by_pca(self, learnt_scale: bool) -> bool:
        """Whether probabilistic PCA maximises a linear model's bound: it does, if nothing bends it."""
        return learnt_scale and (self.beta, self.kl_warm_up, self.free_bits) == (1.0, 0.0, 0.0)

    def weight(self, progress: float | Tensor) -> float | Tensor:
        """β after a share `progress` of the training."""
        if self.kl_warm_up <= 0:
            return self.beta
        share = progress / self.kl_warm_up
        return self.beta * (share.clamp_max(1.0) if isinstance(share, Tensor) else min(1.0, share))

    def terms(self, step: Step) -> dict[str, Tensor]:
        """What is minimised, by name, each of shape (n_rows,)."""
        weight = self.weight(step.progress)
        if step.sample.ndim == 3:
            log_weight = step.log_likelihood + weight * self.log_ratio(step.encoded, step.sample)
            bound = torch.logsumexp(log_weight, dim=0) - math.log(len(log_weight))
            return {"negative_importance_weighted_bound": -bound}
        kl = self.kl_divergence(step.encoded)
        if self.free_bits > 0:
            # The allowance is on the batch mean of a component, as in equation 15 of [4].
            kl = kl * (kl.mean(0, keepdim=True) > self.free_bits) + self.free_bits * (
                kl.mean(0, keepdim=True) <= self.free_bits
            )
        return {"negative_log_likelihood": -step.log_likelihood, "kl_divergence": weight * kl.sum(1)}
