"""Tables of few rows with everything that can be odd about a table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import strategies as st


class Table(NamedTuple):
    """What is needed to make a table; the first value of each list below is the simplest one.

    `scale` is the power of ten of the whole table, `spread` the largest one (up or down) of a column,
    `offset` the mean in units of the standard deviation.
    """

    n_rows: int = 20
    n_columns: int = 4
    values: str = "normal"
    dtype: str = "float64"
    container: str = "array"
    scale: int = 0
    spread: int = 0
    offset: float = 0.0
    constant: int = 0
    repeated: bool = False
    gaps: float = 0.0
    empty_column: bool = False
    empty_row: bool = False
    seed: int = 0

    def __repr__(self) -> str:
        """What differs from the simplest table."""
        odd = [f"{name}={value!r}" for name, value in self._asdict().items() if value != self._field_defaults[name]]
        return f"Table({', '.join(odd)})"


CHOICES = {
    "values": ["normal", "shares", "counts", "binary", "one_hot", "heavy_tails"],
    "dtype": ["float64", "float32", "int64", "bool"],
    "container": ["array", "frame", "sparse", "fortran"],
    "scale": [0, -3, 3, -8, 8, -15, 15, -30, 30],
    "spread": [0, 3, 8, 15, 30],
    "offset": [0.0, 10.0, 1e4, 1e8],
    "constant": [0, 1, 2],
    "repeated": [False, True],
    "gaps": [0.0, 0.1, 0.5, 0.9],
    "empty_column": [False, True],
    "empty_row": [False, True],
    "seed": list(range(20)),
}
# All shapes alike, the simplest first: with what is below 50 rows, and with one row or column, more often.
ROWS = [12, 1, 1, 2, 3, *range(4, 61), *range(50, 61)]
COLUMNS = [4, 1, *range(1, 13)]
ODDITIES_ARE_ONE_IN = 5
# Largest power of ten of a value; float32 ends at 38, and squares of a difference must not.
MOST = 30


@st.composite
def tables(draw, *, wide: bool = True, mixed: bool = False) -> Table:
    """Tables, each of whose oddities is absent in most; `mixed` ones have categories."""
    shape = draw(st.sampled_from(ROWS)), draw(st.sampled_from(COLUMNS))
    if wide and draw(rarely(False, [True], 20)):
        # A table's columns are encoded one by one, and its rows are also scored alone.
        shape = (20, 60 if mixed else 300)
    oddities = {name: draw(rarely(values[0], values[1:], ODDITIES_ARE_ONE_IN)) for name, values in CHOICES.items()}
    table = Table(*shape, **oddities)
    return table._replace(container="mixed") if mixed else table


def rarely(usual, odd: list, one_in: int) -> st.SearchStrategy:
    """The usual value, and one of the odd ones as often as one time in so many."""
    return st.sampled_from([usual] * (len(odd) * (one_in - 1)) + list(odd))


def make(table: Table, *, seed: int = 0):
    """The rows of a table; another seed has other rows in the same units."""
    rng = np.random.default_rng([table.seed, 1])
    scales = _scales(table, rng)
    loadings = rng.standard_normal((3, table.n_columns))
    rows = np.random.default_rng([table.seed, 2, seed])
    X = rows.standard_normal((table.n_rows, 3)) @ loadings + 0.5 * rows.standard_normal((table.n_rows, table.n_columns))
    X = (VALUES[table.values](X, rows) + table.offset) * scales
    X[:, : table.constant] = (1.0 + table.offset) * scales[: table.constant]
    if table.repeated:
        X = X[rows.integers(0, 1 + table.n_rows // 3, table.n_rows)]
    X = _cast(X, table.dtype)
    if X.dtype.kind == "f":
        X[rows.random(X.shape) < table.gaps] = np.nan
        X[:, -1:][:, : int(table.empty_column)] = np.nan
        X[-1:][: int(table.empty_row)] = np.nan
    return CONTAINERS[table.container](X, rows)


def _scales(table: Table, rng) -> np.ndarray:
    powers = table.scale + rng.uniform(-1, 1, table.n_columns) * table.spread
    most = MOST - np.log10(1 + abs(table.offset)) - 1
    return 10.0 ** np.clip(powers, -MOST, most)


def _cast(X: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bool":
        return X > np.median(X)
    if dtype == "int64":
        return np.clip(np.round(X), -(2**53), 2**53).astype(np.int64)
    return X.astype(dtype)


VALUES = {
    "normal": lambda X, rng: X,
    "shares": lambda X, rng: 1 / (1 + np.exp(-X)),
    "counts": lambda X, rng: rng.poisson(np.exp(np.clip(X, None, 5))).astype(float),
    "binary": lambda X, rng: (X > 0).astype(float),
    "one_hot": lambda X, rng: np.eye(X.shape[1])[X.argmax(1)],
    "heavy_tails": lambda X, rng: np.sinh(3 * X),
}


def _mixed(X: np.ndarray, rng) -> pd.DataFrame:
    """A frame of numbers, categories, booleans and texts in turn; gaps are missing."""
    columns = {}
    with np.errstate(all="ignore"):
        for j, x in enumerate(X.T):
            x = x.astype(float)
            level = np.where(np.isnan(x), np.nan, (x > np.nanmean(x) if np.isfinite(x).any() else x).astype(float))
            text = pd.Series(["ab"[int(v)] if v == v else None for v in level], dtype=object)
            columns[f"c{j}"] = [
                X[:, j],
                text.astype("category"),
                pd.array([bool(v) if v == v else None for v in level], dtype="boolean"),
                text.astype("str"),
            ][j % 4]
    return pd.DataFrame(columns)


CONTAINERS = {
    "array": lambda X, rng: X,
    "frame": lambda X, rng: pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])]),
    "sparse": lambda X, rng: sp.csr_array(X),
    "fortran": lambda X, rng: np.asfortranarray(X),
    "mixed": _mixed,
}
