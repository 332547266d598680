"""One batch in the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skae.model.corruptions import Corrupted
from skae.model.walkback import walk_back

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.penalties import Penalty


class Step:
    """One batch in the model: each quantity is computed when a term first reads it.

    Parameters
    ----------
    model : Autoencoder
    input, target : Tensor of shape (n_rows, n_features)
        Standardised rows, and rows in the units of the likelihood (or a function that makes them).
    observed : Tensor of shape (n_rows, n_features) or None
        Zero where an entry was NaN: such entries count in no term.
    weight : Tensor of shape (n_rows,) or None
        Weights of the rows, for terms that average over the batch.
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
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
        progress: float = 1.0,
    ) -> None:
        self.model, self.input, self.observed, self.weight = model, input, observed, weight
        self._target = target
        # Whether terms leave out what is the same for all models with this scale.
        self.is_relative = False
        self.generator, self.progress = generator, progress
        # What the encoder tells the decoder beside the code, where the network is of that kind.
        self._memory: tuple[list[Tensor], ...] = ([],) if model.has_memory else ()

    @cached_property
    def target(self) -> Tensor:
        """What the likelihood scores, of shape (n_rows, n_features)."""
        return self.rows

    @property
    def given(self) -> Tensor:
        """What the model was given as the input of these rows."""
        return self.input

    def by_class(self) -> list[tuple[float, Any]]:
        """log p(y) and the step of this class, for each class that the rows may be of; rows without classes have one.

        What sums over it is the same for both.
        """
        return [(0.0, self)]

    @property
    def rows(self) -> Tensor:
        """The rows in the units of the likelihood, of shape (n_rows, n_features)."""
        return self._target() if callable(self._target) else self._target

    @cached_property
    def corrupted(self) -> Corrupted:
        """What the corruption made of the rows, and where."""
        corruption = self.model.corruption
        if corruption is None or self.generator is None:
            return Corrupted(self.input)
        made = corruption.corrupt(self.input, self.model.scaling, self.generator)
        if self.model.walkback:
            made = walk_back(self, made)
        if self.observed is not None:
            made.rows = made.rows * self.observed
        return made

    @property
    def seen(self) -> Tensor:
        """The rows as the encoder sees them, of shape (n_rows, n_features)."""
        return self.corrupted.rows

    @cached_property
    def condition(self) -> Tensor | None:
        """What the encoder receives of the corruption, of shape (n_rows, n_conditions)."""
        return self.model.condition(self.corrupted, self.observed)

    @property
    def counted(self) -> Tensor | None:
        """The weight of each entry in the loss; None where all have one."""
        return self.observed

    @property
    def loss_scale(self) -> float | Tensor:
        """The unit of the loss: training minimises the loss times this constant.

        Beyond what float32 bears it is a tensor, so that what is divided by it becomes float64.
        """
        scale = self.model.loss_scale
        if not self.model.has_double_loss:
            return scale
        return torch.full((1,), scale, dtype=torch.float64, device=self.input.device)

    def encoder_function(self, x: Tensor) -> Tensor:
        """The code as a function of the rows seen, with this batch's condition."""
        return self.model.code_of(self.model.encode(x, self.condition))

    @cached_property
    def encoded(self) -> Tensor:
        """The encoder's output, the parameters of the posterior."""
        return self.model.encode(self.seen, self.condition, *self._memory)

    @cached_property
    def code(self) -> Tensor:
        """The posterior's mean, of shape (n_rows, n_components)."""
        return self.model.code_of(self.encoded)

    @cached_property
    def hidden(self) -> list[Tensor]:
        """The activations of the encoder's hidden layers, without dropout, each of shape (n_rows, n_units)."""
        return self.model.encoder.hidden(self.model.encoder_input(self.seen, self.condition))

    def critic(self, penalty: Penalty) -> nn.Module:
        """The network that this penalty trains against the autoencoder."""
        index = next(i for i, each in enumerate(self.model.penalties) if each is penalty)
        return self.model.critics[index]

    def batch_mean(self, values: Tensor) -> Tensor:
        """The weighted mean over the rows of values of shape (n_rows, n_units)."""
        if self.weight is None:
            return values.mean(0)
        return self.weight @ values.to(self.weight.dtype) / self.weight.sum().clamp_min(torch.finfo(values.dtype).tiny)

    @cached_property
    def departure(self) -> Tensor:
        """What the network adds to the linear path's code, of shape (n_rows, n_components); zero without a path."""
        straight = getattr(self.model.encoder, "straight", None)
        if straight is None:
            return torch.zeros_like(self.code)
        return self.code - self.model.code_of(straight(self.model.encoder_input(self.seen, self.condition)))

    @cached_property
    def sample(self) -> Tensor:
        """What is decoded: a draw from the posterior while training, its mean otherwise."""
        if self.generator is None:
            return self.code
        model, posterior = self.model, self.model.posterior
        weight = {"weight": self.weight} if posterior.compares_rows else {}
        return posterior.sample(self.encoded, self.generator, self.progress, model.code_module, **weight)

    @property
    def one_sample(self) -> Tensor:
        """What is decoded, of shape (n_rows, n_components): the first where there are several."""
        return self.sample if self.sample.ndim == 2 else self.sample[0]

    @cached_property
    def eta(self) -> Tensor:
        """The decoder's output for the sample, the likelihood's natural parameter."""
        return self.decode(self.sample)

    @property
    def parameter(self) -> Tensor:
        """The likelihood's parameter of the rows, of shape (n_rows, n_features)."""
        return self.eta

    @property
    def rebuilt(self) -> Tensor:
        """The expected rows in the units of the likelihood, of shape (n_rows, n_features)."""
        return self.model.likelihood.mean(self.eta)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """log p(x | z) in the data's units, of shape (n_rows,) or (n_samples, n_rows)."""
        return self.log_likelihood_of(self.eta)

    def decode(self, sample: Tensor) -> Tensor:
        """The decoder's output for codes of shape (n_rows, d) or (n_samples, n_rows, d)."""
        if sample.ndim == 2:
            return self.model.decoder(sample, *self._memory)
        return self.model.decoder(sample.flatten(0, 1), *self._memory).unflatten(0, sample.shape[:2])

    def log_likelihood_of(self, eta: Tensor) -> Tensor:
        """log p(x | z) of each row for decoder outputs of shape (..., n_rows, n_features)."""
        model = self.model
        if self.counted is not None:
            eta = model.likelihood.of_observed(eta, self.counted)
        log_density = model.likelihood.log_kernel if self.is_relative else model.likelihood.log_prob
        entries = log_density(eta, self.target, model.extras)
        if model.emphasis != 1 and self.corrupted.changed is not None:
            entries = torch.where(self.corrupted.changed, model.emphasis * entries, entries)
        if self.is_relative:
            return (entries if self.counted is None else entries * self.counted).sum(-1)
        if self.counted is not None:
            return (entries * self.counted).sum(-1) + self.counted @ model.log_jacobian
        return entries.sum(-1) + model.log_jacobian_sum

    def log_constant(self) -> Tensor:
        """What a relative step leaves out of each row's log-likelihood, of shape (n_rows,)."""
        model = self.model
        entries = (model.likelihood.log_constant(model.extras) * torch.ones_like(self.input)).double()
        if model.emphasis != 1 and self.corrupted.changed is not None:
            entries = torch.where(self.corrupted.changed, model.emphasis * entries, entries)
        entries = entries + model.log_jacobian
        return (entries if self.counted is None else entries * self.counted).sum(-1)

    @cached_property
    def terms(self) -> dict[str, Tensor]:
        """What the autoencoder minimises, by name, each of shape (n_rows,): the posterior's terms and the penalties."""
        model = self.model
        terms = dict(model.posterior.terms(self))
        for name, penalty in zip(model.penalty_names, model.penalties, strict=True):
            value = penalty(self)
            terms[name] = penalty.weight * model.penalty_unit * (value.double() if model.has_double_loss else value)
        return terms


class PreconditionedStep(Step):
    r"""A batch in a denoiser that is conditioned on the noise's level σ and meets the same task at each.

    With rows of unit variance, the network sees x̃ of unit variance and fills in what the best
    linear guess leaves over, again at unit variance:

    .. math:: r(\tilde x, \sigma) = \frac{\tilde x}{1 + \sigma^2}
        + \frac{\sigma}{\sqrt{1 + \sigma^2}} F\Big(\frac{\tilde x}{\sqrt{1 + \sigma^2}}, \log\sigma\Big)

    References
    ----------
    Karras, Aittala, Aila and Laine, "Elucidating the design space of diffusion-based generative
    models", NeurIPS 2022, table 1.
    """

    @cached_property
    def _level(self) -> Tensor:
        """σ of each row in standardised units, of shape (n_rows, 1)."""
        return self.condition.exp()

    @cached_property
    def _root(self) -> Tensor:
        return (1 + self._level.square()).sqrt()

    @cached_property
    def seen(self) -> Tensor:
        """The noisy rows at unit variance."""
        return self.corrupted.rows / self._root

    @cached_property
    def target(self) -> Tensor:
        """What the linear guess leaves over, at unit variance."""
        return (self.rows - self.seen / self._root) * self._root / self._level

    @property
    def parameter(self) -> Tensor:
        """The likelihood's parameter of the rows, their mean."""
        return self.rebuilt

    @property
    def rebuilt(self) -> Tensor:
        """The linear guess and what the network adds."""
        return torch.addcmul(self.seen / self._root, self._level / self._root, self.eta)
