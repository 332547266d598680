"""Tables in the user's container: what is missing in them, and how gaps are filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

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


def without_markers(table: Table, marker) -> Table:
    """The table with a missing value wherever the marker stands."""
    if marker is None or _is_nan(marker):
        return table
    if is_frame(table):
        return table.mask(table == marker)
    marked = np.asarray(table == marker)
    if not marked.any():
        return table
    table = table.astype(object) if table.dtype.kind in "OSU" else table.copy()
    table[marked] = np.nan if table.dtype.kind == "f" else None
    return table


def _is_nan(marker) -> bool:
    import pandas as pd

    return bool(pd.isna(marker))


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
            values = column.astype(object) if column.dtype.kind not in "fiub" else column
            column = values.where(~missing[:, index], 0)
        else:
            column = column.copy()
            own = filled.iloc[:, index]
            column.iloc[gaps] = own.iloc[np.searchsorted(rows, gaps)].to_numpy()
        made.isetitem(index, column)
    return made
