"""Imputers: skae's and scikit-learn's, fitted alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from benchmarks._common import Clock, parse_parameters
from benchmarks._imputation_tables import Case

OWN, OWN_CENSORED = "skae", "skae, missingness model"
COVERAGE = 0.9
# Few trees save time: a chain grows up to ten forests a column. Small tables also get scikit-learn's default of 100.
N_TREES, MANY_TREES = 30, 100
SMALL_TABLE = (2000, 20)
# Options of skae's imputer that turn on its model of why cells are missing.
MISSINGNESS_MODEL: dict[str, object] = {"missingness": "self_masking_known"}
# An interval may end at the value itself, as in a constant column.
TOLERANCE = 1e-6


class Setting(NamedTuple):
    """What an imputer may know before it sees rows."""

    seed: int
    parameters: str = ""


class Method(NamedTuple):
    """A way to make an imputer, and the table (rows, columns) that must be larger than those it is run on."""

    make: Callable[[Setting], object]
    below: tuple[float, float] = (np.inf, np.inf)

    def runs_on(self, shape: tuple[int, int]) -> bool:
        """Whether a table of this shape is small enough."""
        return shape[0] < self.below[0] and shape[1] < self.below[1]


def own(setting: Setting):
    """skae's imputer."""
    import skae

    return skae.AutoencoderImputer(**({"random_state": setting.seed} | parse_parameters(setting.parameters)))


def own_censored(setting: Setting):
    """skae's imputer with its model of why cells are missing."""
    import skae

    options = {"random_state": setting.seed} | MISSINGNESS_MODEL
    return skae.AutoencoderImputer(**(options | parse_parameters(setting.parameters)))


def trees(n_trees: int) -> Callable[[Setting], object]:
    """Chained regressions by extremely randomised trees."""

    def make(setting):
        regressor = ExtraTreesRegressor(n_estimators=n_trees, random_state=setting.seed)
        return IterativeImputer(regressor, max_iter=10, random_state=setting.seed)

    return make


METHODS: dict[str, Method] = {
    OWN: Method(own),
    OWN_CENSORED: Method(own_censored),
    "mean": Method(lambda setting: SimpleImputer()),
    "kNN": Method(lambda setting: KNNImputer(n_neighbors=5)),
    "ridge": Method(lambda setting: IterativeImputer(random_state=setting.seed)),
    "extra trees": Method(trees(N_TREES)),
    f"extra trees {MANY_TREES}": Method(trees(MANY_TREES), SMALL_TABLE),
}


def is_own(name: str) -> bool:
    """Whether a method is skae's."""
    return name.startswith(OWN)


def available(names: list[str]) -> list[str]:
    """The methods that are there; says which are not."""
    import skae

    missing = [name for name in names if is_own(name) and not hasattr(skae, "AutoencoderImputer")]
    if missing:
        print(f"Not there, left out: {', '.join(missing)}.")
    return [name for name in names if name not in missing]


def quietly(call: Callable, *arguments):
    """The call's result and its seconds; warnings, as of rounds that ran out, are not shown."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        clock = Clock()
        made = call(*arguments)
        return made, clock.seconds()


def attempt(measure: Callable[..., dict], name: str, *arguments) -> dict:
    """What is measured of a method; a peer that fails must not end hours of others, and is stored as failed."""
    if is_own(name):
        return measure(name, *arguments)
    try:
        return measure(name, *arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def covered(imputer, case: Case) -> float:
    """Share of the hidden cells that lie in their interval."""
    low, high = imputer.interval(case.gappy, coverage=COVERAGE)
    inside = (low - TOLERANCE <= case.X) & (case.X <= high + TOLERANCE)
    return float(inside[case.hidden].mean())


def measure(name: str, case: Case, setting: Setting) -> dict:
    """Fill the hidden cells: mean squared error over them, its root, seconds; of skae also the intervals' coverage."""
    imputer = METHODS[name].make(setting)
    filled, seconds = quietly(imputer.fit_transform, case.gappy)
    mse = float(np.square(filled - case.X)[case.hidden].mean())
    measured = {"rmse": mse**0.5, "mse": mse, "seconds": seconds, "n_hidden": int(case.hidden.sum())}
    if is_own(name):
        measured["covered"], measured["interval_seconds"] = quietly(covered, imputer, case)
    return measured
