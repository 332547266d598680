"""Penalties of the codes' distribution as a whole: how far it is from the prior, or from independence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skae.model.adversarial import AdversarialLoss
from skae.model.networks import Dense
from skae.model.penalties import Penalty
from skae.model.priors import PRIOR, Prior, as_prior, fixed_prior

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step


class MaximumMeanDiscrepancy(Penalty):
    r"""Codes that are distributed as a prior, by the maximum mean discrepancy of the batch.

    .. math:: E\,k(z, z') + E\,k(\tilde z, \tilde z') - 2 E\,k(z, \tilde z), \quad
        k(a, b) = \frac{C}{C + \|a - b\|^2},\ C = 2 d

    with codes z and draws :math:`\tilde z` of the prior; a batch of one row adds nothing. With
    `AutoencoderTransformer` this is the Wasserstein autoencoder [1]_, with `VAE` InfoVAE [2]_.

    Parameters
    ----------
    prior : str, Prior or callable, default="normal"
        What the codes are to be like.
    weight : float, default=10.0
        1 charges a unit of the discrepancy as much as twice the variance of one entry of a row.

    References
    ----------
    .. [1] Tolstikhin et al., "Wasserstein auto-encoders", ICLR 2018, algorithm 2.
    .. [2] Zhao, Song and Ermon, "InfoVAE", AAAI 2019, equation 6.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, MaximumMeanDiscrepancy
    >>> AutoencoderTransformer(2, init="random", penalties=[MaximumMeanDiscrepancy()])
    AutoencoderTransformer(init='random', n_components=2,
                           penalties=[MaximumMeanDiscrepancy()])
    """

    _parameter_constraints = {**Penalty._parameter_constraints, "prior": PRIOR}

    def __init__(self, prior: Any = "normal", weight: float = 10.0) -> None:
        self.prior = prior
        self.weight = weight

    @property
    def prior_part(self) -> Prior:
        """The prior as a part."""
        return as_prior(self.prior)

    def prepare(self, model: Autoencoder) -> None:
        """Raise ValueError for a prior that does not fit."""
        fixed_prior(self.prior, model.n_components)

    def __call__(self, step: Step) -> Tensor:
        """The share of each row in the unbiased estimate, equation 4 of Gretton et al. 2012."""
        z = step.one_sample
        # Without a generator nothing is drawn: the same draws each time.
        generator = step.generator or torch.Generator(z.device).manual_seed(0)
        drawn = self.prior_part.sample(len(z), step.model, generator).to(z)
        weight = torch.ones_like(z[:, 0]) if step.weight is None else step.weight
        codes, has_others = mean_over_others(inverse_multiquadric(z, z), weight)
        draws, _ = mean_over_others(inverse_multiquadric(drawn, drawn), torch.ones_like(weight))
        # A row that is alone in its batch says nothing of how far codes are from each other.
        return torch.where(has_others, codes + draws - 2 * inverse_multiquadric(z, drawn).mean(1), 0.0)


def mean_over_others(kernel: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each row of a square matrix without its diagonal, by the weights of the columns.

    Returns
    -------
    mean : Tensor of shape (n_rows,)
        Zero where no other column has a weight.
    has_others : Tensor of bool, of shape (n_rows,)
    """
    itself = torch.eye(len(weight), dtype=torch.bool, device=weight.device)
    others = weight.expand(len(weight), -1).masked_fill(itself, 0.0)
    total = others.sum(1)
    has_others = total > 0
    return (kernel * others).sum(1) / torch.where(has_others, total, 1.0), has_others


def shares_of(weight: Tensor) -> Tensor:
    """Weights that sum to one; equal ones where no row of a batch has a weight."""
    return torch.where((weight > 0).any(), weight, 1.0) / torch.where((weight > 0).any(), weight.sum(), len(weight))


def inverse_multiquadric(a: Tensor, b: Tensor) -> Tensor:
    """C / (C + ‖aᵢ − bⱼ‖²) with C = 2d, of shape (len(a), len(b))."""
    c = 2.0 * a.shape[1]
    square = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T
    return c / (c + square.clamp_min(0))


class TotalCorrelation(Penalty):
    r"""Independent components: the total correlation of the codes.

    .. math:: KL(q(z) \,\|\, \textstyle\prod_j q(z_j)), \quad q(z) = E_x\, q(z \mid x)

    Parameters
    ----------
    weight : float, default=5.0
        The total weight of the total correlation is 1 + weight, since the KL term of a `VAE` holds
        it once: β = 6 of [1]_ by default.
    estimator : {"minibatch", "critic"}, default="minibatch"
        "minibatch" takes the posteriors of the batch for all [1]_ and needs a `VAE`; "critic" has a
        network that tells codes from codes whose components were shuffled between rows [2]_.

    References
    ----------
    .. [1] Chen et al., "Isolating sources of disentanglement in variational autoencoders",
       NeurIPS 2018, equation 5.
    .. [2] Kim and Mnih, "Disentangling by factorising", ICML 2018, equation 3.

    Examples
    --------
    >>> from skae import VAE, TotalCorrelation
    >>> VAE(2, penalties=[TotalCorrelation()])
    VAE(n_components=2, penalties=[TotalCorrelation()])
    """

    _parameter_constraints = {
        **Penalty._parameter_constraints,
        "estimator": [StrOptions({"minibatch", "critic"})],
    }

    def __init__(self, weight: float = 5.0, *, estimator: str = "minibatch") -> None:
        self.weight = weight
        self.estimator = estimator

    def prepare(self, model: Autoencoder) -> None:
        """Raise ValueError for an estimator that this code does not allow."""
        if self.estimator == "minibatch" and not hasattr(model.posterior, "log_variance"):
            raise ValueError("TotalCorrelation(estimator='minibatch') needs a VAE; use estimator='critic'.")

    def critic(self, n_features: int, n_components: int) -> nn.Module | None:
        """The network that tells codes from shuffled ones."""
        return Dense((n_components, 128, 128, 1), "silu") if self.estimator == "critic" else None

    def __call__(self, step: Step) -> Tensor:
        """log q(z) − Σ log q(zⱼ) of each row, in nats."""
        z = step.one_sample
        if self.estimator == "critic":
            return step.critic(self)(z)[:, 0]
        mean, log_variance = step.code, step.model.posterior.log_variance(step.encoded)
        # log q(zᵢ | xⱼ) by component, of shape (n_rows, n_rows, n_components).
        difference = (z[:, None] - mean).square() * torch.exp(-log_variance)
        log_q = -0.5 * (difference + log_variance + math.log(2 * math.pi))
        if step.weight is None:
            log_share = torch.full_like(z[:, 0], -math.log(len(z)))
        else:
            log_share = shares_of(step.weight).log()
        joint = torch.logsumexp(log_q.sum(2) + log_share, 1)
        return joint - torch.logsumexp(log_q + log_share[:, None], 1).sum(1)

    def critic_terms(self, step: Step) -> dict[str, Tensor]:
        """The critic's part."""
        z = step.one_sample.detach()
        if step.weight is None:
            index = torch.rand(z.shape, generator=step.generator, device=z.device).argsort(0)
        else:
            index = torch.multinomial(shares_of(step.weight), z.numel(), True, generator=step.generator).view(z.shape)
        return AdversarialLoss("non_saturating").critic(step.critic(self), z, z.gather(0, index), step.generator)
