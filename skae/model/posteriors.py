"""Posteriors q(z | x): what the encoder's output says of the code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from skae.base.parameters import Part
from skae.model.networks import ACTIVATIONS
from skae.model.priors import NormalPrior, Prior, as_prior

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step

# Of the encoder's output; not in place, because penalties may read what was before.
CODE_ACTIVATIONS = {**ACTIVATIONS, "relu": torch.relu}


class Posterior(Part):
    """Base of the posteriors: what the encoder's output says of the code, and the terms of the loss.

    A posterior that learns numbers of its own beside the networks returns a module that holds them
    from `build`; its other methods are handed that module.

    Attributes
    ----------
    variational : bool
        Whether the encoder's output is a mean and a log-variance of each component.
    is_linear : bool
        Whether the code is linear in the encoder's output, so that it may start as PCA's.
    is_random : bool
        Whether `sample` draws.
    whiten : bool
        Whether a start at PCA has components of unit variance.
    compares_rows : bool
        Whether what is decoded of a row depends on the batch's other rows: `sample` is then handed
        their weights.
    is_choice : bool
        Whether the code is a choice, which a rounding error may turn: bits, the nearest of vectors, the largest units.
    n_start_rows : int
        Training rows that `start_from_rows` wants.
    share_kept : float
        Share of the encoder's output's variance that the decoder receives.
    in_data_units : bool
        Whether the code is in the data's units: multiplied by their spread where it leaves the model.
    step_class : type or None
        The kind of `Step` that knows more than all steps do.
    term_names : tuple of str
        The names that `terms` may use, which no penalty gets.
    """

    variational, is_linear, is_random, whiten, compares_rows = False, False, False, False, False
    is_choice = False
    n_start_rows = 0
    share_kept = 1.0
    in_data_units = False
    step_class: type[Step] | None = None
    term_names: tuple[str, ...] = ("negative_log_likelihood",)

    def build(self, model: Autoencoder) -> nn.Module | None:
        """What is learnt beside the networks; most posteriors have nothing."""
        return None

    def start_from_rows(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        """Set first values by standardised training rows of shape (n_start_rows or fewer, n_features)."""

    def n_outputs(self, n_components: int) -> int:
        """How many numbers the encoder says about a code."""
        return n_components

    def n_decoded(self, n_components: int) -> int:
        """How many numbers the decoder reads of a code."""
        return n_components

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """The code."""
        raise NotImplementedError

    def sample(
        self,
        encoded: Tensor,
        generator: torch.Generator,
        progress: float | Tensor = 1.0,
        module: nn.Module | None = None,
    ) -> Tensor:
        """The code that is decoded while training."""
        return self.mean(encoded, module)

    def with_gradient(self, encoded: Tensor, code: Tensor) -> Tensor:
        """The code as what is trained on top of it sees it; of a discrete one the gradient goes straight through."""
        return code

    def is_solved_by_pca(self, learnt_scale: bool) -> bool:
        """Whether PCA minimises a linear model's loss."""
        return False

    def terms(self, step: Step) -> dict[str, Tensor]:
        """What is minimised, by name, each of shape (n_rows,)."""
        return {"negative_log_likelihood": -step.log_likelihood}


class Point(Posterior):
    """The code is the encoder's output, or a bent one: a plain autoencoder.

    Parameters
    ----------
    activation : {"identity", "relu", "logistic", ...}
        What bends the encoder's output to the code: one of `ACTIVATIONS`.
    start : float
        Mean of a logistic code before training, in (0, 1).
    whiten : bool
        Whether a start at PCA has components of unit variance, as `PCA(whiten=True)` has.
    """

    def __init__(self, activation="identity", *, start=0.5, whiten=False) -> None:
        self.activation = activation
        self.start = start
        self.whiten = whiten

    @property
    def is_linear(self) -> bool:  # type: ignore[override]
        """Whether the code is linear in the encoder's output."""
        return self.activation == "identity"

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """The code."""
        if self.activation == "logistic" and self.start != 0.5:
            encoded = encoded + math.log(self.start / (1 - self.start))
        return CODE_ACTIVATIONS[self.activation](encoded)

    def is_solved_by_pca(self, learnt_scale: bool) -> bool:
        """Whether PCA minimises a linear model's loss: it does, if that is squared error alone."""
        return not learnt_scale and self.is_linear


class DiagonalGaussian(Posterior):
    r"""q(z | x) = N(μ(x), diag σ²(x)), and the prior p(z).

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
    prior : str, Prior or callable
        p(z). The KL term of another one than "normal" is estimated by the sample that is decoded.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014.
    .. [2] Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    .. [3] Higgins et al., "beta-VAE", ICLR 2017.
    .. [4] Kingma et al., "Improved variational inference with inverse autoregressive flow", NIPS 2016.
    """

    variational, is_linear, is_random = True, True, True
    term_names = ("negative_log_likelihood", "kl_divergence", "negative_importance_weighted_bound")

    def __init__(self, beta=1.0, *, kl_warm_up=0.0, free_bits=0.0, n_importance_samples=1, prior="normal") -> None:
        self.beta = beta
        self.kl_warm_up = kl_warm_up
        self.free_bits = free_bits
        self.n_importance_samples = n_importance_samples
        self.prior = prior

    @property
    def prior_part(self) -> Prior:
        """The prior as a part."""
        return as_prior(self.prior)

    @property
    def has_normal_prior(self) -> bool:
        """Whether the KL term has its closed form."""
        return type(self.prior_part) is NormalPrior

    @property
    def n_start_rows(self) -> int:  # type: ignore[override]
        """Training rows that the prior wants to start from."""
        return self.prior_part.n_start_rows

    def build(self, model: Autoencoder) -> nn.Module | None:
        """What the prior learns."""
        self.prior_part.check(model.n_components)
        if self.free_bits > 0 and not self.has_normal_prior:
            raise ValueError(f"free_bits={self.free_bits!r} needs prior='normal', whose KL term has components.")
        return self.prior_part.build(model)

    def start_from_rows(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        """Let the prior set its first values."""
        self.prior_part.start_from_rows(model, rows, generator)

    def n_outputs(self, n_components: int) -> int:
        """How many numbers the encoder says about a code: a mean and a log-variance each."""
        return 2 * n_components

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """μ, of shape (n_rows, n_components)."""
        return encoded[:, : encoded.shape[1] // 2]

    def log_variance(self, encoded: Tensor) -> Tensor:
        """log σ², bounded so that neither σ nor 1/σ overflows."""
        return encoded[:, encoded.shape[1] // 2 :].clamp(-30.0, 20.0)

    def sample(
        self,
        encoded: Tensor,
        generator: torch.Generator,
        progress: float | Tensor = 1.0,
        module: nn.Module | None = None,
    ) -> Tensor:
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

    def log_ratio(self, encoded: Tensor, sample: Tensor, model: Autoencoder) -> Tensor:
        """log p(z) − log q(z | x), summed over the components."""
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        log_q = -0.5 * ((sample - mean).square() * torch.exp(-log_variance) + log_variance)
        return self.prior_part.log_prob(sample, model) - log_q.sum(-1)

    def is_solved_by_pca(self, learnt_scale: bool) -> bool:
        """Whether probabilistic PCA maximises a linear model's bound: it does, if nothing bends it."""
        return (
            learnt_scale and self.has_normal_prior and (self.beta, self.kl_warm_up, self.free_bits) == (1.0, 0.0, 0.0)
        )

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
            log_weight = step.log_likelihood + weight * self.log_ratio(step.encoded, step.sample, step.model)
            bound = torch.logsumexp(log_weight, dim=0) - math.log(len(log_weight))
            return {"negative_importance_weighted_bound": -bound}
        if not self.has_normal_prior:
            kl = -self.log_ratio(step.encoded, step.sample, step.model)
            return {"negative_log_likelihood": -step.log_likelihood, "kl_divergence": weight * kl}
        kl = self.kl_divergence(step.encoded)
        if self.free_bits > 0:
            # The allowance is on the batch mean of a component, as in equation 15 of [4].
            mean = step.batch_mean(kl)
            kl = kl * (mean > self.free_bits) + self.free_bits * (mean <= self.free_bits)
        return {"negative_log_likelihood": -step.log_likelihood, "kl_divergence": weight * kl.sum(1)}
