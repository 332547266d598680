"""An encoder with a softmax layer on top."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from skae.model.autoencoder import Autoencoder
from skae.model.corruptions import Corruption
from skae.model.model import Model, Objective
from skae.model.networks import Linear
from skae.model.scaling import Columns


class EncoderClassifier(Model):
    """The encoder of an autoencoder, and class probabilities from its code.

    Parameters
    ----------
    columns : Columns
        Of the rows that the autoencoder was fitted to.
    kind : type of Autoencoder
    recipe : dict
        The other arguments of the autoencoder.
    corruption : Corruption or None
        What is done to rows while the classes are learnt.
    n_classes : int
    """

    is_choice = True

    def __init__(
        self, columns: Columns, kind: type[Autoencoder], recipe: dict, corruption: Corruption | None, n_classes: int
    ) -> None:
        super().__init__()
        self._remember(locals())
        self.autoencoder = kind(**{**recipe, "columns": columns, "penalties": ()})
        self.autoencoder.decoder = nn.Identity()
        # Its own is how it was pretrained, and says what it receives for rows without noise.
        self.autoencoder.corruption = corruption
        self.scaling, self.n_components = self.autoencoder.scaling, self.autoencoder.n_components
        width = self.autoencoder.posterior.n_decoded(self.n_components)
        self.head = Linear(width, n_classes)
        self.register_buffer("code_mean", torch.zeros(width))
        self.register_buffer("code_scale", torch.ones(width))

    @property
    def reference(self) -> Tensor:
        """A tensor in the model's precision, on its device."""
        return self.code_mean

    @property
    def networks(self) -> list[nn.Module]:
        """The parts that are worth compiling."""
        return [self.autoencoder.encoder]

    def flops(self, n_rows: int) -> float:
        """Operations of a pass of so many rows: nearly those of the autoencoder, of which the decoder is left out."""
        return self.autoencoder.flops(n_rows)

    def reset(self, generator: torch.Generator) -> None:
        """Let all classes be equally likely; the encoder's weights come from the autoencoder."""
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()

    def start_from(self, autoencoder: Autoencoder, rows: Tensor, observed: Tensor | None = None) -> Tensor:
        """Take the weights of an autoencoder, and the codes' location and scale at standardised rows.

        Returns
        -------
        Tensor of shape (n_rows, n_decoded)
            The codes of the rows as the softmax layer sees them.
        """
        own = self.autoencoder.state_dict()
        self.autoencoder.load_state_dict({k: v for k, v in autoencoder.state_dict().items() if k in own})
        with torch.no_grad():
            code = self.autoencoder.step(rows, rows, observed).code
            self.code_mean.copy_(code.mean(0))
            spread = code.std(0, correction=0)
            # Dead and nearly dead components are not blown up.
            self.code_scale.copy_(spread.clamp_min(0.1 * float(spread.square().mean().sqrt()) + 1e-12))
            return self.standardised(code)

    def standardised(self, code: Tensor) -> Tensor:
        """Codes as the softmax layer sees them."""
        return (code - self.code_mean) / self.code_scale

    def prepare_for_training(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw rows and their classes as (input, target, observed) in float32."""
        input, _, observed = self.autoencoder.prepare_for_training(x)
        return input, input if y is None else y.to(torch.float32), observed

    def objectives(self) -> list[Objective]:
        """The cross-entropy, by all weights."""
        return [Objective("", [p for p in self.parameters() if p.requires_grad], lambda step: step.terms)]

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of the class probabilities up to a constant, of rows in the data's units."""
        input, _, observed = self.autoencoder.prepare(x.to(self.reference))
        return self.step(input, input, observed).logits

    def step(self, input: Tensor, target: Tensor, observed: Tensor | None = None, **options) -> ClassifierStep:
        """One batch in the model."""
        return ClassifierStep(self, input, target, observed, **options)


class ClassifierStep:
    """One batch in an `EncoderClassifier`.

    Parameters
    ----------
    model : EncoderClassifier
    input : Tensor of shape (n_rows, n_features)
    target : Tensor of shape (n_rows, n_classes)
        One where a row is of a class, zero elsewhere.
    observed, weight, generator, progress
        As for `Step`.
    """

    def __init__(
        self, model: EncoderClassifier, input: Tensor, target, observed: Tensor | None = None, **options
    ) -> None:
        self.model, self.target, self.weight = model, target, options.get("weight")
        self.rows = model.autoencoder.step(input, input, observed, **options)

    @property
    def input(self) -> Tensor:
        """Standardised rows."""
        return self.rows.input

    @cached_property
    def logits(self) -> Tensor:
        """Logarithms of the class probabilities up to a constant, of shape (n_rows, n_classes)."""
        model, encoded = self.model, self.rows.encoded
        code = model.autoencoder.posterior.with_gradient(encoded, model.autoencoder.code_of(encoded))
        return model.head(model.standardised(code))

    @property
    def terms(self) -> dict[str, Tensor]:
        """−log p(y | x)."""
        return {"cross_entropy": -(self.target * torch.log_softmax(self.logits, 1)).sum(1)}
