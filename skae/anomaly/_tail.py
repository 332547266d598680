"""From scores to tail probabilities and p-values: what makes scores comparable, and gives them meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

# What is smaller than this share of a high score counts as that: a copy of a training row has no distance at all.
RELATIVE_FLOOR = 1e-3
# Above this quantile of the calibration scores the tail is extrapolated.
TAIL_BEGINS = 0.9
N_KNOTS = 512
# Scores that differ by this share of their size are equal: what rounding leaves between batches of several sizes.
TIE = 1e-5
# contamination="auto": the false discovery rate among the flagged rows, and the least share of normal rows above.
NULL_FDR, NULL_LEVEL = 0.1, 0.01


class Tail:
    r"""Tail probability of scores, calibrated on held-out rows.

    Up to the 0.9 quantile t of the calibration scores it is their empirical distribution; scores
    that are equal but for rounding have one tail probability, the least of theirs.
    Beyond, the logarithm of the score has an exponential tail,

    .. math:: p(s) = 0.1 \exp(-(\log s - \log t) / b),

    with b the mean excess, so that scores above all that were seen are still told apart.

    Parameters
    ----------
    scores : ndarray of shape (n_rows,)
        Scores of rows that the scorer was not fitted on; higher is more anomalous.
    logarithmic : bool
        Whether they are logarithms already.

    References
    ----------
    Pickands, "Statistical inference using extreme order statistics", Annals of Statistics 3, 1975;
    Hill, "A simple general approach to inference about the tail of a distribution", ibid.
    """

    def __init__(self, scores: np.ndarray, logarithmic: bool) -> None:
        self.floor = None
        if not logarithmic:
            high = np.quantile(scores, TAIL_BEGINS)
            self.floor = RELATIVE_FLOOR * (high if high > 0 else scores.max()) or 1.0
        log = self.log(scores)
        self.begin = float(np.quantile(log, TAIL_BEGINS))
        # Scores that are equal to it but for rounding are not beyond it.
        self.end = self.begin + tie_widths(log, self.begin)
        excess = log[log > self.end] - self.begin
        # Where nothing exceeds the quantile, scores are equal, and a hundredth of a logarithm is one unit.
        self.scale = max(float(excess.mean()) if len(excess) else 0.0, 1e-2)
        places = np.linspace(0, 1, min(len(log), N_KNOTS))
        surprise = -np.log1p(-places * (1 - 1 / (len(log) + 1)))
        self.knots, self.surprise = _without_jumps(np.quantile(log, places), surprise, tie_widths(log, log))
        middle, upper = np.quantile(log, [0.5, 0.75])
        self.middle, self.width = float(middle), max(float(upper - middle) / stats.norm.ppf(0.75), 1e-2)

    def log(self, scores: np.ndarray) -> np.ndarray:
        """The scores' logarithms."""
        return scores if self.floor is None else np.log(np.maximum(scores, self.floor))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """−log p of each score, which rises without end beyond the calibration scores."""
        log = self.log(scores)
        body = np.interp(log, self.knots, self.surprise)
        return np.where(log <= self.end, body, -np.log1p(-TAIL_BEGINS) + (log - self.begin) / self.scale)

    def departure(self, scores: np.ndarray) -> np.ndarray:
        """How far the logarithm of each score is above the median, in standard deviations of the bulk."""
        return (self.log(scores) - self.middle) / self.width


def tie_widths(scores: np.ndarray, at: np.ndarray | float) -> np.ndarray:
    """How far a score may be from each of `at` and count as equal, by the size and spread of some scores."""
    low, middle, high = np.quantile(scores, [0.25, 0.5, 0.75])
    return TIE * (np.abs(at) + abs(middle) + (high - low))


def _without_jumps(knots: np.ndarray, values: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of −log p as a function that is constant where they are equal but for rounding, and has no jump there."""
    width = 2 * widths.max()
    first = np.flatnonzero(np.append(True, np.diff(knots) > width))
    last = np.append(first[1:], len(knots)) - 1
    if len(first) == len(knots):
        return knots, values
    several = last > first
    edges = np.stack([knots[first] - np.where(several, width / 4, 0), knots[last] + width / 4], axis=1)
    kept = np.stack([np.full(len(first), True), several], axis=1)
    # A tie at the end of the body is not more surprising than what is beyond it.
    highest = np.where(several, np.minimum(values[last], -np.log1p(-TAIL_BEGINS)), values[first])
    return edges[kept], np.repeat(highest, kept.sum(axis=1))


def harmonic_mean(surprises: Sequence[np.ndarray]) -> np.ndarray:
    """−log of the harmonic mean of p-values, given −log p by several scorers.

    It needs no independence, and a scorer that is sure is not outvoted by others that see nothing.

    References
    ----------
    Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 116, 2019.
    """
    stacked = np.stack(surprises)
    top = stacked.max(axis=0)
    return top + np.log(np.exp(stacked - top).mean(axis=0))


def conformal_p_values(
    calibration: Sequence[np.ndarray], scores: np.ndarray, weights: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Cross-conformal p-values: the share of held-out training rows that are as anomalous.

    A row is compared with each part of the held-out rows by a score that was learnt without that
    part. With one part they are split-conformal p-values, and exact for rows that are exchangeable
    with those. Scores that are equal but for rounding count as equal.

    Parameters
    ----------
    calibration : sequence of ndarray
        Sorted scores of each part of the held-out rows.
    scores : ndarray of shape (n_rows, n_parts)
        Scores of the rows as of each part; higher is more anomalous.
    weights : sequence of ndarray or None
        What each held-out row counts in each part: those of a row that is in several parts are one together.

    References
    ----------
    Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74, 2015.
    Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+", Annals of
    Statistics 49, 2021.
    Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals of
    Statistics 51, 2023.
    """
    if not sum(map(len, calibration)):
        return np.ones(len(scores))
    pooled = np.concatenate(calibration)
    as_high, n_held_out = np.zeros(len(scores)), 0.0
    for index, (held_out, column) in enumerate(zip(calibration, scores.T, strict=True)):
        weight = np.ones(len(held_out)) if weights is None else weights[index]
        # What the rows from each place on count together.
        from_here = np.append(np.cumsum(weight[::-1])[::-1], 0.0)
        as_high += from_here[np.searchsorted(held_out, column - tie_widths(pooled, column), side="left")]
        n_held_out += from_here[0]
    return (1 + as_high) / (1 + n_held_out)


def threshold(scores: np.ndarray, n_below: int) -> float:
    """The least that has so many of the sorted scores below it, or fewer where scores are equal.

    It lies between scores that differ by more than rounding, so that equal rows are on one side.
    """
    width, below = tie_widths(scores, scores), _all_or_none_of_equals(scores, n_below)
    return float(scores[0] - width[0] if below == 0 else scores[below - 1] + width[below - 1])


def between_ties(scores: np.ndarray, value: float) -> float:
    """The value, or what is just below all of the sorted scores that are equal to it but for rounding."""
    width = tie_widths(scores, scores)
    if (np.abs(scores - value) > 2 * width).all():
        return value
    first = _all_or_none_of_equals(scores, int(np.searchsorted(scores, value, side="left")))
    return float(scores[first] - width[first])


def _all_or_none_of_equals(scores: np.ndarray, n_below: int) -> int:
    """The largest number up to `n_below` that does not part sorted scores that are equal but for rounding."""
    width = tie_widths(scores, scores)
    gaps = np.diff(scores) > 2 * (width[1:] + width[:-1])
    return int(np.flatnonzero(np.concatenate([[True], gaps, [True]])[: n_below + 1])[-1])


def extrapolated_threshold(scores: np.ndarray, level: float, logarithmic: bool) -> float:
    r"""A threshold that a share `level` of new rows exceeds, where fewer than 1 / level scores are known.

    Above the median, the logarithm of a score is taken to have an exponential tail. Of m excesses
    with the sum S, one more exceeds c S with the probability (1 + c)^(−m), whatever the scale is, so
    that few scores have a threshold far out.

    Parameters
    ----------
    scores : ndarray of shape (n_held_out,)
        Scores of held-out rows; higher is more anomalous.
    level : float
    logarithmic : bool
        Whether they are logarithms already.
    """
    tail = Tail(scores, logarithmic)
    log = np.sort(tail.log(scores))
    below = max(len(log) // 2, 1)
    begin, excess = log[below - 1], log[below:] - log[below - 1]
    n = max(len(excess), 1)
    # Of n + 1 exchangeable rows, so many are above this one.
    share = max((len(excess) + 1) / (len(log) + 1), level)
    far = begin + max(excess.sum(), 1e-2) * ((share / level) ** (1 / n) - 1)
    return float(far if logarithmic else np.exp(far))


def benjamini_hochberg(p_values: np.ndarray, fdr: float) -> np.ndarray:
    """Which rows are discoveries at this false discovery rate, as booleans (JRSS B 57, 1995)."""
    return stats.false_discovery_control(p_values, method="bh") <= fdr


def share_of_anomalies(departures: np.ndarray) -> float:
    """The share of rows that the bulk of the scores does not explain.

    The median and the upper quartile of the logarithms give a normal null distribution: anomalies
    in less than a quarter of the rows hardly move them. Rows are flagged beyond its 99 % quantile,
    or below that as long as Benjamini and Hochberg's procedure keeps the false discovery rate at
    10 %. It is at least 1 %: a threshold that no row exceeds would be none.

    Parameters
    ----------
    departures : ndarray of shape (n_rows,)
        Departures of held-out rows from the median, in standard deviations of the null.

    References
    ----------
    Efron, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis", JASA 99, 2004.
    """
    p = stats.norm.sf(departures)
    return float(max((p <= NULL_LEVEL).mean(), benjamini_hochberg(p, NULL_FDR).mean(), NULL_LEVEL))
