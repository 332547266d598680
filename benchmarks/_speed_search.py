"""A grid search with skae and with skorch."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, KFold

from benchmarks._common import markdown_table, squared_error
from benchmarks._peers import skorch_regressor
from benchmarks._speed_common import Effort, Ratio, Section, seconds_of
from skae import AutoencoderTransformer

N_COMPONENTS = 10
HIDDEN = ((32,), (64,), (64, 32), (128, 64))
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
BATCH_SIZES = (64, 128)
N_EPOCHS = {False: 75, True: 8}  # by whether the run is quick
BOUND = 3.0


def rebuilt_error(estimator: BaseEstimator, X: np.ndarray, y: np.ndarray | None = None) -> float:
    """Minus the squared error of a row: a scorer for both."""
    rebuild = estimator.reconstruct if isinstance(estimator, AutoencoderTransformer) else estimator.predict
    return -squared_error(X, rebuild(X))


def skae_search(n_epochs: int) -> GridSearchCV:
    """The search over skae's parameters."""
    model = AutoencoderTransformer(
        N_COMPONENTS, activation="relu", max_iter=n_epochs, early_stopping=False, device="cpu", random_state=0
    )
    grid = {"hidden_layer_sizes": HIDDEN, "learning_rate": LEARNING_RATES, "batch_size": BATCH_SIZES}
    return search(model, grid)


def skorch_search(n_epochs: int) -> GridSearchCV:
    """The same search over skorch's."""
    model = skorch_regressor(64, (N_COMPONENTS,), BATCH_SIZES[0], n_epochs)
    encoders = [(*hidden, N_COMPONENTS) for hidden in HIDDEN]
    return search(model, {"module__encoder": encoders, "lr": LEARNING_RATES, "batch_size": BATCH_SIZES})


def search(model: BaseEstimator, grid: dict) -> GridSearchCV:
    """A search over a grid, on two processes."""
    folds = KFold(5, shuffle=True, random_state=0)
    return GridSearchCV(model, grid, scoring=rebuilt_error, cv=folds, refit=False, n_jobs=2)


def search_section(effort: Effort) -> Section:
    """Seconds of both searches; skae's is run before and after skorch's, and the mean is taken."""
    if not importlib.util.find_spec("skorch"):
        return Section("Grid search", "skorch is not installed.", [])
    n_epochs = N_EPOCHS[effort.quick]
    X = load_digits().data.astype(np.float32) / np.float32(16)
    searches = {"skae": skae_search, "skorch": skorch_search}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for make in searches.values():
            make(1).fit(X[:200], X[:200])
        fits = [(name, searches[name](n_epochs)) for name in ("skae", "skorch", "skae")]
        seconds = [(name, seconds_of(made.fit, X, X)) for name, made in fits]
    scores = {name: -made.cv_results_["mean_test_score"].max() for name, made in fits}
    means = {name: float(np.mean([s for other, s in seconds if other == name])) for name in searches}
    ratio = means["skorch"] / means["skae"]
    n_candidates = len(fits[0][1].cv_results_["params"])
    note = (
        f"`GridSearchCV` of {n_candidates} candidates (hidden layers, learning rate, batch size) and 5 folds on "
        f"digits, {n_epochs} epochs, relu, two processes, no refit; scored by the squared error. skae starts at PCA, "
        "as by default."
    )
    table = [[name, f"{means[name]:.1f}", f"{means[name] / means['skae']:.2f}", scores[name]] for name in means]
    body = note + "\n\n" + markdown_table(("library", "seconds", "it / skae", "best error"), table)
    return Section("Grid search", body, [Ratio("grid search: skorch / skae", ratio, ">=", BOUND, steady=False)])
