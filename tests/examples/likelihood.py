"""A likelihood: absolute error."""

import torch

from skae.model.likelihoods import Likelihood


class Laplace(Likelihood):
    """Absolute error, log p(x | z) = −Σ |xⱼ − rⱼ|/b + log 2b, with one learnt scale b for all columns."""

    def extras(self, n_features, variational, spread):
        """The logarithm of b, in units of the target, and that it is learnt."""
        return {"log_scale": (torch.zeros(1), True)}

    def distribution(self, eta, extras):
        """The distribution of the target given the decoder's output."""
        return torch.distributions.Laplace(eta, extras["log_scale"].exp(), validate_args=False)

    def sample(self, eta, extras, generator):
        """A draw of the target: the difference of two exponential ones."""
        one, other = (torch.empty_like(eta).exponential_(generator=generator) for _ in range(2))
        return eta + extras["log_scale"].exp() * (one - other)
