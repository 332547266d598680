"""Seconds of the detector: beside its bounds, by the number of rows, and beside PyOD's AutoEncoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.preprocessing import StandardScaler

from benchmarks._anomaly_methods import METHODS, OWN, Setting, measure, warm_up
from benchmarks._anomaly_sets import MAX_ROWS, Case, load, sizes, split
from benchmarks._anomaly_store import Store
from benchmarks._common import markdown_table, require
from benchmarks._compare import power

PEER = "AutoEncoder"
N_COLUMNS, N_LATENT, N_HIDDEN, NOISE = 30, 5, 20, 0.1
SMALL, LARGE = 1000, 100_000
DRAWN_SIZES = (SMALL, 12_500, 25_000, 50_000, LARGE)
TRAFFIC_SIZES = (100_000, 200_000, 400_000, 805_050)
N_LARGEST = 5
FIT_BOUND, SCORE_BOUND, SMALL_BOUND = 60.0, 2.0, 5.0
# Seconds grow as rows to this power; 1 is linear, and a fit's number of epochs varies.
POWER_BOUND = 1.1


def draws(n_rows: int) -> np.ndarray:
    """Rows of 30 columns near a bent surface of 5 dimensions: B tanh(A z) and noise."""
    generator = np.random.default_rng(0)
    inner = generator.normal(size=(N_LATENT, N_HIDDEN))
    outer = generator.normal(size=(N_HIDDEN, N_COLUMNS)) / np.sqrt(N_HIDDEN)
    clean = np.tanh(generator.normal(size=(n_rows, N_LATENT)) @ inner) @ outer
    return clean + NOISE * generator.normal(size=clean.shape)


def drawn_case(n_rows: int) -> Case:
    """Clean rows, and as many to score, of which the second half has each column shuffled."""
    X = draws(2 * n_rows)
    test, generator = X[n_rows:], np.random.default_rng(1)
    y = (np.arange(n_rows) >= n_rows // 2).astype(int)
    test[y == 1] = generator.permuted(test[y == 1], axis=0)
    return Case(X[:n_rows], test, y)


def traffic_case(n_rows: int) -> Case:
    """Numeric columns of KDD-99, standardised; all rows train and are scored, and what is not "normal" is marked."""
    with np.load(require("large", "kddcup99.npz")) as stored:
        X, y, normal = stored["X_num"], stored["y"], list(stored["y_names"]).index("normal")
    rows = np.random.default_rng(0).permutation(len(X))[:n_rows]
    X = StandardScaler().fit_transform(X[rows].astype(np.float64))
    return Case(X, X, (y[rows] != normal).astype(int))


def largest() -> list[str]:
    """The five sets of most rows."""
    return sorted(sizes(), key=lambda name: -sizes()[name][0])[:N_LARGEST]


def cases(max_rows: int) -> Iterator[tuple[str, str, str, Case]]:
    """(label, protocol, method, case) of everything that is timed, small ones first; sizes above `max_rows` are not."""
    for n_rows in DRAWN_SIZES:
        if n_rows <= max_rows:
            yield f"draws {n_rows}", "semi", OWN, drawn_case(n_rows)
    for name in largest():
        known = load(name)
        case = split(known.X, known.y, "semi", 0, min(max_rows, MAX_ROWS))
        for method in (OWN, PEER):
            yield name, "semi", method, case
    for n_rows in TRAFFIC_SIZES:
        if n_rows <= max_rows:
            yield f"KDD-99 {n_rows}", "unsup", OWN, traffic_case(n_rows)


def run(methods: Sequence[str], max_rows: int, parameters: str, store: Store, again: bool) -> None:
    """Time what is not stored yet, or all again."""
    done = set() if again else store.keys()
    warm_up([name for name in (OWN, PEER) if name in methods])
    for label, protocol, name, case in cases(max_rows):
        key = {"protocol": "cost", "set": label, "seed": 0, "method": name, "max_rows": max_rows}
        key["parameters"] = parameters if name == OWN else ""
        if name in methods and tuple(key.values()) not in done:
            setting = Setting(protocol, 0, case.train.shape[1], key["parameters"])
            store.add(key, measure(name, METHODS[name], case, setting))


def growth(results: dict[tuple, dict], kind: str, counts: Sequence[int]) -> tuple[list[list], list]:
    """Rows of the table of seconds by size, and the gate of their growth."""
    found = [(n, results[f"{kind} {n}", OWN]) for n in counts if (f"{kind} {n}", OWN) in results]
    rows = [[kind, n, f"{r['fit_seconds']:.2f}", f"{r['score_seconds']:.2f}", f"{r['auroc']:.4f}"] for n, r in found]
    timed = [(n, r["fit_seconds"]) for n, r in found if n > SMALL]
    if len(timed) < 2:
        return rows, []
    what = f"{kind}, fit's seconds grow as rows to the power"
    return rows, [(what, power(*zip(*timed, strict=True)), "<=", POWER_BOUND)]


def beside_peer(results: dict[tuple, dict]) -> tuple[list[list], list]:
    """Rows of the table beside PyOD's AutoEncoder, and gates."""
    rows = []
    for name in largest():
        own, peer = results.get((name, OWN)), results.get((name, PEER))
        if own and peer:
            seconds = [result["fit_seconds"] + result["score_seconds"] for result in (own, peer)]
            rows.append([name, own["n_train"], *seconds, own["auroc"], peer["auroc"]])
    if not rows:
        return [], []
    slowest = max(row[2] / row[3] for row in rows)
    least = min(row[4] - row[5] for row in rows)
    shown = [[*row[:2], *(f"{part:.2f}" for part in row[2:4]), *(f"{part:.4f}" for part in row[4:])] for row in rows]
    return shown, [
        (f"seconds / {PEER}'s, slowest of the {len(rows)} largest sets", slowest, "<=", 1),
        (f"AUROC − {PEER}'s, least of the {len(rows)} largest sets", least, ">=", 0),
    ]


def bounds(results: dict[tuple, dict]) -> list[tuple[str, float, str, float]]:
    """Gates of single fits."""
    made = []
    large, small = (results.get((f"draws {n}", OWN)) for n in (LARGE, SMALL))
    if large:
        made.append((f"fit of {LARGE} x {N_COLUMNS}, seconds", large["fit_seconds"], "<=", FIT_BOUND))
        made.append((f"scores of {LARGE} x {N_COLUMNS}, seconds", large["score_seconds"], "<=", SCORE_BOUND))
    if small:
        made.append((f"fit of {SMALL} x {N_COLUMNS}, seconds", small["fit_seconds"], "<=", SMALL_BOUND))
    return made


def sections(results: Sequence[dict]) -> tuple[list, list]:
    """Sections (heading, body) and gates."""
    known = {(r["set"], r["method"]): r for r in results if r["protocol"] == "cost"}
    if not known:
        return [], []
    drawn, drawn_gates = growth(known, "draws", DRAWN_SIZES)
    traffic, traffic_gates = growth(known, "KDD-99", TRAFFIC_SIZES)
    beside, peer_gates = beside_peer(known)
    threads = sorted({result["threads"] for result in known.values()})
    note = (
        f'Defaults; torch threads: {", ".join(map(str, threads))}. "draws": {N_COLUMNS} columns near a bent surface '
        f'of {N_LATENT} dimensions, as many new rows to score, in half of which each column is shuffled. "KDD-99": '
        "its numeric columns, polluted, the same rows scored."
    )
    made = [("Seconds", note + "\n\n" + markdown_table(("rows of", "rows", "fit", "score", "AUROC"), drawn + traffic))]
    if beside:
        header = ("set", "training rows", f"{OWN}, seconds", f"{PEER}, seconds", f"{OWN}, AUROC", f"{PEER}, AUROC")
        made.append((f"The {N_LARGEST} largest sets beside PyOD's {PEER}", markdown_table(header, beside)))
    return made, [*bounds(known), *drawn_gates, *traffic_gates, *peer_gates]
