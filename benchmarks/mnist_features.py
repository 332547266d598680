"""Codes of MNIST as features: k-sparse ones under a logistic regression, and contracted ones with few labels.

    python -m benchmarks.mnist_features           # cheap: at most 10 minutes on 2 cores
    python -m benchmarks.mnist_features --full    # at most 60 minutes on 2 cores
    python -m benchmarks.mnist_features --quick   # few rows and epochs, to see that it runs

References: Makhzani and Frey, "k-sparse autoencoders", ICLR 2014: error of a logistic regression on a frozen
code of 1000 units, in per cent. Rifai et al., "Contractive auto-encoders", ICML 2011: mean Frobenius norm of
the Jacobian, and the error of a network that starts at the encoder and is trained on all labels.

The share of units that is kept and the strength of the classifier are chosen on 10,000 of the 60,000 training
rows, whose labels then join the training; the test rows are used once.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks._common import GATE_HEADER, Clock, gate_rows, load_mnist, markdown_table, parse_parameters, report
from skae import AdamW, Contraction, ContractiveAE, DenseNetwork, SparseAE

N_UNITS = 1000
SPARSE_REFERENCES = {
    "raw pixels": 7.20,
    "RBM": 1.81,
    "dropout AE": 1.80,
    "denoising AE": 1.95,
    "k = 40": 1.54,
    "k = 25": 1.35,
    "k = 10": 2.10,
}
# Error of the fine-tuned network in per cent, and the mean norm of the Jacobian.
CONTRACTIVE_REFERENCES = {"AE": (1.78, 17.5e-4), "CAE": (1.14, 0.73e-4)}
# Inverse strengths of the ridge of the classifiers, for features of unit variance on average.
STRENGTHS = (1e-2, 3e-2)
STRENGTHS_RAW = (1e-1, 1.0)
STRENGTHS_FEW = (1e-3, 1e-2, 1e-1, 1.0)

RUNS = {
    "quick": {"epochs": 1, "alphas": (3.0,), "epochs_contractive": 1, "draws": 2},
    "cheap": {"epochs": 20, "alphas": (3.0, 6.0), "epochs_contractive": 15, "draws": 10},
    "full": {"epochs": 60, "alphas": (3.0, 6.0, 10.0), "epochs_contractive": 30, "draws": 20},
}


class Digits:
    """The images and digits in three parts: to train, to choose, to test."""

    def __init__(self, n_rows: int | None, seed: int):
        X, y, self.X_test, self.y_test = load_mnist()
        order = np.random.default_rng(seed).permutation(len(X))[:n_rows]
        # The rows to choose by come last.
        self.X, self.y = X[order], y[order]
        self.n_train = len(order) * 5 // 6

    def error(self, code: np.ndarray, code_test: np.ndarray, strengths: Iterable[float]) -> tuple[float, float, float]:
        """Error of a logistic regression: on the rows to choose by, its strength there, and on the test rows."""
        spread = code.std()
        code, code_test, n = code / spread, code_test / spread, self.n_train
        found = [
            (wrong(self._classifier(strength, code[:n], self.y[:n]), code[n:], self.y[n:]), strength)
            for strength in strengths
        ]
        chosen, strength = min(found)
        return chosen, strength, wrong(self._classifier(strength, code, self.y), code_test, self.y_test)

    def error_of_few(self, code: np.ndarray, code_test: np.ndarray, n_labels: int, n_draws: int) -> dict:
        """Mean and standard error, over draws of the labelled rows, of the error on the test rows."""
        unit, n = code.std(), self.n_train
        code, code_test = code / unit, code_test / unit
        random = np.random.default_rng(0)
        draws = [random.choice(n, n_labels, replace=False) for _ in range(n_draws)]
        by_strength = {}
        for strength in STRENGTHS_FEW:
            models = [self._classifier(strength, code[rows], self.y[rows]) for rows in draws]
            by_strength[np.mean([wrong(model, code[n:], self.y[n:]) for model in models])] = strength, models
        chosen = min(by_strength)
        strength, models = by_strength[chosen]
        errors = np.array([wrong(model, code_test, self.y_test) for model in models])
        spread = errors.std(ddof=1) / n_draws**0.5
        return {"chosen": chosen, "error": errors.mean(), "standard error": spread, "C": strength}

    @staticmethod
    def _classifier(strength: float, code: np.ndarray, y: np.ndarray) -> LogisticRegression:
        with warnings.catch_warnings():
            # The weakest ridge ends at the limit, and is seldom chosen.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(code, y)


def wrong(model: LogisticRegression, code: np.ndarray, y: np.ndarray) -> float:
    """Error in per cent."""
    return 100.0 * float(np.mean(model.predict(code) != y))


def said(row: dict) -> dict:
    """The row, after it was printed."""
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


# k-sparse ------------------------------------------------------------------------------------


def raw_row(digits: Digits) -> dict:
    """Logistic regression on pixels."""
    clock = Clock()
    chosen, strength, test = digits.error(digits.X, digits.X_test, STRENGTHS_RAW)
    return said({"features": "raw pixels", "chosen": chosen, "test": test, "C": strength, "seconds": clock.seconds()})


def sparse_row(digits: Digits, k: int, run: dict, args: argparse.Namespace) -> dict:
    """Logistic regression on the k-sparse code, which no label has changed."""
    clock = Clock()
    parameters = {
        "k": k,
        "network": DenseNetwork((), tied=True),
        "annealing": 0.0,
        "max_iter": run["epochs"],
        "batch_size": 256,
        "learning_rate": args.learning_rate,
        "optimizer": AdamW(precision=args.precision),
        "early_stopping": False,
        "random_state": args.seed,
        "verbose": args.verbose,
    }
    model = SparseAE(N_UNITS, **(parameters | parse_parameters(args.sparse))).fit(digits.X)
    fitted, best = clock.seconds(), None
    for alpha in run["alphas"]:
        model.model_.posterior.alpha = alpha
        made = digits.error(model.transform(digits.X), model.transform(digits.X_test), STRENGTHS)
        print(f"k = {k}, alpha {alpha:g}: {made[0]:.2f} on the rows to choose by, C {made[1]:g}", flush=True)
        if best is None or made[0] < best["chosen"]:
            best = {"alpha": alpha, "chosen": made[0], "C": made[1], "test": made[2]}
    row = {"features": f"k = {k}", **best, "dead units": model.dead_units_, "epochs": model.n_iter_}
    return said(row | {"fit": fitted, "seconds": clock.seconds()})


# Contractive ---------------------------------------------------------------------------------


def contractive_row(digits: Digits, name: str, contraction: float, run: dict, args: argparse.Namespace) -> dict:
    """Jacobian and error with few labels of a logistic code; a contraction of zero is a plain autoencoder."""
    clock = Clock()
    parameters = {
        "contraction": contraction,
        "estimator": "exact",
        "network": DenseNetwork((), tied=True),
        "max_iter": run["epochs_contractive"],
        "batch_size": 128,
        "learning_rate": args.learning_rate,
        "optimizer": AdamW(precision=args.precision),
        "early_stopping": False,
        "random_state": args.seed,
        "verbose": args.verbose,
    }
    model = ContractiveAE(N_UNITS, **(parameters | parse_parameters(args.contractive))).fit(digits.X)
    code, code_test = model.transform(digits.X), model.transform(digits.X_test)
    norms = model._scores(digits.X_test, lambda _, step: Contraction(estimator="exact").squared_norm(step)) ** 0.5
    spread = float(code_test.var(0).sum() ** 0.5)
    few = digits.error_of_few(code, code_test, min(1000, digits.n_train), run["draws"])
    row = {"model": name, "contraction": contraction, "norm": norms.mean(), "relative": norms.mean() / spread}
    return said(row | few | {"seconds": clock.seconds()})


# The command ---------------------------------------------------------------------------------


def sparse_section(rows: list[dict]) -> str:
    """The table of the k-sparse codes beside the paper's figures."""
    keys = ("alpha", "C", "chosen", "test", "dead units", "epochs", "fit", "seconds")
    body = [[row["features"], *(row.get(key) for key in keys), SPARSE_REFERENCES.get(row["features"])] for row in rows]
    others = {name: error for name, error in SPARSE_REFERENCES.items() if name not in {row["features"] for row in rows}}
    body += [[name, *[None] * len(keys), error] for name, error in others.items()]
    for line in body:
        line[-1] = f"{line[-1]:.2f}"
    header = ("features", "alpha", "C", "error, chosen by", "test error", "dead units", "epochs", "fit s", "all s")
    note = (
        f"Error in per cent of a logistic regression on a frozen code of {N_UNITS} units. References: Makhzani and "
        "Frey, ICLR 2014."
    )
    return f"{note}\n\n{markdown_table((*header, 'reference'), body)}"


def contractive_section(rows: list[dict], run: dict) -> str:
    """The table of the contracted codes beside the paper's figures."""
    header = (
        "model",
        "contraction",
        "mean ‖J‖",
        "of unit variance",
        "error, chosen by",
        "test error",
        "standard error",
        "C",
        "seconds",
    )
    keys = ("model", "contraction", "norm", "relative", "chosen", "error", "standard error", "C", "seconds")
    body = []
    for row in rows:
        error, norm = CONTRACTIVE_REFERENCES[row["model"]]
        body.append([*(row[key] for key in keys), f"{error:.2f}", f"{norm:.3g}"])
    note = (
        f"{N_UNITS} logistic units, tied weights, no hidden layer; ‖J‖ on the test rows, of the code and of the code "
        f"scaled to unit variance. Error in per cent of a logistic regression on 1000 labels, mean of {run['draws']} "
        "draws. References: Rifai et al., ICML 2011, error after training of all weights on all labels."
    )
    plain, cae = rows
    ratios = (plain["norm"] / cae["norm"], plain["relative"] / cae["relative"])
    note += "\n\n‖J‖ of the AE over the CAE's: {:.1f}; of codes of unit variance: {:.1f}.".format(*ratios)
    return f"{note}\n\n{markdown_table((*header, 'reference error', 'reference ‖J‖'), body)}"


def gates(sparse: list[dict], contractive: list[dict], kind: str) -> list[tuple[str, float, str, float]]:
    """What the run must hold."""
    bound = 1.5 if kind == "full" else 2.2
    made = [(f"error, {row['features']}", row["test"], "<=", bound) for row in sparse if row["features"] == "k = 25"]
    if contractive:
        plain, cae = contractive
        made += [
            ("‖J‖ of the AE over the CAE's", plain["norm"] / cae["norm"], ">=", 10.0),
            ("error with 1000 labels, AE less CAE", plain["error"] - cae["error"], ">", 0.0),
        ]
    return made


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cheap", action="store_true", help="at most 10 minutes on 2 cores (the default)")
    kind.add_argument("--full", action="store_true", help="at most 60 minutes on 2 cores")
    kind.add_argument("--quick", action="store_true", help="6,000 rows and an epoch; no figure to quote")
    parser.add_argument("--k", default="25", help="units that are kept, comma-separated")
    parser.add_argument("--epochs", type=int, help="of the k-sparse codes")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of the autoencoders")
    parser.add_argument("--precision", default="bfloat16", help="float32 or bfloat16, of the autoencoders")
    parser.add_argument("--contraction", type=float, default=0.15)
    parser.add_argument("--sparse", default="", help='further parameters of SparseAE: "key=value, ..."')
    parser.add_argument("--contractive", default="", help='further parameters of ContractiveAE: "key=value, ..."')
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", default="", help="parts to leave out, comma-separated: raw, sparse, contractive")
    parser.add_argument("--verbose", action="store_true", help="print the loss of each epoch")
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    kind = "full" if args.full else "quick" if args.quick else "cheap"
    run = RUNS[kind] | ({} if args.epochs is None else {"epochs": args.epochs})
    digits = Digits(6000 if args.quick else None, args.seed)
    skip = args.skip.split(",")
    sparse = [] if "raw" in skip else [raw_row(digits)]
    if "sparse" not in skip:
        sparse += [sparse_row(digits, int(k), run, args) for k in args.k.split(",")]
    contractive = []
    if "contractive" not in skip:
        models = (("AE", 0.0), ("CAE", args.contraction))
        contractive = [contractive_row(digits, name, weight, run, args) for name, weight in models]
    sections = [("k-sparse codes", sparse_section(sparse))] if sparse else []
    if contractive:
        sections.append(("Contracted codes", contractive_section(contractive, run)))
    sections.append(("Gates", markdown_table(GATE_HEADER, gate_rows(gates(sparse, contractive, kind)))))
    name = "mnist_features" + ("_full" if args.full else "")
    write = not (args.no_write or args.quick)
    # Where others use the machine, this is what the command cost.
    sections.insert(0, ("", f"{time.process_time():.0f} seconds of processor time."))
    report(name, f"MNIST features, {kind} run", sections, clock, write=write)


if __name__ == "__main__":
    main()
