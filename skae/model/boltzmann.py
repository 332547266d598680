"""Restricted Boltzmann machines: the network, the units, and contrastive divergence.

The energy of visible units v (rows in the likelihood's units) and hidden units h is

    E(v, h) = −cᵀv − bᵀh − hᵀ W x(v)         binary visible units
    E(v, h) = ½‖v − c‖² − bᵀh − hᵀ W x(v)    Gaussian ones, of unit variance

where x(v) are the standardised rows that the encoder sees: centred units make the curvature even
(Melchior, Fischer and Wiskott, "How to center deep Boltzmann machines", JMLR 17, 2016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from skae.base.parameters import Part
from skae.model.likelihoods import Bernoulli
from skae.model.networks import Linear
from skae.model.posteriors import Posterior

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step

FIRST_WEIGHTS = 0.01


class Hidden(Linear):
    """The input of the hidden units, W x + b."""

    def reset(self, generator: torch.Generator, activation: str = "identity") -> None:
        """Draw small weights (Hinton, "A practical guide to training RBMs", 2010, section 8)."""
        with torch.no_grad():
            self.weight.normal_(0.0, FIRST_WEIGHTS, generator=generator)
            self.bias.zero_()


class Visible(nn.Module):
    """The input of the visible units, c + dx/dv Wᵀ h, with the weights of the hidden ones.

    Parameters
    ----------
    hidden : Hidden
    """

    def __init__(self, hidden: Hidden) -> None:
        super().__init__()
        # In a list, so that the weights are not registered twice.
        self._hidden = [hidden]
        n_features = hidden.weight.shape[1]
        self.bias = nn.Parameter(torch.zeros(n_features))
        # dx/dv, and where the bias starts: known with the columns.
        self.register_buffer("slope", torch.ones(n_features), persistent=False)
        self.register_buffer("first_bias", torch.zeros(n_features), persistent=False)

    def reset(self, generator: torch.Generator) -> None:
        """Let the units start at the columns' means."""
        with torch.no_grad():
            self.bias.copy_(self.first_bias)

    def forward(self, h: Tensor) -> Tensor:
        """Map hidden units of shape (n_rows, n_hidden) to (n_rows, n_features)."""
        return torch.addcmul(self.bias, h @ self._hidden[0].weight, self.slope)


class BoltzmannNetwork(Part):
    """One layer whose weights serve both ways.

    Parameters
    ----------
    n_hidden : int
        What the first learning rate depends on.
    """

    def __init__(self, n_hidden) -> None:
        self.n_hidden = n_hidden

    @property
    def width(self) -> int:
        """Number of hidden units."""
        return self.n_hidden

    def encoder(self, n_in: int, n_out: int) -> nn.Module:
        """The input of the hidden units."""
        return Hidden(n_in, n_out)

    def decoder(self, n_in: int, n_out: int, encoder: nn.Module) -> nn.Module:
        """The input of the visible units."""
        return Visible(encoder)

    def n_products(self, n_features: int) -> int:
        """Multiplications without those of the code's layers: none."""
        return 0


class BoltzmannUnits(Posterior):
    """The hidden units of a restricted Boltzmann machine, trained by contrastive divergence.

    Parameters
    ----------
    hidden : {"binary", "gaussian"}
        Gaussian ones have unit variance.
    n_gibbs : int
        k, the steps of Gibbs sampling at each batch.
    persistent : bool
        Whether the chains go on from batch to batch [2]_, or start at the rows [1]_.
    n_chains : int
        Number of persistent chains.

    References
    ----------
    .. [1] Hinton, "Training products of experts by minimizing contrastive divergence", Neural
       Computation 14, 2002.
    .. [2] Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood
       gradient", ICML 2008.
    """

    is_random = True
    term_names = ("contrastive_divergence",)

    def __init__(self, hidden="binary", *, n_gibbs=1, persistent=False, n_chains=128) -> None:
        self.hidden = hidden
        self.n_gibbs = n_gibbs
        self.persistent = persistent
        self.n_chains = n_chains

    @property
    def n_start_rows(self) -> int:  # type: ignore[override]
        """Training rows at which the chains start."""
        return self.n_chains if self.persistent else 0

    def build(self, model: Autoencoder) -> nn.Module:
        """The chains; tells the visible units of the columns as well."""
        columns, units = model.scaling.columns, model.scaling.units(model.scaling.columns.mean)
        if isinstance(model.decoder, Visible):
            model.decoder.slope.copy_(units.target_scale / units.spread)
            model.decoder.first_bias.copy_(model.likelihood.linear_start(columns)[0])
        return Chains(self.n_chains if self.persistent else 0, model.n_features)

    def start_from_rows(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        """Let the chains start at training rows."""
        chains: Any = model.code_module
        visible = model.scaling.target(model.scaling.from_input(rows))
        chains.visible.copy_(visible[torch.arange(len(chains.visible)) % len(visible)])

    # Conditional distributions ---------------------------------------------------------------

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """E h given the rows."""
        return torch.sigmoid(encoded) if self.hidden == "binary" else encoded

    def draw(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        """Hidden units given their input."""
        if self.hidden == "binary":
            return coins(torch.sigmoid(encoded), generator)
        noise = torch.randn(encoded.shape, generator=generator, device=encoded.device, dtype=encoded.dtype)
        return encoded + noise

    def free_energy(self, model: Autoencoder, visible: Tensor, encoded: Tensor) -> Tensor:
        """F(v) = −log Σ_h exp(−E(v, h)) of each row, up to a constant."""
        bias = model.decoder.bias
        if self.hidden == "binary":
            hidden = softplus(encoded).sum(1)
        else:
            hidden = 0.5 * encoded.square().sum(1)
        if isinstance(model.likelihood, Bernoulli):
            return -(visible @ bias) - hidden
        return 0.5 * (visible - bias).square().sum(1) - hidden

    def gibbs(
        self,
        model: Autoencoder,
        visible: Tensor,
        n_steps: int,
        generator: torch.Generator,
        *,
        last: str = "draw",
        encoded: Tensor | None = None,
    ) -> Tensor:
        """Visible units after so many steps; their mean in the last where `last` is "mean".

        `encoded` is the encoder's output for `visible`, where that is known.
        """
        binary = isinstance(model.likelihood, Bernoulli)
        for index in range(n_steps):
            if encoded is None or index:
                encoded = model.encoder(as_input(model, visible))
            hidden = self.draw(encoded, generator)
            eta = model.decoder(hidden)
            visible = model.likelihood.mean(eta)
            if last == "draw" or index < n_steps - 1:
                if binary:
                    visible = coins(visible, generator)
                else:
                    noise = torch.randn(eta.shape, generator=generator, device=eta.device, dtype=eta.dtype)
                    visible = eta + noise
        return visible

    def visible(self, step: Step) -> Tensor:
        """The rows in the likelihood's units; unobserved entries are taken as the model expects them."""
        if step.observed is None:
            return step.target
        with torch.no_grad():
            expected = step.rebuilt
        return torch.where(step.observed > 0, step.target, expected)

    def energy_of_rows(self, step: Step) -> Tensor:
        """The free energy of each row of a batch."""
        return self.free_energy(step.model, *self.filled(step))

    def filled(self, step: Step) -> tuple[Tensor, Tensor]:
        """`visible` of the step, and the encoder's output for it."""
        if step.observed is None:
            return step.target, step.encoded
        visible = self.visible(step)
        return visible, step.model.encoder(as_input(step.model, visible))

    def terms(self, step: Step) -> dict[str, Tensor]:
        """F(v) − F(ṽ), whose gradient is that of contrastive divergence; ṽ is where Gibbs sampling ended."""
        model, generator = step.model, step.generator
        if generator is None:
            return {"contrastive_divergence": self.energy_of_rows(step)}
        visible, encoded = self.filled(step)
        with torch.no_grad():
            if self.persistent:
                chains: Any = model.code_module
                end = self.gibbs(model, chains.visible, self.n_gibbs, generator)
                if model.training:
                    chains.visible.copy_(end)
            else:
                end = self.gibbs(model, visible, self.n_gibbs, generator, last="mean", encoded=encoded.detach())
        there = self.free_energy(model, end, model.encoder(as_input(model, end)))
        if self.persistent:
            there = there.mean().expand(len(step.input))
        here = self.free_energy(model, visible, encoded)
        return {"contrastive_divergence": (here - there) / step.loss_scale}


class Chains(nn.Module):
    """The visible units of persistent chains."""

    def __init__(self, n_chains: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("visible", torch.zeros(n_chains, n_features), persistent=False)


def coins(chance: Tensor, generator: torch.Generator) -> Tensor:
    """Ones with these probabilities, zeros elsewhere; three times as fast as `torch.bernoulli`."""
    return (torch.rand(chance.shape, generator=generator, device=chance.device, dtype=chance.dtype) < chance).to(
        chance.dtype
    )


def as_input(model: Autoencoder, visible: Tensor) -> Tensor:
    """Visible units as the encoder sees them."""
    return model.scaling.units(visible).standardise(model.scaling.from_target(visible))
