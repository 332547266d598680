"""One column of a table: what it holds, as numbers, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skae.tables._dtypes import cast, decimal_places, from_floats, is_object, of_dtype

# What pandas finds in a column of objects, and what that is taken for.
KINDS = {
    "boolean": "binary",
    "string": "categorical",
    **dict.fromkeys(("integer", "floating", "mixed-integer-float", "decimal"), "numeric"),
    "empty": "empty",
}
TIMES = {"datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period"}
REMEDIES = {
    "bytes": "decode it (.str.decode('utf-8')), or drop it",
    **dict.fromkeys(("list", "tuple", "dict", "ndarray"), "give each element a column, or drop it"),
}
OTHER = "other"


@dataclass(frozen=True)
class ColumnGroup:
    """Which columns of the matrix stand for one column of the table.

    Attributes
    ----------
    column : str or int
        Name of the table's column; its index where it has none.
    kind : {"numeric", "binary", "categorical", "ignored"}
    start, stop : int
        The matrix's columns from `start` to before `stop`.
    """

    column: Any
    kind: str
    start: int
    stop: int


def kind_of(values, name, dtype=None) -> str:
    """What a column holds: "numeric", "binary", "categorical", or, without a value or a dtype of numbers, "empty".

    Parameters
    ----------
    values : Series
        A plain column.
    name : str or int
        For errors.
    dtype : dtype or None
        That which the column had before, for errors.

    Raises
    ------
    ValueError, TypeError
        For complex numbers, times, and what is neither a number, a boolean nor a string.
    """
    from pandas import CategoricalDtype
    from pandas.api import types

    found = "complex" if types.is_complex_dtype(values.dtype) else None
    if found is None:
        if types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype):
            return "numeric"
        if not values.notna().any() and values.dtype.kind not in "mM":
            return "empty"
        if isinstance(values.dtype, CategoricalDtype):
            return "categorical"
        # Without gaps, of which NaT would count as a time.
        found = types.infer_dtype(values.dropna())
    if found in KINDS:
        return KINDS[found]
    if found == "complex":
        raise ValueError(f"Complex data not supported: column {name!r} has complex numbers.")
    dtype = values.dtype if dtype is None else dtype
    if found in TIMES:
        raise ValueError(
            f"Column {name!r} holds times ({found}), dtype {dtype}, which have no scale. Convert to "
            "numbers: days since a date, year, month, hour."
        )
    raise _not_one_kind(values, name, dtype)


def _not_one_kind(values, name, dtype) -> Exception:
    first = {type(value).__name__: value for value in reversed(values[values.notna()].tolist())}
    seen = " and ".join(f"{value!r} ({kind})" for kind, value in list(first.items())[:2])
    if len(first) > 1:
        return ValueError(
            f"Column {name!r} mixes numbers and strings, or other types: it holds {seen}, dtype {dtype}. Make it one "
            "of them, as by astype(str) or pandas.to_numeric(errors='coerce')."
        )
    remedy = REMEDIES.get(next(iter(first)), "convert it (by astype(str) to a category), or drop it")
    return TypeError(
        f"Column {name!r} holds {seen}, dtype {dtype}: each entry must be a number, a boolean, a string, or missing. "
        f"For this one, {remedy}."
    )


def _example(values) -> str:
    return repr(values[values.notna()].iloc[0])


class NumericColumn:
    """Numbers, one column as they are.

    Parameters
    ----------
    name : str or int
    dtype : dtype
        Of the column at fit.
    values : Series or None
        The plain column at fit; None is one of an array of floats.
    """

    kind, width = "numeric", 1

    def __init__(self, name, dtype, values=None) -> None:
        self.name, self.dtype = name, dtype
        self.missing, self.is_integer, self.places, self.is_empty = None, False, None, False
        if values is not None:
            as_floats(values, name)
            self.missing = missing_marker(values, dtype)
            self.is_integer, self.places = holds_integers(values), decimal_places(values)
            if self.places is not None and not is_object(dtype):
                self.places = dtype.pyarrow_dtype.scale
            self.is_empty = not values.notna().any()

    def encode(self, values, out: np.ndarray) -> None:
        """Write a column into `out`, of shape (n_rows, 1)."""
        if kind_of(values, self.name) != "categorical":
            out[:, 0] = as_floats(values, self.name)
        elif self.is_empty:
            out[:, 0] = np.nan
        else:
            raise ValueError(
                f"Column {self.name!r} held numbers at fit, but holds categories now ({_example(values)}, dtype "
                f"{values.dtype}): give it numbers (dtype {self.dtype} at fit), or fit again."
            )

    def decode(self, block: np.ndarray):
        """Values of the dtype at fit, of shape (n_rows,)."""
        return from_floats(
            block[:, 0], self.dtype, missing=self.missing, is_integer=self.is_integer, places=self.places
        )

    def names(self, name: str) -> list[str]:
        """Names of the matrix's columns."""
        return [name]


class EmptyColumn(NumericColumn):
    """A column without an observed value, of no numbers' dtype: NaN, whatever it holds later."""

    def encode(self, values, out: np.ndarray) -> None:
        """Write a column into `out`, of shape (n_rows, 1)."""
        out[:, 0] = np.nan

    def decode(self, block: np.ndarray):
        """Missing values of the dtype at fit, of shape (n_rows,)."""
        import pandas as pd

        if is_object(self.dtype):
            return np.full(len(block), self.missing, dtype=object)
        return pd.Series([None] * len(block), dtype=self.dtype).array


class IgnoredColumn(EmptyColumn):
    """A column that is not encoded, of times or what else is neither number, boolean nor string: no columns."""

    kind, width = "ignored", 0

    def __init__(self, name, dtype, values):
        self.name, self.dtype, self.missing = name, dtype, missing_marker(values, dtype)

    def encode(self, values, out: np.ndarray) -> None:
        """Write nothing."""

    def decode(self, block: np.ndarray):
        """Missing values, of the dtype at fit where that has them, of shape (n_rows,)."""
        import pandas as pd

        return cast(pd.Series([None] * len(block), dtype=object), [self.dtype]).array

    def names(self, name: str) -> list[str]:
        """No names."""
        return []


class BinaryColumn:
    """Booleans, one column of 0 and 1.

    Parameters
    ----------
    name : str or int
    dtype : dtype
        Of the column at fit.
    values : Series
        The plain column at fit.
    """

    kind, width = "binary", 1

    def __init__(self, name, dtype, values) -> None:
        self.name, self.dtype, self.missing = name, dtype, missing_marker(values, dtype)

    def encode(self, values, out: np.ndarray) -> None:
        """Write a column into `out`, of shape (n_rows, 1)."""
        kind = kind_of(values, self.name)
        numbers = np.full(len(values), np.nan) if kind == "categorical" else as_floats(values, self.name)
        beyond = ~(np.isnan(numbers) | (numbers == 0) | (numbers == 1))
        if kind == "categorical" or beyond.any():
            seen = _example(values) if kind == "categorical" else repr(float(numbers[beyond][0]))
            raise ValueError(f"Column {self.name!r} held booleans at fit, but holds {seen} now: give it booleans.")
        out[:, 0] = numbers

    def decode(self, block: np.ndarray):
        """Values of the dtype at fit, the more probable of the two, of shape (n_rows,)."""
        values = block[:, 0]
        codes = np.where(np.isnan(values), -1, values >= 0.5)
        return _take(np.array([False, True]), codes.astype(np.intp), self.dtype, self.missing)

    def names(self, name: str) -> list[str]:
        """Names of the matrix's columns."""
        return [name]


class CategoricalColumn:
    """Categories, one column each: 1 where it is the row's, NaN in all where it is missing.

    Parameters
    ----------
    name : str or int
    dtype : dtype
        Of the column at fit.
    values : Series
        The plain column at fit.
    handle_unknown : {"ignore", "error"}
    max_categories : int or None

    Attributes
    ----------
    levels : Index
        The categories seen, in the order of the dtype, or sorted.
    kept : ndarray of int
        Those that have a column; the last column is of all others, where there are any.
    by_frequency : ndarray of int
        The kept ones' columns, the most frequent first.
    """

    kind = "categorical"

    def __init__(self, name, dtype, values, handle_unknown: str, max_categories: int | None) -> None:
        self.name, self.dtype, self.handle_unknown = name, dtype, handle_unknown
        self.missing = missing_marker(values, dtype)
        self.levels, counts = _levels(values)
        n_levels = len(self.levels)
        self.has_other = max_categories is not None and n_levels > max_categories
        n_kept = max_categories - 1 if self.has_other else n_levels
        frequent = np.argsort(-counts, kind="stable")[:n_kept]
        self.kept = np.sort(frequent)
        self.by_frequency = np.searchsorted(self.kept, frequent)
        self.position = np.full(n_levels, n_kept)
        self.position[self.kept] = np.arange(n_kept)
        self.level_kind = _level_kind(self.levels)
        self._same_kind(self.levels)

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return len(self.kept) + self.has_other

    def encode(self, values, out: np.ndarray) -> None:
        """Write a column into `out`, of shape (n_rows, width)."""
        codes, distinct = _codes(values)
        found = self._same_kind(distinct)
        # Of each distinct value, its level; the last entry stands for missing ones.
        level = np.append(found, -1)[codes]
        unseen = (level < 0) & (codes >= 0)
        if self.handle_unknown == "error" and unseen.any():
            new = distinct[np.unique(codes[unseen])].tolist()
            raise ValueError(
                f"Found unknown categories {new} in column {self.name!r}: they were not there at fit. Use "
                "handle_unknown='ignore' to take them for missing."
            )
        known = level >= 0
        out[~known] = np.nan
        rows = np.flatnonzero(known)
        out[rows, self.position[level[rows]]] = 1.0

    def _same_kind(self, distinct) -> np.ndarray:
        """The level of each distinct value, -1 where it is none."""
        kind = _level_kind(distinct)
        if kind == "numbers":
            check_finite(distinct.to_numpy(dtype=np.float64), self.name)
        if len(distinct) and "mixed" not in (kind, self.level_kind) and kind != self.level_kind:
            raise ValueError(
                f"Column {self.name!r} held {self.level_kind} at fit, but holds {kind} now ({distinct.tolist()[0]!r}): "
                "convert it, or fit again."
            )
        return self.levels.astype(object).get_indexer(distinct.astype(object))

    def decode(self, block: np.ndarray):
        """The most probable category, of shape (n_rows,); of equal ones the most frequent at fit."""
        codes = np.full(len(block), -1)
        if len(self.levels):
            codes = self.kept[self.by_frequency[np.asarray(block)[:, self.by_frequency].argmax(1)]]
            codes[np.isnan(block).any(1)] = -1
        return _take(self.levels, codes, self.dtype, self.missing)

    def names(self, name: str) -> list[str]:
        """Names of the matrix's columns."""
        return [f"{name}_{level}" for level in (*self.levels[self.kept], *([OTHER] if self.has_other else []))]


def as_floats(values, name) -> np.ndarray:
    """Numbers or booleans as float64, NaN where they are missing."""
    if is_object(values.dtype):
        made = values.where(values.notna(), np.nan).to_numpy(dtype=np.float64)
    else:
        made = values.to_numpy(dtype=np.float64, na_value=np.nan)
    check_finite(made, name)
    return made


def check_finite(values: np.ndarray, name) -> None:
    if np.isinf(values).any():
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float64'), in column {name!r}: replace it, or "
            "make it NaN."
        )


def holds_integers(values) -> bool:
    """Whether a column of numbers has integers alone, by its dtype or, in a column of objects, by its values."""
    from pandas.api import types

    if is_object(values.dtype):
        return types.infer_dtype(values, skipna=True) == "integer"
    return types.is_integer_dtype(values.dtype)


def missing_marker(values, dtype):
    """What stands for a missing value in a column of objects; None in one of another dtype."""
    if not is_object(dtype):
        return None
    missing = values[values.isna()]
    return missing.iloc[0] if len(missing) else np.nan


def _codes(values) -> tuple[np.ndarray, Any]:
    """Of each row the index of its value among the distinct ones, -1 where it is missing; and these."""
    from pandas import CategoricalDtype, Index

    if isinstance(values.dtype, CategoricalDtype):
        codes, distinct = values.cat.codes.to_numpy(), values.cat.categories
        used = np.bincount(codes[codes >= 0], minlength=len(distinct)) > 0
        return np.append(np.cumsum(used) - 1, -1)[codes], distinct[used]
    codes, distinct = values.factorize()
    return codes, Index(distinct)


def _levels(values) -> tuple[Any, np.ndarray]:
    """The distinct values in order, and how often each is there."""
    from pandas import CategoricalDtype

    codes, distinct = _codes(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(distinct))
    if not isinstance(values.dtype, CategoricalDtype):
        order = distinct.argsort()
        distinct, counts = distinct[order], counts[order]
    return distinct, counts


def _level_kind(levels) -> str:
    """What levels are: "numbers", "booleans", "strings", or "mixed"."""
    from pandas.api.types import infer_dtype

    kinds = {"numeric": "numbers", "binary": "booleans", "categorical": "strings"}
    return kinds.get(KINDS.get(infer_dtype(levels, skipna=True), ""), "mixed")


def _take(levels, codes: np.ndarray, dtype, missing):
    """The levels of these codes as an array of a dtype; -1 is missing."""
    import pandas as pd

    gaps = codes < 0
    if isinstance(dtype, pd.CategoricalDtype):
        position = dtype.categories.get_indexer(levels)
        return pd.Categorical.from_codes(np.append(position, -1)[codes], dtype=dtype)
    made = np.append(np.asarray(levels, dtype=object), [missing])[codes]
    if isinstance(dtype, np.dtype) and (dtype.kind == "O" or dtype.kind in "biu" and gaps.any()):
        return made
    return of_dtype(made, dtype)


def unique_names(names: list[str]) -> list[str]:
    """Names of which the later of two equal ones gets a number."""
    unique: dict[str, None] = {}
    for name in names:
        number, other = 2, name
        while other in unique:
            other, number = f"{name}_{number}", number + 1
        unique[other] = None
    return list(unique)
