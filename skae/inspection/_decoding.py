"""What lies between codes: paths, grids and sums of codes, decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.utils._param_validation import StrOptions

from skae.base.parameters import at_least, checked_arguments
from skae.inspection._common import GRID, codes_of, last_step
from skae.model.priors import NormalPrior

METHODS = ("linear", "spherical")
SPACES = ("row", "code")

Spread = Callable[[int, int], np.ndarray]


@checked_arguments(n_steps=[at_least(2)], method=[StrOptions(set(METHODS))], space=[StrOptions(set(SPACES))])
def interpolate(estimator, start, end, n_steps=10, *, method="linear", space="row") -> Any:
    r"""Rows along a path between the codes of two rows.

    .. math:: z(t) = (1 - t)\, z_0 + t\, z_1
        \quad\text{or}\quad
        z(t) = \frac{\sin((1 - t)\theta)}{\sin\theta}\, z_0 + \frac{\sin(t\theta)}{\sin\theta}\, z_1

    with the angle θ between the codes. "spherical" [1]_ keeps to the lengths of the two codes. Codes with a normal
    prior are long in high dimensions, and the middle of a straight line is shorter than any code that was trained on.

    Parameters
    ----------
    estimator : fitted estimator
        Has `transform` and `inverse_transform`; a pipeline will do.
    start, end : array-like of shape (n_features,) or (n_pairs, n_features)
        The rows at the ends, one pair or several; a single row is paired with each of several. Images need a leading
        axis, ``image[None]``.
    n_steps : int, default=10
        Points of a path, both ends included.
    method : {"linear", "spherical"}, default="linear"
        The path. A spherical one is linear where the two codes are parallel, opposite, or one is zero.
    space : {"row", "code"}, default="row"
        What `start` and `end` are: rows, or codes, of shape (n_components,) or (n_pairs, n_components).

    Returns
    -------
    ndarray of shape (n_steps, n_features) or (n_pairs, n_steps, n_features)
        Expected rows, the first and last of them the reconstructions of the ends. What `inverse_transform` makes images
        of, has their shape.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the numbers of rows do not match.

    References
    ----------
    .. [1] White, "Sampling generative networks", 2016, arXiv:1609.04468.

    Examples
    --------
    >>> from skae import VAE
    >>> from skae.inspection import interpolate
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAE(5, max_iter=5, random_state=0).fit(X)
    >>> interpolate(vae, X[0], X[1], n_steps=7, method="spherical").shape
    (7, 64)
    >>> interpolate(vae, X[:3], X[3:6]).shape
    (3, 10, 64)
    """
    (first, first_alone), (last, last_alone) = (_codes(estimator, rows, space) for rows in (start, end))
    if len(first) != len(last) and 1 not in (len(first), len(last)):
        raise ValueError(f"start has {len(first)} rows and end {len(last)}; give as many, or one of either.")
    first, last = np.broadcast_arrays(first, last)
    t = np.linspace(0, 1, n_steps, dtype=first.dtype)[:, None]
    path = (1 - t) * first[:, None] + t * last[:, None] if method == "linear" else _spherical(first, last, t)
    made = _decode(estimator, path)
    return made[0] if first_alone and last_alone else made


def _spherical(first: np.ndarray, last: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Paths of shape (n_pairs, n_steps, n_components) around zero."""
    lengths = [np.linalg.norm(codes, axis=1, keepdims=True) for codes in (first, last)]
    u, v = (codes / np.where(length > 0, length, 1) for codes, length in zip((first, last), lengths, strict=True))
    # Not by the arc cosine, which is inexact for small angles.
    angle = 2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))[:, None, None]
    sine = np.sin(angle)
    smallest = 100 * np.finfo(first.dtype).eps
    straight = (np.abs(sine) < smallest) | (np.minimum(*lengths) <= 0)[..., None]
    sine = np.where(straight, 1, sine)
    weights = (np.where(straight, share, np.sin(share * angle) / sine) for share in (1 - t, t))
    return sum(weight * codes[:, None] for weight, codes in zip(weights, (first, last), strict=True))


@checked_arguments(space=[StrOptions(set(SPACES))])
def analogy(estimator, a, b, c, *, space="row") -> Any:
    r"""What is to c as b is to a: rows decoded from sums and differences of codes.

    .. math:: \mathrm{decode}\big(z(c) + \overline{z(b)} - \overline{z(a)}\big)

    With several rows with a property in b, and several without in a, the difference of the means is the direction of
    the property, which is added to each row of c.

    Parameters
    ----------
    estimator : fitted estimator
        Has `transform` and `inverse_transform`; a pipeline will do.
    a, b : array-like of shape (n_features,) or (n_samples_a or n_samples_b, n_features)
        A row each, or rows whose codes are averaged. Images need a leading axis.
    c : array-like of shape (n_features,) or (n_samples, n_features)
        The rows to change.
    space : {"row", "code"}, default="row"
        Whether a, b and c are rows or codes.

    Returns
    -------
    ndarray of shape (n_features,) or (n_samples, n_features)
        Expected rows, as many as c has.

    References
    ----------
    Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional
    generative adversarial networks", ICLR 2016, section 6.3.2.

    Examples
    --------
    A digit three made more like an eight, as eights differ from threes on average:

    >>> from skae import VAE
    >>> from skae.inspection import analogy
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> vae = VAE(5, max_iter=5, random_state=0).fit(X)
    >>> analogy(vae, X[y == 3], X[y == 8], X[y == 3][0]).shape
    (64,)
    """
    (without, _), (having, _), (changed, alone) = (_codes(estimator, rows, space) for rows in (a, b, c))
    made = _decode(estimator, changed + having.mean(0) - without.mean(0))
    return made[0] if alone else made


@checked_arguments(**GRID)
def decode_grid(
    estimator, n: Any = 20, *, X=None, bounds=None, quantiles: Any = (0.05, 0.95), components: Any = (0, 1), base=None
) -> Any:
    """Rows decoded from a grid of two components.

    The other components stay at a base code. The grid's values are spread evenly in probability: over the codes of X,
    or over the standard normal prior where X is None, as in figure 4 of [1]_.

    Parameters
    ----------
    estimator : fitted estimator
        Has `inverse_transform`, and `transform` where X is given.
    n : int or pair of int, default=20
        Size of the grid, or (n_rows, n_columns).
    X : array-like of shape (n_samples, n_features), default=None
        Rows whose codes the grid should cover. None takes the standard normal prior, and is for classes that have one,
        as `VAE`.
    bounds : pair of float, or pair of those, default=None
        Smallest and largest value of both components, or of each: the values are then evenly spread between them.
    quantiles : pair of float, default=(0.05, 0.95)
        Where the grid begins and ends, in probability.
    components : pair of int, default=(0, 1)
        The component that grows along the columns of the grid, and that along its rows.
    base : array-like of shape (n_components,), default=None
        Values of the other components: a code, such as ``estimator.transform(row)[0]``. None takes the mean code of X,
        and zero without X.

    Returns
    -------
    rows : ndarray of shape (n_rows, n_columns, n_features)
        Expected rows; those at [0, 0] have the smallest values of both components.
    values : list of two ndarrays, of shape (n_columns,) and (n_rows,)
        The values of the two components.

    Raises
    ------
    ValueError
        If a parameter is out of range, or neither `X` nor `bounds` is given and the codes have no normal prior.

    See Also
    --------
    ManifoldDisplay : The grid as a picture.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014.

    Examples
    --------
    >>> from skae import VAE
    >>> from skae.inspection import decode_grid
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAE(2, max_iter=5, random_state=0).fit(X)
    >>> rows, (across, up) = decode_grid(vae, (5, 8))
    >>> rows.shape, across.shape, up.shape
    ((5, 8, 64), (8,), (5,))
    """
    if components[0] == components[1]:
        raise ValueError(f"components={components!r} must be two different components.")
    n_rows, n_columns = (n, n) if np.ndim(n) == 0 else n
    codes = None if X is None else codes_of(estimator, X)
    base = _base(estimator, codes, base)
    spread = _spread(estimator, codes, bounds, quantiles, components, len(base))
    across, up = (spread(component, size) for component, size in zip(components, (n_columns, n_rows), strict=True))
    grid = np.tile(base, (n_rows, n_columns, 1))
    grid[..., components[0]] = across
    grid[..., components[1]] = up[:, None]
    return _decode(estimator, grid), [across, up]


def traverse(estimator, n_steps, *, X=None, bounds=None, quantiles: Any = (0.05, 0.95), components=None, base=None):
    """Rows decoded while one component changes, for each of several: (rows, values, components).

    Of shape (n_lines, n_steps, n_features), (n_lines, n_steps) and (n_lines,). The parameters are those of
    `decode_grid`, but the values are evenly spread between the quantiles.
    """
    codes = None if X is None else codes_of(estimator, X)
    base = _base(estimator, codes, base)
    components = list(range(min(len(base), 10)) if components is None else components)
    spread = _spread(estimator, codes, bounds, quantiles, components, len(base))
    ends = np.array([spread(component, 2) for component in components], dtype=base.dtype)
    values = np.linspace(ends[:, 0], ends[:, 1], n_steps, axis=1)
    lines = np.tile(base, (len(components), n_steps, 1))
    for line, component in enumerate(components):
        lines[line, :, component] = values[line]
    return _decode(estimator, lines), values, components


def _base(estimator, codes: np.ndarray | None, base) -> np.ndarray:
    """The given code, the mean of those of X, or zero."""
    if base is None:
        base = np.zeros(n_components_of(estimator)) if codes is None else codes.mean(0)
    base = np.asarray(base)
    if base.ndim != 1 or (codes is not None and len(base) != codes.shape[1]):
        raise ValueError(f"base has shape {base.shape}, but must be one code, a vector of n_components numbers.")
    return base if base.dtype in (np.float32, np.float64) else base.astype(np.float64)


def _spread(estimator, codes: np.ndarray | None, bounds, quantiles, components, n_components: int) -> Spread:
    """The function that gives so many values of a component."""
    if any(not 0 <= component < n_components for component in components):
        raise ValueError(
            f"components={tuple(components)!r} must be between 0 and {n_components - 1}, the last component."
        )
    if bounds is not None:
        limits = np.asarray(bounds, dtype=np.float64)
        if limits.shape not in ((2,), (len(components), 2)) or not (limits[..., 0] < limits[..., 1]).all():
            raise ValueError(f"bounds={bounds!r} must be a pair (low, high), or one a component, with low < high.")
        pairs = dict(zip(components, np.broadcast_to(limits, (len(components), 2)), strict=True))
        return lambda component, n: np.linspace(pairs[component][0], pairs[component][1], n)
    low, high = quantiles
    if codes is not None:
        return lambda component, n: np.quantile(codes[:, component], np.linspace(low, high, n))
    if not 0 < low < high < 1:
        raise ValueError(f"quantiles={quantiles!r} of the normal prior must be between 0 and 1, and neither.")
    if not _has_normal_prior(estimator):
        raise ValueError(
            f"The codes of {type(last_step(estimator)).__name__} have no normal prior that would tell where they lie; "
            "give X, whose codes are covered, or bounds."
        )
    return lambda component, n: norm.ppf(np.linspace(low, high, n))


def n_components_of(estimator) -> int:
    size = getattr(last_step(estimator), "n_components_", None)
    if size is None:
        raise ValueError(f"{type(last_step(estimator)).__name__} has no n_components_; give X, or base, a whole code.")
    return size


def _has_normal_prior(estimator) -> bool:
    """Whether codes are held near a normal distribution, or drawn from one."""
    return isinstance(getattr(getattr(last_step(estimator), "model_", None), "prior", None), NormalPrior)


def _codes(estimator, rows, space: str) -> tuple[np.ndarray, bool]:
    """Codes of shape (n_rows, n_components), and whether `rows` was a single one."""
    alone = np.ndim(rows) == 1
    if alone:
        # A row of a table keeps the names of its columns.
        rows = rows.to_frame().T if hasattr(rows, "to_frame") else np.asarray(rows)[None]
    codes = codes_of(estimator, rows) if space == "row" else np.asarray(rows)
    return (codes if codes.dtype in (np.float32, np.float64) else codes.astype(np.float64)), alone


def _decode(estimator, codes: np.ndarray) -> np.ndarray:
    """Rows of codes of shape (..., n_components), with the leading axes kept."""
    made = np.asarray(estimator.inverse_transform(codes.reshape(-1, codes.shape[-1])))
    return made.reshape(*codes.shape[:-1], *made.shape[1:])
