"""AutoencoderClassifier."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._estimator import TrainedEstimator, all_or_nothing
from skae.autoencoders._fitting import Fitting
from skae.autoencoders._stacked import StackedAE
from skae.base.estimators import ClassifierMixin, _fit_context, clone, with_callbacks
from skae.base.parameters import at_least, share
from skae.model.classifier import EncoderClassifier
from skae.model.networks import DenseNetwork
from skae.model.settings import own_settings
from skae.tables._containers import plain_rows
from skae.training.batches import RawRows
from skae.training.progress import Task, printed_progress

UNLABELLED = -1
# Rows by which the codes' location and scale are found.
START_ROWS = 4096
# Of the logistic regression on the codes: C is at most the first number, and the second over the number of rows, so
# that many rows have something left to teach the encoder; an approximate one is enough for a start.
LARGEST_C, START_STRENGTH, START_ITERATIONS = 0.1, 40.0, 100


class AutoencoderClassifier(ClassifierMixin, TrainedEstimator):
    r"""Classifier on top of an encoder: pretrained without labels, fine-tuned with them.

    .. math:: p(y \mid x) = \mathrm{softmax}(V f(x) + c), \quad \min_{V, c, f} -\sum_i \log p(y_i \mid x_i)

    The autoencoder is fitted to all rows, labelled or not; then its encoder and the softmax layer
    are trained together on the labelled ones [1]_. The softmax layer starts as the logistic
    regression of the classes on the codes, so that the encoder is not bent by a layer that knows
    nothing yet [2]_, and a fit that held-out rows stop at once is that regression.

    Parameters
    ----------
    autoencoder : autoencoder of skae or None, default=None
        What is fitted first; a clone of it. None is a `StackedAE` of two denoising layers, each about
        twice as wide as X.
    corruption : str, Corruption, callable or None, default=None
        What is done to rows while the classes are learnt; none is done while predicting. None leaves
        rows as they are, which small tables bear better; on 10,000 images of MNIST, `Masking(0.25)`
        took the error of held-out ones from 3.5 % to 2.75 %.
    dropout : float, default=0.0
        Share of the encoder's hidden units that is zeroed at each step while the classes are learnt;
        for dense networks.
    max_iter : int or "auto", default="auto"
        Epochs of the fine-tuning; "auto" is a budget in steps.
    {batch_size}
    learning_rate : float or "auto", default="auto"
        First learning rate; "auto" is a third of what the optimizer takes for a network of this
        width, so that what was learnt before is not lost at once.
    {optimizer}
    early_stopping : bool or EarlyStopping, default=True
        Whether held-out labelled rows, in which each class has its share, decide when to stop. The
        only row of a class is not held out; where fewer than two classes have two, the start is kept.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1", "mps"; "auto" takes a CUDA device where there is one and the network
        is large enough to be faster there.
    {random_state ... verbose}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    autoencoder_ : estimator
        The fitted autoencoder, as it was before the fine-tuning.
    model_ : EncoderClassifier
        The trained torch module. Its `forward` maps a tensor of rows to logits.
    {n_components_ ... loss_terms_}
    {n_features_in_ ... feature_names_in_}

    See Also
    --------
    sklearn.neural_network.MLPClassifier : Without pretraining.
    sklearn.semi_supervised.SelfTrainingClassifier : Labels the unlabelled rows by a classifier.

    References
    ----------
    .. [1] Vincent et al., "Stacked denoising autoencoders", JMLR 11, 2010, section 3.5.
    .. [2] Kumar et al., "Fine-tuning can distort pretrained features and underperform
       out-of-distribution", ICLR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderClassifier, StackedAE
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> few = np.where(np.arange(len(y)) % 5 == 0, y, -1)
    >>> stack = StackedAE(64, hidden_layer_sizes=(64,), code_activation="gelu", max_iter=0)
    >>> classifier = AutoencoderClassifier(stack, max_iter=20, random_state=0).fit(X, few)
    >>> bool(classifier.score(X, y) > 0.9)
    True
    """

    _parameter_constraints = {
        "autoencoder": [BaseAutoencoder, None],
        "dropout": [share("left")],
        "max_iter": [at_least(1), StrOptions({"auto"})],
    }

    autoencoder: Any
    corruption: Any
    dropout: float

    def __init__(
        self,
        autoencoder: Any = None,
        *,
        corruption: Any = None,
        dropout: float = 0.0,
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        optimizer: Any = "adamw",
        early_stopping: Any = True,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self._set_parameters(locals())

    _learning_rate_factor = 1 / 3

    def _asked_components(self):
        return self.autoencoder_.n_components_

    def _network_part(self):
        return self.autoencoder_.model_.network

    def _likelihood_part(self):
        return self.autoencoder_.model_.likelihood

    def _takes_tables(self):
        return isinstance(self.autoencoder, BaseAutoencoder) and self.autoencoder._takes_tables()

    def _fit_table_encoder(self, X):
        if hasattr(self, "autoencoder_"):
            return vars(self.autoencoder_).get("table_encoder_")
        return None if self.autoencoder is None else self.autoencoder._fit_table_encoder(X)

    def _build_model(self, fitting, columns, n_components):
        pretrained = self.autoencoder_.model_
        recipe = {name: value for name, value in pretrained._recipe.items() if name != "columns"}
        recipe["network"] = self._with_dropout(recipe["network"])
        return EncoderClassifier(
            pretrained.scaling.columns, type(pretrained), recipe, fitting.corruption, len(self.classes_)
        )

    def _with_dropout(self, network):
        """The network with this share of its hidden units zeroed while training."""
        if self.dropout == 0:
            return network
        if not isinstance(network, DenseNetwork):
            raise ValueError(
                f"dropout={self.dropout!r} is for dense networks, but the autoencoder's is a {type(network).__name__}: "
                "give it dropout of its own, and set dropout=0."
            )
        return clone(network).set_params(dropout=self.dropout)

    def _start_model(self, model, raw, fitting):
        pretrained = copy.deepcopy(self.autoencoder_.model_).to("cpu")
        order = torch.randperm(raw.n_rows, generator=fitting.cpu_generator).numpy()
        # Some rows, and at least one of each class.
        one_each = np.unique(raw.y[order].argmax(1), return_index=True)[1]
        index = order[np.union1d(np.arange(min(START_ROWS, len(order))), one_each)]
        index.sort()
        rows, _, observed = model.prepare_for_training(raw.take(index))
        codes = model.start_from(pretrained, rows, observed).numpy()
        weight = None if raw.weight is None else raw.weight[index]
        start_softmax(model.head, codes, raw.y[index].argmax(1), weight)

    # Fitting ---------------------------------------------------------------------------------

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    @own_settings()
    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the autoencoder to all rows, then its encoder and a softmax layer to the labelled ones.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as not observed.
        y : array-like of shape (n_samples,)
            Classes; -1 marks a row as not labelled, as in `sklearn.semi_supervised`. Where y has -1
            and one other value, these are two classes. Strings beside -1 need dtype object.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If y has fewer than two classes, or NaN, or if a parameter or the data are out of range.
        KeyboardInterrupt
            On Ctrl-C before the final fine-tuning, in which it keeps the model so far and warns. An
            earlier fit stays as it was.
        """
        with all_or_nothing(self), printed_progress(self):
            self.__dict__.pop("autoencoder_", None)
            raw, y = self._labelled_rows(X, y, sample_weight)
            random_state = check_random_state(self.random_state)
            seed = int(random_state.randint(np.iinfo(np.int32).max))
            autoencoder = self._default(raw) if self.autoencoder is None else clone(self.autoencoder)
            if autoencoder.random_state is None:
                autoencoder.set_params(random_state=seed)
            with Task.of_fit(self, X, y, 2) as task:
                with task.part("autoencoder").fit_of(autoencoder):
                    self.autoencoder_ = autoencoder.fit(X, sample_weight=sample_weight)
                self._tune(raw, X, y, partial(task.part, "fine-tuning"))
        return self

    @with_callbacks
    @own_settings()
    def fit_from(self, autoencoder, X, y, sample_weight=None) -> Self:
        """Fit by a fitted autoencoder, which is not fitted again.

        Parameters
        ----------
        autoencoder : fitted autoencoder of skae
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Classes; -1 marks a row as not labelled. Where y has -1 and one other value, these are two
            classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The fitted classifier.
        """
        check_is_fitted(autoencoder)
        self._validate_params()
        with all_or_nothing(self), printed_progress(self):
            self.autoencoder_ = autoencoder
            raw, y = self._labelled_rows(X, y, sample_weight)
            if self.n_features_in_ != autoencoder.n_features_in_:
                raise ValueError(
                    f"X has {raw.n_features} features, but the autoencoder was fitted to {autoencoder.n_features_in_}."
                )
            self._tune(raw, X, y)
        return self

    def _default(self, raw) -> StackedAE:
        wide = int(np.clip(2 ** np.ceil(np.log2(2 * raw.n_features)), 64, 512))
        return StackedAE(
            wide,
            hidden_layer_sizes=(wide,),
            code_activation="gelu",
            max_iter=0,
            device=self.device,
        )

    def _labelled_rows(self, X, y, sample_weight):
        """Checked rows with weights, and their labels."""
        if y is None:
            raise ValueError(f"requires y to be passed, but the target y is None: {type(self).__name__} tells classes.")
        y = column_or_1d(plain_rows(y), warn=True)
        check_labels(y)
        raw = RawRows(self._validate(X, reset=True))
        if len(y) != raw.n_rows:
            raise ValueError(f"X has {raw.n_rows} rows, but y has {len(y)} classes: there must be one a row.")
        if sample_weight is not None:
            weighted = self._raw_rows(X, sample_weight, reset=False)
            if weighted.n_rows < raw.n_rows:
                y = y[np.asarray(plain_rows(sample_weight)) != 0]
                check_labels(y)
            raw = weighted
        return raw, y

    def _tune(self, raw, X, y, open_task: Callable[[int], Task] | None = None) -> None:
        labelled = is_labelled(y)
        self.classes_, index = np.unique(y[labelled], return_inverse=True)
        rows = raw.subset(np.flatnonzero(labelled))
        rows.y = np.eye(len(self.classes_), dtype=np.float32)[index]
        Fitting(self, rows, X, y, None, open_task).run()

    # Using -----------------------------------------------------------------------------------

    def decision_function(self, X) -> np.ndarray:
        """Logarithms of the class probabilities, up to a constant of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes, the logit of the second one.
        """
        logits = self._map_rows(X, lambda model, step: step.logits, self._class_count)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._map_rows(X, lambda model, step: step.logits.softmax(1), self._class_count)

    def predict(self, X) -> np.ndarray:
        """The most likely class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def _class_count(self) -> int:
        return len(self.classes_)


def is_labelled(y: np.ndarray) -> np.ndarray:
    """Which rows have a class: those that are not −1, unless −1 is one of two classes that y has in all."""
    if y.dtype.kind in "US":
        return np.ones(len(y), dtype=bool)
    labelled = np.asarray(y != UNLABELLED, dtype=bool)
    others = {value for value in y[labelled].tolist()}
    return labelled | (len(others) == 1)


def check_labels(y: np.ndarray) -> None:
    """Raise ValueError for labels of fewer than two classes, or what is no label."""
    if y.dtype.kind == "f":
        unknown = not np.isfinite(y).all()
    else:
        # Only what is not equal to itself is NaN.
        unknown = y.dtype.kind == "O" and any(value is None or value != value for value in y)
    if unknown:
        raise ValueError(f"y contains NaN, infinity or None: rows that are not labelled have y={UNLABELLED}.")
    labels = y[is_labelled(y)]
    check_classification_targets(labels)
    classes = np.unique(labels)
    if len(classes) < 2:
        found = f"1 class, {classes[0]!r}" if len(classes) else "no class, since all are -1, which is not labelled"
        raise ValueError(f"A classifier needs rows of at least two classes, but y has {found}.")


def start_softmax(head, codes: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
    """Let a softmax layer start as the logistic regression of classes on codes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = LogisticRegression(C=min(LARGEST_C, START_STRENGTH / len(y)), max_iter=START_ITERATIONS)
        start.fit(codes, y, weight)
    with torch.no_grad():
        for to, values in ((head.weight, start.coef_), (head.bias, start.intercept_)):
            if len(start.classes_) == 2:
                values = np.concatenate([-values / 2, values / 2])
            to[torch.from_numpy(start.classes_)] = torch.from_numpy(values).to(to)
