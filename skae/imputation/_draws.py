"""Draws of what is missing, for multiple imputation."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from skae.imputation._calibration import Calibration
from skae.imputation._categories import draw_categories
from skae.imputation._linear import LinearGuess


def drawn_rows(
    gappy: np.ndarray,
    fills: list[tuple],
    further: np.ndarray,
    linear: LinearGuess,
    weights: np.ndarray,
    calibration: Calibration,
    categorical: np.ndarray,
    random_state,
) -> np.ndarray:
    """Rows whose gaps are drawn.

    Parameters
    ----------
    gappy : ndarray of shape (n_rows, n_columns)
    fills : list of tuples
        What each member's `fill` made of them.
    further : ndarray of shape (n_rows, n_columns)
        What similar rows add.
    linear : LinearGuess
        A draw of the normal distribution.
    weights : ndarray of shape (n_members,)
        By how much what each member adds is moved from the mean.
    calibration : Calibration
    categorical : ndarray of int, of shape (n_columns,)
        The table's column to which a 0/1 column belongs; -1 for numbers.
    random_state : RandomState
    """
    guess, deviation = linear(gappy)
    added = np.stack([calibration.share * (rebuilt - own) for own, _, rebuilt in fills])
    added = added.mean(0) + np.tensordot(weights, added - added.mean(0), 1) + further
    # What is not known of a row with nothing known is not the autoencoder's to tell.
    added[np.isnan(gappy).all(1)] = 0
    drawn = guess + added
    level = norm.cdf(linear.draw(gappy, random_state))
    cells = np.nonzero(np.isnan(gappy) & (categorical < 0))
    values = calibration.quantile(drawn[cells], deviation[cells], level[cells], cells[1])
    for index in np.unique(categorical[categorical >= 0]):
        columns = np.flatnonzero(categorical == index)
        gaps = np.isnan(gappy[:, columns]).any(1)
        drawn[np.ix_(gaps, columns)] = draw_categories(drawn[np.ix_(gaps, columns)], random_state)
    drawn[cells] = values
    return drawn
