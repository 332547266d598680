"""What comes out: dtypes, names, shapes, units."""

import numpy as np
import pytest
from registry import ESTIMATORS, LIKELIHOODS, over, real, shares
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

import skae
from skae import VAE, AutoencoderTransformer, DenoisingAE, DenseNetwork, GaussianNoise

P = 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, bool], ids=str)
@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_precision_in_is_precision_out(estimator, dtype):
    X = (5 * shares(60, P)).round().clip(0, 1).astype(dtype)
    ae = clone(estimator).fit(X)
    expected = np.float32 if dtype == np.float32 else np.float64
    assert ae.transform(X).dtype == ae.reconstruct(X).dtype == expected
    assert ae.inverse_transform(ae.transform(X)).dtype == expected
    assert ae.score_samples(X).dtype == np.float64 and isinstance(ae.score(X), float)
    assert ae.score(X) == pytest.approx(ae.score_samples(X).mean())


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_single_precision_agrees_with_double(estimator):
    X = shares(60, P).astype(np.float32)
    ae = clone(estimator).fit(X)
    for method in ("transform", "reconstruct", "score_samples"):
        single, double = getattr(ae, method)(X), getattr(ae, method)(X.astype(np.float64))
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_shapes_and_names(estimator):
    X = shares(60, P)
    ae = clone(estimator)
    codes = ae.fit_transform(X)
    assert codes.shape == (60, 2) and ae.reconstruct(X).shape == (60, P) and ae.score_samples(X).shape == (60,)
    prefix = type(ae).__name__.lower()
    np.testing.assert_array_equal(ae.get_feature_names_out(), [f"{prefix}0", f"{prefix}1"])
    np.testing.assert_array_equal(codes, ae.transform(X))
    assert ae.n_components_ == 2 and ae.n_features_in_ == P
    assert ae.n_iter_ >= 1


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_reconstruct_decodes_the_code(example):
    X = example.rows(60, P)
    for estimator in (AutoencoderTransformer, DenoisingAE, VAE):
        ae = estimator(2, hidden_layer_sizes=(6,), likelihood=clone(example.part), max_iter=2, random_state=0).fit(X)
        rebuilt = ae.inverse_transform(ae.transform(X))
        np.testing.assert_allclose(rebuilt, ae.reconstruct(X), rtol=1e-9, atol=1e-9)


def test_frames_out():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(real(60, P), columns=list("abcde"), index=np.arange(60) + 100)
    ae = AutoencoderTransformer(2, max_iter=2, random_state=0).set_output(transform="pandas").fit(X)
    codes = ae.transform(X)
    assert list(codes.columns) == ["autoencodertransformer0", "autoencodertransformer1"]
    assert (codes.index == X.index).all()


def test_large_inputs_are_mapped_by_chunk(monkeypatch):
    X = real(300, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X)
    vae = VAE(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X)
    whole = [ae.transform(X), ae.reconstruct(X), ae.score_samples(X), *vae.posterior(X), vae.score_samples(X)]
    codes = ae.transform(X)
    whole.append(ae.inverse_transform(codes))
    monkeypatch.setattr("skae.autoencoders._base.CHUNK_ELEMENTS", 7 * P)
    parts = [ae.transform(X), ae.reconstruct(X), ae.score_samples(X), *vae.posterior(X), vae.score_samples(X)]
    parts.append(ae.inverse_transform(codes))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_in_pipelines_unions_and_searches():
    X, y = load_iris(return_X_y=True)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(8,), max_iter=5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), ae, LogisticRegression())
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.85
    union = FeatureUnion([("ae", clone(ae)), ("vae", VAE(1, max_iter=2))]).fit(X)
    assert union.transform(X).shape == (150, 3)
    columns = ColumnTransformer([("ae", clone(ae), [0, 1, 2])], remainder="passthrough").fit(X)
    assert columns.transform(X).shape == (150, 3)
    assert make_pipeline(clone(ae), KMeans(3, n_init=1, random_state=0)).fit_predict(X).shape == (150,)


def test_model_selection_needs_no_y():
    X = real(120, P)
    search = GridSearchCV(
        AutoencoderTransformer(hidden_layer_sizes=(), random_state=0), {"n_components": [1, 2, 4]}, cv=3
    ).fit(X)
    assert search.best_params_ == {"n_components": 4}


def test_parts_are_searched_by_their_parameters():
    X = real(120, P)
    dae = DenoisingAE(2, network=DenseNetwork((6,)), corruption=GaussianNoise(0.1), max_iter=2, random_state=0)
    grid = {"corruption__scale": [0.1, 1.0], "network__hidden_layer_sizes": [(4,), (8,)]}
    search = GridSearchCV(dae, grid, cv=2).fit(X)
    assert search.best_estimator_.network.hidden_layer_sizes in [(4,), (8,)]
    # Parts hold parameters only: the fit left them alone.
    assert vars(dae.network) == vars(DenseNetwork((6,)))


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_parameters_are_left_as_they_were_given(estimator):
    ae = clone(estimator)
    before = {name: repr(value) for name, value in ae.get_params().items()}
    ae.fit(shares(60, P))
    assert {name: repr(value) for name, value in ae.get_params().items()} == before


def test_public_names_are_there_and_sorted():
    assert set(skae.__all__) <= set(dir(skae))
    assert len(set(skae.__all__)) == len(skae.__all__)
    for name in skae.__all__:
        assert getattr(skae, name).__doc__
