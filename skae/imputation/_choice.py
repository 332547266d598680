"""Which columns are mapped before the linear prediction: those by which held-out rows gain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from skae.imputation._hiding import HIDDEN_SHARE, hide_entries, rarely_missing
from skae.imputation._linear import LinearGuess
from skae.imputation._scale import ColumnScale
from skae.imputation._shapes import Shape, likeliest_shape

# Rows that are compared, of which a third is held out, and how often each of these is told with other entries hidden.
MIN_ROWS, MAX_ROWS, N_REPEATS = 60, 1500, 4
# Columns and candidates up to which each candidate is tried by itself.
MAX_COLUMNS, MAX_TRIALS = 24, 6
# A squared residual counts as this at most, in variances, as one far out would decide.
MOST_SQUARE = 25.0
# Deviations at which the parabolas' columns are clipped, and the share of a column's variance that a map may lose.
MOST_DEVIATIONS, MOST_LOST = 3.0, 0.05
# By how much the squared error of the mapped columns, and that of the others, may seem to grow.
MORE_ERROR = 1.05
# Levels at which the expectation of what is mapped back is computed.
NODES = norm.ppf((np.arange(9) + 0.5) / 9)


class _Trial(NamedTuple):
    """Of hidden entries: what a linear prediction loses, in nats, and its squared error in variances of the column."""

    loss: np.ndarray
    error: np.ndarray
    column: np.ndarray


def chosen_shapes(Z: np.ndarray, group: np.ndarray, is_number: np.ndarray, random_state) -> dict[int, Shape]:
    """Maps of the skewed and heavy-tailed columns by which held-out rows gain.

    A map is taken where entries of held-out rows become likelier under the linear prediction, by
    more than chance, and the squared errors, in the table's units, hardly grow.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_columns)
        Rows of fit in the table's units, NaN where a value is missing.
    group : ndarray of int, of shape (n_columns,)
        Which column of the table a column of the matrix belongs to.
    is_number : ndarray of bool, of shape (n_columns,)
    random_state : RandomState
        Is drawn from where there are candidates.

    Returns
    -------
    dict of int to Shape

    References
    ----------
    Duan, "Smearing estimate: a nonparametric retransformation method", Journal of the American
    Statistical Association 78, 1983: the expectation of what is mapped back.
    """
    if len(Z) < MIN_ROWS:
        return {}
    shapes = {int(j): likeliest_shape(Z[~np.isnan(Z[:, j]), j]) for j in np.flatnonzero(is_number)}
    candidates = {column: shape for column, shape in shapes.items() if shape is not None}
    if not candidates:
        return {}
    rows = random_state.permutation(len(Z))[:MAX_ROWS]
    parabolas = _parabolas(ColumnScale(Z, is_number).standardise(Z[rows]))
    candidates = {j: shape for j, shape in candidates.items() if _is_explained_as_well(Z[rows, j], shape, parabolas, j)}
    if not candidates:
        return {}
    held_out = np.tile(Z[rows[: len(rows) // 3]], (N_REPEATS, 1))
    gappy, hidden = hide_entries(held_out, group, rarely_missing(Z, group), random_state)

    def tried(chosen: dict[int, Shape]) -> _Trial:
        columns = ColumnScale(Z, is_number, chosen)
        return _tried(columns, Z[rows[len(rows) // 3 :]], gappy, held_out, hidden & is_number, random_state)

    chosen: dict[int, Shape] = {}
    before = tried(chosen)
    one_by_one = Z.shape[1] <= MAX_COLUMNS and 1 < len(candidates) <= MAX_TRIALS
    # Together first: what is linear in columns before is so after, where both are mapped.
    for step in [candidates, *({column: shape} for column, shape in candidates.items() if one_by_one)]:
        if step.keys() <= chosen.keys():
            continue
        after = tried(chosen | step)
        if _gains(before, after, chosen | step):
            chosen, before = chosen | step, after
    return chosen


def _parabolas(Z: np.ndarray) -> np.ndarray:
    """Standardised columns and their squares, of shape (n_rows, n_columns, 2); outliers are clipped, gaps are zero."""
    values = np.nan_to_num(Z).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    return np.stack([values, values**2], axis=2)


def _is_explained_as_well(values: np.ndarray, shape: Shape, parabolas: np.ndarray, column: int) -> bool:
    """Whether parabolas of the other columns tell a mapped column about as well as they tell the column.

    A map may bend what depends on the others in a simple way, which the linear prediction does not
    see: a square is no longer one after the logarithm.
    """
    seen = ~np.isnan(values)
    others = np.delete(parabolas, column, axis=1)[seen].reshape(int(seen.sum()), -1)
    explained = [_held_out_share(others, each) for each in (values[seen], shape.forward(values[seen]))]
    return explained[1] >= explained[0] - MOST_LOST


def _held_out_share(features: np.ndarray, target: np.ndarray) -> float:
    """Of the variance of the last third of the rows, what a ridge regression on the others explains; at least 0."""
    n = len(target) - len(target) // 3
    location, center = features[:n].mean(0), target[:n].mean()
    A, b = features[:n] - location, target[:n] - center
    slopes = np.linalg.solve(A.T @ A + np.eye(A.shape[1]), A.T @ b)
    error = target[n:] - center - (features[n:] - location) @ slopes
    return max(0.0, 1 - error.var() / max(target[n:].var(), 1e-300))


def _tried(columns: ColumnScale, training, gappy, truth, hidden, random_state) -> _Trial:
    linear = LinearGuess.of(None, columns.standardise(training), random_state)
    guess, deviation = linear(columns.standardise(gappy))
    cells = np.nonzero(hidden)
    residual = ((columns.standardise(truth) - guess) / deviation)[cells]
    width = np.log(deviation * columns.unit(truth))[cells]
    made = columns.restore_cells(guess[cells] + NODES[:, None] * deviation[cells], cells[1]).mean(0)
    error = (truth[cells] - made) ** 2 / columns.deviation[cells[1]] ** 2
    return _Trial(np.minimum(residual**2, MOST_SQUARE) / 2 + width, np.minimum(error, MOST_SQUARE), cells[1])


def _gains(before: _Trial, after: _Trial, chosen: dict[int, Shape]) -> bool:
    gain = before.loss - after.loss
    if gain.mean() < 2 * _error_of_mean(gain):
        return False
    mapped = np.isin(before.column, list(chosen))
    return all(_is_no_worse(before.error[part], after.error[part]) for part in (mapped, ~mapped) if part.any())


def _is_no_worse(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether errors grow by no more than chance, and by little."""
    more = after - before
    return more.mean() <= min(1.5 * _error_of_mean(more), (MORE_ERROR - 1) * before.mean())


def _error_of_mean(values: np.ndarray) -> float:
    """The standard error, of entries of which N_REPEATS may be of one cell."""
    return values.std() / np.sqrt(len(values) / HIDDEN_SHARE / N_REPEATS * (1 - (1 - HIDDEN_SHARE) ** N_REPEATS))
