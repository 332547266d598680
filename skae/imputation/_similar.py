"""What rows of fit that are like a row tell of its gaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from skae.model.threads import threads

# Widths of the kernels, in standard deviations of a column.
WIDTHS = (0.03, 0.1, 0.3)
# Beyond so many standard deviations, values are as far away as these.
MAX_DEVIATIONS = 8.0
LARGEST = float(np.finfo(np.float32).max) / 2
# Pairs of rows that are compared at once.
CHUNK_PAIRS = 2**22


class SimilarRows:
    r"""The expectation of a row's gaps under kernels that lie at filled rows of fit.

    Each of those rows is a component with independent entries. A known number is normal around its
    value, as wide as the kernel; a filled one is wider by how far the answer may be off. A known
    category is right but for the width's share, which goes to all categories as they are frequent;
    a filled one is as probable as the answer has it. The components are weighted by the density of
    what is known of the row,

    .. math:: E_h[x_k \mid x_o] = \sum_j w_j f_{jk}, \quad
        w_j \propto \prod_{k \in o} N(x_k;\ f_{jk},\ h^2 + s_{jk}^2)

    which is Nadaraya and Watson's regression, for rows with gaps on both sides. Networks smooth;
    this remembers: rows that occur twice, settings that were measured again, mixtures of the same
    parts.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_columns)
        Standardised rows of fit with NaN in their gaps.
    filled : ndarray of shape (n_rows, n_columns)
        The answer, the same where it is known.
    deviation : ndarray of shape (n_rows, n_columns)
        By how much the answer may be off; zero where it is known.
    group : ndarray of int, of shape (n_columns,)
        Which column of the table a column belongs to.
    is_number : ndarray of bool, of shape (n_columns,)

    References
    ----------
    Nadaraya, "On estimating regression", Theory of Probability and its Applications 9, 1964;
    Watson, "Smooth regression analysis", Sankhyā A 26, 1964.
    """

    def __init__(
        self, Z: np.ndarray, filled: np.ndarray, deviation: np.ndarray, group: np.ndarray, is_number: np.ndarray
    ) -> None:
        self.rows, self.filled, self.deviation = (_single(a) for a in (Z, filled, deviation))
        self.is_number = is_number
        # A single 0/1 column tells its second category by being zero.
        self._alone = ~is_number & (np.bincount(group)[group] == 1)

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, Z: np.ndarray) -> np.ndarray:
        """Which row of fit each row is, gaps and all; -1 where it is none of them."""
        known = {row: index for index, row in reversed(list(enumerate(_keys(self.rows))))}
        return np.array([known.get(row, -1) for row in _keys(Z)], dtype=int)

    def __call__(self, Z: np.ndarray, own: np.ndarray) -> Iterator[np.ndarray]:
        """By width, the expectation of every entry, of shape (n_rows, n_columns).

        Parameters
        ----------
        Z : ndarray of shape (n_rows, n_columns)
            Standardised rows with NaN in their gaps.
        own : ndarray of int, of shape (n_rows,)
            The row of fit that each row is, which then tells nothing; or -1.
        """
        left, filled = self._seen(Z), torch.from_numpy(self.filled)
        size = max(1, CHUNK_PAIRS // len(self))
        flops = 2.0 * min(size, len(Z)) * len(self) * (left.shape[1] + filled.shape[1])
        for width in WIDTHS:
            right, made = self._components(width).T, np.empty(Z.shape, dtype=np.float32)
            with threads.for_work(flops):
                for start in range(0, len(Z), size):
                    part = slice(start, start + size)
                    log_weight = left[part] @ right
                    (found,) = np.nonzero(own[part] >= 0)
                    log_weight[found, own[part][found]] = -torch.inf
                    made[part] = (torch.softmax(log_weight, 1) @ filled).numpy()
            yield made

    def _seen(self, Z: np.ndarray) -> torch.Tensor:
        """Rows as the density has them: squares of known numbers, known entries, and which are known."""
        known = ~np.isnan(Z)
        values = np.where(known, Z, 0).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        return torch.from_numpy(np.hstack([values[:, self.is_number] ** 2, values, known]).astype(np.float32))

    def _components(self, width: float) -> torch.Tensor:
        """What each component makes of that, so that the product is its log-density but for a constant."""
        numbers, alone = self.is_number, self._alone
        centre = self.filled.astype(np.float64).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        precision = 1 / (width**2 + self.deviation.astype(np.float64) ** 2)
        slope, constant = precision * centre, (np.log(precision) - precision * centre**2) / 2
        frequent = centre.mean(0)
        right = ((1 - width) * centre + width * frequent).clip(1e-6, 1 - 1e-6)
        slope[:, ~numbers], constant[:, ~numbers] = np.log(right[:, ~numbers]), 0.0
        slope[:, alone] -= np.log1p(-right[:, alone])
        constant[:, alone] = np.log1p(-right[:, alone])
        return torch.from_numpy(np.hstack([-precision[:, numbers] / 2, slope, constant]).astype(np.float32))


def _single(Z: np.ndarray) -> np.ndarray:
    """In single precision, whose largest number no value exceeds."""
    return Z.clip(-LARGEST, LARGEST).astype(np.float32)


def _keys(Z: np.ndarray) -> list[bytes]:
    """Rows as bytes, one for all that is missing."""
    return [row.tobytes() for row in np.nan_to_num(_single(Z), nan=np.inf)]
