"""Which observed entries are hidden to be told."""

from __future__ import annotations

import numpy as np

# Share of the observed entries of held-out rows that are hidden to be told.
HIDDEN_SHARE = 0.2
# A column is rarely missing with less than this of the gaps of the one that has most; share of the rows in which one of
# those is hidden, and nothing else.
RARE_SHARE, ALONE_SHARE = 0.25, 0.15


def rarely_missing(Z: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Which groups have few gaps beside others, or none; of a table without gaps, no group."""
    share = np.isnan(Z).mean(0)[np.unique(group, return_index=True)[1]]
    return share < RARE_SHARE * share.max()


def hide_entries(Z: np.ndarray, group: np.ndarray, rare: np.ndarray, random_state) -> tuple[np.ndarray, np.ndarray]:
    """Rows with further gaps, as gaps occur, and where these are; all columns of a group are hidden together.

    A group that is rarely missing is known where others are told: it is hidden alone, in some rows.
    """
    chosen = random_state.uniform(size=(len(Z), group[-1] + 1)) < HIDDEN_SHARE
    if rare.any():
        alone = random_state.uniform(size=len(Z)) < ALONE_SHARE
        one = random_state.choice(np.flatnonzero(rare), size=len(Z))
        chosen &= ~rare & ~alone[:, None]
        chosen[alone, one[alone]] = True
    hidden = chosen[:, group] & ~np.isnan(Z)
    return np.where(hidden, np.nan, Z), hidden
