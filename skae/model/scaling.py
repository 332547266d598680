"""Between the data's units and the network's: constants that are known before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from skae.model.likelihoods import Likelihood


# What all classes bear: numbers up to the first, and columns of which at least one varies by the second.
LARGEST, SMALLEST = 1e30, 1e-30


class Columns(NamedTuple):
    """What is known of the columns before training; each a float64 tensor of shape (n_features,).

    Mean and variance are those of the network's input (the logarithm of counts, say), the bounds
    those of the data.
    """

    mean: Tensor
    variance: Tensor
    low: Tensor
    high: Tensor

    @property
    def spread(self) -> Tensor:
        """Root-mean-square standard deviation over the columns, one for constant data."""
        spread = self.variance.mean().sqrt()
        return spread if spread > 0 else torch.ones_like(spread)


class Units(NamedTuple):
    """The constants of `Scaling` in one precision, on one device."""

    mean: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    target_location: Tensor
    target_scale: Tensor

    def standardise(self, values: Tensor | float) -> Tensor:
        """Values on the network's scale as standardised values."""
        return (values - self.mean) / self.spread


class Scaling:
    """Turns raw rows into what the network sees and what the likelihood scores, and back.

    One scale serves all columns, so that squared error in standardised units is squared error in
    the data's units times a constant, as PCA minimises it; but a likelihood may ask for others
    (`Mixed`, whose columns have no common unit).

    Parameters
    ----------
    likelihood : Likelihood
    columns : Columns

    Attributes
    ----------
    unit : float
        Of a standardised entry in the data's units; 1 where the columns have no common one.
    relative_variance : Tensor of shape (n_features,)
        Variance of the standardised columns.
    """

    def __init__(self, likelihood: Likelihood, columns: Columns) -> None:
        self.likelihood, self.columns = likelihood, columns
        location, scale = likelihood.target_affine(columns)
        spread = likelihood.input_scale(columns)
        self.unit = float(spread) if spread.ndim == 0 else 1.0
        self.relative_variance = columns.variance / spread**2
        self.same_target = bool(torch.equal(location, columns.mean) and (scale == spread).all())
        self._constants = Units(
            columns.mean,
            spread,
            likelihood.network_input(columns.low),
            likelihood.network_input(columns.high),
            location,
            scale,
        )
        self._cache: dict[tuple[torch.dtype, torch.device], Units] = {}

    def units(self, like: Tensor) -> Units:
        """The constants in the precision and on the device of `like`."""
        key = (like.dtype, like.device)
        if key not in self._cache:
            # Tensors of inference mode could not take part in training.
            with torch.inference_mode(False):
                self._cache[key] = Units(*(c.to(device=like.device, dtype=like.dtype) for c in self._constants))
        return self._cache[key]

    def input(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Standardised rows with zeros for unobserved entries, and which were observed (or None)."""
        units = self.units(x)
        z = (self.likelihood.network_input(x) - units.mean).div_(units.spread)
        if not torch.isnan(z.sum()):
            return z, None
        missing = torch.isnan(z)
        return z.masked_fill_(missing, 0), (~missing).to(z.dtype)

    def target(self, x: Tensor) -> Tensor:
        """Rows in the units of the likelihood; unobserved entries hold zero."""
        units = self.units(x)
        return torch.nan_to_num((x - units.target_location) / units.target_scale)

    def from_target(self, target: Tensor) -> Tensor:
        """Rows in the data's units."""
        units = self.units(target)
        return torch.addcmul(units.target_location, target, units.target_scale)

    def from_input(self, x: Tensor) -> Tensor:
        """Standardised rows in the data's units."""
        units = self.units(x)
        return self.likelihood.from_network_input(x * units.spread + units.mean)

    def log_jacobian(self) -> Tensor:
        """What the change of units adds to the log-density of each column, in float64."""
        scale = self._constants.target_scale
        return -scale.log() if self.likelihood.continuous else torch.zeros_like(scale)
