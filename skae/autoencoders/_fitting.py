"""One call of `fit`: parameters resolved, model built, trained and handed over."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from skae.autoencoders._known_gaps import are_empty_columns_known
from skae.base.parameters import Part, layer_sizes
from skae.model.corruptions import as_corruption
from skae.model.likelihoods import Gaussian
from skae.model.model import Model
from skae.model.named_likelihoods import as_likelihood
from skae.model.networks import DenseNetwork
from skae.model.pca_start import PrincipalAxes
from skae.model.penalties import Anchor
from skae.model.row_space import ProjectedNetwork, RowSpace, is_isotropic, is_wide
from skae.model.scaling import LARGEST, SMALLEST, Columns, Scaling
from skae.model.threads import threads
from skae.training.batches import RawRows, Rows, SideBySide, side_by_side, stays_resident
from skae.training.device import new_generator, resolve_device, seeded_global_generator
from skae.training.early_stopping import EarlyStopping, best_length, holdable, single_split
from skae.training.optimizers import as_optimizer
from skae.training.principal_axes import class_means, column_bounds, column_moments, farthest_cell, principal_axes
from skae.training.progress import Epochs, Report, Task, Trainings, is_part_of_a_fit
from skae.training.trainer import History, Plan, Trainer

# Axes that are computed where their number is not given.
MAX_AXES = 512
# The budget of max_iter="auto": a fit has between MIN_STEPS and MAX_STEPS steps, MIN_EPOCHS epochs between.
MIN_STEPS, MAX_STEPS, MIN_EPOCHS = 2000, 20000, 20
# Steps between two looks at the held-out rows.
STEPS_A_LOOK = 40
# How many times as far as others from the column's median a number is when a diverging training is laid to it.
FAR = 1e9
# Below the first number of rows, held-out rows cannot tell whether training helps; below the second,
# a single split would tell too little and cost too much.
TOO_FEW_ROWS, FEW_ROWS = 50, 2000


class Fitting:
    """What one fit needs beside the estimator.

    Parameters
    ----------
    estimator : BaseAutoencoder
    raw : RawRows
        The checked rows.
    X, y : array-like
        As given to `fit`, for callbacks.
    model : Model or None
        The model from which training goes on, or None to begin anew.
    open_task : callable or None
        Returns the task of a given number of subtasks that this is; by default that of the estimator's fit.
    """

    trainings: Trainings

    def __init__(
        self,
        estimator,
        raw: RawRows,
        X,
        y,
        model: Model | None,
        open_task: Callable[[int], Task] | None = None,
    ) -> None:
        self.estimator, self.raw, self.model, self.X = estimator, raw, model, X
        self._check_same_components()
        self.open_task = open_task or partial(Task.of_fit, estimator, X, y)
        self.likelihood = as_likelihood(estimator._likelihood_part())
        if hasattr(estimator, "table_encoder_"):
            self.likelihood = self.likelihood.for_groups(estimator.table_encoder_.groups_)
        self.corruption = as_corruption(estimator._corruption_part())
        near_pca = estimator._parameter("init") == "pca" and not estimator._posterior().variational
        self.optimizer = as_optimizer(estimator._optimizer_part(), near_pca=near_pca)
        # Where rows are wide, their scores on axes of their own, which the model is trained on.
        self.space: RowSpace | None = None
        self.n_features = raw.n_features
        self.network = estimator._network_part() or self._dense_network(raw.n_features)
        earlier = getattr(model, "network", None)
        if isinstance(earlier, ProjectedNetwork):
            part = estimator._network_part() or self._dense_network(earlier.basis.shape[1])
            self.network = ProjectedNetwork(part, earlier.basis)
        if isinstance(self.network, Part):
            # One that the estimator builds of its parameters is not among them.
            self.network._validate_params()
        self.device = self._device()
        self.random_state = check_random_state(estimator.random_state)
        self.cpu_generator = new_generator(torch.device("cpu"), self.random_state)
        self.generator = new_generator(self.device, self.random_state)
        self.fold_curve: list[float] = []
        # The fold that a model is built for, from 1 on.
        self.fold: int | None = None
        self.n_given = raw.n_rows
        # PCA's variances, where the fit begins anew.
        self.explained: dict | None = None

    def _check_same_components(self) -> None:
        """Raise ValueError where training goes on from a model, and another size of code is asked for."""
        asked = self.estimator._asked_components()
        if self.model is not None and isinstance(asked, Integral) and asked != self.model.n_components:
            raise ValueError(
                f"n_components={asked}, but the last fit had {self.model.n_components} components, and training goes "
                f"on from it: set n_components={self.model.n_components}, or fit with warm_start=False."
            )

    # What "auto" means -----------------------------------------------------------------------

    def _device(self) -> torch.device:
        """As asked for; "auto" keeps a model where it is, and takes a GPU for steps that are worth it."""
        device = self.estimator.device
        if device == "auto" and self.model is not None:
            return self.model.reference.device
        if not hasattr(self.network, "n_products"):
            return resolve_device(device)
        return resolve_device(device, 6.0 * self.batch_size * self.network.n_products(self.raw.n_features))

    def _dense_network(self, n_inputs: int) -> DenseNetwork:
        sizes, activation = (self.estimator._parameter(name) for name in ("hidden_layer_sizes", "activation"))
        if isinstance(sizes, str):
            wide = int(np.clip(2 ** np.ceil(np.log2(2 * n_inputs)), 64, 512))
            sizes = (wide, wide // 2)
        activation = self.estimator._default_activation() if activation == "auto" else activation
        return self.estimator._dense_network(layer_sizes(sizes), activation)

    @property
    def batch_size(self) -> int:
        """Rows of a batch: one sixteenth within bounds for "auto"; for L-BFGS, what is read at once."""
        n = self.raw.n_rows
        if self.optimizer.full_batch:
            return min(n, self.raw.chunk_rows)
        if self.estimator.batch_size == "auto":
            return min(n, int(np.clip(2 ** np.round(np.log2(max(n, 1) / 16)), *self.estimator._batch_bounds)))
        return min(n, int(self.estimator.batch_size))

    @property
    def n_epochs(self) -> int:
        """As asked for, or a budget in steps: few rows train long enough, many not too long."""
        return self.budget if self.estimator.max_iter == "auto" else int(self.estimator.max_iter)

    @property
    def budget(self) -> int:
        """What "auto" is."""
        if self.optimizer.full_batch:
            return MIN_EPOCHS
        steps_an_epoch = -(-self.raw.n_rows // self.batch_size)
        steps = np.clip(MIN_EPOCHS * steps_an_epoch, MIN_STEPS, MAX_STEPS)
        return max(1, round(steps / steps_an_epoch))

    @property
    def learning_rate(self) -> float:
        """As asked for, or the optimizer's own for the width of the network."""
        rate = self.estimator.learning_rate
        if rate != "auto":
            return float(rate)
        return self.estimator._learning_rate_factor * self.optimizer.default_learning_rate(
            getattr(self.network, "width", None)
        )

    def _n_components(self, axes: PrincipalAxes | None) -> int:
        asked, p = self.estimator._asked_components(), self.n_features
        if isinstance(asked, Integral):
            return int(asked)
        if asked is None:
            return min(self.n_given, p)
        if asked == "auto":
            return max(int((axes.variances > axes.total / p).sum()), min(2, p))
        share = torch.cumsum(axes.variances, 0) / max(axes.total, 1e-300)
        return min(int((share <= asked).sum()) + 1, max(1, len(share)))

    # Model -----------------------------------------------------------------------------------

    def build(self, raw: RawRows, n_components: int | None = None) -> Model:
        """A model at its start, on the device."""
        columns = column_moments(raw, self.likelihood)
        # Of wide rows, whose scores may be larger than any of their values.
        self._check_rows(columns if self.space is None else self.space.columns)
        if self.space is not None:
            columns = self.space.score_columns(columns)
        axes = self._axes(raw, columns, n_components)
        d = n_components or self._n_components(axes)
        self._check_components(d)
        self.axes = axes
        return self._start(raw, columns, d, axes)

    def _start(self, raw: RawRows, columns: Columns, n_components: int, axes: PrincipalAxes | None) -> Model:
        model = self._assemble(columns, n_components)
        if self.estimator._parameter("init") == "pca":
            self.estimator._start_at_pca(model, axes)
        self.estimator._start_model(model, raw, self)
        if self.space is not None:
            self.space.adapt(model)
        return model.to(self.device)

    def some_rows(self, raw: RawRows, model: Model, n: int) -> Tensor:
        """At most `n` training rows as the network sees them, drawn at random."""
        index = torch.randperm(raw.n_rows, generator=self.cpu_generator)[:n].sort().values
        return model.prepare_for_training(raw.take(index.numpy()))[0]

    def _build_first(self, n_models: int) -> list[Model]:
        """Models at their start on all rows."""
        model = self.build(self.raw)
        if self.raw.empty_columns and not are_empty_columns_known():
            names = [self.estimator._column_label(index) for index in self.raw.empty_columns]
            warnings.warn(
                f"Columns {names} have no observed value; they are rebuilt as 0. Drop them, or fill them before.",
                stacklevel=2,
            )
        columns, axes = model.scaling.columns, self.axes
        return [model, *(self._start(self.raw, columns, model.n_components, axes) for _ in range(n_models - 1))]

    def _axes(self, raw: RawRows, columns: Columns, n_components: int | None) -> PrincipalAxes | None:
        asked = n_components or self.estimator._asked_components()
        if self.estimator._parameter("init") == "random" and isinstance(asked, Integral):
            return None
        asked = min(self.n_given, raw.n_features) if asked is None else asked
        n_axes = self.estimator._posterior().n_decoded(int(asked)) if isinstance(asked, Integral) else MAX_AXES
        scaling = Scaling(self.likelihood, columns)
        means = class_means(raw, scaling) if self.estimator._class_prior() else None
        return principal_axes(raw, scaling, n_axes, self.cpu_generator, means)

    def _assemble(self, columns: Columns, n_components: int) -> Model:
        with seeded_global_generator(self.cpu_generator):
            model = self.estimator._build_model(self, columns, n_components)
        model.reset(self.cpu_generator)
        return model

    def _continue(self, model: Model) -> Model:
        """A model with today's parts and the weights of an earlier one."""
        made = self._assemble(model.scaling.columns, model.n_components)
        try:
            made.load_state_dict(model.state_dict())
        except RuntimeError as error:
            raise ValueError(
                "The network's shape has changed since the last fit, so training cannot go on from it: fit a new "
                "estimator, or set warm_start=False."
            ) from error
        return made.to(self.device)

    def _check_components(self, n_components: int) -> None:
        dense = isinstance(self.network, DenseNetwork) and not layer_sizes(self.network.hidden_layer_sizes)
        posterior = self.estimator._posterior()
        if dense and posterior.is_linear and n_components > self.n_features and not self._is_regularised():
            raise ValueError(
                f"n_components={n_components} is above n_features={self.n_features}: without noise or a penalty a "
                "linear autoencoder has at most one component a feature. Lower n_components, use hidden layers, or "
                "a corruption or a penalty, as DenoisingAE and SparseAE do."
            )

    def _is_regularised(self) -> bool:
        """Whether noise or a penalty makes more of a linear code than a copy of the row."""
        penalties: list = getattr(self.estimator, "_penalty_parts", list)()
        # Hidden layers, which `dropout` is of, there are none, and the linear path of a start at PCA is without.
        noise = self.network.input_dropout > 0 and self.estimator._parameter("init") == "random"
        return noise or self.corruption is not None or any(not isinstance(penalty, Anchor) for penalty in penalties)

    def _check_rows(self, columns: Columns) -> None:
        """Raise ValueError for values that the likelihood cannot score, or beyond what single precision bears."""
        if max(-columns.low.min(), columns.high.max()) > LARGEST:
            raise self.estimator._out_of_range(RawRows(self.estimator._validate(self.X, reset=False)))
        width = columns.high - columns.low
        if 0 < width.max() < SMALLEST:
            name = self.estimator._column_label(int(width.argmax()))
            raise ValueError(
                f"X varies by {float(width.max()):.3g} at most, in column {name!r}; "
                f"what varies by less than {SMALLEST:g} is lost. Scale the data (StandardScaler)."
            )
        self.likelihood.check_rows(columns)

    # Training --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _stray_cells_named(self) -> Iterator[None]:
        """Where training diverges and a number lies far off all others of its column, say which."""
        try:
            yield
        except FloatingPointError as error:
            raw = RawRows(self.estimator._validate(self.X, reset=False))
            found = farthest_cell(raw)
            if found.times < FAR:
                raise
            raise ValueError(
                f"X holds {found.value:.3g} in column {self.estimator._column_label(found.column)!r}, row {found.row}, "
                f"{found.times:.0e} times as far from the column's median as others are. If it stands for a missing "
                "value, make it NaN; else clip it."
            ) from error

    def run(self) -> None:
        """Train on all rows, from the start or from a copy of the model, and hand the result over."""
        with self._stray_cells_named():
            self._run()

    def _run(self) -> None:
        if self.raw.n_rows < TOO_FEW_ROWS:
            # Copies of a row would be in several folds; and a weight of two is a row given twice, to the last bit.
            self.raw = self.raw.merged()
        self._enter_row_space()
        again = self.model is not None
        together, n_init = self._trains_together(), 1 if again else self.estimator._parameter("n_init")
        n_final = 1 if together else n_init
        self.trainings = Trainings([*self._sizes_before(again), *[self.n_epochs] * n_final], self.open_task)
        with self.trainings.task:
            self._train_all(again, n_init, together)

    def _train_all(self, again: bool, n_init: int, together: bool) -> None:
        plan = self._plan()
        if self.model is None:
            models = self._build_first(n_init)
            self.explained = self._explained(models[0])
            if self._is_at_optimum(models[0]):
                plan.n_epochs = 0
        else:
            self._check_rows(column_bounds(self.raw))
            models = [self._continue(self.model)]
        with threads.for_work(self._step_flops(models[0]) * (len(models) if together else 1)):
            train, held = self._guard(models[0], plan, again)
            trainers = self._train(self._groups(models, plan, [train] * len(models)), held)
        trainer = min(trainers, key=lambda each: each.histories[each.best].final_loss)
        best, history = trainer.models[trainer.best], trainer.histories[trainer.best]
        trainer.check_finite(best, train)
        if self.fold_curve:
            history.validation_loss = self.fold_curve
            looks = np.arange(len(self.fold_curve)) * plan.evaluate_every
            history.validation_epochs = np.minimum(looks, self.n_epochs).tolist()
        self._hand_over(best, history, self.estimator._after_fit)

    def _train(self, groups: list[tuple[Trainer, Rows | SideBySide]], held: Rows | None) -> list[Trainer]:
        """Train one group of models after the other; returns those that were begun before an interruption."""
        done: list[Trainer] = []
        for trainer, rows in groups:
            validation = None if held is None else [held] * len(trainer.models)
            interrupted = self._run_trainer(trainer, rows, validation, "final" if len(groups) == 1 else "restart")
            if interrupted and trainer.epoch == 0 and done:
                break
            if trainer.epoch == 0:
                trainer.record_start(rows)
            trainer.close()
            done.append(trainer)
            if interrupted:
                break
        return done

    def _run_trainer(self, trainer: Trainer, rows, validation: list[Rows] | None, name: str) -> bool:
        """Train; returns whether that was interrupted and the model so far is to be kept."""
        if trainer.plan.n_epochs == 0:
            trainer.run(rows, validation)
            return False
        with self.trainings.next(name, trainer.plan.n_epochs) as task:
            try:
                trainer.run(rows, validation, *self._epoch_hooks(task, trainer))
            except KeyboardInterrupt:
                if is_part_of_a_fit(self.estimator):
                    raise
                warnings.warn(
                    f"Training was interrupted in epoch {trainer.epoch + 1}; the model so far is kept.",
                    UserWarning,
                    stacklevel=2,
                )
                return True
        return False

    def _sizes_before(self, again: bool) -> list[int]:
        """At most how many subtasks each training before the final one has: layers of pretraining, epochs of folds."""
        n_layers, n_folds = 0 if again else self.estimator._n_pretrained_layers(self), self._n_folds(again)
        pretraining = [n_layers] * (1 + n_folds) if n_layers else []
        return pretraining + [self.n_epochs] * (n_folds > 0)

    def pretraining(self, n_layers: int) -> contextlib.AbstractContextManager[Task]:
        """The task of what is trained layer by layer before a model is trained as a whole."""
        return self.trainings.next("pretraining" if self.fold is None else f"pretraining of fold {self.fold}", n_layers)

    def _epoch_hooks(self, task: Task, trainer: Trainer) -> tuple[Callable[[], None], Callable[[], bool]]:
        epochs = Epochs(task, fitted=lambda: self._snapshot(trainer))
        return epochs.begin, lambda: epochs.end(trainer.report)

    # Rows and trainers -----------------------------------------------------------------------

    def _enter_row_space(self) -> None:
        """Go over to the scores of wide rows, where the model is the same for them."""
        estimator, raw = self.estimator, self.raw
        fits = estimator._trains_on_scores and estimator._parameter("init") == "pca" and self.model is None
        if not (fits and is_wide(raw.n_rows, raw.n_features)):
            return
        parts = estimator._posterior(), self.likelihood, self.corruption, estimator._penalty_parts()
        rows = raw.take(slice(None)).double()
        if not is_isotropic(self.network, *parts) or estimator._conditioning() == "mask" or torch.isnan(rows.sum()):
            return
        self.space, self.wide_rows = RowSpace(rows, column_moments(raw, self.likelihood)), raw
        self.raw = RawRows(self.space.scores.numpy(), raw.weight)
        self.network = self._dense_network(self.raw.n_features) if estimator._network_part() is None else self.network

    def _of_rows(self, model: Model) -> Model:
        """The model of rows, where it was trained on their scores."""
        if self.space is None:
            return model
        network = self.network
        self.network = ProjectedNetwork(network, self.space.basis.float())
        try:
            made = self._assemble(self.space.columns, model.n_components)
        finally:
            self.network = network
        return self.space.lift(model, made.to(model.reference.device))

    def _trains_together(self) -> bool:
        """Whether several models train side by side, in one step of all."""
        return not self.optimizer.full_batch and stays_resident(self.raw, self.device)

    def _groups(self, models: list[Model], plan: Plan, rows: list[Rows]) -> list[tuple[Trainer, Rows | SideBySide]]:
        """Trainers and their rows: one for all models where they train together, or one each."""
        if self._trains_together():
            return [(Trainer(models, plan, self.generator), side_by_side(rows))]
        return [(Trainer([model], plan, self.generator), each) for model, each in zip(models, rows, strict=True)]

    def run_once(self) -> None:
        """Train for one pass over the rows, with the optimizer of the last call where there is one."""
        with self._stray_cells_named():
            self._run_once()

    def _run_once(self) -> None:
        n_layers = 0 if self.model is not None else self.estimator._n_pretrained_layers(self)
        self.trainings = Trainings([*[n_layers] * (n_layers > 0), 1], self.open_task)
        with self.trainings.task:
            self._train_once()

    def _train_once(self) -> None:
        estimator, model = self.estimator, self.model
        trainer = estimator.__dict__.get("_trainer")
        history = History()
        if model is None:
            (model,) = self._build_first(1)
            self.explained = self._explained(model)
        else:
            self._check_rows(column_bounds(self.raw))
            history = self._earlier_history()
        if trainer is None or trainer.models[0] is not model or estimator._trainer_settings != self._settings():
            model = self._continue(model) if history.loss else model
            trainer = Trainer([model], self._plan(endless=True), self.generator)
            trainer.epoch = len(history.loss)
        trainer.histories = [copy.deepcopy(history)]
        state = [*model.parameters(), *model.buffers()]
        before = [tensor.detach().clone() for tensor in state]
        trainer.plan.n_epochs = trainer.epoch + 1
        trainer.plan.batch_size = self.batch_size
        try:
            with threads.for_work(self._step_flops(model)):
                rows = self._rows(self.raw, model)
                with self.trainings.next("final", 1) as task:
                    trainer.run(rows, None, *self._epoch_hooks(task, trainer))
                trainer.check_finite(model, rows)
        except BaseException:
            with torch.no_grad():
                for tensor, values in zip(state, before, strict=True):
                    tensor.copy_(values)
            estimator.__dict__.pop("_trainer", None)
            raise
        estimator._trainer, estimator._trainer_settings = trainer, self._settings()
        self._hand_over(model, trainer.histories[0], estimator._after_partial_fit)

    def _earlier_history(self) -> History:
        fitted = self.estimator
        return History(fitted.loss_curve_, fitted.loss_terms_, fitted.validation_loss_curve_, fitted.validation_epochs_)

    def _settings(self) -> str:
        """What a kept optimizer depends on."""
        return repr({k: v for k, v in self.estimator.get_params().items() if k not in ("batch_size", "verbose")})

    def _plan(self, *, endless: bool = False) -> Plan:
        n_epochs = self.n_epochs
        return Plan(
            self.optimizer,
            self.learning_rate,
            self.batch_size,
            n_epochs,
            horizon=None if endless else n_epochs,
            evaluate_every=max(1, STEPS_A_LOOK * self.batch_size // self.raw.n_rows),
        )

    def _step_flops(self, model: Model) -> float:
        """Operations of a training step: two a product forwards, four backwards."""
        return 3 * model.flops(self.batch_size)

    def _rows(self, raw: RawRows, model: Model) -> Rows:
        return Rows(raw, model.prepare_for_training, self.device)

    def _is_at_optimum(self, model: Model) -> bool:
        """Whether PCA, where the model starts, is already the minimum."""
        if self.estimator._parameter("init") != "pca":
            return False
        # As many components as the rows have directions leave nothing over.
        rebuilt = self.space is not None and model.n_components >= self.raw.n_features
        if model.encoder.network is not None and not rebuilt:
            return False
        scale = model.extras.get("log_scale")
        squared_error = isinstance(self.likelihood, Gaussian) and scale.numel() == 1
        unbent = model.corruption is None and all(isinstance(penalty, Anchor) for penalty in model.penalties)
        plain = unbent and not self.raw.has_missing
        return squared_error and plain and model.posterior.is_solved_by_pca("log_scale" in model._learnt)

    @property
    def _stopping(self) -> EarlyStopping | None:
        """How held-out rows decide when to stop; None where they do not."""
        stopping = self.estimator._parameter("early_stopping")
        if not stopping or self.n_epochs == 0 or self.raw.n_rows == 1:
            return None
        return EarlyStopping() if stopping is True else stopping

    @property
    def _are_too_few(self) -> bool:
        """Whether the rows are too few to tell if training helps, and the start is kept."""
        return self.raw.n_rows < TOO_FEW_ROWS and self.estimator._starts_well

    def _n_folds(self, again: bool) -> int:
        """Folds by which the length of training is found, at most; 0 where it is not."""
        if self._stopping is None or self._are_too_few:
            return 0
        n_folds = self._stopping.n_folds
        if n_folds == "auto":
            return 5 if self.raw.n_rows < FEW_ROWS and not again else 0
        return n_folds

    def _guard(self, model: Model, plan: Plan, again: bool) -> tuple[Rows, Rows | None]:
        """Training and held-out rows; where folds decide, the plan gets the length they found.

        Folds train from the start, so they cannot tell how long to go on `again` from an earlier fit.
        """
        stopping, raw, n = self._stopping, self.raw, self.raw.n_rows
        if stopping is None or plan.n_epochs == 0:
            return self._rows(raw, model), None
        if self._are_too_few:
            plan.n_epochs = 0
            return self._rows(raw, model), None
        order = holdable(self.random_state.permutation(n), raw.y)
        if not len(order):
            plan.n_epochs = 0
            return self._rows(raw, model), None
        n_folds = min(self._n_folds(again), len(order))
        if n_folds:
            plan.n_epochs = self._length_by_folds(order, n_folds, model.n_components, stopping.patience)
            return self._rows(raw, model), None
        held = single_split(order, min(n - 1, max(1, round(stopping.validation_fraction * n))), raw.y)
        plan.patience = stopping.patience
        train = raw.subset(np.delete(np.arange(n), held))
        return self._rows(train, model), self._rows(raw.subset(np.sort(held)), model)

    def _length_by_folds(self, order: np.ndarray, n_folds: int, n_components: int, patience: int) -> int:
        if n_folds < 2:
            return 0
        models, train, held = [], [], []
        for fold in range(n_folds):
            self.fold = fold + 1
            kept = self.raw.subset(np.delete(np.arange(self.raw.n_rows), order[fold::n_folds]))
            models.append(self.build(kept, n_components))
            train.append(self._rows(kept, models[-1]))
            held.append(self._rows(self.raw.subset(np.sort(order[fold::n_folds])), models[-1]))
        groups, waiting = [], iter(held)
        for trainer, rows in self._groups(models, self._plan(), train):
            groups.append((trainer, rows, [next(waiting) for _ in trainer.models]))
        n_epochs = groups[0][0].plan.n_epochs
        with (
            threads.for_work(self._step_flops(models[0]) * len(groups[0][0].models)),
            self.trainings.next("folds", n_epochs) as task,
        ):
            length, self.fold_curve = best_length(groups, patience, *self._fold_hooks(task, groups))
        return length

    def _fold_hooks(self, task: Task, groups) -> tuple[Callable[[], None], Callable[[int, float], bool]]:
        # There is no model of the whole fit yet, which epochs of other trainings have for callbacks: so another name.
        epochs = Epochs(task, "folds-epoch")
        histories = [history for trainer, *_ in groups for history in trainer.histories]

        def end(epoch: int, held_out_loss: float) -> bool:
            return epochs.end(lambda: Report(epoch, np.mean([each.loss[-1] for each in histories]), held_out_loss))

        return epochs.begin, end

    # Results ---------------------------------------------------------------------------------

    def _attributes(self, history: History) -> dict:
        return {
            "n_iter_": len(history.loss),
            "loss_curve_": list(history.loss),
            "loss_terms_": {name: list(values) for name, values in history.terms.items()},
            "validation_loss_curve_": list(history.validation_loss),
            "validation_epochs_": list(history.validation_epochs),
            **(self.explained or {}),
        }

    def _explained(self, model: Model) -> dict:
        """The variances of PCA's components, as many as the code has numbers, where the model starts there."""
        if self.estimator._parameter("init") != "pca" or self.axes is None:
            return {}
        variances = self.axes.variances[: model.posterior.n_decoded(model.n_components)].numpy()
        # As many rows as the weights stand for: one of weight two is two.
        n = max(float(self.raw.n_rows), 0.0 if self.raw.weight is None else float(self.raw.weight.sum()))
        return {
            "explained_variance_": variances * model.scaling.unit**2 * (n / (n - 1) if n > 1 else 1.0),
            "explained_variance_ratio_": variances / max(self.axes.total, 1e-300),
        }

    def _snapshot(self, trainer: Trainer) -> dict:
        best = trainer.best
        model = self._of_rows(copy.deepcopy(trainer.models[best])).to(self.device).eval()
        attributes = self._attributes(trainer.histories[best])
        return {"model_": model, "n_components_": model.n_components, **attributes}

    def _hand_over(self, model: Model, history: History, further: Callable[[RawRows], dict]) -> None:
        if self.explained is not None:
            for name in ("explained_variance_", "explained_variance_ratio_"):
                self.estimator.__dict__.pop(name, None)
        self.estimator._set_fitted(self._of_rows(model), self._attributes(history))
        vars(self.estimator).update(further(self.raw if self.space is None else self.wide_rows))
