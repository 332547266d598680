"""From scores to tail probabilities: what makes scores of different units comparable, and gives them meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

# What is smaller than this share of a high score counts as that: a copy of a training row has no distance at all.
RELATIVE_FLOOR = 1e-3
# Above this quantile of the calibration scores the tail is extrapolated.
TAIL_BEGINS = 0.9
N_KNOTS = 512
# contamination="auto": the false discovery rate among the flagged rows, and the least share of normal rows above.
NULL_FDR, NULL_LEVEL = 0.1, 0.01


class Tail:
    r"""Tail probability of scores, calibrated on held-out rows.

    Up to the 0.9 quantile t of the calibration scores it is their empirical distribution. Beyond,
    the logarithm of the score has an exponential tail,

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

    def __init__(self, scores: np.ndarray, logarithmic: bool):
        self.floor = None
        if not logarithmic:
            high = np.quantile(scores, TAIL_BEGINS)
            self.floor = RELATIVE_FLOOR * (high if high > 0 else scores.max()) or 1.0
        log = self.log(scores)
        self.begin = float(np.quantile(log, TAIL_BEGINS))
        excess = log[log > self.begin] - self.begin
        # Where nothing exceeds the quantile, scores are equal, and a hundredth of a logarithm is one unit.
        self.scale = max(float(excess.mean()) if len(excess) else 0.0, 1e-2)
        places = np.linspace(0, 1, min(len(log), N_KNOTS))
        self.knots = np.quantile(log, places)
        self.surprise = -np.log1p(-places * (1 - 1 / (len(log) + 1)))
        middle, upper = np.quantile(log, [0.5, 0.75])
        self.middle, self.width = float(middle), max(float(upper - middle) / stats.norm.ppf(0.75), 1e-2)

    def log(self, scores: np.ndarray) -> np.ndarray:
        """The scores' logarithms."""
        return scores if self.floor is None else np.log(np.maximum(scores, self.floor))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """−log p of each score, which rises without end beyond the calibration scores."""
        log = self.log(scores)
        body = np.interp(log, self.knots, self.surprise)
        return np.where(log <= self.begin, body, -np.log1p(-TAIL_BEGINS) + (log - self.begin) / self.scale)

    def departure(self, scores: np.ndarray) -> np.ndarray:
        """How far the logarithm of each score is above the median, in standard deviations of the bulk."""
        return (self.log(scores) - self.middle) / self.width


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


def conformal_p_values(calibration: Sequence[np.ndarray], scores: np.ndarray) -> np.ndarray:
    """Cross-conformal p-values: the share of held-out training rows that are as anomalous.

    A row is compared with the held-out rows of each member by that member's score. With one member
    they are split-conformal p-values, and exact for rows that are exchangeable with those.

    Parameters
    ----------
    calibration : sequence of ndarray
        Sorted scores of each member's held-out rows.
    scores : ndarray of shape (n_rows, n_members)
        Scores of the rows by each member; higher is more anomalous.

    References
    ----------
    Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74, 2015.
    Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals of
    Statistics 51, 2023.
    """
    as_high = np.zeros(len(scores))
    for held_out, column in zip(calibration, scores.T, strict=True):
        as_high += len(held_out) - np.searchsorted(held_out, column, side="left")
    return (1 + as_high) / (1 + sum(map(len, calibration)))


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
