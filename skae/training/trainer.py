"""The training loop. Nothing in it is about autoencoders of one kind or another."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from skae.model.autoencoder import Autoencoder
from skae.model.networks import Dropout
from skae.model.step import Step
from skae.training.batches import Batch, Rows
from skae.training.dense_gradient import DenseGradient
from skae.training.device import autocast
from skae.training.optimizers import Optimizer
from skae.training.players import Player, make_players


@dataclass
class History:
    """What a training left behind beside the weights.

    Attributes
    ----------
    loss : list of float
        Mean loss of each epoch.
    validation_loss, validation_epochs : list
        Mean loss of the held-out rows, and after how many epochs; they begin with the start.
    terms : dict of list of float
        The loss by term, an entry an epoch.
    """

    loss: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    validation_loss: list[float] = field(default_factory=list)
    validation_epochs: list[int] = field(default_factory=list)


@dataclass
class Plan:
    """How to train.

    Attributes
    ----------
    optimizer : Optimizer
    learning_rate : float
    batch_size : int
    n_epochs : int
        Where training ends.
    horizon : int or None
        Epochs over which the learning rate falls; beyond `n_epochs` where the length was found on
        folds. None keeps the rate, for training in pieces.
    evaluate_every : int
        Epochs between two looks at the held-out rows.
    patience : int or None
        Looks without a better held-out loss after which training stops; None does not stop.
    verbose : int
    """

    optimizer: Optimizer
    learning_rate: float
    batch_size: int
    n_epochs: int
    horizon: int | None
    evaluate_every: int = 1
    patience: int | None = None
    verbose: int = 0


class Trainer:
    """Minimises what the players ask for.

    Parameters
    ----------
    model : Autoencoder
    plan : Plan
    generator : torch.Generator
        The source of all that is random: order of the rows, corruption, code, dropout.
    """

    def __init__(self, model: Autoencoder, plan: Plan, generator: torch.Generator):
        self.model, self.plan, self.generator = model, plan, generator
        self.players = make_players(model, plan.optimizer, plan.learning_rate)
        covered = DenseGradient.covers(model, plan.optimizer.precision)
        self.by_hand = DenseGradient(model) if covered else None
        self.history = History()
        self.epoch = 0
        for module in model.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    def run(
        self,
        rows: Rows,
        validation: Rows | None = None,
        on_epoch_begin: Callable[[], None] = lambda: None,
        on_epoch_end: Callable[[], bool] = lambda: False,
    ) -> History:
        """Train until the plan, the held-out rows, `on_epoch_end` or the user says stop.

        Parameters
        ----------
        rows, validation : Rows
        on_epoch_begin, on_epoch_end : callable
            Called around each epoch; a true value of the latter stops the training.

        Returns
        -------
        History
        """
        best = _Best(self, validation, self.plan.patience)
        try:
            while self.epoch < self.plan.n_epochs:
                on_epoch_begin()
                self.run_epoch(rows)
                out_of_patience = self._evaluation_is_due() and best.update()
                if self.plan.verbose:
                    self._report()
                if on_epoch_end() or out_of_patience:
                    break
        except KeyboardInterrupt:
            warnings.warn(
                f"Training was interrupted in epoch {self.epoch + 1}; the model so far is kept.",
                UserWarning,
                stacklevel=2,
            )
        best.restore()
        return self.history

    def _evaluation_is_due(self) -> bool:
        return self.epoch % self.plan.evaluate_every == 0 or self.epoch == self.plan.n_epochs

    def record_start(self, rows: Rows) -> None:
        """Let the history of a training without epochs hold the loss of the start."""
        sums: dict[str, Tensor] = {}
        self.model.eval()
        with torch.no_grad():
            for batch in rows.epoch(self.plan.batch_size):
                step = Step(self.model, batch.input, batch.target, batch.observed, generator=self.generator)
                _add_terms(sums, step.terms, "", batch.weight)
        self._record(sums, rows.n_rows)

    def close(self) -> None:
        """Detach the model from the trainer: own storage, evaluation mode, no generators."""
        for player in self.players:
            player.flat.release()
        for module in self.model.modules():
            if isinstance(module, Dropout):
                module.generator = None
        self.model.eval()

    @torch.enable_grad()
    def run_epoch(self, rows: Rows) -> None:
        """One pass over the rows."""
        self.model.train()
        sums: dict[str, Tensor] = {}
        if self.plan.optimizer.full_batch:
            self._full_batch_epoch(rows, sums)
        else:
            n_batches = -(-rows.n_rows // self.plan.batch_size)
            for index, batch in enumerate(rows.epoch(self.plan.batch_size, self.generator)):
                progress = self._progress(index / n_batches)
                for player in self.players:
                    if self.plan.horizon is not None:
                        player.set_progress(progress)
                    if self.by_hand is None:
                        player.flat.gradient.zero_()
                    self._accumulate(player, batch, len(batch.input), progress, sums)
                    player.update()
        self._record(sums, rows.n_rows)
        self.epoch += 1

    def _progress(self, share_of_epoch: float) -> float:
        return 1.0 if self.plan.horizon is None else (self.epoch + share_of_epoch) / self.plan.horizon

    def _accumulate(self, player: Player, batch: Batch, n: int, progress: float, sums: dict[str, Tensor]) -> None:
        """Add the batch's gradient, for a mean over `n` rows, and its loss terms."""
        weight = batch.weight
        scale = player.loss_scale / n
        with autocast(batch.input.device, self.plan.optimizer.precision):
            step = Step(
                self.model, batch.input, batch.target, batch.observed, generator=self.generator, progress=progress
            )
            if self.by_hand is not None and len(batch.input) == n:
                terms = self.by_hand(step, scale if weight is None else weight * scale)
            else:
                terms = player.terms(step)
                gradient = torch.full_like(batch.input[:, 0], scale) if weight is None else weight * scale
                player.backward(terms, gradient)
        _add_terms(sums, terms, player.name, weight)

    def _full_batch_epoch(self, rows: Rows, sums: dict[str, Tensor]) -> None:
        progress = self._progress(0.0)
        state = self.generator.get_state()
        for player in self.players:

            def closure(player=player):
                # The same noise at each evaluation: a line search needs a function.
                self.generator.set_state(state)
                for name in [name for name in sums if name.startswith(player.name)]:
                    del sums[name]
                player.flat.gradient.zero_()
                for batch in rows.epoch(self.plan.batch_size):
                    self._accumulate(player, batch, rows.n_rows, progress, sums)
                return sum(sums.values()) * player.loss_scale / rows.n_rows

            player.optimizer.step(closure)
            if not torch.equal(self.generator.get_state(), state):
                # The next epoch has other noise: what was learnt of the curvature is of another function.
                player.optimizer.state.clear()

    def _record(self, sums: dict[str, Tensor], n_rows: int) -> None:
        names = list(sums)
        values = torch.stack([sums[name].double() for name in names]).cpu() / n_rows
        loss = float(sum(value for name, value in zip(names, values, strict=True) if self._is_main(name)))
        if not torch.isfinite(values).all():
            raise FloatingPointError(
                f"The loss became {loss} in epoch {self.epoch + 1}: training diverges. Try a learning_rate below "
                f"{self.plan.learning_rate:g}, optimizer=AdamW(clip_norm=1.0), or scale the data (StandardScaler)."
            )
        for name, value in zip(names, values, strict=True):
            self.history.terms.setdefault(name, []).append(float(value))
        self.history.loss.append(loss)

    def _is_main(self, name: str) -> bool:
        return not any(player.name and name.startswith(player.name) for player in self.players)

    def _report(self) -> None:
        held_out = f", held-out {self.history.validation_loss[-1]:.6g}" if self.history.validation_loss else ""
        print(f"Epoch {self.epoch}, loss {self.history.loss[-1]:.6g}{held_out}")


def _add_terms(sums: dict[str, Tensor], terms: dict[str, Tensor], prefix: str, weight: Tensor | None) -> None:
    for name, term in terms.items():
        value = term.detach().sum() if weight is None else term.detach() @ weight
        name = prefix + name
        sums[name] = sums[name] + value if name in sums else value


class _Best:
    """The weights with the lowest held-out loss so far; the start is the first candidate."""

    def __init__(self, trainer: Trainer, validation: Rows | None, patience: int | None):
        self.trainer, self.validation, self.patience = trainer, validation, patience
        self.loss, self.since = float("inf"), 0
        self.weights: list[Tensor] | None = None
        if validation is not None:
            self.update()

    def update(self) -> bool:
        """Evaluate; returns whether patience has run out."""
        if self.validation is None:
            return False
        trainer = self.trainer
        loss = evaluate(trainer.model, self.validation, trainer.plan.batch_size)
        trainer.history.validation_loss.append(loss)
        trainer.history.validation_epochs.append(trainer.epoch)
        if loss < self.loss:
            self.loss, self.since = loss, 0
            self.weights = [player.flat.values.clone() for player in trainer.players]
        else:
            self.since += 1
        return self.patience is not None and self.since >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        if self.weights is not None:
            for player, weights in zip(self.trainer.players, self.weights, strict=True):
                player.flat.values.copy_(weights)


def evaluate(model: Autoencoder, rows: Rows, batch_size: int) -> float:
    """Mean loss of the rows, by `row_losses`."""
    losses, weights = row_losses(model, rows, batch_size)
    return float(losses @ weights / weights.sum())


@torch.no_grad()
def row_losses(model: Autoencoder, rows: Rows, batch_size: int) -> tuple[Tensor, Tensor]:
    """Loss and weight of each row, without dropout; where the objective is random, with the same noise each time."""
    model.eval()
    random = model.corruption is not None or model.posterior.variational or bool(model.penalties)
    generator = torch.Generator(device=rows.device).manual_seed(0) if random else None
    losses, weights = [], []
    for batch in rows.epoch(max(batch_size, 1024)):
        step = Step(model, batch.input, batch.target, batch.observed, generator=generator)
        losses.append(sum(step.terms.values()))
        weights.append(torch.ones_like(losses[-1]) if batch.weight is None else batch.weight)
    model.train()
    return torch.cat(losses).double(), torch.cat(weights).double()
