"""Dtypes of columns: as numbers, booleans and categories can be read from them, and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np


def is_object(dtype) -> bool:
    """Whether a dtype is that of objects."""
    return isinstance(dtype, np.dtype) and dtype.kind == "O"


def is_number(dtype) -> bool:
    """Whether a dtype is one of numbers or booleans."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(dtype) or is_bool_dtype(dtype)


def is_machine_number(dtype) -> bool:
    """Whether a dtype is one of floats, integers or booleans, of NumPy, nullable or Arrow's."""
    import pandas as pd

    dtype = getattr(dtype, "numpy_dtype", dtype)
    return isinstance(dtype, np.dtype) and not isinstance(dtype, pd.SparseDtype) and dtype.kind in "biuf"


def plain(values):
    """A column without sparse, dictionary, decimal and null dtypes, in which NaN, None and NA are all missing.

    Sparse columns become dense, dictionaries of Arrow categories, its decimals objects, its null
    column objects that are all missing, and its floating numbers those of NumPy.
    """
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, pd.SparseDtype):
        return pd.Series(np.asarray(values.array), index=values.index)
    if not isinstance(dtype, pd.ArrowDtype):
        return values
    if dtype.kind == "f":
        result = values.to_numpy(dtype=dtype.numpy_dtype, na_value=np.nan)
    elif "dictionary" in str(dtype.pyarrow_dtype):
        result = values.array.__arrow_array__().to_pandas().array
        if not result.ordered:
            # Theirs is the order in which they first occur.
            result = result.reorder_categories(result.categories.sort_values())
    elif str(dtype.pyarrow_dtype) == "null" or str(dtype.pyarrow_dtype).startswith("decimal"):
        result = values.to_numpy(dtype=object, na_value=None)
    else:
        return values
    return pd.Series(result, index=values.index)


def nullable_integers(values):
    """A column that can have gaps without becoming one of floating numbers."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return values.astype(dtype.name.replace("i", "I", 1).replace("u", "U", 1))
    return values


def from_floats(values: np.ndarray, dtype, *, missing=None, is_integer: bool = False, places: int | None = None):
    """Numbers as an array of a dtype: rounded where it has integers or decimals, and within its range.

    Parameters
    ----------
    values : ndarray of shape (n_rows,), of float
        NaN is missing. Where it is, and a NumPy dtype has no missing values, they stay floats.
    dtype : dtype
    missing : object
        What stands for a missing value in an array of objects.
    is_integer : bool
    places : int or None
        Decimal places, of decimals.
    """
    import pandas as pd

    if isinstance(dtype, pd.SparseDtype):
        result = np.asarray(from_floats(values, dtype.subtype, missing=missing, is_integer=is_integer))
        return pd.arrays.SparseArray(result, dtype=dtype) if result.dtype == dtype.subtype else result
    gaps = np.isnan(values)
    if places is not None:
        return _decimals(values, dtype, missing, places)
    if is_integer:
        values = np.rint(values)
    if is_object(dtype):
        result = values.astype(object)
        if is_integer:
            result[~gaps] = [int(value) for value in values[~gaps]]
        result[gaps] = missing
        return result
    if is_integer:
        bounds = np.iinfo(getattr(dtype, "numpy_dtype", dtype))
        top = float(bounds.max)
        # The largest integer of 64 bits is no float: the next one below is.
        values = values.clip(bounds.min, top if int(top) == bounds.max else np.nextafter(top, 0))
        if gaps.any() and isinstance(dtype, np.dtype):
            return values
    return pd.Series(values).astype(dtype).array


def _decimals(values: np.ndarray, dtype, missing, places: int):
    import pandas as pd

    if not is_object(dtype):
        digits = dtype.pyarrow_dtype
        largest = 10.0 ** (digits.precision - digits.scale) - 10.0**-digits.scale
        values, missing = values.clip(-largest, largest), None
    result = np.full(len(values), missing, dtype=object)
    known = ~np.isnan(values)
    result[known] = [Decimal(f"{value:.{places}f}") for value in values[known]]
    return result if is_object(dtype) else pd.array(result, dtype=dtype)


def decimal_places(values) -> int | None:
    """The most decimal places of a column of decimals; None of another one."""
    from pandas.api.types import infer_dtype

    if not is_object(values.dtype) or infer_dtype(values, skipna=True) != "decimal":
        return None
    return max(0, *(-value.as_tuple().exponent for value in values[values.notna()]))


def of_dtype(values: np.ndarray, dtype):
    """Booleans, strings or other objects as an array of a dtype, which has them."""
    import pandas as pd

    if isinstance(dtype, pd.SparseDtype):
        return pd.arrays.SparseArray(values.astype(dtype.subtype), dtype=dtype)
    return pd.Series(values, dtype=object).astype(dtype).array


def cast(values, dtypes) -> Any:
    """A column in the first of some dtypes that holds all that is in it, unchanged; as it is where there is none.

    A category that a dtype of categories lacks is added to it.
    """
    for dtype in dtypes:
        result = values if values.dtype == dtype else _unchanged(values, dtype)
        if result is not None:
            return result
    return values


def _unchanged(values, dtype):
    """A column in another dtype; None where that changes what is in it."""
    import pandas as pd

    values = plain(values)
    if is_machine_number(values.dtype) and is_machine_number(dtype) and not values.isna().any():
        return _unchanged_numbers(values, dtype)
    objects = values.astype(object)
    there = objects.notna().to_numpy()
    if getattr(dtype, "kind", None) == "f":
        # 0.1 is no float, but the float that is nearest to it is what it is given for.
        objects = objects.map(lambda value: float(value) if isinstance(value, Decimal) else value)
    if isinstance(dtype, pd.CategoricalDtype):
        new = pd.Index(objects[there].unique()).difference(dtype.categories, sort=False)
        dtype = pd.CategoricalDtype(dtype.categories.append(new), dtype.ordered) if len(new) else dtype
    try:
        result = pd.Series(of_dtype(objects.where(there, None).to_numpy(), dtype), index=values.index)
        same = plain(result).astype(object)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return None
    return result if (same.notna().to_numpy() == there).all() and (same[there] == objects[there]).all() else None


def _unchanged_numbers(values, dtype):
    import pandas as pd

    numbers = values.to_numpy(dtype=getattr(values.dtype, "numpy_dtype", values.dtype))
    with np.errstate(invalid="ignore", over="ignore"):
        there = numbers.astype(getattr(dtype, "numpy_dtype", dtype))
        is_same = (there.astype(numbers.dtype) == numbers).all()
    return pd.Series(there, index=values.index).astype(dtype) if is_same else None
