"""One call of `fit`: parameters resolved, model built, trained and handed over."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state

from skae.model.autoencoder import Autoencoder
from skae.model.corruptions import as_corruption
from skae.model.likelihoods import as_likelihood
from skae.model.networks import DenseNetwork
from skae.model.pca_start import PrincipalAxes, start_at_pca
from skae.model.scaling import Scaling
from skae.training.batches import RawRows, Rows
from skae.training.device import new_generator, resolve_device, seeded_global_generator
from skae.training.early_stopping import EarlyStopping
from skae.training.optimizers import as_optimizer
from skae.training.principal_axes import column_moments, principal_axes
from skae.training.trainer import Plan, Trainer

MAX_AXES = 512


class Fitting:
    """What one fit needs beside the estimator.

    Parameters
    ----------
    estimator : BaseAutoencoder
    raw : RawRows
    X, y : as given to `fit`, for callbacks
    """

    def __init__(self, estimator, raw: RawRows, X, y):
        self.estimator, self.raw, self.X, self.y = estimator, raw, X, y
        self.random_state = check_random_state(estimator.random_state)
        self.device = resolve_device(estimator.device)
        self.likelihood = as_likelihood(estimator.likelihood)
        self.corruption = as_corruption(estimator._corruption_part())
        self.optimizer = as_optimizer(estimator.optimizer)
        self.network = self._network()
        self.cpu_generator = new_generator(torch.device("cpu"), self.random_state)
        self.generator = new_generator(self.device, self.random_state)

    # Parameters ------------------------------------------------------------------------------

    def _network(self):
        estimator, p = self.estimator, self.raw.n_features
        if estimator.network is not None:
            network = estimator.network
        else:
            sizes = estimator.hidden_layer_sizes
            if isinstance(sizes, str):
                wide = int(np.clip(2 ** np.ceil(np.log2(2 * p)), 64, 512))
                sizes = (wide, wide // 2)
            sizes = (sizes,) if isinstance(sizes, Integral) else tuple(sizes)
            activation = "gelu" if estimator.activation == "auto" else estimator.activation
            network = DenseNetwork(sizes, activation)
        if hasattr(network, "check"):
            network.check()
        return network

    @property
    def batch_size(self) -> int:
        """Rows of a batch: all for L-BFGS, else from the number of rows."""
        n = self.raw.n_rows
        if self.optimizer.full_batch:
            return n
        if self.estimator.batch_size == "auto":
            return min(n, int(np.clip(2 ** np.round(np.log2(max(n, 1) / 16)), 32, 256)))
        return min(n, self.estimator.batch_size)

    def n_epochs(self, n_rows: int) -> int:
        """Epochs: as asked for, or a budget in steps."""
        if self.estimator.max_iter != "auto":
            return self.estimator.max_iter
        if self.optimizer.full_batch:
            return 20
        steps_an_epoch = -(-n_rows // self.batch_size)
        steps = max(2000, min(20 * steps_an_epoch, 20000))
        return max(1, round(steps / steps_an_epoch))

    @property
    def learning_rate(self) -> float:
        """As asked for, or the optimizer's own."""
        rate = self.estimator.learning_rate
        return self.optimizer.default_learning_rate if rate == "auto" else float(rate)

    def _n_components(self, axes: PrincipalAxes | None, columns) -> int:
        n_components, p = self.estimator.n_components, self.raw.n_features
        if n_components == "auto":
            found = int((axes.variances > axes.total / p).sum()) if axes.total > 0 else 1
            return max(found, min(2, p))
        if isinstance(n_components, Integral):
            return int(n_components)
        share = torch.cumsum(axes.variances, 0) / max(axes.total, 1e-300)
        return min(int((share < n_components).sum()) + 1, max(1, len(share)))

    # Model -----------------------------------------------------------------------------------

    def build(self, raw: RawRows, n_components: int | None = None) -> Autoencoder:
        """A model at its start, on the device."""
        estimator = self.estimator
        columns = column_moments(raw, self.likelihood)
        self.likelihood.check_rows(columns)
        from_pca = estimator.init == "pca"
        axes = None
        if from_pca or not isinstance(estimator.n_components, Integral):
            asked = estimator.n_components if isinstance(estimator.n_components, Integral) else MAX_AXES
            axes = principal_axes(raw, Scaling(self.likelihood, columns), asked, self.cpu_generator)
        d = n_components or self._n_components(axes, columns)
        self._check_components(d)
        with seeded_global_generator(self.cpu_generator):
            model = Autoencoder(
                self.network,
                estimator._posterior(),
                self.likelihood,
                columns,
                d,
                corruption=self.corruption,
                penalties=estimator._penalty_parts(),
                conditioning=estimator._conditioning(),
                emphasis=estimator._emphasis(),
                shortcut=from_pca,
            )
        model.reset(self.cpu_generator)
        if from_pca:
            start_at_pca(model, axes)
            self.axes = axes
        return model.to(self.device)

    def _check_components(self, d: int) -> None:
        linear = getattr(self.network, "hidden_layer_sizes", None) == ()
        if linear and d > self.raw.n_features:
            raise ValueError(
                f"n_components={d} is above n_features={self.raw.n_features}: a linear autoencoder has at most one "
                "component a feature. Lower n_components or give it hidden layers (hidden_layer_sizes)."
            )

    # Training --------------------------------------------------------------------------------

    def run(self, model: Autoencoder | None) -> None:
        """Train on all rows and hand the model over."""
        estimator = self.estimator
        n_epochs = self.n_epochs(self.raw.n_rows)
        context = estimator._init_callback_context(max_subtasks=n_epochs)
        self._call(context.call_on_fit_task_begin)
        stopping = estimator.early_stopping
        stopping = EarlyStopping() if stopping is True else stopping
        if model is None:
            model = self.build(self.raw)
        else:
            model = copy.deepcopy(model).to(self.device)
        plan = self.plan(n_epochs)
        validation, train = None, self.raw
        if stopping:
            folds = stopping.n_folds
            if folds == "auto":
                folds = 5 if self.raw.n_rows < 2000 else 0
            if folds and self.raw.n_rows >= 2 * folds:
                plan.n_epochs = self.best_length(stopping, folds, model.n_components, n_epochs)
            elif self.raw.n_rows >= 10:
                order = self.random_state.permutation(self.raw.n_rows)
                held = max(1, round(stopping.validation_fraction * self.raw.n_rows))
                train, validation = self.raw.subset(order[held:]), self.raw.subset(order[:held])
                plan.patience = stopping.patience
        trainer = Trainer(model, plan, self.generator)
        sub = []

        def begin():
            sub.append(context.subcontext(task_name="epoch"))
            self._call(sub[-1].call_on_fit_task_begin)

        def end():
            return self._call(
                sub[-1].call_on_fit_task_end, reconstruction_attributes=lambda: self._snapshot(model, trainer)
            )

        trainer.run(
            Rows(train, model.prepare_on(self.device), self.device),
            None if validation is None else Rows(validation, model.prepare_on(self.device), self.device),
            begin,
            end,
        )
        trainer.close()
        estimator._set_fitted(model, self._attributes(trainer))
        self._call(context.call_on_fit_task_end, reconstruction_attributes=lambda: self._snapshot(model, trainer))

    def plan(self, n_epochs: int) -> Plan:
        """How to train for `n_epochs`."""
        steps_an_epoch = -(-self.raw.n_rows // self.batch_size)
        return Plan(
            self.optimizer,
            self.learning_rate,
            self.batch_size,
            n_epochs,
            n_epochs,
            evaluate_every=max(1, 40 // steps_an_epoch),
            verbose=self.estimator.verbose,
        )

    def best_length(self, stopping, folds: int, n_components: int, n_epochs: int) -> int:
        """The number of epochs with the best mean held-out loss over the folds."""
        order = self.random_state.permutation(self.raw.n_rows)
        curves = []
        for fold in range(folds):
            held = order[fold::folds]
            kept = np.setdiff1d(order, held)
            model = self.build(self.raw.subset(kept), n_components)
            trainer = Trainer(model, self.plan(n_epochs), self.generator)
            prepare = model.prepare_on(self.device)
            trainer.run(
                Rows(self.raw.subset(kept), prepare, self.device), Rows(self.raw.subset(held), prepare, self.device)
            )
            curves.append(trainer.history.validation_loss)
        self.curves = np.array(curves)
        mean = self.curves.mean(0)
        return min(int(mean.argmin()) * self.plan(n_epochs).evaluate_every, n_epochs)

    def run_once(self, model: Autoencoder | None) -> None:
        """Train for one pass over the rows, with the optimizer of the last call where there is one."""

    def _snapshot(self, model, trainer) -> dict:
        frozen = copy.deepcopy(model).to(self.device)
        frozen.eval()
        return {"model_": frozen, "n_components_": frozen.n_components, **self._attributes(trainer)}

    def _attributes(self, trainer: Trainer) -> dict:
        made = {
            "n_iter_": max(1, trainer.epoch),
            "loss_curve_": list(trainer.history.loss),
            "loss_terms_": {name: list(values) for name, values in trainer.history.terms.items()},
            "validation_loss_curve_": list(trainer.history.validation_loss),
        }
        return made

    def _call(self, hook, **kwargs):
        # An autoencoder's target is its input: callbacks that score need one.
        y = self.X if self.y is None else self.y
        return hook(estimator=self.estimator, X=self.X, y=y, **kwargs)
