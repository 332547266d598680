"""TableEncoder."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_array, check_is_fitted

from skae.base.estimators import TransformerMixin, _fit_context
from skae.base.parameters import CheckedParameters, SequenceOf, at_least
from skae.tables._columns import (
    BinaryColumn,
    CategoricalColumn,
    ColumnGroup,
    EmptyColumn,
    IgnoredColumn,
    NumericColumn,
    check_finite,
    kind_of,
    unique_names,
)
from skae.tables._containers import (
    FLOATS,
    Container,
    asked_library,
    checked_table,
    give,
    is_frame,
    library_of,
    pandas_frame,
    plain_rows,
)
from skae.tables._dtypes import plain


class TableEncoder(TransformerMixin, CheckedParameters):
    """Tables with numbers, booleans, categories and strings as matrices of numbers, and back.

    A number stays as it is, a boolean becomes 0 or 1, and a category becomes as many columns as
    the training rows have categories, 1 in its own and 0 in the others. NaN in the matrix is a
    missing value (None, NaN or NA in the table); a missing category is NaN in all its columns.

    Parameters
    ----------
    categorical_features : "from_dtype" or array-like of str, int or bool, default="from_dtype"
        Columns to take for categories though they are numbers or booleans: names, indices or a
        mask. Columns of dtype category and columns of strings are categories in any case.
    handle_unknown : {"ignore", "error"}, default="ignore"
        Whether a category that was not seen at fit counts as missing, or is an error.
    max_categories : int or None, default=64
        Most columns that one categorical column may take. Where it has more categories, the
        `max_categories` - 1 most frequent ones have a column each, and the last, "other", is 1 for
        the rest. None has no limit.
    remainder : {"error", "drop"}, default="error"
        Whether a column that is neither of numbers, booleans, categories nor strings (times, lists,
        bytes, numbers beside strings) is an error, or gets no columns, and comes back without values.

    Attributes
    ----------
    groups_ : list of ColumnGroup
        For each column of the table its `column` (name, or index), its `kind` ("numeric",
        "binary", "categorical", or "ignored" with remainder="drop"), and the matrix's columns from
        `start` to before `stop`.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where they are all strings.

    See Also
    --------
    sklearn.preprocessing.OneHotEncoder : Categories alone, without a way back for probabilities.

    Notes
    -----
    A column of objects is what its values are: booleans, strings or numbers. A column in which no
    value was observed at fit is numeric and stays: it is NaN, unless its dtype is one of numbers.
    An array of float32 or float64 comes back from `transform` and from `inverse_transform` as it
    is, without a copy.

    Examples
    --------
    >>> import pandas as pd
    >>> from skae import TableEncoder
    >>> X = pd.DataFrame({"age": [31, 52, 47], "port": ["Cork", None, "Oslo"], "alone": [True, False, None]})
    >>> encoder = TableEncoder().fit(X)
    >>> encoder.get_feature_names_out()
    array(['age', 'port_Cork', 'port_Oslo', 'alone'], dtype=object)
    >>> encoder.transform(X)
    array([[31.,  1.,  0.,  1.],
           [52., nan, nan,  0.],
           [47.,  0.,  1., nan]])
    >>> encoder.inverse_transform([[40.3, 0.2, 0.8, 0.9]])
       age  port alone
    0   40  Oslo  True
    """

    _parameter_constraints: dict = {
        "categorical_features": [SequenceOf(str, Integral, "boolean", tuple), StrOptions({"from_dtype"}), None],
        "handle_unknown": [StrOptions({"ignore", "error"})],
        "max_categories": [at_least(2), None],
        "remainder": [StrOptions({"error", "drop"})],
    }

    def __init__(
        self,
        categorical_features: Any = "from_dtype",
        *,
        handle_unknown: str = "ignore",
        max_categories: int | None = 64,
        remainder: str = "error",
    ) -> None:
        self.categorical_features = categorical_features
        self.handle_unknown = handle_unknown
        self.max_categories = max_categories
        self.remainder = remainder

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Learn the columns' kinds and categories.

        Parameters
        ----------
        X : DataFrame, array-like or list of rows, of shape (n_samples, n_features)
            Rows. What is masked in an array is a gap.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : TableEncoder

        Raises
        ------
        ValueError
            If a column mixes numbers and strings, or holds infinite or complex numbers or times.
        TypeError
            If a column holds what is neither a number, a boolean nor a string. An earlier fit stays
            as it was. With remainder="drop" neither is an error.
        """
        before = dict(vars(self))
        try:
            table = checked_table(self, X, reset=True)
            self._container = Container.of(X, table)
            self._learn(table)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _learn(self, X) -> None:
        """Columns and groups of checked rows."""
        is_floats = isinstance(X, np.ndarray)
        names = range(X.shape[1]) if is_floats else X.columns
        asked = self._asked(names)
        if is_floats and not asked:
            self._check_all_finite(X)
            self._columns = [NumericColumn(name, X.dtype) for name in names]
        else:
            frame = as_frame(X)
            self._columns = [self._column(frame.iloc[:, i], name, i in asked) for i, name in enumerate(names)]
        stops = np.cumsum([column.width for column in self._columns]).tolist()
        self.groups_ = [
            ColumnGroup(column.name, column.kind, stop - column.width, stop)
            for column, stop in zip(self._columns, stops, strict=True)
        ]
        if not stops[-1]:
            raise ValueError(
                f"No column of X holds numbers, booleans, categories or strings: convert one of {list(names)[:20]}."
            )

    def transform(self, X) -> Any:
        """Turn a table into a matrix.

        Parameters
        ----------
        X : DataFrame, array-like or list of rows, of shape (n_samples, n_features)
            Rows with the columns of fit.

        Returns
        -------
        ndarray of shape (n_samples, n_columns), float64, or float32 where all columns of fit were
            Numbers; NaN where a value is missing. An array of floats is returned as it is.

        Raises
        ------
        ValueError
            If a column holds values of another kind than at fit, or with handle_unknown="error" a
            new category.
        """
        check_is_fitted(self)
        return self._encode(checked_table(self, X, reset=False))

    def _encode(self, table) -> np.ndarray:
        """A checked table as a matrix."""
        if isinstance(table, np.ndarray) and self._is_of_numbers:
            self._check_all_finite(table)
            return table
        frame = as_frame(table)
        is_single = all(column.dtype == np.float32 for column in self._columns)
        out = np.zeros((len(frame), self.groups_[-1].stop), dtype=np.float32 if is_single else np.float64)
        for index, (group, column) in enumerate(zip(self.groups_, self._columns, strict=True)):
            values, block = plain(frame.iloc[:, index]), out[:, group.start : group.stop]
            # Gaps alone are gaps whatever their dtype.
            if values.notna().any():
                column.encode(values, block)
            else:
                block[:] = np.nan
        return out

    def inverse_transform(self, X, *, index=None) -> Any:
        """Turn a matrix into a table like that of fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_columns)
            Numbers as `transform` makes them, or a model's guess of them: a category is the one
            whose column is largest (of equal ones the most frequent at fit, and never "other"), a
            boolean is true from 0.5 on, integers are rounded.
        index : Index or array-like of shape (n_samples,), default=None
            Index of the frame; None takes that of X, where it has one.

        Returns
        -------
        DataFrame or ndarray of shape (n_samples, n_features)
            With names, dtypes and categories of fit, in the container of X where that is a frame, else
            of fit, or what `set_output` asks for. A value is missing where the matrix holds NaN; where
            a dtype has no missing values, the column becomes float64 or object, as in pandas.
        """
        check_is_fitted(self)
        like, X = (
            X,
            check_array(plain_rows(X), dtype=FLOATS, ensure_all_finite="allow-nan", estimator=self, input_name="X"),
        )
        if X.shape[1] != self.groups_[-1].stop:
            raise ValueError(
                f"X has {X.shape[1]} columns, but {type(self).__name__} makes {self.groups_[-1].stop} of a table's "
                f"{self.n_features_in_}."
            )
        return table_of(self, X, self, like, index)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the matrix's columns: the table's, with the category behind it for categories.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the table's columns, where it had none; None takes x0, x1, ...

        Returns
        -------
        ndarray of shape (n_columns,), of str
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        made = [column.names(name) for name, column in zip(names, self._columns, strict=True)]
        return np.array(unique_names([name for each in made for name in each]), dtype=object)

    # Parts -----------------------------------------------------------------------------------

    @property
    def _is_of_numbers(self) -> bool:
        """Whether all columns are numbers that stay as they are."""
        return all(type(column) is NumericColumn for column in self._columns)

    @property
    def _is_identity(self) -> bool:
        """Whether a matrix is the table: fit saw an array of floats."""
        return self._container.library == "numpy" and self._container.dtype in FLOATS and self._is_of_numbers

    def _asked(self, names) -> set[int]:
        """Indices of the columns that `categorical_features` names."""
        asked = self.categorical_features
        if asked is None or isinstance(asked, str):
            return set()
        chosen, p = np.asarray(asked), len(names)
        if chosen.dtype.kind == "b":
            if chosen.shape != (p,):
                raise ValueError(
                    f"categorical_features is a mask of shape {chosen.shape}, but X has {p} columns: give one boolean "
                    "for each."
                )
            return set(np.flatnonzero(chosen).tolist())
        if chosen.dtype.kind in "iu" and chosen.size:
            if chosen.min() < 0 or chosen.max() >= p:
                raise ValueError(f"categorical_features={asked!r}: X has {p} columns, so indices go from 0 to {p - 1}.")
            return set(chosen.tolist())
        unknown = [name for name in chosen.tolist() if name not in names]
        if unknown:
            raise ValueError(f"categorical_features names {unknown}, which are no columns of X: {list(names)[:20]}.")
        return {index for index, name in enumerate(names) if name in set(chosen.tolist())}

    def _column(self, values, name, is_asked: bool) -> Any:
        """What encodes a column."""
        dtype, values = values.dtype, plain(values)
        try:
            kind = kind_of(values, name, dtype)
        except (TypeError, ValueError) as error:
            if self.remainder == "error":
                remedy = (
                    "Or leave it out: remainder='drop' of TableEncoder, 'drop' or 'passthrough' of AutoencoderImputer."
                )
                raise type(error)(f"{error} {remedy}") from None
            return IgnoredColumn(name, dtype, values)
        if is_asked and kind != "empty" and values.notna().any():
            kind = "categorical"
        if kind == "categorical":
            return CategoricalColumn(name, dtype, values, self.handle_unknown, self.max_categories)
        column = {"binary": BinaryColumn, "empty": EmptyColumn, "numeric": NumericColumn}[kind]
        return column(name, dtype, values)

    def _check_all_finite(self, X: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            finite = np.isfinite(X.sum())
        if not finite and np.isinf(X).any():
            index = int(np.isinf(X).any(0).argmax())
            check_finite(X[:, index], getattr(self, "feature_names_in_", range(X.shape[1]))[index])

    def _decode(self, X: np.ndarray, index=None):
        """A matrix as a frame of pandas with the names, dtypes and categories of fit."""
        import pandas as pd

        parts = zip(self.groups_, self._columns, strict=True)
        made = [column.decode(X[:, group.start : group.stop]) for group, column in parts]
        # With the dtype given, as pandas would take objects that are strings for its own kind of strings.
        series = {i: pd.Series(values, dtype=values.dtype, index=index) for i, values in enumerate(made)}
        frame = pd.DataFrame(series, index=index)
        return frame if self._container.columns is None else frame.set_axis(self._container.columns, axis=1)

    def __sklearn_tags__(self):
        """Gaps, categories and strings."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def table_of(encoder: TableEncoder, X: np.ndarray, estimator, like=None, index=None):
    """A matrix as a table, in the container that `estimator` is set to return, or that of `like`, or of fit.

    Parameters
    ----------
    encoder : TableEncoder
    X : ndarray of shape (n_rows, n_columns)
    estimator : estimator
        Whose `set_output` counts.
    like : frame or None
        Rows whose container and index the table gets; arrays count as the table of fit.
    index : Index or None
        Another index than that of `like`.
    """
    library = asked_library(estimator, library_of(like) if is_frame(like) else encoder._container.library)
    if library == "numpy" and encoder._is_identity:
        return X
    if index is None and hasattr(like, "iloc"):
        index = like.index
    return give(encoder._decode(X, index), encoder._container, library)


def encoder_of_categories(X) -> TableEncoder | None:
    """A fitted encoder for a frame that holds categories, or may later; None for numbers alone, and for arrays."""
    if not is_frame(X):
        return None
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if all(is_numeric_dtype(dtype) or is_bool_dtype(dtype) for dtype in pandas_frame(X).dtypes):
        return None
    # Matrices, whatever the user has set for the output of transformers.
    encoder = TableEncoder().set_output(transform="default").fit(X)
    empty = any(isinstance(column, EmptyColumn) for column in encoder._columns)
    return encoder if empty or any(group.kind == "categorical" for group in encoder.groups_) else None


def encoded(encoder: TableEncoder, X) -> np.ndarray:
    """The matrix of a table, in which a category that was not there at fit is no gap but none of the known ones."""
    matrix = encoder.transform(X)
    if any(group.kind == "categorical" for group in encoder.groups_):
        frame = as_frame(plain_rows(X))
        for index, group in enumerate(encoder.groups_):
            if group.kind == "categorical":
                block = matrix[:, group.start : group.stop]
                block[np.isnan(block[:, 0]) & frame.iloc[:, index].notna().to_numpy()] = 0
    return matrix


def as_frame(X):
    """Rows as a frame of pandas, the columns of an array numbered."""
    import pandas as pd

    if is_frame(X):
        return pandas_frame(X)
    X = X if isinstance(X, np.ndarray) else np.array(X, dtype=object)
    return pd.DataFrame(X, dtype=object if X.dtype.kind in "OSU" else None)
