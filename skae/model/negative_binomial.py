"""The negative binomial likelihood of counts that vary more than Poisson's."""

from __future__ import annotations

import math

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions import NegativeBinomial as NegativeBinomialDistribution
from torch.nn import functional

from skae.base.parameters import positive
from skae.model.likelihoods import CountLikelihood

# First value of θ, and the largest, from which on the distribution is Poisson's but for rounding.
FIRST, LARGEST = 2.0, 1000.0


class NegativeBinomial(CountLikelihood):
    r"""Negative binomial likelihood of counts with a logarithmic link; the network sees log(1 + x).

    .. math:: \log p(x \mid z) = \sum_j \log\frac{\Gamma(x_j + \theta_j)}{\Gamma(\theta_j)\, x_j!}
        + \theta_j \log\frac{\theta_j}{\theta_j + r_j} + x_j \log\frac{r_j}{\theta_j + r_j}

    The mean is r and the variance r + r²/θ, which a Poisson likelihood has for an infinite θ.

    Parameters
    ----------
    dispersion : float, "shared" or "columns", default="columns"
        θ, or whether to learn one for all columns or one a column; at most 1000 where it is learnt.

    References
    ----------
    Lopez, Regier, Cole, Jordan and Yosef, "Deep generative modeling for single-cell transcriptomics", Nature
    Methods 15, 2018.

    Examples
    --------
    >>> from skae import VAE, NegativeBinomial
    >>> VAE(2, likelihood=NegativeBinomial())
    VAE(likelihood=NegativeBinomial(), n_components=2)
    """

    _parameter_constraints = {"dispersion": [positive(), StrOptions({"shared", "columns"})]}

    def __init__(self, dispersion: float | str = "columns") -> None:
        self.dispersion = dispersion

    def extras(self, n_features: int, variational: bool, spread: float) -> dict[str, tuple[Tensor, bool]]:
        """The logarithm of θ."""
        learnt = isinstance(self.dispersion, str)
        size = n_features if self.dispersion == "columns" else 1
        return {"log_dispersion": (torch.full((size,), math.log(FIRST if learnt else float(self.dispersion))), learnt)}

    def _log_dispersion(self, extras: dict[str, Tensor]) -> Tensor:
        learnt = isinstance(self.dispersion, str)
        return extras["log_dispersion"].clamp_max(math.log(LARGEST)) if learnt else extras["log_dispersion"]

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of the target given the decoder's output."""
        log_dispersion = self._log_dispersion(extras)
        logits = self.mean(eta).log() - log_dispersion
        return NegativeBinomialDistribution(log_dispersion.exp(), logits=logits, validate_args=False)

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target: a Poisson count whose rate is a gamma variable."""
        dispersion = self._log_dispersion(extras).exp().expand_as(eta)
        rate = torch._standard_gamma(dispersion, generator=generator) * self.mean(eta) / dispersion
        return torch.poisson(rate, generator=generator)

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Log-probability of each entry of the target."""
        log_dispersion = self._log_dispersion(extras)
        dispersion = log_dispersion.exp()
        ratio = eta.clamp_max(30.0) - log_dispersion
        coefficient = torch.lgamma(target + dispersion) - torch.lgamma(dispersion) - torch.lgamma(target + 1)
        return coefficient + target * ratio - (target + dispersion) * functional.softplus(ratio)
