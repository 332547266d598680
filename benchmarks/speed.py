"""Seconds: training steps beside other libraries, transform beside torch and PCA.

    python -m benchmarks.speed             # a few minutes
    python -m benchmarks.speed --quick     # fewer repeats
    python -m benchmarks.speed --threads 1

A training step is the difference between a long and a short fit over the difference of their steps,
so that nothing counts but steps. All libraries train the same network (relu, Adam, float32, no
dropout, no normalisation) in turn, again and again; a ratio is the median over these rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.decomposition import PCA

from benchmarks._common import GATE_HEADER, Clock, gate_rows, markdown_table, report
from benchmarks._peers import sequential, trainers
from skae import AutoencoderTransformer

NETWORKS = {"30-64-32-8": (30, (64, 32, 8)), "784-512-256-32": (784, (512, 256, 32))}
BATCH_SIZES = (32, 256)
BATCHES = {30: 32, 784: 8}  # batches of an epoch, by the number of features
EPOCHS = {30: (2, 12), 784: (1, 4)}  # short and long fit
GATES = {"MLPRegressor": 0.9, "PyOD": 0.5, "skorch": 0.35}
# Published for the same networks on another machine with 2 cores: microseconds a step.
REFERENCE = {
    ("30-64-32-8", 32): {"MLPRegressor": 254, "PyOD": 564, "skorch": 844, "plain torch": "250–457"},
    ("30-64-32-8", 256): {"MLPRegressor": 608, "PyOD": 1418, "skorch": 2042, "plain torch": "399–432"},
    ("784-512-256-32", 256): {"MLPRegressor": 14300, "PyOD": 11900, "skorch": 12500, "plain torch": 9900},
}
CHUNKS = (256, 512, 1024, 2048, 4096, 16384)


def seconds_of(call: Callable, *args) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def table_of(n_rows: int, n_features: int) -> np.ndarray:
    """Rows of low rank and a little noise, in float32."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 8), dtype=np.float32) @ rng.standard_normal((8, n_features), dtype=np.float32)
    return X / np.float32(8**0.5) + 0.1 * rng.standard_normal((n_rows, n_features), dtype=np.float32)


def step_seconds(fit: Callable, X: np.ndarray, encoder: Sequence[int], batch_size: int) -> float:
    """Seconds of a training step: the slope between a short and a long fit."""
    short, long = EPOCHS[X.shape[1]]
    difference = seconds_of(fit, X, encoder, batch_size, long) - seconds_of(fit, X, encoder, batch_size, short)
    return difference / ((long - short) * (len(X) // batch_size))


def fit_times(name: str, batch_size: int, n_rounds: int) -> dict[str, np.ndarray]:
    """Seconds of a step of each library in each round; a first round warms up and does not count."""
    n_features, encoder = NETWORKS[name]
    X = table_of(BATCHES[n_features] * batch_size, n_features)
    times: dict[str, list[float]] = {library: [] for library in trainers()}
    for round_ in range(n_rounds + 1):
        for library, fit in trainers().items():
            seconds = step_seconds(fit, X, encoder, batch_size)
            if round_:
                times[library].append(seconds)
    return {library: np.array(seconds) for library, seconds in times.items()}


def matmul_peak(n_repeats: int = 10, size: int = 2048) -> float:
    """Most floating-point operations a second of a large float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    with torch.inference_mode():
        torch.mm(a, b, out=out)
        best = min(seconds_of(lambda: torch.mm(a, b, out=out)) for _ in range(n_repeats))
    return 2 * size**3 / best


def step_operations(n_features: int, encoder: Sequence[int], batch_size: int) -> float:
    """Operations of the matrix products of a step: forward, weights' and inputs' gradients but the first's."""
    sizes = [n_features, *encoder]
    products = [a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    return batch_size * (6 * 2 * sum(products) - 2 * products[0])


def fit_sections(n_rounds: int) -> tuple[list[tuple[str, str]], list]:
    """Tables of training steps and their gates."""
    rows, gates = [], []
    for name, (n_features, encoder) in NETWORKS.items():
        for batch_size in BATCH_SIZES:
            peak = matmul_peak()
            times = fit_times(name, batch_size, n_rounds)
            peak = max(peak, matmul_peak())
            for library, seconds in times.items():
                ratio = float(np.median(times["skae"] / seconds))
                reference = REFERENCE.get((name, batch_size), {}).get(library)
                share = step_operations(n_features, encoder, batch_size) / np.median(seconds) / peak
                step = f"{1e6 * np.median(seconds):.0f}"
                bound = GATES.get(library)
                rows.append([name, batch_size, library, step, reference, f"{ratio:.2f}", bound, f"{share:.0%}"])
                if bound:
                    gates.append((f"{name}, batch {batch_size}: skae / {library}", ratio, "<=", bound))
                if library == "skae" and (n_features, batch_size) == (784, 256):
                    gates.append((f"{name}, batch {batch_size}: share of the matrix-product peak", share, ">=", 0.7))
            print(*(str(row) for row in rows[-len(times) :]), sep="\n", flush=True)
    header = ("network", "batch", "library", "µs a step", "reference", "skae / it", "gate", "share of peak")
    note = (
        "A step of Adam, median. The reference was measured on another machine with 2 cores. The peak is that of a "
        "2048 x 2048 float32 matrix product in the same run, with the same number of threads."
    )
    return [("fit", note + "\n\n" + markdown_table(header, rows))], gates


def fitted(n_features: int, encoder: Sequence[int], init: str) -> AutoencoderTransformer:
    """An autoencoder of this shape after one epoch."""
    model = AutoencoderTransformer(
        encoder[-1],
        hidden_layer_sizes=tuple(encoder[:-1]),
        activation="relu",
        init=init,
        max_iter=1,
        early_stopping=False,
        device="cpu",
        random_state=0,
    )
    return model.fit(table_of(2000, n_features))


@torch.inference_mode()
def bare_forward(network: torch.nn.Module, rows: torch.Tensor, chunk: int) -> torch.Tensor:
    """The network on all rows, a chunk at a time."""
    out = torch.empty(len(rows), network[-1].out_features)
    for start in range(0, len(rows), chunk):
        out[start : start + chunk] = network(rows[start : start + chunk])
    return out


def best_chunk(network: torch.nn.Module, rows: torch.Tensor) -> int:
    """The number of rows at a time with which the bare forward pass is fastest."""
    calls = {size: lambda size=size: bare_forward(network, rows, size) for size in CHUNKS}
    times = interleaved(calls, 7)
    return min(CHUNKS, key=lambda size: times[size].min())


def transform_section(n_rows: int, n_rounds: int) -> tuple[tuple[str, str], list]:
    """Throughput of transform beside the bare forward pass of the same network and PCA."""
    n_features, encoder = NETWORKS["784-512-256-32"]
    X = table_of(n_rows, n_features)
    rows = torch.from_numpy(X)
    network = sequential(n_features, encoder)[0]
    pca = PCA(encoder[-1]).fit(X[:5000])
    models = {f'skae, init="{init}"': fitted(n_features, encoder, init) for init in ("random", "pca")}
    chunk = best_chunk(network, rows[: max(CHUNKS)])
    calls = {"bare torch forward": lambda: bare_forward(network, rows, chunk)}
    calls |= {name: lambda model=model: model.transform(X) for name, model in models.items()}
    calls["PCA"] = lambda: pca.transform(X)
    times = interleaved(calls, n_rounds)
    bare = times["bare torch forward"]
    table = [
        [name, f"{n_rows / np.median(seconds):.0f}", f"{np.median(bare / seconds):.2f}"]
        for name, seconds in times.items()
    ]
    share = float(np.median(bare / times['skae, init="random"']))
    gates = [(f"transform of {n_rows} x {n_features}: throughput / bare forward's", share, ">=", 0.85)]
    note = f"{n_rows} x {n_features} float32 rows, 784-512-256-32; the bare forward pass in chunks of {chunk} rows."
    return ("transform", note + "\n\n" + markdown_table(("what", "rows a second", "bare / it"), table)), gates


def interleaved(calls: dict[str, Callable], n_rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, in turn; a first round warms up and does not count."""
    times = [[seconds_of(call) for call in calls.values()] for _ in range(n_rounds + 1)][1:]
    return dict(zip(calls, np.array(times).T, strict=True))


def latency_section(n_rounds: int) -> tuple[tuple[str, str], list]:
    """One-row transform beside PCA's."""
    table, gates = [], []
    for name, (n_features, encoder) in NETWORKS.items():
        pca = PCA(encoder[-1]).fit(table_of(2000, n_features))
        model = fitted(n_features, encoder, "pca")
        for dtype in (np.float64, np.float32):
            row = table_of(1, n_features).astype(dtype)
            calls = {"skae": lambda m=model, x=row: m.transform(x), "PCA": lambda m=pca, x=row: m.transform(x)}
            times = interleaved(calls, n_rounds)
            ratio = float(np.median(times["skae"] / times["PCA"]))
            micro = [f"{1e6 * np.median(times[key]):.0f}" for key in ("skae", "PCA")]
            kind = np.dtype(dtype).name
            table.append([name, kind, *micro, f"{ratio:.2f}"])
            gates.append((f"one-row transform, {name}, {kind}: skae / PCA", ratio, "<=", 3.0))
    header = ("network", "dtype", "µs, skae", "µs, PCA", "skae / PCA")
    return ("One row", "`transform` of one row, median.\n\n" + markdown_table(header, table)), gates


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and rows")
    parser.add_argument("--full", action="store_true", help="more repeats")
    parser.add_argument("--threads", type=int, help="torch's threads")
    parser.add_argument("--only", choices=("fit", "transform", "latency"), help="one part alone")
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    if args.threads:
        torch.set_num_threads(args.threads)
    n_rounds = 3 if args.quick else 31 if args.full else 11
    sections, gates = [], []
    if args.only in (None, "fit"):
        made, held = fit_sections(n_rounds)
        sections += made
        gates += held
    if args.only in (None, "transform"):
        section, held = transform_section(20_000 if args.quick else 100_000, min(n_rounds, 7))
        sections.append(section)
        gates += held
    if args.only in (None, "latency"):
        section, held = latency_section(50 * n_rounds)
        sections.append(section)
        gates += held
    sections.append(("Gates", markdown_table(GATE_HEADER, gate_rows(gates))))
    report("speed", "Speed", sections, clock, write=not (args.no_write or args.quick or args.only))


if __name__ == "__main__":
    main()
