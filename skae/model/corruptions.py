"""Corruptions C(x̃ | x): what is done to a row before a denoising network sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from skae.base.parameters import Number, Part, positive, range_of, share
from skae.model.scaling import LARGEST, Scaling


class Corrupted:
    """A corrupted batch.

    Attributes
    ----------
    rows : Tensor of shape (n_rows, n_features)
    changed : Tensor of shape (n_rows, n_features) or None
        True where an entry was replaced; None where every entry was disturbed.
    log_level : Tensor of shape (n_rows, 1) or None
        Logarithm of the noise's standard deviation in standardised units.
    """

    __slots__ = ("changed", "log_level", "rows")

    def __init__(self, rows: Tensor, changed: Tensor | None = None, log_level: Tensor | None = None) -> None:
        self.rows, self.changed, self.log_level = rows, changed, log_level

    def select(self, index: Tensor) -> Corrupted:
        """The rows of an index."""
        return Corrupted(*(None if each is None else each[index] for each in (self.rows, self.changed, self.log_level)))

    def replace(self, where: Tensor, other: Corrupted) -> Corrupted:
        """The other's rows where `where`, of shape (n_rows, 1), is true."""
        pairs = ((self.rows, other.rows), (self.changed, other.changed), (self.log_level, other.log_level))
        return Corrupted(*(None if old is None else torch.where(where, new, old) for old, new in pairs))


class Corruption(Part):
    """Base of the corruptions.

    Attributes
    ----------
    replaces : bool
        Whether `changed` says which entries were replaced by values that do not depend on the row.
    """

    replaces = False

    def schedule(self, n_steps: int) -> list[Corruption]:
        """The corruptions of a Markov chain of so many steps."""
        return [self] * n_steps

    def corrupt(self, x: Tensor, scaling: Scaling, generator: torch.Generator) -> Corrupted:
        """Corrupt standardised rows of shape (n_rows, n_features)."""
        raise NotImplementedError


def _by_entry(x: Tensor, scaling: Scaling, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """What `draw(shape)` makes for each entry of the user's table; all columns of a category get the same."""
    n_features, likelihood = x.shape[1], scaling.likelihood
    entry = likelihood.entry_columns(n_features)
    if entry is None:
        return draw(tuple(x.shape))
    return draw((len(x), int(entry[-1]) + 1)).index_select(1, likelihood.entry_columns(n_features, x.device))


def _chosen(x: Tensor, scaling: Scaling, shares: tuple[float, float], generator: torch.Generator) -> Tensor:
    def draw(shape):
        return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)

    low, high = shares
    share = low if low == high else low + (high - low) * draw((len(x), 1))
    return _by_entry(x, scaling, draw) < share


class GaussianNoise(Corruption):
    r"""Additive Gaussian noise, x̃ = x + σ·ε.

    Parameters
    ----------
    scale : float or pair of float, default=0.3
        Standard deviation σ of the noise; of a pair, each row draws its own, log-uniformly.
    relative : bool, default=True
        Whether `scale` is in units of the columns' root-mean-square standard deviation, which fits
        data of any scale, or in the data's own units.

    References
    ----------
    Vincent et al., "Stacked denoising autoencoders", JMLR 11, 2010, section 3.

    Examples
    --------
    >>> from skae import DenoisingAE, GaussianNoise
    >>> DenoisingAE(2, corruption=GaussianNoise((0.05, 2.0)))
    DenoisingAE(corruption=GaussianNoise(scale=(0.05, 2.0)), n_components=2)
    """

    _parameter_constraints = {"scale": [positive(), range_of(positive())], "relative": ["boolean"]}

    def __init__(self, scale: Any = 0.3, *, relative: bool = True) -> None:
        self.scale = scale
        self.relative = relative

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest scale."""
        return (self.scale, self.scale) if np.isscalar(self.scale) else tuple(self.scale)

    def schedule(self, n_steps: int) -> list[Corruption]:
        """The corruptions of a Markov chain: of several scales the largest first and the smallest last."""
        low, high = self.bounds
        scales = np.geomspace(low, high, n_steps)[::-1] if n_steps > 1 else [low] * n_steps
        return [GaussianNoise(float(np.clip(scale, low, high)), relative=self.relative) for scale in scales]

    def log_scales(self, scaling: Scaling) -> tuple[float, float]:
        """Logarithms of the smallest and largest scale in standardised units."""
        unit = 1.0 if self.relative else scaling.unit
        low, high = self.bounds
        return math.log(low / unit), math.log(high / unit)

    def corrupt(self, x: Tensor, scaling: Scaling, generator: torch.Generator) -> Corrupted:
        """Corrupt standardised rows of shape (n_rows, n_features)."""
        low, high = self.log_scales(scaling)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        level = torch.full((len(x), 1), low, device=x.device, dtype=x.dtype)
        if high > low:
            level += (high - low) * torch.rand(level.shape, generator=generator, device=x.device, dtype=x.dtype)
        return Corrupted(x + level.exp() * noise, log_level=level)


class Masking(Corruption):
    """A share of the entries is replaced by one value.

    Parameters
    ----------
    share : float or pair of float, default=0.25
        Probability that an entry is replaced; of a pair, each row draws its own, uniformly.
    fill : float or "mean", default=0.0
        The value, in the data's units, or the column's mean.

    Examples
    --------
    >>> from skae import DenoisingAE, Masking
    >>> DenoisingAE(2, corruption=Masking(0.5, fill="mean"))
    DenoisingAE(corruption=Masking(fill='mean', share=0.5), n_components=2)
    """

    replaces = True

    _parameter_constraints = {
        "share": [share(), range_of(share())],
        "fill": [Number(Real, -LARGEST, LARGEST, closed="both"), StrOptions({"mean"})],
    }

    def __init__(self, share: Any = 0.25, *, fill: float | str = 0.0) -> None:
        self.share = share
        self.fill = fill

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest share."""
        return (self.share, self.share) if np.isscalar(self.share) else tuple(self.share)

    def corrupt(self, x: Tensor, scaling: Scaling, generator: torch.Generator) -> Corrupted:
        """Corrupt standardised rows of shape (n_rows, n_features)."""
        changed = _chosen(x, scaling, self.bounds, generator)
        fill = torch.zeros_like(x[:1])
        if self.fill != "mean":
            value = torch.full_like(fill, float(self.fill))
            fill = scaling.units(x).standardise(scaling.likelihood.network_input(value))
        return Corrupted(torch.where(changed, fill, x), changed)


class SaltAndPepper(Corruption):
    """A share of the entries is set to the column's smallest or largest value, by a fair coin.

    Parameters
    ----------
    share : float, default=0.25
        Probability that an entry is replaced.
    """

    replaces = True

    _parameter_constraints = {"share": [share()]}

    def __init__(self, share: float = 0.25) -> None:
        self.share = share

    def corrupt(self, x: Tensor, scaling: Scaling, generator: torch.Generator) -> Corrupted:
        """Corrupt standardised rows of shape (n_rows, n_features)."""
        entry = scaling.likelihood.entry_columns(x.shape[1])
        if entry is not None and int(entry[-1]) + 1 < len(entry):
            raise ValueError(
                "SaltAndPepper sets entries to a smallest or largest value, which categories do not have: use "
                "Masking or Swap."
            )
        draw = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        units = scaling.units(x)
        extreme = torch.where(draw < self.share / 2, units.standardise(units.low), units.standardise(units.high))
        changed = draw < self.share
        return Corrupted(torch.where(changed, extreme, x), changed)


class Swap(Corruption):
    """A share of the entries is replaced by the same column's value in another row of the batch.

    Parameters
    ----------
    share : float, default=0.15
        Probability that an entry is replaced.
    """

    replaces = True

    _parameter_constraints = {"share": [share()]}

    def __init__(self, share: float = 0.15) -> None:
        self.share = share

    def corrupt(self, x: Tensor, scaling: Scaling, generator: torch.Generator) -> Corrupted:
        """Corrupt standardised rows of shape (n_rows, n_features)."""
        changed = _chosen(x, scaling, (self.share, self.share), generator)

        def draw(shape):
            return torch.randint(len(x), shape, generator=generator, device=x.device)

        other = _by_entry(x, scaling, draw)
        return Corrupted(torch.where(changed, x.gather(0, other), x), changed)


class CallableCorruption(Corruption):
    """A function of rows in the data's units: blur, grayscale, downsample.

    Parameters
    ----------
    function : callable
        Takes and returns an array of shape (n_rows, n_features).
    """

    _parameter_constraints = {"function": [callable]}

    def __init__(self, function: Callable) -> None:
        self.function = function

    def corrupt(self, x: Tensor, scaling: Scaling, generator: torch.Generator) -> Corrupted:
        """Corrupt standardised rows of shape (n_rows, n_features)."""
        given = scaling.from_input(x).cpu().numpy()
        # The function may write into its argument, and return a view or other numbers than floats.
        made = np.array(self.function(given.copy()), dtype=given.dtype)
        if made.shape != tuple(x.shape):
            raise ValueError(
                f"The corruption returned shape {made.shape} for rows of shape {tuple(x.shape)}; it must keep "
                "the shape."
            )
        if not np.isfinite(made).all():
            raise ValueError("The corruption returned NaN or infinity; it must return finite values.")
        rows, _ = scaling.input(torch.from_numpy(made).to(x.device))
        # By the data's units, because the way there and back rounds.
        changed = torch.from_numpy(made != given).to(x.device)
        return Corrupted(torch.where(changed, rows, x), changed)


CORRUPTIONS = {"gaussian": GaussianNoise, "masking": Masking, "salt_and_pepper": SaltAndPepper, "swap": Swap}


def as_corruption(corruption: str | Corruption | Callable | None) -> Corruption | None:
    """The part that a string or a function names, or the part itself."""
    if isinstance(corruption, str):
        return CORRUPTIONS[corruption]()
    if corruption is None or isinstance(corruption, Corruption):
        return corruption
    return CallableCorruption(corruption)
