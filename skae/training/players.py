"""Players: some parameters and the loss terms that they alone minimise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skae.model.autoencoder import Autoencoder
from skae.model.step import Step
from skae.training.optimizers import FlatParameters, FusedAdamW, Optimizer


class Player:
    """Parameters of models side by side, their loss terms, and what updates them.

    Parameters
    ----------
    name : str
        Goes before the names of the terms in the loss curves; empty for the autoencoder.
    parameters : list of lists of nn.Parameter
        Those of each model.
    terms : callable
        Maps a `Step` to loss terms by name, each of shape (n_rows,).
    optimizer : Optimizer
    learning_rate : float
    decays, paces : callable
        Whether weight decay applies to a parameter; the factor of its learning rate.
    loss_scales : list of float
        The gradient is that of the loss times this constant, one a model.
    """

    def __init__(
        self,
        name: str,
        parameters: list[list[nn.Parameter]],
        terms: Callable[[Step], dict[str, Tensor]],
        optimizer: Optimizer,
        learning_rate: float,
        decays: Callable[[nn.Parameter], bool],
        paces: Callable[[nn.Parameter], float],
        loss_scales: list[float],
    ):
        self.name, self.terms, self.loss_scales = name, terms, loss_scales
        self.flat = FlatParameters(parameters, decays, paces)
        self.part, self.learning_rate = optimizer, learning_rate
        self.updates = optimizer.build(self.flat)
        self.rate: float | Tensor = learning_rate

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
        torch.autograd.backward([sum(terms.values())], [weight], inputs=self.flat.models[model])

    def update(self) -> None:
        """Follow the gradient."""
        self.part.clip(self.flat.gradient)
        self.updates.step(self.rate)


def make_players(models: Sequence[Autoencoder], optimizer: Optimizer, learning_rate: float) -> list[Player]:
    """The autoencoders, and a player for each penalty that has a critic."""
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

    def player(name, parameters, terms, scales):
        return Player(name, parameters, terms, optimizer, learning_rate, decays, paces, scales)

    main = [model.main_parameters() for model in models]
    players = [player("", main, lambda step: step.terms, [model.loss_scale for model in models])]
    for index, penalty in enumerate(first.penalties):
        if first.has_critic[index]:
            critics = [list(model.critics[index].parameters()) for model in models]
            players.append(player(f"{penalty.name}_critic_", critics, penalty.critic_terms, [1.0] * len(models)))
    return players
