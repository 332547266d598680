"""Containers of tables: arrays, lists, frames of pandas and of other libraries; what comes in, and what goes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_array, validate_data

from skae.base.rows import from_torch
from skae.tables._columns import as_floats, kind_of
from skae.tables._dtypes import is_number, plain

FLOATS = (np.float64, np.float32)
# What numpy says of strings, and of a gap beside them, that should be numbers.
NOT_NUMBERS = ("could not convert string", "parse string", "Cannot cast str", "Cannot cast object")


def is_frame(X) -> bool:
    """Whether X is a frame, of pandas or of a library that can convert to it."""
    return (hasattr(X, "to_pandas") or hasattr(X, "iloc")) and len(X.shape) == 2


def library_of(X) -> str:
    """The container of X: "numpy" (lists too), "pandas" or "polars"; frames of others become pandas'."""
    if not is_frame(X):
        return "numpy"
    return "polars" if type(X).__module__.split(".")[0] == "polars" else "pandas"


def pandas_frame(X):
    """A frame as one of pandas, without a change of what it holds."""
    import pandas as pd

    if isinstance(X, pd.DataFrame) or not hasattr(X, "to_pandas"):
        return X
    if library_of(X) != "polars":
        return X.to_pandas()
    try:
        # Without Arrow's dtypes, integers with a gap would become floats.
        return X.to_pandas(use_pyarrow_extension_array=True)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"A column of X has a dtype that cannot be converted to pandas ({error}): cast it to another. X has "
            f"{dict(X.schema)}."
        ) from error


def _read(X):
    """X without a mask; a query that is yet to run is refused."""
    if hasattr(X, "collect") and hasattr(X, "collect_schema") and not is_frame(X):
        raise TypeError(f"X is a {type(X).__name__}, which holds no rows yet: give X.collect().")
    if hasattr(X, "iloc") and is_frame(X) and not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()].unique().tolist()
        raise ValueError(f"Several columns of X are called {twice}: columns are known by their names, so rename them.")
    return plain_rows(X)


def plain_rows(X):
    """A tensor as an array, and an array with a gap wherever it is masked: NaN, or None where its dtype has no NaN."""
    X = from_torch(X)
    if not isinstance(X, np.ma.MaskedArray):
        return X
    mask = np.ma.getmaskarray(X)
    if not mask.any():
        return np.asarray(X)
    if X.dtype.kind in "fc":
        return np.where(mask, X.dtype.type(np.nan), X.data)
    return np.where(mask, None, X.data.astype(object))


# Numbers ---------------------------------------------------------------------------------------


def checked_numbers(estimator, X, *, hint: str, **options):
    """`validate_data` of X, for estimators of numbers, which takes every dtype of numbers and booleans.

    Parameters
    ----------
    estimator : estimator
    X : array-like, sparse matrix or frame
    hint : str
        What to do about strings, for the error.
    options : dict
        Of `validate_data`.
    """
    X = as_numbers(X, hint)
    try:
        return validate_data(estimator, X, **options)
    except (ValueError, TypeError) as error:
        if any(words in str(error) for words in NOT_NUMBERS):
            raise ValueError(f"X holds strings ({error}): {hint}") from error
        raise


def as_numbers(X, hint: str = "encode it by TableEncoder."):
    """X as scikit-learn checks it: numbers, and NaN for gaps, of masked arrays and of all dtypes of columns."""
    X = _read(X)
    if is_frame(X):
        return _numbers_of_frame(pandas_frame(X), hint)
    if isinstance(X, list | tuple):
        objects = _objects(X)
        return X if objects is None else _gaps_as_nan(objects, X)
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OmM":
        import pandas as pd

        if X.dtype.kind == "O":
            return _gaps_as_nan(X, X)
        kind_of(pd.Series(X[:, 0]), 0)
    return X


def _objects(rows) -> np.ndarray | None:
    """A list of rows as an array of objects; None where it is no list of rows of one length, or one of numbers."""
    if not all(isinstance(row, list | tuple) for row in rows) or len({len(row) for row in rows}) != 1:
        return None
    if all(type(value) in (int, float) for row in rows for value in row):
        return None
    result = np.empty((len(rows), len(rows[0])), dtype=object)
    for index, row in enumerate(rows):
        result[index] = row
    return result


def _gaps_as_nan(objects: np.ndarray, X):
    import pandas as pd

    gaps = pd.isna(objects)
    return np.where(gaps, np.nan, objects) if gaps.any() else X


def _numbers_of_frame(frame, hint: str):
    import pandas as pd

    dtypes = [dtype for dtype in frame.dtypes if not (isinstance(dtype, np.dtype) and dtype.kind in "fiub")]
    if not dtypes or _is_sparse(frame):
        return frame
    result = {}
    for index, name in enumerate(frame.columns):
        values = plain(frame.iloc[:, index])
        is_plain = isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiub"
        result[index] = values if is_plain else _numbers_of_column(values, name, frame.dtypes.iloc[index], hint)
    return pd.DataFrame(result, index=frame.index).set_axis(frame.columns, axis=1)


def _numbers_of_column(values, name, dtype, hint: str) -> np.ndarray:
    if not values.notna().any():
        # Gaps alone are gaps whatever their dtype.
        return np.full(len(values), np.nan)
    if kind_of(values, name, dtype) == "categorical":
        try:
            return values.astype(object).where(values.notna(), np.nan).to_numpy(dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise ValueError(f"X holds strings (column {name!r} of dtype {dtype}: {error}): {hint}") from error
    return as_floats(values, name)


def _is_sparse(frame) -> bool:
    """Whether a frame is one that scikit-learn takes for a sparse matrix."""
    import pandas as pd

    return all(isinstance(dtype, pd.SparseDtype) and dtype.fill_value == 0 for dtype in frame.dtypes)


# Tables ----------------------------------------------------------------------------------------


def checked_table(estimator, X, *, reset: bool):
    """X as a frame of pandas, or an array of floats; names and number of columns checked, and values not.

    Arrays of other dtypes and lists become frames whose columns are numbered.
    """
    import pandas as pd

    X = _read(X)
    if is_frame(X):
        frame = pandas_frame(X)
        for axis, unit in enumerate(("sample", "feature")):
            if frame.shape[axis] == 0:
                raise ValueError(
                    f"Found array with 0 {unit}(s) (shape={frame.shape}) while a minimum of 1 is required by "
                    f"{type(estimator).__name__}."
                )
        return validate_data(estimator, frame, reset=reset, skip_check_array=True)
    options: dict = {"dtype": None, "ensure_all_finite": False}
    if not hasattr(X, "dtype") and not hasattr(X, "__array__"):
        # Numbers beside strings would become strings.
        numbers = check_array(X, estimator=estimator, input_name="X", **options)
        options["dtype"] = None if numbers.dtype.kind in "fiubc" else object
    X = validate_data(estimator, X, reset=reset, **options)
    if X.dtype in FLOATS:
        return X
    return pd.DataFrame(X, dtype=object if X.dtype.kind in "OSU" else None)


@dataclass(frozen=True, eq=False)
class Container:
    """What a table came in.

    Attributes
    ----------
    library : {"numpy", "pandas", "polars"}
    dtype : dtype or None
        Of an array; None of a list, which becomes an array of the dtype that its values share.
    columns : Index or None
        Of a frame.
    dtypes : sequence of dtype
        Of a frame's columns, as pandas has them.
    schema : dict or None
        Of a frame of polars.
    """

    library: str
    dtype: Any = None
    columns: Any = None
    dtypes: Any = ()
    schema: Any = None

    @classmethod
    def of(cls, X, table) -> Container:
        """That of X, which `checked_table` has turned into `table`."""
        library = library_of(X)
        if library == "numpy":
            array = table if isinstance(table, np.ndarray) else from_torch(X)
            return cls(library, dtype=getattr(array, "dtype", None))
        schema = dict(X.schema) if library == "polars" else None
        return cls(library, columns=table.columns, dtypes=list(table.dtypes), schema=schema)


def asked_library(estimator, default: str) -> str:
    """The container that `set_output` asks for, of the estimator or of all, or the default."""
    asked = _get_output_config("transform", estimator)["dense"]
    return default if asked == "default" else asked


def give(frame, container: Container, library: str):
    """A frame in another container: an array like the one of `container`, or a frame with its schema."""
    if library == "polars":
        return to_polars(frame, container.schema)
    if library == "pandas":
        return without_arrow(frame) if container.library == "polars" else frame
    dtype = container.dtype
    if dtype is None:
        return shared_array(frame)
    if frame.isna().any(axis=None) and dtype.kind != "O":
        dtype = np.dtype(object if dtype.kind in "SU" else np.float64)
    return frame.to_numpy(dtype=dtype)


def shared_array(frame) -> np.ndarray:
    """A frame as an array of the dtype that numbers of all its columns have, or else of objects."""
    frame = frame.infer_objects()
    if not all(is_number(dtype) for dtype in frame.dtypes):
        return frame.to_numpy()
    dtype = np.result_type(*(getattr(dtype, "numpy_dtype", dtype) for dtype in frame.dtypes))
    return frame.to_numpy(dtype=np.float64 if frame.isna().any(axis=None) else dtype)


def without_arrow(frame):
    """A frame that was read from one of polars, in the dtypes that polars gives to pandas."""
    import pandas as pd

    columns = [polars_series(frame.iloc[:, index], "").to_pandas() for index in range(frame.shape[1])]
    result = pd.DataFrame(dict(enumerate(columns))).set_axis(frame.columns, axis=1)
    return result.set_axis(frame.index)


def to_polars(frame, schema=None):
    """A frame of pandas as one of polars, with the categories of a schema."""
    import polars as pl

    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Two columns are called {twice[0]!r}, which a frame of polars cannot hold: rename the one of X, or use "
            "set_output(transform='pandas')."
        )
    result = [polars_series(frame.iloc[:, i], name, (schema or {}).get(name)) for i, name in enumerate(names)]
    return pl.DataFrame(result)


def polars_series(values, name: str, dtype=None):
    """A column of pandas as a series of polars; of its dtype where that is one of given categories."""
    import polars as pl

    result: Any = pl.from_pandas(values)
    result = result.alias(name)
    if isinstance(dtype, pl.Enum) and result.dtype in (pl.Categorical, pl.String):
        strings = result.cast(pl.String)
        return strings.cast(dtype) if set(strings.drop_nulls()) <= set(dtype.categories) else result
    return result


def polars_blocks(frame, schema=None):
    """A frame of pandas with columns of two levels as one of polars, with a column of structs for each first level."""
    import polars as pl

    blocks = frame.columns.unique(0)
    return pl.DataFrame([to_polars(frame[block], schema).to_struct(block) for block in blocks])


def rows_in_container(estimator, rows: np.ndarray, names: Callable, like=None):
    """Rows of numbers as `set_output` asks for, with the index of `like`; an array where it asks for nothing.

    Parameters
    ----------
    estimator : estimator
    rows : ndarray of shape (n_rows, n_columns)
    names : callable
        Returns the names of the columns, of which an array has no need.
    like : frame or None
    """
    library = asked_library(estimator, "numpy")
    if library == "numpy" or rows.ndim != 2:
        return rows
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(names()), index=getattr(like, "index", None) if is_frame(like) else None)
    return to_polars(frame) if library == "polars" else frame
