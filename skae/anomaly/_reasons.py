"""Which columns make a row anomalous: what its score would be were a cell unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skae.anomaly._member import Member
from skae.tables._encoder import TableEncoder

if TYPE_CHECKING:
    import pandas as pd

# Fixed points are sought by this many accelerated steps, from what the other columns say at first.
N_STEPS = 4
# Residuals beyond this many units are not told apart.
LARGEST_RESIDUAL = 1e100
# Cells that are filled at once, times columns.
CHUNK_ELEMENTS = 2**22


class Table:
    """The table that rows were before their categories were encoded.

    Parameters
    ----------
    encoder : TableEncoder
    seen : DataFrame
        The rows.

    Attributes
    ----------
    first : ndarray of int, of shape (n_features,)
        The first of the columns that each of the table's became.
    """

    def __init__(self, encoder: TableEncoder, seen: pd.DataFrame) -> None:
        self.encoder, self.seen = encoder, seen
        self.first = np.array([group.start for group in encoder.groups_])

    def decoded(self, X: np.ndarray) -> pd.DataFrame:
        """Encoded rows as a table."""
        return self.encoder._decode(X)

    def possible(self, X: np.ndarray) -> np.ndarray:
        """Encoded rows whose guesses have become values that the table can hold."""
        return self.encoder.transform(self.decoded(X))


def expected_rows(members: Sequence[Member], X: np.ndarray) -> np.ndarray:
    """What the members that reconstruct expect of rows, in the data's units; NaN where there is none."""
    made = [member.expected(X) for member in members if member.reconstructs]
    return np.mean(made, axis=0) if made else np.full(X.shape, np.nan)


def fill(
    members: Sequence[Member], X: np.ndarray, columns: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The value of one cell of each row that agrees with the row's other cells.

    A category is a cell of several columns.

    It is the fixed point v = r(x with v in the cell): the autoencoder has nothing to change there.
    Each step is Steffensen's, which is exact where r is linear.

    Parameters
    ----------
    members : sequence of Member
    X : ndarray of shape (n_rows, n_features)
    columns : ndarray of shape (n_rows, n_columns_of_the_cell)
        Which cell of each row.
    low, high : ndarray of the shape of `columns`
        Bounds of the values.
    """
    X, rows = X.copy(), np.arange(len(X))[:, None]

    def at(values: np.ndarray) -> np.ndarray:
        X[rows, columns] = values
        return np.clip(expected_rows(members, X)[rows, columns], low, high)

    value = at(np.full(columns.shape, np.nan))
    for _ in range(N_STEPS):
        once = at(value)
        twice = at(once)
        bend = twice - 2 * once + value
        # Where two values in turn agree there is nothing to extrapolate; nor where r has a slope above one.
        stable = np.abs(twice - once) < 0.95 * np.abs(once - value)
        with np.errstate(divide="ignore", invalid="ignore"):
            leap = value - np.square(once - value) / bend
        value = np.clip(np.where(stable & np.isfinite(leap), leap, twice), low, high)
    return value


def reasons(
    members: Sequence[Member],
    score: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray, np.ndarray],
    names: Sequence[str],
    index,
    max_columns: int,
    table: Table | None = None,
) -> pd.DataFrame:
    """Shares, values seen and expected, and scores without each cell; those of a `table`, where the rows were one."""
    # Costs a third of a second where nothing has imported it yet.
    import pandas as pd

    n, p = X.shape
    low, middle, high = bounds
    base = score(X)
    residual = _residuals(X, expected_rows(members, X), members[0].spread)
    if not residual.any():
        residual = _residuals(X, middle, members[0].spread)
    # The first column of each cell, and how many it has.
    first = np.arange(p) if table is None else table.first
    width = np.diff(np.append(first, p))
    n_cells = min(len(first), max_columns)
    # Only the cells with the largest residuals can be the reason, where there are many.
    cells = np.argsort(-np.add.reduceat(residual, first, axis=1), axis=1, kind="stable")[:, :n_cells]
    expected, without = np.full((n, p), np.nan), np.full((n, len(first)), np.nan)
    rows, tried = np.repeat(np.arange(n), n_cells), cells.ravel()
    size = max(1, CHUNK_ELEMENTS // p)
    for w in np.unique(width):
        (of_width,) = np.nonzero(width[tried] == w)
        for start in range(0, len(of_width), size):
            now = of_width[start : start + size]
            i, j = rows[now], tried[now]
            columns = first[j][:, None] + np.arange(w)
            if any(member.reconstructs for member in members):
                value = fill(members, X[i], columns, low[columns], high[columns])
            else:
                value = middle[columns]
            filled, at = X[i], (np.arange(len(i))[:, None], columns)
            filled[at] = value
            if table is not None:
                # Of the cell alone: others may hold a category that the table has not had.
                filled[at] = value = table.possible(filled)[at]
            expected[i[:, None], columns] = value
            without[i, j] = score(filled)
    gain = np.nan_to_num(np.maximum(without - base[:, None], 0)) * ~np.isnan(X[:, first])
    total = gain.sum(axis=1, keepdims=True)
    share = np.divide(gain, total, out=np.zeros_like(gain), where=total > 0)
    share = np.where((width == 1) & (X[:, first] < expected[:, first]), -share, share)
    blocks = {"share": share, "seen": X, "expected": expected, "score_without": without}
    if table is not None:
        blocks |= {"seen": table.seen, "expected": table.decoded(expected)}
    frames = {name: _frame(values, index, names) for name, values in blocks.items()}
    return pd.concat(frames, axis=1)


def _residuals(X: np.ndarray, expected: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Squared residuals in units of the columns; zeros where there is none."""
    with np.errstate(over="ignore"):
        scaled = (X - expected) / unit
    return np.square(np.clip(np.nan_to_num(scaled), -LARGEST_RESIDUAL, LARGEST_RESIDUAL))


def _frame(values, index, names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    made = pd.DataFrame(values) if index is None else pd.DataFrame(values).set_axis(index)
    return made.set_axis(list(names), axis=1)
