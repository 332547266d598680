"""Penalties of activations: few units that are active, or seldom."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from skae.base.parameters import layer_sizes, list_of, not_negative, share
from skae.model.penalties import Penalty

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step


def bernoulli_kl(target: float, mean: Tensor) -> Tensor:
    """KL(ρ ‖ ρ̂) = ρ log ρ/ρ̂ + (1 − ρ) log (1 − ρ)/(1 − ρ̂) of two coins."""
    tiny = torch.finfo(mean.dtype).eps
    mean = mean.clamp(tiny, 1 - tiny)
    return target * (math.log(target) - mean.log()) + (1 - target) * (math.log1p(-target) - (1 - mean).log())


# How a unit's mean activation is compared with the target.
TARGETED = {
    "kl": bernoulli_kl,
    "absolute": lambda target, mean: (target - mean).abs(),
    "squared": lambda target, mean: (target - mean).square(),
}
# What a row's activations cost.
NORMS = {"l1": torch.abs, "l2": torch.square}


class ActivationPenalty(Penalty):
    r"""Few active units, pΣ|hⱼ| or pΣhⱼ², or units that are active for a share ρ of the rows.

    .. math:: p \sum_j KL(\rho \,\|\, \hat\rho_j), \quad p \sum_j |\rho - \hat\rho_j|, \quad
        p \sum_j (\rho - \hat\rho_j)^2, \quad \hat\rho_j = \tfrac1n \sum_i h_{ij}

    The mean activation ρ̂ is over the batch, with the weights of its rows, and wants activations
    between 0 and 1. The number p of columns, the variance of a standardised row, is a factor, so that
    neither the data's units nor this number change what a weight does.

    Parameters
    ----------
    kind : {"l1", "l2", "kl", "absolute", "squared"}, default="kl"
    weight : float, default=0.01
        1 charges a unit of the sum as much as twice the variance of a whole row.
    target : float or sequence of float, default=0.05
        ρ, in (0, 1), or one for each layer of `layers`; not used by "l1" and "l2".
    layers : {"code", "all"} or sequence of float, default="code"
        What is penalised: the code, or also the encoder's hidden layers; numbers are weights of the
        hidden layers, from the input on, and of the code.
    mean_over : {"rows", "units"}, default="rows"
        What ρ̂ is a mean over: the rows of a batch, one for each unit, or the units of a layer, one for
        each row, ρ̂ᵢ = 1/m Σⱼ hᵢⱼ, whose cost counts m times, as often as there are units: so that each
        row has few active units, whichever.

    References
    ----------
    Ng, "Sparse autoencoder", CS294A lecture notes, Stanford 2011, section 3.

    Examples
    --------
    >>> from skae import ActivationPenalty
    >>> ActivationPenalty("l1", 0.1)
    ActivationPenalty(kind='l1', weight=0.1)
    """

    _parameter_constraints = {
        **Penalty._parameter_constraints,
        "kind": [StrOptions({*TARGETED, *NORMS})],
        "target": [share("neither"), list_of(share("neither"))],
        "layers": [StrOptions({"code", "all"}), list_of(not_negative())],
        "mean_over": [StrOptions({"rows", "units"})],
    }

    def __init__(
        self,
        kind: str = "kl",
        weight: float = 0.01,
        *,
        target: Any = 0.05,
        layers: Any = "code",
        mean_over: str = "rows",
    ) -> None:
        self.kind = kind
        self.weight = weight
        self.target = target
        self.layers = layers
        self.mean_over = mean_over

    def prepare(self, model: Autoencoder) -> None:
        """Raise ValueError for a model without the layers or their bounds."""
        n_layers = 1 + len(layer_sizes(getattr(model.network, "hidden_layer_sizes", ()))) * self._reads_hidden
        if len(self._targets(n_layers)) != n_layers:
            raise ValueError(f"target={self.target!r} must hold one number for each layer, {n_layers} in all.")
        if self.kind in TARGETED and getattr(model.posterior, "activation", "") != "logistic":
            raise ValueError(f"kind={self.kind!r} needs a code between 0 and 1: use SparseAE(penalty={self.kind!r}).")
        if not self._reads_hidden:
            return
        n_hidden = getattr(model.encoder, "n_hidden", None)
        if n_hidden is None:
            raise ValueError(
                f"layers={self.layers!r} needs a DenseNetwork or a ConvNetwork; use layers='code' with your own."
            )
        if self.layers != "all" and len(self.layers) != n_hidden + 1:
            raise ValueError(
                f"layers={self.layers!r} must hold {n_hidden + 1} weights: of the hidden layers and of the code."
            )
        if self.kind in TARGETED and n_hidden and model.network.activation != "logistic":
            raise ValueError(
                f"kind={self.kind!r} compares activations between 0 and 1 with the target, but the hidden layers' "
                f"activation is {model.network.activation!r}; use 'logistic', or layers='code'."
            )

    @property
    def _reads_hidden(self) -> bool:
        return not (isinstance(self.layers, str) and self.layers == "code")

    def __call__(self, step: Step) -> Tensor:
        """The penalty of each row."""
        layers = [*step.hidden, step.code] if self._reads_hidden else [step.code]
        weights = self.layers if self._reads_hidden and self.layers != "all" else [1.0] * len(layers)
        parts = zip(weights, layers, self._targets(len(layers)), strict=True)
        total = sum(weight * self.of(layer, step, target) for weight, layer, target in parts)
        return step.model.n_features * total

    @property
    def code_target(self) -> float:
        """ρ of the code."""
        return self._targets(1)[-1]

    def _targets(self, n_layers: int) -> list[float]:
        return [float(self.target)] * n_layers if isinstance(self.target, Real) else list(self.target)

    def of(self, activations: Tensor, step: Step, target: float) -> Tensor:
        """The penalty of one layer's activations, of shape (n_rows,)."""
        if self.kind in NORMS:
            return NORMS[self.kind](activations).sum(1)
        if self.mean_over == "units":
            return activations.shape[1] * TARGETED[self.kind](target, activations.mean(1))
        found = TARGETED[self.kind](target, step.batch_mean(activations)).sum()
        return found.expand(len(activations))
