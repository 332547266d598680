"""Sparse codes by an encoder beside those of the lasso: objective, time, and the dictionary.

    python -m benchmarks.predictive_sparse           # about 10 minutes on one core
    python -m benchmarks.predictive_sparse --quick   # few rows and epochs, to see that it runs

Image patches (12 x 12 pixels of the Olivetti faces without their mean; other people to train than to test) and MNIST.
Objective 1/2 |x - h D|^2 + lambda |h|_1 of held-out rows with the dictionary that was learnt, of the encoder's codes
and of scikit-learn's `sparse_encode(algorithm="lasso_lars")`; rows a second of both, one thread each, the fastest
of several calls that take turns. For the dictionary itself, the lasso's objective with the one that scikit-learn's
`MiniBatchDictionaryLearning` learns from the same rows.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning

from benchmarks._common import GATE_HEADER, Clock, gate_rows, load_mnist, markdown_table, report, require
from skae import PredictiveSparseDecomposition

SPARSITIES, REFERENCE_SPARSITY = (0.03, 0.1, 0.3), 0.1
N_ATOMS, SIZE, N_PEOPLE = 256, 12, 30
MOST_STEPS = 5000
# Rows to train and test, rows that the lasso codes, and epochs.
RUNS = {
    "quick": {"n_train": 2000, "n_test": 200, "n_lasso": 50, "max_iter": 2},
    "full": {"n_train": 20000, "n_test": 2000, "n_lasso": 200, "max_iter": "auto"},
}
HEADER = (
    "data", "sparsity", "excess of the encoder, %", "non-zero, lasso", "non-zero, encoder",
    "lasso_lars, rows/s", "encoder, rows/s", "ratio", "its dictionary, %", "seconds to fit",
)  # fmt: skip


def patches(images: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random patches of the images, each without its mean, of shape (n, SIZE²)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIZE, SIZE), axis=(1, 2))
    index = [rng.integers(size, size=n) for size in windows.shape[:3]]
    made = windows[tuple(index)].reshape(n, -1).astype(np.float32)
    return made - made.mean(axis=1, keepdims=True)


def data(run: dict) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows to train and to test of each set."""
    faces = np.load(require("faces", "olivetti.npz"))
    images, is_train = faces["X"] / np.float32(255), faces["y"] < N_PEOPLE
    rng = np.random.default_rng(0)
    parts = patches(images[is_train], run["n_train"], rng), patches(images[~is_train], run["n_test"], rng)
    X, _, X_test, _ = load_mnist()
    return {"patches": parts, "MNIST": (X[: run["n_train"]], X_test[: run["n_test"]])}


def objective(X: np.ndarray, codes: np.ndarray, psd, dictionary: np.ndarray) -> float:
    """Mean of 1/2 |x - h D|^2 + lambda |h|_1."""
    left = X - psd.mean_ - codes @ dictionary
    return float((0.5 * np.square(left).sum(1) + psd.alpha_ * np.abs(codes).sum(1)).mean())


def lasso(X: np.ndarray, psd, dictionary: np.ndarray) -> np.ndarray:
    """The lasso's codes by LARS."""
    centred = X - psd.mean_
    return sparse_encode(
        centred, dictionary, algorithm="lasso_lars", alpha=psd.alpha_, n_jobs=1, max_iter=MOST_STEPS, check_input=False
    )


def rows_a_second(functions: dict, repeats: int = 5) -> dict[str, float]:
    """The fastest of some calls of each function, which take turns because other processes may share the machine."""
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, (function, X, n_calls) in functions.items():
            for _ in range(n_calls):
                clock = Clock()
                function(X)
                seconds[name].append(clock.seconds() / len(X))
    return {name: 1 / min(each) for name, each in seconds.items()}


def reference_objective(X: np.ndarray, X_test: np.ndarray, psd, seed: int) -> float:
    """The lasso's objective with scikit-learn's dictionary, its atoms brought to unit length."""
    learner = MiniBatchDictionaryLearning(
        N_ATOMS, alpha=psd.alpha_, batch_size=256, max_iter=1, fit_algorithm="cd", random_state=seed
    )
    atoms = learner.fit(X - psd.mean_).components_
    atoms = atoms / np.maximum(np.linalg.norm(atoms, axis=1, keepdims=True), 1e-12)
    return objective(X_test, lasso(X_test, psd, atoms), psd, atoms)


def measure(name: str, X: np.ndarray, X_test: np.ndarray, sparsity: float, run: dict, seed: int) -> dict:
    """A row of the table."""
    options = {"sparsity": sparsity, "max_iter": run["max_iter"], "early_stopping": False, "random_state": seed}
    clock = Clock()
    psd = PredictiveSparseDecomposition(N_ATOMS, **options).fit(X)
    seconds = clock.seconds()
    few = X_test[: run["n_lasso"]]
    best = lasso(few, psd, psd.components_)
    least = objective(few, best, psd, psd.components_)
    codes = psd.transform(few)
    speeds = rows_a_second(
        {"lasso": (lambda rows: lasso(rows, psd, psd.components_), few, 1), "encoder": (psd.transform, X_test, 10)}
    )
    made = {
        "data": name,
        "sparsity": sparsity,
        "excess": 100 * (objective(few, codes, psd, psd.components_) / least - 1),
        "active": float((best != 0).sum(1).mean()),
        "predicted": float((codes != 0).sum(1).mean()),
        **speeds,
        "dictionary": None
        if sparsity != REFERENCE_SPARSITY
        else 100 * (least / reference_objective(X, few, psd, seed) - 1),
        "seconds": round(seconds),
    }
    made["ratio"] = made["encoder"] / made["lasso"]
    print(", ".join(f"{key} {value}" for key, value in made.items()), flush=True)
    return made


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows and epochs; no figure to quote")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only")
    args, clock = parser.parse_args(), Clock()
    run = RUNS["quick" if args.quick else "full"]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = [measure(name, *parts, s, run, args.seed) for name, parts in data(run).items() for s in SPARSITIES]
    keys = ("data", "sparsity", "excess", "active", "predicted", "lasso", "encoder", "ratio", "dictionary")
    table = markdown_table(HEADER, [[row[key] for key in (*keys, "seconds")] for row in rows])
    gates = []
    for row in rows:
        what = f"{row['data']}, sparsity {row['sparsity']}"
        gates.append((f"{what}: rows a second beside lasso_lars", row["ratio"], ">=", 100.0))
        gates.append((f"{what}: objective above lasso_lars, %", row["excess"], "<=", 10.0))
    note = (
        f"{N_ATOMS} atoms, {run['n_train']} rows to train, defaults without early stopping. Excess is the objective "
        "above that of lasso_lars with the same dictionary. "
        '"Its dictionary" is the objective of lasso_lars with the dictionary learnt here, above that with the one of '
        "`MiniBatchDictionaryLearning` after one epoch: below zero it is better."
    )
    sections = [("", f"{note}\n\n{table}"), ("Gates", markdown_table(GATE_HEADER, gate_rows(gates)))]
    report("predictive_sparse", "Sparse codes by an encoder", sections, clock, write=not (args.no_write or args.quick))


if __name__ == "__main__":
    main()
