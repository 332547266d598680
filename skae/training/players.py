"""Players: some parameters and the loss terms that they alone minimise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skae.model.model import Model, Objective
from skae.training.optimizers import FlatParameters, FusedAdamW, Optimizer


class Player:
    """Parameters of models side by side, their loss terms, and what updates them.

    Parameters
    ----------
    objectives : sequence of Objective
        One a model; they differ in their parameters and scales alone.
    optimizer : Optimizer
    learning_rate : float
    decays, paces : callable
        Whether weight decay applies to a parameter; the factor of its learning rate.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        optimizer: Optimizer,
        learning_rate: float,
        decays: Callable[[nn.Parameter], bool],
        paces: Callable[[nn.Parameter], float],
    ) -> None:
        first = objectives[0]
        self.name, self.terms, self.repeats = first.name, first.terms, first.repeats
        self.loss_scales = [objective.loss_scale for objective in objectives]
        self.flat = FlatParameters([objective.parameters for objective in objectives], decays, paces)
        self.part, self.learning_rate = optimizer, learning_rate
        self.updates = optimizer.build(self.flat)
        self.rate: float | Tensor = learning_rate
        # Sum of each term over the rows of the epoch, of shape (n_models,).
        self.sums: dict[str, Tensor] = {}

    @property
    def is_capturable(self) -> bool:
        """Whether a step can be captured with this optimizer."""
        return isinstance(self.updates, FusedAdamW)

    def set_progress(self, progress: float) -> None:
        """Set the learning rate after a share `progress` of the training."""
        rate = self.part.rate(self.learning_rate, progress)
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            self.rate = rate

    def backward(self, terms: dict[str, Tensor], weight: Tensor, model: int) -> None:
        """Add the gradient of the weighted sum of one model's terms."""
        # A gradient given to `backward` makes torch import sympy, which takes as long as a small fit.
        total = (sum(terms.values()) * weight).sum()
        torch.autograd.backward([total], inputs=self.flat.models[model])

    @torch.no_grad()
    def add_terms(self, terms: dict[str, Tensor], weight: Tensor | None, model: int) -> None:
        """Add one model's terms, summed by the rows' weights, to the sums of the epoch."""
        for name, term in terms.items():
            # Matrix products in bfloat16 make terms that sums and weights are too precise for; those of tiny or huge
            # units come in double precision.
            term = term.to(torch.promote_types(term.dtype, self.flat.values.dtype))
            value = term.sum() if weight is None else term @ weight.to(term.dtype)
            if name not in self.sums:
                self.sums[name] = value.new_zeros(len(self.loss_scales))
            self.sums[name][model].add_(value)

    def clear_sums(self) -> None:
        """Set the sums to zero."""
        for total in self.sums.values():
            total.zero_()

    def update(self) -> None:
        """Follow the gradient."""
        self.part.clip(self.flat.gradient)
        self.updates.step(self.rate)


def make_players(models: Sequence[Model], optimizer: Optimizer, learning_rate: float) -> list[Player]:
    """A player for each objective of the models, which are alike."""
    first = models[0]
    exempt = {
        id(p) for module in first.modules() if getattr(module, "no_decay", False) for p in module.parameters(False)
    }

    def decays(parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and id(parameter) not in exempt

    # One pace for models side by side, which differ little.
    slowed = [module for module in first.modules() if hasattr(module, "pace")]
    slow = {id(p): float(module.pace) for module in slowed for p in module.parameters()}

    def paces(parameter: nn.Parameter) -> float:
        return slow.get(id(parameter), 1.0)

    objectives = zip(*(model.objectives() for model in models), strict=True)
    return [Player(same, optimizer, learning_rate, decays, paces) for same in objectives]
