"""What hidden entries of held-out rows tell: how far to follow the autoencoder, and how sure to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from skae.imputation._categories import classes_of
from skae.imputation._member import Member

# Share of the observed entries of held-out rows that are hidden to be told.
HIDDEN_SHARE = 0.2
# Rows, with repetitions, that are told at most, and how often a row is repeated.
MAX_ROWS, MAX_REPEATS = 10_000, 8
# Of the weight of a column's own entries, that of all columns' together when it is decided how far to follow.
POOLED_SHARE = 0.1
# Residuals that a column needs for quantiles of its own, and the levels at which they are kept.
ENOUGH = 50
LEVELS = np.concatenate([[0.002, 0.005], np.linspace(0.01, 0.99, 99), [0.995, 0.998]])
# Rows with hidden entries by which members are compared.
MAX_COMPARED = 1000


class Calibration:
    r"""How the members' answers are put together, and how far they are off.

    With the linear guess m and the autoencoder's answer r of entries that were hidden in rows it
    had not seen, the answer is m + α (r − m), and α minimises the squared error by column: held-out
    rows shrink what the network has learnt to what it can tell. α is for one member; the mean of
    K members has less variance, so that the share ρ of the variance of r − m that lies between
    members enters,

    .. math:: \alpha_j = \frac{\sum (x - m)(r - m)}{\sum (r - m)^2 (1 - \rho_j (1 - 1/K))}

    Parameters
    ----------
    members : sequence of Member
    held_out : sequence of ndarray of int
        Rows that each member has not seen.
    Z : ndarray of shape (n_rows, n_columns)
        Training rows with NaN in their gaps.
    group : ndarray of int, of shape (n_columns,)
        Which column of the table a column of the matrix belongs to.
    is_number : ndarray of bool, of shape (n_columns,)
    random_state : RandomState
    follows : bool
        Whether the autoencoder is followed all the way, as where observed entries are not like the
        missing ones.

    Attributes
    ----------
    share : ndarray of shape (n_columns,)
        α.
    quantiles : ndarray of shape (n_levels, n_columns)
        Of the residuals in units of the linear guess's deviation, at `LEVELS`.
    squared_error, wrong, n_told : ndarray of shape (n_groups,)
        Mean squared error of the numbers that were told, share of wrong categories, and how many
        entries were told.
    """

    def __init__(
        self,
        members: Sequence[Member],
        held_out: Sequence[np.ndarray],
        Z: np.ndarray,
        group: np.ndarray,
        is_number: np.ndarray,
        random_state,
        follows: bool = False,
    ):
        self.group, self.is_number = group, is_number
        told = [_told(member, Z[rows], group, random_state) for member, rows in zip(members, held_out, strict=True)]
        self.n_repeats = sum(len(part[0]) for part in told) / sum(len(rows[:MAX_ROWS]) for rows in held_out)
        truth, guess, deviation, added, hidden = (np.concatenate(parts) for parts in zip(*told, strict=True))
        error = np.where(hidden, truth - guess, 0.0)
        added = np.where(hidden, added, 0.0)
        between = self._between(members, Z, random_state)
        along, size = self._pooled(error * added), self._pooled(added**2)
        one = np.clip(along / np.maximum(size, 1e-300), 0, 1)
        self.share = np.clip(along / np.maximum(size * (1 - between), 1e-300), 0, 1)
        if follows:
            one = self.share = np.ones(Z.shape[1])
        residual = error - one * added
        self._learn_quantiles(residual, deviation, hidden, one**2 * between * added**2)
        self._learn_errors(truth, residual, guess + one * added, hidden)

    def _by_group(self, values: np.ndarray) -> np.ndarray:
        """Sums over the rows and a group's columns, of shape (n_groups,)."""
        return np.bincount(self.group, weights=values.sum(0))

    def _pooled(self, values: np.ndarray) -> np.ndarray:
        """Sums by group, drawn a little towards all groups together; of shape (n_columns,)."""
        by_group = self._by_group(values)
        return (by_group + POOLED_SHARE * by_group.mean())[self.group]

    def _between(self, members: Sequence[Member], Z: np.ndarray, random_state) -> np.ndarray:
        """The share of the variance of what members add that their mean is spared."""
        if len(members) == 1:
            return np.zeros(Z.shape[1])
        rows = Z[random_state.permutation(len(Z))[:MAX_COMPARED]]
        gappy, _ = _hide(rows, self.group, random_state)
        missing = np.isnan(gappy)
        added = np.stack([rebuilt - guess for guess, _, rebuilt in (member.fill(gappy) for member in members)])
        variance = self._pooled(np.where(missing, added.var(0, ddof=1), 0.0))
        square = self._pooled(np.where(missing, (added**2).mean(0), 0.0))
        return np.clip(variance / np.maximum(square, 1e-300), 0, 1) * (1 - 1 / len(members))

    def _learn_quantiles(self, residual, deviation, hidden, spared) -> None:
        """Quantiles of the residuals by column, scaled down to those of the members' mean."""
        ratio, hidden = residual / deviation, hidden & self.is_number
        everything = _quantiles(ratio[hidden], self.n_repeats)
        self.quantiles = np.tile(everything[:, None], (1, len(self.group)))
        for column in np.flatnonzero(self.is_number):
            told = hidden[:, column]
            if told.sum() >= ENOUGH * self.n_repeats:
                self.quantiles[:, column] = _quantiles(ratio[told, column], self.n_repeats)
            total = (residual[told, column] ** 2).sum()
            if total > 0:
                self.quantiles[:, column] *= np.sqrt(max(0.25, 1 - spared[told, column].sum() / total))

    def _learn_errors(self, truth, residual, answer, hidden) -> None:
        n_told = self._by_group(hidden.astype(float))
        width = np.bincount(self.group)
        self.n_told = np.round(n_told / width).astype(int)
        self.squared_error = self._by_group(residual**2) / np.maximum(n_told, 1)
        self.wrong = np.full(len(width), np.nan)
        for index in np.flatnonzero(~self.is_number[np.concatenate([[0], np.cumsum(width)[:-1]])]):
            columns = self.group == index
            told = hidden[:, columns].any(1)
            if told.any():
                true, mine = (classes_of(values[told][:, columns]) for values in (truth, answer))
                self.wrong[index] = (true != mine).mean()

    def combine(self, guess: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
        """One member's answer."""
        return guess + self.share * (rebuilt - guess)

    def at(self, level: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Residual quantiles, in units of the deviation, at levels of entries of these columns."""
        out = np.empty(level.shape)
        for column in np.unique(columns):
            chosen = columns == column
            out[chosen] = np.interp(level[chosen], LEVELS, self.quantiles[:, column])
        return out


def _quantiles(values: np.ndarray, n_repeats: float) -> np.ndarray:
    """At `LEVELS`, of values of which so many are of one row; further out where they are few, as conformal ones."""
    if len(values) == 0:
        return norm.ppf(LEVELS)
    n = max(1.0, len(values) / n_repeats)
    return np.quantile(values, np.clip(0.5 + (LEVELS - 0.5) * (n + 1) / n, 0, 1))


def _hide(Z: np.ndarray, group: np.ndarray, random_state) -> tuple[np.ndarray, np.ndarray]:
    """Rows with further gaps, and where these are; all columns of a group are hidden together."""
    chosen = random_state.uniform(size=(len(Z), group[-1] + 1)) < HIDDEN_SHARE
    hidden = chosen[:, group] & ~np.isnan(Z)
    return np.where(hidden, np.nan, Z), hidden


def _told(member: Member, Z: np.ndarray, group: np.ndarray, random_state) -> tuple[np.ndarray, ...]:
    """Held-out rows, the guess, its deviation, what the autoencoder adds, and which entries were hidden."""
    Z = Z[random_state.permutation(len(Z))[:MAX_ROWS]]
    Z = np.tile(Z, (max(1, min(MAX_REPEATS, MAX_ROWS // max(len(Z), 1))), 1))
    gappy, hidden = _hide(Z, group, random_state)
    guess, deviation, rebuilt = member.fill(gappy)
    return Z, guess, deviation, rebuilt - guess, hidden
