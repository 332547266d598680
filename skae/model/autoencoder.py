"""The model: an encoder, a decoder, and what is known of the data."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skae.model.conditional import ConditionalStep, observed_with_classes, with_classes
from skae.model.corruptions import Corrupted, Corruption, GaussianNoise
from skae.model.likelihoods import Likelihood
from skae.model.model import Model, Objective, unique_names
from skae.model.networks import Dense, Linear, Shortcut, reset_parts
from skae.model.penalties import Penalty
from skae.model.posteriors import Posterior
from skae.model.priors import Prior
from skae.model.scaling import Columns, Scaling
from skae.model.step import PreconditionedStep, Step

# A loss in the data's units, and its gradient, are beyond single precision where `loss_scale` or its inverse is larger.
MOST_LOSS_SCALE = 1e24


class Autoencoder(Model):
    """Encoder, decoder, critics and the constants of a fit.

    Parameters
    ----------
    network, posterior, likelihood : parts
    columns : Columns
    n_components : int
    corruption : Corruption or None
    penalties : sequence of Penalty
    conditioning : {None, "noise_level", "mask", "class"}
        What the encoder is conditioned on.
    emphasis : float
        Weight of corrupted entries in the likelihood.
    walkback : int
        Most steps of the chain of corrupting and drawing, beyond the first, before a row is rebuilt.
    shortcut : bool
        Whether a linear path stands beside the networks, for a start at PCA.
    class_prior : sequence of float
        Shares of the classes that encoder and decoder are conditioned on; empty where there are none.
    """

    # Whether entries that the network sees count in no term of the loss.
    counts_hidden_only = False

    def __init__(
        self,
        network: Any,
        posterior: Posterior,
        likelihood: Likelihood,
        columns: Columns,
        n_components: int,
        *,
        corruption: Corruption | None = None,
        penalties: Sequence[Penalty] = (),
        conditioning: str | None = None,
        emphasis: float = 1.0,
        walkback: int = 0,
        shortcut: bool = True,
        class_prior: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self._remember(locals())
        self.network, self.posterior, self.likelihood = network, posterior, likelihood
        # Copies, since a part that is given twice is two terms, each with a critic of its own.
        self.corruption, self.penalties = corruption, [copy.copy(penalty) for penalty in penalties]
        self.penalty_names = unique_names((penalty.name for penalty in self.penalties), posterior.term_names)
        self.conditioning, self.emphasis, self.walkback = conditioning, emphasis, walkback
        self.n_features, self.n_components = len(columns.mean), n_components
        self.class_prior, self.n_classes = tuple(class_prior), len(class_prior)
        self.log_class_prior = [math.log(share) if share > 0 else -math.inf for share in class_prior]
        self.scaling = Scaling(likelihood, columns)
        # What an encoder that is conditioned on the noise's level receives for rows without noise.
        self.least_log_level = corruption.log_scales(self.scaling)[0] if isinstance(corruption, GaussianNoise) else 0.0
        self._build(shortcut)
        # In the data's units, as PCA's are, where the code starts as PCA's.
        as_pca = shortcut and posterior.is_linear and not posterior.variational and not posterior.whiten
        self.code_unit = self.scaling.unit if as_pca or posterior.in_data_units else 1.0

    def _build(self, shortcut: bool) -> None:
        noisy = self.conditioning == "noise_level" and self.posterior.step_class is None
        self.preconditioned = noisy and not shortcut and self.scaling.same_target
        plain = ConditionalStep if self.n_classes else Step
        self.step_class = PreconditionedStep if self.preconditioned else self.posterior.step_class or plain
        p, d = self.n_features, self.n_components
        n_conditions, n_outputs = self._n_conditions(), self.posterior.n_outputs(d)
        encoder = self.network.encoder(p + n_conditions, n_outputs)
        n_decoded = self.posterior.n_decoded(d) + self.n_classes
        if self.n_classes and getattr(self.network, "tied", False):
            raise ValueError(
                "A decoder that is conditioned on classes cannot have the encoder's weights: use tied=False."
            )
        decoder = self.network.decoder(n_decoded, p, encoder)
        if shortcut:
            linear = isinstance(encoder, Dense) and len(encoder.layers) == 1
            encoder = Shortcut(None if linear else encoder, p + self.n_classes, p + n_conditions, n_outputs)
            decoder = Shortcut(None if linear else decoder, n_decoded, n_decoded, p)
            if getattr(self.network, "tied", False) and not self.posterior.variational:
                decoder.linear.tie(encoder.linear)
        self.encoder, self.decoder = encoder, decoder
        self.has_memory = getattr(self.network, "has_memory", False)
        self._learnt = nn.ParameterDict()
        for name, (value, learnt) in self.likelihood.extras(p, self.posterior.variational, self.scaling.unit).items():
            if learnt:
                self._learnt[name] = nn.Parameter(value)
            else:
                self.register_buffer(f"_fixed_{name}", value, persistent=False)
        # Brings a Gaussian likelihood of fixed scale to the size of one entry's variance.
        fixed = self._buffers.get("_fixed_log_scale")
        self.loss_scale = 1.0 if fixed is None else float(torch.exp(2 * fixed.double()))
        self.has_double_loss = not 1 / MOST_LOSS_SCALE <= self.loss_scale <= MOST_LOSS_SCALE
        if fixed is not None and self.has_double_loss:
            self._fixed_log_scale = fixed.double()
        if self.n_classes:
            # What stands where an entry of a row of each class was not observed.
            self.register_buffer("class_means", torch.zeros(self.n_classes, p))
        self.code_module = self.posterior.build(self)
        jacobian = self.scaling.log_jacobian()
        self.register_buffer("log_jacobian", jacobian.to(torch.float32), persistent=False)
        # Of the rounded ones, so that a row scores the same beside a row with gaps.
        self.log_jacobian_sum = float(self.log_jacobian.double().sum())
        critics = [penalty.critic(p, d) for penalty in self.penalties]
        self.critics = nn.ModuleList(c if c is not None else nn.Identity() for c in critics)
        self.has_critic = [critic is not None for critic in critics]
        for penalty in self.penalties:
            penalty.prepare(self)

    def _n_conditions(self) -> int:
        return {None: 0, "noise_level": 1, "mask": self.n_features, "class": self.n_classes}[self.conditioning]

    @property
    def reference(self) -> Tensor:
        """A tensor in the model's precision, on its device."""
        return self.log_jacobian

    @property
    def extras(self) -> dict[str, Tensor]:
        """The likelihood's numbers beside the decoder's output, by name."""
        fixed = {name.removeprefix("_fixed_"): b for name, b in self._buffers.items() if name.startswith("_fixed_")}
        return {**fixed, **self._learnt}

    @property
    def penalty_unit(self) -> float:
        """What a penalty of one costs with a weight of one, in the units of the loss: see `Penalty`."""
        return 1.0 if self.posterior.variational else 1 / self.loss_scale

    @property
    def networks(self) -> list[nn.Module]:
        """The parts that are worth compiling."""
        return [self.encoder, self.decoder]

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether the loss of a row depends on chance."""
        return self.corruption is not None or self.posterior.is_random or bool(self.penalties)

    @property
    def is_choice(self) -> bool:  # type: ignore[override]
        """Whether it returns choices, which a rounding error may turn."""
        return self.posterior.is_choice or self.has_memory or self.n_classes > 0

    @property
    def linear_encoder(self) -> Linear | None:
        """The layer that makes the code of standardised rows, where that is all that makes it."""
        layer: Any = None
        if isinstance(self.encoder, Dense) and self.encoder.n_hidden == 0:
            layer = self.encoder.layers[0]
        if isinstance(self.encoder, Shortcut) and self.encoder.network is None:
            layer = self.encoder.linear
        bent = not self.posterior.is_linear or self._n_conditions() > 0 or self.preconditioned
        as_given = type(self.likelihood).network_input is Likelihood.network_input
        return layer if as_given and not bent else None

    def objectives(self) -> list[Objective]:
        """The autoencoder's, and one for each penalty that has a critic."""
        made = [Objective("", self.main_parameters(), lambda step: step.terms, self.loss_scale)]
        for index, (name, penalty) in enumerate(zip(self.penalty_names, self.penalties, strict=True)):
            if self.has_critic[index]:
                parameters = list(self.critics[index].parameters())
                terms = partial(_critic_terms, index)
                made.append(Objective(f"{name}_critic_", parameters, terms, repeats=penalty.critic_steps))
        return made

    def step(self, input: Tensor, target: Tensor, observed: Tensor | None = None, **options) -> Step:
        """One batch in the model."""
        return self.step_class(self, input, target, observed, **options)

    def relative_loss(self, step: Step) -> tuple[Tensor, Tensor]:
        """The loss of each row, and what it leaves out since it is the same for all models of this fit.

        Beside the constant of a fixed scale, losses in small units would be equal to the last digit.
        """
        step.is_relative = "_fixed_log_scale" in self._buffers
        loss = sum(step.terms.values())
        return loss, -step.log_constant() if step.is_relative else torch.zeros_like(loss)

    def outputs(self, step: Step) -> list[Tensor]:
        """What of a batch must be finite in a model that is handed over: its loss, and what it returns."""
        plain = self.step(step.input, step.target, step.observed)
        scales = [log_scale.exp() for log_scale in self.extras.values()]
        return [*step.terms.values(), plain.code * self.code_unit, self.scaling.from_target(plain.rebuilt), *scales]

    @property
    def prior(self) -> Prior | None:
        """What the codes are held near, if anything."""
        parts = [self.posterior, *self.penalties]
        return next((part.prior_part for part in parts if hasattr(part, "prior_part")), None)

    def code_of(self, encoded: Tensor) -> Tensor:
        """The code that the encoder's output stands for, of shape (n_rows, n_components)."""
        return self.posterior.mean(encoded, self.code_module)

    def main_parameters(self) -> list[nn.Parameter]:
        """All parameters that are trained but the critics'."""
        critics = {id(parameter) for parameter in self.critics.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in critics]

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        reset_parts(self.children(), generator)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw rows as (input, target, observed)."""
        input, observed = self.scaling.input(x)
        target = input if self.scaling.same_target else self.scaling.target(x)
        return input, target, observed

    def forward(self, x: Tensor) -> Tensor:
        """Rows of shape (n_rows, n_features), rebuilt, both in the data's units, as `reconstruct` of the estimator.

        NaN marks an entry as not observed. A table is the matrix that its `TableEncoder` gives.
        """
        step = self.step(*self.prepare(x.to(self.reference)))
        return self.scaling.from_target(step.rebuilt)

    def prepare_for_training(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw rows as (input, target, observed) in float32; columns of classes stand behind those of the input."""
        input, target, observed = self.prepare(x)
        rounded = with_classes(input.to(torch.float32), y)
        target = rounded if target is input else target.to(torch.float32)
        observed = None if observed is None else observed.to(torch.float32)
        return rounded, target, observed_with_classes(observed, y)

    def expected(self, z: Tensor) -> Tensor:
        """E[x | z] in the units of the likelihood, over the classes by their shares, of shape (n_rows, n_features)."""
        if not self.n_classes:
            return self.likelihood.mean(self.decoder(z))
        columns = torch.eye(self.n_classes, dtype=z.dtype, device=z.device)
        made = (self.decoder(with_classes(z, row.expand(len(z), -1))) for row in columns)
        return sum(share * self.likelihood.mean(eta) for share, eta in zip(self.class_prior, made, strict=True))

    def condition(self, corrupted: Corrupted, observed: Tensor | None) -> Tensor | None:
        """What the encoder is conditioned on, of shape (n_rows, n_conditions), or None."""
        rows = corrupted.rows
        if self.conditioning is None:
            return None
        if self.conditioning == "noise_level":
            level = corrupted.log_level
            if level is not None:
                return level
            return torch.full((len(rows), 1), self.least_log_level, dtype=rows.dtype, device=rows.device)
        known = torch.ones_like(rows) if observed is None else observed
        return known if corrupted.changed is None else known * ~corrupted.changed

    def encode(self, x: Tensor, condition: Tensor | None = None, *memory: list[Tensor]) -> Tensor:
        """The encoder's output for standardised rows; `memory` is for the decoder of the same rows."""
        return self.encoder(self.encoder_input(x, condition), *memory)

    @staticmethod
    def encoder_input(x: Tensor, condition: Tensor | None) -> Tensor:
        """Standardised rows and what the encoder is conditioned on."""
        return x if condition is None else torch.cat([x, condition], dim=1)


def _critic_terms(index: int, step: Step) -> dict[str, Tensor]:
    """By index, since models side by side have penalties of their own."""
    return step.model.penalties[index].critic_terms(step)
