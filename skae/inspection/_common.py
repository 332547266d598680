"""What the displays and functions share: matplotlib, PCA for comparison, names and codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skae.base.parameters import SequenceOf, any_number, at_least, list_of, range_of, share
from skae.base.rows import from_torch

# As many colours can be told apart.
MAX_CLASSES = 20
# What arguments of these names may be.
OF: list = [StrOptions({"encoder", "decoder"})]
NAMES: list = [str, list_of(str), None]
IMAGE_SHAPE: list = [SequenceOf(at_least(1), lengths=(1, 3)), None]
PAIR_OF_COMPONENTS: list = [SequenceOf(at_least(0), lengths=(2, 2))]
SPREAD: dict[str, list] = {
    "bounds": [range_of(any_number(), "<"), list_of(range_of(any_number(), "<")), None],
    "quantiles": [range_of(share(), "<")],
    "base": [list_of(any_number()), None],
}
GRID: dict[str, list] = {
    "n": [at_least(1), SequenceOf(at_least(1), lengths=(2, 2))],
    "components": PAIR_OF_COMPONENTS,
    **SPREAD,
}


def import_pyplot(caller: str) -> Any:
    """Return matplotlib.pyplot, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"{caller} needs matplotlib: pip install 'skae[plot]'.") from error
    return plt


def dense(X) -> np.ndarray:
    """X as a 2-d array of floats, a row an image; NaN stays."""
    array = np.asarray(X.toarray() if issparse(X) else from_torch(X), dtype=np.float64)
    if array.ndim > 2:
        array = array.reshape(len(array), -1)
    if array.ndim != 2:
        raise ValueError(f"Expected a 2-d array, got one of shape {array.shape}.")
    return array


def codes_of(estimator, X) -> np.ndarray:
    """Codes of X as an array, whatever container `transform` is set to return."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "transform"):
        raise ValueError(f"{type(last_step(estimator)).__name__} has no transform, which makes codes of rows.")
    codes = estimator.transform(X)
    return np.asarray(codes.toarray() if issparse(codes) else codes)


def named_estimators(estimators, names, *, reserved=()) -> dict[str, Any]:
    """Fitted estimators by name; classes that occur twice are numbered."""
    if not isinstance(estimators, list | tuple):
        estimators = [estimators]
    for estimator in estimators:
        check_is_fitted(estimator)
    if names is None:
        kinds = [_kind(estimator) for estimator in estimators]
        names = [f"{k} {kinds[:i].count(k) + 1}" if kinds.count(k) > 1 else k for i, k in enumerate(kinds)]
    elif isinstance(names, str):
        names = [names]
    if len(set(names)) != len(estimators):
        raise ValueError(f"names={list(names)!r} must hold {len(estimators)} different names, one an estimator.")
    if clash := set(names) & set(reserved):
        raise ValueError(f"The name {clash.pop()!r} is the display's own; give others by names=.")
    return dict(zip(names, estimators, strict=True))


def last_step(estimator) -> Any:
    """The estimator itself, or what a pipeline ends with."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def _kind(estimator) -> str:
    return type(last_step(estimator)).__name__


def fit_pca(X, n_components: int) -> Pipeline:
    """PCA of at most `n_components`, with gaps filled by column means."""
    X = dense(X)
    pca = PCA(min(n_components, *X.shape), random_state=0)
    return make_pipeline(SimpleImputer(keep_empty_features=True), pca).fit(X)


def class_styles(plt, y) -> list[tuple]:
    """Classes in their order, which rows are of each, and colour and label to draw them with."""
    y = np.asarray(y)
    classes = np.unique(y)
    colours = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20").colors
    return [(each, y == each, {"color": colours[i], "label": str(each)}) for i, each in enumerate(classes)]
