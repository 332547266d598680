"""Quantiles of residuals whose tails few cells tell."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

# Share of the residuals that are a tail, at least so many of them, and the least number of residuals with fitted tails.
TAIL_SHARE, MIN_IN_TAIL, MIN_RESIDUALS = 0.05, 5, 30
# An excess counts as so many medians of the excesses at most; by so much that lowers the mean of exponential ones.
MOST_MEDIANS = 4.0
LOWERED = 1 - 2.0**-MOST_MEDIANS


def residual_quantiles(values: np.ndarray, levels: np.ndarray, n_repeats: float) -> np.ndarray:
    """Quantiles of values of which so many are of one row; further out where they are few, as conformal ones.

    Beyond a twentieth of the values on each side, the tail is an exponential distribution, whose
    mean is that of the excesses but for the farthest: one cell far out does not decide how far
    out all others may lie.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
    levels : ndarray of shape (n_levels,)
    n_repeats : float

    Returns
    -------
    ndarray of shape (n_levels,)
    """
    if len(values) == 0:
        return norm.ppf(levels)
    n = max(1.0, len(values) / n_repeats)
    levels = np.clip(0.5 + (levels - 0.5) * (n + 1) / n, 0, 1)
    made = np.quantile(values, levels)
    if n < MIN_RESIDUALS:
        return made
    share = max(TAIL_SHARE, MIN_IN_TAIL / n)
    for sign, beyond in ((-1.0, levels), (1.0, 1 - levels)):
        start = np.quantile(sign * values, 1 - share)
        excess = sign * values[sign * values > start] - start
        if len(excess) and (beyond < share).any():
            mean = np.minimum(excess, MOST_MEDIANS * np.median(excess)).mean() / LOWERED
            # The farthest of n values is the last that they tell.
            tail = np.log(share / np.maximum(beyond, 0.5 / n))
            made = np.where(beyond < share, sign * (start + mean * tail), made)
    return made
