"""One class of images against the others: MNIST and Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks._anomaly_methods import IMAGE_METHODS, OWN, Setting, measure
from benchmarks._anomaly_sets import Case
from benchmarks._anomaly_store import Store
from benchmarks._common import load_mnist, markdown_table, require

IMAGES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
REFERENCES = {"mnist": [["PCA, 32 components, reference", 0.955], ["DeepSVDD, published", 0.948]], "fashion": []}
MNIST_BOUND, SECONDS_BOUND = 0.97, 60.0


def load(which: str) -> tuple[np.ndarray, ...]:
    """(X_train, y_train, X_test, y_test), pixels from 0 to 1."""
    if which == "mnist":
        return load_mnist()
    made = []
    with np.load(require("fashion_mnist", "fashion_mnist.npz")) as stored:
        for part in ("train", "test"):
            images = stored[f"X_{part}"]
            made.append(images.reshape(len(images), -1).astype(np.float32) / np.float32(255))
            made.append(stored[f"y_{part}"].astype(int))
    return tuple(made)


def run(which: str, methods: Sequence[str], n_seeds: int, max_rows: int, parameters: str, store: Store, again: bool):
    """Train on one class, score all test images; a result for each class, method and seed."""
    X, y, X_test, y_test = load(which)
    done = set() if again else store.keys()
    for seed in range(n_seeds):
        for label in np.unique(y):
            train = X[y == label][:max_rows]
            case = Case(train, X_test[:max_rows], (y_test[:max_rows] != label).astype(int))
            for name in methods:
                key = {"protocol": f"one-class {which}", "set": str(label), "seed": seed, "method": name}
                key |= {"max_rows": max_rows, "parameters": parameters if name == OWN else ""}
                if tuple(key.values()) in done:
                    continue
                setting = Setting("semi", seed, X.shape[1], key["parameters"])
                store.add(key, measure(name, IMAGE_METHODS[name], case, setting))


def sections(results: Sequence[dict], which: str) -> tuple[list, list]:
    """Sections (heading, body) and gates."""
    own = [result for result in results if result["protocol"] == f"one-class {which}"]
    if not own:
        return [], []
    labels = sorted({result["set"] for result in own})
    rows, gates = [], []
    for name in (name for name in IMAGE_METHODS if any(result["method"] == name for result in own)):
        mine = [result for result in own if result["method"] == name]
        values = [np.mean([r["auroc"] for r in mine if r["set"] == label] or np.nan) for label in labels]
        seconds = [result["fit_seconds"] + result["score_seconds"] for result in mine]
        numbers = [f"{value:.4f}" for value in (float(np.mean(values)), *values)]
        rows.append([name, *numbers, f"{max(seconds):.2f}", len({result["seed"] for result in mine})])
        if name == OWN and which == "mnist":
            gates.append(("one class of MNIST, mean AUROC", float(np.mean(values)), ">=", MNIST_BOUND))
            gates.append(("one class of MNIST, seconds of the slowest class", max(seconds), "<=", SECONDS_BOUND))
    empty = [None] * (len(labels) + 2)
    rows += [[name, f"{value:.4f}", *empty] for name, value in REFERENCES[which]]
    note = (
        "The training images of one class train, all 10,000 test images are scored: AUROC, mean and by class. skae is "
        "`AutoencoderOutlierDetector(AutoencoderTransformer(16, max_iter=40), standardize=False, novelty=True)`; size "
        "and length were chosen on held-out training images of MNIST."
    )
    header = ("method", "mean", *labels, "seconds, slowest", "seeds")
    return [(f"One class of {IMAGES[which]}", f"{note}\n\n{markdown_table(header, rows)}")], gates
