"""Log-likelihood of MNIST digits under a VAE and under the importance-weighted bound.

    python -m benchmarks.mnist_likelihood           # cheap: at most 10 minutes on 2 cores
    python -m benchmarks.mnist_likelihood --full    # for a GPU
    python -m benchmarks.mnist_likelihood --quick   # few rows and epochs, to see that it runs

Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016: two layers of 200
tanh units (the cheap run has 500 gelu units, which learn in fewer epochs), 50 components, pixels
drawn anew as zero or one each epoch, negative log-likelihood of the 10,000 test images, each drawn
once, estimated by 5000 importance samples. There: 3280 epochs.

The estimate: the bound with a few samples on all test images, minus what 5000 samples add to it on
a random part of them; the standard error given is that of the second step.
"""

from __future__ import annotations

import argparse
import copy

import numpy as np

from benchmarks._common import GATE_HEADER, Clock, gate_rows, load_mnist, markdown_table, parse_parameters, report
from skae import VAE, AdamW

REFERENCE = {"VAE": "86.76", "VAE, importance-weighted (50)": "84.78", "VAE, importance-weighted (5)": "85.54"}
RUNS = {
    "quick": {"epochs": 3, "more": 1, "test_rows": 50, "batch_size": 100, "n_train": 2000},
    "cheap": {"epochs": 36, "more": 5, "test_rows": 500, "batch_size": 200, "n_train": None},
    "full": {"epochs": 1500, "more": 400, "test_rows": 10_000, "batch_size": 100, "n_train": None},
}
# The learning rate falls in stages: share of the epochs, and factor.
STAGES = ((0.4, 1.0), (0.25, 0.5), (0.15, 0.25), (0.1, 0.1), (0.1, 0.03))
CURVE = (1, 10, 100, 1000)
FEW = 16  # samples for the test images that do not get them all


class Digits:
    """Training images as probabilities, and test images drawn once."""

    def __init__(self, n_train: int | None, seed: int):
        X, _, X_test, _ = load_mnist()
        self.rng = np.random.default_rng(seed)
        self.X = X[:n_train]
        self.X_test = self.draw(X_test, np.random.default_rng(1234))
        # Rows in random order, so that the first ones are a random part.
        self.X_test = self.X_test[np.random.default_rng(5678).permutation(len(self.X_test))]

    @staticmethod
    def draw(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each pixel as a zero or a one, by its probability."""
        return (rng.random(X.shape, dtype=np.float32) < X).astype(np.float32)

    def epoch(self) -> np.ndarray:
        """The training images drawn anew."""
        return self.draw(self.X, self.rng)


def train(model: VAE, digits: Digits, n_epochs: int, learning_rate: float, name: str) -> float:
    """Train for some epochs of newly drawn pixels, with a falling learning rate; returns the seconds.

    `partial_fit` keeps the optimizer's state. A stage begins with a `fit` of one epoch, which starts
    an optimizer with a new learning rate from the model so far.
    """
    clock = Clock()
    counts = [round(share * n_epochs) for share, _ in STAGES]
    counts[0] += n_epochs - sum(counts)
    model.set_params(warm_start=True, max_iter=1)
    for count, (_, factor) in zip(counts, STAGES, strict=True):
        model.set_params(learning_rate=factor * learning_rate)
        for index in range(count):
            rows = digits.epoch()
            model.fit(rows) if index == 0 else model.partial_fit(rows)
        if count:
            print(f"{name}: loss {model.loss_curve_[-1]:.2f} after {clock.seconds():.0f} s", flush=True)
    return clock.seconds()


def check_continues(model: VAE, k: int) -> None:
    """That a warm start takes a new number of importance samples, before time is spent on it."""
    rows = np.tile(np.eye(10, dtype=np.float32), (10, 1))
    small = copy.deepcopy(model).set_params(n_components=2, max_iter=1, warm_start=True).fit(rows)
    small.set_params(n_importance_samples=k).fit(rows)
    if k > 1 and "negative_importance_weighted_bound" not in small.loss_terms_:
        raise SystemExit("A warm start does not take the new n_importance_samples: the comparison would be void.")


def negative_log_likelihood(model: VAE, X: np.ndarray, n_rows: int, n_samples: int) -> tuple[float, float]:
    """The estimate of the mean over X, and its standard error from having seen `n_rows` with all samples."""
    if n_rows >= len(X):
        return float(-model.score_samples(X, n_samples=n_samples).mean()), 0.0
    few = min(FEW, n_samples)
    rough = -model.score_samples(X, n_samples=few)
    gain = -model.score_samples(X[:n_rows], n_samples=n_samples) - rough[:n_rows]
    return float(rough.mean() + gain.mean()), float(gain.std() / np.sqrt(n_rows))


def measure(model: VAE, digits: Digits, name: str, epochs: int, seconds: float, run: dict) -> dict:
    """A row of the table: the estimate, the bound by number of samples, and what the code uses."""
    clock = Clock()
    value, error = negative_log_likelihood(model, digits.X_test, run["test_rows"], run["n_samples"])
    part = digits.X_test[: run["test_rows"]][:1000]
    curve = [float(-model.score_samples(part, n_samples=k).mean()) for k in CURVE if k <= run["n_samples"]]
    made = {
        "name": name,
        "nll": value,
        "error": error,
        "reference": REFERENCE.get(name),
        "curve": curve,
        "active": model.active_units_,
        "epochs": epochs,
        "seconds": seconds,
        "estimate_seconds": clock.seconds(),
    }
    print(made, flush=True)
    return made


def start(args: argparse.Namespace, run: dict) -> VAE:
    """The VAE before training."""
    parameters = {
        "hidden_layer_sizes": (200, 200) if run["kind"] == "full" else (500, 500),
        "activation": "tanh" if run["kind"] == "full" else "gelu",
        "likelihood": "bernoulli",
        "init": args.init,
        "batch_size": run["batch_size"],
        "optimizer": AdamW(schedule="constant", precision=args.precision),
        "early_stopping": False,
        "device": args.device,
        "random_state": args.seed,
    }
    return VAE(50, **(parameters | parse_parameters(args.parameters)))


def experiment(args: argparse.Namespace, run: dict) -> list[dict]:
    """The VAE; from it, the same for some more epochs, and the importance-weighted bound for as many."""
    digits = Digits(run["n_train"], args.seed)
    model = start(args, run)
    check_continues(model, args.importance_samples)
    seconds = train(model, digits, run["epochs"], args.learning_rate, "VAE")
    rows = [measure(model, digits, "VAE", run["epochs"], seconds, run)]
    k = args.importance_samples
    for name, n_samples in (("VAE, as many epochs more", 1), (f"VAE, importance-weighted ({k})", k)):
        further = copy.deepcopy(model).set_params(n_importance_samples=n_samples)
        # Neither continues the other's optimizer; a deep copy is made as pickles are, without one.
        more = train(further, digits, run["more"], args.rate_more * args.learning_rate, name)
        rows.append(measure(further, digits, name, run["epochs"] + run["more"], seconds + more, run))
    return rows


def gates(rows: list[dict], kind: str) -> list[tuple[str, float, str, float]]:
    """What the run must hold."""
    vae, further, weighted = (row["nll"] for row in rows)
    made = [
        ("VAE, nats", vae, "<=", 90.0),
        ("VAE minus importance-weighted, nats", vae - weighted, ">=", 1.0),
        ("VAE after as many epochs more, minus importance-weighted", further - weighted, ">=", 1.0),
        (
            "least gain of the bound from ten times the samples",
            min(float(-np.diff(row["curve"]).max()) for row in rows),
            ">",
            0.0,
        ),
    ]
    if kind == "full":
        made.append(("importance-weighted, nats", weighted, "<=", 84.8))
    return made


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cheap", action="store_true", help="at most 10 minutes on 2 cores (the default)")
    kind.add_argument("--full", action="store_true", help="hours on 2 cores; for a GPU")
    kind.add_argument("--quick", action="store_true", help="few rows and epochs; no figure to quote")
    parser.add_argument("--epochs", type=int, help="of the VAE")
    parser.add_argument("--more", type=int, help="epochs with the importance-weighted bound, from the VAE on")
    parser.add_argument("--importance-samples", type=int, default=50, help="while training")
    parser.add_argument("--n-samples", type=int, default=5000, help="of the estimate")
    parser.add_argument("--test-rows", type=int, help="test images that get all samples of the estimate")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--rate-more", type=float, default=0.3, help="factor of the learning rate from the VAE on")
    parser.add_argument("--init", default="random", help="pca or random")
    parser.add_argument("--precision", default="bfloat16", help="float32 or bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default="", help='further ones of VAE: "key=value, ..."')
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    kind = "full" if args.full else "quick" if args.quick else "cheap"
    run = {"kind": kind} | RUNS[kind]
    run["n_samples"] = 200 if args.quick else args.n_samples
    for name in ("epochs", "more", "test_rows", "batch_size"):
        if getattr(args, name) is not None:
            run[name] = getattr(args, name)
    rows = experiment(args, run)
    curve = [k for k in CURVE if k <= run["n_samples"]]
    header = ["model", "NLL", "± (s.e.)", "reference", "active units", *(f"bound, K = {k}" for k in curve)]
    table = markdown_table(
        [*header, "epochs", "seconds"],
        [
            [row["name"], f"{row['nll']:.2f}", f"{row['error']:.2f}", row["reference"], row["active"]]
            + [f"{value:.2f}" for value in row["curve"]]
            + [row["epochs"], round(row["seconds"])]
            for row in rows
        ],
    )
    note = (
        f"Nats an image, {run['n_samples']} importance samples on {run['test_rows']} of 10,000 test images and {FEW} "
        f"on the rest; lower is better. Bound by number of samples on {min(1000, run['test_rows'])} test images. "
        "References: Burda et al., ICLR 2016, after 3280 epochs."
    )
    sections = [("", f"{note}\n\n{table}"), ("Gates", markdown_table(GATE_HEADER, gate_rows(gates(rows, kind))))]
    name = "mnist_likelihood" + ("_full" if args.full else "")
    write = not (args.no_write or args.quick)
    report(name, f"MNIST likelihood, {kind} run", sections, clock, write=write)


if __name__ == "__main__":
    main()
