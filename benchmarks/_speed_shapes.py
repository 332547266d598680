"""Rows a second of `fit`, by network, batch and number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from benchmarks._common import markdown_table
from benchmarks._peers import fit_skae, fit_torch
from benchmarks._speed_common import Effort, Ratio, Section, network_name, row_operations, seconds_of, table_of

SHAPES = (
    (16, (32, 8)),
    (30, (64, 32, 8)),
    (128, (256, 64)),
    (784, (512, 256, 32)),
    (2048, (1024, 256)),
)
BATCH_SIZES = (32, 256, 1024)
N_ROWS = (1_000, 10_000, 100_000)
# What a plain loop is expected to take: seconds of a step beside its arithmetic, and operations a second.
STEP_OVERHEAD, OPERATIONS_A_SECOND = 3e-4, 2e11
FIT_SECONDS = 0.5
LONGEST_EPOCH = {False: 3.0, True: 0.3}  # by whether the run is quick
NOTE = """Rows a second of a whole `fit` (rows times epochs over seconds), and in brackets that number over the plain \
torch loop's. Combinations are left out where an epoch would take more than {longest:g} seconds."""


def epoch_seconds(n_features: int, encoder: Sequence[int], batch_size: int, n_rows: int) -> float:
    """What an epoch is expected to take."""
    arithmetic = n_rows * row_operations(n_features, encoder) / OPERATIONS_A_SECOND
    return arithmetic + STEP_OVERHEAD * n_rows / batch_size


def throughput(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int, n_rounds: int) -> np.ndarray:
    """Rows a second of skae and of plain torch, (n_rounds, 2), in turn."""
    seconds = [
        [seconds_of(fit, X, encoder, batch_size, n_epochs) for fit in (fit_skae, fit_torch)] for _ in range(n_rounds)
    ]
    return n_epochs * len(X) / np.array(seconds)


def shapes_section(effort: Effort) -> Section:
    """A table by network, batch and rows."""
    longest = LONGEST_EPOCH[effort.quick]
    rows, ratios = [], []
    for (n_features, encoder), batch_size in product(SHAPES, BATCH_SIZES):
        name = network_name(n_features, encoder)
        cells: list[str | None] = []
        for n_rows in N_ROWS:
            epoch = epoch_seconds(n_features, encoder, batch_size, n_rows)
            if batch_size > n_rows or epoch > longest:
                cells.append(None)
                continue
            n_epochs = int(np.clip(FIT_SECONDS / epoch, 1, 50))
            n_rounds = 2 if epoch > 1 else 3
            rates = throughput(table_of(n_rows, n_features), encoder, batch_size, n_epochs, n_rounds)
            times_torch = float(np.median(rates[:, 0] / rates[:, 1]))
            cells.append(f"{np.median(rates[:, 0]):.0f} ({times_torch:.2f})")
            ratios.append(Ratio(f"{name}, batch {batch_size}, {n_rows} rows: times plain torch", times_torch, ">="))
        rows.append([name, batch_size, *cells])
        print(rows[-1], flush=True)
    header = ("network", "batch", *(f"{n_rows} rows" for n_rows in N_ROWS))
    body = NOTE.format(longest=longest) + "\n\n" + markdown_table(header, rows)
    return Section("By network, batch and rows", body, ratios)
