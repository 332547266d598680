"""Draws of p(x | x̃) by a denoiser, and the Markov chain of corrupting and drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from skae.model.corruptions import Corrupted, Corruption

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step

# Distances that are held at once, and their jitter, by which one of several equally near rows is taken at random.
MAX_DISTANCES = 2**24
JITTER = 1e-3


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

    def __init__(self, model: Autoencoder, rows: Tensor, generator: torch.Generator):
        self.model, self.generator = model, generator
        self.input, self.target, _ = model.prepare(rows)

    def advance(self, x: Tensor, corruption: Corruption, *, keep: bool = True) -> Tensor:
        """One step from rows in the data's units, of shape (n_rows, n_features), to others.

        With `keep`, entries that a corruption left as they were stay where it is known which these are.
        """
        model, scaling = self.model, self.model.scaling
        # Half of the rows, anew at each step: chains with equal rows part.
        half = torch.randperm(len(self.input), generator=self.generator, device=x.device)
        half = half[: max(1, -(-len(half) // 2))]
        input, _ = scaling.input(x)
        made = corruption.corrupt(input, scaling, self.generator)
        other, others, target = self._other(made, corruption, self.input[half], self.target[half])
        here, there = denoised(model, input, made), denoised(model, others, other)
        drawn = model.likelihood.sample_like(here, there, target, model.extras, self.generator)
        rows = scaling.from_target(drawn)
        return torch.where(made.changed, rows, x) if keep and corruption.replaces else rows

    def _other(self, made: Corrupted, corruption: Corruption, input: Tensor, target: Tensor):
        """For each corrupted row that of a kept row which is near it, with the kept row's input and target."""
        if corruption.replaces:
            # What replaced an entry says nothing of the row: the kept row gets the same in the same entries.
            index = self._nearest(made.rows, input, ~made.changed)
            rows = torch.where(made.changed, made.rows, input[index])
            return Corrupted(rows, made.changed, made.log_level), input[index], target[index]
        all_made = corruption.corrupt(input, self.model.scaling, self.generator)
        index = self._nearest(made.rows, all_made.rows)
        return all_made.select(index), input[index], target[index]

    def _nearest(self, rows: Tensor, others: Tensor, counts: Tensor | None = None) -> Tensor:
        """For each row the index of the nearest of the others, by the entries that count."""
        size = max(1, MAX_DISTANCES // len(others))
        found = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            if counts is None:
                distance = torch.cdist(part, others).square()
            else:
                weight = counts[start : start + size].to(rows.dtype)
                distance = weight @ others.square().T - 2 * (weight * part) @ others.T
            noise = torch.rand(distance.shape, generator=self.generator, device=rows.device, dtype=rows.dtype)
            found.append(torch.add(distance, noise, alpha=JITTER).argmin(1))
        return torch.cat(found)


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
