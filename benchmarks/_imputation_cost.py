"""Seconds and memory of the imputer, by rows and columns; each fit has a process of its own.

python -m benchmarks._imputation_cost METHOD ROWS COLUMNS [PARAMETERS]      # one fit, printed as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks._common import ROOT, markdown_table
from benchmarks._compare import power
from benchmarks._imputation_methods import METHODS, OWN, Setting, is_own, quietly
from benchmarks._imputation_page import Gates, Sections
from benchmarks._imputation_tables import drawn

COST, PEER = "cost", "extra trees"
COST_METHODS = (OWN, PEER)
N_LATENT, NOISE, RATE = 10, 0.1, 0.2
LARGE, BESIDE = (100_000, 50), (5000, 50)
BY_ROWS = [(12_500, 50), (25_000, 50), (50_000, 50), LARGE]
BY_COLUMNS = [(10_000, 10), (10_000, 20), (10_000, 40), (10_000, 80)]
# Small ones first.
SHAPES = {f"{rows} x {columns}": (rows, columns) for rows, columns in (BESIDE, *BY_COLUMNS, *BY_ROWS)}
SECONDS_BOUND, MEGABYTES_BOUND = 120.0, 1500.0
# Seconds grow as rows, and as columns, to this power; 1 is linear, and a fit's number of epochs varies.
POWER_BOUND = 1.1
FASTER_BOUND = 10.0
STATUS, FORGET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def draws(n_rows: int, n_columns: int) -> np.ndarray:
    """Rows near a bent surface of 10 dimensions, tanh(z A) and noise, 20 % of whose cells are NaN."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(N_LATENT, n_columns)) / np.sqrt(N_LATENT)
    X = np.tanh(2 * generator.normal(size=(n_rows, N_LATENT)) @ weights)
    X += NOISE * generator.normal(size=X.shape)
    X[drawn(np.full(X.shape, RATE), generator)] = np.nan
    return X


def keys(names: Sequence[str], methods: Sequence[str], args) -> Iterator[dict]:
    """Keys of what is to be measured, small ones first; the peer fits one of the tables alone."""
    for name in names:
        for method in methods:
            if is_own(method) or SHAPES[name] == BESIDE:
                key = {"mechanism": COST, "set": name, "seed": 0, "method": method, "max_rows": None}
                yield key | {"parameters": args.parameters * is_own(method)}


def measured(key: dict) -> dict:
    """The result of a key, from a new process."""
    shape = map(str, SHAPES[key["set"]])
    command = [sys.executable, "-m", "benchmarks._imputation_cost", key["method"], *shape, key["parameters"]]
    made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(made.stdout.splitlines()[-1])


def one_fit(name: str, n_rows: int, n_columns: int, parameters: str = "") -> dict:
    """Seconds of ``fit_transform``, and the megabytes that it took at most besides the data.

    A fit of few rows comes first, so that what libraries load on first use counts in neither. The
    peer's trees grow on as many cores as torch uses.
    """
    imputer = METHODS[name].make(Setting(0, parameters))
    if not is_own(name):
        imputer.set_params(estimator__n_jobs=torch.get_num_threads())
    quietly(METHODS[name].make(Setting(0, parameters)).fit_transform, draws(200, 5))
    X = draws(n_rows, n_columns)
    before = resident()
    _, seconds = quietly(imputer.fit_transform, X)
    after = resident()
    return {"seconds": seconds} | ({"megabytes": after["VmHWM"] - before["VmRSS"]} if after else {})


def resident() -> dict[str, float]:
    """Megabytes in memory now, `VmRSS`, and at most since the last call, `VmHWM`; empty where Linux does not say."""
    if not STATUS.exists():
        return {}
    lines = (line.split() for line in STATUS.read_text().splitlines() if line.startswith(("VmHWM", "VmRSS")))
    made = {name.rstrip(":"): int(kilobytes) / 1000 for name, kilobytes, _ in lines}
    FORGET_PEAK.write_text("5")
    return made


def sections(results: Sequence[dict]) -> tuple[Sections, Gates]:
    """Sections (heading, body) and gates."""
    mine = {(result["set"], result["method"]): result for result in results if result["mechanism"] == COST}
    if not mine:
        return [], []
    rows = [
        [name, method, f"{mine[name, method]['seconds']:.1f}", _megabytes(mine[name, method])]
        for name in SHAPES
        for method in COST_METHODS
        if (name, method) in mine
    ]
    threads = ", ".join(map(str, sorted({result["threads"] for result in mine.values()})))
    note = (
        f"Rows near a bent surface of {N_LATENT} dimensions, {RATE:.0%} of whose cells are missing completely at "
        f"random; `fit_transform` in a process of its own; torch threads: {threads}. Memory is the process's largest "
        "minus what it was once the data was there. The trees grow on as many cores."
    )
    table = markdown_table(("rows x columns", "method", "seconds", "megabytes"), rows)
    return [("Seconds and memory", f"{note}\n\n{table}")], [*bounds(mine), *growth(mine)]


def _megabytes(result: dict) -> str | None:
    return f"{result['megabytes']:.0f}" if "megabytes" in result else None


def label(shape: tuple[int, int]) -> str:
    """How a table is called."""
    return f"{shape[0]} x {shape[1]}"


def bounds(results: dict[tuple, dict]) -> Gates:
    """Seconds and memory of the largest table, and seconds beside the peer's."""
    made: Gates = []
    large, own, peer = (results.get(key) for key in ((label(LARGE), OWN), (label(BESIDE), OWN), (label(BESIDE), PEER)))
    if large:
        made.append((f"fit_transform of {label(LARGE)}, seconds", large["seconds"], "<=", SECONDS_BOUND))
    if large and "megabytes" in large:
        what = f"fit_transform of {label(LARGE)}, megabytes above the data"
        made.append((what, large["megabytes"], "<=", MEGABYTES_BOUND))
    if own and peer and "seconds" in peer:
        what = f"{label(BESIDE)}, seconds of the chain of {PEER} / {OWN}'s"
        made.append((what, peer["seconds"] / own["seconds"], ">=", FASTER_BOUND))
    return made


def growth(results: dict[tuple, dict]) -> Gates:
    """The powers of rows and of columns by which skae's seconds grow, where all sizes are measured."""
    made: Gates = []
    for axis, (what, shapes) in enumerate({"rows": BY_ROWS, "columns": BY_COLUMNS}.items()):
        timed = [results[label(shape), OWN]["seconds"] for shape in shapes if (label(shape), OWN) in results]
        if len(timed) == len(shapes):
            grown = power([shape[axis] for shape in shapes], timed)
            made.append((f"fit_transform's seconds grow as {what} to the power", grown, "<=", POWER_BOUND))
    return made


if __name__ == "__main__":
    print(json.dumps(one_fit(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])))
