"""What hidden entries of held-out rows tell: how far to follow the autoencoder, and how sure to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from skae.imputation._bounds import ConditionalDistribution
from skae.imputation._categories import classes_of
from skae.imputation._hiding import HIDDEN_SHARE, hide_entries, rarely_missing
from skae.imputation._member import Member
from skae.imputation._scale import ColumnScale
from skae.imputation._similar import WIDTHS, SimilarRows
from skae.imputation._spread import Spread
from skae.imputation._tails import residual_quantiles
from skae.model.row_space import is_wide

# Rows, with repetitions, that a member is told at most (fewer of wide tables: so many numbers, all members together,
# but some rows), and how often a row is repeated.
MAX_ROWS, MAX_NUMBERS, MIN_ROWS, MAX_REPEATS = 10_000, 2**22, 100, 8
# Of the weight of a column's own entries, that of all columns' together when it is decided how far to follow.
POOLED_SHARE = 0.1
# Residuals that a column needs for quantiles of its own, and those by which its size counts half; the levels at which
# quantiles are kept.
ENOUGH, FEW = 50, 10
LEVELS = np.concatenate([[0.002, 0.005], np.linspace(0.01, 0.99, 99), [0.995, 0.998]])
# Levels of the equally likely residuals of which the expectation of a mapped number is made.
NODES = (np.arange(99) + 0.5) / 99
# What following similar rows gains by chance, in variances of that.
N_CHANCES = 2.0
# Standard deviations of a column by which similar rows have to differ from the answer to be followed.
LEAST_STEP = 2e-3
# Rows with hidden entries by which members are compared.
MAX_COMPARED = 1000


class Told(NamedTuple):
    """Entries of held-out rows that were hidden, and what a member makes of them."""

    rows: np.ndarray  # Indices of rows of fit.
    truth: np.ndarray  # The rows, of shape (n_rows, n_columns), as all that follows.
    guess: np.ndarray
    deviation: np.ndarray
    added: np.ndarray  # What the autoencoder adds to the guess; zero where nothing was hidden.
    hidden: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """Of the guess."""
        return np.where(self.hidden, self.truth - self.guess, 0.0)

    @property
    def gappy(self) -> np.ndarray:
        """The rows as the member saw them."""
        return np.where(self.hidden, np.nan, self.truth)


class Calibration:
    r"""How the members' answers are put together, and how far they are off.

    With the linear guess m and the autoencoder's answer r of entries that were hidden in rows it
    had not seen, the answer is m + α (r − m), and α minimises the squared error by column: held-out
    rows shrink what the network has learnt to what it can tell. α is for one member; the mean of
    K members has less variance, so that the share ρ of the variance of r − m that lies between
    members enters,

    .. math:: \alpha_j = \frac{\sum (x - m)(r - m)}{\sum (r - m)^2 (1 - \rho_j (1 - 1/K))}

    From there it goes on to what `SimilarRows` have, by shares that are found in the same way: of
    the members' mean a, and kernels' expectations k, the answer is a + Σ β (k − a).

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
    columns : ColumnScale
        The columns' units.
    n_reference_rows : int
        Rows of fit that others are compared with.
    follows : bool
        Whether the autoencoder is followed all the way, as where observed entries are not like the
        missing ones.
    semicontinuous : sequence of int
        Columns that hold one value in many rows.

    Attributes
    ----------
    share : ndarray of shape (n_columns,)
        α.
    similar : SimilarRows or None
    similar_share : ndarray of shape (n_widths, n_columns)
        β.
    quantiles : ndarray of shape (n_levels, n_columns)
        Of the residuals in units of the linear guess's deviation and the column's `Spread`, at
        `LEVELS`.
    squared_error, wrong, n_told : ndarray of shape (n_groups,)
        Mean squared error of the numbers that were told, in variances of the column, share of
        wrong categories, and how many entries were told.
    """

    def __init__(
        self,
        members: Sequence[Member],
        held_out: Sequence[np.ndarray],
        Z: np.ndarray,
        group: np.ndarray,
        is_number: np.ndarray,
        random_state,
        columns: ColumnScale,
        n_reference_rows: int = 0,
        follows: bool = False,
        semicontinuous: Sequence[int] = (),
    ) -> None:
        self.group, self.is_number = group, is_number
        self._spread: dict[int, Spread] = {}
        self._rare = rarely_missing(Z, group)
        most = max(MIN_ROWS, min(MAX_ROWS, MAX_NUMBERS // (Z.shape[1] * len(members))))
        by_member = [
            _told(member, Z, rows, most, group, self._rare, random_state)
            for member, rows in zip(members, held_out, strict=True)
        ]
        told = Told(*(np.concatenate(parts) for parts in zip(*by_member, strict=True)))
        self.n_repeats = len(told.rows) / sum(len(rows[:most]) for rows in held_out)
        error, added = told.error, told.added
        between = self._between(members, Z, random_state)
        along, size = self._pooled(error * added), self._pooled(added**2)
        one = np.clip(along / np.maximum(size, 1e-300), 0, 1)
        self.share = np.clip(along / np.maximum(size * (1 - between), 1e-300), 0, 1)
        if follows:
            one = self.share = np.ones(Z.shape[1])
        self.similar: SimilarRows | None = None
        self.similar_share = np.zeros((len(WIDTHS), Z.shape[1]))
        residual = error - one * added
        # A single row would be left with nothing to tell it.
        if min(n_reference_rows, len(Z)) > 1 and not follows:
            further = self._follow_similar(members, by_member, told, Z, between, n_reference_rows, random_state)
            one = one * (1 - self.similar_share.sum(0))
            residual = np.where(told.hidden, error - one * added - further, 0.0)
        self._learn_quantiles(residual, told.truth - residual, told.deviation, told.hidden, one**2 * between * added**2)
        self._learn_errors(told.truth, residual, told.deviation, told.hidden, columns)
        self._conditional = {
            column: ConditionalDistribution((told.truth - residual)[hidden, column], told.truth[hidden, column])
            for column, hidden in ((column, told.hidden[:, column]) for column in semicontinuous)
            if hidden.any()
        }

    @property
    def _often(self) -> float:
        """How often an entry that is told is told, in the repetitions of its row."""
        return self.n_repeats * HIDDEN_SHARE / (1 - (1 - HIDDEN_SHARE) ** self.n_repeats)

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
        gappy, _ = hide_entries(rows, self.group, self._rare, random_state)
        missing = np.isnan(gappy)
        added = np.stack([rebuilt - guess for guess, _, rebuilt in (member.fill(gappy) for member in members)])
        variance = self._pooled(np.where(missing, added.var(0, ddof=1), 0.0))
        square = self._pooled(np.where(missing, (added**2).mean(0), 0.0))
        return np.clip(variance / np.maximum(square, 1e-300), 0, 1) * (1 - 1 / len(members))

    def _learn_quantiles(self, residual, answer, deviation, hidden, spared) -> None:
        """Quantiles of the residuals by column, scaled down to those of the members' mean."""
        ratio, hidden = residual / deviation, hidden & self.is_number
        for column in np.flatnonzero(self.is_number):
            told = hidden[:, column]
            spread = Spread(answer[told, column], ratio[told, column], self._often)
            self._spread[int(column)] = spread
            ratio[told, column] /= spread(answer[told, column])
        size = self._relative_sizes(ratio, hidden)
        everything = residual_quantiles((ratio / size)[hidden], LEVELS, self.n_repeats)
        self.quantiles = everything[:, None] * size
        for column in np.flatnonzero(self.is_number):
            told = hidden[:, column]
            if told.sum() >= ENOUGH * self.n_repeats:
                self.quantiles[:, column] = residual_quantiles(ratio[told, column], LEVELS, self.n_repeats)
            total = (residual[told, column] ** 2).sum()
            if total > 0:
                self.quantiles[:, column] *= np.sqrt(max(0.25, 1 - spared[told, column].sum() / total))

    def _relative_sizes(self, ratio: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """How large a column's residuals are beside all, as far as its cells tell, of shape (n_columns,)."""
        size, everything = np.ones(len(self.group)), np.abs(ratio[hidden]).mean() if hidden.any() else 0.0
        for column in np.flatnonzero(self.is_number):
            told = np.abs(ratio[hidden[:, column], column])
            if len(told) and told.mean() > 0:
                weight = len(told) / (len(told) + FEW * self.n_repeats)
                size[column] = (told.mean() / everything) ** weight
        return size

    def _learn_errors(self, truth, residual, deviation, hidden, columns: ColumnScale) -> None:
        n_told = self._by_group(hidden.astype(float))
        width = np.bincount(self.group)
        self.n_told = np.round(n_told / width).astype(int)
        error = residual.copy()
        for column in columns.shapes:
            told = hidden[:, column]
            center, spread = (truth - residual)[told, column], deviation[told, column]
            error[told, column] = self._unmapped_error(columns, column, truth[told, column], center, spread)
        self.squared_error = self._by_group(error**2) / np.maximum(n_told, 1)
        self.wrong = np.full(len(width), np.nan)
        for index in np.flatnonzero(~self.is_number[np.concatenate([[0], np.cumsum(width)[:-1]])]):
            columns = self.group == index
            told = hidden[:, columns].any(1)
            if told.any():
                true, mine = (classes_of(values[told][:, columns]) for values in (truth, truth - residual))
                self.wrong[index] = (true != mine).mean()

    def _unmapped_error(self, columns: ColumnScale, column: int, truth, center, spread) -> np.ndarray:
        """Errors of the expectations of one column's entries, in standard deviations of the unmapped column."""
        cells, residuals = np.full(len(truth), column), np.interp(NODES, LEVELS, self.quantiles[:, column])
        residuals = residuals[:, None] * spread * self._spread[column](center)
        expected = columns.restore_cells(center + residuals, cells).mean(0)
        return (columns.restore_cells(truth, cells) - expected) / columns.deviation[column]

    def _follow_similar(self, members, by_member, told, Z, between, n_reference_rows, random_state) -> np.ndarray:
        """Learn how far to go on to similar rows; what these, by their shares, have beyond the guess."""
        error = told.error - self.share * told.added
        # Of its square, what the members' mean is spared.
        spared = self.share**2 * between * told.added**2
        most = np.maximum(self._pooled(told.deviation**2 * told.hidden), 1e-300)
        unsure = np.sqrt(np.maximum(self._pooled(error**2 - spared), 0) / most)
        references = np.sort(random_state.permutation(len(Z))[:n_reference_rows])
        place = np.full(len(Z), -1)
        place[references] = np.arange(len(references))
        rows = Z[references]
        fills = [member.fill(rows) for member in members]

        def filled_by(some: Sequence[tuple]) -> SimilarRows:
            deviation = np.where(np.isnan(rows), np.mean([deviation for _, deviation, _ in some], axis=0), 0)
            return SimilarRows(rows, self._together(some), deviation * unsure, self.group, self.is_number)

        # Filled by the member that has not seen what is told: the others remember it.
        made = zip(
            *(filled_by([fill])(part.gappy, place[part.rows]) for fill, part in zip(fills, by_member, strict=True)),
            strict=True,
        )
        beyond = [np.where(told.hidden, np.concatenate(parts) - told.guess, 0.0) for parts in made]
        self.similar_share = self._similar_shares(error, [each - self.share * told.added for each in beyond], spared)
        if self.similar_share.any():
            self.similar = filled_by(fills)
        return np.sum([share * each for share, each in zip(self.similar_share, beyond, strict=True)], axis=0)

    def _similar_shares(self, error: np.ndarray, further: Sequence[np.ndarray], spared: np.ndarray) -> np.ndarray:
        """β by width and column: least squares, and no more of it than chance does not explain."""
        # In units of each column's error, so that columns that are told well are not judged by others.
        unit = np.maximum(self._by_group(error**2)[self.group], 1e-300)
        along = np.array([self._pooled((error * each - spared) / unit) for each in further])
        size = np.array([[self._pooled((one * other - spared) / unit) for one in further] for other in further])
        # What is nowhere farther than this from the answer may be so by chance, and elsewhere be farther.
        size += LEAST_STEP**2 * np.eye(len(size))[:, :, None] * (self._by_group(error != 0)[self.group] / unit)
        made = np.stack([_shares(along[:, column], size[:, :, column]) for column in range(len(unit))], axis=1)
        gains = error * np.sum([share * each for share, each in zip(made, further, strict=True)], axis=0) / unit
        gain, chance = np.maximum(self._pooled(gains), 0), self._often * self._pooled(gains**2)
        return made * np.maximum(0, 1 - N_CHANCES * chance / np.maximum(gain**2, 1e-300))

    def answer(self, gappy: np.ndarray, fills: Sequence[tuple], whole: np.ndarray) -> np.ndarray:
        """What is expected in the gaps.

        Parameters
        ----------
        gappy : ndarray of shape (n_rows, n_columns)
        fills : sequence of tuples
            What each member's `fill` made of them.
        whole : ndarray of shape (n_rows, n_columns)
            The same rows without gaps that were made; one of fit tells itself nothing.
        """
        return self._together(fills) + self.further(gappy, fills, whole)

    def further(self, gappy: np.ndarray, fills: Sequence[tuple], whole: np.ndarray) -> np.ndarray:
        """What similar rows add to the members' answer."""
        made = np.zeros(gappy.shape)
        if self.similar is not None:
            answer, own = self._together(fills), self.similar.find(whole)
            for share, expected in zip(self.similar_share, self.similar(gappy, own), strict=True):
                made += share * (expected - answer)
        return made

    def _together(self, fills: Sequence[tuple]) -> np.ndarray:
        """The mean of the members' answers."""
        return np.mean([guess + self.share * (rebuilt - guess) for guess, _, rebuilt in fills], axis=0)

    def quantile(
        self, expected: np.ndarray, deviation: np.ndarray, level: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """What missing numbers lie below with these probabilities.

        Parameters
        ----------
        expected, deviation : ndarray of shape (n_cells,)
            The answer, and the linear guess's deviation.
        level : ndarray of shape (n_cells,)
            The probabilities.
        columns : ndarray of int, of shape (n_cells,)
        """
        out = np.empty(level.shape)
        for column in np.unique(columns):
            chosen = columns == column
            if column in self._conditional:
                out[chosen] = self._conditional[column].quantile(expected[chosen], level[chosen])
            else:
                quantiles = np.interp(level[chosen], LEVELS, self.quantiles[:, column])
                out[chosen] = expected[chosen] + quantiles * deviation[chosen] * self._spread[column](expected[chosen])
        return out


def _told(member: Member, Z: np.ndarray, rows: np.ndarray, most: int, group, rare, random_state) -> Told:
    rows = rows[random_state.permutation(len(rows))[:most]]
    # Rows of many columns have enough entries to be told once.
    repeats = 1 if is_wide(*Z.shape) else max(1, min(MAX_REPEATS, most // max(len(rows), 1)))
    rows = np.tile(rows, repeats)
    gappy, hidden = hide_entries(Z[rows], group, rare, random_state)
    guess, deviation, rebuilt = member.fill(gappy)
    return Told(rows, Z[rows], guess, deviation, np.where(hidden, rebuilt - guess, 0.0), hidden)


def _shares(along: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Shares, none below zero and not above one together, that leave the least squared error."""
    values, vectors = np.linalg.eigh(size)
    if values[-1] <= 0:
        return np.zeros(len(along))
    root = np.sqrt(np.maximum(values, 1e-9 * values[-1]))
    shares, _ = nnls(root[:, None] * vectors.T, vectors.T @ along / root)
    return shares / max(1.0, shares.sum())
