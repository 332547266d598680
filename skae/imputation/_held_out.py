"""A score by entries that are predicted from the others of their row."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array

from skae.base.parameters import CheckedParameters, at_least, not_negative
from skae.tables._containers import as_numbers

# Numbers that are predicted at once.
CHUNK = 2**21


class HeldOutEntries(CheckedParameters):
    r"""Scorer for searches: how well entries are predicted from the other entries of their row.

    `score` of an autoencoder grows with the size of its code, because a row that is copied has no
    error: a search by it takes the largest code. An entry that the autoencoder does not see cannot
    be copied. Too small a code cannot predict it; too large a one predicts it from noise [1]_, [2]_.
    The estimator is fitted to whole rows, and only rows that it has not seen tell something.

    .. math:: 1 - \sum_{ij} (x_{ij} - \hat x_{ij})^2 \Big/ \sum_{ij} (x_{ij} - \bar x_j)^2

    The prediction is where the reconstruction settles: held-out entries start at the column's mean
    and get the estimator's own answer until it no longer changes. For PCA that is the least-squares
    fit of the code to the entries that are there. Estimators that are told which entries are
    missing answer once. Each entry is held out in one of `n_turns` turns, with others of its row.

    Parameters
    ----------
    n_turns : int, default=10
        Each turn holds out this fraction of a row's entries: more turns hold out fewer at a time,
        but at least one, and take longer.
    max_iter : int, default=100
        How often an answer is fed back at most.
    tol : float, default=1e-3
        Change of a row, in units of a column's mean deviation, at which it has settled.
    max_samples : int, default=2000
        Of more rows, so many are drawn.
    random_state : int, RandomState instance or None, default=0
        Seed of which entries are held out together, and of the rows; an int holds out the same ones
        for every estimator that is compared.

    References
    ----------
    .. [1] Wold, "Cross-validatory estimation of the number of components in factor and principal
       components models", Technometrics 20, 1978.
    .. [2] Owen and Perry, "Bi-cross-validation of the SVD and the nonnegative matrix
       factorization", Annals of Applied Statistics 3, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderTransformer, HeldOutEntries
    >>> from sklearn.model_selection import GridSearchCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 10)) + 0.3 * rng.standard_normal((200, 10))
    >>> ae = AutoencoderTransformer(hidden_layer_sizes=(), random_state=0)
    >>> GridSearchCV(ae, {"n_components": [1, 2, 3, 5, 10]}, scoring=HeldOutEntries(), cv=2).fit(X).best_params_
    {'n_components': 3}
    >>> GridSearchCV(ae, {"n_components": [1, 2, 3, 5, 10]}, cv=2).fit(X).best_params_
    {'n_components': 10}
    """

    _parameter_constraints: dict = {
        "n_turns": [at_least(2)],
        "max_iter": [at_least(1)],
        "tol": [not_negative()],
        "max_samples": [at_least(1)],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_turns: int = 10,
        *,
        max_iter: int = 100,
        tol: float = 1e-3,
        max_samples: int = 2000,
        random_state: Any = 0,
    ) -> None:
        self.n_turns = n_turns
        self.max_iter = max_iter
        self.tol = tol
        self.max_samples = max_samples
        self.random_state = random_state

    def __call__(self, estimator, X, y=None):
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with `reconstruct`, or with `transform` and `inverse_transform`
            An autoencoder of skae, `PCA`, or a pipeline that ends in one.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows of numbers that it was not fitted to; entries that are NaN are not scored.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        float
            1 is perfect, 0 no better than the columns' means of the other rows; higher is better. 0
            where no entry differs from them.
        """
        self._validate_params()
        names = getattr(X, "columns", None)
        X = check_array(
            as_numbers(X), accept_sparse="csr", dtype=(np.float64, np.float32), ensure_all_finite="allow-nan"
        )
        random_state = check_random_state(self.random_state)
        if X.shape[0] > self.max_samples:
            X = X[np.sort(random_state.permutation(X.shape[0])[: self.max_samples])]
        X = X.toarray() if hasattr(X, "toarray") else X
        turn = random_state.random_sample(X.shape).argsort(axis=1) % self.n_turns
        predict = _Prediction(estimator, names, self.max_iter, self.tol * _mean_deviation(X))
        n_turns = min(self.n_turns, X.shape[1])
        # Of each turn the means of the others, so that no entry is in its own prediction.
        held = np.stack([(turn == index) & ~np.isnan(X) for index in range(n_turns)])
        start = np.stack([_means(np.where(each, np.nan, X)) for each in held])
        error = most = 0.0
        size = max(1, CHUNK // (n_turns * X.shape[1]))
        for first in range(0, len(X), size):
            rows, there = X[first : first + size], held[:, first : first + size]
            gappy = np.where(there, np.nan, rows)
            means = np.broadcast_to(start[:, None], gappy.shape)
            filled = predict(gappy.reshape(-1, X.shape[1]), means.reshape(-1, X.shape[1])).reshape(gappy.shape)
            error += np.square(rows - filled, where=there, out=np.zeros(there.shape)).sum()
            most += np.square(rows - means, where=there, out=np.zeros(there.shape)).sum()
        return float(1 - error / most) if most > 0 else 0.0


class _Prediction:
    """What an estimator makes of gaps: where its reconstruction settles.

    Parameters
    ----------
    estimator : fitted estimator
    names : Index or None
        Names of the columns, where it was fitted to a frame.
    max_iter : int
    tol : float
        In the units of the data.
    """

    def __init__(self, estimator, names, max_iter: int, tol: float) -> None:
        self.estimator, self.names, self.max_iter, self.tol = estimator, names, max_iter, tol

    def __call__(self, gappy: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Rows filled; `start` holds a first guess of each entry."""
        missing = np.isnan(gappy)
        if getattr(self.estimator, "_sees_gaps", False):
            return np.where(missing, self._rebuilt(gappy), gappy)
        # A row whose answers move away, each farther than the last, keeps the one before.
        filled, moving = np.where(missing, start, gappy), np.arange(len(gappy))
        last = np.full(len(gappy), np.inf)
        for _ in range(self.max_iter):
            made = np.where(missing[moving], self._rebuilt(filled[moving]), gappy[moving])
            change = np.linalg.norm(made - filled[moving], axis=1)
            nearer = change < last[moving]
            filled[moving[nearer]], last[moving] = made[nearer], change
            moving = moving[nearer & (change > self.tol)]
            if not len(moving):
                break
        return filled

    def _rebuilt(self, rows: np.ndarray) -> np.ndarray:
        if self.names is not None:
            import pandas as pd

            rows = pd.DataFrame(rows, columns=self.names)
        if hasattr(self.estimator, "reconstruct"):
            return np.asarray(self.estimator.reconstruct(rows))
        return np.asarray(self.estimator.inverse_transform(self.estimator.transform(rows)))


def _means(X: np.ndarray) -> np.ndarray:
    """Means of the columns without gaps; 0 for an empty one."""
    there = ~np.isnan(X)
    return np.where(there, X, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)


def _mean_deviation(X: np.ndarray) -> float:
    """Root of the columns' mean variance."""
    return float(np.sqrt(_means((X - _means(X)) ** 2).mean()))
