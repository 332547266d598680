"""Squared error of MNIST images rebuilt from 30 numbers, and accuracy of 2-d and 30-d codes.

    python -m benchmarks.mnist_reconstruction           # cheap: at most 10 minutes on 2 cores
    python -m benchmarks.mnist_reconstruction --full    # at most 60 minutes on 2 cores
    python -m benchmarks.mnist_reconstruction --quick   # few rows and epochs, to see that it runs

References: Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks",
Science 313, 2006: 60,000 images to train, 10,000 to test, pixels from 0 to 1, squared error summed
over the 784 pixels and averaged over the test images.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._common import (
    GATE_HEADER,
    Clock,
    gate_rows,
    load_mnist,
    markdown_table,
    parse_parameters,
    report,
    squared_error,
)
from skae import AdamW, AutoencoderTransformer, LogisticPCA

HARNESS = 13.87
REFERENCE_ERROR = {"PCA": 13.87, "LogisticPCA": 8.01, "AutoencoderTransformer": 3.00}
PCA_ACCURACY = {2: 0.4243, 30: 0.9755}

# What a run is unless the command line says otherwise: epochs of the 30-d code, of the 2-d code and of LogisticPCA.
RUNS = {
    "quick": {"epochs": 1, "epochs_2d": 1, "epochs_logistic": 1, "hidden": (64,), "batch_size": 128},
    "cheap": {"epochs": 14, "epochs_2d": 10, "epochs_logistic": 10, "hidden": (1000, 500, 250), "batch_size": 256},
    "full": {"epochs": 150, "epochs_2d": 30, "epochs_logistic": 15, "hidden": (1500, 1000, 500), "batch_size": 256},
}


class Mnist:
    """The images and digits, and what is measured on them."""

    def __init__(self, n_train: int | None):
        X, y, self.X_test, self.y_test = load_mnist()
        self.X, self.y = X[:n_train], y[:n_train]

    def row(self, model, name: str, network: str, *, reference: float | None, knn: bool = True) -> dict:
        """Fit the model; errors and accuracy of 5-NN on the code."""
        clock = Clock()
        model.fit(self.X)
        seconds = clock.seconds()
        codes, codes_test = model.transform(self.X), model.transform(self.X_test)
        accuracy = None
        if knn:
            neighbours = KNeighborsClassifier(5, algorithm="brute").fit(codes, self.y)
            accuracy = neighbours.score(codes_test, self.y_test)
        made = {
            "name": name,
            "network": network,
            "components": codes.shape[1],
            "train": self._error(model, self.X, codes),
            "test": self._error(model, self.X_test, codes_test),
            "reference": reference,
            "knn": accuracy,
            "knn_pca": PCA_ACCURACY.get(codes.shape[1]) if knn else None,
            "epochs": getattr(model, "n_iter_", None),
            "seconds": round(seconds),
        }
        print(", ".join(f"{key} {value}" for key, value in made.items()), flush=True)
        return made

    @staticmethod
    def _error(model, X: np.ndarray, codes: np.ndarray) -> float:
        size = 10_000
        parts = [
            squared_error(X[start : start + size], model.inverse_transform(codes[start : start + size]))
            * len(codes[start : start + size])
            for start in range(0, len(X), size)
        ]
        return sum(parts) / len(X)


def run_of(args: argparse.Namespace) -> dict:
    """The kind of run with what the command line changes."""
    kind = "full" if args.full else "quick" if args.quick else "cheap"
    run = {"kind": kind} | RUNS[kind]
    for name in ("epochs", "epochs_2d", "epochs_logistic", "batch_size"):
        if getattr(args, name) is not None:
            run[name] = getattr(args, name)
    if args.hidden is not None:
        run["hidden"] = tuple(int(size) for size in args.hidden.split(",") if size)
    return run


def autoencoder(n_components: int, epochs: int, run: dict, args: argparse.Namespace) -> AutoencoderTransformer:
    """The autoencoder of this run."""
    parameters = {
        "hidden_layer_sizes": run["hidden"],
        "activation": args.activation,
        "init": args.init,
        "max_iter": epochs,
        "batch_size": run["batch_size"],
        "learning_rate": args.learning_rate,
        "optimizer": AdamW(
            schedule=args.schedule,
            weight_decay=(1.0 if run["kind"] == "full" else "auto") if args.weight_decay is None else args.weight_decay,
            clip_norm=args.clip_norm,
            precision=args.precision,
        ),
        "early_stopping": args.early_stopping,
        # The smallest error, rather than a code near PCA's.
        "penalties": (),
        "device": args.device,
        "random_state": args.seed,
        "verbose": args.verbose,
    }
    return AutoencoderTransformer(n_components, **(parameters | parse_parameters(args.parameters)))


def measure(args: argparse.Namespace, run: dict) -> list[dict]:
    """The rows of the table, the check of the harness first."""
    mnist = Mnist(5000 if args.quick else None)
    rows = [mnist.row(PCA(30, svd_solver="full"), "PCA", "linear", reference=HARNESS)]
    if not args.quick and abs(rows[0]["test"] - HARNESS) > 0.02:
        raise SystemExit(f"The harness is wrong: PCA has {rows[0]['test']:.3f}, and it must have {HARNESS}.")
    network = "-".join(map(str, (784, *run["hidden"])))
    if "30" not in args.skip:
        model = autoencoder(30, run["epochs"], run, args)
        reference = REFERENCE_ERROR["AutoencoderTransformer"]
        rows.append(mnist.row(model, "AutoencoderTransformer", f"{network}-30", reference=reference))
    if "logistic" not in args.skip:
        model = LogisticPCA(
            30, max_iter=run["epochs_logistic"], early_stopping=False, device=args.device, random_state=args.seed
        )
        rows.append(mnist.row(model, "LogisticPCA", "linear", reference=REFERENCE_ERROR["LogisticPCA"], knn=False))
    if "2" not in args.skip:
        rows.append(mnist.row(PCA(2, svd_solver="full"), "PCA", "linear", reference=None))
        model = autoencoder(2, run["epochs_2d"], run, args)
        rows.append(mnist.row(model, "AutoencoderTransformer", f"{network}-2", reference=None))
    return rows


def gates(rows: list[dict], kind: str) -> list[tuple[str, float, str, float]]:
    """What the run must hold."""
    made = [("harness: PCA, 30 components, off by", abs(rows[0]["test"] - HARNESS), "<=", 0.02)]
    for row in rows:
        if row["name"] == "AutoencoderTransformer" and row["components"] == 30:
            made.append(("squared error, 30 components", row["test"], "<", 3.0 if kind == "full" else 6.0))
            made.append(("5-NN on 30 components", row["knn"], ">=", 0.9755))
        if row["name"] == "AutoencoderTransformer" and row["components"] == 2:
            made.append(("5-NN on 2 components", row["knn"], ">=", 0.80))
        if row["name"] == "LogisticPCA":
            made.append(("squared error, LogisticPCA", row["test"], "<=", 8.01))
    return made


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cheap", action="store_true", help="at most 10 minutes on 2 cores (the default)")
    kind.add_argument("--full", action="store_true", help="at most 60 minutes on 2 cores, or 10 on a GPU")
    kind.add_argument("--quick", action="store_true", help="5,000 rows and an epoch; no figure to quote")
    parser.add_argument("--hidden", help="hidden layer sizes, comma-separated")
    parser.add_argument("--activation", default="auto")
    parser.add_argument("--epochs", type=int, help="of the 30-d code")
    parser.add_argument("--epochs-2d", type=int, dest="epochs_2d")
    parser.add_argument("--epochs-logistic", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=_rate, default="auto")
    parser.add_argument("--schedule", default="cosine", help="constant, linear or cosine")
    parser.add_argument("--weight-decay", type=_rate, help="1 for the full run, else auto")
    parser.add_argument("--clip-norm", type=float)
    parser.add_argument("--precision", default="bfloat16", help="float32 or bfloat16")
    parser.add_argument("--init", default="pca", help="pca or random")
    parser.add_argument("--early-stopping", action="store_true", help="hold rows out and restore the best weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default="", help='further ones of AutoencoderTransformer: "key=value, ..."')
    parser.add_argument("--skip", default="", help="parts to leave out, comma-separated: 30, logistic, 2")
    parser.add_argument("--verbose", action="store_true", help="print the loss of each epoch")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    args.skip = args.skip.split(",")
    return args


def _rate(text: str) -> float | str:
    return text if text == "auto" else float(text)


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    run = run_of(args)
    rows = measure(args, run)
    header = ("model", "network", "train error", "test error", "reference", "5-NN", "5-NN on PCA", "epochs", "seconds")
    keys = ("name", "network", "train", "test", "reference", "knn", "knn_pca", "epochs", "seconds")
    for row in rows:
        row["reference"] = None if row["reference"] is None else f"{row['reference']:.2f}"
        row["knn_pca"] = None if row["knn_pca"] is None else f"{row['knn_pca']:.4f}"
    table = markdown_table(header, [[row[key] for key in keys] for row in rows])
    note = "Squared error an image, pixels from 0 to 1. References: Hinton and Salakhutdinov, Science 313, 2006."
    sections = [("", f"{note}\n\n{table}"), ("Gates", markdown_table(GATE_HEADER, gate_rows(gates(rows, run["kind"]))))]
    name = "mnist_reconstruction" + ("_full" if args.full else "")
    write = not (args.no_write or args.quick)
    report(name, f"MNIST reconstruction, {run['kind']} run", sections, clock, write=write)


if __name__ == "__main__":
    main()
