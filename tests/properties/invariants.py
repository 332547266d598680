"""What must be true of every configuration: results that can be used, or an error that names the cause."""

from __future__ import annotations

import functools
import pickle
import random
import re
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from sklearn import get_config
from sklearn.base import clone

from .estimators import TABLES_WITH_CATEGORIES, Configuration, build
from .refusals import REFUSALS
from .results import drawn, results
from .tables import Table, make

PACKAGES = ("/skae/", "/sklearn/utils/", "/sklearn/base.py")
# Of the largest result, in float32 or not: a row alone takes other kernels than a row among many.
ALONE = {True: 1e-5, False: 1e-6}


class Fault(AssertionError):
    """An invariant that does not hold."""


def examine(configuration: Configuration) -> str:
    """What came of a configuration: "fitted", or the pattern of the refusal; raises Fault."""
    X, new = make(configuration.table), make(configuration.table, seed=1)
    before, known = _global_state(), _content(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # skae's own words to its users.
        warnings.simplefilter("ignore", UserWarning)
        try:
            estimator = fitted(configuration, X)
        except Exception as error:
            outcome = _refused(configuration, error, X)
        else:
            _usable(configuration, estimator, X, X if _holds_other_categories(estimator, new) else new)
            outcome = "fitted"
    _check(_content(X) == known, "fit or a method changed X")
    for name, value in _global_state().items():
        _check(value == before[name], f"{name} is not as it was before")
    return outcome


def fitted(configuration: Configuration, X):
    """The estimator, fitted, and perhaps fitted on."""
    estimator = build(configuration)
    _fit(configuration, estimator, X)
    if configuration.continued and hasattr(estimator, "partial_fit"):
        estimator.partial_fit(X)
    return estimator


def _fit(configuration: Configuration, estimator, X):
    n = X.shape[0]
    if configuration.estimator == "AutoencoderClassifier":
        estimator.fit(X, labels(configuration.labels, n, configuration.table.seed))
    elif configuration.weights == "none" or configuration.estimator in TABLES_WITH_CATEGORIES:
        estimator.fit(X)
    else:
        rng = np.random.default_rng(configuration.table.seed)
        weight = {"some_zero": rng.integers(0, 3, n), "large": 10.0 ** rng.integers(0, 6, n)}[configuration.weights]
        weight[0] = 1
        estimator.fit(X, sample_weight=weight)


def labels(kind: str, n: int, seed: int) -> np.ndarray:
    """Classes of n rows, of which -1 is none."""
    y = np.random.default_rng([seed, 3]).integers(0, 3, n)
    y[:2] = np.arange(2)[:n]
    if kind == "half":
        y[2::2] = -1
    elif kind == "one_each":
        y[2:] = -1
    elif kind == "rare":
        y = np.r_[1, np.zeros(n - 1, int)]
    elif kind == "strings":
        y = np.array(["no", "yes", "perhaps"])[y]
    return y


# Refusals --------------------------------------------------------------------------------------


def _refused(configuration: Configuration, error: Exception, X) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    described = f"{type(error).__name__}: {error}"
    if not isinstance(error, (ValueError, TypeError, FloatingPointError)):
        raise Fault(f"refused by {described}") from error
    if not any(package in Path(where).as_posix() for package in PACKAGES):
        raise Fault(f"refused outside of skae, in {where}, by {described}") from error
    known = next((name for name, pattern in REFUSALS.items() if re.search(pattern, str(error), re.DOTALL)), None)
    if known is None:
        raise Fault(f"refused for no known cause: {described}") from error
    _earlier_fit_is_usable(configuration, X)
    return known


@functools.cache
def _earlier(name: str) -> bytes:
    plain = Configuration(name, {}, Table(n_rows=12), labels="all")
    return pickle.dumps(fitted(plain, make(plain.table)))


def _earlier_fit_is_usable(configuration: Configuration, X) -> None:
    """A fit that is refused leaves the fit before."""
    rows, estimator = make(Table(n_rows=12)), pickle.loads(_earlier(configuration.estimator))
    before = results(estimator, rows)
    parameters = estimator.get_params(deep=False)
    estimator.set_params(**build(configuration).get_params(deep=False))
    try:
        _fit(configuration, estimator, X)
    except (ValueError, TypeError, FloatingPointError):
        estimator.set_params(**parameters)
        _same(before, results(estimator, rows), "a refused fit changed the one before")


# Results ---------------------------------------------------------------------------------------


def _usable(configuration: Configuration, estimator, X, new) -> None:
    there, once = results(estimator, X), results(estimator, new)
    for rows, made in ((X, there), (new, once)):
        for name, values in made.items():
            _check_values(name, values, rows, estimator)
    for name, values in drawn(estimator, new).items():
        _check(bool(_finite(_with_values(values, new))), f"{name} is not finite")
    _same(there, results(estimator, X), "a second call differs")
    _same(once, results(pickle.loads(pickle.dumps(estimator)), new), "the pickled estimator differs")
    again = clone(estimator)
    _check(repr(again) == repr(build(configuration)), "fit changed a parameter")
    _same(once, results(fitted(configuration, X), new), "a refit differs")
    tolerance = ALONE[configuration.table.dtype == "float32"]
    for index in {0, new.shape[0] - 1}:
        alone = results(estimator, _row(new, index))
        for name, values in alone.items():
            _same_row(name, once[name], index, values, tolerance, _rounding(name, new))


def _holds_other_categories(estimator, new) -> bool:
    """Whether other rows are refused, rightly, for categories or strings in columns where fit saw none of them."""
    try:
        results(estimator, new)
    except ValueError as error:
        if not re.search(r"Found unknown categories .* in column|X holds strings .* by TableEncoder", str(error)):
            raise
        return True
    return False


def _check_values(name: str, values, X, estimator) -> None:
    _check(len(values) == X.shape[0], f"{name} has {len(values)} rows of {X.shape[0]}")
    # An encoded table has gaps where the table has, and so has the table that comes back.
    _check(hasattr(estimator, "groups_") or _finite(_with_values(values, X)), f"{name} is not finite")
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and name in ("transform", "reconstruct"):
        expected = _dtype(X)
        _check(expected is None or values.dtype == expected, f"{name} has dtype {values.dtype}, not {expected}")
    if name == "transform" and hasattr(estimator, "n_components_") and values.ndim == 2:
        _check(values.shape[1] == estimator._code_width(), f"{name} has {values.shape[1]} columns")
    if name == "reconstruct":
        _check(values.shape == X.shape, f"{name} has shape {values.shape}")
    if name == "score_samples":
        _check(values.dtype == np.float64 and values.ndim == 1, f"{name} has dtype {values.dtype}")
    if name == "predict_proba":
        _check(np.allclose(values.sum(1), 1, atol=1e-5), "probabilities do not add up to 1")


def _dtype(X):
    """The dtype of results: float32 for rows of float32, else float64; None for frames of categories."""
    dtypes = set(X.dtypes) if isinstance(X, pd.DataFrame) else {X.dtype}
    if any(not isinstance(dtype, np.dtype) for dtype in dtypes):
        return None
    return np.dtype(np.float32) if dtypes == {np.dtype(np.float32)} else np.dtype(np.float64)


def _row(X, index: int):
    if isinstance(X, pd.DataFrame):
        return X.iloc[index : index + 1]
    return X[index : index + 1]


def _with_values(values, X):
    """The columns of which X knows a value: what strings and categories could be that were never seen, nobody knows."""
    if not (isinstance(values, pd.DataFrame) and isinstance(X, pd.DataFrame) and list(values) == list(X)):
        return values
    unknown = [name for name in X if X[name].isna().all() and values[name].dtype.kind not in "fc"]
    return values.drop(columns=unknown)


def _finite(values) -> bool:
    if isinstance(values, pd.DataFrame):
        return all(_finite(values[name].to_numpy()) for name in values)
    if values.dtype.kind in "fc":
        return bool(np.isfinite(values).all())
    return values.dtype.kind in "biuSU" or not pd.isna(values).any()


def _columns(values) -> list[np.ndarray]:
    if isinstance(values, pd.DataFrame):
        return [values[name].to_numpy() for name in values]
    return [np.asarray(values)]


def _same(one: dict, other: dict, what: str) -> None:
    _check(one.keys() == other.keys(), what)
    for name in one:
        for a, b in zip(_columns(one[name]), _columns(other[name]), strict=True):
            _check(_equal(a, b), f"{what}: {name}")


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether arrays are equal to the last bit, gaps included."""
    if a.dtype.kind in "fc":
        return np.array_equal(a, b, equal_nan=True)
    gaps = pd.isna(a)
    return a.shape == b.shape and np.array_equal(gaps, pd.isna(b)) and bool(np.all(a[~gaps] == b[~gaps]))


def _rounding(name: str, X) -> float:
    """What the rounding of X alone makes of a result: where a model is exact, nothing else is left of it."""
    if name not in ("score_samples", "imputation_std") or sp.issparse(X):
        return 0.0
    numbers = X.select_dtypes("float").to_numpy() if isinstance(X, pd.DataFrame) else X
    if numbers.dtype.kind != "f":
        return 0.0
    # A hundred operations on the largest number.
    error = float(100 * np.finfo(numbers.dtype).eps * np.nan_to_num(np.abs(numbers)).max(initial=0))
    return error**2 if name == "score_samples" else error


def _same_row(name: str, batch, index: int, alone, tolerance: float, least: float) -> None:
    for a, b in zip(_columns(batch), _columns(alone), strict=True):
        row = a[index : index + 1]
        if a.dtype.kind != "f":
            _check(_equal(row, b), f"a row alone differs from the row among others: {name}")
            continue
        _check(np.array_equal(np.isnan(row), np.isnan(b)), f"a row alone has other gaps: {name}")
        error = np.nan_to_num(np.abs(row - b)).max(initial=0)
        most = least + tolerance * np.nan_to_num(np.abs(a)).max(initial=0)
        _check(error <= most, f"a row alone differs from the row among others: {name}")


def _check(condition: bool, what: str) -> None:
    if not condition:
        raise Fault(what)


# What must not change --------------------------------------------------------------------------


def _content(X) -> bytes:
    return pickle.dumps(X)


def _global_state() -> dict:
    return {
        "numpy's generator": repr(np.random.get_state()),
        "Python's generator": random.getstate(),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "torch's default dtype": torch.get_default_dtype(),
        "the number of torch's threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "numpy's error state": np.geterr(),
        "scikit-learn's settings": get_config(),
    }
