"""What ensembles of autoencoders share: their members' parameters and seeds, weights of rows, fits in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_sample_weight, _num_samples, has_fit_parameter

from skae.tables._containers import plain_rows
from skae.training.cancellation import Cancellation

# Below this number of rows equal ones are merged, unless fewer than so many are left.
FEW_ROWS, LEAST_DISTINCT = 50, 5


def with_parameters(autoencoder, parameters: Mapping[str, Any] | None, device: str):
    """A clone of an autoencoder with these parameters, on a device unless it has asked for one itself.

    Raises
    ------
    ValueError
        For a parameter that the autoencoder does not have.
    """
    made = clone(autoencoder).set_params(**(parameters or {}))
    return made.set_params(device=device) if made.get_params().get("device") == "auto" else made


def new_states(random_state: np.random.RandomState, n_members: int) -> list[np.random.RandomState]:
    """A source of randomness for each member, so that members can be fitted in any order."""
    return [np.random.RandomState(seed) for seed in random_state.randint(np.iinfo(np.int32).max, size=n_members)]


def fit_in_parallel(fit: Callable, arguments: Iterable[Mapping[str, Any]], n_jobs: int | None) -> list:
    """What `fit` returns for each of these keyword arguments, in their order; an error ends all of them."""
    cancellation = Cancellation()
    try:
        tasks = (delayed(_fitted)(fit, cancellation, each) for each in arguments)
        return Parallel(n_jobs=n_jobs, prefer="threads")(tasks)
    except BaseException:
        # joblib leaves threads running, with the torch settings of a fit.
        cancellation.cancel()
        raise


def _fitted(fit: Callable, cancellation: Cancellation, arguments: Mapping[str, Any]) -> Any:
    with cancellation.task():
        return fit(**arguments)


def fit_weighted(autoencoder, X, weight: np.ndarray | None):
    """An autoencoder fitted to rows with weights, or to rows alone where there are none."""
    _fit_or_update(autoencoder, "fit", X, weight)
    return autoencoder


def update_weighted(autoencoder, X, weight: np.ndarray | None) -> None:
    """The same by `partial_fit`."""
    _fit_or_update(autoencoder, "partial_fit", X, weight)


def _fit_or_update(autoencoder, method: str, X, weight: np.ndarray | None) -> None:
    if weight is None:
        getattr(autoencoder, method)(X)
        return
    if not has_fit_parameter(autoencoder, "sample_weight"):
        raise ValueError(
            f"sample_weight was given, but {type(autoencoder).__name__}.fit takes none: leave it out, or use an "
            "autoencoder of skae."
        )
    getattr(autoencoder, method)(X, sample_weight=weight)


def rows_that_count(X, sample_weight):
    """Rows in any container and their weights, without those of weight zero; weights are None where none are given.

    Raises
    ------
    ValueError
        If there are not as many weights as rows, or one is negative, or none is positive.
    """
    if sample_weight is None:
        return X, None
    rows = np.empty((_num_samples(X), 0))
    weight = _check_sample_weight(plain_rows(sample_weight), rows, dtype=np.float64, ensure_non_negative=True)
    if weight.all():
        return X, weight
    X = X.tocsr() if sparse.issparse(X) else X
    return _safe_indexing(X, np.flatnonzero(weight)), weight[weight > 0]


def merged_rows(X, weight: np.ndarray | None):
    """Of few rows, the different ones, sorted, with the sums of their weights; many rows as they are.

    A copy of a row is not in two parts then, so that a weight of two is a row given twice, exactly.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_rows, n_columns)
    weight : ndarray of shape (n_rows,) or None
    """
    if X.shape[0] >= FEW_ROWS:
        return X, weight
    # NaN is not equal to itself, and infinite values there are none.
    keys = np.nan_to_num(X.toarray() if sparse.issparse(X) else X, nan=np.inf)
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return (X, weight) if len(first) < LEAST_DISTINCT else (X[first], np.bincount(index.ravel(), weights=weight))


def relative_weight(weight: np.ndarray | None) -> np.ndarray | None:
    """Weights of mean one; None where all are equal."""
    if weight is None or (weight == weight[0]).all():
        return None
    return weight * (len(weight) / weight.sum())


def rows_by_weight(weight: np.ndarray | None, n_rows: int) -> np.ndarray | slice:
    """Indices of as many rows, each as often as its weight says, rounded: for what has no weights of its own.

    Systematic sampling: a row of weight w among weights of mean one is there ⌊w⌋ or ⌈w⌉ times.
    """
    if weight is None:
        return slice(None)
    total = np.cumsum(weight)
    return np.searchsorted(total, (np.arange(n_rows) + 0.5) / n_rows * total[-1]).clip(max=n_rows - 1)
