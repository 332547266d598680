"""How far a fit is: the tasks that scikit-learn's callbacks see, and the lines that `verbose` prints."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from sklearn.callback import CallbackContext

# How the names of tasks begin of which a fit has one: their number among the tasks beside them says nothing.
SINGLE_TASKS = ("pretraining", "folds", "final", "autoencoder", "fine-tuning")
# Seconds between two lines of verbose=1, and before the seconds left are estimated.
INTERVAL = 1.0


class Report(NamedTuple):
    """The losses after an epoch.

    Attributes
    ----------
    epoch : int
        Epochs trained so far.
    loss : float
    held_out_loss : float or None
    terms : dict of str to float
        The loss by term.
    """

    epoch: int
    loss: float
    held_out_loss: float | None = None
    terms: dict[str, float] = {}


class Task:
    """A task of a fit.

    As a context manager it reports its begin and, unless an error ends it, its end to the callbacks.

    Parameters
    ----------
    context : CallbackContext
    estimator : estimator
        Whose fit it belongs to.
    data : dict
        X and y for callbacks.
    fitted : callable or None
        Returns the fitted attributes, by name, that the estimator would have if its fit ended with the task.
    """

    def __init__(self, context: CallbackContext, estimator, data: dict, fitted: Callable[[], dict] | None = None):
        self.context, self.estimator, self.data, self.fitted = context, estimator, data, fitted
        # Whether callbacks asked to stop the loop that the task is a turn of.
        self.stops = False

    @classmethod
    def of_fit(cls, estimator, X, y, n_subtasks: int) -> Task:
        """The task of a whole fit. X stands in for a missing y: callbacks that score need one."""
        context = estimator._init_callback_context(max_subtasks=n_subtasks)

        def fitted() -> dict:
            return copy.deepcopy({name: value for name, value in vars(estimator).items() if name.endswith("_")})

        return cls(context, estimator, {"X": X, "y": X if y is None else y}, fitted)

    def part(self, name: str, n_subtasks: int = 0, fitted: Callable[[], dict] | None = None) -> Task:
        """The next subtask."""
        return Task(self.context.subcontext(name, max_subtasks=n_subtasks), self.estimator, self.data, fitted)

    @contextlib.contextmanager
    def fit_of(self, estimator) -> Iterator[None]:
        """The task as the fit of another estimator, which callbacks and interrupts then reach."""
        # Of an estimator without callbacks, scikit-learn would warn.
        reached = hasattr(estimator, "set_callbacks")
        with self.context.propagate_callback_context(estimator) if reached else contextlib.nullcontext(), self:
            yield

    @property
    def has_callbacks(self) -> bool:
        """Whether anyone is to be notified."""
        return bool(self.context._callbacks)

    def __enter__(self) -> Task:
        self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)
        return self

    def __exit__(self, error: Any, *_: object) -> None:
        if error is None:
            fitted = {} if self.fitted is None else {"reconstruction_attributes": self.fitted}
            self.stops = self.context.call_on_fit_task_end(estimator=self.estimator, **self.data, **fitted)


class Trainings:
    """The trainings of a fit, one after another; where there is one alone, its subtasks are the fit's.

    Parameters
    ----------
    sizes : sequence of int
        At most how many subtasks each training has.
    open_task : callable
        Returns the task of the fit, which has a given number of subtasks.
    """

    def __init__(self, sizes: Sequence[int], open_task: Callable[[int], Task]):
        self.is_single = len(sizes) == 1
        self.task = open_task(sizes[0] if self.is_single else len(sizes))

    def next(self, name: str, n_subtasks: int) -> contextlib.AbstractContextManager[Task]:
        """The task of the next training."""
        return contextlib.nullcontext(self.task) if self.is_single else self.task.part(name, n_subtasks)


class Epochs:
    """Reports each epoch of a training.

    Parameters
    ----------
    task : Task
        The training's.
    name : str
        Of an epoch's task.
    fitted : callable or None
        As in `Task`.
    """

    def __init__(self, task: Task, name: str = "epoch", fitted: Callable[[], dict] | None = None):
        self.task, self.name, self.fitted = task, name, fitted
        # A task for each of thousands of short epochs would cost more than nothing.
        self.are_reported = task.has_callbacks
        self.lines = [each for each in task.context._callbacks if isinstance(each, Lines)]

    def begin(self) -> None:
        """Begin an epoch."""
        if self.are_reported:
            self.epoch = self.task.part(self.name, fitted=self.fitted).__enter__()

    def end(self, report: Callable[[], Report]) -> bool:
        """End an epoch; returns whether callbacks say that training is to stop."""
        if not self.are_reported:
            return False
        for lines in self.lines:
            lines.print_epoch(self.epoch.context, report)
        self.epoch.__exit__(None)
        return self.epoch.stops


class Lines:
    """Prints how far a fit is. It is a callback, so that fits within the fit have it too.

    Parameters
    ----------
    level : int
        1 prints a line a second at most, 2 a line an epoch with the loss by term.
    """

    # scikit-learn propagates it to fits within fits, however deep.
    max_propagation_depth = None

    def __init__(self, level: int):
        self.level = level
        self.n_epochs, self.started, self.last_printed = 0, time.monotonic(), -float("inf")
        self.withheld: Callable[[], str] | None = None

    def setup(self, estimator, context) -> None:
        """Nothing: an epoch is printed by `print_epoch`, since callbacks do not receive losses."""

    teardown = on_fit_task_begin = on_fit_task_end = setup

    def print_epoch(self, context: CallbackContext, report: Callable[[], Report]) -> None:
        """Print the line of an epoch, if one is due."""
        self.n_epochs += 1
        now = time.monotonic()
        self.withheld = partial(_line, context, report(), with_terms=self.level > 1)
        if self.level > 1 or now - self.last_printed >= INTERVAL:
            self.last_printed = now
            self._print_withheld()

    def finish(self, name: str) -> None:
        """Print the last epoch, and the time that the fit of the estimator of this name took."""
        self._print_withheld()
        # A pass of partial_fit, one of many, has one line.
        if self.n_epochs != 1:
            print(f"[{name}] fitted in {time.monotonic() - self.started:.1f} s", flush=True)

    def _print_withheld(self) -> None:
        # Not after it: Ctrl-C while it is printed would have it printed twice.
        withheld, self.withheld = self.withheld, None
        if withheld is not None:
            # In one piece, as members in other threads print too.
            print(f"{withheld()}\n", end="", flush=True)


@contextlib.contextmanager
def printed_progress(estimator) -> Iterator[None]:
    """Print how far a fit of the estimator is, as its `verbose` says, unless a fit that it is a part of does."""
    callbacks = getattr(estimator, "_skl_callbacks", [])
    verbose = estimator.get_params(deep=False).get("verbose", False)
    if not verbose or any(isinstance(each, Lines) for each in callbacks):
        yield
        return
    lines = Lines(int(verbose))
    estimator.set_callbacks(*callbacks, lines)
    try:
        yield
        lines.finish(type(estimator).__name__)
    finally:
        estimator.set_callbacks(*callbacks)


def is_part_of_a_fit(estimator) -> bool:
    """Whether an estimator is being fitted by another one: an ensemble, a stack, a pipeline, a search."""
    return hasattr(estimator, "_parent_callback_ctx")


def _line(context: CallbackContext, report: Report, *, with_terms: bool) -> str:
    """What is printed of an epoch."""
    root, *tasks = _path(context)
    losses = {"loss": report.loss, "held-out loss": report.held_out_loss}
    if with_terms and len(report.terms) > 1:
        losses |= report.terms
    numbers = [f"{name} {value:.6g}" for name, value in losses.items() if value is not None]
    left = seconds_left(context)
    if left is not None:
        numbers.append(f"{left:.0f} s left")
    # What a call of partial_fit trains is not of a known number.
    n_epochs = context.parent.max_subtasks
    of = f" of {n_epochs}" if report.epoch <= n_epochs else ""
    place = ", ".join([*(_name(each) for each in tasks[:-1]), f"epoch {report.epoch}{of}"])
    return f"[{root.estimator_name}] {place}: {', '.join(numbers)}"


def _path(context: CallbackContext) -> list[CallbackContext]:
    """The tasks from the whole fit to this one."""
    path = [context]
    while path[0].parent is not None:
        path.insert(0, path[0].parent)
    return path


def _name(context: CallbackContext) -> str:
    """A task among those beside it, and the estimator that is fitted if it is another one."""
    is_fit = context.source_task_name is not None
    name = context.source_task_name if is_fit else context.task_name
    n_tasks = context.parent.max_subtasks
    is_numbered = n_tasks is not None and name.split()[0] not in SINGLE_TASKS
    number = f" {context.task_id + 1} of {n_tasks}" if is_numbered else ""
    fitted = f" ({context.estimator_name})" if is_fit and context.estimator_name.lower() != name else ""
    return f"{name}{number}{fitted}"


def seconds_left(context: CallbackContext) -> float | None:
    """Seconds after this task until the whole fit ends; None in its first second, or for an unknown number of tasks.

    Tasks that are still to come are expected to take as long as those before did on average, and to run to their end.
    """
    now, passed, left = datetime.now(UTC), 0.0, 0.0
    while context.parent is not None:
        parent, n_begun = context.parent, context.task_id + 1
        if parent.max_subtasks is None:
            return None
        passed = (now - parent.init_time).total_seconds()
        left += (passed + left) / n_begun * (parent.max_subtasks - n_begun)
        context = parent
    return left if passed >= INTERVAL else None
