"""The labelled sets of ADBench, how they are split, and published figures."""

from __future__ import annotations

import csv
from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import StandardScaler

from benchmarks._common import require

PROTOCOLS = ("semi", "unsup")
MIN_ROWS, MAX_ROWS = 1000, 50_000
# Sets that were made from the same measurements.
SAME_ORIGIN = (("6_cardio", "7_Cardiotocography"), ("4_breastw", "42_WBC"))


class Case(NamedTuple):
    """Training rows, test rows, and which test rows are anomalies."""

    train: np.ndarray
    test: np.ndarray
    y: np.ndarray


class Labelled(NamedTuple):
    """A set, `y` being 1 for anomalies."""

    name: str
    X: np.ndarray
    y: np.ndarray


def load(name: str) -> Labelled:
    """One set, in double precision."""
    with np.load(require("adbench", f"{name}.npz")) as stored:
        return Labelled(name, stored["X"].astype(np.float64), stored["y"].astype(int))


@cache
def sizes() -> dict[str, tuple[int, int]]:
    """Rows and columns of every set, those of few rows first."""
    made = {}
    for path in require("adbench").glob("*.npz"):
        with np.load(path) as stored:
            made[path.stem] = stored["X"].shape
    return dict(sorted(made.items(), key=lambda item: item[1]))


@cache
def published(protocol: str) -> dict[str, dict[str, float]]:
    """AUROC by set and method, from 0 to 1, as printed by Livernoche et al."""
    path = require("adbench", f"results_dte_{protocol}_aucroc.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {row.pop("dataset"): {name: float(value) / 100 for name, value in row.items()} for row in rows}


def split(X: np.ndarray, y: np.ndarray, protocol: str, seed: int, max_rows: int = MAX_ROWS) -> Case:
    """Training and test rows as in Livernoche et al., "On diffusion modeling for anomaly detection", ICLR 2024.

    Few rows are drawn up to 1000 with replacement, and of many 50,000 without. "semi": the first
    half of the normal rows, in the order they then have, trains; all other rows are the test.
    "unsup": rows drawn with replacement train, as many as there are, and all rows are the test.
    Columns are standardised by the training rows; in "unsup" by all rows.

    numpy's older generator is used as there, call by call, so that the rows are the same ones.
    """
    generator = np.random.RandomState(seed)
    if len(y) < MIN_ROWS:
        rows = generator.choice(len(y), MIN_ROWS)
        X, y = X[rows], y[rows]
    elif len(y) > max_rows:
        rows = generator.choice(len(y), max_rows, replace=False)
        X, y = X[rows], y[rows]
    if protocol == "semi":
        normal, anomalous = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
        n_train = round(0.5 * len(normal))
        rows, test = normal[:n_train], np.concatenate([normal[n_train:], anomalous])
        scaler = StandardScaler().fit(X[rows])
    else:
        # The published code draws this order and makes no use of it; without it the next draw would be another.
        generator.permutation(int(y.sum()))
        rows, test = generator.choice(len(y), len(y)), np.arange(len(y))
        scaler = StandardScaler().fit(X)
    return Case(scaler.transform(X[rows]), scaler.transform(X[test]), y[test])
