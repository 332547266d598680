"""`transform` beside the bare forward pass and PCA, of many rows and of one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from sklearn.decomposition import PCA

from benchmarks._common import markdown_table
from benchmarks._peers import PlainNetwork
from benchmarks._speed_common import NETWORKS, Effort, Ratio, Section, interleaved, table_of
from skae import AutoencoderTransformer

CHUNKS = (256, 512, 1024, 2048, 4096, 16384)
THROUGHPUT, LATENCY = 0.95, 1.5


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
    times = interleaved({str(size): partial(bare_forward, network, rows, size) for size in CHUNKS}, 7)
    return min(CHUNKS, key=lambda size: times[str(size)].min())


def transform_section(effort: Effort) -> Section:
    """Throughput of transform beside the bare forward pass of the same network and PCA."""
    name, n_rows = "784-512-256-32", 20_000 if effort.quick else 100_000
    n_features, encoder = NETWORKS[name]
    X = table_of(n_rows, n_features)
    rows = torch.from_numpy(X)
    network = PlainNetwork(n_features, encoder)[0]
    pca = PCA(encoder[-1]).fit(X[:5000])
    models = {f'skae, init="{init}"': fitted(n_features, encoder, init) for init in ("random", "pca")}
    chunk = best_chunk(network, rows[: max(CHUNKS)])
    calls = {"bare torch forward": partial(bare_forward, network, rows, chunk)}
    calls |= {what: partial(model.transform, X) for what, model in (models | {"PCA": pca}).items()}
    times = interleaved(calls, min(effort.n_rounds, 7))
    shares = {what: float(np.median(times["bare torch forward"] / seconds)) for what, seconds in times.items()}
    table = [[what, f"{n_rows / np.median(times[what]):.0f}", f"{share:.2f}"] for what, share in shares.items()]
    ratios = [
        Ratio(f"transform, {name}, {what}: throughput / bare forward's", shares[what], ">=", bound)
        for what, bound in zip(models, (THROUGHPUT, None), strict=True)
    ]
    note = f"{n_rows} x {n_features} float32 rows, {name}; the bare forward pass in chunks of {chunk} rows."
    body = note + "\n\n" + markdown_table(("what", "rows a second", "bare / it"), table)
    return Section("transform", body, ratios)


def latency_section(effort: Effort) -> Section:
    """One-row transform beside PCA's."""
    table, ratios = [], []
    for name, (n_features, encoder) in NETWORKS.items():
        pca = PCA(encoder[-1]).fit(table_of(2000, n_features))
        model = fitted(n_features, encoder, "pca")
        for dtype in (np.float64, np.float32):
            row = table_of(1, n_features).astype(dtype)
            calls = {"skae": partial(model.transform, row), "PCA": partial(pca.transform, row)}
            times = interleaved(calls, 50 * effort.n_rounds)
            ratio = float(np.median(times["skae"] / times["PCA"]))
            micro = [f"{1e6 * np.median(times[key]):.0f}" for key in ("skae", "PCA")]
            kind = np.dtype(dtype).name
            table.append([name, kind, *micro, f"{ratio:.2f}"])
            ratios.append(Ratio(f"one-row transform, {name}, {kind}: skae / PCA", ratio, "<=", LATENCY))
    header = ("network", "dtype", "µs, skae", "µs, PCA", "skae / PCA")
    return Section("One row", "`transform` of one row, median.\n\n" + markdown_table(header, table), ratios)
