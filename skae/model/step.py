"""One batch in the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from skae.model.corruptions import Corrupted

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder


class Step:
    """One batch in the model: each quantity is computed when a term first reads it.

    Parameters
    ----------
    model : Autoencoder
    input, target : Tensor of shape (n_rows, n_features)
        Standardised rows, and rows in the units of the likelihood (or a function that makes them).
    observed : Tensor of shape (n_rows, n_features) or None
        Zero where an entry was NaN: such entries count in no term.
    generator : torch.Generator or None
        Without one, nothing is random: no corruption, and the posterior's mean as the sample.
    progress : float
        Share of the training that is done.
    """

    def __init__(
        self,
        model: Autoencoder,
        input: Tensor,
        target: Tensor | Callable[[], Tensor],
        observed: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        progress: float = 1.0,
    ):
        self.model, self.input, self.observed = model, input, observed
        self._target = target
        self.generator, self.progress = generator, progress

    @cached_property
    def target(self) -> Tensor:
        """The rows in the units of the likelihood, of shape (n_rows, n_features)."""
        return self._target() if callable(self._target) else self._target

    @cached_property
    def corrupted(self) -> Corrupted:
        """What the corruption made of the rows, and where."""
        corruption = self.model.corruption
        if corruption is None or self.generator is None:
            return Corrupted(self.input)
        made = corruption.corrupt(self.input, self.model.scaling, self.generator)
        if self.observed is not None:
            made.rows = made.rows * self.observed
        return made

    @property
    def seen(self) -> Tensor:
        """The rows as the encoder sees them, of shape (n_rows, n_features)."""
        return self.corrupted.rows

    @cached_property
    def condition(self) -> Tensor | None:
        """What the encoder is told of the corruption, of shape (n_rows, n_conditions)."""
        return self.model.condition(self.corrupted, self.observed)

    @property
    def loss_scale(self) -> float:
        """The unit of the loss: training minimises the loss times this constant."""
        return self.model.loss_scale

    def encoder_function(self, x: Tensor) -> Tensor:
        """The code as a function of the rows seen, with this batch's condition."""
        return self.model.posterior.mean(self.model.encode(x, self.condition))

    @cached_property
    def encoded(self) -> Tensor:
        """The encoder's output, the parameters of the posterior."""
        return self.model.encode(self.seen, self.condition)

    @cached_property
    def code(self) -> Tensor:
        """The posterior's mean, of shape (n_rows, n_components)."""
        return self.model.posterior.mean(self.encoded)

    @cached_property
    def departure(self) -> Tensor:
        """What the network adds to the linear path's code, of shape (n_rows, n_components); zero without a path."""
        linear = getattr(self.model.encoder, "linear", None)
        if linear is None:
            return torch.zeros_like(self.code)
        return self.code - self.model.posterior.mean(linear(self.seen))

    @cached_property
    def sample(self) -> Tensor:
        """What is decoded: a draw from the posterior while training, its mean otherwise."""
        return self.code if self.generator is None else self.model.posterior.sample(self.encoded, self.generator)

    @cached_property
    def eta(self) -> Tensor:
        """The decoder's output for the sample, the likelihood's natural parameter."""
        return self.decode(self.sample)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """log p(x | z) in the data's units, of shape (n_rows,) or (n_samples, n_rows)."""
        return self.log_likelihood_of(self.eta)

    def decode(self, sample: Tensor) -> Tensor:
        """The decoder's output for codes of shape (n_rows, d) or (n_samples, n_rows, d)."""
        if sample.ndim == 2:
            return self.model.decoder(sample)
        return self.model.decoder(sample.flatten(0, 1)).unflatten(0, sample.shape[:2])

    def log_likelihood_of(self, eta: Tensor) -> Tensor:
        """log p(x | z) of each row for decoder outputs of shape (..., n_rows, n_features)."""
        model = self.model
        entries = model.likelihood.log_prob(eta, self.target, model.extras)
        if model.emphasis != 1 and self.corrupted.changed is not None:
            entries = torch.where(self.corrupted.changed, model.emphasis * entries, entries)
        if self.observed is not None:
            return (entries * self.observed).sum(-1) + self.observed @ model.log_jacobian
        return entries.sum(-1) + model.log_jacobian_sum

    @cached_property
    def terms(self) -> dict[str, Tensor]:
        """What the autoencoder minimises, by name, each of shape (n_rows,)."""
        terms = self.model.posterior.terms(self)
        for penalty in self.model.penalties:
            terms[penalty.name] = penalty.weight * penalty(self)
        return terms
