"""How well hidden entries are told."""

from __future__ import annotations

import numpy as np

from skae.imputation._categories import classes_of


def mean_score(
    truth: np.ndarray, expected: np.ndarray, hidden: np.ndarray, column: np.ndarray, is_number: np.ndarray
) -> float:
    """Mean over the table's columns of 1 − error / error of the mean, or of the most frequent category.

    Parameters
    ----------
    truth, expected : ndarray of shape (n_rows, n_columns)
    hidden : ndarray of bool, of shape (n_rows, n_columns)
        The entries that count.
    column : ndarray of int, of shape (n_columns,)
        Which column of the table a column of the matrix belongs to.
    is_number : ndarray of bool, of shape (n_columns,)

    Returns
    -------
    float
        1 is perfect; 0 where no column varies.
    """
    scores = []
    for index in np.unique(column):
        columns = column == index
        told = hidden[:, columns].any(1)
        if not told.any():
            continue
        true, made = truth[told][:, columns], expected[told][:, columns]
        if is_number[columns].all():
            error, most = ((true - made) ** 2).sum(), ((true - true.mean()) ** 2).sum()
        else:
            classes = classes_of(true)
            error, most = (classes != classes_of(made)).sum(), len(classes) - np.bincount(classes).max()
        if most > 0:
            scores.append(1 - error / most)
    return float(np.mean(scores)) if scores else 0.0
