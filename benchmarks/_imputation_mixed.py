"""Numbers and categories with gaps of their own: errors over the cells that were hidden besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from benchmarks._common import markdown_table
from benchmarks._imputation_frame_methods import FRAME_METHODS, LEAF, MAX_DONORS, N_FOREST, N_NEIGHBORS, N_ROUNDS
from benchmarks._imputation_frames import FILES, RATES, Frame, categorical, frame, numeric
from benchmarks._imputation_methods import OWN, Setting, attempt, is_own, quietly
from benchmarks._imputation_page import Gates, Sections, means

N_MASKS = 2
GATED = "adult"
MEASURES = {"wrong": "mean of columns", "wrong_cells": "all cells"}


def keys(names: Sequence[str], methods: Sequence[str], args) -> Iterator[dict]:
    """Keys of what is to be measured, in this order."""
    for mechanism in RATES:
        for name in names:
            for seed in range(min(args.masks, N_MASKS)):
                for method in methods:
                    key = {"mechanism": mechanism, "set": name, "seed": seed, "method": method}
                    yield key | {"max_rows": None, "parameters": args.parameters * is_own(method)}


def measured(key: dict) -> dict:
    """The result of a key."""
    hidden = frame(key["set"], key["mechanism"], key["seed"])
    return attempt(measure, key["method"], hidden, Setting(key["seed"], key["parameters"]))


def measure(name: str, case: Frame, setting: Setting) -> dict:
    """Fill the hidden cells: root mean squared error of numbers, error rates of categories, seconds."""
    filled, seconds = quietly(FRAME_METHODS[name](setting).fit_transform, case.gappy)
    return errors(case, filled) | {"seconds": seconds}


def errors(case: Frame, filled: pd.DataFrame) -> dict:
    """Over the hidden cells: RMSE of numbers in deviations of their column, and the share of wrong categories.

    ``wrong`` is the mean over the columns of their shares, ``wrong_cells`` the share over all cells.
    """
    hidden = dict(zip(case.table.columns, case.hidden.T, strict=True))
    squares, misses = [], []
    for name in numeric(case.table):
        column, deviation = case.table[name], case.table[name].std(ddof=0)
        squares.append((((filled[name] - column) / deviation) ** 2).to_numpy(dtype=np.float64)[hidden[name]])
    for name in categorical(case.table):
        pair = (np.asarray(table[name], dtype=object)[hidden[name]] for table in (filled, case.table))
        misses.append(np.not_equal(*pair).astype(float))
    return {
        "rmse": float(np.concatenate(squares).mean() ** 0.5),
        "wrong": float(np.mean([missed.mean() for missed in misses if missed.size])),
        "wrong_cells": float(np.concatenate(misses).mean()),
        "n_hidden": int(case.hidden.sum()),
    }


def sections(results: Sequence[dict]) -> tuple[Sections, Gates]:
    """Sections (heading, body) and gates."""
    mine = [result for result in results if result["mechanism"] in RATES]
    if not mine:
        return [], []
    names = [name for name in FILES if any(result["set"] == name for result in mine)]
    bodies = [_note()]
    gates: Gates = []
    for mechanism, rate in RATES.items():
        part = [result for result in mine if result["mechanism"] == mechanism]
        if part:
            bodies.append(f"{rate:.0%} of the known cells hidden:\n\n{error_table(part, names)}")
            gates += category_gates(part, mechanism)
    return [("Numbers and categories", "\n\n".join(bodies))], gates


def error_table(results: Sequence[dict], names: Sequence[str]) -> str:
    """A row for each table and method."""
    found = {measure: means(results, measure, FRAME_METHODS) for measure in ("rmse", *MEASURES, "seconds")}
    rows = []
    for name in names:
        for method in (method for method, by_set in found["rmse"].items() if name in by_set):
            values = [found[measure][method][name] for measure in found]
            rows.append([name, method, *(f"{value:.4f}" for value in values[:-1]), f"{values[-1]:.1f}"])
    header = ("table", "method", "RMSE, numbers", *(f"wrong, {what}" for what in MEASURES.values()), "seconds")
    return markdown_table(header, rows)


def category_gates(results: Sequence[dict], mechanism: str) -> Gates:
    """skae's error rates on adult's categories minus the best peer's."""
    gates: Gates = []
    for measure, what in MEASURES.items():
        rates = {method: by_set.get(GATED) for method, by_set in means(results, measure, FRAME_METHODS).items()}
        peers = [rate for method, rate in rates.items() if not is_own(method) and rate is not None]
        if rates.get(OWN) is not None and peers:
            label = f"{mechanism}, {GATED}, wrong categories ({what}) − best peer's"
            gates.append((label, rates[OWN] - min(peers), "<", 0))
    return gates


def _note() -> str:
    return (
        "Tables with gaps of their own, of which known cells are hidden; all rows, without targets and identifiers "
        "(titanic keeps its cabins, which are mostly missing and rarely repeat). Numbers: RMSE in units of their "
        f"column's deviation. Categories: share of wrong ones. Mean over {N_MASKS} masks. `{OWN}` gets the DataFrame "
        'as it is. "mean" is the most frequent one for categories; "kNN" averages indicators of categories over '
        f'{N_NEIGHBORS} neighbours, of {GATED} among {MAX_DONORS} rows alone; "extra trees" is a chain as '
        f"missForest's: {N_ROUNDS} rounds of {N_FOREST} trees, classifiers for categories and regressors for numbers, "
        f"with leaves of single rows and of at least {LEAF}."
    )
