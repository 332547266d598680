"""Distance to the nearest of many small subsamples, by matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np


class NearestOfSubsamples:
    """Mean logarithm of the distance to the nearest row of each of several subsamples.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)
        Entries may be NaN: they count in no distance, and what is left is scaled up.
    max_samples, max_references : int
    random_state : RandomState
    weight : ndarray of shape (n_columns,) or None
        What a column counts where others have gaps; None counts each as one.
    """

    # Bytes of the distances that are held at once: they stay in the cache.
    CHUNK = 2**21

    def __init__(self, X: np.ndarray, max_samples: int, max_references: int, random_state: Any, weight=None) -> None:
        n = len(X)
        self.weight = np.ones(X.shape[1]) if weight is None else weight
        self.size = min(n, max_samples)
        # Each row serves several times where there are few, until a subsample holds all.
        n_groups = 1 if self.size == n else max(1, min(max_references, 8 * n) // self.size)
        # No subsample spans two turns: a row that is in it twice would be its own neighbour.
        in_turn = n // self.size
        turns = [random_state.permutation(n)[: in_turn * self.size] for _ in range(-(-n_groups // in_turn))]
        # A subsample is a column, so that long pieces of memory are compared.
        order = np.concatenate(turns)[: n_groups * self.size].reshape(n_groups, self.size).T
        # A row that is in several subsamples is held once.
        kept, self.place = np.unique(order, return_inverse=True)
        several = len(kept) < order.size
        references = np.array(X[kept if several else order.ravel()], dtype=np.float64)
        self.place = self.place.ravel() if several else None
        missing = np.isnan(references)
        if missing.any():
            # A gap is filled by the column's mean over the references.
            mean = np.nanmean(np.where(missing.all(axis=0), 0, references), axis=0)
            references = np.where(missing, mean, references)
        self.centre = references.mean(axis=0)
        references -= self.centre
        # What rows, followed by ones, are multiplied with for ‖r‖² − 2x·r.
        self.factors = np.empty((X.shape[1] + 1, len(references)))
        np.multiply(references.T, -2, out=self.factors[:-1])
        self.factors[-1] = np.einsum("ij,ij->i", references, references)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Scores of rows."""
        gappy = np.isnan(X).any(axis=1)
        if gappy.all() or not gappy.any():
            return self._scores(X)
        # A row without gaps is scored alike whatever the others have.
        made = np.empty(len(X))
        for rows in (gappy, ~gappy):
            made[rows] = self._scores(X[rows])
        return made

    def _scores(self, X: np.ndarray) -> np.ndarray:
        """Scores of rows that all have gaps, or none."""
        missing = np.isnan(X)
        rows = np.concatenate([np.where(missing, 0, X - self.centre), np.ones((len(X), 1))], axis=1, dtype=X.dtype)
        factors = self.factors.astype(X.dtype, copy=False)
        squares = np.square(factors[:-1] / 2) if missing.any() else None
        made = np.empty(len(X))
        n_references = factors.shape[1] if self.place is None else len(self.place)
        size = max(1, self.CHUNK // (n_references * X.itemsize))
        memory = np.empty((min(size, len(X)), factors.shape[1]), dtype=X.dtype)
        for start in range(0, len(X), size):
            part = rows[start : start + size]
            products = np.matmul(part, factors, out=memory[: len(part)])
            observed = None
            if squares is not None:
                observed = (~missing[start : start + size]).astype(X.dtype)
                products += observed @ squares - factors[-1]
            if self.place is not None:
                products = products[:, self.place]
            made[start : start + size] = self._mean_log(part[:, :-1], products, observed)
        return made

    def _mean_log(self, rows: np.ndarray, products: np.ndarray, observed: np.ndarray | None) -> np.ndarray:
        """The score, given ‖r‖² − 2x·r of each row and reference."""
        groups = products.reshape(len(rows), self.size, -1)
        length = np.square(rows, dtype=np.float64).sum(axis=1)[:, None]
        least = _least(groups) + length
        # What rounding leaves of zero.
        nothing = 64 * np.finfo(rows.dtype).eps * (1 + length)
        own = least <= nothing
        if self.size > 1 and own.any():
            # A row of the training is not its own neighbour.
            least = np.where(own, _second_least(groups) + length, least)
        least = np.maximum(least, nothing)
        if observed is not None:
            weight = self.weight.astype(observed.dtype)
            least *= weight.sum() / np.maximum(observed @ weight[:, None], 1)
        return 0.5 * np.log(least).mean(axis=1)


def _least(groups: np.ndarray) -> np.ndarray:
    """The least along the middle axis, by halves: many times faster than `min` along a short axis."""
    while groups.shape[1] > 1:
        half = groups.shape[1] // 2
        made = np.minimum(groups[:, :half], groups[:, half : 2 * half])
        if groups.shape[1] % 2:
            np.minimum(made[:, 0], groups[:, -1], out=made[:, 0])
        groups = made
    return groups[:, 0]


def _second_least(groups: np.ndarray) -> np.ndarray:
    """The second least along the middle axis, by halves that hold their two least."""
    least, second = groups, np.full_like(groups, np.inf)
    while least.shape[1] > 1:
        half = least.shape[1] // 2
        parts = [slice(half), slice(half, 2 * half)] + [slice(2 * half, None)] * (least.shape[1] % 2)
        one, two = least[:, parts[0]], second[:, parts[0]]
        for part in parts[1:]:
            # The third part is one more column, for an odd number.
            where = slice(least[:, part].shape[1])
            larger = np.maximum(one[:, where], least[:, part])
            one, two = one.copy(), two.copy()
            two[:, where] = np.minimum(np.minimum(two[:, where], second[:, part]), larger)
            one[:, where] = np.minimum(one[:, where], least[:, part])
        least, second = one, two
    return second[:, 0]
