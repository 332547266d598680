"""Draws of p(x | x̃) by a denoiser, and the Markov chain of corrupting and drawing."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from skae.model.corruptions import Corrupted, Corruption

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step

# Distances that are held at once.
MAX_DISTANCES = 2**24
# Number and size of the coordinates by which one of several equally near rows is taken at random.
N_JITTER, JITTER = 3, 0.01


def denoised(model: Autoencoder, input: Tensor, corrupted: Corrupted) -> Tensor:
    """The likelihood's parameter of rows given their corrupted copies, of shape (n_rows, n_features)."""
    step = model.step(input, input)
    step.corrupted = corrupted
    return step.parameter


class Chain:
    r"""The Markov chain x̃ ~ C(x̃ | x), x ~ p(x | x̃), whose stationary distribution is the data's [1]_.

    The draw of p(x | x̃) takes what a kept training row with a similar corrupted copy, x̃', deviates from what the
    network expects of it: for a Gaussian likelihood x = r(x̃) + x' − r(x̃'). So the draw has the covariance and the
    shape that the residual has near x̃, whatever the corruption, and an error of the network that x̃ and x̃' share
    cancels. `Likelihood.sample_like` has the draws of the other likelihoods.

    Parameters
    ----------
    model : Autoencoder
    rows : Tensor of shape (n_kept, n_features)
        Training rows in the data's units.
    generator : torch.Generator

    References
    ----------
    .. [1] Bengio, Yao, Alain and Vincent, "Generalized denoising auto-encoders as generative models", NIPS 2013,
       theorem 1.
    """

    def __init__(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        self.model, self.generator = model, generator
        self.input, self.target, _ = model.prepare(rows)

    def advance(self, x: Tensor, corruption: Corruption) -> Tensor:
        """One step from rows in the data's units, of shape (n_rows, n_features), to others.

        Entries that a corruption left as they were stay, where it is known which these are.
        """
        model, scaling = self.model, self.model.scaling
        # Half of the rows, anew at each step: chains with equal rows part.
        half = torch.randperm(len(self.input), generator=self.generator, device=x.device)
        half = half[: max(1, -(-len(half) // 2))]
        input, _ = scaling.input(x)
        made = corruption.corrupt(input, scaling, self.generator)
        here = denoised(model, input, made)
        pair = self._alike if corruption.replaces else self._near
        here, there, target = pair(here, made, corruption, self.input[half], self.target[half])
        drawn = model.likelihood.sample_like(here, there, target, model.extras, self.generator)
        rows = scaling.from_target(drawn)
        return torch.where(made.changed, rows, x) if corruption.replaces else rows

    def _alike(self, here: Tensor, made: Corrupted, corruption: Corruption, input: Tensor, target: Tensor):
        """The parameters of the rows and of kept ones of which the same entries were replaced, and the latter's target.

        What replaced an entry says nothing of the row: the kept row, near in the other entries, gets the same.
        """
        index = self._nearest(made.rows, input, ~made.changed)
        others = Corrupted(torch.where(made.changed, made.rows, input[index]), made.changed, made.log_level)
        low, high = self._bounds
        return here.clamp(low, high), denoised(self.model, input[index], others), target[index]

    def _near(self, here: Tensor, made: Corrupted, corruption: Corruption, input: Tensor, target: Tensor):
        """The parameters of the rows and of kept ones whose corrupted copies are near, and the latter's target."""
        others = corruption.corrupt(input, self.model.scaling, self.generator)
        there = denoised(self.model, input, others)
        index = self._nearest(made.rows, others.rows)
        here = here.clamp(there.amin(0), there.amax(0))
        shift, slope = self._calibration(there, target)
        return shift + slope * here, shift + slope * there[index], target[index]

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """The least and largest parameter of each column that the network has for kept rows as they are.

        What is beyond is extrapolated: a logarithmic link would let a chain that strays go off to infinity.
        """
        eta = denoised(self.model, self.input, Corrupted(self.input))
        return eta.amin(0), eta.amax(0)

    def _calibration(self, eta: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Intercept and slope of the regression of each column of numbers on what the network expects.

        A residual that is correlated with what is expected, as that of a start at PCA, which undoes no noise, would let
        the chain's variance grow or fall without end.
        """
        mean, expected = target.mean(0), eta.mean(0)
        varies = eta.var(0, correction=0) > 1e-6
        covariance = ((target - mean) * (eta - expected)).mean(0)
        slope = covariance / eta.var(0, correction=0).clamp_min(1e-6)
        use = varies & self.model.likelihood.is_number(eta.shape[1], eta.device)
        return torch.where(use, mean - slope * expected, 0.0), torch.where(use, slope, 1.0)

    def _nearest(self, rows: Tensor, others: Tensor, counts: Tensor | None = None) -> Tensor:
        """For each row the index of the nearest of the others, by the entries that count."""
        weight = torch.ones_like(rows) if counts is None else counts.to(rows.dtype)
        rows, others = self._jittered(rows), self._jittered(others)
        weight = torch.cat([weight, weight.new_ones(len(weight), N_JITTER)], 1)
        size = max(1, MAX_DISTANCES // len(others))
        found = []
        for part, of in zip(rows.split(size), weight.split(size), strict=True):
            # Without the square of the row itself, which is the same for all others.
            found.append((of @ others.square().T).addmm_(of * part, others.T, alpha=-2).argmin(1))
        return torch.cat(found)

    def _jittered(self, rows: Tensor) -> Tensor:
        """Rows with random coordinates that decide between equally near ones."""
        shape = (len(rows), N_JITTER)
        noise = torch.randn(shape, generator=self.generator, device=rows.device, dtype=rows.dtype)
        return torch.cat([rows, JITTER * noise], 1)


def walk_back(step: Step, made: Corrupted) -> Corrupted:
    """Corrupted copies after further steps of the chain: each row goes on at most `model.walkback` times, by a coin.

    Residuals come from other rows of the batch. Equation 4 and algorithm 1 of Bengio et al., 2013.
    """
    model, corruption, generator = step.model, step.model.corruption, step.generator
    assert corruption is not None and generator is not None
    on = torch.ones_like(step.input[:, :1], dtype=torch.bool)
    with torch.no_grad():
        for _ in range(model.walkback):
            on = on & (torch.rand(on.shape, generator=generator, device=on.device) < 0.5)
            here = denoised(model, step.input, made)
            other = torch.randperm(len(here), generator=generator, device=on.device)
            drawn = model.likelihood.sample_like(here, here[other], step.rows[other], model.extras, generator)
            if step.observed is not None:
                drawn = torch.where(step.observed[other] > 0, drawn, model.likelihood.mean(here))
            x, _ = model.scaling.input(model.scaling.from_target(drawn))
            made = made.replace(on, corruption.corrupt(x, model.scaling, generator))
    return made
