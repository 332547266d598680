"""Likelihoods p(x | z): how far a row is from what the decoder says of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions import Poisson as PoissonDistribution
from torch.distributions import StudentT as StudentTDistribution
from torch.nn import functional

from skae.base.parameters import Number, Part, any_number, positive, range_of
from skae.model.scaling import LARGEST, SMALLEST, Columns

# How far from certain an expectation is kept where its link would be infinite.
UNSURE = 0.01


class Likelihood(Part):
    """Base of the likelihoods: hyperparameters only; what is learnt is handed in as `extras`.

    A likelihood scores a target, the row mapped by `target_affine`, given the decoder's output
    `eta`, elementwise. Subclasses define `distribution`, and more where the defaults do not fit.

    Attributes
    ----------
    continuous : bool
        Whether it is a density.
    compares_columns, compares_entries : bool
        Whether what is said of a column depends on `eta` in others, and in those of other entries of
        the user's table.
    """

    continuous = True
    compares_columns, compares_entries = False, False

    def check_rows(self, columns: Columns) -> None:
        """Raise ValueError for values that the likelihood cannot score."""

    def for_groups(self, groups: Iterable) -> Likelihood:
        """The likelihood of tables with these groups of columns, each with `kind`, `start` and `stop`."""
        return self

    def network_input(self, x: Tensor) -> Tensor:
        """The scale on which the network sees a row, before it is standardised."""
        return x

    def from_network_input(self, x: Tensor) -> Tensor:
        """The inverse of `network_input`."""
        return x

    def input_scale(self, columns: Columns) -> Tensor:
        """By what the network's input is divided: one number for all columns, or one a column."""
        return columns.spread

    def entry_columns(self, n_features: int, device: torch.device | str = "cpu") -> Tensor | None:
        """Which entry of the user's table each column belongs to; None where each is an entry of its own."""
        return None

    def target_affine(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """Location and scale of the map from the data's units to the target's."""
        return columns.mean, columns.spread.expand_as(columns.mean)

    def extras(self, n_features: int, variational: bool, spread: float) -> dict[str, tuple[Tensor, bool]]:
        """Numbers beside the decoder's output, by name: the first value, and whether it is learnt."""
        return {}

    def keeps_units(self, n_features: int) -> Tensor:
        """Which columns must come in the data's own units, as counts and bits do, of shape (n_features,)."""
        return torch.zeros(n_features, dtype=torch.bool)

    def is_number(self, n_features: int, device: torch.device | str = "cpu") -> Tensor:
        """Whether the decoder's output of a column is where its distribution lies, of shape (n_features,)."""
        return torch.full((n_features,), self.continuous, device=device)

    def inverse_link(self, mean: Tensor) -> Tensor:
        """The decoder's output for an expected target, which is bounded where the link is."""
        return mean

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of the target given the decoder's output."""
        raise NotImplementedError

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Log-density of each entry of the target, in the target's units."""
        return self.distribution(eta, extras).log_prob(target)

    def log_constant(self, extras: dict[str, Tensor]) -> Tensor | float:
        """What of each entry's log-density is the same for all decoders where nothing of `extras` is learnt."""
        return 0.0

    def log_kernel(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """`log_prob` without `log_constant`, which may be so much larger that the rest is lost beside it."""
        return self.log_prob(eta, target, extras)

    def mean(self, eta: Tensor) -> Tensor:
        """Expected target."""
        return eta

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target, by a private generator, which torch.distributions does not take."""
        raise NotImplementedError

    # Of rows with gaps: entries do not depend on each other given `eta`, unless a likelihood says how.

    def of_observed(self, eta: Tensor, observed: Tensor) -> Tensor:
        """The decoder's output for the observed entries alone, as `log_prob` reads it."""
        return eta

    def mean_given(self, eta: Tensor, target: Tensor, observed: Tensor) -> Tensor:
        """Expected target of rows of which the observed entries are known, where they are not."""
        return self.mean(eta)

    def sample_given(
        self, eta: Tensor, extras: dict[str, Tensor], target: Tensor, observed: Tensor, generator: torch.Generator
    ) -> Tensor:
        """A draw of the target of rows of which the observed entries are known, where they are not."""
        return self.sample(eta, extras, generator)

    def sample_like(
        self, eta: Tensor, other_eta: Tensor, other: Tensor, extras: dict[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """A draw of the target that deviates from `eta` as `other`, an observed target, does from `other_eta`.

        Where both parameters are the same it is `other`. Without a rule for the likelihood it is an independent draw.
        """
        if self.continuous:
            return self.mean(eta) + (other - self.mean(other_eta))
        return self.sample(eta, extras, generator)

    def linear_start(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """Bias and slope, by column, that turn a standardised reconstruction into a first `eta`."""
        location, scale = self.target_affine(columns)
        return (columns.mean - location) / scale, columns.spread / scale


def log_scale_of(scale, first: float, n_features: int, spread: float) -> dict[str, tuple[Tensor, bool]]:
    """The `extras` of a likelihood whose parameter is this `scale`: learnt from `first` on, or fixed."""
    if isinstance(scale, str):
        size = 1 if scale == "shared" else n_features
        return {"log_scale": (torch.full((size,), math.log(first)), True)}
    return {"log_scale": (torch.full((1,), math.log(scale / spread)), False)}


# What parameters of these kinds may be.
BOUNDS = range_of(any_number(), "<")
SCALE = [Number(Real, SMALLEST, LARGEST, closed="both"), StrOptions({"auto", "shared", "columns"})]


class Gaussian(Likelihood):
    r"""Normal likelihood: squared error, up to scale and constant.

    .. math:: \log p(x \mid z) = -\sum_j \frac{(x_j - r_j)^2}{2\sigma_j^2} + \log\sigma_j + \tfrac12\log 2\pi

    Parameters
    ----------
    scale : float, "shared", "columns" or "auto", default="auto"
        Standard deviation σ in the data's units, or whether to learn one for all columns or one a
        column. "auto" learns a shared one where the code is random (`VAE`: a fixed one would set β
        by the units of the data) and takes 1 where it is a point, which is squared error. Learnt
        beside a point code, a scale shrinks without end where the rows can be rebuilt exactly.

    Examples
    --------
    >>> from skae import VAE, Gaussian
    >>> VAE(2, likelihood=Gaussian(scale="columns"))
    VAE(likelihood=Gaussian(scale='columns'), n_components=2)
    """

    _parameter_constraints = {"scale": SCALE}

    def __init__(self, scale: float | str = "auto") -> None:
        self.scale = scale

    def extras(self, n_features: int, variational: bool, spread: float) -> dict[str, tuple[Tensor, bool]]:
        """The logarithm of σ in units of the target."""
        scale = self.scale
        if scale == "auto":
            scale = "shared" if variational else 1.0
        return log_scale_of(scale, 1.0, n_features, spread)

    def log_constant(self, extras: dict[str, Tensor]) -> Tensor:
        """The logarithm of what makes the density's integral one."""
        return -extras["log_scale"] - 0.5 * math.log(2 * math.pi)

    def log_kernel(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Minus half the squared error, in units of the variance."""
        return -0.5 * (target - eta).square() * torch.exp(-2 * extras["log_scale"])

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Log-density of each entry of the target, in the target's units."""
        log_scale = extras["log_scale"]
        constant = -log_scale - 0.5 * math.log(2 * math.pi)
        return torch.addcmul(constant, (target - eta).square(), torch.exp(-2 * log_scale), value=-0.5)

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of the target given the decoder's output."""
        return torch.distributions.Normal(eta, extras["log_scale"].exp(), validate_args=False)

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target."""
        noise = torch.randn(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype)
        return eta + extras["log_scale"].exp() * noise


class StudentT(Likelihood):
    """Student's t likelihood: like `Gaussian`, and a few wild entries do not rule the fit.

    Parameters
    ----------
    df : float, default=4.0
        Degrees of freedom; small ones have heavy tails.
    scale : float, "shared", "columns" or "auto", default="auto"
        Scale in the data's units, or whether to learn one for all columns ("shared", which "auto"
        means here) or one a column.

    Examples
    --------
    >>> from skae import VAE, StudentT
    >>> VAE(2, likelihood=StudentT(df=3))
    VAE(likelihood=StudentT(df=3), n_components=2)
    """

    _parameter_constraints = {"df": [positive()], "scale": SCALE}

    def __init__(self, df: float = 4.0, *, scale: float | str = "auto") -> None:
        self.df = df
        self.scale = scale

    def extras(self, n_features: int, variational: bool, spread: float) -> dict[str, tuple[Tensor, bool]]:
        """The logarithm of the scale in units of the target."""
        return log_scale_of("shared" if self.scale == "auto" else self.scale, 0.5, n_features, spread)

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of the target given the decoder's output."""
        return StudentTDistribution(float(self.df), eta, extras["log_scale"].exp(), validate_args=False)

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target: a normal one over the root of a scaled chi-squared one."""
        noise = torch.randn(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype)
        half = torch.full_like(eta, 0.5 * float(self.df))
        chi2 = 2 * torch._standard_gamma(half, generator=generator)
        return eta + extras["log_scale"].exp() * noise * torch.sqrt(float(self.df) / chi2)


class LogisticOutput(Likelihood):
    """Base of the likelihoods whose mean is a logistic function of the decoder's output, between two bounds.

    The target is the row mapped from `bounds`, a pair or "auto", to [0, 1].
    """

    def keeps_units(self, n_features: int) -> Tensor:
        """All, where the bounds are numbers."""
        return torch.full((n_features,), not isinstance(self.bounds, str))

    def check_rows(self, columns: Columns) -> None:
        """Raise ValueError for values outside the bounds."""
        if isinstance(self.bounds, str):
            return
        low, high = self.bounds
        smallest, largest = float(columns.low.min()), float(columns.high.max())
        if smallest < low or largest > high:
            value, column = (
                (smallest, int(columns.low.argmin())) if smallest < low else (largest, int(columns.high.argmax()))
            )
            raise ValueError(
                f"The {type(self).__name__} likelihood takes values in [{low:g}, {high:g}], but column {column} holds "
                f"{value:g}. Negative values in data or values above the bound: scale the columns "
                "(MinMaxScaler(clip=True)), "
                "use bounds='auto', as in likelihood=Bernoulli(bounds='auto'), or choose likelihood='gaussian'."
            )

    def target_affine(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """Location and scale of the map from the data's units to the target's."""
        low, high = columns.low, columns.high
        if not isinstance(self.bounds, str):
            low, high = (torch.full_like(columns.mean, bound) for bound in self.bounds)
        elif low.min() >= 0 and high.max() <= 1:
            low, high = torch.zeros_like(low), torch.ones_like(high)
        width = high - low
        return low, torch.where(width > 0, width, torch.ones_like(width))

    def mean(self, eta: Tensor) -> Tensor:
        """Expected target, between 0 and 1."""
        return torch.sigmoid(eta)

    def inverse_link(self, mean: Tensor) -> Tensor:
        """Log-odds, of an expectation that is not quite 0 or 1."""
        return torch.logit(mean, eps=UNSURE)

    def linear_start(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """The logistic function's tangent at the mean."""
        mean, spread = super().linear_start(columns)
        mean = mean.clamp(0.02, 0.98)
        return torch.logit(mean), spread / (mean * (1 - mean))


class Bernoulli(LogisticOutput):
    r"""Bernoulli likelihood with a logistic output: binary cross-entropy.

    .. math:: \log p(x \mid z) = \sum_j x_j \log r_j + (1 - x_j) \log(1 - r_j)

    Values between 0 and 1 count as probabilities of a one.

    Parameters
    ----------
    bounds : pair of float or "auto", default=(0.0, 1.0)
        The values that count as zero and one. "auto" takes (0, 1) for data within it, and each
        column's smallest and largest training value otherwise; later values beyond are clipped.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, Bernoulli
    >>> AutoencoderTransformer(2, likelihood=Bernoulli(bounds=(0, 16)))
    AutoencoderTransformer(likelihood=Bernoulli(bounds=(0, 16)), n_components=2)
    """

    continuous = False

    _parameter_constraints = {"bounds": [StrOptions({"auto"}), BOUNDS]}

    def __init__(self, bounds: Any = (0.0, 1.0)) -> None:
        self.bounds = bounds

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of the target given the decoder's output."""
        return torch.distributions.Bernoulli(logits=eta, validate_args=False)

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target: zero or one."""
        return torch.bernoulli(self.mean(eta), generator=generator)

    def sample_like(
        self, eta: Tensor, other_eta: Tensor, other: Tensor, extras: dict[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """A coin thrown by the uniform number that would have thrown `other`."""
        one, other_one = self.mean(eta), self.mean(other_eta)
        bit = torch.bernoulli(other.clamp(0, 1), generator=generator) > 0
        uniform = torch.rand(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype)
        uniform = torch.where(bit, uniform * other_one, other_one + uniform * (1 - other_one))
        return (uniform < one).to(eta.dtype)

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Log-probability of each entry of the target; entries beyond the bounds are clipped."""
        return target.clamp(0, 1) * eta - functional.softplus(eta)

    def slope(self, eta: Tensor, target: Tensor) -> Tensor:
        """Derivative of minus the log-probability with respect to the decoder's output."""
        return torch.sigmoid(eta) - target.clamp(0, 1)


class CountLikelihood(Likelihood):
    """Base of the likelihoods of counts, which the network sees as log(1 + x); the link is the logarithm."""

    continuous = False

    def keeps_units(self, n_features: int) -> Tensor:
        """All."""
        return torch.ones(n_features, dtype=torch.bool)

    def check_rows(self, columns: Columns) -> None:
        """Raise ValueError for negative values."""
        if columns.low.min() < 0:
            raise ValueError(
                f"Negative values in data: the {type(self).__name__} likelihood takes counts or shares, but column "
                f"{int(columns.low.argmin())} holds {float(columns.low.min()):g}. Pass the counts before any "
                "scaling, or choose likelihood='gaussian'."
            )

    def network_input(self, x: Tensor) -> Tensor:
        """The logarithm of one plus the count."""
        return torch.log1p(x.clamp_min(0))

    def from_network_input(self, x: Tensor) -> Tensor:
        """The count of which one plus it is the exponential."""
        return torch.expm1(x)

    def sample_like(
        self, eta: Tensor, other_eta: Tensor, other: Tensor, extras: dict[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """A count whose deviation is that of `other` on the scale of log(1 + x), rounded at random to keep the mean."""
        ratio = (1 + self.mean(eta)) / (1 + self.mean(other_eta))
        uniform = torch.rand(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype)
        return torch.floor(((1 + other) * ratio - 1).clamp_min(0) + uniform)

    def target_affine(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """Counts are scored as they are."""
        return torch.zeros_like(columns.mean), torch.ones_like(columns.mean)

    def mean(self, eta: Tensor) -> Tensor:
        """Expected count; the exponent is bounded, so that a wild step cannot overflow."""
        return torch.exp(eta.clamp_max(30.0))

    def inverse_link(self, mean: Tensor) -> Tensor:
        """The logarithm, of a count that is not quite zero."""
        return torch.log(mean.clamp_min(UNSURE))

    def linear_start(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """The logarithm of the typical count, with slopes on the logarithmic scale of the input."""
        return torch.log(torch.expm1(columns.mean).clamp_min(1e-3)), columns.spread.expand_as(columns.mean)


class Poisson(CountLikelihood):
    r"""Poisson likelihood of counts with a logarithmic link; the network sees log(1 + x).

    .. math:: \log p(x \mid z) = \sum_j x_j \log r_j - r_j - \log x_j!

    Examples
    --------
    >>> from skae import VAE, Poisson
    >>> VAE(2, likelihood=Poisson())
    VAE(likelihood=Poisson(), n_components=2)
    """

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of the target given the decoder's output."""
        return PoissonDistribution(self.mean(eta), validate_args=False)

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target: a count."""
        return torch.poisson(self.mean(eta), generator=generator)

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Log-probability of each entry of the target."""
        return target * eta - self.mean(eta) - torch.lgamma(target + 1)

    def slope(self, eta: Tensor, target: Tensor) -> Tensor:
        """Derivative of minus the log-probability with respect to the decoder's output."""
        # Bounded means must be pulled back, so the slope does not vanish beyond the bound.
        return self.mean(eta) - target
