"""Derivatives of encoders and decoders, and the tangents of the manifold that an encoder follows."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skae.base.parameters import at_least, checked_arguments
from skae.base.rows import from_torch
from skae.inspection._common import OF, last_step
from skae.model.autoencoder import Autoencoder
from skae.model.bits import Bits
from skae.model.contraction import jacobian as reverse_jacobian
from skae.model.quantised import Quantised
from skae.model.settings import own_settings
from skae.model.step import Step
from skae.model.threads import threads
from skae.training.batches import RawRows

CHUNK_ELEMENTS = 2**20

RowFunction = Callable[[Tensor], Tensor]


@checked_arguments(of=OF)
@own_settings()
def jacobian(estimator, X, *, of="encoder") -> np.ndarray:
    r"""Derivative of `transform`, or of `inverse_transform`, at each row.

    .. math:: J_{jk}(x) = \partial z_j / \partial x_k, \quad z = \mathrm{transform}(x)

    Both sides are in the units that `transform` and `inverse_transform` speak, so that J(x)·δ is the change of the
    code when the row x changes by a small δ.

    Parameters
    ----------
    estimator : fitted autoencoder
        An autoencoder of skae, not a pipeline: its steps have derivatives of their own.
    X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, n_components)
        Where to differentiate: rows, or images where `transform` takes them; with ``of="decoder"`` codes.
    of : {"encoder", "decoder"}, default="encoder"
        "encoder" differentiates `transform`, "decoder" `inverse_transform`.

    Returns
    -------
    ndarray of shape (n_samples, n_components, n_features)
        With ``of="decoder"``, of shape (n_samples, n_features, n_components). In the dtype of X (float64 for
        integers), and computed in that precision.

    Raises
    ------
    ValueError
        If `estimator` is no autoencoder of skae, if X does not fit it, or if its codes are made by something that
        has no derivative.

    Notes
    -----
    An entry that is NaN was not observed: the code depends on the other entries alone, so its column is zero.

    Where a code has a bend (the k largest units of `SparseAE`, rectified units), the derivative is that of the piece on
    which the row lies. A random code is differentiated by its mean.

    It costs a backward pass for each output, or a forward pass for each input where those are fewer, and n_samples ·
    n_components · n_features numbers of memory; `tangents` keeps less.

    See Also
    --------
    tangents : The directions in which the code is most sensitive.

    Examples
    --------
    Without a hidden layer the encoder is PCA, and its Jacobian PCA's components:

    >>> import numpy as np
    >>> from skae import AutoencoderTransformer
    >>> from skae.inspection import jacobian
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> X, _ = load_iris(return_X_y=True)
    >>> ae = AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0).fit(X)
    >>> J = jacobian(ae, X)
    >>> J.shape
    (150, 2, 4)
    >>> bool(np.allclose(np.abs(J), np.abs(PCA(2).fit(X).components_), atol=1e-4))
    True
    """
    _check_estimator(estimator, of)
    derivative = (_EncoderDerivative if of == "encoder" else _DecoderDerivative)(estimator, X)
    out = np.empty(derivative.shape, derivative.dtype)
    for rows, block in derivative.blocks():
        out[rows] = block
    return out


@checked_arguments(n_tangents=[at_least(1), None], of=OF)
@own_settings()
def tangents(estimator, X, n_tangents=None, *, of="encoder") -> tuple[np.ndarray, np.ndarray]:
    r"""Tangents of the surface near which the data lie, by the singular vectors of a Jacobian at each row.

    .. math:: \frac{\partial z}{\partial x} = \sum_k s_k\, u_k v_k^\top, \qquad
        \frac{\partial g}{\partial z} = \sum_k s_k\, v_k u_k^\top

    With ``of="decoder"`` the v of the decoder's Jacobian are what moving the code changes in the reconstruction. With
    as many components as the surface has dimensions, they span its tangent plane: fit
    ``AutoencoderTransformer(dimension, penalties=[])``, whose tangents are within a few hundredths of a radian on
    smooth surfaces. Where the dimension is not known, an encoder that is insensitive elsewhere has as many large
    singular values as the surface has dimensions, and their v are near its tangents [1]_: `ContractiveAE` and
    `DenoisingAE` are trained to be insensitive.

    Parameters
    ----------
    estimator : fitted autoencoder
        An autoencoder of skae, not a pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Rows.
    n_tangents : int, default=None
        How many of the leading vectors to return; None returns min(n_components, n_features).
    of : {"encoder", "decoder"}, default="encoder"
        Whose Jacobian: that of `transform` at the rows, or that of `inverse_transform` at their codes.

    Returns
    -------
    singular_values : ndarray of shape (n_samples, n_tangents)
        In descending order, in units of the code over units of X, or of X over the code for the decoder.
    vectors : ndarray of shape (n_samples, n_tangents, n_features)
        Orthonormal for each row. The entry of the largest size is positive.

    Raises
    ------
    ValueError
        As `jacobian` does, or if `n_tangents` is out of range.

    See Also
    --------
    JacobianSpectrumDisplay : The singular values of several estimators as curves.

    References
    ----------
    .. [1] Rifai, Dauphin, Vincent, Bengio and Muller, "The manifold tangent classifier", NIPS 2011.

    Examples
    --------
    >>> from skae import ContractiveAE
    >>> from skae.inspection import tangents
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> cae = ContractiveAE(10, max_iter=5, random_state=0).fit(X)
    >>> singular_values, vectors = tangents(cae, X[:100], n_tangents=3)
    >>> singular_values.shape, vectors.shape
    ((100, 3), (100, 3, 64))
    """
    _check_estimator(estimator, of)
    derivative: _Derivative
    if of == "encoder":
        derivative = _EncoderDerivative(estimator, X)
        n_samples, n_components, n_features = derivative.shape
    else:
        derivative = _DecoderDerivative(estimator, estimator.transform(X))
        n_samples, n_features, n_components = derivative.shape
    most = min(n_components, n_features)
    n_tangents = most if n_tangents is None else n_tangents
    if n_tangents > most:
        raise ValueError(f"n_tangents={n_tangents} must be between 1 and min(n_components, n_features) = {most}.")
    singular_values = np.empty((n_samples, n_tangents), derivative.dtype)
    vectors = np.empty((n_samples, n_tangents, n_features), derivative.dtype)
    for rows, block in derivative.blocks():
        _, values, right = np.linalg.svd(block if of == "encoder" else block.swapaxes(1, 2), full_matrices=False)
        right = right[:, :n_tangents]
        largest = np.take_along_axis(right, np.abs(right).argmax(-1, keepdims=True), axis=-1)
        singular_values[rows], vectors[rows] = values[:, :n_tangents], right * np.where(largest < 0, -1, 1)
    return singular_values, vectors


def _check_estimator(estimator, of: str) -> None:
    check_is_fitted(estimator)
    if hasattr(estimator, "table_encoder_"):
        raise ValueError(
            f"{type(estimator).__name__} was fitted to tables, whose categories have no derivative. Fit it to the "
            "matrix that a TableEncoder makes, with likelihood=Mixed().for_groups(encoder.groups_)."
        )
    model = getattr(estimator, "model_", None)
    if isinstance(model, Autoencoder):
        if isinstance(model.posterior, Bits | Quantised):
            raise ValueError(f"The codes of {type(estimator).__name__} are discrete, and have no derivative.")
        if of == "decoder" and model.preconditioned:
            raise ValueError(
                f"A code of this {type(estimator).__name__} does not hold the row, so that there is no "
                "inverse_transform to differentiate: use of='encoder'."
            )
        return
    hint = "Give an autoencoder of skae."
    if isinstance(getattr(last_step(estimator), "model_", None), Autoencoder) and hasattr(estimator, "steps"):
        hint = "Give its last step, pipeline[-1], and the rows that reach it, pipeline[:-1].transform(X)."
    raise ValueError(f"estimator={type(estimator).__name__} has no model whose derivative is known. {hint}")


class _Derivative:
    """The Jacobian of one of an estimator's maps, a chunk of rows at a time.

    The model is a copy, made outside of torch's inference mode: what `transform` keeps for later calls carries no
    derivative.

    Parameters
    ----------
    estimator : fitted autoencoder
    X : array-like of shape (n_samples, n_in)
    """

    method: str

    def __init__(self, estimator, X) -> None:
        X = from_torch(X)
        # The estimator's own check of X, and the values that the map here must have.
        values = np.asarray(getattr(estimator, self.method)(X))
        self.values = values.reshape(len(values), -1)
        X = X if issparse(X) else np.asarray(X)
        self.rows = RawRows(X if X.ndim == 2 else X.reshape(len(X), -1))
        self.dtype = np.dtype(np.float32 if self.rows.X.dtype == np.float32 else np.float64)
        self.shape = (self.rows.n_rows, self.values.shape[1], self.rows.n_features)
        model = copy.deepcopy(estimator.model_).to(estimator.model_.reference.device).requires_grad_(False)
        self.model = model.double() if self.dtype == np.float64 else model
        self._check_values(type(estimator).__name__)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The rows of each chunk, and their Jacobians."""
        size = max(1, CHUNK_ELEMENTS // (self.shape[1] * self.shape[2]))
        # A pass, forwards or backwards, for each input or output.
        flops = self.model.flops(min(size, self.shape[0]) * min(self.shape[1:]))
        for start in range(0, self.shape[0], size):
            rows = slice(start, start + size)
            with threads.for_work(flops):
                block = self.at(self._take(rows)).cpu().numpy()
            yield rows, block

    def value(self, x: Tensor) -> Tensor:
        """The map, of rows of shape (n_rows, n_in)."""
        raise NotImplementedError

    def at(self, x: Tensor) -> Tensor:
        """Its Jacobian, of shape (n_rows, n_out, n_in)."""
        raise NotImplementedError

    def _take(self, rows: slice) -> Tensor:
        return self.rows.take(rows).to(self.model.reference.device, self.model.reference.dtype)

    def _check_values(self, name: str) -> None:
        few = slice(0, max(1, CHUNK_ELEMENTS // max(self.shape[1:])))
        made, expected = self.value(self._take(few)).cpu().numpy(), self.values[few]
        same = made.shape == expected.shape and np.allclose(
            made, expected, rtol=1e-3, atol=1e-3 * max(1e-30, float(np.abs(expected).max(initial=0)))
        )
        if not same:
            raise ValueError(
                f"{name}.{self.method} is not the map whose derivative is known (that of a point code, or of the mean "
                "of a random one): its values differ from the model's."
            )


class _EncoderDerivative(_Derivative):
    method = "transform"

    def _step(self, x: Tensor) -> Step:
        return self.model.step(*self.model.prepare(x))

    def value(self, x: Tensor) -> Tensor:
        step = self._step(x)
        return step.encoder_function(step.input) * self.model.code_unit

    def at(self, x: Tensor) -> Tensor:
        step = self._step(x)
        made = row_jacobian(step.encoder_function, step.input) * self.model.code_unit
        return made * self._input_slope(x, step.observed)[:, None, :]

    def _input_slope(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """How much the standardised entries change with those of the rows; not at all where they were not observed."""
        scaling = self.model.scaling
        slope = torch.func.grad(lambda rows: scaling.likelihood.network_input(rows).sum())(torch.nan_to_num(x))
        slope = slope / scaling.units(x).spread
        return slope if observed is None else slope * observed


class _DecoderDerivative(_Derivative):
    method = "inverse_transform"

    def value(self, x: Tensor) -> Tensor:
        model = self.model
        return model.scaling.from_target(model.expected(x / model.code_unit))

    def at(self, x: Tensor) -> Tensor:
        return row_jacobian(self.value, x)


def row_jacobian(function: RowFunction, x: Tensor) -> Tensor:
    """The Jacobian of a function that maps each row by itself, of shape (n_rows, n_out, n_in)."""
    n_in, n_out = x.shape[1], function(x).shape[1]
    return reverse_jacobian(function, x) if n_out <= n_in else forward_jacobian(function, x)


def forward_jacobian(function: RowFunction, x: Tensor) -> Tensor:
    """The same by a forward pass for each input: cheaper where there are fewer inputs than outputs."""
    directions = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    with warnings.catch_warnings():
        # torch's own, when it first builds its rules of forward differentiation.
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        columns = torch.func.vmap(lambda direction: torch.func.jvp(function, (x,), (direction.expand_as(x),))[1])(
            directions
        )
    return columns.permute(1, 2, 0)
