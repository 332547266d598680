"""Which columns make a row anomalous: what its score would be were a cell unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skae.anomaly._member import Member

if TYPE_CHECKING:
    import pandas as pd

# Fixed points are sought by this many accelerated steps, from what the other columns say at first.
N_STEPS = 4
# Cells that are filled at once, times columns.
CHUNK_ELEMENTS = 2**22


def expected_rows(members: Sequence[Member], X: np.ndarray) -> np.ndarray:
    """What the members that reconstruct expect of rows, in the data's units; NaN where there is none."""
    made = [member.expected(X) for member in members if member.reconstructs]
    return np.mean(made, axis=0) if made else np.full(X.shape, np.nan)


def fill(members: Sequence[Member], X: np.ndarray, column: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The value of one cell of each row that agrees with the row's other cells.

    It is the fixed point v = r(x with v in the cell): the autoencoder has nothing to change there.
    Each step is Steffensen's, which is exact where r is linear.

    Parameters
    ----------
    members : sequence of Member
    X : ndarray of shape (n_rows, n_features)
    column : ndarray of shape (n_rows,)
        Which cell of each row.
    low, high : ndarray of shape (n_rows,)
        Bounds of the values.
    """
    X, rows = X.copy(), np.arange(len(X))

    def at(values: np.ndarray) -> np.ndarray:
        X[rows, column] = values
        return np.clip(expected_rows(members, X)[rows, column], low, high)

    value = at(np.full(len(X), np.nan))
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
) -> pd.DataFrame:
    """Shares, values seen and expected, and scores without each cell."""
    # Costs a third of a second where nothing has imported it yet.
    import pandas as pd

    n, p = X.shape
    low, middle, high = bounds
    base = score(X)
    residual = np.nan_to_num(np.square((X - expected_rows(members, X)) / members[0].spread))
    if not residual.any():
        residual = np.nan_to_num(np.square((X - middle) / members[0].spread))
    n_columns = min(p, max_columns)
    # Only the columns with the largest residuals can be the reason, where there are many.
    cells = np.argsort(-residual, axis=1, kind="stable")[:, :n_columns]
    expected, without = np.full((n, p), np.nan), np.full((n, p), np.nan)
    rows, columns = np.repeat(np.arange(n), n_columns), cells.ravel()
    size = max(1, CHUNK_ELEMENTS // p)
    for start in range(0, len(rows), size):
        i, j = rows[start : start + size], columns[start : start + size]
        if any(member.reconstructs for member in members):
            value = fill(members, X[i], j, low[j], high[j])
        else:
            value = middle[j]
        filled = X[i]
        filled[np.arange(len(i)), j] = value
        expected[i, j], without[i, j] = value, score(filled)
    gain = np.nan_to_num(np.maximum(without - base[:, None], 0)) * ~np.isnan(X)
    total = gain.sum(axis=1, keepdims=True)
    share = np.divide(gain, total, out=np.zeros_like(gain), where=total > 0)
    share = np.where(X < expected, -share, share)
    blocks = {"share": share, "seen": X, "expected": expected, "score_without": without}
    frames = {name: pd.DataFrame(values, index=index, columns=list(names)) for name, values in blocks.items()}
    return pd.concat(frames, axis=1)
