"""Training steps beside other libraries and beside what torch can do."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from benchmarks._common import markdown_table
from benchmarks._peers import trainers
from benchmarks._speed_common import (
    NETWORKS,
    Effort,
    Ratio,
    Section,
    matmul_peak,
    row_operations,
    step_seconds,
    table_of,
)

BATCH_SIZES = (32, 256)
BATCHES = {30: 32, 784: 8}  # batches of an epoch, by the number of features
EPOCHS = {30: (2, 22), 784: (1, 4)}  # short and long fit
LIMIT = "hand-written limit"
GATES: dict[int, dict[str, float]] = {
    30: {"MLPRegressor": 0.5, "PyOD": 0.25, "skorch": 0.35, LIMIT: 1.6},
    784: {"MLPRegressor": 0.9, "PyOD": 0.5, "skorch": 0.35},
}
PEAK_SHARE = {(784, 256): 0.85}
# Published for the same networks on another machine with 2 cores: microseconds a step.
REFERENCE: dict[tuple[int, int], dict[str, float | str]] = {
    (30, 32): {"MLPRegressor": 254, "PyOD": 564, "skorch": 844, "plain torch": "250–457", LIMIT: 73},
    (30, 256): {"MLPRegressor": 608, "PyOD": 1418, "skorch": 2042, "plain torch": "399–432", LIMIT: 209},
    (784, 256): {"MLPRegressor": 14300, "PyOD": 11900, "skorch": 12500, "plain torch": 9900},
}
HEADER = ("network", "batch", "library", "µs a step", "reference", "skae / it", "bound", "at the peak")
NOTE = """A step of Adam on the same network: medians of ratios of one run in which all take turns. The reference was \
measured on another machine with 2 cores. The limit is a step written out by hand in torch, without autograd, into \
buffers that are made once. The peak is that of a 2048 x 2048 float32 matrix product in the same rounds, on all \
threads; "at the peak" is what "skae / it" would be if skae took no time but its matrix products' at the peak, which \
is also the library's own share of the peak."""


def step_times(name: str, batch_size: int, n_rounds: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Seconds of a step of each library in each round, and at the peak; a first round warms up and does not count."""
    n_features, encoder = NETWORKS[name]
    X = table_of(BATCHES[n_features] * batch_size, n_features)
    calls = {
        library: partial(step_seconds, fit, X, encoder, batch_size, EPOCHS[n_features])
        for library, fit in trainers().items()
    }
    n_operations = batch_size * row_operations(n_features, encoder)
    rounds = [[n_operations / matmul_peak(3), *(call() for call in calls.values())] for _ in range(n_rounds + 1)]
    at_peak, *seconds = np.array(rounds[1:]).T
    return dict(zip(calls, seconds, strict=True)), at_peak


def network_rows(name: str, batch_size: int, n_rounds: int) -> tuple[list[list], list[Ratio], list[str]]:
    """A row for each library, skae's ratios to them, and the bounds that no matrix product could meet."""
    n_features, _ = NETWORKS[name]
    times, at_peak = step_times(name, batch_size, n_rounds)
    bounds, references = GATES[n_features], REFERENCE.get((n_features, batch_size), {})
    where, rows, ratios, beyond = f"{name}, batch {batch_size}", [], [], []
    for library, seconds in times.items():
        ratio, best = float(np.median(times["skae"] / seconds)), float(np.median(at_peak / seconds))
        bound, step = bounds.get(library), f"{1e6 * np.median(seconds):.0f}"
        rows.append([name, batch_size, library, step, references.get(library), f"{ratio:.2f}", bound, f"{best:.2f}"])
        if library == "skae":
            share = f"{where}: share of the matrix-product peak"
            ratios.append(Ratio(share, best, ">=", PEAK_SHARE.get((n_features, batch_size))))
        else:
            ratios.append(Ratio(f"{where}: skae / {library}", ratio, "<=", bound))
        if bound and best > bound:
            beyond.append(f"{where}: {library} ({best:.2f} at the peak, bound {bound})")
    return rows, ratios, beyond


def steps_section(effort: Effort) -> Section:
    """Microseconds of a step, and skae's beside each."""
    rows, ratios, beyond = [], [], []
    for name, batch_size in product(NETWORKS, BATCH_SIZES):
        new_rows, new_ratios, new_beyond = network_rows(name, batch_size, effort.n_rounds)
        rows += new_rows
        ratios += new_ratios
        beyond += new_beyond
        print(*new_rows, sep="\n", flush=True)
    body = NOTE
    if beyond:
        body += "\n\nBounds that lie beyond the peak of this machine: " + "; ".join(beyond) + "."
    return Section("Training steps", body + "\n\n" + markdown_table(HEADER, rows), ratios)
