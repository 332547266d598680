"""The training loop. Nothing in it is about autoencoders of one kind or another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from skae.model.model import Model, Terms, unique_names
from skae.model.networks import Dropout
from skae.training.batches import Batch, Rows, SideBySide
from skae.training.cancellation import check_cancelled
from skae.training.dense_gradient import DenseGradient
from skae.training.device import autocast, matrix_precision
from skae.training.graphs import CapturedStep, CudaGraph
from skae.training.optimizers import Optimizer, Updates
from skae.training.players import Player, make_players
from skae.training.progress import Report

# Training rows by which a model is looked at before it is handed over.
CHECKED_ROWS = 1024


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
    relative_loss : list of float
        The loss of the held-out rows without what is the same for all models of a fit.
    """

    loss: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    validation_loss: list[float] = field(default_factory=list)
    validation_epochs: list[int] = field(default_factory=list)
    relative_loss: list[float] = field(default_factory=list)

    @property
    def final_loss(self) -> float:
        """The lowest held-out loss, or the last loss where nothing is held out."""
        if not self.relative_loss:
            return self.loss[-1]
        return min(filter(math.isfinite, self.relative_loss), default=math.inf)


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
    """

    optimizer: Optimizer
    learning_rate: float
    batch_size: int
    n_epochs: int
    horizon: int | None
    evaluate_every: int = 1
    patience: int | None = None


class Trainer:
    """Minimises what the players ask for, in one model or in several side by side.

    Parameters
    ----------
    models : sequence of Model
        Alike but for their numbers: restarts, folds.
    plan : Plan
    generator : torch.Generator
        The source of all that is random: order of the rows, corruption, code, dropout.

    Attributes
    ----------
    histories : list of History
        What the training of each model left behind.
    """

    def __init__(self, models: Sequence[Model], plan: Plan, generator: torch.Generator) -> None:
        self.models, self.plan, self.generator = list(models), plan, generator
        self.players = make_players(models, plan.optimizer, plan.learning_rate)
        covered = len(self.players) == 1 and DenseGradient.covers(models[0], plan.optimizer.precision)
        by_hand = covered and not self._full_batch and not plan.optimizer.compile
        self.by_hand = DenseGradient(models, self.players[0].flat) if by_hand else None
        self.histories = [History() for _ in models]
        self.epoch = 0
        self.progress: float | Tensor = 0.0
        # What of the first term the sums of a line search leave out.
        self.left_out = 0.0
        self._set_dropout(generator)
        if plan.optimizer.compile:
            for network in self._networks():
                network.compile()
        self._step: Callable[[Batch], None] = self._train
        if models[0].reference.device.type == "cuda" and all(player.is_capturable for player in self.players):
            self._capture()

    def _capture(self, graph: type[CudaGraph] = CudaGraph) -> None:
        """Let the step be captured: what changes from step to step becomes a tensor."""
        device = self.models[0].reference.device
        self.progress = torch.zeros((), device=device)
        for player in self.players:
            player.rate = torch.full((), player.learning_rate, device=device)
        self._step = CapturedStep(self._train, self.generator, graph)

    def _networks(self) -> list[nn.Module]:
        return [network for model in self.models for network in model.networks]

    @property
    def _full_batch(self) -> bool:
        return self.plan.optimizer.full_batch

    @property
    def best(self) -> int:
        """The model with the lowest final loss."""
        return min(range(len(self.models)), key=lambda index: self.histories[index].final_loss)

    def _set_dropout(self, generator: torch.Generator | None) -> None:
        for model in self.models:
            for module in model.modules():
                if isinstance(module, Dropout):
                    module.generator = generator

    def run(
        self,
        rows: Rows | SideBySide,
        validation: list[Rows] | None = None,
        on_epoch_begin: Callable[[], None] = lambda: None,
        on_epoch_end: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train until the plan, the held-out rows or `on_epoch_end` says stop; the best weights are put back.

        They are put back after an interruption too, which is raised.

        Parameters
        ----------
        rows : Rows or SideBySide
        validation : list of Rows or None
            Held-out rows of each model.
        on_epoch_begin, on_epoch_end : callable
            Called around each epoch; a true value of the latter stops the training.
        """
        best = _Best(self, validation, self.plan.patience)
        try:
            while self.epoch < self.plan.n_epochs:
                check_cancelled()
                on_epoch_begin()
                self.run_epoch(rows)
                out_of_patience = self._evaluation_is_due() and best.update()
                if on_epoch_end() or out_of_patience:
                    break
        finally:
            best.restore()

    def _evaluation_is_due(self) -> bool:
        return self.epoch % self.plan.evaluate_every == 0 or self.epoch == self.plan.n_epochs

    def record_start(self, rows: Rows | SideBySide) -> None:
        """Let the histories of a training without epochs hold the loss of the start."""
        for model in self.models:
            model.eval()
        with torch.no_grad():
            for batch in rows.epoch(self.plan.batch_size):
                for index in range(len(self.models)):
                    one = self._of(batch, index)
                    self.players[0].add_terms(self._step_of(index, one).terms, one.weight, index)
        self._record(rows)

    def check_finite(self, model: Model, rows: Rows) -> None:
        """Raise FloatingPointError unless a model's weights and results are finite: losses are of earlier weights."""
        if not model.is_finite(*rows.first(CHECKED_ROWS)[:3]):
            raise self._diverged(f"Weights or results are not finite after {self.epoch} epochs")

    def _diverged(self, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what}: training diverges. Try a learning_rate below {self.plan.learning_rate:g}, "
            "optimizer=AdamW(clip_norm=1.0), or scale the data (StandardScaler)."
        )

    def close(self) -> None:
        """Detach the models from the trainer: own storage, evaluation mode, no generators."""
        for player in self.players:
            player.flat.release()
        self._set_dropout(None)
        for network in self._networks():
            network._compiled_call_impl = None
        for model in self.models:
            model.eval()

    def run_epoch(self, rows: Rows | SideBySide) -> None:
        """One pass over the rows."""
        device, precision = self.models[0].reference.device, self.plan.optimizer.precision
        gradients = torch.enable_grad() if self.by_hand is None else torch.inference_mode()
        with gradients, matrix_precision(device, precision):
            self._run_epoch(rows)

    def _run_epoch(self, rows: Rows | SideBySide) -> None:
        for model in self.models:
            model.train()
        for player in self.players:
            player.clear_sums()
        if self.by_hand is not None:
            self.by_hand.clear()
        if self._full_batch:
            self._full_batch_epoch(rows)
        else:
            n_batches = -(-rows.n_rows // self.plan.batch_size)
            for index, batch in enumerate(rows.epoch(self.plan.batch_size, self.generator)):
                self._set_progress(index / n_batches)
                self._step(batch)
        self._record(rows)
        self.epoch += 1

    def _set_progress(self, share_of_epoch: float) -> None:
        horizon = self.plan.horizon
        progress = 1.0 if horizon is None else (self.epoch + share_of_epoch) / horizon
        if isinstance(self.progress, Tensor):
            self.progress.fill_(progress)
        else:
            self.progress = progress
        for player in self.players:
            if horizon is not None:
                player.set_progress(progress)

    def _train(self, batch: Batch) -> None:
        """Let every player follow the gradient of one batch."""
        if self.by_hand is not None:
            self.by_hand(batch, self.generator, self.progress)
            self.players[0].update()
            return
        batches = [self._of(batch, index) for index in range(len(self.models))]
        # A critic reads what the first player's terms were computed from; its further updates draw anew.
        steps = [self._step_of(index, one) for index, one in enumerate(batches)]
        for player in self.players:
            for repeat in range(player.repeats):
                if repeat:
                    steps = [self._step_of(index, one) for index, one in enumerate(batches)]
                player.flat.gradient.zero_()
                for index, step in enumerate(steps):
                    self._accumulate(player, index, step, batch.input.shape[-2], repeat == player.repeats - 1)
                player.update()

    def _step_of(self, index: int, batch: Batch) -> Terms:
        with autocast(batch.input.device, self.plan.optimizer.precision):
            return self.models[index].step(
                batch.input,
                batch.target,
                batch.observed,
                weight=batch.weight,
                generator=self.generator,
                progress=self.progress,
            )

    def _of(self, batch: Batch, index: int) -> Batch:
        return batch if len(self.models) == 1 else batch.of(index)

    def _accumulate(self, player: Player, index: int, step: Terms, n: int, recorded: bool = True) -> None:
        """Add the step's gradient in one model, for a mean over `n` rows, and its loss terms."""
        weight = step.weight
        scale = player.loss_scales[index] / n
        with autocast(step.input.device, self.plan.optimizer.precision):
            terms = player.terms(step)
            is_double = any(term.dtype == torch.float64 for term in terms.values())
            dtype = torch.float64 if is_double else step.input.dtype
            plain = torch.full_like(step.input[:, 0], scale, dtype=dtype)
            gradient = plain if weight is None else weight * plain
            player.backward(terms, gradient, index)
        if recorded:
            player.add_terms(terms, weight, index)

    def _full_batch_epoch(self, rows: Rows | SideBySide) -> None:
        self._set_progress(0.0)
        state = self.generator.get_state()
        for player in self.players:

            def closure(player=player):
                # The same noise at each evaluation: a line search needs a function.
                self.generator.set_state(state)
                player.clear_sums()
                player.flat.gradient.zero_()
                self.left_out = 0.0
                for batch in rows.epoch(self.plan.batch_size):
                    step = self._step_of(0, batch)
                    # A line search compares losses, which must not be lost beside a constant.
                    constant = self.models[0].relative_loss(step)[1].detach().double()
                    self.left_out += float(constant.sum() if step.weight is None else constant @ step.weight.double())
                    self._accumulate(player, 0, step, rows.n_rows)
                return sum(player.sums.values())[0] * player.loss_scales[0] / rows.n_rows

            assert isinstance(player.updates, Updates)
            player.updates.step(player.rate, closure)
            if not torch.equal(self.generator.get_state(), state):
                # The next epoch has other noise: what was learnt of the curvature is of another function.
                player.updates.forget()

    def _record(self, rows: Rows | SideBySide) -> None:
        n_rows = rows.sizes
        sums = [{name: total.double().cpu() for name, total in player.sums.items()} for player in self.players]
        if self.by_hand is not None and not sums[0]:
            sums = [self.by_hand.collect(n_rows, rows.is_masked)]
        first = next(iter(sums[0]))
        sums[0][first] = sums[0][first] + self.left_out
        full_names = [p.name + name for p, terms in zip(self.players, sums, strict=True) for name in terms]
        names = unique_names(full_names)
        for index, history in enumerate(self.histories):
            means = [float(total[index]) / n_rows[index] for terms in sums for total in terms.values()]
            # The first player's terms, which come first, are the model's own loss.
            loss = sum(means[: len(sums[0])])
            values = dict(zip(names, means, strict=True))
            if not all(math.isfinite(value) for value in values.values()):
                raise self._diverged(f"The loss became {loss} in epoch {self.epoch + 1}")
            for name, value in values.items():
                history.terms.setdefault(name, []).append(value)
            history.loss.append(loss)

    def report(self) -> Report:
        """The losses after the last epoch, of the best of the models."""
        history = self.histories[self.best]
        terms = {name: values[-1] for name, values in history.terms.items()}
        held_out_loss = history.validation_loss[-1] if history.validation_loss else None
        return Report(self.epoch, history.loss[-1], held_out_loss, terms)


class _Best:
    """The weights with the lowest held-out loss so far, of each model; the start is the first candidate."""

    def __init__(self, trainer: Trainer, validation: list[Rows] | None, patience: int | None) -> None:
        self.trainer, self.validation, self.patience = trainer, validation, patience
        self.losses, self.since = [float("inf")] * len(trainer.models), [0] * len(trainer.models)
        self.weights = [player.flat.values.clone() for player in trainer.players] if validation else []
        if validation is not None:
            self.update()

    def update(self) -> bool:
        """Evaluate; returns whether patience has run out for every model."""
        if self.validation is None:
            return False
        trainer = self.trainer
        for index, (model, rows) in enumerate(zip(trainer.models, self.validation, strict=True)):
            loss, constant = evaluate(model, rows, trainer.plan.batch_size)
            trainer.histories[index].relative_loss.append(loss)
            trainer.histories[index].validation_loss.append(loss + constant)
            trainer.histories[index].validation_epochs.append(trainer.epoch)
            if loss < self.losses[index]:
                self.losses[index], self.since[index] = loss, 0
                for player, weights in zip(trainer.players, self.weights, strict=True):
                    weights[index].copy_(player.flat.values[index])
            else:
                self.since[index] += 1
        return self.patience is not None and min(self.since) >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        if self.weights:
            for player, weights in zip(self.trainer.players, self.weights, strict=True):
                player.flat.values.copy_(weights)


def evaluate(model: Model, rows: Rows, batch_size: int) -> tuple[float, float]:
    """Mean loss of the rows, by `row_losses`, and the mean of what it leaves out."""
    losses, constants, weights = row_losses(model, rows, batch_size)
    return float(losses @ weights / weights.sum()), float(constants @ weights / weights.sum())


@torch.no_grad()
def row_losses(model: Model, rows: Rows, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of each row, what it leaves out as `relative_loss` does, and weight, in float64.

    Without dropout; where the objective is random, with the same noise each time.
    """
    model.eval()
    generator = torch.Generator(device=rows.device).manual_seed(0) if model.is_random else None
    losses, constants, weights = [], [], []
    for batch in rows.epoch(max(batch_size, 1024)):
        step = model.step(batch.input, batch.target, batch.observed, weight=batch.weight, generator=generator)
        loss, constant = model.relative_loss(step)
        losses.append(loss)
        constants.append(constant)
        weights.append(torch.ones_like(loss) if batch.weight is None else batch.weight)
    model.train()
    return torch.cat(losses).double(), torch.cat(constants).double(), torch.cat(weights).double()
