"""BoundedGaussian: squared error of a logistic output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from skae.model.likelihoods import BOUNDS, SCALE, Gaussian, LogisticOutput, log_scale_of


class BoundedGaussian(LogisticOutput):
    r"""Normal likelihood around a logistic output: squared error of reconstructions that stay between bounds.

    .. math:: \log p(x \mid z) = -\sum_j \frac{(x_j - r_j)^2}{2\sigma_j^2} + \log\sigma_j + \tfrac12\log 2\pi,
        \quad r = l + (h - l)\,\mathrm{sigm}(W' z + b')

    With a logistic code this is the autoencoder of the textbooks,

    .. math:: h = \mathrm{sigm}(W x + b), \quad \hat x = \mathrm{sigm}(W' h + b'), \quad \min \|x - \hat x\|^2

    which is ``AutoencoderTransformer(n, hidden_layer_sizes=(), code_activation="logistic", init="random",
    likelihood=BoundedGaussian())``, and with tied weights, W' = Wᵀ,
    ``network=DenseNetwork((), tied=True)`` in place of the sizes. Cross-entropy (`Bernoulli`) trains faster where
    values are near the bounds, since its gradient does not vanish there.

    Parameters
    ----------
    bounds : (float, float), default=(0.0, 1.0)
        l and h, in the data's units.
    scale : float, "shared", "columns" or "auto", default="auto"
        σ, as for `Gaussian`.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, BoundedGaussian
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> ae = AutoencoderTransformer(
    ...     16, hidden_layer_sizes=(), code_activation="logistic", init="random",
    ...     likelihood=BoundedGaussian((0, 16)), max_iter=5, random_state=0,
    ... ).fit(X)
    >>> bool((ae.reconstruct(X) <= 16).all())
    True
    """

    _parameter_constraints = {"bounds": [BOUNDS], "scale": SCALE}

    def __init__(self, bounds: Any = (0.0, 1.0), *, scale: float | str = "auto") -> None:
        self.bounds = bounds
        self.scale = scale

    def is_number(self, n_features: int, device: torch.device | str = "cpu") -> Tensor:
        """False for all columns: the decoder's output is on the logistic scale."""
        return torch.zeros(n_features, dtype=torch.bool, device=device)

    def extras(self, n_features: int, variational: bool, spread: float) -> dict[str, tuple[Tensor, bool]]:
        """The logarithm of σ in units of the target."""
        scale = ("shared" if variational else 1.0) if self.scale == "auto" else self.scale
        return log_scale_of(scale, 0.25, n_features, float(self.bounds[1] - self.bounds[0]))

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of the target given the decoder's output."""
        return Normal(self.mean(eta), extras["log_scale"].exp(), validate_args=False)

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Log-density of each entry of the target, in the target's units."""
        return Gaussian().log_prob(self.mean(eta), target, extras)

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target."""
        return Gaussian().sample(self.mean(eta), extras, generator)
