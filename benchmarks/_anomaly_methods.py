"""Detectors: skae's and PyOD's, fitted and scored alike."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks._anomaly_sets import Case
from benchmarks._common import Clock, parse_parameters

OWN = "skae"
# Published neighbours' distances are those to the 5th where training rows are clean, and to the 32nd where not.
N_NEIGHBORS = {"semi": 5, "unsup": 32}
OCSVM_ROWS = 10_000
N_COMPONENTS = 32


class Setting(NamedTuple):
    """What a detector may know before it sees rows."""

    protocol: str
    seed: int
    n_features: int
    parameters: str = ""

    @property
    def novelty(self) -> bool:
        """Whether the training rows are clean."""
        return self.protocol != "unsup"


class Method(NamedTuple):
    """A way to make a detector, and the most rows that it is given to train on."""

    make: Callable[[Setting], object]
    fast: bool = True
    max_train: int | None = None


class Reconstruction:
    """Squared error of PCA, with `fit` and `decision_function` as in PyOD."""

    def __init__(self, n_components: int, seed: int):
        self.pca = PCA(n_components, random_state=seed)

    def fit(self, X):
        """Fit the components."""
        self.pca.fit(X)
        return self

    def decision_function(self, X):
        """What the components leave over, larger for anomalies."""
        return np.square(X - self.pca.inverse_transform(self.pca.transform(X))).sum(axis=1)


def _own(setting: Setting):
    import skae

    options = {"novelty": setting.novelty, "random_state": setting.seed}
    return skae.AutoencoderOutlierDetector(**(options | parse_parameters(setting.parameters)))


def _own_of_images(setting: Setting):
    """Pixels have units of their own, and few components hold an image of one kind."""
    import skae

    options = {"autoencoder": skae.AutoencoderTransformer(16, max_iter=40), "standardize": False, "novelty": True}
    options |= {"random_state": setting.seed}
    return skae.AutoencoderOutlierDetector(**(options | parse_parameters(setting.parameters)))


def _pyod(module: str, name: str, **parameters):
    return getattr(importlib.import_module(f"pyod.models.{module}"), name)(**parameters)


METHODS: dict[str, Method] = {
    OWN: Method(_own),
    "KNN": Method(lambda s: _pyod("knn", "KNN", n_neighbors=N_NEIGHBORS.get(s.protocol, 5))),
    "LOF": Method(lambda s: _pyod("lof", "LOF", n_neighbors=20, novelty=True)),
    "IForest": Method(lambda s: _pyod("iforest", "IForest", random_state=s.seed)),
    "ECOD": Method(lambda s: _pyod("ecod", "ECOD")),
    "PCA": Method(lambda s: _pyod("pca", "PCA", random_state=s.seed)),
    "MCD": Method(lambda s: _pyod("mcd", "MCD", random_state=s.seed)),
    "OCSVM": Method(lambda s: _pyod("ocsvm", "OCSVM"), fast=False, max_train=OCSVM_ROWS),
    "AutoEncoder": Method(lambda s: _pyod("auto_encoder", "AutoEncoder", random_state=s.seed, verbose=0), fast=False),
    "VAE": Method(lambda s: _pyod("vae", "VAE", random_state=s.seed, verbose=0), fast=False),
    "DeepSVDD": Method(
        lambda s: _pyod("deep_svdd", "DeepSVDD", n_features=s.n_features, random_state=s.seed, verbose=0), fast=False
    ),
}
IMAGE_METHODS = {
    OWN: Method(_own_of_images),
    f"PCA, {N_COMPONENTS} components": Method(lambda s: Reconstruction(N_COMPONENTS, s.seed)),
    "KNN": METHODS["KNN"],
}


def chosen(peers: str) -> list[str]:
    """Names for "none", "fast" or "all" peers."""
    kept = {"none": lambda method: False, "fast": lambda method: method.fast, "all": lambda method: True}[peers]
    return [name for name, method in METHODS.items() if name == OWN or kept(method)]


def available(names: list[str]) -> list[str]:
    """The methods that are installed; says which are not."""
    import skae

    missing = []
    if not hasattr(skae, "AutoencoderOutlierDetector"):
        missing.append(OWN)
    if not importlib.util.find_spec("pyod"):
        missing += [name for name in METHODS if name != OWN]
    left_out = [name for name in names if name in missing]
    if left_out:
        print(f"Not installed, left out: {', '.join(left_out)}.")
    return [name for name in names if name not in missing]


def warm_up(names: Sequence[str]) -> None:
    """Fit each method once to a few rows, so that no measured one pays for what it loads."""
    X = np.random.default_rng(0).normal(size=(100, 3))
    case = Case(X, X, (np.arange(100) < 10).astype(int))
    for name in names:
        measure(name, METHODS[name], case, Setting("semi", 0, 3))


def anomaly_scores(name: str, detector, X: np.ndarray) -> np.ndarray:
    """Scores that are larger for anomalies; one that is not a number counts as zero, as in the published code."""
    scores = -detector.score_samples(X) if name == OWN else detector.decision_function(X)
    return np.nan_to_num(np.asarray(scores, dtype=np.float64))


def measure(name: str, method: Method, case: Case, setting: Setting) -> dict:
    """Fit and score: AUROC and average precision on the test rows, seconds of both calls."""
    train = case.train
    if method.max_train and len(train) > method.max_train:
        train = train[np.random.default_rng(setting.seed).permutation(len(train))[: method.max_train]]
    detector = method.make(setting)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        clock = Clock()
        detector.fit(train)
        fit_seconds, clock = clock.seconds(), Clock()
        scores = anomaly_scores(name, detector, case.test)
        score_seconds = clock.seconds()
    return {
        "auroc": float(roc_auc_score(case.y, scores)),
        "ap": float(average_precision_score(case.y, scores)),
        "fit_seconds": fit_seconds,
        "score_seconds": score_seconds,
        "n_train": len(train),
        "n_test": len(case.y),
    }
