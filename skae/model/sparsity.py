"""Penalties of activations: few units that are active, or seldom."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

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
    target : float, default=0.05
        ρ, in (0, 1); not used by "l1" and "l2".
    layers : {"code", "all"} or sequence of float, default="code"
        What is penalised: the code, or also the encoder's hidden layers; numbers are weights of the
        hidden layers, from the input on, and of the code.

    References
    ----------
    Ng, "Sparse autoencoder", CS294A lecture notes, Stanford 2011, section 3.

    Examples
    --------
    >>> from skae import ActivationPenalty
    >>> ActivationPenalty("l1", 0.1)
    ActivationPenalty(kind='l1', weight=0.1)
    """

    def __init__(self, kind="kl", weight=0.01, *, target=0.05, layers="code"):
        self.kind = kind
        self.weight = weight
        self.target = target
        self.layers = layers

    def prepare(self, model: Autoencoder) -> None:
        """Raise ValueError for a parameter outside its range, or a model without the layers or their bounds."""
        if self.kind not in (*TARGETED, *NORMS):
            raise ValueError(f"kind={self.kind!r} is unknown; use one of {sorted((*TARGETED, *NORMS))}.")
        if not 0 < self.target < 1:
            raise ValueError(f"target={self.target!r} must be in (0, 1): it is the mean activation of a unit.")
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
        total = sum(weight * self.of(layer, step) for weight, layer in zip(weights, layers, strict=True))
        return step.model.n_features * total

    def of(self, activations: Tensor, step: Step) -> Tensor:
        """The penalty of one layer's activations, of shape (n_rows,)."""
        if self.kind in NORMS:
            return NORMS[self.kind](activations).sum(1)
        found = TARGETED[self.kind](self.target, step.batch_mean(activations)).sum()
        return found.expand(len(activations))
