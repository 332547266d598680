"""AutoencoderImputer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import MissingValues, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skae.autoencoders._base import BaseAutoencoder
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
from skae.base.estimators import CallbackSupportMixin, TransformerMixin, _fit_context, clone, with_callbacks
from skae.base.parameters import CheckedParameters, Number, SequenceOf, at_least, checked_arguments, not_negative, share
from skae.imputation._bounds import point_masses, resolve_bounds
from skae.imputation._calibration import NODES, Calibration
from skae.imputation._categories import probabilities_of
from skae.imputation._choice import chosen_shapes
from skae.imputation._defaults import (
    FEW_ROWS,
    N_MEMBERS,
    N_MEMBERS_OF_MANY,
    default_autoencoder,
    held_out_parts,
    with_missingness,
)
from skae.imputation._draws import drawn_rows
from skae.imputation._linear import drawn_guess, jackknife_weights
from skae.imputation._member import Member
from skae.imputation._scale import ColumnScale, mean_and_deviation
from skae.imputation._score import mean_score
from skae.model.likelihoods import Likelihood
from skae.model.missingness import MISSINGNESS, Missingness
from skae.model.mixed import Mixed
from skae.model.settings import own_settings
from skae.tables._containers import checked_table, rows_in_container
from skae.tables._encoder import TableEncoder
from skae.tables._filling import GappyTable, check_marker, indicator_label, with_indicators
from skae.training.progress import Task, printed_progress

# Draws of a model of missingness that an interval is made of, and numbers that are drawn at once.
N_DRAWS, DRAWN_AT_ONCE = 200, 2**24
# What the encoder does with columns that cannot be imputed.
REMAINDERS = {"error": "error", "passthrough": "drop", "drop": "drop"}
# In standard deviations: how near to a value that many rows hold a draw of it is.
ROUNDING = 1e-9


# What a bound of imputed values may be.
BOUND = [Number(Real, None, None, closed="both"), StrOptions({"auto"})]


class AutoencoderImputer(CallbackSupportMixin, TransformerMixin, CheckedParameters):
    r"""Fills gaps by an autoencoder, once or several times, in tables of numbers and categories.

    By default members of an ensemble of `MaskedAE` start at the best linear guess of what is
    missing and learn what it leaves over; rows that each member has not seen tell how far its
    answer is to be followed in each column, and how sure it is. Observed cells come back untouched.

    Parameters
    ----------
    autoencoder : estimator or None, default=None
        Any autoencoder of skae; it is cloned and fitted to rows with gaps, on standardised columns.
        None is `MaskedAE(early_stopping=False)`, which sees 256,000 rows in training (each of them
        many times), up to a million of a large table; with more than 4 columns a row (and 256) it
        has no hidden units, and the linear guess, of factors that the columns share, tells nearly all. `VAE` fills by
        importance sampling [1]_. One that is not told what is missing (`AutoencoderTransformer`)
        gets its own answer back until it no longer changes.
    missingness : {"self_masking", "self_masking_known"}, Missingness or None, default=None
        Why cells are missing. None takes it that what they would hold has nothing to do with it,
        given the rest of the row. With "self_masking_known" high values of a column are more likely
        to be missing, and `SelfMasking` says where it is the low ones; with "self_masking" it is
        learnt which, and may be learnt wrong. The autoencoder is then a `VAE` with that model [3]_,
        whose answers are taken as they are: observed cells cannot tell how far to follow them.
    missing_values : int, float, str, np.nan, None or pandas.NA, default=np.nan
        What stands for a missing value, beside NaN, None and NA, which always do.
    n_imputations : int, default=1
        Tables that `sample` draws unless told.
    add_indicator : bool, default=False
        Whether columns are added behind the others that say, for each column with gaps at fit, where
        it was missing: "missingindicator_" and its name, in the dtype of the table's numbers. As in
        scikit-learn, no column of X makes way for one of that name.
    keep_empty_features : bool, default=False
        Whether columns without any value at fit stay, filled with 0, or are dropped, which a warning
        says at fit.
    categorical_features : "from_dtype" or array-like of str, int or bool, default="from_dtype"
        Columns that are categories though they hold numbers; see `TableEncoder`.
    handle_unknown : {"ignore", "error"}, default="ignore"
        Whether a category that was not there at fit counts, for its row's other cells, as missing
        (its own cell stays), or is an error.
    remainder : {"error", "passthrough", "drop"}, default="error"
        What becomes of columns that cannot be imputed: times, lists, bytes, and columns that mix numbers
        with strings. "passthrough" leaves them as they are, gaps included, and where they are;
        "drop" leaves them out. Neither helps to impute other columns: for that, give numbers such as
        days since a date, or the month.
    n_estimators : int or "auto", default="auto"
        Members of the ensemble, whose answers are averaged. "auto" is 5 below 5000 rows and 3 from
        there on. Each is fitted without some rows, which tell how far to follow it: of so many
        parts one, or a tenth (at most 10,000 rows) if that is less and there are 5000 rows or more.
    n_reference_rows : int, default=5000
        Rows of fit, drawn at random, that are kept, and that rows are compared with when they are
        filled: what is known in those that are alike is followed as far as held-out rows say. It
        helps where rows come back, like measurements of the same mixture; the cost of filling a row
        is linear in it, and 0 keeps none.
    min_value, max_value : float, "auto" or array-like of shape (n_features,), default="auto"
        The range of imputed numbers, of draws and of intervals; of an array, each column has its
        own, which may be "auto" as well. "auto" keeps the sign and the range that every observed
        value has: counts, amounts and ages stay at 0 or above, shares within [0, 1]; with a model
        of missingness, there is no bound. -inf and inf are none. Observed cells may lie beyond.
    max_iter : int, default=10
        How often an autoencoder that is not told what is missing gets its answer back.
    tol : float, default=1e-3
        The change in units of the columns' standard deviations at which that ends.
    autoencoder_params : dict or None, default=None
        Parameters that are set on the autoencoder before it is fitted: the way to change, or to
        search, those of the default one, as in
        ``GridSearchCV(imputer, {"autoencoder_params": [{"max_iter": 10}, {"max_iter": 30}]})``.
    n_jobs : int or None, default=None
        Members that are fitted at a time, in threads; None is 1 unless `joblib.parallel_config` says
        otherwise. The result is the same for any number.
    device : str, default="auto"
        Where autoencoders are trained and used whose own device is "auto": torch's name of a device,
        or "auto", which takes a GPU for steps that are worth it.
    random_state : int, RandomState instance or None, default=None
        Seed of what is random: parts, hidden entries, seeds of autoencoders whose own is None.
    verbose : bool or int, default=False
        How much is printed of how far the fit is; 0 or False is nothing, 1 or True at most a line a
        second: the member, its epoch, losses and the seconds left, if nothing stops earlier; 2 or
        more is a line an epoch.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted autoencoders.
    members_ : list of Member
        The members of the ensemble: an autoencoder and a linear prediction each.
    share_ : ndarray of shape (n_features_in_,)
        How far the autoencoders' answers are followed in each column: 0 is the linear guess.
    reference_share_ : ndarray of shape (n_features_in_,)
        How far, from there, what similar rows have is followed in each column.
    holdout_error_ : ndarray of shape (n_features_in_,)
        By column, how far off answers were for observed cells of rows that were held out, which
        were hidden: root of the mean squared error in the column's units, or the share of wrong
        categories. NaN where there was none to hide.
    min_value_, max_value_ : ndarray of shape (n_features_in_,)
        The range of imputed values of each column; infinite where there is no bound, as for
        categories.
    n_iter_ : int
        How often autoencoders that are not told what is missing were asked about training rows; 1
        for others.
    table_encoder_ : TableEncoder
        Makes numbers of the table.
    n_features_in_ : int
        Number of columns seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where they are all strings.

    See Also
    --------
    MaskedAE : What fills by default.
    sklearn.impute.IterativeImputer : One regression a column, in turns.

    Notes
    -----
    The answer is the conditional mean of a number and the most probable category. It is less
    scattered than the data: for variances, correlations and standard errors use `sample`.
    A row without any value gets the columns' means and most frequent categories.
    Training rows should be rows like those to come. Unless `missingness` says otherwise, it is
    assumed that whether a cell is missing does not depend on what it would hold, given the rest of
    the row.

    References
    ----------
    .. [1] Mattei and Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data
       sets", ICML 2019.
    .. [2] Rubin, "Multiple imputation for nonresponse in surveys", 1987.
    .. [3] Ipsen, Mattei and Frellsen, "not-MIWAE: deep generative modelling with missing not at
       random data", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderImputer
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> gappy = X.copy()
    >>> gappy[::3, 2] = np.nan
    >>> imputer = AutoencoderImputer(random_state=0).fit(gappy)
    >>> filled = imputer.transform(gappy)
    >>> bool(np.abs(filled - X)[::3, 2].mean() < 0.3)
    True
    >>> low, high = imputer.interval(gappy, coverage=0.9)
    >>> bool(((low <= X) & (X <= high))[::3, 2].mean() > 0.8)
    True
    """

    _parameter_constraints: dict = {
        "autoencoder": [BaseAutoencoder, None],
        "missingness": [StrOptions(set(MISSINGNESS)), Missingness, None],
        "missing_values": [MissingValues()],
        "n_imputations": [at_least(1)],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "categorical_features": TableEncoder._parameter_constraints["categorical_features"],
        "handle_unknown": [StrOptions({"ignore", "error"})],
        "remainder": [StrOptions(set(REMAINDERS))],
        "n_estimators": [StrOptions({"auto"}), at_least(1)],
        "n_reference_rows": [at_least(0)],
        "min_value": [*BOUND, SequenceOf(*BOUND)],
        "max_value": [*BOUND, SequenceOf(*BOUND)],
        "max_iter": [at_least(1)],
        "tol": [not_negative()],
        "autoencoder_params": [dict, None],
        "n_jobs": [Integral, None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        autoencoder: Any = None,
        *,
        missingness: Any = None,
        missing_values: Any = np.nan,
        n_imputations: int = 1,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        categorical_features: Any = "from_dtype",
        handle_unknown: str = "ignore",
        remainder: str = "error",
        n_estimators: int | str = "auto",
        n_reference_rows: int = 5000,
        min_value: Any = "auto",
        max_value: Any = "auto",
        max_iter: int = 10,
        tol: float = 1e-3,
        autoencoder_params: dict | None = None,
        n_jobs: int | None = None,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.autoencoder = autoencoder
        self.missingness = missingness
        self.missing_values = missing_values
        self.n_imputations = n_imputations
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.categorical_features = categorical_features
        self.handle_unknown = handle_unknown
        self.remainder = remainder
        self.n_estimators = n_estimators
        self.n_reference_rows = n_reference_rows
        self.min_value = min_value
        self.max_value = max_value
        self.max_iter = max_iter
        self.tol = tol
        self.autoencoder_params = autoencoder_params
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # Of the table's columns: no value at fit, a gap at fit, not to be imputed.
    _empty_: np.ndarray
    _gappy_: np.ndarray
    _ignored_: np.ndarray

    # Fitting ---------------------------------------------------------------------------------

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    @own_settings()
    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Learn to fill gaps from rows with gaps.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows of numbers, booleans, categories and strings.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, relative to each other; None weighs them equally. They count in the
            columns' means and scales, in training, and in what held-out rows say; rows of fit that
            others are compared with are kept as they are. A row of weight 0 is as if it were not
            there. A weight of two is a row given twice, exactly below 50 rows; from there on, copies
            are held out each by itself.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, nothing at all is observed, or a column holds infinite
            values, or, with remainder="error", times, or numbers beside strings. An earlier fit
            stays as it was.
        TypeError
            If, with remainder="error", a column holds what is neither a number, a boolean nor a string.
        KeyboardInterrupt
            On Ctrl-C. An earlier fit stays as it was.
        """
        with all_or_nothing(self), printed_progress(self):
            rows, weight = rows_that_count(X, sample_weight)
            self._fit(rows, weight, partial(Task.of_fit, self, X, y))
        return self

    def _fit(self, X, weight: np.ndarray | None, open_task: Callable[[int], Task]) -> None:
        random_state = check_random_state(self.random_state)
        used, weight = merged_rows(self._learn_columns(X)[:, self._used_], weight)
        weight = relative_weight(weight)
        # Indices without gaps, as columns that are empty are left out.
        _, group = np.unique(self._column_, return_inverse=True)
        self._learn_scales(used, weight, group, random_state)
        autoencoder = with_parameters(self._autoencoder(len(used)), self.autoencoder_params, self.device)
        n_members = 1 if self._explains(autoencoder) else self._n_members(len(used))
        with open_task(n_members) as task:
            Z = self._columns_.standardise(used)
            parts = held_out_parts(len(Z), n_members, random_state)
            held_out = self._fit_members(Z, weight, autoencoder, parts, random_state, task)
            self._calibrate(Z, group, held_out, self._explains(autoencoder), random_state)
            self._marginal_, self._mean_ = (_known_means(rows, weight) for rows in (Z, self._columns_.restore(Z)))

    def _learn_columns(self, X) -> np.ndarray:
        """Set what is known of the table's columns, and return it as a matrix."""
        gappy = self._checked(X, reset=True)
        self.table_encoder_ = TableEncoder(
            self.categorical_features, handle_unknown=self.handle_unknown, remainder=REMAINDERS[self.remainder]
        ).set_output(transform="default")
        Z = np.asarray(self.table_encoder_.fit(gappy.table)._encode(gappy.table), dtype=np.float64)
        missing, self._container_ = gappy.missing, gappy.container
        groups = self.table_encoder_.groups_
        self._ignored_ = np.array([group.kind == "ignored" for group in groups])
        empty = np.asarray(missing.all(0)) & ~self._ignored_
        if (empty | self._ignored_).all():
            raise ValueError(
                "Every value of X is missing, so there is nothing to learn from. Check missing_values="
                f"{self.missing_values!r}."
            )
        self._empty_, self._gappy_ = empty, np.asarray(missing.any(0))
        self._warn_of_empty_columns()
        column = np.concatenate([np.full(group.stop - group.start, i) for i, group in enumerate(groups)])
        self._used_ = ~empty[column]
        self._column_ = column[self._used_]
        self._is_number_ = np.array([groups[i].kind == "numeric" for i in self._column_])
        return Z

    def _learn_scales(self, used: np.ndarray, weight: np.ndarray | None, group: np.ndarray, random_state) -> None:
        """Set the ranges, maps and units of the matrix's columns, and the values that many rows hold."""
        counted = used[rows_by_weight(weight, len(used))]
        explains = self.missingness is not None or (self.autoencoder is not None and self._explains(self.autoencoder))
        self.min_value_, self.max_value_ = resolve_bounds(
            self.min_value,
            self.max_value,
            # Where values hide themselves, those that are observed do not tell the range.
            used[:0] if explains else used,
            self._column_,
            self._is_number_,
            self.n_features_in_,
        )
        shapes = {} if explains else chosen_shapes(counted, group, self._is_number_, random_state)
        self._columns_ = ColumnScale(used, self._is_number_, shapes, weight)
        bounds = self._columns_.standardise(np.stack([self.min_value_, self.max_value_])[:, self._column_])
        limits = self._columns_.limits()
        self._low_, self._high_ = np.maximum(bounds[0], limits[0]), np.minimum(bounds[1], limits[1])
        self._point_masses_ = point_masses(counted, self._is_number_)

    def _fit_members(
        self, Z: np.ndarray, weight: np.ndarray | None, autoencoder, parts: list, random_state, task: Task
    ) -> list[np.ndarray]:
        """Fit the members to their parts of the rows, and return those that each holds out."""
        tasks = [task.part("member") for _ in parts]
        weights = [(None, None) if weight is None else (weight[training], weight[rows]) for training, rows in parts]
        arguments = (
            {
                "autoencoder": autoencoder,
                "Z": Z[training],
                "columns": self._columns_,
                "max_iter": self.max_iter,
                "tol": self.tol,
                "random_state": state,
                "task": part_task,
                "weight": part_weight,
            }
            for (training, _), (part_weight, _), state, part_task in zip(
                parts, weights, new_states(random_state, len(parts)), tasks, strict=True
            )
        )
        self.members_ = fit_in_parallel(Member, arguments, self.n_jobs)
        self.estimators_ = [member.autoencoder for member in self.members_]
        self.n_iter_ = max(member.n_iter for member in self.members_)
        return [
            rows[rows_by_weight(part_weight, len(rows))]
            for (_, rows), (_, part_weight) in zip(parts, weights, strict=True)
        ]

    def _calibrate(self, Z: np.ndarray, group: np.ndarray, held_out: list, explains: bool, random_state) -> None:
        """Let held-out rows say how far the members are followed, and how wrong they are."""
        # Rows without gaps that would tell about as much.
        self._n_rows_, self._n_eff_ = len(Z), len(Z) * float(1 - np.isnan(Z).mean())
        self._calibration_ = Calibration(
            self.members_,
            held_out,
            Z,
            group,
            self._is_number_,
            random_state,
            self._columns_,
            n_reference_rows=self.n_reference_rows,
            follows=explains,
            semicontinuous=tuple(self._point_masses_),
        )
        self.share_, self.reference_share_, self.holdout_error_ = np.full((3, self.n_features_in_), np.nan)
        columns = np.unique(self._column_)
        error = (
            np.sqrt(self._calibration_.squared_error) * self._columns_.deviation[np.unique(group, return_index=True)[1]]
        )
        wrong = self._calibration_.wrong
        error = np.where(self._calibration_.n_told > 0, np.where(np.isnan(wrong), error, wrong), np.nan)
        self.share_[self._column_], self.holdout_error_[columns] = self._calibration_.share, error
        self.reference_share_[self._column_] = self._calibration_.similar_share.sum(0)

    def _n_members(self, n_rows: int) -> int:
        if self.n_estimators == "auto":
            return N_MEMBERS if n_rows < FEW_ROWS else N_MEMBERS_OF_MANY
        return int(self.n_estimators)

    @staticmethod
    def _explains(autoencoder) -> bool:
        """Whether an autoencoder has a model of why cells are missing."""
        return autoencoder.get_params().get("missingness") is not None

    def _autoencoder(self, n_rows: int):
        """The autoencoder asked for, or the default one, which scores each group of columns by its own likelihood."""
        autoencoder = self.autoencoder
        if self.missingness is not None:
            autoencoder = with_missingness(autoencoder, self.missingness, n_rows)
        elif autoencoder is None:
            autoencoder = default_autoencoder(n_rows, len(np.unique(self._column_)))
        likelihood = autoencoder.get_params().get("likelihood", "")
        mixed = likelihood == "mixed" or (isinstance(likelihood, Mixed) and isinstance(likelihood.groups, str))
        if mixed or (self.autoencoder is None and not self._is_number_.all()):
            part = likelihood if isinstance(likelihood, Likelihood) else Mixed()
            autoencoder = clone(autoencoder).set_params(likelihood=part.for_groups(self._groups()))
        return autoencoder

    def _groups(self):
        """The groups of the columns that are not empty."""
        groups, left_out = self.table_encoder_.groups_, self._empty_ | self._ignored_
        return [group for group, is_left_out in zip(groups, left_out, strict=True) if not is_left_out]

    def _warn_of_empty_columns(self) -> None:
        if self.keep_empty_features or not self._empty_.any():
            return
        names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_))[self._empty_]
        warnings.warn(
            f"Skipping features without any observed values: {names}. At least one non-missing value is needed for "
            "imputation; keep_empty_features=True keeps such columns, filled with 0.",
            stacklevel=6,
        )

    # Filling ---------------------------------------------------------------------------------

    @own_settings()
    def transform(self, X) -> Any:
        """Fill the gaps of X by the best single guess.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows with the columns of fit.

        Returns
        -------
        DataFrame or ndarray of shape (n_samples, n_features_out)
            X with its gaps filled: expected numbers (rounded in columns of integers and decimals),
            most probable categories. Observed cells are untouched. The container is that of X (frames
            of pandas and polars; other frames become pandas'; where fit saw an array, arrays), or what
            `set_output` asks for; dtypes are those of fit, or, where they cannot hold what is observed,
            those of X.
        """
        table, Z = self._rows(X)
        return self._output(table, self._point(Z, self._expected(Z)))

    @checked_arguments(n_imputations=[at_least(1), None], random_state=["random_state"])
    @own_settings()
    def sample(self, X, n_imputations=None, *, random_state=None) -> list[Any]:
        """Draw complete tables for multiple imputation.

        Each table has other values in the gaps of X: draws from what they may be given the rest of
        the row, by the residuals of held-out rows, whose correlations are those of a normal
        distribution; and the model itself is drawn anew for each table, as far as members differ.
        Fit your model to each table and pool by Rubin's rules [2]_.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows with the columns of fit.
        n_imputations : int or None, default=None
            Number of tables; None is that of the constructor.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        list of DataFrame or ndarray of shape (n_samples, n_features_out)
            Tables as `transform` returns them, in the same container.
        """
        n_imputations = self.n_imputations if n_imputations is None else n_imputations
        table, Z = self._rows(X)
        random_state = check_random_state(random_state)
        rows = np.flatnonzero(np.isnan(Z).any(1))
        gappy = Z[rows]
        tables = []
        for drawn in self._draws(gappy, int(n_imputations), random_state):
            filled = Z.copy()
            filled[rows] = drawn
            tables.append(self._output(table, filled))
        return tables

    @checked_arguments(coverage=[share("neither")])
    @own_settings()
    def interval(self, X, coverage=0.9) -> tuple[Any, Any]:
        """Where missing numbers lie with a given probability.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows with the columns of fit.
        coverage : float in (0, 1), default=0.9
            The probability.

        Returns
        -------
        low, high : DataFrame or ndarray of shape (n_samples, n_features_out)
            In the container of `transform`. Observed cells hold their value in both; missing
            categories and booleans the most probable one in both (`imputation_std` has the
            probability that it is wrong).
        """
        table, Z = self._rows(X)
        expected = self._expected(Z)
        cells = np.nonzero(np.isnan(Z) & self._is_number_)
        made = []
        for quantiles in self._quantiles(Z, expected, cells, [(1 - coverage) / 2, (1 + coverage) / 2]):
            bound = expected.copy()
            bound[cells] = quantiles
            made.append(self._output(table, bound))
        return tuple(made)

    @own_settings()
    def imputation_std(self, X) -> np.ndarray:
        """How sure the filled cells are.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows with the columns of fit.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            Standard deviation of a missing number in the column's units; the probability that a
            missing category or boolean is another one than the guess; 0 where X is observed; NaN
            where a gap is not filled, of columns that pass through.
        """
        table, Z = self._rows(X)
        missing = table.missing
        expected, out = self._expected(Z), np.where(missing & self._ignored_, np.nan, 0.0)
        rows, columns = np.nonzero(np.isnan(Z) & self._is_number_)
        quantiles = self._quantiles(Z, expected, (rows, columns), np.linspace(0.005, 0.995, 199))
        out[rows, self._column_[columns]] = self._columns_.restore_cells(quantiles, columns).std(0)
        for index in np.unique(self._column_):
            columns = np.flatnonzero(self._column_ == index)
            gaps = missing[:, index]
            if not self._is_number_[columns[0]]:
                out[gaps, index] = 1 - probabilities_of(expected[gaps][:, columns]).max(1, initial=0)
        return out

    @own_settings()
    def score(self, X, y=None) -> float:
        """How well hidden cells of X are told: 1 is perfect, 0 no better than the columns' means.

        A tenth of the observed cells is hidden, always the same ones.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows with the columns of fit.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        float
            Mean over the columns of 1 − squared error / variance for numbers, and of 1 − errors /
            errors of the most frequent category for the others.
        """
        _, Z = self._rows(X)
        chosen = np.random.RandomState(0).uniform(size=(len(Z), self.n_features_in_)) < 0.1
        hidden = chosen[:, self._column_] & ~np.isnan(Z)
        gappy = np.where(hidden, np.nan, Z)
        expected = self._columns_.restore(self._point(gappy, self._expected(gappy, Z)))
        Z = self._columns_.restore(Z)
        return mean_score(Z, expected, hidden, self._column_, self._is_number_)

    def _rows(self, X) -> tuple[GappyTable, np.ndarray]:
        """The checked table, and its standardised matrix."""
        check_is_fitted(self)
        table = self._checked(X, reset=False)
        return table, self._standardised(np.asarray(self.table_encoder_._encode(table.table), dtype=np.float64))

    def _expected(self, Z: np.ndarray, whole: np.ndarray | None = None) -> np.ndarray:
        """Z with its gaps filled; `whole` is Z without gaps that were made."""
        rows = np.flatnonzero(np.isnan(Z).any(1))
        filled, whole = Z.copy(), Z if whole is None else whole
        if len(rows):
            gappy = Z[rows]
            fills = [member.fill(gappy) for member in self.members_]
            answer = self._marginals(gappy, self._calibration_.answer(gappy, fills, whole[rows]))
            filled[rows] = self._within(gappy, answer)
        return filled

    def _point(self, Z: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """What is expected in the table's units: the mean of what mapped numbers may be is not the mean's map."""
        columns = self._columns_
        if not columns.shapes:
            return expected
        made, gaps = expected.copy(), np.isnan(Z) & np.isin(np.arange(Z.shape[1]), list(columns.shapes))
        cells = np.nonzero(gaps)
        values = np.zeros(Z.shape)
        values[cells] = columns.restore_cells(self._quantiles(Z, expected, cells, NODES), cells[1]).mean(0)
        values[np.isnan(Z).all(1)] = self._mean_
        made[cells] = columns.standardise(values)[cells]
        return made

    def _marginals(self, gappy: np.ndarray, filled: np.ndarray) -> np.ndarray:
        """Rows of which nothing is known get the columns' means."""
        return np.where(np.isnan(gappy).all(1)[:, None], self._marginal_, filled)

    def _deviation(self, Z: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(np.isnan(Z).any(1))
        deviation = np.zeros(Z.shape)
        if len(rows):
            deviation[rows] = np.mean([member.linear(Z[rows])[1] for member in self.members_], axis=0)
        return deviation

    def _quantiles(self, Z: np.ndarray, expected: np.ndarray, cells: tuple, levels) -> np.ndarray:
        """Of missing numbers at several levels, of shape (n_levels, n_cells)."""
        rows, columns = cells
        if self._explains(self.estimators_[0]):
            made = self._drawn_quantiles(Z, cells, levels)
        else:
            around = expected[cells], self._deviation(Z)[cells]
            at = self._calibration_.quantile
            made = np.array([at(*around, np.full(len(rows), level), columns) for level in levels])
        return made.clip(self._low_[columns], self._high_[columns])

    def _drawn_quantiles(self, Z: np.ndarray, cells: tuple, levels) -> np.ndarray:
        """Those of draws of a model of missingness."""
        rows, columns = cells
        out, gappy = np.empty((len(levels), len(rows))), np.unique(rows)
        for some in np.array_split(gappy, max(1, len(gappy) * Z.shape[1] * N_DRAWS // DRAWN_AT_ONCE)):
            cells_of = np.isin(rows, some)
            drawn = self.members_[0].draw(Z[some], N_DRAWS, 0)
            chosen = drawn[:, np.searchsorted(some, rows[cells_of]), columns[cells_of]]
            out[:, cells_of] = np.quantile(chosen, levels, axis=0)
        return out

    def _draws(self, gappy: np.ndarray, n_draws: int, random_state) -> list[np.ndarray]:
        """Draws of the gaps of rows that have some."""
        if len(gappy) == 0:
            return [gappy] * n_draws
        if self._explains(self.estimators_[0]):
            return list(self._within(gappy, self.members_[0].draw(gappy, n_draws, random_state)))
        parts = [member.fill(gappy) for member in self.members_]
        further = self._calibration_.further(gappy, parts, gappy)
        return [self._drawn(gappy, parts, further, random_state) for _ in range(n_draws)]

    def _drawn(self, gappy: np.ndarray, parts: list, further: np.ndarray, random_state) -> np.ndarray:
        """A draw of the gaps of these rows, by a draw of the model."""
        guesses = [member.linear for member in self.members_]
        weights = jackknife_weights(len(parts), random_state)
        if self._n_rows_ >= FEW_ROWS:
            # What members without a tenth differ by is seeds more than rows.
            guesses, weights = guesses[:1], np.zeros(len(parts))
        linear = drawn_guess(guesses, weights, self._n_eff_, random_state)
        categorical = np.where(self._is_number_, -1, self._column_)
        drawn = drawn_rows(gappy, parts, further, linear, weights, self._calibration_, categorical, random_state)
        return self._within(gappy, drawn)

    def _within(self, gappy: np.ndarray, made: np.ndarray) -> np.ndarray:
        """Rows whose gaps hold what was made for them, within the columns' bounds."""
        return np.where(np.isnan(gappy), made.clip(self._low_, self._high_), gappy)

    # Tables ----------------------------------------------------------------------------------

    def _checked(self, X, *, reset: bool) -> GappyTable:
        """X with its gaps and its container; values are yet to be checked."""
        checked = checked_table(self, X, reset=reset)
        if reset:
            check_marker(checked, self.missing_values)
        table = GappyTable(X, checked, self.missing_values)
        if not reset and self._container_.library == "numpy":
            # A fit to an array knows of no names that a frame could have.
            table.as_array()
        return table

    def _standardised(self, Z: np.ndarray) -> np.ndarray:
        return self._columns_.standardise(Z[:, self._used_])

    def _restored(self, filled: np.ndarray) -> np.ndarray:
        """Filled rows in the table's units; what was drawn as a value that many rows hold is that value."""
        made = self._columns_.restore(filled)
        # Within the bounds, but for rounding.
        made = made.clip(self.min_value_[self._column_], self.max_value_[self._column_])
        for index, values in self._point_masses_.items():
            for value in values:
                near = np.abs(made[:, index] - value) <= ROUNDING * self._columns_.deviation[index]
                made[near, index] = value
        return made

    def _output(self, table: GappyTable, filled: np.ndarray):
        """Filled rows in the container and the dtypes that they should have."""
        matrix = np.zeros((len(filled), len(self._used_)))
        matrix[:, self._used_] = self._restored(filled)
        imputed = ~(self._empty_ | self._ignored_)
        indicated = self._gappy_ if self.add_indicator else np.zeros_like(self._gappy_)
        if isinstance(table.table, np.ndarray) and self.table_encoder_._is_identity:
            rows = table.filled_array(matrix, imputed)[:, self._kept]
            rows = np.hstack([rows, table.missing[:, indicated].astype(rows.dtype)])
            return rows_in_container(self, rows, self.get_feature_names_out, table.X)
        rows = np.flatnonzero(table.missing[:, imputed].any(1))
        frame = table.filled(rows, self.table_encoder_._decode(matrix[rows]), imputed, self._container_)
        labels = [label for label, is_indicated in zip(frame.columns, indicated, strict=True) if is_indicated]
        frame = table.with_zeros(frame, self._empty_).iloc[:, self._kept]
        if labels:
            frame = with_indicators(frame, table.missing[:, indicated], labels)
        return table.give(frame, self, self.get_feature_names_out(), self._container_)

    @property
    def _kept(self) -> np.ndarray:
        """Which columns of the table come out, of shape (n_features_in_,)."""
        dropped = self._ignored_ & (self.remainder == "drop")
        return ~dropped if self.keep_empty_features else ~(dropped | self._empty_)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns, where fit saw none; None takes x0, x1, ...

        Returns
        -------
        ndarray of shape (n_features_out,), of str
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if not self.add_indicator:
            return names[self._kept]
        return np.concatenate([names[self._kept], [indicator_label(name) for name in names[self._gappy_]]]).astype(
            object
        )

    def __sklearn_tags__(self):
        """Gaps, categories and strings."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _known_means(Z: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Weighted means of the columns' known values."""
    known = [~np.isnan(column) for column in Z.T]
    parts = zip(Z.T, known, strict=True)
    return np.array([mean_and_deviation(c[k], None if weight is None else weight[k])[0] for c, k in parts])
