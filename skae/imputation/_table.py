"""Tables in the user's container: what is missing in them, and how gaps are filled."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from skae.base.rows import from_torch

# A pandas frame or an array.
Table = Any


def is_frame(table: Table) -> bool:
    """Whether it is a frame."""
    return hasattr(table, "iloc")


def where_missing(table: Table) -> np.ndarray:
    """Where a table has no value, of shape (n_rows, n_columns)."""
    if is_frame(table):
        return table.isna().to_numpy()
    if table.dtype.kind == "f":
        return np.isnan(table)
    import pandas as pd

    return np.asarray(pd.isna(table))


def check_marker(table: Table, marker) -> None:
    """Raise ValueError for a marker that is a string where X holds numbers alone: it would stand nowhere."""
    dtypes = list(table.dtypes) if is_frame(table) else [table.dtype]
    if isinstance(marker, str) and all(getattr(dtype, "kind", "O") in "biufc" for dtype in dtypes):
        raise ValueError(
            f"missing_values={marker!r} is a string, but X holds numbers alone, none of which is a string: give the "
            "number that stands for a missing value, or leave it out, as NaN always does."
        )


def without_markers(table: Table, marker) -> Table:
    """The table with a missing value wherever the marker stands."""
    import pandas as pd

    if pd.isna(marker):
        return table
    if is_frame(table):
        marked = np.column_stack([_equal(table.iloc[:, index], marker) for index in range(table.shape[1])])
        if not marked.any():
            return table
        table = table.copy()
        for index in np.flatnonzero(marked.any(0)):
            column = table.iloc[:, index]
            table.isetitem(index, column.mask(marked[:, index]))
        return table
    marked = np.asarray(table == marker)
    if table.dtype.kind == "O":
        marked &= ~_booleans(table)
    if not marked.any():
        return table
    table = table.astype(object) if table.dtype.kind in "OSU" else table.copy()
    table[marked] = np.nan if table.dtype.kind == "f" else None
    return table


def _equal(column, marker) -> np.ndarray:
    """Where a column of a frame holds the marker; a boolean is no number."""
    from pandas.api import types

    values = column.to_numpy(dtype=object, na_value=None)
    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        return values == marker if isinstance(marker, Real) else np.zeros(len(values), dtype=bool)
    return (values == marker) & ~_booleans(values)


def _booleans(values: np.ndarray) -> np.ndarray:
    """Where an array of objects holds booleans."""
    return np.vectorize(lambda value: isinstance(value, bool | np.bool_), otypes=[bool])(values)


def as_table(X, estimator) -> Table:
    """X as a frame of pandas or an array of two dimensions, whose values are yet to be checked."""
    X = from_torch(X)
    if hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if not hasattr(X, "iloc") or X.ndim != 2:
        options: dict = {"dtype": None, "ensure_all_finite": False, "estimator": estimator, "input_name": "X"}
        if not hasattr(X, "dtype") and not hasattr(X, "__array__"):
            # Numbers beside strings would become strings.
            numbers = check_array(X, **options)
            options["dtype"] = None if numbers.dtype.kind in "fiubc" else object
        return check_array(X, **options)
    for axis, unit in enumerate(("sample", "feature")):
        if X.shape[axis] == 0:
            raise ValueError(
                f"Found array with 0 {unit}(s) (shape={X.shape}) while a minimum of 1 is required by "
                f"{type(estimator).__name__}."
            )
    return X


def fill_table(
    table: Table,
    missing: np.ndarray,
    decoded: Callable[[np.ndarray], Table],
    *,
    dropped: np.ndarray,
    empty: np.ndarray,
    indicated: np.ndarray | None,
) -> Table:
    """A copy of the table whose missing cells hold what `decoded(rows)` makes of these rows.

    Parameters
    ----------
    table : DataFrame or ndarray
    missing : ndarray of bool, of shape (n_rows, n_columns)
    decoded : callable
        Maps indices of rows to a complete table of them.
    dropped, empty : ndarray of bool, of shape (n_columns,)
        Columns that are left out; columns without a value at fit, which are filled with 0.
    indicated : ndarray of int or None
        Columns whose gaps are told in columns of their own, behind the others.
    """
    rows = np.flatnonzero(missing[:, ~empty].any(1))
    filled = decoded(rows) if len(rows) else None
    made = _filled_frame(table, missing, rows, filled, empty) if is_frame(table) else None
    if made is None:
        made = table.copy()
        if filled is not None:
            gaps = missing[rows] & ~empty
            values = np.asarray(filled)
            if made.dtype.kind in "SU" or (made.dtype.kind != "O" and values.dtype.kind == "O"):
                made = made.astype(object)
            part = made[rows]
            part[gaps] = values[gaps]
            made[rows] = part
        made[missing & empty] = 0
        made = made[:, ~dropped]
        if indicated is not None:
            marks = missing[:, indicated]
            made = np.hstack([made, marks.astype(made.dtype if made.dtype.kind == "f" else object)])
        return made
    made = made.loc[:, ~dropped] if dropped.any() else made
    if indicated is not None:
        for index in indicated:
            made[f"missingindicator_{table.columns[index]}"] = missing[:, index]
    return made


def _filled_frame(table, missing, rows, filled, empty):
    made = table.copy()
    for index in np.flatnonzero(missing.any(0)):
        column = made.iloc[:, index]
        gaps = np.flatnonzero(missing[:, index])
        if empty[index]:
            is_number = column.dtype.kind in "fiub"
            values = column if is_number else column.astype(object)
            # pandas' booleans take no 0.
            column = values.where(~missing[:, index], column.dtype.type(0) if is_number else 0)
        else:
            column = column.copy()
            own = filled.iloc[:, index]
            column.iloc[gaps] = own.iloc[np.searchsorted(rows, gaps)].to_numpy()
        made.isetitem(index, column)
    return made
