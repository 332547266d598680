"""What all estimators that are trained share: the one seam between arrays and tensors."""

from __future__ import annotations

import contextlib
import inspect
import math
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight, check_array, check_is_fitted

from skae.autoencoders._docs import with_shared_entries
from skae.autoencoders._fitting import Fitting
from skae.base.estimators import CallbackSupportMixin, _fit_context, clone, with_callbacks
from skae.base.parameters import LAYER_SIZES, CheckedParameters, SequenceOf, at_least, positive
from skae.model.conditional import with_classes
from skae.model.corruptions import CORRUPTIONS, Corruption
from skae.model.likelihoods import Likelihood
from skae.model.mixed import Mixed
from skae.model.model import Model
from skae.model.named_likelihoods import LIKELIHOODS, as_likelihood
from skae.model.networks import ACTIVATIONS, DenseNetwork
from skae.model.pca_start import PrincipalAxes, start_at_pca
from skae.model.penalties import Penalty
from skae.model.posteriors import Posterior
from skae.model.priors import PRIOR
from skae.model.scaling import LARGEST, Columns
from skae.model.settings import own_settings
from skae.model.threads import threads
from skae.tables._containers import FLOATS, checked_numbers, checked_table, plain_rows, rows_in_container
from skae.tables._encoder import TableEncoder, table_of
from skae.training.batches import RawRows
from skae.training.device import new_generator
from skae.training.early_stopping import EarlyStopping
from skae.training.optimizers import OPTIMIZERS, Optimizer
from skae.training.progress import printed_progress

CHUNK_ELEMENTS = 2**20
# What stands for a parameter in a class that does not have it.
WITHOUT_PARAMETER = {
    "init": "random",
    "n_init": 1,
    "warm_start": False,
    "early_stopping": False,
    "hidden_layer_sizes": "auto",
    "activation": "auto",
}


@contextlib.contextmanager
def all_or_nothing(estimator):
    """Put the fitted attributes back as they were if fitting fails."""

    def fitted():
        return {k: v for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("__")}

    before = fitted()
    try:
        yield
    except BaseException:
        for name in fitted():
            delattr(estimator, name)
        estimator.__dict__.update(before)
        raise


def seeded(autoencoder, random_state: np.random.RandomState):
    """A clone whose free seeds are drawn from `random_state`, and which returns arrays."""
    made = clone(autoencoder)
    if hasattr(made, "set_output"):
        made.set_output(transform="default")
    free = [
        name
        for name, value in made.get_params().items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    ]
    return made.set_params(**{name: int(random_state.randint(np.iinfo(np.int32).max)) for name in sorted(free)})


class TrainedEstimator(CallbackSupportMixin, CheckedParameters):
    """Base of the estimators that a `Trainer` fits: everything between the arrays and the model.

    A named estimator is an explicit signature, whose constructor is `self._set_parameters(locals())`,
    a docstring with markers where `_docs.py` has the text, constraints of its own parameters, and
    the hooks.
    """

    _parameter_constraints: dict = {
        "n_components": [
            at_least(1),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto"}),
            None,
        ],
        "hidden_layer_sizes": [*LAYER_SIZES, StrOptions({"auto"})],
        "activation": [StrOptions({*ACTIVATIONS, "auto"})],
        "network": [HasMethods(["encoder", "decoder"]), None],
        "likelihood": [StrOptions(set(LIKELIHOODS)), Likelihood],
        "init": [StrOptions({"pca", "random"})],
        "n_init": [at_least(1)],
        "max_iter": [at_least(1), StrOptions({"auto"})],
        "batch_size": [at_least(1), StrOptions({"auto"})],
        "learning_rate": [positive(), StrOptions({"auto"})],
        "optimizer": [StrOptions(set(OPTIMIZERS)), Optimizer],
        "early_stopping": ["boolean", EarlyStopping],
        "warm_start": ["boolean"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "corruption": [StrOptions(set(CORRUPTIONS)), Corruption, callable, None],
        "penalties": [SequenceOf(Penalty), StrOptions({"auto"})],
        "prior": PRIOR,
    }
    # The parameters and fitted attributes that most classes have; a constructor or a fit sets them.
    n_components: Any
    network: Any
    hidden_layer_sizes: Any
    activation: str
    likelihood: Any
    init: str
    n_init: int
    max_iter: Any
    batch_size: Any
    learning_rate: Any
    optimizer: Any
    early_stopping: bool | EarlyStopping
    warm_start: bool
    device: str
    random_state: Any
    verbose: bool | int
    model_: Any
    n_components_: int
    n_iter_: int
    loss_curve_: list[float]
    validation_loss_curve_: list[float]
    validation_epochs_: list[int]
    loss_terms_: dict[str, list[float]]
    # Whether a reconstruction differs from what is observed.
    _rebuilds_observed = True
    # Of the learning rate that the optimizer takes by itself.
    _learning_rate_factor = 1.0
    # Whether a fit to few rows of many columns may see their scores on the rows' axes: all parts that matter are then
    # asked whether rotated rows are the same to them.
    _trains_on_scores = False
    # Least and most rows of a batch where the number is not given.
    _batch_bounds = (32, 256)

    def __init_subclass__(cls, **kwargs):
        """Complete the docstring of a class, and the constraints of its parameters by the shared ones."""
        super().__init_subclass__(**kwargs)
        names = inspect.signature(cls).parameters
        constraints = {**TrainedEstimator._parameter_constraints, **cls._parameter_constraints}
        cls._parameter_constraints = {name: constraints[name] for name in names if name in constraints}
        # Without docstrings (python -OO) it is None.
        if cls.__doc__ is not None:
            cls.__doc__ = with_shared_entries(cls.__doc__)

    def _set_parameters(self, given: dict) -> None:
        """Store the arguments of a constructor, which are its `locals()`, under their names."""
        for name, value in given.items():
            # A constructor that names `super` or `__class__` has the class among its locals.
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _parameter(self, name: str) -> Any:
        """The value of a shared parameter, or what stands for it in a class that does not have it."""
        return getattr(self, name, WITHOUT_PARAMETER[name])

    # Hooks -----------------------------------------------------------------------------------

    @property
    def _starts_well(self) -> bool:
        """Whether the start is worth keeping where too few rows can tell if training helps."""
        return self._parameter("init") == "pca"

    @property
    def _scores_by_likelihood(self) -> bool:
        """Whether `score_samples` tells detectors more of a row than the error of its reconstruction."""
        return False

    def _asked_components(self):
        """Size of the code: a number, a share of PCA's variance, or "auto"."""
        return self.n_components

    def _network_part(self):
        """The network part, or None for a dense one by `hidden_layer_sizes` and `activation`."""
        return self.network

    def _dense_network(self, hidden_layer_sizes: tuple[int, ...], activation: str):
        """The network part of these sizes, where no other is asked for."""
        return DenseNetwork(hidden_layer_sizes, activation)

    def _default_activation(self) -> str:
        """What activation="auto" is."""
        return "gelu"

    def _likelihood_part(self):
        """The likelihood part or its name."""
        return self.likelihood

    def _keeps_units(self, n_features: int) -> np.ndarray:
        """Which columns must not be scaled before the fit, of shape (n_features,)."""
        with own_settings():
            return as_likelihood(self._likelihood_part()).keeps_units(n_features).numpy()

    def _posterior(self):
        """The posterior part."""
        return Posterior()

    def _corruption_part(self):
        """The corruption part, its name, a function, or None."""
        return getattr(self, "corruption", None)

    def _optimizer_part(self):
        """The optimizer part or its name."""
        return self.optimizer

    def _build_model(self, fitting: Fitting, columns: Columns, n_components: int) -> Model:
        """A model of the fit's parts; `fitting` has them."""
        raise NotImplementedError

    def _start_at_pca(self, model: Any, axes: PrincipalAxes) -> None:
        """Set a new model to its start at PCA."""
        start_at_pca(model, axes)

    def _start_model(self, model: Model, raw: RawRows, fitting: Fitting) -> None:
        """Set first weights by the training rows, where the model does not start at PCA."""

    def _after_fit(self, raw: RawRows) -> dict:
        """Further fitted attributes, by name."""
        return {}

    def _after_partial_fit(self, raw: RawRows) -> dict:
        """Further fitted attributes, by name, where the rows are a part of what the model has seen."""
        return self._after_fit(raw)

    def _n_pretrained_layers(self, fitting: Fitting) -> int:
        """How many layers `_start_model` fits, each as a separate estimator."""
        return 0

    def _class_prior(self) -> tuple[float, ...]:
        """Shares of the classes that encoder and decoder are told; empty where they are told none."""
        return ()

    # Fitting ---------------------------------------------------------------------------------

    def _targets(self, X, y, *, reset: bool) -> np.ndarray | None:
        """What training is told beside checked rows, of shape (n_rows, n_targets); None where that is nothing."""
        return None

    def _raw_rows(self, X, sample_weight, *, reset: bool, y=None) -> RawRows:
        X = self._validate(X, reset=reset)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(plain_rows(sample_weight), X, dtype=np.float64, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("Sample weights must contain at least one non-zero number: all are zero.")
        raw = RawRows(X, weight, self._targets(X, y, reset=reset))
        return raw if weight is None or weight.all() else raw.subset(np.flatnonzero(weight))

    def _validate(self, X, *, reset: bool):
        """Check X as scikit-learn does, and encode tables; memory maps stay on disk and are checked by chunk."""
        encoder = self._fit_table_encoder(X) if reset else vars(self).get("table_encoder_")
        if reset:
            self.__dict__.pop("table_encoder_", None)
        if encoder is not None:
            if reset:
                checked_table(self, X, reset=True)
                self.table_encoder_ = encoder
            return encoder.transform(X)
        on_disk = isinstance(X, np.memmap) and X.dtype.kind in "fiu" and X.ndim == 2
        mixed = "set likelihood='mixed', or " if hasattr(self, "likelihood") else ""
        checked = checked_numbers(
            self,
            X,
            hint=f"{mixed}encode it by TableEncoder.",
            reset=reset,
            accept_sparse=("csr", "csc") if reset else "csr",
            dtype=None if on_disk else FLOATS,
            ensure_all_finite=False if on_disk else "allow-nan",
        )
        if not on_disk:
            return checked
        for chunk, _ in RawRows(X).chunks():
            check_array(chunk.numpy(), ensure_all_finite="allow-nan", estimator=self, input_name="X")
        return X

    def _column_label(self, index: int):
        """The name of the table's column that a column of the matrix belongs to; its index where it has none."""
        encoder = vars(self).get("table_encoder_")
        if encoder is not None:
            return next(group.column for group in encoder.groups_ if index < group.stop)
        return str(self.feature_names_in_[index]) if hasattr(self, "feature_names_in_") else index

    def _out_of_range(self, raw: RawRows) -> ValueError:
        """An error that names the first number beyond what all classes bear; there is one."""
        start = 0
        for rows, _ in raw.chunks():
            beyond = (rows.abs() > LARGEST).nonzero()
            if len(beyond):
                break
            start += len(rows)
        row, column = beyond[0].tolist()
        name = self._column_label(column)
        return ValueError(
            f"X holds {float(rows[row, column]):.3g} in column {name!r}, row {start + row}: numbers beyond "
            f"{LARGEST:g} are too large. If it stands for a missing value, make it NaN; else scale the data "
            "(StandardScaler)."
        )

    # Tables ----------------------------------------------------------------------------------

    def _takes_tables(self) -> bool:
        """Whether columns may hold categories: the likelihood takes its groups from the table."""
        part = getattr(self, "likelihood", None)
        return part == "mixed" or isinstance(part, Mixed) and isinstance(part.groups, str)

    def _fit_table_encoder(self, X) -> TableEncoder | None:
        """What turns tables like X into matrices; None where X is one."""
        if not self._takes_tables():
            return None
        encoder = as_likelihood(self.likelihood).table_encoder
        # Matrices, whatever the user has set for the output of transformers.
        return (TableEncoder() if encoder is None else clone(encoder)).set_output(transform="default").fit(X)

    def _n_columns(self) -> int:
        """Columns of the matrix that the model is fitted to."""
        encoder = vars(self).get("table_encoder_")
        return self.n_features_in_ if encoder is None else encoder.groups_[-1].stop

    def _as_table(self, rows: np.ndarray, like=None):
        """Rows of the model in the container that `set_output` asks for, with the index of `like`.

        Where it asks for none, a table comes in the container of `like`, or of fit, and a matrix as an array.
        """
        encoder = vars(self).get("table_encoder_")
        if encoder is not None:
            return table_of(encoder, rows, self, like)
        return rows_in_container(self, rows, lambda: _check_feature_names_in(self), like)

    # Results ---------------------------------------------------------------------------------

    def _set_fitted(self, model: Model, attributes: dict) -> None:
        model.eval()
        model.forget_float64()
        self.model_ = model
        self.n_components_ = model.n_components
        self.__dict__.update(attributes)

    # Using -----------------------------------------------------------------------------------

    def _scores(self, X, function, n_copies: int = 1) -> np.ndarray:
        """`function(model, step)` of each row, in double precision whatever the dtype of X.

        A score is a small difference of large numbers, and the square of a large one: in float32 it
        would depend on the other rows of the call, or overflow.
        """
        dtype = np.dtype(np.float64)
        return self._map_rows(X, lambda model, step: function(model, step)[:, None], lambda: 1, n_copies, dtype)[:, 0]

    @own_settings()
    def _map_rows(self, X, function, width, n_copies: int = 1, dtype: np.dtype | None = None) -> np.ndarray:
        """Apply `function(model, step)`, which may hold `n_copies` of the rows at once, to X a chunk at a time.

        The result is of this dtype, by default that of X, and so is the model; but one that chooses
        computes in double precision, so that a choice does not turn on how rows are batched.
        """
        check_is_fitted(self)
        raw = RawRows(X if self._is_plain(X) else self._validate(X, reset=False))
        dtype = dtype or np.dtype(np.float32 if raw.X.dtype == np.float32 else np.float64)
        out = None
        with torch.inference_mode(), self._threads_for(raw.n_rows * n_copies):
            model = self._model(np.float64 if self.model_.is_choice else dtype)
            for start, step in self._steps(raw, model, n_copies):
                made = function(model, step).cpu().numpy()
                # The next step gets its memory, which is still in the cache.
                del step
                if len(made) == raw.n_rows:
                    out = made.astype(dtype, copy=False)
                    break
                if out is None:
                    out = np.empty((raw.n_rows, width()), dtype=dtype)
                out[start : start + len(made)] = made
        if not math.isfinite(out.sum()) and any((rows.abs() > LARGEST).any() for rows, _ in raw.chunks()):
            # Numbers that large may still have a result; these do not.
            raise self._out_of_range(raw)
        return out

    def _is_plain(self, X) -> bool:
        """Whether X is an array in which scikit-learn's checks, slower than a small network, would find nothing."""
        return (
            type(X) is np.ndarray
            and X.dtype in (np.float64, np.float32)
            and X.shape[1:] == (self.n_features_in_,)
            and len(X) > 0
            and X.flags.carray
            and not hasattr(self, "feature_names_in_")
            and not hasattr(self, "table_encoder_")
            and math.isfinite(torch.from_numpy(X).sum())
        )

    def _threads_for(self, n_rows: int):
        """The context in which so many rows go through the model, a chunk at a time."""
        return threads.for_work(self.model_.flops(min(n_rows, max(1, CHUNK_ELEMENTS // self.n_features_in_))))

    @staticmethod
    def _steps(raw: RawRows, model: Model, n_copies: int = 1):
        """Steps of all rows in order, with the index of the first row of each."""
        size = max(1, CHUNK_ELEMENTS // max(1, n_copies * raw.n_features))
        with torch.inference_mode():
            for start in range(0, raw.n_rows, size):
                rows = slice(start, start + size)
                yield start, model_step(model, raw.take(rows), None if raw.y is None else torch.as_tensor(raw.y[rows]))

    def _model(self, dtype) -> Model:
        """The model in a precision, where its device has that."""
        if dtype == np.float32 or self.model_.reference.device.type == "mps":
            return self.model_
        return self.model_.in_float64()

    @own_settings()
    def _drawn(self, draw, n_samples, random_state):
        """What `draw(model, generator)` returns, `n_samples` rows, in the units and container of the training data."""
        check_is_fitted(self)
        generator = new_generator(self.model_.reference.device, check_random_state(random_state))
        with torch.inference_mode(), self._threads_for(n_samples):
            return self._as_table(self.model_.scaling.from_target(draw(self.model_, generator)).cpu().numpy())

    # Conventions -----------------------------------------------------------------------------

    def __getstate__(self):
        """The state without the optimizer that `partial_fit` keeps."""
        state = dict(super().__getstate__())
        state.pop("_trainer", None)
        state.pop("_trainer_settings", None)
        return state

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model."""
        return hasattr(self, "model_")

    def __sklearn_tags__(self):
        """Gaps; sparse matrices, or tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = not self._takes_tables()
        tags.input_tags.categorical = tags.input_tags.string = self._takes_tables()
        return tags


class UnsupervisedEstimator(TrainedEstimator):
    """Base of the estimators that are fitted to rows alone."""

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    @own_settings()
    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Fit the model to X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows. NaN marks an entry as not observed: it counts in no term of the loss.
            Sparse matrices and memory maps are read a chunk at a time. With likelihood="mixed" a
            data frame of numbers, booleans, categories and strings, as it is.
        y : array-like of shape (n_samples,), default=None
            Ignored, but handed to callbacks that score.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None weighs them equally.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range.
        FloatingPointError
            If training diverges. An earlier fit stays as it was.
        KeyboardInterrupt
            On Ctrl-C while folds or layers are trained, or in a pipeline, search or ensemble: an
            earlier fit stays as it was. In a single training Ctrl-C keeps the model so far and warns.
        """
        with all_or_nothing(self), printed_progress(self):
            again = self._parameter("warm_start") and hasattr(self, "model_")
            raw = self._raw_rows(X, sample_weight, reset=not again, y=y)
            Fitting(self, raw, X, y, self.model_ if again else None).run()
        return self

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    @own_settings()
    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Train for one pass over X and keep what was learnt before.

        The first call sets the scale, and starts at the PCA, of its rows: make it a representative
        and not too small part of the data. Of a table it sets the categories: later ones are gaps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Some rows.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C. The weights are as they were before the call, as after other errors.
        """
        # scikit-learn checks the parameters of the first call alone.
        self._validate_params()
        with all_or_nothing(self), printed_progress(self):
            first = not hasattr(self, "model_")
            raw = self._raw_rows(X, sample_weight, reset=first, y=y)
            Fitting(self, raw, X, y, None if first else self.model_).run_once()
        return self


def model_step(model: Model, x: torch.Tensor, classes: torch.Tensor | None = None) -> Any:
    """Raw rows in the model, with the columns of their classes where these are known."""
    x = x.to(model.reference.device, model.reference.dtype)
    input, observed = model.scaling.input(x)
    target = input if model.scaling.same_target else partial(model.scaling.target, x)
    return model.step(with_classes(input, None if classes is None else classes.to(x)), target, observed)
