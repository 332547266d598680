"""Monotone maps that bring columns of skewed or heavy-tailed numbers near to a normal distribution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# By how much more likely, in nats a value, a normal distribution has to be after the map, and the values that tell.
LEAST_GAIN, MIN_VALUES = 0.15, 40
# Distances of the logarithm's pole from the lowest value, in units of the median's distance, and widths of the inverse
# hyperbolic sine's linear part, in quartile ranges.
POLES, WIDTHS = (0.03, 0.1, 0.3, 1.0, 3.0), (0.3, 1.0)


class LogShape(NamedTuple):
    """log(s x − pole) from the lowest value on, and its tangent below; s = −1 where the tail is a lower one."""

    sign: float
    start: float  # The lowest s x.
    distance: float  # Of the pole from there.

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Of values, infinite ones too."""
        beyond = (self.sign * x - self.start) / self.distance
        return self.sign * np.where(beyond > 0, np.log1p(np.maximum(beyond, 0)), beyond)

    def backward(self, t: np.ndarray) -> np.ndarray:
        """The inverse."""
        t = self.sign * t
        with np.errstate(over="ignore"):
            beyond = np.where(t > 0, np.expm1(np.maximum(t, 0)), t)
        return self.sign * (self.start + self.distance * beyond)

    def slope(self, x: np.ndarray) -> np.ndarray:
        """The derivative of `forward`."""
        return 1 / (self.distance * (1 + np.maximum((self.sign * x - self.start) / self.distance, 0)))


class AsinhShape(NamedTuple):
    """asinh((x − center) / width), for heavy tails on both sides."""

    center: float
    width: float

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Of values, infinite ones too."""
        return np.arcsinh((x - self.center) / self.width)

    def backward(self, t: np.ndarray) -> np.ndarray:
        """The inverse."""
        with np.errstate(over="ignore"):
            return self.center + self.width * np.sinh(t)

    def slope(self, x: np.ndarray) -> np.ndarray:
        """The derivative of `forward`."""
        return 1 / np.sqrt(self.width**2 + (x - self.center) ** 2)


Shape = LogShape | AsinhShape


def likeliest_shape(values: np.ndarray) -> Shape | None:
    """The map after which a normal distribution is likeliest; None where it gains little.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Without gaps.

    References
    ----------
    Box and Cox, "An analysis of transformations", Journal of the Royal Statistical Society B 26,
    1964, section 3.
    """
    # The most frequent value may be an end that many rows hold, which no map spreads.
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < MIN_VALUES:
        return None
    most = distinct[counts.argmax()]
    spread = values[values != most] if counts.max() > 0.1 * len(values) else values
    before = -np.log(spread.std())
    best, shape = before + LEAST_GAIN, None
    for candidate in _candidates(values, spread):
        made = candidate.forward(spread)
        likelihood = np.log(candidate.slope(spread)).mean() - np.log(max(made.std(), 1e-300))
        if likelihood > best:
            best, shape = likelihood, candidate
    return shape


def _candidates(values: np.ndarray, spread: np.ndarray) -> Iterator[Shape]:
    low, middle, high = np.quantile(spread, [0.25, 0.5, 0.75])
    if not low < middle < high:
        return
    side = 1.0 if spread.mean() >= middle else -1.0
    start = float((side * values).min())
    reach = float(side * middle - start)
    for pole in POLES:
        yield LogShape(side, start, pole * reach)
    if start > 0:
        # The logarithm itself.
        yield LogShape(side, start, start)
    for width in WIDTHS:
        yield AsinhShape(float(middle), float(width * (high - low)))
