"""Two disjoint panels of small tables for the benchmarks of dimension reduction."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn import datasets

from benchmarks._common import data_folder, require

MAX_ROWS = 3000


class Table(NamedTuple):
    """A numeric table, and the classes of its rows where it has some."""

    name: str
    X: np.ndarray
    y: np.ndarray | None


def _bundled(load: Callable, labelled: bool = True) -> Callable:
    def read():
        X, y = load(return_X_y=True)
        return X, y if labelled else None

    return read


def _stored(path: str, labelled: bool = False) -> Callable:
    def read():
        with np.load(data_folder() / path) as stored:
            return stored["X"].astype(np.float64), stored["y"].astype(int) if labelled else None

    return read


MAIN = {
    "digits": _bundled(datasets.load_digits),
    "wine": _bundled(datasets.load_wine),
    "breast_cancer": _bundled(datasets.load_breast_cancer),
    "iris": _bundled(datasets.load_iris),
    "diabetes": _bundled(datasets.load_diabetes, labelled=False),
    "concrete": _stored("imputation/concrete.npz"),
    "wine_red": _stored("imputation/wine_red.npz", labelled=True),
    "yeast": _stored("imputation/yeast.npz", labelled=True),
    "protein": _stored("imputation/protein.npz"),
    "energy": _stored("imputation/energy.npz"),
    "letter": _stored("imputation/letter.npz"),
    "cardiotocography": _stored("adbench/7_Cardiotocography.npz", labelled=True),
}

# Labels of anomalies count as classes where a fifth of the rows or more are anomalies.
OTHER = {
    "boston_housing": _stored("imputation/boston_housing.npz"),
    "spambase": _stored("adbench/35_SpamBase.npz", labelled=True),
    "kin8nm": _stored("imputation/kin8nm.npz"),
    "naval": _stored("imputation/naval.npz"),
    "power_plant": _stored("imputation/power_plant.npz"),
    "yacht": _stored("imputation/yacht.npz"),
    "pima": _stored("adbench/29_Pima.npz", labelled=True),
    "breastw": _stored("adbench/4_breastw.npz", labelled=True),
    "ionosphere": _stored("adbench/18_Ionosphere.npz", labelled=True),
    "magic_gamma": _stored("adbench/22_magic.gamma.npz", labelled=True),
    "landsat": _stored("adbench/19_landsat.npz", labelled=True),
    "wpbc": _stored("adbench/46_WPBC.npz", labelled=True),
    "glass": _stored("adbench/14_glass.npz"),
    "lymphography": _stored("adbench/21_Lymphography.npz"),
    "mammography": _stored("adbench/23_mammography.npz"),
    "musk": _stored("adbench/25_musk.npz"),
    "page_blocks": _stored("adbench/27_PageBlocks.npz"),
    "shuttle": _stored("adbench/32_shuttle.npz"),
    "waveform": _stored("adbench/41_Waveform.npz"),
    "aloi": _stored("adbench/1_ALOI.npz"),
}

TRAINING = ["digits", "wine", "breast_cancer", "diabetes", "concrete", "wine_red", "yeast", "protein", "energy"] + [
    "mammography"
]

PANELS = {"main": MAIN, "other": OTHER}


def load(names) -> list[Table]:
    """The tables of these names, each with at most 3000 rows, drawn at random."""
    require("imputation")
    require("adbench")
    known = MAIN | OTHER
    made = []
    for name in names:
        if name not in known:
            raise SystemExit(f"No table {name!r}; there are: {', '.join(known)}.")
        X, y = known[name]()
        if len(X) > MAX_ROWS:
            rows = np.random.default_rng(0).permutation(len(X))[:MAX_ROWS]
            X, y = X[rows], None if y is None else y[rows]
        made.append(Table(name, X, y))
    return made
