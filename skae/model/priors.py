"""Priors p(z): what codes are drawn from, and compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skae.base.parameters import Part, at_least, not_negative, positive

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder


class Prior(Part):
    """Base of the priors: `sample` draws codes; one with a density has `log_prob` as well.

    Attributes
    ----------
    n_start_rows : int
        Training rows that `start_from_rows` wants.
    """

    n_start_rows = 0

    def check(self, n_components: int) -> None:
        """Raise ValueError for codes that do not fit."""

    def build(self, model: Autoencoder) -> nn.Module | None:
        """What the prior of a VAE learns, which is mostly nothing; raises ValueError for one without a density."""
        if type(self).log_prob is Prior.log_prob:
            raise ValueError(
                f"{type(self).__name__} has no density, which a VAE's prior needs: use 'normal', 'mixture' or 'vamp' "
                "here, or AdversarialAE, which only draws from its prior."
            )
        return None

    def start_from_rows(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        """Set first values by standardised training rows."""

    def sample(self, n: int, model: Any, generator: torch.Generator) -> Tensor:
        """Draw codes of shape (n, n_components) for a model, in its precision and on its device."""
        raise NotImplementedError

    def log_prob(self, z: Tensor, model: Autoencoder) -> Tensor:
        """log p(z) without the constant −½ log 2π a component, of shape z.shape[:-1]."""
        raise NotImplementedError


class NormalPrior(Prior):
    """The standard normal distribution, N(0, I).

    Examples
    --------
    >>> from skae import AdversarialAE, NormalPrior
    >>> AdversarialAE(2, prior=NormalPrior())
    AdversarialAE(n_components=2, prior=NormalPrior())
    """

    def sample(self, n: int, model: Any, generator: torch.Generator) -> Tensor:
        """Draw codes of shape (n, n_components)."""
        return _normal(n, model, generator)

    def log_prob(self, z: Tensor, model: Autoencoder) -> Tensor:
        """−½ ‖z‖²."""
        return -0.5 * z.square().sum(-1)


class UniformPrior(Prior):
    """Uniform between −high and high in each component.

    Parameters
    ----------
    high : float, default=1.7320508
        √3 by default, for components of unit variance.
    """

    _parameter_constraints = {"high": [positive()]}

    def __init__(self, high: float = 3**0.5) -> None:
        self.high = high

    def sample(self, n: int, model: Any, generator: torch.Generator) -> Tensor:
        """Draw codes of shape (n, n_components)."""
        like = model.reference
        made = torch.rand(n, model.n_components, generator=generator, device=like.device, dtype=like.dtype)
        return (2 * made - 1) * self.high


class MixturePrior(Prior):
    r"""Mixture of normal distributions on a ring, one petal each, in the first two components.

    The petals' centres are at angles 2πk/K and distance `radius` from the origin; a petal has the
    standard deviation `scale` along the radius and `scale · width` across it. Further components
    are standard normal.

    Parameters
    ----------
    n_modes : int, default=10
        K.
    radius : float, default=3.0
    scale : float, default=0.8
    width : float, default=0.3

    References
    ----------
    Makhzani et al., "Adversarial autoencoders", 2015, figure 4.
    """

    _parameter_constraints = {
        "n_modes": [at_least(1)],
        "radius": [positive()],
        "scale": [positive()],
        "width": [positive()],
    }

    def __init__(self, n_modes: int = 10, *, radius: float = 3.0, scale: float = 0.8, width: float = 0.3) -> None:
        self.n_modes = n_modes
        self.radius = radius
        self.scale = scale
        self.width = width

    def check(self, n_components: int) -> None:
        """Raise ValueError for codes without a plane."""
        _check_plane(self, n_components)

    def _modes(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors along and across the radius, each of shape (n_modes, 2)."""
        angle = 2 * math.pi * torch.arange(self.n_modes, device=like.device, dtype=like.dtype) / self.n_modes
        along = torch.stack([angle.cos(), angle.sin()], dim=1)
        return along, torch.stack([-along[:, 1], along[:, 0]], dim=1)

    def sample(self, n: int, model: Any, generator: torch.Generator) -> Tensor:
        """Draw codes of shape (n, n_components)."""
        z = _normal(n, model, generator)
        mode = torch.randint(self.n_modes, (n,), generator=generator, device=z.device)
        along, across = (vectors[mode] for vectors in self._modes(z))
        plane = along * (self.radius + self.scale * z[:, :1]) + across * (self.scale * self.width * z[:, 1:2])
        return torch.cat([plane, z[:, 2:]], dim=1)

    def log_prob(self, z: Tensor, model: Autoencoder) -> Tensor:
        """Logarithm of the mixture's density, without the constant −½ log 2π a component."""
        along, across = self._modes(z)
        plane, rest = z[..., :2], z[..., 2:]
        first = (plane @ along.T - self.radius) / self.scale
        second = plane @ across.T / (self.scale * self.width)
        modes = torch.logsumexp(-0.5 * (first.square() + second.square()), dim=-1)
        constant = math.log(self.n_modes) + 2 * math.log(self.scale) + math.log(self.width)
        return modes - constant - 0.5 * rest.square().sum(-1)


class SwissRollPrior(Prior):
    """A Swiss roll in the first two components, of about unit variance; further ones are standard normal.

    Parameters
    ----------
    noise : float, default=0.05
        Standard deviation of the noise around the spiral.
    """

    _parameter_constraints = {"noise": [not_negative()]}

    def __init__(self, noise: float = 0.05) -> None:
        self.noise = noise

    def check(self, n_components: int) -> None:
        """Raise ValueError for codes without a plane."""
        _check_plane(self, n_components)

    def sample(self, n: int, model: Any, generator: torch.Generator) -> Tensor:
        """Draw codes of shape (n, n_components)."""
        z = _normal(n, model, generator)
        share = torch.rand(n, 1, generator=generator, device=z.device, dtype=z.dtype)
        # By the root, so that the density along the spiral is about even.
        angle = 1.5 * math.pi * (1 + 2 * share.sqrt())
        spiral = angle * torch.cat([angle.cos(), angle.sin()], dim=1) / (1.5 * math.pi * 2.0)
        return torch.cat([spiral + self.noise * z[:, :2], z[:, 2:]], dim=1)


class CallablePrior(Prior):
    """Whatever a function draws.

    Parameters
    ----------
    function : callable
        Takes a number of codes and a `numpy.random.Generator` and returns an array of shape
        (n, n_components).
    """

    _parameter_constraints = {"function": [callable]}

    def __init__(self, function: Callable) -> None:
        self.function = function

    def check(self, n_components: int) -> None:
        """Raise ValueError where two draws do not have the right shape, or are not finite."""
        self._draw(2, n_components, np.random.default_rng(0))

    def _draw(self, n: int, n_components: int, rng: np.random.Generator) -> np.ndarray:
        made = np.asarray(self.function(n, rng), dtype=np.float64)
        if made.shape != (n, n_components):
            raise ValueError(
                f"The prior returned shape {made.shape} for {n} codes of {n_components} components; it must return "
                f"an array of shape ({n}, {n_components})."
            )
        if not np.isfinite(made).all():
            raise ValueError("The prior returned NaN or infinity; it must return finite values.")
        return made

    def sample(self, n: int, model: Any, generator: torch.Generator) -> Tensor:
        """Draw codes of shape (n, n_components)."""
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        return torch.from_numpy(self._draw(n, model.n_components, np.random.default_rng(seed))).to(model.reference)


class VampPrior(Prior):
    r"""The variational mixture of posteriors, :math:`p(z) = \frac1K \sum_k q(z \mid u_k)`.

    The pseudo-inputs u are rows that are learnt; they start as training rows.

    Parameters
    ----------
    n_pseudo_inputs : int, default=500
        K. Fewer are taken where there are fewer training rows.

    References
    ----------
    Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018, equation 9.

    Examples
    --------
    >>> from skae import VAE, VampPrior
    >>> VAE(2, prior=VampPrior(100))
    VAE(n_components=2, prior=VampPrior(n_pseudo_inputs=100))
    """

    _parameter_constraints = {"n_pseudo_inputs": [at_least(1)]}

    def __init__(self, n_pseudo_inputs: int = 500) -> None:
        self.n_pseudo_inputs = n_pseudo_inputs

    @property
    def n_start_rows(self) -> int:  # type: ignore[override]
        """Training rows that `start_from_rows` wants."""
        return self.n_pseudo_inputs

    def build(self, model: Autoencoder) -> nn.Module:
        """The pseudo-inputs, in standardised units."""
        if model.conditioning is not None:
            raise ValueError("VampPrior has no pseudo-inputs for a conditioned encoder: use prior='normal'.")
        return PseudoInputs(self.n_pseudo_inputs, model.n_features)

    def start_from_rows(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        """Let the pseudo-inputs be training rows, again from the first where there are too few."""
        inputs = model.code_module.rows
        with torch.no_grad():
            inputs.copy_(rows[torch.arange(len(inputs)) % len(rows)])

    def _moments(self, model: Autoencoder) -> tuple[Tensor, Tensor]:
        """Means and log-variances of the posteriors of the pseudo-inputs."""
        encoded = model.encode(model.code_module.rows)
        return model.posterior.mean(encoded), model.posterior.log_variance(encoded)

    def sample(self, n: int, model: Any, generator: torch.Generator) -> Tensor:
        """Draw codes of shape (n, n_components)."""
        mean, log_variance = self._moments(model)
        index = torch.randint(len(mean), (n,), generator=generator, device=mean.device)
        noise = torch.randn(n, mean.shape[1], generator=generator, device=mean.device, dtype=mean.dtype)
        return mean[index] + torch.exp(0.5 * log_variance[index]) * noise

    def log_prob(self, z: Tensor, model: Autoencoder) -> Tensor:
        """Logarithm of the mixture's density, without the constant −½ log 2π a component."""
        mean, log_variance = self._moments(model)
        precision = torch.exp(-log_variance)
        # −½ Σ (z − μ)²/σ², by three matrix products.
        linear, square = z @ (mean * precision).T, z.square() @ precision.T
        constant = (mean.square() * precision + log_variance).sum(1)
        return torch.logsumexp(linear - 0.5 * (square + constant), dim=-1) - math.log(len(mean))


class PseudoInputs(nn.Module):
    """Rows that a prior learns, in standardised units."""

    # Pulling them to the mean would make them one.
    no_decay = True

    def __init__(self, n: int, n_features: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(n, n_features))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new rows."""
        with torch.no_grad():
            self.rows.normal_(generator=generator)


def _normal(n: int, model: Any, generator: torch.Generator) -> Tensor:
    like = model.reference
    return torch.randn(n, model.n_components, generator=generator, device=like.device, dtype=like.dtype)


def _check_plane(prior: Prior, n_components: int) -> None:
    if n_components < 2:
        raise ValueError(f"{type(prior).__name__} lies in a plane, but n_components={n_components}: use at least 2.")


PRIORS = {
    "normal": NormalPrior,
    "uniform": UniformPrior,
    "mixture": MixturePrior,
    "swiss_roll": SwissRollPrior,
    "vamp": VampPrior,
}
# What a parameter of this kind may be.
PRIOR = [StrOptions(set(PRIORS)), Prior, callable]


def as_prior(prior: str | Prior | Callable) -> Prior:
    """The part that a string or a function names, or the part itself."""
    if isinstance(prior, str):
        return PRIORS[prior]()
    return prior if isinstance(prior, Prior) else CallablePrior(prior)


def fixed_prior(prior: str | Prior | Callable, n_components: int) -> Prior:
    """The part, checked; raises ValueError for one that does not fit, or that only a VAE can learn."""
    part = as_prior(prior)
    part.check(n_components)
    if type(part).build is not Prior.build:
        raise ValueError(f"{type(part).__name__} is learnt as the prior of a VAE: use a fixed prior here.")
    return part
