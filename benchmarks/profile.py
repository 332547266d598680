"""Where the time goes: a training step by operation, a fit by stage, and a transform of one row and of many.

    python -m benchmarks.profile             # about a minute
    python -m benchmarks.profile --quick     # fewer repeats

Steps and rows are timed on one thread by the processor's time of this process, the least of several rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from benchmarks._common import Clock, markdown_table, report
from benchmarks._speed_common import table_of
from skae import VAE, AdamW, AutoencoderTransformer
from skae.autoencoders import _estimator, _fitting
from skae.training import batches, early_stopping, players, trainer
from skae.training.batches import Batch
from skae.training.dense_gradient import DenseGradient

SMALL = (30, (64, 32, 8))
# Microseconds of a step of the same networks at commit ae2744c, measured on the machine of the stored page.
BEFORE = {"plain": {32: 165, 256: 352}, "default": {32: 349, 256: 560}, "VAE": {32: 739, 256: 1006}}
KINDS = {"addmm": "products forwards", "mm": "products backwards", "mv": "sums for the biases"}
BENT, OTHER = "activations, both ways", "likelihood, penalty, scaling"


def kind_of(call: Callable) -> str:
    """What a recorded call is for, by its name."""
    name = getattr(call.func, "__name__", "")
    if any(part in name for part in ("relu", "silu", "gelu", "threshold")):
        return BENT
    return KINDS.get(name, OTHER)


def least_microseconds(call: Callable, n_repeats: int, n_rounds: int = 9) -> float:
    """Processor time of a call, the least mean of several rounds."""
    best = float("inf")
    for _ in range(n_rounds):
        start = time.process_time()
        for _ in range(n_repeats):
            call()
        best = min(best, (time.process_time() - start) / n_repeats)
    return 1e6 * best


def small_estimators() -> dict[str, AutoencoderTransformer | VAE]:
    """The 30-64-32-8 network as the peers train it, with the defaults, and as a VAE."""
    n_components, hidden = SMALL[1][-1], SMALL[1][:-1]
    options = {"hidden_layer_sizes": hidden, "max_iter": 1, "early_stopping": False, "device": "cpu", "random_state": 0}
    return {
        "plain": AutoencoderTransformer(n_components, activation="relu", init="random", penalties=[], **options),
        "default": AutoencoderTransformer(n_components, **options),
        "VAE": VAE(n_components, **options),
    }


def step_section(n_repeats: int) -> tuple[str, str]:
    """A training step by kind of operation."""
    rows = []
    for name, estimator in small_estimators().items():
        for batch_size in (32, 256):
            parts = step_parts(estimator, batch_size, n_repeats)
            before = BEFORE[name][batch_size]
            rows.append([name, batch_size, *(f"{value:.0f}" for value in parts.values()), before])
    header = ("30-64-32-8", "batch", *parts, "first version, whole")
    note = (
        "Microseconds. Plain: relu, no linear path, as the other libraries train it. Each operation is timed alone, "
        "again and again on its own result, which can wear numbers down to ones that the processor is slow with. 'Rest "
        "of the step' is what the whole step takes beyond their sum, 'loop' what an epoch adds to a step: shuffling, "
        "slicing, schedules, recording. The first version is commit ae2744c, measured once and not in this run."
    )
    return "A training step", note + "\n\n" + markdown_table(header, rows)


def step_parts(estimator, batch_size: int, n_repeats: int) -> dict[str, float]:
    """Microseconds of a step by kind of operation, and of the whole."""
    X = table_of(32 * batch_size, SMALL[0])
    model = estimator.fit(X).model_
    plan = trainer.Plan(AdamW(), 1e-4, batch_size, 10**9, 10**9)
    made = trainer.Trainer([model], plan, torch.Generator())
    source = batches.Rows(batches.RawRows(X), model.prepare_for_training, torch.device("cpu"))
    made.run_epoch(source)
    batch: Batch = next(iter(source.epoch(batch_size)))
    parts: dict[str, float] = dict.fromkeys([*KINDS.values(), BENT, OTHER], 0.0)
    whole = least_microseconds(lambda: made.run_epoch(source), max(1, n_repeats // 32)) / 32
    with torch.inference_mode():
        step = least_microseconds(lambda: made._train(batch), n_repeats)
        # One after the other, the calls train; each again and again, they write nonsense.
        (recorded,) = made.by_hand._passes.values()
        for call in recorded.tape.calls:
            parts[kind_of(call)] += least_microseconds(call, n_repeats)
        parts["AdamW"] = least_microseconds(made.players[0].update, n_repeats)
    parts["rest of the step"] = step - sum(parts.values())
    parts["loop"] = whole - step
    parts["whole"] = whole
    return parts


class Stopwatch:
    """Seconds by stage; a stage inside another does not count for the outer one."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        self._inside.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            self.seconds[name] += passed - self._inside.pop()
            self._inside[-1] += passed

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, as a stage."""

        @wraps(function)
        def call(*args, **kwargs):
            with self.stage(name):
                return function(*args, **kwargs)

        return call


STAGES = [
    ("validation", _estimator.TrainedEstimator, "_validate"),
    ("column moments", _fitting, "column_moments"),
    ("principal axes", _fitting, "principal_axes"),
    ("models at their start", _fitting.Fitting, "_start"),
    ("rows on the device", batches.Rows, "__init__"),
    ("folds beside each other", batches.SideBySide, "__init__"),
    ("gradients", DenseGradient, "__call__"),
    ("optimizer", players.Player, "update"),
    ("looks at held-out rows", early_stopping, "row_losses"),
    ("looks at held-out rows", trainer, "evaluate"),
    ("recording an epoch", trainer.Trainer, "_record"),
]


@contextlib.contextmanager
def stages_timed(watch: Stopwatch) -> Iterator[None]:
    """Let the stages of a fit report to the stopwatch."""
    before = [(owner, name, getattr(owner, name)) for _, owner, name in STAGES]
    try:
        for label, owner, name in STAGES:
            setattr(owner, name, watch.timed(label, getattr(owner, name)))
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def fit_section() -> tuple[str, str]:
    """A default fit by stage."""
    digits = load_digits().data
    cases = {
        "digits, 1797 x 64, folds": (AutoencoderTransformer(10, random_state=0), digits),
        "digits, max_iter=20, no folds": (
            AutoencoderTransformer(10, max_iter=20, early_stopping=False, random_state=0),
            digits,
        ),
        "5000 x 30, held-out rows": (AutoencoderTransformer(8, random_state=0), table_of(5000, 30)),
    }
    rows, names = [], list(dict.fromkeys([*(label for label, _, _ in STAGES), "loop and the rest"]))
    for title, (estimator, X) in cases.items():
        estimator.fit(X)
        watch = Stopwatch()
        with stages_timed(watch), watch.stage("loop and the rest"):
            estimator.fit(X)
        rows.append([title, *(f"{1e3 * watch.seconds[name]:.1f}" for name in names)])
        rows[-1].append(f"{1e3 * sum(watch.seconds.values()):.0f}")
    note = "Milliseconds of `AutoencoderTransformer.fit`; timing the stages itself adds about a microsecond each."
    return "A fit", note + "\n\n" + markdown_table(("fit", *names, "whole"), rows)


def transform_section(n_repeats: int) -> tuple[str, str]:
    """One row and many rows through `transform`."""
    rows = []
    for n_features, encoder in (SMALL, (784, (512, 256, 32))):
        for n_rows, dtype in ((1, np.float64), (1, np.float32), (20_000, np.float32)):
            X = table_of(max(n_rows, 2000), n_features).astype(dtype)
            options = {"max_iter": 1, "early_stopping": False, "device": "cpu", "random_state": 0}
            model = AutoencoderTransformer(encoder[-1], hidden_layer_sizes=encoder[:-1], **options).fit(X)
            pca = PCA(encoder[-1]).fit(X[:2000])
            X = X[:n_rows]
            repeats = n_repeats if n_rows == 1 else 1
            whole = least_microseconds(lambda model=model, X=X: model.transform(X), repeats)
            beside = least_microseconds(lambda pca=pca, X=X: pca.transform(X), repeats)
            check = least_microseconds(lambda model=model, X=X: validated(model, X), repeats)
            network = least_microseconds(forward_of(model, X), repeats)
            values = (check, network, whole - check - network, whole, beside)
            shape = "-".join(str(size) for size in (n_features, *encoder))
            rows.append([shape, n_rows, np.dtype(dtype).name, *(f"{value:.0f}" for value in values)])
    header = ("network", "rows", "dtype", "validation", "network", "rest", "whole", "PCA, whole")
    note = (
        "Microseconds, one thread. Plain arrays with a finite sum are spared scikit-learn's `validate_data`, which "
        "takes some 50 µs; the network is the bare encoder."
    )
    return "transform", note + "\n\n" + markdown_table(header, rows)


def validated(model, X: np.ndarray) -> np.ndarray:
    """X as `transform` checks it."""
    return X if model._is_plain(X) else model._validate(X, reset=False)


def forward_of(model, X: np.ndarray) -> Callable:
    """A call of the encoder alone on standardised rows."""
    module = model.model_ if X.dtype == np.float32 else model.model_.in_float64()
    with torch.inference_mode():
        x, _ = module.scaling.input(torch.from_numpy(X))

    @torch.inference_mode()
    def call():
        return module.encoder(x)

    return call


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args, clock = parser.parse_args(), Clock()
    torch.set_num_threads(1)
    n_repeats = 100 if args.quick else 1000
    sections = [step_section(n_repeats), fit_section(), transform_section(n_repeats)]
    report("profile", "Profile", sections, clock, write=not (args.no_write or args.quick))


if __name__ == "__main__":
    main()
