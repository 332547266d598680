"""Players: some parameters and the loss terms that they alone minimise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skae.model.autoencoder import Autoencoder
from skae.model.step import Step
from skae.training.optimizers import FlatParameters, Optimizer


class Player:
    """Parameters, their loss terms, and the optimizer that updates them.

    Parameters
    ----------
    name : str
        Goes before the names of the terms in the loss curves; empty for the autoencoder.
    parameters : list of nn.Parameter
    terms : callable
        Maps a `Step` to loss terms by name, each of shape (n_rows,).
    optimizer : Optimizer
    learning_rate : float
    decays : callable
        Tells whether weight decay applies to a parameter.
    loss_scale : float
        The gradient is that of the loss times this constant.
    """

    def __init__(
        self,
        name: str,
        parameters: list[nn.Parameter],
        terms: Callable[[Step], dict[str, Tensor]],
        optimizer: Optimizer,
        learning_rate: float,
        decays: Callable[[nn.Parameter], bool],
        loss_scale: float = 1.0,
    ):
        self.name, self.terms, self.loss_scale = name, terms, loss_scale
        self.flat = FlatParameters(parameters, decays)
        self.part, self.learning_rate = optimizer, learning_rate
        self.optimizer = optimizer.build(self.flat, learning_rate)

    def set_progress(self, progress: float) -> None:
        """Set the learning rate after a share `progress` of the training."""
        self.part.set_progress(self.optimizer, self.learning_rate, progress)

    def backward(self, terms: dict[str, Tensor], weight: Tensor) -> Tensor:
        """Add the gradient of the weighted sum of the terms; returns the loss of each row."""
        loss = sum(terms.values())
        torch.autograd.backward([loss], [weight], inputs=self.flat.parameters)
        return loss

    def update(self) -> None:
        """Follow the gradient."""
        self.part.clip(self.flat.gradient)
        self.optimizer.step()


def make_players(model: Autoencoder, optimizer: Optimizer, learning_rate: float) -> list[Player]:
    """The autoencoder, and a player for each penalty that has a critic."""
    exempt = {
        id(p) for module in model.modules() if getattr(module, "no_decay", False) for p in module.parameters(False)
    }

    def decays(parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and id(parameter) not in exempt

    def player(name, parameters, terms, scale=1.0):
        return Player(name, parameters, terms, optimizer, learning_rate, decays, scale)

    players = [player("", model.main_parameters(), lambda step: step.terms, model.loss_scale)]
    for penalty, critic, present in zip(model.penalties, model.critics, model.has_critic, strict=True):
        if present:
            players.append(player(f"{penalty.name}_critic_", list(critic.parameters()), penalty.critic_terms))
    return players
