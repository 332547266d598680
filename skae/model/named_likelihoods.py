"""The likelihoods by their names."""

from __future__ import annotations

from skae.model.bounded_gaussian import BoundedGaussian
from skae.model.likelihoods import Bernoulli, Gaussian, Likelihood, Poisson, StudentT
from skae.model.mixed import Mixed
from skae.model.multinomial import Multinomial
from skae.model.negative_binomial import NegativeBinomial

LIKELIHOODS = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "bounded_gaussian": BoundedGaussian,
    "student_t": StudentT,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "multinomial": Multinomial,
    "mixed": Mixed,
}


def as_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """The part that a string names, or the part itself, checked."""
    return LIKELIHOODS[likelihood]() if isinstance(likelihood, str) else likelihood
