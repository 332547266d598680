"""Gaps of tables: where they are, and how they are filled in the user's container."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from skae.tables._containers import Container, asked_library, shared_array, to_polars, without_arrow
from skae.tables._dtypes import cast, is_number, nullable_integers, plain
from skae.tables._encoder import as_frame

# A pandas frame or an array of floats.
Table = Any


class GappyTable:
    """A table of a user with its gaps.

    Parameters
    ----------
    X : frame or array-like
    table : DataFrame or ndarray
        X as `checked_table` returns it.
    marker : object, default=NaN
        What stands for a missing value beside NaN, None and NA.

    Attributes
    ----------
    container : Container
    table : DataFrame or ndarray
        The table, with gaps instead of markers.
    missing : ndarray of bool, of shape (n_rows, n_columns)
    """

    def __init__(self, X, table: Table, marker=np.nan):
        self.X, self.container = X, Container.of(X, table)
        self.table = without_markers(table, marker)
        self.missing = where_missing(self.table)

    def as_array(self) -> None:
        """Let the filled table be an array, whatever X is."""
        if self.container.library != "numpy":
            self.container = Container("numpy")

    def filled(self, rows: np.ndarray, values, columns: np.ndarray, fit: Container):
        """The table as a frame of pandas, in which gaps of some columns are filled.

        Parameters
        ----------
        rows : ndarray of int
            Rows with gaps in these columns.
        values : DataFrame of shape (len(rows), n_columns)
            Complete rows.
        columns : ndarray of bool, of shape (n_columns,)
            Those that are filled, and get the dtype of fit where their values allow.
        fit : Container
            That of the rows of fit.
        """
        frame = as_frame(self.table)
        result = frame.copy(deep=False)
        for index in np.flatnonzero(columns).tolist():
            column, gaps = frame.iloc[:, index], np.flatnonzero(self.missing[:, index])
            dtypes = self._dtypes(index, fit)
            if len(gaps):
                new = values.iloc[np.searchsorted(rows, gaps), index]
                column = _filled_column(column, gaps, new)
            result.isetitem(index, cast(column, dtypes))
        # Gaps alone, as in a single record, are gaps of the dtype of fit.
        for index in np.flatnonzero(~columns & self.missing.all(axis=0)).tolist():
            result.isetitem(index, cast(frame.iloc[:, index], self._dtypes(index, fit)))
        return result

    def filled_array(self, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The table, an array, in which gaps of some columns hold these values, and those of others 0."""
        result = np.where(self.missing & columns, values.astype(self.table.dtype), self.table)
        result[self.missing & ~columns] = 0
        return result

    def with_zeros(self, frame, columns: np.ndarray):
        """A frame with the columns of the table, in which gaps of these columns are filled with 0."""
        result = frame.copy(deep=False)
        for index in np.flatnonzero(columns).tolist():
            column, gaps = result.iloc[:, index], self.missing[:, index]
            zeros = plain(column).astype(object).mask(gaps, 0)
            result.isetitem(index, cast(zeros, [column.dtype] if is_number(column.dtype) else []))
        return result

    def _dtypes(self, index: int, fit: Container) -> list:
        """The dtypes that a filled column should have: that of fit, else that of X."""
        import pandas as pd

        if self.container.library == "numpy":
            # An array has one dtype for all columns.
            return []
        x_dtype = self.container.dtypes[index]
        at_fit = fit.dtype if fit.library == "numpy" else fit.dtypes[index]
        if at_fit is None or (fit.library == "numpy" and at_fit.kind not in "biuf"):
            return [x_dtype]
        if isinstance(at_fit, pd.ArrowDtype) and fit.library == "polars" and self.container.library == "pandas":
            # Arrow's dtypes are how polars' are read, not what was asked for.
            return [at_fit.numpy_dtype, x_dtype] if at_fit.kind in "biuf" else [x_dtype]
        return [at_fit, x_dtype]

    def give(self, frame, estimator, names, fit: Container):
        """A filled frame in the container that `estimator` is set to return, or that of X.

        Parameters
        ----------
        frame : DataFrame
            Columns of the table, and perhaps others.
        estimator : estimator
        names : ndarray of str
            Names of the columns, where the output is set.
        fit : Container
            That of the rows of fit.
        """
        library = asked_library(estimator, "")
        if library:
            frame = frame.set_axis(list(names), axis=1)
        library = library or self.container.library
        if library == "numpy":
            return self._array(frame, fit)
        if library == "polars":
            return to_polars(frame, fit.schema or self.container.schema)
        return without_arrow(frame) if self.container.library == "polars" else frame

    def _array(self, frame, fit: Container) -> np.ndarray:
        """An array of the dtype of fit, or of X, where it holds all values."""
        x_dtype, inferred = self.container.dtype, frame.infer_objects()
        if x_dtype is None:
            return shared_array(frame)
        if not all(is_number(dtype) for dtype in inferred.dtypes):
            return frame.to_numpy(dtype=x_dtype if x_dtype.kind in "SU" and not self.missing.any() else object)
        wanted = [dtype for dtype in (fit.dtype, x_dtype) if dtype is not None and dtype.kind in "biuf"]
        if x_dtype.kind == "f" and wanted[0].kind == "f":
            return inferred.to_numpy(dtype=x_dtype)
        for dtype in wanted:
            columns = [cast(inferred.iloc[:, index], [dtype]) for index in range(inferred.shape[1])]
            if all(column.dtype == dtype for column in columns):
                return np.column_stack([column.to_numpy() for column in columns])
        return frame.to_numpy(dtype=np.float64 if wanted else object)


def _filled_column(column, gaps: np.ndarray, new):
    """A plain column with values in its gaps; of objects where their dtype is another."""
    column, new = plain(column), plain(new)
    if column.dtype != new.dtype:
        column, new = column.astype(object), new.astype(object)
    result = column.copy()
    result.iloc[gaps] = new.to_numpy()
    return result


def where_missing(table: Table) -> np.ndarray:
    """Where a table has no value, of shape (n_rows, n_columns)."""
    if isinstance(table, np.ndarray):
        return np.isnan(table)
    return np.column_stack([plain(table.iloc[:, index]).isna().to_numpy() for index in range(table.shape[1])])


def check_marker(table: Table, marker) -> None:
    """Raise ValueError for a marker that is a string where X holds numbers alone: it would stand nowhere."""
    dtypes = [table.dtype] if isinstance(table, np.ndarray) else list(table.dtypes)
    if isinstance(marker, str) and all(getattr(dtype, "kind", "O") in "biufc" for dtype in dtypes):
        raise ValueError(
            f"missing_values={marker!r} is a string, but X holds numbers alone, none of which is a string: give the "
            "number that stands for a missing value, or leave it out, as NaN always does."
        )


def without_markers(table: Table, marker) -> Table:
    """The table with a missing value wherever the marker stands; columns of integers stay such."""
    import pandas as pd

    if pd.isna(marker):
        return table
    if isinstance(table, np.ndarray):
        marked = table == marker
        return np.where(marked, table.dtype.type(np.nan), table) if marked.any() else table
    result = table.copy(deep=False)
    for index in range(table.shape[1]):
        column = plain(table.iloc[:, index])
        marked = _equal(column, marker)
        if marked.any():
            result.isetitem(index, nullable_integers(column).mask(marked))
    return result


def _equal(column, marker) -> np.ndarray:
    """Where a column of a frame holds the marker; a boolean is no number."""
    from pandas.api import types

    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        if not isinstance(marker, Real):
            return np.zeros(len(column), dtype=bool)
        return (column == marker).to_numpy(dtype=bool, na_value=False)
    values = column.to_numpy(dtype=object, na_value=None)
    return np.asarray(values == marker) & ~_booleans(values)


def _booleans(values: np.ndarray) -> np.ndarray:
    """Where an array of objects holds booleans."""
    return np.vectorize(lambda value: isinstance(value, bool | np.bool_), otypes=[bool])(values)


def indicator_label(label):
    """The label of the column that says where another one was missing; of two levels the first one is changed."""
    if isinstance(label, tuple):
        return (f"missingindicator_{label[0]}", *label[1:])
    return f"missingindicator_{label}"


def with_indicators(frame, marks: np.ndarray, labels: list):
    """A frame and columns that say where others were missing, zeros and ones of the dtype of its numbers.

    Parameters
    ----------
    frame : DataFrame
    marks : ndarray of bool, of shape (n_rows, n_indicators)
    labels : list
        Of the columns that were missing.
    """
    import pandas as pd

    dtypes = [getattr(dtype, "numpy_dtype", dtype) for dtype in frame.dtypes]
    numbers = [dtype for dtype in dtypes if isinstance(dtype, np.dtype) and dtype.kind in "iuf"]
    result = pd.DataFrame(marks.astype(np.result_type(*numbers) if numbers else bool), index=frame.index)
    names = [indicator_label(label) for label in labels]
    if frame.columns.nlevels > 1:
        result.columns = pd.MultiIndex.from_tuples(names, names=frame.columns.names)
    else:
        result.columns = pd.Index(names, dtype=object)
    return pd.concat([frame, result], axis=1)
