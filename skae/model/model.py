"""What the trainer needs of a model, and what all models share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from skae.model.scaling import Columns
from skae.model.settings import own_settings


def unique_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names in their order; one that is taken, or was there before, gets the first free number behind it."""
    made, used = [], set(taken)
    for name in names:
        unique, number = name, 1
        while unique in used:
            number += 1
            unique = f"{name}_{number}"
        used.add(unique)
        made.append(unique)
    return made


class Terms(Protocol):
    """One batch in a model.

    Attributes
    ----------
    input : Tensor of shape (n_rows, n_features)
    weight : Tensor of shape (n_rows,) or None
    """

    input: Tensor
    weight: Tensor | None

    @property
    def terms(self) -> dict[str, Tensor]:
        """What the model's first player minimises, by name, each of shape (n_rows,)."""


class Objective(NamedTuple):
    """Some parameters and what they alone minimise: what a model asks of a player.

    Attributes
    ----------
    name : str
        Goes before the names of the terms in the loss curves; empty for the model's own loss.
    parameters : list of nn.Parameter
    terms : callable
        Maps a step to loss terms by name, each of shape (n_rows,).
    loss_scale : float
        The gradient is that of the loss times this constant.
    repeats : int
        Updates at each batch.
    """

    name: str
    parameters: list[nn.Parameter]
    terms: Callable[[Any], dict[str, Tensor]]
    loss_scale: float = 1.0
    repeats: int = 1


class Model(nn.Module):
    """Base of the models: made from a recipe, which is what a pickle holds beside the weights.

    Subclasses call `_remember(locals())` first, and define `reference`, `objectives`, `step` and
    `networks`.
    """

    loss_scale = 1.0
    is_random = False
    # Whether it returns choices (bits, labels), which a rounding error may turn.
    is_choice = False
    # Whether the terms of the loss are in float64, since the data's units are too large or small for float32.
    has_double_loss = False

    def _remember(self, arguments: dict) -> None:
        """Keep the arguments of the constructor."""
        self._recipe = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
        # In a list, so that it is not a part of this module.
        self._float64: list[Model] = []
        self._n_products: int | None = None

    @property
    def reference(self) -> Tensor:
        """A tensor in the model's precision, on its device."""
        raise NotImplementedError

    @property
    def networks(self) -> list[nn.Module]:
        """The parts that are worth compiling."""
        raise NotImplementedError

    def objectives(self) -> list[Objective]:
        """What is minimised, and by which parameters; the first is the model's own loss."""
        raise NotImplementedError

    def step(self, input: Tensor, target: Tensor, observed: Tensor | None = None, **options) -> Any:
        """One batch in the model; options are `weight`, `generator` and `progress` of `Step`."""
        raise NotImplementedError

    def relative_loss(self, step: Any) -> tuple[Tensor, Tensor]:
        """The loss of each row, and what it leaves out since it is the same for all models of this fit."""
        loss = sum(step.terms.values())
        return loss, torch.zeros_like(loss)

    def outputs(self, step: Any) -> list[Tensor]:
        """What of a batch must be finite in a model that is handed over: its loss, and what it returns."""
        return list(step.terms.values())

    @torch.no_grad()
    def is_finite(self, *batch: Tensor | None) -> bool:
        """Whether weights and `outputs` are finite, of rows as (input, target, observed)."""
        generator = torch.Generator(device=self.reference.device).manual_seed(0)
        was_training = self.training
        self.eval()
        tensors = [*self.state_dict().values(), *self.outputs(self.step(*batch, generator=generator))]
        self.train(was_training)
        # One number is asked of the device.
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def flops(self, n_rows: int) -> float:
        """Operations of a pass of so many rows through the model: two a product."""
        if self._n_products is None:
            # Convolutions use a weight many times.
            by_network = getattr(self._recipe.get("network"), "n_products", lambda n_features: 0)
            n_weights = sum(parameter.numel() for parameter in self.parameters())
            self._n_products = max(n_weights, by_network(len(self._recipe["columns"].mean)))
        return 2.0 * n_rows * self._n_products

    def in_float64(self) -> Any:
        """A copy in double precision, made once."""
        if not self._float64:
            # Tensors of inference mode could not take part in autograd.
            with own_settings():
                self._float64.append(copy.deepcopy(self).to(self.reference.device).double())
        return self._float64[0]

    def forget_float64(self) -> None:
        """Drop the copy: the weights have changed."""
        self._float64.clear()

    def __getstate__(self) -> dict:
        """The recipe and the weights as arrays: small, free of devices, and steady across versions."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        columns = tuple(c.cpu().numpy() for c in self._recipe["columns"])
        return {"recipe": {**self._recipe, "columns": columns}, "arrays": arrays, "training": self.training}

    @own_settings()
    def __setstate__(self, state: dict) -> None:
        columns = Columns(*(torch.from_numpy(c.copy()) for c in state["recipe"]["columns"]))
        # Networks that a user wrote may draw their first weights from the global generator.
        with torch.random.fork_rng(devices=[]):
            type(self).__init__(self, **{**state["recipe"], "columns": columns})
        arrays = {name: torch.from_numpy(array.copy()) for name, array in state["arrays"].items()}
        for name, tensor in self.state_dict().items():
            tensor.data = tensor.data.to(arrays[name].dtype)
        self.load_state_dict(arrays)
        self.train(state["training"])
