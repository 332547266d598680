"""Column moments and principal axes of rows that are read a chunk at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skae.model.likelihoods import Likelihood
from skae.model.pca_start import PrincipalAxes
from skae.model.scaling import Columns, Scaling
from skae.model.threads import threads
from skae.training.batches import RawRows

MAX_COVARIANCE = 2048
BLOCK = 128
# Entries of the rows that are looked at together: few enough to stay in the cache.
CACHED_ELEMENTS = 2**16
SUBSPACE_ITERATIONS = 10
# What the moments of an entry cost.
MOMENT_FLOPS = 10.0
OVERSAMPLES = 16


def column_moments(raw: RawRows, likelihood: Likelihood) -> Columns:
    """Weighted mean, variance and bounds of each column over its observed entries, in float64.

    Means and variances are merged chunk by chunk (Chan, Golub and LeVeque 1983), so that a large
    offset costs no precision.
    """
    with threads.for_work(MOMENT_FLOPS * raw.n_rows * raw.n_features):
        return _column_moments(raw, likelihood)


def _column_moments(raw: RawRows, likelihood: Likelihood) -> Columns:
    p = raw.n_features
    mean, square, weight_sum = (torch.zeros(p, dtype=torch.float64) for _ in range(3))
    low, high = torch.full_like(mean, torch.inf), torch.full_like(mean, -torch.inf)
    for chunk, weight in raw.chunks():
        n_rows = max(1, CACHED_ELEMENTS // p)
        weights = [None] * len(chunk) if weight is None else weight.split(n_rows)
        for part, part_weight in zip(chunk.to("cpu").split(n_rows), weights, strict=False):
            has_missing, part_low, part_high, w_sum, part_mean, part_square = _moments(part, part_weight, likelihood)
            raw.has_missing |= has_missing
            low, high = torch.minimum(low, part_low), torch.maximum(high, part_high)
            together = (weight_sum + w_sum).clamp_min(torch.finfo(torch.float64).tiny)
            shift = part_mean - mean
            square += part_square + shift.square() * weight_sum * w_sum / together
            mean += shift * w_sum / together
            weight_sum += w_sum
    empty = weight_sum == 0
    raw.empty_columns = empty.nonzero().flatten().tolist()
    variance = torch.where(empty, 0.0, square / weight_sum.clamp_min(torch.finfo(torch.float64).tiny))
    # Rounding leaves a trace of variance in a constant column.
    variance = torch.where(high > low, variance, 0.0)
    mean = torch.where(high == low, likelihood.network_input(high), mean)
    return Columns(mean, variance, torch.where(low > high, 0.0, low), torch.where(low > high, 0.0, high))


def _moments(part: Tensor, weight: Tensor | None, likelihood: Likelihood) -> tuple:
    """Whether entries are missing; bounds, sum of the weights, mean and sum of squares around it of each column."""
    x = part.to(torch.float64)
    if weight is None and not torch.isnan(x.sum()):
        low, high = part.amin(0), part.amax(0)
        z = likelihood.network_input(x)
        mean = z.mean(0)
        square = (z - mean).square_().sum(0)
        return False, low.to(x), high.to(x), torch.full_like(mean, len(z)), mean, square
    observed = ~torch.isnan(x)
    low = torch.where(observed, x, torch.inf).amin(0)
    high = torch.where(observed, x, -torch.inf).amax(0)
    z = torch.where(observed, likelihood.network_input(x), 0.0)
    w = observed.to(torch.float64) if weight is None else observed * weight[:, None]
    w_sum = w.sum(0)
    mean = (w * z).sum(0) / w_sum.clamp_min(torch.finfo(torch.float64).tiny)
    square = (w * (z - mean).square()).sum(0)
    return not bool(observed.all()), low, high, w_sum, mean, square


def column_bounds(raw: RawRows) -> Columns:
    """The bounds of each column alone."""
    low = torch.full((raw.n_features,), torch.inf, dtype=torch.float64)
    high = -low
    for x, _ in raw.chunks():
        raw.has_missing |= bool(torch.isnan(x).any())
        low = torch.minimum(low, torch.nan_to_num(x, nan=torch.inf).amin(0).to(low))
        high = torch.maximum(high, torch.nan_to_num(x, nan=-torch.inf).amax(0).to(high))
    return Columns(torch.zeros_like(low), torch.zeros_like(low), low, high)


class FarCell(NamedTuple):
    """A number of a table: its size, where it is, and how many times as far from the median as others of its column."""

    value: float
    row: int
    column: int
    times: float


def farthest_cell(raw: RawRows) -> FarCell:
    """The number that lies farthest from its column's median, in units of how far the others do."""
    found, start = FarCell(0.0, 0, 0, 0.0), 0
    for x, _ in raw.chunks():
        distance = (x.double() - x.double().nanmedian(0).values).abs()
        usual = torch.where(distance > 0, distance, torch.nan).nanmedian(0).values
        times = torch.nan_to_num(distance / usual)
        index = int(times.argmax())
        row, column = divmod(index, x.shape[1])
        if times[row, column] > found.times:
            found = FarCell(float(x[row, column]), start + row, column, float(times[row, column]))
        start += len(x)
    return found


def class_means(raw: RawRows, scaling: Scaling) -> Tensor:
    """Weighted means of the standardised rows of each class of `raw.y`, of shape (n_classes, n_features)."""
    assert raw.y is not None
    sums = torch.zeros(raw.y.shape[1], raw.n_features, dtype=torch.float64)
    counts, start = torch.zeros_like(sums), 0
    for chunk, weight in raw.chunks():
        z, observed = scaling.input(chunk.to("cpu", torch.float64))
        classes = torch.as_tensor(raw.y[start : start + len(z)], dtype=torch.float64)
        classes = classes if weight is None else classes * weight[:, None]
        sums += classes.T @ z
        counts += classes.T @ (torch.ones_like(z) if observed is None else observed)
        start += len(z)
    return sums / counts.clamp_min(torch.finfo(torch.float64).tiny)


def principal_axes(
    raw: RawRows, scaling: Scaling, n_axes: int, generator: torch.Generator, means: Tensor | None = None
) -> PrincipalAxes:
    """The `n_axes` leading eigenvectors of the weighted covariance of the standardised rows.

    By the covariance matrix where it is small, by the Gram matrix of few rows, and by subspace
    iteration (Halko, Martinsson and Tropp, SIAM Review 53, 2011, algorithm 4.4) otherwise. With the
    means of the classes of `raw.y`, the axes are of the rows around these.
    """
    n_axes = min(n_axes, raw.n_rows, raw.n_features)
    with threads.for_work(2.0 * raw.n_rows * raw.n_features * min(raw.n_rows, raw.n_features, MAX_COVARIANCE)):
        variances, vectors, total = _leading_axes(raw, scaling, n_axes, generator, means)
    # As in scikit-learn, the largest loading of each axis is positive.
    largest = vectors.abs().argmax(0)
    signs = torch.sign(vectors[largest, torch.arange(vectors.shape[1])])
    return PrincipalAxes(variances.clamp_min(0), vectors * signs, total, means)


def _leading_axes(raw: RawRows, scaling: Scaling, n_axes: int, generator: torch.Generator, means: Tensor | None):
    """Variances and vectors of the axes, and the variance of all."""
    n, p = raw.n_rows, raw.n_features
    if p <= MAX_COVARIANCE and p <= 4 * n:
        variances, vectors = torch.linalg.eigh(_apply_covariance(raw, scaling, None, means))
        total = float(variances.clamp_min(0).sum())
        variances, vectors = variances.flip(0)[:n_axes], vectors.flip(1)[:, :n_axes]
    elif n <= MAX_COVARIANCE:
        rows = torch.cat([z for z, _ in _weighted_rows(raw, scaling, means)])
        left, singular, vectors_t = torch.linalg.svd(rows, full_matrices=False)
        del left
        variances, vectors = singular.square()[:n_axes], vectors_t.T[:, :n_axes]
        total = float(singular.square().sum())
    else:
        basis = torch.randn(p, min(p, n_axes + OVERSAMPLES), dtype=torch.float64, generator=generator)
        for _ in range(SUBSPACE_ITERATIONS):
            basis, _ = torch.linalg.qr(_apply_covariance(raw, scaling, basis, means))
        variances, rotation = torch.linalg.eigh(basis.T @ _apply_covariance(raw, scaling, basis, means))
        variances = variances.flip(0)[:n_axes]
        vectors = (basis @ rotation.flip(1))[:, :n_axes]
        total = float(scaling.relative_variance.sum())
        if means is not None:
            total = sum(float(z.square().sum()) for z, _ in _weighted_rows(raw, scaling, means))
    return variances, vectors, total


def _weighted_rows(raw: RawRows, scaling: Scaling, means: Tensor | None):
    """Standardised rows times the root of their share of the weight, chunk by chunk, in float64.

    With the means of the classes of `raw.y`, what rows are beside these.
    """
    start = 0
    total = raw.n_rows if raw.weight is None else float(raw.weight.sum())
    for chunk, weight in raw.chunks():
        z, observed = scaling.input(chunk.to("cpu", torch.float64))
        if means is not None:
            z = z - torch.as_tensor(raw.y[start : start + len(z)], dtype=z.dtype) @ means
            z = z if observed is None else z * observed
        start += len(z)
        root = torch.full((len(z), 1), total**-0.5, dtype=z.dtype)
        if weight is not None:
            root = (weight[:, None] / total).sqrt()
        yield z * root, weight


def _apply_covariance(raw: RawRows, scaling: Scaling, vectors: Tensor | None, means: Tensor | None) -> Tensor:
    """The covariance matrix, or its product with `vectors`."""
    p = raw.n_features
    product = torch.zeros(p, p if vectors is None else vectors.shape[1], dtype=torch.float64)
    for z, _ in _weighted_rows(raw, scaling, means):
        if vectors is not None:
            product.addmm_(z.T, z @ vectors)
            continue
        # The matrix is symmetric: blocks on and below the diagonal are enough.
        for start in range(0, p, BLOCK):
            columns = slice(start, start + BLOCK)
            product[start:, columns].addmm_(z[:, start:].T, z[:, columns])
    return product if vectors is not None else product.tril() + product.tril(-1).T
