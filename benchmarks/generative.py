"""Rows drawn from adversarial autoencoders, generative adversarial networks and VAEs.

    python -m benchmarks.generative                   # all parts, each at most 10 minutes on 2 cores
    python -m benchmarks.generative --only aae ring   # some; the page keeps the figures of the others
    python -m benchmarks.generative --quick           # few rows and epochs, to see that it runs

aae, vae, gan: log-likelihood of the MNIST test images under a Parzen window on 10,000 drawn images,
pixels from 0 to 1, a normal kernel whose width is chosen on training images that were held out
(Goodfellow et al., "Generative adversarial nets", NIPS 2014; Makhzani et al., "Adversarial
autoencoders", 2015). The estimate prefers smooth images: drawn ones may beat real ones.

ring: 8 normal distributions of standard deviation 0.02 on a circle of radius 2. Of 2500 draws, those
within 3 standard deviations of the nearest centre are of high quality, and a mode is covered by one
such draw (Srivastava et al., "VEEGAN", NIPS 2017), or here, by 20.

vamp: a VAE with the VampPrior (Tomczak and Welling, AISTATS 2018) beside one with the normal prior,
the same network and epochs, log-likelihood as in `benchmarks.mnist_likelihood`.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from benchmarks._common import GATE_HEADER, ROOT, Clock, gate_rows, load_mnist, markdown_table, parse_parameters, report
from benchmarks.mnist_likelihood import Digits, negative_log_likelihood, train
from skae import GAN, VAE, AdamW, AdversarialAE, VampPrior

STORE = ROOT / "docs" / "benchmarks" / "generative.json"
PARZEN_REFERENCE = {"AdversarialAE": "340", "GAN": "225", "VAE": "325"}
FURTHER_REFERENCE = "deep belief network 138, generative stochastic network 214"
WIDTHS = np.geomspace(0.1, 0.4, 15)
N_DRAWN, N_WIDTH = 10_000, 500
PARTS = ("aae", "vae", "gan", "ring", "vamp")
EPOCHS = {"aae": 10, "vae": 8, "gan": 10, "ring": 60, "vamp": 8}
RING_MODES, RING_RADIUS, RING_SCALE = 8, 2.0, 0.02


def square_distances(X: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Squared distances, of shape (len(X), len(drawn)), in double precision."""
    square = (X**2).sum(1)[:, None] + (drawn**2).sum(1) - 2 * X @ drawn.T
    return np.maximum(square, 0, out=square)


def log_window(square: np.ndarray, width: float, n_features: int) -> np.ndarray:
    """Log-density of each row under normal kernels on the draws, log-mean-exp of −d²/2σ² and the constant."""
    constant = 0.5 * n_features * np.log(2 * np.pi * width**2) + np.log(square.shape[1])
    nearest = square.min(axis=1, keepdims=True)
    shares = np.exp((nearest - square) / (2 * width**2)).sum(1)
    return np.log(shares) - nearest[:, 0] / (2 * width**2) - constant


def parzen(drawn: np.ndarray, held: np.ndarray, X: np.ndarray, chunk: int = 250) -> tuple[float, float, float]:
    """Mean log-density of X, its standard error, and the kernel's width, which the held-out rows chose."""
    drawn, held = drawn.astype(np.float64), held.astype(np.float64)
    square = square_distances(held, drawn)
    width = WIDTHS[np.argmax([log_window(square, each, X.shape[1]).mean() for each in WIDTHS])]
    del square
    parts = [X[start : start + chunk].astype(np.float64) for start in range(0, len(X), chunk)]
    logs = np.concatenate([log_window(square_distances(part, drawn), width, X.shape[1]) for part in parts])
    return float(logs.mean()), float(logs.std() / np.sqrt(len(logs))), float(width)


def image_model(part: str, args: argparse.Namespace, epochs: int):
    """The model of a part that draws images."""
    shared = {
        "hidden_layer_sizes": (500, 500),
        "likelihood": "bernoulli",
        "max_iter": epochs,
        "device": args.device,
        "random_state": args.seed,
    }
    # Chosen by the Parzen window on held-out training images, after 5 epochs of 10, 8 and 6 components.
    coder = {"n_components": 6, "batch_size": 200, "optimizer": AdamW(precision=args.precision)}
    adversary = AdamW(betas=(0.5, 0.9), precision=args.precision)
    made = {
        "aae": (AdversarialAE, coder | {"weight": 40.0}),
        "vae": (VAE, coder | {"early_stopping": False}),
        "gan": (
            GAN,
            {
                "n_components": 10,
                "hidden_layer_sizes": (512, 512),
                "critic_steps": 2,
                "batch_size": 128,
                "optimizer": adversary,
            },
        ),
    }
    kind, own = made[part]
    return kind(**(shared | own | parse_parameters(args.parameters)))


def draw_images(part: str, args: argparse.Namespace, epochs: int, data: tuple) -> list[dict]:
    """Fit, draw, and estimate; a row of the table."""
    X, held, X_test = data
    clock = Clock()
    model = image_model(part, args, epochs).fit(X)
    seconds = clock.seconds()
    options = {"return_mean": True} if part == "vae" else {}
    drawn = model.sample(N_DRAWN, random_state=args.seed, **options)
    return [parzen_row(type(model).__name__, drawn, held, X_test, epochs=epochs, seconds=seconds)]


def parzen_row(name: str, drawn: np.ndarray, held: np.ndarray, X_test: np.ndarray, **further) -> dict:
    """A row of the table."""
    value, error, width = parzen(drawn, held, X_test)
    made = {"name": name, "parzen": value, "error": error, "width": width, **further}
    print(made, flush=True)
    return made


def images(n_train: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training images, held-out training images for the kernel's width, and test images."""
    X, _, X_test, _ = load_mnist()
    return X[: n_train or 50_000], X[50_000 : 50_000 + N_WIDTH], X_test


def ring(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the ring, and the centres."""
    angle = 2 * np.pi * np.arange(RING_MODES) / RING_MODES
    centres = RING_RADIUS * np.column_stack([np.cos(angle), np.sin(angle)])
    return centres[rng.integers(RING_MODES, size=n)] + RING_SCALE * rng.standard_normal((n, 2)), centres


def covered(drawn: np.ndarray, centres: np.ndarray, scale: float = RING_SCALE) -> tuple[np.ndarray, float]:
    """Draws of high quality at each centre, and their share."""
    distance = np.sqrt(square_distances(drawn, centres))
    good = distance.min(1) <= 3 * scale
    return np.bincount(distance.argmin(1)[good], minlength=len(centres)), float(good.mean())


def draw_ring(args: argparse.Namespace, epochs: int) -> list[dict]:
    """Both losses on the ring."""
    X, centres = ring(1000 if args.quick else 10_000, np.random.default_rng(args.seed))
    rows = []
    for loss in ("wasserstein", "non_saturating", "minimax"):
        clock = Clock()
        options = {"hidden_layer_sizes": (128, 128), "max_iter": epochs, "batch_size": 256, "random_state": args.seed}
        gan = GAN(2, loss=loss, **(options | parse_parameters(args.parameters))).fit(X)
        counts, share = covered(gan.sample(2500, random_state=1), centres)
        rows.append(
            {
                "name": f'GAN(loss="{loss}")',
                "any": int((counts > 0).sum()),
                "twenty": int((counts >= 20).sum()),
                "share": share,
                "epochs": epochs,
                "seconds": clock.seconds(),
            }
        )
        print(rows[-1], flush=True)
    return rows


def compare_priors(args: argparse.Namespace, epochs: int) -> list[dict]:
    """A VAE with each prior."""
    rows = []
    for name, prior in (("normal", "normal"), ("vamp", VampPrior(500))):
        digits = Digits(2000 if args.quick else None, args.seed)
        options = {
            "hidden_layer_sizes": (300, 300),
            "likelihood": "bernoulli",
            "init": "random",
            "batch_size": 200,
            "optimizer": AdamW(schedule="constant", precision=args.precision),
            "early_stopping": False,
            "device": args.device,
            "random_state": args.seed,
            "prior": prior,
        }
        model = VAE(40, **(options | parse_parameters(args.parameters)))
        seconds = train(model, digits, epochs, 2e-3, name)
        n_rows, n_samples = (50, 100) if args.quick else (500, 1000)
        value, error = negative_log_likelihood(model, digits.X_test, n_rows, n_samples)
        rows.append(
            {
                "name": f'VAE(prior="{name}")',
                "nll": value,
                "error": error,
                "active": model.active_units_,
                "epochs": epochs,
                "seconds": seconds,
            }
        )
        print(rows[-1], flush=True)
    return rows


def parzen_section(stored: dict) -> str:
    """The table of drawn images."""
    rows = [row for part in ("real", "aae", "vae", "gan") for row in stored.get(part, [])]
    body = [
        [row["name"], f"{row['parzen']:.1f}", f"{row['error']:.1f}", PARZEN_REFERENCE.get(row["name"])]
        + [f"{row['width']:.3f}", row.get("epochs"), round(row["seconds"]) if "seconds" in row else None]
        for row in rows
    ]
    header = ("model", "nats", "± (s.e.)", "reference", "kernel's width", "epochs", "seconds")
    note = (
        f"Mean log-density of the 10,000 test images under a Parzen window on {N_DRAWN} draws; higher is better. "
        f"Trained on the first 50,000 training images; {N_WIDTH} of the last chose the kernel's width. Of the VAE, "
        "means given codes drawn from the prior. References: Goodfellow et al. 2014, Makhzani et al. 2015; there also "
        f"{FURTHER_REFERENCE}."
    )
    return f"{note}\n\n{markdown_table(header, body)}"


def ring_section(stored: dict) -> str:
    """The table of the ring."""
    body = [
        [row["name"], row["any"], row["twenty"], f"{row['share']:.3f}", row["epochs"], round(row["seconds"])]
        for row in stored.get("ring", [])
    ]
    header = ("model", "modes with a good draw", "with 20 or more", "share of good draws", "epochs", "seconds")
    note = f"{RING_MODES} modes, 2500 draws; a good draw is within 3 standard deviations of the nearest centre."
    return f"{note}\n\n{markdown_table(header, body)}"


def prior_section(stored: dict) -> str:
    """The table of the priors."""
    body = [
        [row["name"], f"{row['nll']:.2f}", f"{row['error']:.2f}", row["active"], row["epochs"], round(row["seconds"])]
        for row in stored.get("vamp", [])
    ]
    header = ("model", "NLL", "± (s.e.)", "active units", "epochs", "seconds")
    note = (
        "Nats an image, 300-300 hidden units and 40 components, pixels drawn anew as zero or one each epoch; 1000 "
        "importance samples on 500 of 10,000 test images and 16 on the rest; lower is better."
    )
    return f"{note}\n\n{markdown_table(header, body)}"


def gates(stored: dict) -> list[tuple[str, float, str, float]]:
    """What the stored figures must hold."""
    made = []
    for part, bound in (("aae", 300.0), ("gan", 225.0)):
        made += [(f"Parzen, {row['name']}, nats", row["parzen"], ">=", bound) for row in stored.get(part, [])]
    for row in stored.get("ring", [])[:1]:
        made.append(("ring, modes with 20 good draws, wasserstein", row["twenty"], ">=", RING_MODES))
    if len(stored.get("vamp", [])) == 2:
        normal, vamp = (row["nll"] for row in stored["vamp"])
        made.append(("normal minus VampPrior, nats", normal - vamp, ">=", 1.0))
    return made


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--quick", action="store_true", help="few rows and epochs; no figure to quote")
    parser.add_argument("--epochs", type=int, help="of each part")
    parser.add_argument("--precision", default="bfloat16", help="float32 or bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default="", help='further ones of the model: "key=value, ..."')
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args, clock = arguments(), Clock()
    stored = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() and not args.quick else {}
    data = None
    for part in args.only:
        epochs = args.epochs or (2 if args.quick else EPOCHS[part])
        if part == "ring":
            stored[part] = draw_ring(args, epochs)
        elif part == "vamp":
            stored[part] = compare_priors(args, max(epochs, 5))
        else:
            data = data or images(2000 if args.quick else None)
            if "real" not in stored:
                stored["real"] = [parzen_row("10,000 training images", data[0][:N_DRAWN], *data[1:])]
            stored[part] = draw_images(part, args, epochs, data)
    write = not (args.no_write or args.quick)
    if write:
        STORE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    sections = [
        ("MNIST, Parzen window", parzen_section(stored)),
        ("Eight modes on a ring", ring_section(stored)),
        ("MNIST, prior of a VAE", prior_section(stored)),
        ("Gates", markdown_table(GATE_HEADER, gate_rows(gates(stored)))),
    ]
    report("generative", "Drawing rows", sections, clock, write=write)


if __name__ == "__main__":
    main()
