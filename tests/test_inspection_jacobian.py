"""Derivatives of encoders and decoders are those of `transform` and `inverse_transform`."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from registry import ESTIMATORS, LIKELIHOODS, NETWORKS, SMOOTH, over, real, shares
from scipy.sparse import csc_array, csr_array
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    VAE,
    AutoencoderTransformer,
    ConvAE,
    DenoisingAE,
    MaskedAE,
    Multinomial,
    NegativeBinomial,
    Poisson,
    SparseAE,
)
from skae.inspection import _jacobian, jacobian, tangents

SHORT = {"max_iter": 3, "random_state": 0}


def differences(function, X, step):
    """Central differences, of shape (n_rows, n_out, n_in)."""
    columns = []
    for k in range(X.shape[1]):
        shift = np.zeros_like(X)
        shift[:, k] = step
        columns.append((function(X + shift) - function(X - shift)) / (2 * step))
    return np.stack(columns, axis=2)


@pytest.fixture(scope="module")
def linear():
    """A fit without hidden layers, PCA, and its rows, of which the columns have different scales."""
    X = real(200, 5)
    return AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0).fit(X), X


# The derivative is right ---------------------------------------------------------------------------


def test_a_linear_encoders_jacobian_is_its_components(linear):
    ae, X = linear
    components = PCA(2).fit(X).components_
    J = jacobian(ae, X)
    assert J.shape == (200, 2, 5)
    assert_allclose(np.abs(J), np.broadcast_to(np.abs(components), J.shape), atol=1e-5)
    D = jacobian(ae, ae.transform(X), of="decoder")
    assert_allclose(D, np.swapaxes(J, 1, 2), atol=1e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_derivative_is_that_of_differences(name):
    X = real(60, 5)
    estimator = SMOOTH[name].fit(X)
    rows = X[:20]
    assert_allclose(jacobian(estimator, rows), differences(estimator.transform, rows, 1e-5), atol=1e-7)
    codes = estimator.transform(rows)
    D = jacobian(estimator, codes, of="decoder")
    assert_allclose(D, differences(estimator.inverse_transform, codes, 1e-5), atol=1e-7)


@pytest.mark.parametrize("part, rows", **over(LIKELIHOODS))
def test_the_units_of_a_likelihood_are_those_of_the_rows(part, rows):
    # Below a count of zero the likelihood is not defined, and differences at zero are from one side.
    X = np.maximum(rows(60, 4), 0.5) if isinstance(part, Poisson | NegativeBinomial | Multinomial) else rows(60, 4)
    vae = VAE(2, hidden_layer_sizes=(6,), likelihood=part, **SHORT).fit(X)
    assert_allclose(jacobian(vae, X), differences(vae.transform, X, 1e-5), rtol=1e-5, atol=1e-7)
    codes = vae.transform(X)
    D = jacobian(vae, codes, of="decoder")
    assert_allclose(D, differences(vae.inverse_transform, codes, 1e-5), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n_components", [2, 7])
@pytest.mark.parametrize("network", **over({name: NETWORKS[name] for name in NETWORKS if "linear" not in name}))
def test_any_network_by_either_mode(network, n_components):
    """More components than features are differentiated forwards, fewer backwards; no decoder's bend is near."""
    X = real(60, 5)
    ae = AutoencoderTransformer(n_components, network=network, init="random", **SHORT).fit(X)
    rows = X[:10]
    assert_allclose(jacobian(ae, rows), differences(ae.transform, rows, 1e-6), atol=1e-6)
    codes = ae.transform(rows)
    D = jacobian(ae, codes, of="decoder")
    assert_allclose(D, differences(ae.inverse_transform, codes, 1e-6), atol=1e-6)


def test_both_modes_agree(rng):
    weight = torch.tensor(rng.normal(size=(6, 4)))
    x = torch.tensor(rng.normal(size=(3, 4)))

    def bend(rows):
        return torch.tanh(rows @ weight.T)

    assert_allclose(_jacobian.forward_jacobian(bend, x), _jacobian.reverse_jacobian(bend, x), atol=1e-12)
    assert_allclose(_jacobian.row_jacobian(bend, x), (1 - bend(x) ** 2)[:, :, None] * weight, atol=1e-12)


def test_chunks_make_no_difference(monkeypatch):
    X = real(50, 5)
    vae = VAE(2, hidden_layer_sizes=(8,), **SHORT).fit(X)
    whole = jacobian(vae, X), *tangents(vae, X)
    monkeypatch.setattr(_jacobian, "CHUNK_ELEMENTS", 7 * 10)
    for one, other in zip(whole, (jacobian(vae, X), *tangents(vae, X)), strict=True):
        assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name", SMOOTH)
def test_single_precision_stays_and_is_close(name):
    X = real(60, 5)
    estimator = SMOOTH[name].fit(X)
    X = X.astype(np.float32)
    exact = jacobian(estimator, X.astype(np.float64))
    J = jacobian(estimator, X)
    assert J.dtype == np.float32 and exact.dtype == np.float64
    assert_allclose(J, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())
    D = jacobian(estimator, estimator.transform(X), of="decoder")
    assert D.dtype == np.float32 and D.shape == (60, 5, 2)
    values, vectors = tangents(estimator, X)
    assert values.dtype == vectors.dtype == np.float32


def test_images_are_rows_in_c_order(rng):
    images = rng.random((40, 2, 5, 4))
    conv = ConvAE(3, channels=(4,), **SHORT).fit(images)
    J = jacobian(conv, images[:5])
    assert J.shape == (5, 3, 40)

    def encode(rows):
        return conv.transform(rows.reshape(-1, 2, 5, 4))

    assert_allclose(J, differences(encode, images[:5].reshape(5, 40), 1e-5), atol=1e-7)


@pytest.mark.parametrize("container", [csr_array, csc_array])
def test_sparse_rows(container, linear):
    ae, X = linear
    assert_array_equal(jacobian(ae, container(X)), jacobian(ae, X))


def test_nothing_is_changed_by_a_look(linear, nothing_global_changed):
    ae, X = linear
    before = ae.transform(X)
    jacobian(ae, X)
    tangents(ae, X)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in ae.model_.parameters())
    assert_array_equal(ae.transform(X), before)


# Gaps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditioning", [None, "mask"])
def test_a_gap_has_no_derivative_and_the_others_have_theirs(conditioning):
    X = real(60, 5)
    dae = DenoisingAE(2, corruption="masking", conditioning=conditioning, hidden_layer_sizes=(8,), **SHORT).fit(X)
    rows = X[:8].copy()
    rows[:4, 1] = np.nan
    J = jacobian(dae, rows)
    assert_array_equal(J[:4, :, 1], 0)
    assert_array_equal(J[4:], jacobian(dae, X[4:8]))
    observed = [0, 2, 3, 4]

    def encode(some):
        whole = rows[:4].copy()
        whole[:, observed] = some
        return dae.transform(whole)

    assert_allclose(J[:4][:, :, observed], differences(encode, rows[:4][:, observed], 1e-5), atol=1e-7)
    values, vectors = tangents(dae, rows)
    assert np.isfinite(values).all()
    assert_allclose(vectors[:4, :, 1], 0, atol=1e-12)


# Tangents ------------------------------------------------------------------------------------------


def test_tangents_make_up_the_jacobian(linear):
    ae, X = linear
    values, vectors = tangents(ae, X)
    J = jacobian(ae, X)
    assert_allclose(vectors @ np.swapaxes(vectors, 1, 2), np.broadcast_to(np.eye(2), (200, 2, 2)), atol=1e-10)
    assert (np.diff(values, axis=1) <= 0).all()
    # JᵀJ = V S² Vᵀ
    squared = np.swapaxes(vectors, 1, 2) @ (values[..., None] ** 2 * vectors)
    assert_allclose(squared, np.swapaxes(J, 1, 2) @ J, atol=1e-10)
    assert (np.take_along_axis(vectors, np.abs(vectors).argmax(-1, keepdims=True), -1) > 0).all()
    first, leading = tangents(ae, X, n_tangents=1)
    assert_array_equal(first, values[:, :1])
    assert_array_equal(leading, vectors[:, :1])


def test_there_are_as_many_tangents_as_components(linear):
    ae, X = linear
    with pytest.raises(ValueError, match="n_tangents=3 must be between 1 and .* = 2"):
        tangents(ae, X, 3)


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [jacobian, tangents])
def test_what_is_no_autoencoder_is_refused(function, linear):
    ae, X = linear
    with pytest.raises(ValueError, match="estimator=PCA has no model"):
        function(PCA(2).fit(X), X)
    with pytest.raises(ValueError, match=r"estimator=Pipeline .*pipeline\[-1\].*pipeline\[:-1\]"):
        function(make_pipeline(StandardScaler(), AutoencoderTransformer(2, **SHORT)).fit(X), X)
    with pytest.raises(NotFittedError):
        function(AutoencoderTransformer(2), X)


def test_what_does_not_fit_is_refused(linear):
    ae, X = linear
    with pytest.raises(ValueError, match="4 features, but AutoencoderTransformer is expecting 5"):
        jacobian(ae, X[:, :4])
    with pytest.raises(ValueError, match="X has 5 columns, but AutoencoderTransformer has 2 components"):
        jacobian(ae, X, of="decoder")


def test_codes_made_otherwise_have_no_known_derivative(linear):
    class Rounding(AutoencoderTransformer):
        def transform(self, X):
            return np.round(super().transform(X))

    _, X = linear
    rounding = Rounding(2, **SHORT).fit(X)
    with pytest.raises(ValueError, match=r"Rounding.transform is not the map whose derivative is known"):
        jacobian(rounding, X)
    assert jacobian(rounding, rounding.transform(X), of="decoder").shape == (200, 5, 2)


def test_units_that_are_off_have_no_derivative():
    X = real(60, 5)
    sae = SparseAE(6, k=2, hidden_layer_sizes=(8,), **SHORT).fit(X)
    J, code = jacobian(sae, X), sae.transform(X)
    assert_array_equal(J[code == 0], 0)
    assert (np.abs(J[code != 0]).max(axis=1) > 0).all()


@pytest.mark.parametrize("n_features", [5, 130])
def test_codes_of_rows_with_gaps_change_with_what_stands_in_the_gaps(n_features):
    """Also of factors in place of a covariance matrix, and through the bins of numbers."""
    X = real(150, n_features)
    X[::7, 1] = np.nan
    ae = MaskedAE(3, hidden_layer_sizes=8, max_iter=2, random_state=0).fit(X)
    rows, h = X[:9], 1e-5
    shifts = h * np.eye(n_features)
    by_difference = [(ae.transform(rows + shift) - ae.transform(rows - shift)) / (2 * h) for shift in shifts]
    assert_allclose(jacobian(ae, rows), np.stack(by_difference, axis=-1), atol=1e-8)


@pytest.mark.parametrize(
    ("name", "of", "said"),
    [
        ("SemanticHashing", "encoder", "codes of SemanticHashing are discrete"),
        ("VQVAE", "decoder", "codes of VQVAE are discrete"),
        ("MaskedAE", "decoder", "does not hold the row"),
    ],
)
def test_codes_without_a_derivative(name, of, said):
    fitted = clone(ESTIMATORS[name]).fit(shares(40, 5))
    for function in (jacobian, tangents):
        with pytest.raises(ValueError, match=said):
            function(fitted, shares(3, 5), of=of)
