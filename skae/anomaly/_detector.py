"""AutoencoderOutlierDetector."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, has_fit_parameter

from skae.anomaly._confidence import ConfidenceMixin
from skae.anomaly._member import Member, calibrate_together, dense, entry_of, keeps_units, takes_tables
from skae.anomaly._reasons import Table, reasons
from skae.anomaly._scorers import (
    DenoisingError,
    NegativeLogLikelihood,
    NeighborDistance,
    ReconstructionError,
    RobustDistance,
    Scorer,
    receives_noise_level,
)
from skae.anomaly._tail import (
    NULL_LEVEL,
    benjamini_hochberg,
    between_ties,
    conformal_p_values,
    extrapolated_threshold,
    share_of_anomalies,
    threshold,
)
from skae.autoencoders._denoising import DenoisingAE
from skae.autoencoders._ensemble import (
    fit_in_parallel,
    merged_rows,
    new_states,
    relative_weight,
    rows_by_weight,
    rows_that_count,
    with_parameters,
)
from skae.autoencoders._estimator import all_or_nothing
from skae.base.estimators import CallbackSupportMixin, OutlierMixin, _fit_context, clone, with_callbacks
from skae.base.parameters import CheckedParameters, at_least, checked_arguments, list_of, share
from skae.model.corruptions import GaussianNoise
from skae.model.row_space import is_wide
from skae.tables._containers import (
    FLOATS,
    asked_library,
    checked_numbers,
    checked_table,
    is_frame,
    library_of,
    polars_blocks,
)
from skae.tables._encoder import TableEncoder, as_frame, encoded, encoder_of_categories
from skae.training.progress import Task, printed_progress

# n_estimators="auto": several members below this number of rows, where one held-out part would be too small.
FEW_ROWS, N_MEMBERS = 2000, 5
# Below this number nothing is held out.
TOO_FEW_ROWS = 5
# The held-out part of a single member, which is never less than so many rows, or half of them.
HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.1, 10, 10_000
# Optimizer steps of the default autoencoder, if there is one and if there are several, and its rows a batch.
N_STEPS, N_STEPS_OF_SEVERAL, BATCH_SIZE = 3000, 1000, 256


class AutoencoderOutlierDetector(CallbackSupportMixin, ConfidenceMixin, OutlierMixin, CheckedParameters):
    r"""Anomaly detection by an autoencoder: scores, thresholds, p-values and reasons.

    By default a denoising autoencoder that knows all levels of noise is fitted to standardised
    columns, and what it changes in a row is its score, together with a second opinion that is
    coarse and cannot overfit. How the scores of several scorers become one: each is turned into a
    tail probability by rows that were held out, and −log of their harmonic mean is the score [1]_.

    Parameters
    ----------
    autoencoder : estimator, list of estimators or None, default=None
        Any autoencoder of skae, or several, which are fitted one after the other and averaged.
        None is `DenoisingAE(64, hidden_layer_sizes=(256,), init="random",
        corruption=GaussianNoise((0.05, 2.0)), conditioning="noise_level")` for as many
        epochs as make 3000 optimizer steps of 256 rows (1000 where there are several members). With
        more than 4 columns a row (and 256) it is a `DenoisingAE` of the same noise that starts at
        PCA: so few rows span a plane, and what lies beyond it counts.
    novelty : bool, default=False
        Whether the training rows are all normal. If not, they are taken to be polluted: the rows
        that a robust covariance and small subsamples find suspicious are kept from the
        autoencoder, which would learn them.
    scorer : "auto", Scorer or list of Scorer, default="auto"
        What is anomalous about a row; see `skae.anomaly`. "auto" is `DenoisingError` for a
        denoiser conditioned on the level of noise, `NegativeLogLikelihood` for `VAE`, `MaskedAE`, `GAN`
        and `RBM` (of numbers, or of values between given bounds), `ReconstructionError` for others,
        as it is and relative to the row where columns are not standardised. Beside the default autoencoder stand two
        `NeighborDistance` (columns as they are and by rank) with `novelty=True`, else
        `RobustDistance` and a `NeighborDistance` of small subsamples.
    contamination : float in (0, 0.5] or "auto", default="auto"
        The share of the training rows that `predict` flags. "auto" with `novelty=True` flags one
        normal row in a hundred, by held-out rows (below 2000 rows up to five, if the most suspicious
        training row takes as many: `contamination_` says how many); it warns where fewer than 99 of these cannot tell
        which row that is, and extrapolates their scores' tail. Else it flags what the bulk of the
        held-out rows' scores does not explain: rows beyond the 99 % quantile of an empirical null
        distribution [2]_, or below it as long as the false discovery rate stays at 10 %, and never
        less than 1 %.
    standardize : bool, default=True
        Whether columns are brought to mean 0 and variance 1: distances across units mean nothing.
        Sparse matrices are not centred. Turn it off for images. Columns whose unit the likelihood
        needs, counts and bits, stay as they are in any case.
    support_fraction : float in (0, 1] or "auto", default="auto"
        Share of the training rows that the autoencoder is fitted on. "auto" is 1 with
        `novelty=True`, else one half, which bears the most anomalies.
    n_estimators : int or "auto", default="auto"
        Members of the ensemble: autoencoders with seeds of their own, fitted on all rows but a part
        that is held out and calibrates the scores. "auto" is 5 below 2000 rows, where one part
        would tell too little (a single member of 300 rows has a threshold by 30), and 1 from there
        on, with a tenth of the rows held out (at most 10,000). With a list of autoencoders there is
        at least one member for each.
    autoencoder_params : dict or None, default=None
        Parameters that are set on each autoencoder before it is fitted: the way to change, or to
        search, those of the default one, as in
        ``GridSearchCV(detector, {"autoencoder_params": [{"max_iter": 10}, {"max_iter": 30}]}, scoring=...)``.
    n_jobs : int or None, default=None
        Members that are fitted at a time, in threads; None is 1 unless `joblib.parallel_config` says
        otherwise. The result is the same for any number.
    device : str, default="auto"
        Where autoencoders are trained and used whose own device is "auto": torch's name of a device,
        or "auto", which takes a GPU for steps that are worth it.
    random_state : int, RandomState instance or None, default=None
        Seed of what is random: parts, subsamples, and seeds of the autoencoders whose own is None.
    verbose : bool or int, default=False
        How much is printed of how far the fit is; 0 or False is nothing, 1 or True at most a line a
        second: the member, its epoch, losses and the seconds left, if nothing stops earlier; 2 or
        more is a line an epoch.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted autoencoders.
    members_ : list of Member
        The members of the ensemble: an autoencoder, the scaling of its columns, and what its scorers
        learned.
    offset_ : float
        `decision_function` is `score_samples` minus it.
    contamination_ : float
        The share that is flagged: as asked for, or the estimate. With `novelty=True` and "auto" the
        share of new normal rows that is flagged at most, in expectation: 0.01, or 1 / (n_held_out + 1)
        where that is more.
    training_scores_ : ndarray of shape (n_samples,)
        `score_samples` of the rows of `fit`, or of the first call of `partial_fit`, in their order.
    calibration_scores_ : ndarray of shape (n_held_out,)
        `score_samples` of the held-out rows by the members that were not fitted on them, sorted.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.
    table_encoder_ : TableEncoder
        What turns tables into matrices, where X has categories.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Trees that isolate rows.

    Notes
    -----
    Rows with gaps (NaN) are fitted and scored by what is observed. Fewer than 5 rows are not held
    out: their p-values are 1.

    A row is judged alone as among others: scores that are equal but for rounding count as equal.
    Any finite number is borne. Cells that are 10¹⁰ times farther from the median than is usual in
    their column, as the fill values of files are, have no say in its scale and are not fitted, and
    their rows are flagged.

    A category of a data frame becomes columns of zeros and ones, which together vary as much as a
    number does; one that was not there at fit has zeros alone. An autoencoder with
    `likelihood="mixed"` scores categories as such.

    References
    ----------
    .. [1] Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 116, 2019.
    .. [2] Efron, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis",
       JASA 99, 2004.
    .. [3] Rousseeuw and Van Driessen, "A fast algorithm for the minimum covariance determinant
       estimator", Technometrics 41, 1999.
    .. [4] Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with conformal p-values",
       Annals of Statistics 51, 2023.

    Examples
    --------
    >>> from skae import AutoencoderOutlierDetector
    >>> from sklearn.datasets import load_wine
    >>> X = load_wine().data
    >>> X[0, 0] = 30
    >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    >>> int(detector.score_samples(X).argmin())
    0
    >>> detector.explain(X[:1])["share"].abs().idxmax(axis=1).item()
    'x0'
    """

    def __init__(
        self,
        autoencoder: Any = None,
        *,
        novelty: bool = False,
        scorer: Any = "auto",
        contamination: float | str = "auto",
        standardize: bool = True,
        support_fraction: float | str = "auto",
        n_estimators: int | str = "auto",
        autoencoder_params: dict | None = None,
        n_jobs: int | None = None,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.autoencoder = autoencoder
        self.novelty = novelty
        self.scorer = scorer
        self.contamination = contamination
        self.standardize = standardize
        self.support_fraction = support_fraction
        self.n_estimators = n_estimators
        self.autoencoder_params = autoencoder_params
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _parameter_constraints = {
        "autoencoder": [HasMethods(["fit"]), list_of(HasMethods(["fit"])), None],
        "novelty": ["boolean"],
        "scorer": [StrOptions({"auto"}), Scorer, list_of(Scorer)],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "standardize": ["boolean"],
        "support_fraction": [StrOptions({"auto"}), share("right")],
        "n_estimators": [StrOptions({"auto"}), at_least(1)],
        "autoencoder_params": [dict, None],
        "n_jobs": [Integral, None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    members_: list[Member]
    training_scores_: np.ndarray
    offset_: float
    _bounds_: tuple[np.ndarray, np.ndarray, np.ndarray]

    # Fitting ---------------------------------------------------------------------------------

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Fit autoencoders and scorers, calibrate them, and set the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows; NaN marks an entry as not observed. A data frame may hold strings and
            categories beside numbers and booleans.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, relative to each other; None weighs them equally. They count in the
            columns' scales, in training, in what scorers learn, and in the held-out rows' quantiles.
            A row of weight 0 is as if it were not there. A weight of two is a row given twice,
            exactly below 50 rows; from there on, copies are held out each by itself.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are out of range, or a scorer cannot read the autoencoder. An
            earlier fit stays as it was.
        KeyboardInterrupt
            On Ctrl-C. An earlier fit stays as it was.
        """
        with all_or_nothing(self), printed_progress(self):
            self._fit_rows(X, y, sample_weight, self.n_estimators)
        return self

    def fit_predict(self, X, y=None, **fit_params) -> np.ndarray:
        """Fit, and label the training rows by their `training_scores_`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows.
        y : Ignored
            Not used, present for API consistency.
        **fit_params
            Passed to `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for an anomaly, 1 for a normal row: what `predict` says of the same rows.
        """
        self.fit(X, **fit_params)
        return np.where(self.training_scores_ < self.offset_, -1, 1)

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Go on with the rows of a stream: the threshold follows the last thousand.

        The first call is a fit with one member for each autoencoder, and sets the columns' scales:
        make it representative. Later rows are scored before anything is fitted on them, which
        calibrates the scores, and then serve for one pass of the autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Some rows.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, relative to each other; None weighs them equally.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        # scikit-learn checks the parameters of the first call alone.
        self._validate_params()
        with all_or_nothing(self), printed_progress(self):
            if not hasattr(self, "members_"):
                self._fit_rows(X, y, sample_weight, 1 if self.n_estimators == "auto" else self.n_estimators)
            else:
                open_task = partial(Task.of_fit, self, X, y)
                X, weight = rows_that_count(X, sample_weight)
                X, weight = self._validate(X, reset=False), relative_weight(weight)
                with _weights_kept(self.members_), open_task(len(self.members_)) as task:
                    first = 1 + max(member.order.max() for member in self.members_)
                    fraction = self._support_fraction()
                    members = [each.updated(X, first, fraction, weight, task.part("member")) for each in self.members_]
                    self._calibrated(members, self._n_autoencoders)
                    self._bounds_ = _widened(self._bounds_, _bounds_of(X, self._groups))
                    self._set_threshold(None)
        return self

    def _fit_rows(self, X, y, sample_weight, n_estimators) -> None:
        open_task = partial(Task.of_fit, self, X, y)
        counting, weight = rows_that_count(X, sample_weight)
        checked = self._validate(counting, reset=True)
        self._warn_of_empty_columns(checked)
        rows = checked
        autoencoders = self._given_autoencoders(checked.shape[0], n_estimators)
        if weight is not None or all(has_fit_parameter(each, "sample_weight") for each in autoencoders):
            rows, weight = merged_rows(checked, weight)
        is_given = rows is checked and counting is X
        self._fit(rows, relative_weight(weight), n_estimators, open_task, None if is_given else X)

    def _fit(self, X, weight: np.ndarray | None, n_estimators, open_task: Callable[[int], Task], given) -> None:
        """Fit to different rows with weights; `given` are the rows of the user, where they are others."""
        random_state = check_random_state(self.random_state)
        autoencoders = self._autoencoders(X.shape[0], n_estimators)
        scorers = [self._scorers(autoencoder, X.shape[1]) for autoencoder in autoencoders]
        n_members = self._n_members(X.shape[0], len(autoencoders), n_estimators)
        parts, states = _parts(X.shape[0], n_members, random_state), new_states(random_state, n_members)
        with open_task(n_members) as task:
            tasks = [task.part("member") for _ in parts]
            arguments = (
                {
                    "autoencoder": autoencoders[index % len(autoencoders)],
                    "scorers": scorers[index % len(autoencoders)],
                    "X": X[training],
                    "weight": None if weight is None else weight[training],
                    # Rows that weigh twice as much calibrate twice.
                    "held_out": X[held_out][
                        rows_by_weight(None if weight is None else weight[held_out], len(held_out))
                    ],
                    "order": order,
                    "standardize": self.standardize,
                    "support_fraction": self._support_fraction(),
                    "random_state": state,
                    "task": tasks[index],
                    "groups": self._groups,
                    "seen": X.shape[0] < TOO_FEW_ROWS,
                }
                for index, ((training, held_out, order), state) in enumerate(zip(parts, states, strict=True))
            )
            members = fit_in_parallel(Member, arguments, self.n_jobs)
            self._n_autoencoders = len(autoencoders)
            self._calibrated(members, self._n_autoencoders)
            self._bounds_ = _bounds_of(X, self._groups)
            self.training_scores_ = self._score(X)
            self._set_threshold(self.training_scores_[rows_by_weight(weight, X.shape[0])])
            if given is not None:
                self.training_scores_ = self._score(self._validate(given, reset=False))

    def _validate(self, X, *, reset):
        if reset:
            self.__dict__.pop("table_encoder_", None)
        encoder = encoder_of_categories(X) if reset else self._encoder
        options: dict = {"ensure_all_finite": "allow-nan", "ensure_min_samples": 2 if reset else 1}
        if encoder is not None:
            if reset:
                checked_table(self, X, reset=True)
                self.table_encoder_ = encoder
            return check_array(encoded(encoder, X), estimator=self, input_name="X", **options)
        return checked_numbers(
            self,
            X,
            hint="fit saw numbers; give it numbers, or fit again."
            if is_frame(X)
            else "give a data frame, whose categories the detector takes, or encode it by TableEncoder.",
            reset=reset,
            accept_sparse="csr",
            dtype=FLOATS,
            **options,
        )

    def _warn_of_empty_columns(self, X) -> None:
        """Once, and by name: each member would warn of the columns of its matrix."""
        if sparse.issparse(X):
            return
        first = np.flatnonzero(np.isnan(X[0]))
        empty = first[np.isnan(X[:, first]).all(axis=0)]
        if not len(empty):
            return
        names: Sequence = getattr(self, "feature_names_in_", range(self.n_features_in_))
        if self._groups is not None:
            names = [names[index] for index in entry_of(self._groups)]
        warnings.warn(
            f"Columns {[names[index] for index in empty]} have no observed value; they do not count in any score. Drop "
            "them, or fill them before.",
            stacklevel=5,
        )

    @property
    def _encoder(self) -> TableEncoder | None:
        """What encodes tables, if categories are among the columns."""
        return getattr(self, "table_encoder_", None)

    @property
    def _groups(self):
        """The columns of the table, if categories are among them."""
        return None if self._encoder is None else self._encoder.groups_

    def _support_fraction(self) -> float:
        if self.support_fraction == "auto":
            return 1.0 if self.novelty else 0.5
        return float(self.support_fraction)

    def _autoencoders(self, n_rows: int, n_estimators) -> list:
        """The autoencoders asked for, or the default one, with the detector's parameters of them."""
        made = self._given_autoencoders(n_rows, n_estimators)
        return [with_parameters(each, self.autoencoder_params, self.device) for each in made]

    def _given_autoencoders(self, n_rows: int, n_estimators) -> list:
        if self.autoencoder is None and is_wide(n_rows, self.n_features_in_):
            # So few rows span a plane: what a row has beyond it is what the start at PCA leaves over.
            return [DenoisingAE(corruption=GaussianNoise((0.05, 2.0)), conditioning="noise_level")]
        if self.autoencoder is None:
            n_steps = N_STEPS if self._n_members(n_rows, 1, n_estimators) == 1 else N_STEPS_OF_SEVERAL
            n_epochs = max(1, round(n_steps / -(-n_rows // BATCH_SIZE)))
            return [
                DenoisingAE(
                    64,
                    hidden_layer_sizes=(256,),
                    init="random",
                    corruption=GaussianNoise((0.05, 2.0)),
                    conditioning="noise_level",
                    max_iter=n_epochs,
                    batch_size=BATCH_SIZE,
                    early_stopping=False,
                )
            ]
        return [self.autoencoder] if hasattr(self.autoencoder, "fit") else list(self.autoencoder)

    def _scorers(self, autoencoder, n_columns: int) -> list[Scorer]:
        """The scorers asked for, or those that suit the autoencoder."""
        scorer = self.scorer
        if isinstance(scorer, str):
            made = self._auto_scorers(autoencoder, n_columns)
        else:
            # A fit does not change with what is set on them later.
            made = [clone(each) for each in ([scorer] if isinstance(scorer, Scorer) else scorer)]
        for each in made:
            each.check(autoencoder)
            if self._groups is not None:
                each.entry = entry_of(self._groups)
        return made

    def _auto_scorers(self, autoencoder, n_columns: int) -> list[Scorer]:
        likely = getattr(autoencoder, "_scores_by_likelihood", False) or takes_tables(autoencoder)
        if likely or not hasattr(autoencoder, "reconstruct"):
            return [NegativeLogLikelihood()]
        if self.autoencoder is not None:
            if receives_noise_level(autoencoder):
                return [DenoisingError()]
            squared = ReconstructionError()
            scaled = self.standardize and not keeps_units(autoencoder, n_columns).all()
            return [squared] if scaled else [squared, ReconstructionError("relative")]
        # Beside scorers that see what is far, the denoiser looks for what is off the data's surface.
        near = DenoisingError(scales=(0.08,))
        if self.novelty:
            return [near, NeighborDistance(), NeighborDistance(columns="rank")]
        return [near, RobustDistance(1.0), NeighborDistance(max_samples=64, columns="robust")]

    @staticmethod
    def _n_members(n_rows: int, n_autoencoders: int, n_estimators) -> int:
        if n_estimators == "auto":
            n_estimators = N_MEMBERS if n_rows < FEW_ROWS else 1
        return max(n_estimators, n_autoencoders)

    def _calibrated(self, members: list[Member], n_autoencoders: int) -> None:
        for index in range(n_autoencoders):
            calibrate_together(members[index::n_autoencoders], comparable=n_autoencoders > 1)
        self.members_ = members

    def _set_threshold(self, training: np.ndarray | None) -> None:
        """By the training rows where a share is asked for, by held-out rows otherwise and in a stream."""
        held_out = self.calibration_scores_
        asked = self.contamination != "auto"
        if self.novelty and not asked:
            self._set_null_threshold(held_out, training)
            return
        # The rows that a single member holds out are training rows, and are enough.
        enough = training is None or not asked and len(self.members_) == 1
        training = held_out if enough else np.sort(training)
        if asked:
            self.contamination_ = float(self.contamination)
            self.offset_ = between_ties(training, float(np.percentile(training, 100.0 * self.contamination_)))
            return
        departures = np.concatenate([member.departures for member in self.members_])
        self.contamination_ = share_of_anomalies(departures)
        # Less the rounding of shares such as 0.01 · 700 = 7.000000000000001.
        n_flagged = int(np.ceil(self.contamination_ * len(held_out) - 1e-6))
        # The most suspicious training row is flagged in any case: it is what the bulk explains least.
        self.offset_ = max(threshold(held_out, n_flagged), threshold(training, 1))

    def _set_null_threshold(self, held_out: np.ndarray, training: np.ndarray | None) -> None:
        """Of n + 1 rows that are exchangeable, ⌊(n + 1) / 100⌋ are flagged; beyond all n if that is none.

        Of some hundred training rows, which the members have seen, the most suspicious one is flagged too, as
        scikit-learn has it, unless that takes more than five times the level; `contamination_` is then what the
        held-out rows say of it.
        """
        n = self._n_held_out
        n_flagged = int(NULL_LEVEL * (n + 1) + 1e-6)
        self.contamination_ = max(NULL_LEVEL, 1 / (n + 1))
        if n_flagged:
            share = len(held_out) / n
            self.offset_ = threshold(held_out, int(n_flagged * share))
            if training is not None and n < FEW_ROWS:
                most = threshold(held_out, int(5 * n_flagged * share))
                self.offset_ = max(self.offset_, min(threshold(np.sort(training), 1), most))
                self.contamination_ = max(NULL_LEVEL, (held_out < self.offset_).sum() / share / (n + 1))
            return
        warnings.warn(
            f"contamination='auto' flags {NULL_LEVEL:.0%} of the normal rows, and {n} held-out rows cannot tell that: "
            f"{round(1 / NULL_LEVEL) - 1} are needed. The threshold is an extrapolation, and contamination_, "
            f"{self.contamination_:.2g}, is what they vouch for. Use more rows, n_estimators=5, which holds out each "
            "of them, or a number for contamination.",
            UserWarning,
            stacklevel=8,
        )
        member = self.members_[0]
        logarithmic = member.comparable or member.scorers[0].logarithmic
        beyond = -extrapolated_threshold(-held_out, NULL_LEVEL, logarithmic)
        self.offset_ = min(beyond, threshold(held_out, 1))

    @property
    def _n_held_out(self) -> int:
        """How many rows calibrate: one that several members hold out counts once."""
        return len(np.unique(np.concatenate([member.order for member in self.members_])))

    @property
    def calibration_scores_(self) -> np.ndarray:
        """Scores of the held-out rows, sorted."""
        return np.sort(-np.concatenate([scores for member in self.members_ for scores in member.calibration]))

    @property
    def estimators_(self) -> list:
        """The fitted autoencoders."""
        return [member.autoencoder for member in self.members_]

    # Using -----------------------------------------------------------------------------------

    def _score(self, X) -> np.ndarray:
        return -np.mean([member(X) for member in self.members_], axis=0)

    def score_samples(self, X) -> np.ndarray:
        """Score rows; higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as not observed.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Minus the anomaly score, a mean over the members: in the units of the scorer where there
            is one, the logarithm of a tail probability where there are several scorers or
            autoencoders.
        """
        check_is_fitted(self)
        return self._score(self._validate(X, reset=False))

    def decision_function(self, X) -> np.ndarray:
        """`score_samples` minus `offset_`: negative for what `predict` flags.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,), float64
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:
        """Label rows by the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for an anomaly, 1 for a normal row.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X) -> np.ndarray:
        """Conformal p-values of new rows: how many held-out training rows are as anomalous.

        For rows that are exchangeable with the training rows, P(p ≤ α) ≤ α: exactly with one member
        and one scorer. Several members are cross-conformal, and the tails by which several scorers are
        combined are fitted without the rows that are compared (CV+): the bound that is proved is 2 α
        there, and α is kept in all that was tried. They are meant for rows that were not in the
        training, whose own p-values come out too large. The smallest possible one is 1 / (n_held_out + 1).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,), float64

        References
        ----------
        Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 51, 2023;
        Barber et al., "Predictive inference with the jackknife+", Annals of Statistics 49, 2021.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        if self.members_[0].seen:
            return np.ones(X.shape[0])
        scores = np.concatenate([member.scores_by_part(X) for member in self.members_], axis=1)
        parts = [
            (scores, places)
            for member in self.members_
            for scores, places in zip(member.calibration, member.places, strict=True)
        ]
        # A row of a stream calibrates every member, and is one row.
        n_copies = np.bincount(np.concatenate([places for _, places in parts]))
        return conformal_p_values([part for part, _ in parts], scores, [1 / n_copies[places] for _, places in parts])

    @checked_arguments(fdr=[share("neither")])
    def detect(self, X, *, fdr=0.05) -> np.ndarray:
        """Label new rows so that at most a share of the alarms is false, in expectation.

        Benjamini and Hochberg's procedure on `p_values`, for all rows of X together. Nothing can be
        detected where `fdr` times the alarms' share of X is below the smallest possible p-value:
        few held-out rows do not suffice for few anomalies among many rows. And the held-out rows
        of polluted training rows hold anomalies too, which new ones must exceed: the rate is kept,
        and little is found. Clean training rows are what this is for.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows that were not in the training.
        fdr : float, default=0.05
            False discovery rate, in (0, 1).

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for an anomaly, 1 for a normal row.

        Raises
        ------
        ValueError
            If `fdr` is outside (0, 1).
        """
        check_is_fitted(self)
        if fdr * (self._n_held_out + 1) < 1:
            warnings.warn(
                f"fdr={fdr!r} cannot be reached: p-values by {self._n_held_out} held-out rows are at least "
                f"{1 / (self._n_held_out + 1):.2g}, so that nothing is detected. Use more training rows, or "
                "n_estimators=5, which holds out each of them.",
                UserWarning,
                stacklevel=2,
            )
        return np.where(benjamini_hochberg(self.p_values(X), fdr), -1, 1)

    @checked_arguments(max_columns=[at_least(1)])
    def explain(self, X, *, max_columns=32) -> Any:
        """Say which columns make rows anomalous: what the score would be were a cell unknown.

        Each cell in turn is replaced by the value that agrees with the row's other cells, the fixed
        point of the reconstruction, and the row is scored again. So a column that is only unusual
        together with others is found, and its neighbours are not blamed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, alarms as a rule: the cost is that of scoring n_samples · n_features rows.
        max_columns : int, default=32
            Cells of a row that are tried: those with the largest residuals.

        Returns
        -------
        DataFrame of shape (n_samples, 4 * n_features)
            Of pandas, or of polars where X is. Four blocks with a column a feature (in polars, four
            columns of structs: ``explain(X)["share"].struct.unnest()`` is a block). "share": the
            cell's part of what the score gains by such replacements, in absolute value; negative
            where the value is below what is expected; zeros where no cell alone explains anything.
            "seen": the value. "expected": what agrees with the other cells (the training median where
            the autoencoder does not reconstruct, of categories the most frequent). "score_without":
            `score_samples` of the row with it. The latter two are NaN for cells that were not tried.
            Of a table with categories, "seen" and "expected" are tables, and shares of categories are
            positive.
        """
        check_is_fitted(self)
        rows = dense(self._validate(X, reset=False))
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(self.n_features_in_)])
        table = None if self._encoder is None else Table(self._encoder, as_frame(X))
        index = X.index if hasattr(X, "iloc") else None
        frame = reasons(self.members_, self._score, rows, self._bounds_, names, index, max_columns, table)
        return (
            polars_blocks(frame, getattr(X, "schema", None))
            if asked_library(self, library_of(X)) == "polars"
            else frame
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags


@contextlib.contextmanager
def _weights_kept(members: Sequence[Member]):
    """Put the autoencoders back as they were if an update fails."""
    before = [copy.deepcopy(member.autoencoder) for member in members]
    try:
        yield
    except BaseException:
        for member, autoencoder in zip(members, before, strict=True):
            member.autoencoder = autoencoder
        raise


def _parts(n_rows: int, n_members: int, random_state: np.random.RandomState):
    """Training and held-out rows of each member, and the places of the latter in a random order of all."""
    everything = np.arange(n_rows)
    if n_rows < TOO_FEW_ROWS:
        return [(everything, everything, everything)] * n_members
    order = random_state.permutation(n_rows)
    if n_members == 1:
        least = min(MIN_HELD_OUT, n_rows // 2)
        parts = [order[: min(max(int(np.ceil(HELD_OUT_SHARE * n_rows)), least), MAX_HELD_OUT)]]
    else:
        parts = np.array_split(order, min(n_members, n_rows))
    place = np.argsort(order)
    made = [(np.setdiff1d(everything, part), np.sort(part), place[np.sort(part)]) for part in parts]
    return [made[index % len(made)] for index in range(n_members)]


def _bounds_of(X, groups=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest, median and highest value of each column, of some rows where there are many; of categories the shares."""
    rows = dense(X[:: -(-X.shape[0] // MAX_HELD_OUT)]).astype(np.float64, copy=False)
    rows = np.where(np.isnan(rows).all(axis=0), 0.0, rows)
    middle = np.nanmedian(rows, axis=0)
    for group in groups or ():
        if group.kind == "categorical":
            middle[group.start : group.stop] = np.nanmean(rows[:, group.start : group.stop], axis=0)
    return np.nanmin(rows, axis=0), middle, np.nanmax(rows, axis=0)


def _widened(bounds, others):
    return np.minimum(bounds[0], others[0]), bounds[1], np.maximum(bounds[2], others[2])
