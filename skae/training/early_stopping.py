"""Early stopping: how held-out rows decide when to stop."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Options, StrOptions
from torch import Tensor

from skae.base.parameters import Part, at_least, share
from skae.training.batches import Rows, SideBySide
from skae.training.trainer import Trainer, row_losses


class EarlyStopping(Part):
    """Stop when the loss on held-out rows no longer falls, and restore the best weights.

    The start counts as the first candidate, so that training never ends worse on the held-out rows
    than it began. Fewer than 50 rows cannot tell: a model that starts at PCA stays there.

    Parameters
    ----------
    validation_fraction : float, default=0.1
        Share of the rows that a single split holds out.
    patience : int, default=10
        Looks at the held-out rows (at least 40 steps apart) without a new best after which training
        stops.
    n_folds : int or "auto", default="auto"
        With 0, the rows of a single split are lost to training. With k ≥ 2, each of k folds is held
        out in turn, the length of the training with the best mean held-out loss is found, and one
        last training on all rows has that length: for tables too small to spare rows. "auto" takes
        5 folds below 2000 rows and a single split above.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, EarlyStopping
    >>> AutoencoderTransformer(2, early_stopping=EarlyStopping(patience=5))
    AutoencoderTransformer(early_stopping=EarlyStopping(patience=5), n_components=2)
    """

    _parameter_constraints = {
        "validation_fraction": [share("neither")],
        "patience": [at_least(1)],
        "n_folds": [Options(Integral, {0}), at_least(2), StrOptions({"auto"})],
    }

    def __init__(self, validation_fraction: float = 0.1, *, patience: int = 10, n_folds: Any = "auto") -> None:
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_folds = n_folds


def holdable(order: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """The rows that may be held out, in an order in which any regular share of them has its share of each class.

    Parameters
    ----------
    order : ndarray of shape (n_rows,)
        Rows in random order, which is kept where there are no classes.
    y : ndarray of shape (n_rows, n_classes) or None
        One where a row is of a class. A class's only row is not held out, since nothing would learn
        the class; and no row is where all would be of one class, since they could not tell what
        telling it from others is worth.
    """
    if y is None:
        return order
    classes = y[order].argmax(1)
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    return order[by_class[counts[classes[by_class]] > 1]] if (counts > 1).sum() > 1 else order[:0]


def single_split(rows: np.ndarray, n_held: int, y: np.ndarray | None) -> np.ndarray:
    """The held-out ones of rows as `holdable` returns them; each class keeps one row to train on.

    Parameters
    ----------
    rows : ndarray of shape (n_holdable,)
    n_held : int
    y : ndarray of shape (n_rows, n_classes) or None
    """
    if y is None:
        return rows[:n_held]
    last = np.r_[np.diff(y[rows].argmax(1)) != 0, True][: len(rows)]
    rows = rows[~last]
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(n_held, len(rows))).round().astype(int))]


def best_length(
    groups: list[tuple[Trainer, Rows | SideBySide, list[Rows]]],
    patience: int,
    on_epoch_begin: Callable[[], None] = lambda: None,
    on_epoch_end: Callable[[int, float], bool] = lambda epoch, held_out_loss: False,
) -> tuple[int, list[float]]:
    """The number of epochs after which the held-out rows of folds that train side by side gain no more.

    That is the first look whose mean loss is within one standard error of the best look's, by the
    differences of each row's losses; two for the start, since a gain that may be chance is not
    worth leaving it for.

    Parameters
    ----------
    groups : list of (trainer, training rows, held-out rows)
        Each trainer has some of the folds.
    patience : int
        Looks without a new best after which the search ends.
    on_epoch_begin, on_epoch_end : callable
        Called around each epoch of all folds, the latter with its number and the last mean held-out
        loss; a true value of it ends the search.

    Returns
    -------
    n_epochs : int
    curve : list of float
        Mean held-out loss at the start and at each look.
    """
    plan = groups[0][0].plan
    folds = [fold for trainer, _, held in groups for fold in zip(trainer.models, held, strict=True)]

    def look() -> tuple[Tensor, ...]:
        made = [row_losses(model, held, plan.batch_size) for model, held in folds]
        losses, constants, weights = (torch.cat(parts) for parts in zip(*made, strict=True))
        return losses, constants, weights / weights.sum()

    losses, constants, weights = look()
    constant = float(constants @ weights)
    looks, epoch, stopped = [losses], 0, False
    curve = [float(losses @ weights)]
    while epoch < plan.n_epochs and len(curve) - 1 - _lowest(curve) < patience and not stopped:
        on_epoch_begin()
        for trainer, rows, _ in groups:
            trainer.run_epoch(rows)
        epoch += 1
        if epoch % plan.evaluate_every == 0 or epoch == plan.n_epochs:
            looks.append(look()[0])
            curve.append(float(looks[-1] @ weights))
        stopped = on_epoch_end(epoch, curve[-1] + constant)
    if not np.isfinite(curve).any():
        raise FloatingPointError(
            f"The loss of held-out rows is {curve[0]} at the start and at all {len(curve)} looks: it cannot tell how "
            "long to train. Scale the data (StandardScaler), or set early_stopping=False."
        )
    best = looks[_lowest(curve)]

    def is_as_good(index: int) -> bool:
        if not np.isfinite(curve[index]):
            return False
        excess = looks[index] - best
        mean = excess @ weights
        standard_error = ((excess - mean).square() @ weights / len(excess)).sqrt()
        return bool(mean <= (2 if index == 0 else 1) * standard_error)

    first = next(index for index in range(len(looks)) if is_as_good(index))
    return min(first * plan.evaluate_every, plan.n_epochs), [loss + constant for loss in curve]


def _lowest(curve: list[float]) -> int:
    """The look with the lowest loss that is a number."""
    return int(np.argmin(np.where(np.isfinite(curve), curve, np.inf)))
