"""Categories as 0/1 columns: the most probable one, probabilities, draws."""

from __future__ import annotations

import numpy as np


def classes_of(values: np.ndarray) -> np.ndarray:
    """The category of rows of a group's columns; of a single 0/1 column, 0 or 1."""
    return (values[:, 0] >= 0.5).astype(int) if values.shape[1] == 1 else values.argmax(1)


def probabilities_of(values: np.ndarray) -> np.ndarray:
    """Of each category, or of false and true for a single 0/1 column."""
    if values.shape[1] == 1:
        return np.hstack([1 - values, values]).clip(0, 1)
    positive = values.clip(1e-12)
    return positive / positive.sum(1, keepdims=True)


def draw_categories(values: np.ndarray, random_state) -> np.ndarray:
    """Draws of categories with these probabilities, as 0/1 columns."""
    probabilities = probabilities_of(values)
    below = probabilities.cumsum(1)
    drawn = (random_state.uniform(size=(len(values), 1)) > below[:, :-1]).sum(1)
    if values.shape[1] == 1:
        return drawn[:, None].astype(float)
    return np.eye(values.shape[1])[drawn]
