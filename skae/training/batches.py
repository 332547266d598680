"""Rows of any storage, handed out as standardised batches on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skae.training.device import resident_limit

CHUNK_ELEMENTS = 2**22


class Batch(NamedTuple):
    """One batch: what the network sees, what the likelihood scores, what of it was observed.

    Attributes
    ----------
    input : Tensor of shape (n_rows, n_features)
        Standardised rows; unobserved entries hold zero, the column mean.
    target : Tensor of shape (n_rows, n_features)
        Rows in the units of the likelihood.
    observed : Tensor of shape (n_rows, n_features) or None
        One where the entry was observed and zero where it was NaN; None where all were observed.
    weight : Tensor of shape (n_rows,) or None
        Sample weights.
    """

    input: Tensor
    target: Tensor
    observed: Tensor | None
    weight: Tensor | None

    def rows(self, start: int, stop: int) -> Batch:
        """The rows from `start` to `stop` of this batch."""
        part = self.input[start:stop]
        target = part if self.target is self.input else self.target[start:stop]
        observed = None if self.observed is None else self.observed[start:stop]
        weight = None if self.weight is None else self.weight[start:stop]
        return Batch(part, target, observed, weight)


class RawRows:
    """Rows as the user gave them: an array, a memory map or a CSR matrix, read a chunk at a time.

    Parameters
    ----------
    X : ndarray, memmap, Tensor or CSR of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,) or None
    """

    def __init__(self, X, weight: np.ndarray | None = None):
        self.X = X.tocsr() if sp.issparse(X) else X
        self.weight = weight
        self.n_rows, self.n_features = X.shape
        # What a pass over the rows finds: whether entries are NaN, and columns in which all are.
        self.has_missing = False
        self.empty_columns: list[int] = []

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk: few enough to stay small, enough to amortise the call."""
        return max(1, CHUNK_ELEMENTS // max(1, self.n_features))

    def take(self, rows: np.ndarray | slice) -> Tensor:
        """Dense rows in the floating dtype of the data (float64 for integers)."""
        X = self.X
        if isinstance(X, Tensor):
            return X[torch.as_tensor(rows, device=X.device) if isinstance(rows, np.ndarray) else rows]
        if isinstance(rows, np.ndarray) and isinstance(X, np.memmap):
            order = np.argsort(rows, kind="stable")
            chunk = np.empty((len(rows), self.n_features), dtype=X.dtype)
            chunk[order] = X[rows[order]]
        else:
            chunk = X[rows]
        chunk = np.asarray(chunk.toarray() if sp.issparse(chunk) else chunk)  # type: ignore[attr-defined]
        dtype = chunk.dtype if chunk.dtype in (np.float32, np.float64) else np.float64
        chunk = np.ascontiguousarray(chunk, dtype=dtype)
        return torch.from_numpy(chunk if chunk.flags.writeable else chunk.copy())

    def take_weight(self, rows: np.ndarray | slice) -> Tensor | None:
        """Weights of the rows in float64, or None without weights."""
        return None if self.weight is None else torch.as_tensor(np.asarray(self.weight[rows], dtype=np.float64))

    def chunks(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All rows in order, a chunk at a time, as (rows, weights)."""
        for start in range(0, self.n_rows, self.chunk_rows):
            rows = slice(start, min(start + self.chunk_rows, self.n_rows))
            yield self.take(rows), self.take_weight(rows)

    def subset(self, rows: np.ndarray) -> RawRows:
        """These rows alone; memory maps stay on disk behind an index."""
        weight = None if self.weight is None else self.weight[rows]
        if isinstance(self.X, np.memmap):
            return _IndexedRows(self, rows, weight)
        return RawRows(self.X[torch.as_tensor(rows)] if isinstance(self.X, Tensor) else self.X[rows], weight)


class _IndexedRows(RawRows):
    """Some rows of another source, by index."""

    def __init__(self, source: RawRows, index: np.ndarray, weight: np.ndarray | None):
        self.X, self.weight, self._index = source.X, weight, index
        self.n_rows, self.n_features = len(index), source.n_features
        self.has_missing = False

    def take(self, rows: np.ndarray | slice) -> Tensor:
        return super().take(self._index[rows])

    def subset(self, rows: np.ndarray) -> RawRows:
        return _IndexedRows(self, self._index[rows], None if self.weight is None else self.weight[rows])


class Rows:
    """Training rows on the device: kept there where they fit, read and prepared by chunk where not.

    Parameters
    ----------
    raw : RawRows
    prepare : callable
        Turns raw rows into (input, target, observed), in float32 on the device.
    device : torch.device
    """

    def __init__(self, raw: RawRows, prepare: Callable, device: torch.device):
        self.raw, self.prepare, self.device = raw, prepare, device
        self.n_rows = raw.n_rows
        self._mean_weight = 1.0 if raw.weight is None else float(np.mean(raw.weight))
        in_memory = not isinstance(raw, _IndexedRows) and not sp.issparse(raw.X) and not isinstance(raw.X, np.memmap)
        fits = 4 * raw.n_rows * raw.n_features <= resident_limit(device)
        self._resident = self._load_all() if in_memory and fits else None

    def _load(self, rows: np.ndarray | slice) -> Batch:
        input, target, observed = self.prepare(self.raw.take(rows))
        weight = self.raw.take_weight(rows)
        if weight is not None:
            # Weights have mean one, so that the step size does not depend on their scale.
            weight = (weight / self._mean_weight).to(self.device, torch.float32)
        return Batch(input, target, observed, weight)

    def _load_all(self) -> Batch:
        step = self.raw.chunk_rows
        parts = [self._load(slice(start, start + step)) for start in range(0, self.n_rows, step)]
        if len(parts) == 1:
            return parts[0]
        input = torch.cat([part.input for part in parts])
        same = parts[0].target is parts[0].input
        target = input if same else torch.cat([part.target for part in parts])
        masked = any(part.observed is not None for part in parts)
        observed = torch.cat([_observed(part) for part in parts]) if masked else None
        weight = None if parts[0].weight is None else torch.cat([part.weight for part in parts])
        return Batch(input, target, observed, weight)

    def _gather(self, rows: Tensor) -> Batch:
        whole = self._resident
        if whole is None:
            return self._load(rows.cpu().numpy())
        input = whole.input.index_select(0, rows)
        target = input if whole.target is whole.input else whole.target.index_select(0, rows)
        observed = None if whole.observed is None else whole.observed.index_select(0, rows)
        weight = None if whole.weight is None else whole.weight.index_select(0, rows)
        return Batch(input, target, observed, weight)

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All rows once in batches: shuffled by `generator`, in order without one.

        Whole chunks are gathered and then sliced, so that a small batch costs one view.
        """
        n = self.n_rows
        shuffled = generator is not None and batch_size < n
        if not shuffled and self._resident is not None:
            yield from self._slices(self._resident, batch_size)
            return
        order = torch.randperm(n, generator=generator, device=self.device) if shuffled else None
        step = batch_size * max(1, self.raw.chunk_rows // batch_size)
        for start in range(0, n, step):
            stop = min(start + step, n)
            chunk = self._load(slice(start, stop)) if order is None else self._gather(order[start:stop])
            yield from self._slices(chunk, batch_size)

    @staticmethod
    def _slices(chunk: Batch, batch_size: int) -> Iterator[Batch]:
        n = len(chunk.input)
        if batch_size >= n:
            yield chunk
            return
        for start in range(0, n, batch_size):
            yield chunk.rows(start, min(start + batch_size, n))


def _observed(batch: Batch) -> Tensor:
    return torch.ones_like(batch.input) if batch.observed is None else batch.observed
