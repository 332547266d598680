"""What the parts of the benchmark of speed share: networks, rows, timing, and what a part returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

NETWORKS = {"30-64-32-8": (30, (64, 32, 8)), "784-512-256-32": (784, (512, 256, 32))}


class Effort(NamedTuple):
    """How long a run may take."""

    quick: bool
    n_rounds: int


class Ratio(NamedTuple):
    """A quotient of two times of the same run; `better` is "<=" or ">=".

    One that is not `steady` depends on how long the run is, or moves too much for a guard.
    """

    name: str
    value: float
    better: str
    bound: float | None = None
    steady: bool = True


class Section(NamedTuple):
    """A part of the page and the ratios in it, of which those with a bound are gates."""

    heading: str
    body: str
    ratios: list[Ratio]


def gates_of(sections: Iterable[Section]) -> list[tuple[str, float, str, float]]:
    """The gates of some sections, as `gate_rows` takes them."""
    ratios = [ratio for section in sections for ratio in section.ratios]
    return [(r.name, r.value, r.better, r.bound) for r in ratios if r.bound is not None]


def seconds_of(call: Callable, *args) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def interleaved(calls: Mapping[str, Callable], n_rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, in turn; a first round warms up and does not count."""
    times = [[seconds_of(call) for call in calls.values()] for _ in range(n_rounds + 1)][1:]
    return dict(zip(calls, np.array(times).T, strict=True))


def table_of(n_rows: int, n_features: int) -> np.ndarray:
    """Rows of low rank and a little noise, in float32."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 8), dtype=np.float32) @ rng.standard_normal((8, n_features), dtype=np.float32)
    return X / np.float32(8**0.5) + 0.1 * rng.standard_normal((n_rows, n_features), dtype=np.float32)


def network_name(n_features: int, encoder: Sequence[int]) -> str:
    """Such as 30-64-32-8."""
    return "-".join(map(str, (n_features, *encoder)))


def step_seconds(fit: Callable, X: np.ndarray, encoder: Sequence[int], batch_size: int, epochs: Sequence[int]) -> float:
    """Seconds of a training step: the slope between a short and a long fit."""
    short, long = epochs
    difference = seconds_of(fit, X, encoder, batch_size, long) - seconds_of(fit, X, encoder, batch_size, short)
    return difference / ((long - short) * (len(X) // batch_size))


def row_operations(n_features: int, encoder: Sequence[int]) -> float:
    """Operations on a row in the matrix products of a step: forward, weights' and inputs' gradients but the first's."""
    products = [a * b for a, b in pairwise((n_features, *encoder))]
    return 6 * 2 * sum(products) - 2 * products[0]


def matmul_peak(n_repeats: int, size: int = 2048, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Most floating-point operations a second of a large matrix product."""
    a, b, out = (torch.randn(size, size, device=device).to(dtype) for _ in range(3))

    def product() -> None:
        torch.mm(a, b, out=out)
        if device != "cpu":
            torch.cuda.synchronize(device)

    with torch.inference_mode():
        product()
        return 2 * size**3 / min(seconds_of(product) for _ in range(n_repeats))
