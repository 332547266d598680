"""A linear autoencoder is PCA, and a deeper one never ends above it on the rows it was fitted to."""

import numpy as np
import pytest
from registry import LIKELIHOODS, counts, over, real, shares
from scipy.linalg import subspace_angles
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skae import LBFGS, VAE, AdversarialAE, AutoencoderTransformer, DenoisingAE, LogisticPCA
from skae.training import principal_axes as axes_module
from skae.training.batches import RawRows

TABLES = {
    "digits": lambda: load_digits(return_X_y=True)[0],
    "wine": lambda: load_wine(return_X_y=True)[0],
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True)[0],
    "iris": lambda: load_iris(return_X_y=True)[0],
}
UNSCALED = {name: TABLES[name] for name in ("digits", "wine", "breast_cancer")}


def _squared_error(X, reconstruction):
    return float(((X - reconstruction) ** 2).sum(1).mean())


def _pca_error(X, n_components):
    pca = PCA(n_components, svd_solver="full").fit(X)
    return _squared_error(X, pca.inverse_transform(pca.transform(X)))


def _angle(estimator, X, n_components):
    """Largest angle between what the decoder spans and PCA's components."""
    origin, *moved = estimator.inverse_transform(np.vstack([np.zeros(n_components), np.eye(n_components)]))
    components = PCA(n_components, svd_solver="full").fit(X).components_
    return subspace_angles((np.array(moved) - origin).T, components.T).max()


@pytest.mark.parametrize("n_components", [2, 5])
@pytest.mark.parametrize("table", **over(UNSCALED))
def test_a_linear_autoencoder_spans_what_pca_spans(table, n_components):
    X = table()
    ae = AutoencoderTransformer(n_components, hidden_layer_sizes=(), random_state=0).fit(X)
    assert _angle(ae, X, n_components) < 1e-2
    assert _squared_error(X, ae.reconstruct(X)) == pytest.approx(_pca_error(X, n_components), rel=1e-5)


def test_its_codes_and_variances_are_those_of_pca():
    X = TABLES["digits"]()
    ae = AutoencoderTransformer(5, hidden_layer_sizes=(), random_state=0).fit(X)
    pca = PCA(5, svd_solver="full").fit(X)
    codes = pca.transform(X)
    signs = np.sign((codes * ae.transform(X)).sum(0))
    np.testing.assert_allclose(ae.transform(X), codes * signs, atol=1e-4)
    np.testing.assert_allclose(ae.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-6)


FEW = {"few rows": lambda: TABLES["digits"]()[:30], "wide": lambda: real(60, 150)}


@pytest.mark.parametrize("n_components", [2, None, 0.9])
@pytest.mark.parametrize("table", **over(TABLES | FEW))
def test_it_has_what_readers_of_pca_read(table, n_components):
    X = table()
    ae = AutoencoderTransformer(n_components, hidden_layer_sizes=(), random_state=0).fit(X)
    pca = PCA(n_components, svd_solver="full").fit(X)
    assert ae.n_components_ == pca.n_components_
    assert ae.components_.shape == pca.components_.shape
    np.testing.assert_allclose(ae.mean_, pca.mean_, rtol=1e-12, atol=1e-12)
    # What has no variance has no axis of its own.
    real_axes = pca.explained_variance_ > 1e-9 * pca.explained_variance_[0]
    np.testing.assert_allclose(ae.components_[real_axes], pca.components_[real_axes], rtol=0, atol=1e-6)
    for name in ("explained_variance_", "explained_variance_ratio_"):
        expected = getattr(pca, name)
        np.testing.assert_allclose(getattr(ae, name), expected, rtol=1e-9, atol=1e-12 * expected[0])
    np.testing.assert_allclose(ae.transform(X)[:, real_axes], pca.transform(X)[:, real_axes], atol=1e-4)
    np.testing.assert_allclose(ae.transform(X), (X - ae.mean_) @ ae.components_.T, atol=1e-9)


def test_variances_are_those_of_as_many_components_as_the_code_has():
    X = TABLES["digits"]()
    for n_components in ("auto", 0.9):
        ae = AutoencoderTransformer(n_components, max_iter=1, early_stopping=False, random_state=0).fit(X)
        pca = PCA(ae.n_components_, svd_solver="full").fit(X)
        np.testing.assert_allclose(ae.explained_variance_, pca.explained_variance_, rtol=1e-9)
        np.testing.assert_allclose(ae.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-9)
    ae.set_params(init="random").fit(X)
    assert not hasattr(ae, "explained_variance_") and not hasattr(ae, "explained_variance_ratio_")


def test_a_row_of_weight_two_is_two_rows_of_the_variance():
    X, weight = TABLES["iris"](), np.arange(150) % 3
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0).fit(X, sample_weight=weight)
    pca = PCA(2, svd_solver="full").fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(ae.explained_variance_, pca.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(ae.components_, pca.components_, atol=1e-6)


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(2, init="random"),
        AutoencoderTransformer(2, penalties=[]),
        DenoisingAE(2),
        VAE(2),
        AdversarialAE(2),
    ],
    ids=str,
)
def test_a_trained_linear_encoder_is_its_map(estimator):
    X = np.where(np.random.default_rng(0).random((120, 6)) < 0.1, np.nan, real(120, 6))
    ae = clone(estimator).set_params(hidden_layer_sizes=(), max_iter=5, early_stopping=False, random_state=0).fit(X)
    whole = real(120, 6)
    np.testing.assert_allclose(ae.transform(whole), (whole - ae.mean_) @ ae.components_.T, atol=1e-9)
    ae.set_params(hidden_layer_sizes=(8,)).fit(X)
    assert not hasattr(ae, "components_") and not hasattr(ae, "mean_")


@pytest.mark.parametrize("likelihood", ["poisson", "multinomial"])
def test_counts_are_not_mapped_linearly(likelihood):
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(), likelihood=likelihood, max_iter=2, random_state=0)
    assert not hasattr(ae.fit(counts(60, 6)), "components_")


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_training_from_a_random_start_finds_the_span(optimizer):
    X = StandardScaler().fit_transform(TABLES["wine"]())
    options = {"adamw": {"max_iter": 1500, "learning_rate": 0.01}, "lbfgs": {"max_iter": 20}}[optimizer]
    if optimizer == "lbfgs":
        optimizer = LBFGS(max_evaluations=100)
    ae = AutoencoderTransformer(
        3, hidden_layer_sizes=(), init="random", optimizer=optimizer, early_stopping=False, random_state=0, **options
    )
    assert _angle(ae.set_params(batch_size=len(X)).fit(X), X, 3) < 1e-2


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAE, DenoisingAE])
def test_the_first_loss_is_that_of_pca(estimator):
    """Before the first update, for any depth."""
    X = real(120, 6)
    options = {"max_iter": 1, "batch_size": 120, "learning_rate": 1e-30, "early_stopping": False, "random_state": 0}
    for hidden in ((8,), (16, 8)):
        ae = estimator(2, hidden_layer_sizes=hidden, **options).fit(X)
        expected = _pca_error(X, 2)
        if estimator is VAE:
            # Its codes are shrunk towards zero, as probabilistic PCA's are.
            assert ae.score(X) == pytest.approx(PCA(2).fit(X).score(X), abs=0.05)
        else:
            assert _squared_error(X, ae.reconstruct(X)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("early_stopping", [False, True], ids=["to-the-end", "guarded"])
@pytest.mark.parametrize("scaled", [False, True], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("name", ["wine", "iris", "breast_cancer"])
def test_training_error_never_ends_above_that_of_pca(name, scaled, early_stopping):
    X = TABLES[name]()
    X = StandardScaler().fit_transform(X) if scaled else X
    for hidden in ((16,), "auto"):
        ae = AutoencoderTransformer(
            2, hidden_layer_sizes=hidden, max_iter=15, early_stopping=early_stopping, random_state=0
        ).fit(X)
        assert _squared_error(X, ae.reconstruct(X)) <= _pca_error(X, 2) * (1 + 1e-5)


@pytest.mark.parametrize("scaled", [False, True], ids=["unscaled", "scaled"])
def test_hidden_layers_do_better_than_pca_where_the_data_bend(scaled):
    X = TABLES["digits"]()
    X = StandardScaler().fit_transform(X) if scaled else X
    ae = AutoencoderTransformer(2, max_iter=25, random_state=0).fit(X[:1200])
    pca = PCA(2).fit(X[:1200])
    held = X[1200:]
    error = _squared_error(held, ae.reconstruct(held))
    assert error < 0.9 * _squared_error(held, pca.inverse_transform(pca.transform(held)))


def test_number_of_components_by_share_of_variance():
    X = TABLES["digits"]()
    for share in (0.5, 0.8, 0.95):
        ae = AutoencoderTransformer(share, hidden_layer_sizes=(), random_state=0).fit(X)
        assert ae.n_components_ == PCA(share).fit(X).n_components_


def test_number_of_components_by_mean_variance():
    X = TABLES["digits"]()
    variance = PCA().fit(X).explained_variance_
    ae = AutoencoderTransformer("auto", hidden_layer_sizes=(), random_state=0).fit(X)
    assert ae.n_components_ == (variance > variance.mean()).sum()
    assert AutoencoderTransformer(hidden_layer_sizes=()).fit(real(30, 1)).n_components_ == 1


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("shape", [(80, 10), (10, 80), (60, 40)], ids=str)
def test_axes_do_not_depend_on_how_they_are_found(shape, weighted, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((shape[0], 4)) * [9, 7, 5, 3] @ np.linalg.qr(rng.standard_normal((shape[1], 4)))[0].T
    X += 0.01 * rng.standard_normal(shape)
    weight = rng.integers(1, 4, shape[0]).astype(float) if weighted else None
    made = []
    for limit in (2048, 30, 0):
        monkeypatch.setattr(axes_module, "MAX_COVARIANCE", limit)
        monkeypatch.setattr("skae.training.batches.CHUNK_ELEMENTS", 7 * shape[1])
        ae = AutoencoderTransformer(3, hidden_layer_sizes=(), random_state=0).fit(X, sample_weight=weight)
        made.append((ae.transform(X), ae.explained_variance_ratio_))
    repeated = X if weight is None else np.repeat(X, weight.astype(int), axis=0)
    ratio = PCA(3, svd_solver="full").fit(repeated).explained_variance_ratio_
    for codes, found in made:
        np.testing.assert_allclose(codes, made[0][0], atol=1e-3)
        np.testing.assert_allclose(found, ratio, rtol=1e-4)


def test_moments_do_not_depend_on_chunks_or_on_a_large_offset(monkeypatch):
    X = real(101, 5) + 1e7
    monkeypatch.setattr("skae.training.batches.CHUNK_ELEMENTS", 5 * 10)
    columns = axes_module.column_moments(RawRows(X), LIKELIHOODS["gaussian"].part)
    np.testing.assert_allclose(columns.mean, X.mean(0), rtol=1e-14)
    np.testing.assert_allclose(columns.variance, X.var(0), rtol=1e-9)
    np.testing.assert_array_equal(columns.low, X.min(0))
    np.testing.assert_array_equal(columns.high, X.max(0))


def test_a_large_offset_costs_nothing():
    X = real(200, 5)
    near, far = (
        AutoencoderTransformer(2, hidden_layer_sizes=(8,), max_iter=5, random_state=0).fit(X + shift)
        for shift in (0, 1e6)
    )
    np.testing.assert_allclose(near.transform(X), far.transform(X + 1e6), atol=1e-2)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_units_of_the_data_do_not_matter(factor):
    X = real(200, 5)
    one = AutoencoderTransformer(2, hidden_layer_sizes=(8,), max_iter=10, random_state=0).fit(X)
    other = clone(one).fit(factor * X)
    np.testing.assert_allclose(other.reconstruct(factor * X) / factor, one.reconstruct(X), atol=0.02)


@pytest.mark.parametrize("rows", [shares, counts])
def test_other_likelihoods_start_far_ahead_of_a_random_start(rows):
    X = rows(200, 8)
    options = {"hidden_layer_sizes": (8,), "max_iter": 1, "early_stopping": False, "random_state": 0}
    options["likelihood"] = "bernoulli" if rows is shares else "poisson"
    start, random = (AutoencoderTransformer(2, init=init, **options).fit(X) for init in ("pca", "random"))
    constant = AutoencoderTransformer(1, init="pca", **options).fit(np.vstack([X.mean(0)] * 200)).score(X)
    assert random.loss_curve_[0] > start.loss_curve_[0]
    assert start.score(X) > constant


def test_logistic_pca_beats_the_cross_entropy_of_clipped_pca():
    X = TABLES["digits"]()[:500] / 16
    pca = PCA(5).fit(X)
    clipped = np.clip(pca.inverse_transform(pca.transform(X)), 1e-3, 1 - 1e-3)
    cross_entropy = -(X * np.log(clipped) + (1 - X) * np.log(1 - clipped)).sum(1).mean()
    lpca = LogisticPCA(5, max_iter=60, learning_rate=0.01, early_stopping=False, random_state=0).fit(X)
    assert -lpca.score(X) < 0.98 * cross_entropy
    assert ((0 <= lpca.reconstruct(X)) & (lpca.reconstruct(X) <= 1)).all()
    # Its logits are affine in the row: the rank of their differences is the number of components.
    r = np.clip(lpca.reconstruct(X), 1e-12, 1 - 1e-12)
    logits = np.log(r) - np.log1p(-r)
    singular = np.linalg.svd(logits - logits.mean(0), compute_uv=False)
    assert singular[5] < 1e-4 * singular[0]
