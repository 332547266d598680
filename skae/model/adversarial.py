"""Critics: networks that learn to tell what is drawn from what is made, and what learns to fool them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from skae.base.parameters import LAYER_SIZES, at_least, layer_sizes
from skae.model.conditional import observed_with_classes, with_classes
from skae.model.likelihoods import Likelihood
from skae.model.model import Model, Objective
from skae.model.networks import Dense, reset_parts
from skae.model.penalties import Penalty
from skae.model.priors import PRIOR, Prior, as_prior, fixed_prior
from skae.model.scaling import Columns, Scaling

if TYPE_CHECKING:
    from skae.model.step import Step

LOSSES = ("non_saturating", "minimax", "wasserstein")
# The critic's learning rate in units of the generator's, as Heusel et al., NIPS 2017, have two: a critic that keeps up
# tells where to go, and one that lags makes the two circle.
CRITIC_PACE = 4.0


class AdversarialLoss:
    r"""What a critic D and its opponent minimise, row by row, where D(x) is a logit.

    "minimax" [1]_: the critic −log σ(D(x)) − log(1 − σ(D(x̃))), the opponent log(1 − σ(D(x̃))).
    "non_saturating" [1]_: the opponent −log σ(D(x̃)), whose gradient does not vanish where the
    critic is sure. "wasserstein" [2]_: the critic D(x̃) − D(x), the opponent −D(x̃).

    Parameters
    ----------
    kind : {"non_saturating", "minimax", "wasserstein"}
    gradient_penalty : float or "auto"
        λ of λ·(‖∇D(x̂)‖ − 1)² between the two for "wasserstein" [2]_, and of λ/2·‖∇D(x)‖² at what is
        real for the others [3]_. "auto" is 0.1·√p for p columns, since the loss is a distance of
        rows, and 0.
    label_smoothing : float
        α: what is real has the label 1 − α, so that the critic's best logit is bounded above, by
        log (1 − α)/α where nothing else is [4]_. Not for "wasserstein", which has no labels.

    References
    ----------
    .. [1] Goodfellow et al., "Generative adversarial nets", NIPS 2014, equation 1 and section 3.
    .. [2] Gulrajani et al., "Improved training of Wasserstein GANs", NIPS 2017, equation 3.
    .. [3] Mescheder, Geiger and Nowozin, "Which training methods for GANs do actually converge?",
       ICML 2018, equation 9.
    .. [4] Salimans, Goodfellow, Zaremba, Cheung, Radford and Chen, "Improved techniques for training
       GANs", NIPS 2016, section 3.4.
    """

    def __init__(self, kind: str, gradient_penalty: float | str = "auto", label_smoothing: float = 0.0) -> None:
        if kind not in LOSSES:
            raise ValueError(f"loss={kind!r} is unknown; use one of {list(LOSSES)}.")
        if label_smoothing and kind == "wasserstein":
            raise ValueError(
                f"label_smoothing={label_smoothing!r}: loss='wasserstein' has no labels; use 'non_saturating' or "
                "'minimax'."
            )
        self.kind = kind
        self.gradient_penalty = gradient_penalty
        self.label_smoothing = label_smoothing

    def strength(self, n_features: int) -> float:
        """λ for rows of so many columns."""
        if isinstance(self.gradient_penalty, str):
            return 0.1 * n_features**0.5 if self.kind == "wasserstein" else 0.0
        return self.gradient_penalty

    def opponent(self, critic: Callable[[Tensor], Tensor], made: Tensor) -> Tensor:
        """What the opponent minimises, of shape (n_rows,)."""
        logit = critic(made)[:, 0]
        if self.kind == "wasserstein":
            return -logit
        return softplus(-logit) if self.kind == "non_saturating" else -softplus(logit)

    def critic(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """What the critic minimises, by name, each of shape (n_rows,)."""
        on_real, on_made = critic(real)[:, 0], critic(made)[:, 0]
        if self.kind == "wasserstein":
            terms = {"loss": on_made - on_real}
        else:
            terms = {"loss": softplus(-on_real) + softplus(on_made)}
            if self.label_smoothing:
                # (1 − α) softplus(−D) + α softplus(D)
                terms["loss"] = terms["loss"] + self.label_smoothing * on_real
        strength = self.strength(real.shape[1])
        if strength > 0:
            terms["gradient_penalty"] = strength * self._gradient_penalty(critic, real, made, generator)
        return terms

    def _gradient_penalty(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, generator: torch.Generator
    ) -> Tensor:
        at = real
        if self.kind == "wasserstein":
            share = torch.rand(len(real), 1, generator=generator, device=real.device, dtype=real.dtype)
            at = torch.lerp(real, made.to(real.dtype), share)
        with torch.enable_grad():
            at = at.detach().requires_grad_()
            (slope,) = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
        square = slope.square().sum(1)
        if self.kind != "wasserstein":
            return 0.5 * square
        return ((square + 1e-12).sqrt() - 1).square()


class AdversarialCode(Penalty):
    """Codes that a critic cannot tell from draws of a prior: an adversarial autoencoder.

    Parameters
    ----------
    prior : str, Prior or callable, default="normal"
        What the codes are to be like: "normal", "uniform", "mixture", "swiss_roll", a part, or a
        function of a number of codes and a `numpy.random.Generator`.
    weight : float, default=1.0
        1 charges a nat of the critic's loss as much as twice the variance of one entry of a row.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Hidden units of the critic.
    critic_steps : int, default=1
        Updates of the critic at each batch.

    References
    ----------
    Makhzani et al., "Adversarial autoencoders", 2015, section 2.

    Examples
    --------
    >>> from skae import AdversarialCode, AutoencoderTransformer
    >>> AutoencoderTransformer(2, penalties=[AdversarialCode("uniform")])
    AutoencoderTransformer(n_components=2, penalties=[AdversarialCode(prior='uniform')])
    """

    _parameter_constraints = {
        **Penalty._parameter_constraints,
        "prior": PRIOR,
        "hidden_layer_sizes": LAYER_SIZES,
        "critic_steps": [at_least(1)],
    }

    def __init__(
        self, prior: Any = "normal", weight: float = 1.0, *, hidden_layer_sizes: Any = (128, 128), critic_steps: int = 1
    ) -> None:
        self.prior = prior
        self.weight = weight
        self.hidden_layer_sizes = hidden_layer_sizes
        self.critic_steps = critic_steps

    @property
    def prior_part(self) -> Prior:
        """The prior as a part."""
        return as_prior(self.prior)

    def critic(self, n_features: int, n_components: int) -> nn.Module:
        """The network that tells codes from draws; raises ValueError for a prior that does not fit."""
        fixed_prior(self.prior, n_components)
        return Dense((n_components, *layer_sizes(self.hidden_layer_sizes), 1), "silu")

    def __call__(self, step: Step) -> Tensor:
        """The encoder's part, in nats."""
        loss = AdversarialLoss("non_saturating")
        return loss.opponent(step.critic(self), step.one_sample)

    def critic_terms(self, step: Step) -> dict[str, Tensor]:
        """The critic's part."""
        code = step.one_sample.detach()
        real = self.prior_part.sample(len(code), step.model, step.generator)
        return AdversarialLoss("non_saturating").critic(step.critic(self), real, code, step.generator)


class GenerativeAdversary(Model):
    """A generator, which decodes draws of a prior, and a critic of rows.

    Parameters
    ----------
    network : part
        Its decoder is the generator; its encoder, with one output, is the critic.
    likelihood : Likelihood
        Its mean turns the generator's output into rows.
    columns : Columns
    n_components : int
    prior : Prior
    loss : AdversarialLoss
    critic_steps : int
    instance_noise : float
        First standard deviation of the noise that the critic's rows get, in units of the rows' own; it
        falls to zero over the training.
    n_classes : int
        Classes that generator and critic receive, as columns of zeros and a one; 0 is without.
    """

    def __init__(
        self,
        network: Any,
        likelihood: Likelihood,
        columns: Columns,
        n_components: int,
        *,
        prior: Prior,
        loss: AdversarialLoss,
        critic_steps: int,
        instance_noise: float = 0.0,
        n_classes: int = 0,
    ) -> None:
        super().__init__()
        self._remember(locals())
        self.likelihood, self.prior, self.loss, self.critic_steps = likelihood, prior, loss, critic_steps
        self.instance_noise = instance_noise
        self.n_features, self.n_components = len(columns.mean), n_components
        self.scaling = Scaling(likelihood, columns)
        if getattr(network, "tied", False):
            raise ValueError("A generator cannot have the weights of its critic: use a network with tied=False.")
        self.n_classes = n_classes
        self.critic = network.encoder(self.n_features + n_classes, 1)
        self.critic.pace = CRITIC_PACE
        self.decoder = network.decoder(n_components + n_classes, self.n_features, self.critic)
        self.register_buffer("_reference", torch.zeros(()), persistent=False)

    @property
    def reference(self) -> Tensor:
        """A tensor in the model's precision, on its device."""
        return self._reference

    @property
    def networks(self) -> list[nn.Module]:
        """The parts that are worth compiling."""
        return [self.decoder, self.critic]

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        reset_parts(self.children(), generator)

    def prepare_for_training(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw rows as (input, target, observed) in float32; columns of classes stand behind those of the rows."""
        input, observed = self.scaling.input(x)
        target = input if self.scaling.same_target else self.scaling.target(x)
        rounded = with_classes(target.to(torch.float32), None if y is None else y.to(torch.float32))
        observed = None if observed is None else observed.to(torch.float32)
        return rounded, rounded, observed_with_classes(observed, y)

    def objectives(self) -> list[Objective]:
        """The generator's, then the critic's."""
        made = list(self.decoder.parameters())
        critic = list(self.critic.parameters())
        return [
            Objective("", made, lambda step: step.terms),
            Objective("critic_", critic, lambda step: step.critic_terms, repeats=self.critic_steps),
        ]

    def forward(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """The rows that the generator gives for codes of shape (n_rows, n_components), in the data's units.

        A conditional one also needs `classes`, of shape (n_rows, n_classes), one where a row is of a class.
        """
        eta = self.decoder(with_classes(z.to(self.reference), None if classes is None else classes.to(self.reference)))
        return self.scaling.from_target(self.likelihood.mean(eta))

    def draw(self, n: int, generator: torch.Generator, classes: Tensor | None = None) -> Tensor:
        """Rows in the likelihood's units, of shape (n, n_features), of classes of shape (n, n_classes)."""
        return self.likelihood.mean(self.decoder(with_classes(self.prior.sample(n, self, generator), classes)))

    def critic_of(self, classes: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The critic as a function of rows of these classes."""
        return self.critic if classes is None else lambda rows: self.critic(with_classes(rows, classes))

    def outputs(self, step: AdversarialStep) -> list[Tensor]:
        """What of a batch must be finite in a model that is handed over: its losses, and rows of the generator."""
        return [*step.terms.values(), *step.critic_terms.values(), self.scaling.from_target(step.made)]

    def step(self, input: Tensor, target: Tensor, observed: Tensor | None = None, **options) -> AdversarialStep:
        """One batch in the model."""
        return AdversarialStep(self, target, observed, **options)


class AdversarialStep:
    """One batch in a `GenerativeAdversary`; unobserved entries are zero in what is drawn as well."""

    def __init__(
        self,
        model: GenerativeAdversary,
        target: Tensor,
        observed: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
        progress: float | Tensor = 1.0,
    ) -> None:
        # The likelihood's units, in which the generator speaks, are the critic's as well.
        self.model, self.target, self.weight = model, target, weight
        self.observed = None if observed is None else observed[:, : model.n_features]
        self.generator, self.progress = generator, progress

    @cached_property
    def _columns(self) -> Tensor:
        return self.target() if callable(self.target) else self.target

    @property
    def input(self) -> Tensor:
        """The rows, of shape (n_rows, n_features)."""
        return self._columns[:, : self.model.n_features]

    @property
    def classes(self) -> Tensor | None:
        """Their classes, of shape (n_rows, n_classes), or None."""
        classes = self._columns[:, self.model.n_features :]
        return classes if classes.shape[1] else None

    @cached_property
    def made(self) -> Tensor:
        """As many rows from the generator, of the same shape."""
        assert self.generator is not None
        made = self.model.draw(len(self.input), self.generator, self.classes)
        return made if self.observed is None else made * self.observed

    @cached_property
    def terms(self) -> dict[str, Tensor]:
        """What the generator minimises."""
        return {"generator_loss": self.model.loss.opponent(self.model.critic_of(self.classes), self._noisy(self.made))}

    @property
    def critic_terms(self) -> dict[str, Tensor]:
        """What the critic minimises."""
        assert self.generator is not None
        real, made = self._noisy(self.input), self._noisy(self.made.detach())
        return self.model.loss.critic(self.model.critic_of(self.classes), real, made, self.generator)

    def _noisy(self, rows: Tensor) -> Tensor:
        """Rows with the noise of this share of the training; unobserved entries stay zero."""
        if not self.model.instance_noise:
            return rows
        noise = torch.randn(rows.shape, generator=self.generator, device=rows.device, dtype=rows.dtype)
        size = self.input.var(0, correction=0).mean().sqrt() * (self.model.instance_noise * (1 - self.progress))
        return rows + size * (noise if self.observed is None else noise * self.observed)
