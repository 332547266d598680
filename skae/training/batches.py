"""Rows of any storage, handed out as standardised batches on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skae.training.device import resident_limit

CHUNK_ELEMENTS = 2**22
# Sparse rows and rows on disk are kept dense in memory where they are this small, since reading them costs an epoch
# more than training does.
SMALL_BYTES = 2**26


class Batch(NamedTuple):
    """One batch: what the network sees, what the likelihood scores, what of it was observed.

    Batches for models side by side have a leading axis for the model.

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

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with a function applied to each tensor; a target that is the input stays it."""
        input = function(self.input)
        target = input if self.target is self.input else function(self.target)
        return Batch(input, target, *(None if t is None else function(t) for t in (self.observed, self.weight)))

    def copy_(self, other: Batch) -> None:
        """Write the values of another batch of the same shape into this one."""
        for tensor, values in zip(self, other, strict=True):
            if tensor is not None and (tensor is not self.input or values is other.input):
                tensor.copy_(values)

    def rows(self, start: int, n_rows: int) -> Batch:
        """So many rows of this batch from `start` on."""
        part = self.input.narrow(-2, start, n_rows)
        target = part if self.target is self.input else self.target.narrow(-2, start, n_rows)
        observed = None if self.observed is None else self.observed.narrow(-2, start, n_rows)
        weight = None if self.weight is None else self.weight.narrow(-1, start, n_rows)
        return Batch(part, target, observed, weight)

    def of(self, model: int) -> Batch:
        """One model's part of a batch for models side by side."""
        return self.map(lambda tensor: tensor[model])

    def take(self, rows: Tensor) -> Batch:
        """The rows of these indices, of any shape."""
        index = rows.flatten()
        return self.map(lambda tensor: tensor.index_select(0, index).view(*rows.shape, *tensor.shape[1:]))


class RawRows:
    """Rows as the user gave them: an array, a memory map or a CSR matrix, read a chunk at a time.

    Parameters
    ----------
    X : ndarray, memmap, Tensor or CSR of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,) or None
    y : ndarray of shape (n_rows, n_targets) or None
        What is to be predicted from the rows, where that is not the rows themselves.
    """

    def __init__(self, X, weight: np.ndarray | None = None, y: np.ndarray | None = None) -> None:
        self.X = X.tocsr() if sp.issparse(X) else X
        self.weight, self.y = weight, y
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

    def prepared(self, rows: np.ndarray | slice, prepare: Callable) -> tuple[Tensor, Tensor, Tensor | None]:
        """What `prepare` makes of these rows, and of their y where they have one."""
        if self.y is None:
            return prepare(self.take(rows))
        return prepare(self.take(rows), torch.as_tensor(self.y[rows]))

    def chunks(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All rows in order, a chunk at a time, as (rows, weights)."""
        for start in range(0, self.n_rows, self.chunk_rows):
            rows = slice(start, min(start + self.chunk_rows, self.n_rows))
            yield self.take(rows), self.take_weight(rows)

    def subset(self, rows: np.ndarray) -> RawRows:
        """These rows alone; memory maps stay on disk behind an index."""
        weight, y = (None if each is None else each[rows] for each in (self.weight, self.y))
        if isinstance(self.X, np.memmap):
            made: RawRows = _IndexedRows(self, rows, weight, y)
        else:
            made = RawRows(self.X[torch.as_tensor(rows)] if isinstance(self.X, Tensor) else self.X[rows], weight, y)
        made.has_missing = self.has_missing
        return made

    def merged(self) -> RawRows:
        """Equal rows as one row of their summed weight, sorted; for tables that are small in memory."""
        p = self.n_features
        X = self.take(slice(None)).numpy()
        together = X if self.y is None else np.hstack([X, self.y])
        rows, index = np.unique(together, axis=0, return_inverse=True)
        weight = np.bincount(index.ravel(), weights=self.weight, minlength=len(rows)).astype(np.float64)
        y = None if self.y is None else rows[:, p:].astype(self.y.dtype)
        return RawRows(rows[:, :p].astype(X.dtype), None if (weight == 1).all() else weight, y)


class _IndexedRows(RawRows):
    """Some rows of another source, by index."""

    def __init__(self, source: RawRows, index: np.ndarray, weight: np.ndarray | None, y: np.ndarray | None) -> None:
        self.X, self.weight, self.y, self._index = source.X, weight, y, index
        self.n_rows, self.n_features = len(index), source.n_features
        self.has_missing = False

    def take(self, rows: np.ndarray | slice) -> Tensor:
        return super().take(self._index[rows])

    def subset(self, rows: np.ndarray) -> RawRows:
        weight, y = (None if each is None else each[rows] for each in (self.weight, self.y))
        made = _IndexedRows(self, self._index[rows], weight, y)
        made.has_missing = self.has_missing
        return made


def stays_resident(raw: RawRows, device: torch.device) -> bool:
    """Whether the rows are kept on the device while training."""
    stored = isinstance(raw, _IndexedRows) or sp.issparse(raw.X) or isinstance(raw.X, np.memmap)
    limit = resident_limit(device)
    return 4 * raw.n_rows * raw.n_features <= (min(limit, SMALL_BYTES) if stored else limit)


class Rows:
    """Training rows on the device: kept there where they fit, read and prepared by chunk where not.

    Parameters
    ----------
    raw : RawRows
    prepare : callable
        Turns raw rows into (input, target, observed), in float32.
    device : torch.device
    """

    def __init__(self, raw: RawRows, prepare: Callable, device: torch.device) -> None:
        self.raw, self.prepare, self.device = raw, prepare, device
        self.n_rows = raw.n_rows
        self._mean_weight = 1.0 if raw.weight is None else float(np.mean(raw.weight))
        self.resident = self._load_all() if stays_resident(raw, device) else None

    @property
    def sizes(self) -> list[int]:
        """The number of rows of each model."""
        return [self.n_rows]

    @property
    def is_masked(self) -> bool:
        """Whether batches say what was observed."""
        return self.raw.has_missing if self.resident is None else self.resident.observed is not None

    def _load(self, rows: np.ndarray | slice) -> Batch:
        input, target, observed = self.raw.prepared(rows, self.prepare)
        if observed is None and self.raw.has_missing:
            observed = torch.ones_like(input)
        weight = self.raw.take_weight(rows)
        if weight is not None:
            # Weights have mean one, so that the step size does not depend on their scale.
            weight = (weight / self._mean_weight).to(torch.float32)
        return to_device(Batch(input, target, observed, weight), self.device)

    def _load_all(self) -> Batch:
        step = self.raw.chunk_rows
        parts = [self._load(slice(start, start + step)) for start in range(0, self.n_rows, step)]
        return _joined(parts)

    def first(self, n_rows: int) -> Batch:
        """At most so many rows, the first ones."""
        n_rows = min(n_rows, self.n_rows)
        return self._load(slice(0, n_rows)) if self.resident is None else self.resident.rows(0, n_rows)

    def _chunks(self, order: Tensor | None, step: int) -> Iterator[Batch]:
        """All rows, `step` at a time; while one chunk is used, the next is read."""
        starts = range(0, self.n_rows, step)
        if self.resident is not None:
            for start in starts:
                assert order is not None
                yield self.resident.take(order[start : start + step])
            return
        index = None if order is None else order.cpu().numpy()
        parts = [slice(start, min(start + step, self.n_rows)) for start in starts]
        yield from read_ahead(self._load, [part if index is None else index[part] for part in parts])

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All rows once in batches: shuffled by `generator`, in order without one.

        Whole chunks are gathered and then sliced, so that a small batch costs one view.
        """
        n = self.n_rows
        shuffled = generator is not None and batch_size < n
        if not shuffled and self.resident is not None:
            yield from _slices(self.resident, batch_size)
            return
        order = torch.randperm(n, generator=generator, device=self.device) if shuffled else None
        step = batch_size * max(1, self.raw.chunk_rows // batch_size)
        for chunk in self._chunks(order, step):
            yield from _slices(chunk, batch_size)


class SideBySide:
    """Rows of models side by side: batches with a leading axis for the model.

    Models with fewer rows get others of no weight.

    Parameters
    ----------
    rows : list of Rows
        Those of each model, all resident; models may share them.
    """

    def __init__(self, rows: list[Rows]) -> None:
        self.sizes = [each.n_rows for each in rows]
        self.n_rows = max(self.sizes)
        distinct = list({id(each): each for each in rows}.values())
        starts, start = {}, 0
        for each in distinct:
            starts[id(each)] = start
            start += each.n_rows
        parts = [each.resident for each in distinct]
        self._all = _joined([part for part in parts if part is not None])
        device = self._all.input.device
        self._starts = torch.tensor([[starts[id(each)]] for each in rows], device=device)
        self._limits = torch.tensor([[size] for size in self.sizes], device=device)
        self._chunk_rows = max(1, rows[0].raw.chunk_rows // len(rows))

    @property
    def is_masked(self) -> bool:
        """Whether batches say what was observed."""
        return self._all.observed is not None

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All rows of each model once, each in an order of its own."""
        n, device = self.n_rows, self._starts.device
        if generator is not None and batch_size < n:
            order = torch.stack([torch.randperm(n, generator=generator, device=device) for _ in self.sizes])
        else:
            order = torch.arange(n, device=device).expand(len(self.sizes), n)
        step = batch_size * max(1, self._chunk_rows // batch_size)
        for start in range(0, n, step):
            yield from _slices(self._take(order[:, start : start + step]), batch_size)

    def _take(self, order: Tensor) -> Batch:
        if min(self.sizes) == self.n_rows:
            return self._all.take(order + self._starts)
        valid = order < self._limits
        batch = self._all.take(torch.where(valid, order, 0) + self._starts)
        weight = valid.to(batch.input.dtype)
        return batch._replace(weight=weight if batch.weight is None else weight * batch.weight)


def side_by_side(rows: list[Rows]) -> Rows | SideBySide:
    """The source of batches for these models' rows."""
    return rows[0] if len(rows) == 1 else SideBySide(rows)


def _slices(chunk: Batch, batch_size: int) -> Iterator[Batch]:
    n = chunk.input.shape[-2]
    if batch_size >= n:
        yield chunk
        return
    for start in range(0, n, batch_size):
        yield chunk.rows(start, min(batch_size, n - start))


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    input = torch.cat([part.input for part in parts])
    same = parts[0].target is parts[0].input
    target = input if same else torch.cat([part.target for part in parts])
    masked = any(part.observed is not None for part in parts)
    observed = torch.cat([_observed(part) for part in parts]) if masked else None
    weight = None if parts[0].weight is None else torch.cat([part.weight for part in parts])
    return Batch(input, target, observed, weight)


def _observed(batch: Batch) -> Tensor:
    return torch.ones_like(batch.input) if batch.observed is None else batch.observed


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`; towards CUDA through pinned memory, so that the copy runs beside the computation."""
    if device.type == "cpu":
        return batch

    def moved(tensor: Tensor) -> Tensor:
        pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
        return pinned.to(device, non_blocking=True)

    return batch.map(moved)


def read_ahead(read: Callable, parts: list) -> Iterator:
    """`read(part)` of each part in order, one ahead in a thread."""
    if len(parts) == 1:
        yield read(parts[0])
        return
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(read, part) for part in parts[:1]]
        for part in [*parts[1:], None]:
            made = coming.pop().result()
            if part is not None:
                coming.append(pool.submit(read, part))
            yield made
