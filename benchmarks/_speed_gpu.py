"""On a GPU: a small network beside the others, a wide one beside the matrix-product peak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks._common import markdown_table
from benchmarks._peers import fit_skae, fit_torch, peers
from benchmarks._speed_common import (
    Effort,
    Ratio,
    Section,
    matmul_peak,
    network_name,
    row_operations,
    step_seconds,
    table_of,
)
from skae import AdamW

SMALL = (30, (64, 32, 8))
WIDE = (4096, (4096, 4096, 512))
DEEP = (784, (1000, 500, 250, 30))
SMALL_BATCH, WIDE_BATCH, DEEP_BATCHES = 256, 8192, (1024, 8192)
PEAK_SIZE = 8192
TIMES_PEERS, PEAK_SHARE, DEEP_RATE = 10.0, 0.6, 1e6


def synchronised(fit: Callable, device: str) -> Callable:
    """A fit that ends when the device is done."""

    def call(*args) -> None:
        fit(*args)
        if device != "cpu":
            torch.cuda.synchronize(device)

    return call


def rates(
    fits: Mapping[str, Callable],
    X: np.ndarray,
    encoder: Sequence[int],
    batch_size: int,
    epochs: Sequence[int],
    effort: Effort,
    device: str,
) -> dict[str, np.ndarray]:
    """Rows a second of each fit in each round, in turn, after a round that warms up."""
    seconds = [
        [step_seconds(synchronised(fit, device), X, encoder, batch_size, epochs) for fit in fits.values()]
        for _ in range(min(effort.n_rounds, 5) + 1)
    ]
    return dict(zip(fits, batch_size / np.array(seconds[1:]).T, strict=True))


def small_rows(effort: Effort, device: str) -> tuple[list[list], list[Ratio]]:
    """A small network beside plain torch, PyOD and skorch on the same device."""
    n_features, encoder = SMALL
    name = f"{network_name(n_features, encoder)}, batch {SMALL_BATCH}"
    others = {"plain torch": fit_torch} | peers()
    fits = {"skae": partial(fit_skae, device=device)}
    fits |= {library: partial(fit, device=device) for library, fit in others.items()}
    X = table_of(32 * SMALL_BATCH, n_features)
    made = rates(fits, X, encoder, SMALL_BATCH, (2, 32), effort, device)
    rows, ratios = [], []
    for library, rate in made.items():
        times = float(np.median(made["skae"] / rate))
        rows.append([name, library, f"{np.median(rate):.0f}", f"{times:.1f}", None])
        if library != "skae":
            bound = TIMES_PEERS if library in peers() else None
            ratios.append(Ratio(f"GPU, {name}: throughput / {library}'s", times, ">=", bound))
    return rows, ratios


def wide_rows(effort: Effort, device: str) -> tuple[list[list], list[Ratio]]:
    """A wide network in bfloat16: share of the peak of a bfloat16 matrix product."""
    n_features, encoder = WIDE
    name = f"{network_name(n_features, encoder)}, batch {WIDE_BATCH}, bfloat16"
    fit = partial(fit_skae, device=device, optimizer=AdamW(precision="bfloat16"))
    X = table_of(4 * WIDE_BATCH, n_features)
    peak = matmul_peak(10, PEAK_SIZE, device, torch.bfloat16)
    rate = rates({"skae": fit}, X, encoder, WIDE_BATCH, (2, 102), effort, device)["skae"]
    peak = max(peak, matmul_peak(10, PEAK_SIZE, device, torch.bfloat16))
    share = float(np.median(rate) * row_operations(n_features, encoder) / peak)
    row = [name, "skae", f"{np.median(rate):.0f}", None, f"{share:.0%} of {peak / 1e12:.0f} TFLOP/s"]
    return [row], [Ratio(f"GPU, {name}: share of the matrix-product peak", share, ">=", PEAK_SHARE)]


def deep_rows(effort: Effort, device: str) -> tuple[list[list], list[Ratio]]:
    """The network of Hinton and Salakhutdinov's digits, in both precisions."""
    n_features, encoder = DEEP
    X = table_of(8 * max(DEEP_BATCHES), n_features)
    fits = {
        f"skae, {precision}": partial(fit_skae, device=device, optimizer=AdamW(precision=precision))
        for precision in ("float32", "bfloat16")
    }
    rows, best = [], 0.0
    for batch_size in DEEP_BATCHES:
        name = f"{network_name(n_features, encoder)}, batch {batch_size}"
        for what, rate in rates(fits, X, encoder, batch_size, (2, 42), effort, device).items():
            rows.append([name, what, f"{np.median(rate):.0f}", None, None])
            best = max(best, float(np.median(rate)))
    what = f"GPU, {network_name(n_features, encoder)}: samples a second, fastest row"
    return rows, [Ratio(what, best, ">=", DEEP_RATE, steady=False)]


def gpu_section(effort: Effort, device: str = "cuda") -> Section:
    """All rows of the GPU, or one line where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        return Section("GPU", "No GPU here.", [])
    rows, ratios = [], []
    # The part beside other libraries takes the longest.
    for part in (wide_rows, deep_rows, small_rows):
        made, held = part(effort, device)
        rows += made
        ratios += held
        print(*made, sep="\n", flush=True)
    where = torch.cuda.get_device_name() if device == "cuda" else device
    table = markdown_table(
        ("device", "network", "library", "samples a second", "skae's over it", "matrix-product peak"),
        [[where, *row] for row in rows],
    )
    absent = [name for name in ("PyOD", "skorch") if name not in peers()]
    note = "Training with Adam, rows that stay on the device; the slope between a short and a long fit."
    if absent:
        note += f" Not installed here: {', '.join(absent)}."
    return Section("GPU", note + "\n\n" + table, ratios)
