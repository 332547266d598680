"""Seconds of `fit` until held-out rows are rebuilt better than by PCA."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks._common import data_folder, load_mnist, markdown_table, squared_error
from benchmarks._peers import fit_skae, peers
from benchmarks._speed_common import Effort, Ratio, Section, network_name, seconds_of
from benchmarks._tables import load
from skae import AutoencoderTransformer

TARGETS = (1.0, 0.9)
LADDER = tuple(2**i for i in range(9))
LEARNING_RATES = (1e-4, 1e-3, 1e-2)
BATCH_SIZE = 128
TABLES = ("letter", "protein", "cardiotocography")
QUICK_TABLES = ("cardiotocography",)
BOUND = 5.0
# A library is given up when its fits take this many times skae's seconds, or this many seconds.
PATIENCE = 20
LONGEST_FIT = {False: 20.0, True: 2.0}  # by whether the run is quick
N_REPEATS, LONGEST_REPEAT = 2, 2.0
SPREAD = 2.0  # a fit of twice the epochs takes at most about this many times the seconds
NOTE = """Wall-clock of a whole `fit` call, the shortest of those on a ladder of 1, 2, 4 … 256 epochs whose error on \
held-out rows is at most 1.0 or 0.9 times PCA's with as many components. All train the same network (relu) on batches \
of {batch} rows; PyOD and skorch have the best of the learning rates {rates}, skae its default and its start at PCA. \
Behind the seconds: the epochs and the learning rate. "> s" means not reached in a fit of s seconds; the ratio is then \
a lower bound. PyOD's network has a relu after the code too."""
DEFAULT_NOTE = """skae with all its defaults (own widths, gelu, early stopping on held-out rows), for information:"""


class Task(NamedTuple):
    """Training and held-out rows, and a network."""

    name: str
    X: np.ndarray
    X_test: np.ndarray
    encoder: tuple[int, ...]


class Attempt(NamedTuple):
    """One fit, its seconds, and its held-out error over PCA's."""

    n_epochs: int
    learning_rate: float | None
    seconds: float
    error: float


def split_task(name: str, X: np.ndarray, encoder: tuple[int, ...], *, scale: bool) -> Task:
    """A task from one table: a fifth of the rows is held out."""
    X_train, X_test = train_test_split(X, test_size=0.2, random_state=0)
    if scale:
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    return Task(name, X_train.astype(np.float32), X_test.astype(np.float32), encoder)


def mnist_task() -> Task:
    """10,000 training and 2,000 test images."""
    X, _, X_test, _ = load_mnist()
    rng = np.random.default_rng(0)
    return Task(
        "MNIST", X[rng.permutation(len(X))[:10_000]], X_test[rng.permutation(len(X_test))[:2_000]], (512, 256, 32)
    )


def tasks(quick: bool) -> tuple[list[Task], list[str]]:
    """The tasks, and a line on each that is left out because its data are not there."""
    made, absent = [split_task("digits", load_digits().data / 16, (128, 64, 10), scale=False)], []
    if (data_folder() / "imputation").exists() and (data_folder() / "adbench").exists():
        for table in load(QUICK_TABLES if quick else TABLES):
            made.append(split_task(table.name, table.X, (64, 32, 5), scale=True))
    else:
        absent.append("The tables are left out: they are not in the data folder.")
    if quick:
        absent.append("MNIST and most tables are left out of the quick form.")
    elif (data_folder() / "mnist").exists():
        made.append(mnist_task())
    else:
        absent.append("MNIST is left out: it is not in the data folder.")
    return made, absent


def fit_from_pca(X: np.ndarray, encoder: Sequence[int], batch_size: int, n_epochs: int, learning_rate=None) -> Callable:
    """skae from its start at PCA, with its default learning rate."""
    return fit_skae(X, encoder, batch_size, n_epochs, init="pca", learning_rate=learning_rate or "auto")


class Contest:
    """All libraries on one task."""

    def __init__(self, task: Task, longest: float):
        self.task, self.longest = task, longest
        pca = PCA(task.encoder[-1], random_state=0).fit(task.X)
        self.pca_error = squared_error(task.X_test, pca.inverse_transform(pca.transform(task.X_test)))
        self.attempts: dict[str, list[Attempt]] = {}

    def error(self, rebuild: Callable) -> float:
        """Held-out error over PCA's; infinite where a fit diverged."""
        error = squared_error(self.task.X_test, rebuild(self.task.X_test)) / self.pca_error
        return error if np.isfinite(error) else np.inf

    def attempt(self, fit: Callable, n_epochs: int, learning_rate: float | None) -> Attempt:
        """One fit; a library that gives up on it has an infinite error."""
        start = time.perf_counter()
        try:
            rebuild = fit(self.task.X, self.task.encoder, BATCH_SIZE, n_epochs, learning_rate=learning_rate)
        except (ValueError, FloatingPointError):
            return Attempt(n_epochs, learning_rate, time.perf_counter() - start, np.inf)
        return Attempt(n_epochs, learning_rate, time.perf_counter() - start, self.error(rebuild))

    def climb(self, fit: Callable, rates: Sequence[float | None], longest: float) -> Iterator[Attempt]:
        """Fits of more and more epochs, with each learning rate, until all targets are met or time is up."""
        self.attempt(fit, 1, rates[-1])
        for n_epochs in LADDER:
            rung = [self.attempt(fit, n_epochs, rate) for rate in rates]
            yield from rung
            if min(a.error for a in rung) <= min(TARGETS) or SPREAD * min(a.seconds for a in rung) > longest:
                return

    def run(self) -> None:
        """Climb with each library; the winning fits that are short are timed again, skae's and the other's in turn."""
        fits = {"skae": fit_from_pca} | peers()
        own = self.attempts["skae"] = list(self.climb(fit_from_pca, [None], self.longest))
        longest = min(self.longest, max(1.0, PATIENCE * max(attempt.seconds for attempt in own)))
        for name in peers():
            self.attempts[name] = list(self.climb(fits[name], LEARNING_RATES, longest))
            for library in (name, "skae") * N_REPEATS:
                self.attempts[library] += [
                    self.attempt(fits[library], won.n_epochs, won.learning_rate)
                    for won in self.winners(library)
                    if won.seconds <= LONGEST_REPEAT
                ]

    def winners(self, name: str) -> list[Attempt]:
        """A library's shortest fits within each target."""
        met = [won for target in TARGETS if (won := first_within(self.attempts[name], target))]
        return list({won.n_epochs: won for won in met}.values())

    def seconds(self, name: str, target: float) -> tuple[float, bool]:
        """Seconds until the target, or of the longest fits, and whether it was met; of repeated fits the median."""
        attempts = self.attempts[name]
        won = first_within(attempts, target)
        if won is None:
            most = max(attempt.n_epochs for attempt in attempts)
            return min(attempt.seconds for attempt in attempts if attempt.n_epochs == most), False
        same = [a.seconds for a in attempts if (a.n_epochs, a.learning_rate) == (won.n_epochs, won.learning_rate)]
        return float(np.median(same)), True

    def cell(self, name: str, target: float) -> str:
        """How a library did: "0.52 (8, 0.001)" or "> 6.1"."""
        seconds, met = self.seconds(name, target)
        if not met:
            return f"> {seconds:.3g}"
        won = first_within(self.attempts[name], target)
        settings = ", ".join(f"{value:g}" for value in (won.n_epochs, won.learning_rate) if value is not None)
        return f"{seconds:.3g} ({settings})"

    def times_faster(self, target: float) -> tuple[float, bool]:
        """Seconds of the better peer over skae's, and whether that is only a lower bound."""
        own, met = self.seconds("skae", target)
        if not met:
            return 0.0, False
        seconds, reached = min(self.seconds(name, target) for name in self.attempts if name != "skae")
        return seconds / own, not reached


def first_within(attempts: Sequence[Attempt], target: float) -> Attempt | None:
    """The shortest fit whose error is within the target."""
    return min((a for a in attempts if a.error <= target), key=lambda a: a.seconds, default=None)


def default_row(contest: Contest) -> list:
    """Seconds and error of skae with all its defaults."""
    task = contest.task
    model = AutoencoderTransformer(task.encoder[-1], device="cpu", random_state=0)
    seconds = seconds_of(model.fit, task.X)
    return [task.name, f"{seconds:.2f}", model.n_iter_, f"{contest.error(model.reconstruct):.3f}"]


def target_rows(contest: Contest) -> tuple[list[list], list[Ratio]]:
    """A row for each target, and how many times faster than the better peer skae is."""
    task, rows, ratios = contest.task, [], []
    n_rows, n_features = task.X.shape
    where = [task.name, f"{n_rows} x {n_features}", network_name(n_features, task.encoder)]
    for target in TARGETS:
        cells = [contest.cell(name, target) for name in contest.attempts]
        if len(cells) == 1:
            rows.append([*where, target, *cells, None])
            continue
        ratio, lower = contest.times_faster(target)
        rows.append([*where, target, *cells, f"{'> ' if lower else ''}{ratio:.1f}"])
        what = f"{task.name}, error <= {target:g} x PCA's: better peer / skae"
        ratios.append(Ratio(what, ratio, ">=", BOUND, steady=False))
    return rows, ratios


def quality_section(effort: Effort) -> Section:
    """Seconds to PCA's error and to nine tenths of it."""
    made, absent = tasks(effort.quick)
    rows, defaults, ratios = [], [], []
    for task in made:
        contest = Contest(task, LONGEST_FIT[effort.quick])
        contest.run()
        new_rows, new_ratios = target_rows(contest)
        rows += new_rows
        ratios += new_ratios
        defaults.append(default_row(contest))
        print(*new_rows, defaults[-1], sep="\n", flush=True)
    if ratios:
        median = float(np.median([ratio.value for ratio in ratios]))
        ratios.append(Ratio("seconds to quality, median: better peer / skae", median, ">=", BOUND, steady=False))
    note = NOTE.format(batch=BATCH_SIZE, rates=", ".join(f"{rate:g}" for rate in LEARNING_RATES))
    libraries = [f"{name}, s" for name in ("skae", *peers())]
    header = ("data", "rows", "network", "error / PCA's", *libraries, "better peer / skae")
    body = [note, *absent, markdown_table(header, rows), DEFAULT_NOTE]
    body.append(markdown_table(("data", "seconds", "epochs", "error / PCA's"), defaults))
    return Section("Seconds to quality", "\n\n".join(body), ratios)
