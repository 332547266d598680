"""What comes out: dtypes, names, shapes, units."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from registry import ESTIMATORS, LIKELIHOODS, counts, over, real, shares
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from torch.nn.utils import prune

import skae
from skae import RBM, VAE, AdversarialAE, AutoencoderTransformer, DenoisingAE, DenseNetwork, GaussianNoise

P = 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, bool], ids=str)
@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_precision_in_is_precision_out(estimator, dtype):
    X = (5 * shares(60, P)).round().clip(0, 1).astype(dtype)
    ae = clone(estimator).fit(X)
    expected = np.float32 if dtype == np.float32 else np.float64
    assert ae.reconstruct(X).dtype == expected
    # Codes that are integers stay so.
    is_kept = bool(get_tags(ae).transformer_tags.preserves_dtype)
    assert ae.transform(X).dtype == (expected if is_kept else {"VQVAE": np.int64}.get(type(ae).__name__, np.uint8))
    if hasattr(ae, "inverse_transform"):
        assert ae.inverse_transform(ae.transform(X)).dtype == (expected if is_kept else np.float64)
    assert ae.score_samples(X).dtype == np.float64 and isinstance(ae.score(X), float)
    # RBM's free energies have no common zero: its score is the pseudo-likelihood.
    if not isinstance(ae, RBM):
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


def _outcome(method, X):
    """What a method returns or raises, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            made = method(X)
        except (TypeError, ValueError) as error:
            made = repr(error)
    return made, sorted(str(warning.message) for warning in caught)


def _with(value):
    X = real(6, P)
    X[0, 0] = value
    return X


def _opposite_infinities():
    X = _with(np.inf)
    X[1, 1] = -np.inf
    return X


def _read_only():
    X = real(6, P)
    X.flags.writeable = False
    return X


def _memory_map(tmp_path):
    np.save(tmp_path / "X.npy", real(6, P))
    return np.load(tmp_path / "X.npy", mmap_mode="r+")


INPUTS = {
    "float64": lambda: real(6, P),
    "float32": lambda: real(6, P).astype(np.float32),
    "one row": lambda: real(1, P),
    "integers": lambda: real(6, P).astype(int),
    "half precision": lambda: real(6, P).astype(np.float16),
    "objects": lambda: real(6, P).astype(object),
    "list": lambda: real(6, P).tolist(),
    "Fortran order": lambda: np.asfortranarray(real(6, P)),
    "every other row, backwards": lambda: real(6, P)[::-2],
    "other byte order": lambda: real(6, P).astype(">f8"),
    "read-only": _read_only,
    "sparse": lambda: sp.csr_array(real(6, P)),
    "masked": lambda: np.ma.masked_less(real(6, P), 0),
    "NaN": lambda: _with(np.nan),
    "infinity": lambda: _with(np.inf),
    "opposite infinities": _opposite_infinities,
    "a sum that overflows": lambda: np.full((6, P), 1e308),
    "a sum that overflows in float32": lambda: np.full((6, P), 1e38, np.float32),
    "complex": lambda: real(6, P) * 1j,
    "strings": lambda: np.full((6, P), "a"),
    "no rows": lambda: np.empty((0, P)),
    "one column less": lambda: real(6, P)[:, 1:].copy(),
    "one dimension": lambda: real(6, P)[0],
    "three dimensions": lambda: real(6, P)[None],
    "no dimension": lambda: np.array(1.0),
}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", [*INPUTS, "memory map", "frame"])
def test_arrays_that_are_not_checked_need_no_check(kind, named, monkeypatch, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(real(60, P), columns=list("abcde"))
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0)
    ae.fit(frame if named else frame.to_numpy())
    X = {"memory map": lambda: _memory_map(tmp_path), "frame": lambda: frame[:6], **INPUTS}[kind]()
    methods = (ae.transform, ae.reconstruct, ae.score_samples)
    found = [_outcome(method, X) for method in methods]
    monkeypatch.setattr(type(ae), "_is_plain", lambda self, X: False)
    for (made, warned), (expected, expected_warned) in zip(found, [_outcome(m, X) for m in methods], strict=True):
        np.testing.assert_array_equal(made, expected, strict=True)
        assert warned == expected_warned


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plain_arrays_are_not_checked_twice(dtype, monkeypatch):
    X = real(60, P).astype(dtype)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X)
    monkeypatch.delattr("skae.autoencoders._estimator.checked_numbers")
    assert ae.transform(X[:1]).shape == (1, 2) and ae.reconstruct(X).shape == X.shape


def test_weights_that_a_user_masks_are_used():
    X = real(60, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0).fit(X)
    prune.random_unstructured(ae.model_.encoder.linear, "weight", 1.0)
    np.testing.assert_allclose(ae.transform(X.astype(np.float32)), 0)


def test_large_inputs_are_mapped_by_chunk(monkeypatch):
    X = real(300, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X)
    vae = VAE(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X)
    whole = [ae.transform(X), ae.reconstruct(X), ae.score_samples(X), *vae.posterior(X), vae.score_samples(X)]
    codes = ae.transform(X)
    whole.append(ae.inverse_transform(codes))
    for module in ("_estimator", "_base"):
        monkeypatch.setattr(f"skae.autoencoders.{module}.CHUNK_ELEMENTS", 7 * P)
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


@pytest.mark.parametrize("estimator", [VAE(2), AdversarialAE(2)], ids=str)
@pytest.mark.parametrize(("likelihood", "rows"), [("poisson", counts), ("bernoulli", shares)])
def test_samples_are_means_or_draws_with_these_means(estimator, likelihood, rows):
    """Counts and bits where they are drawn; within six standard errors of draws with their own codes."""
    fitted = clone(estimator).set_params(likelihood=likelihood, hidden_layer_sizes=(6,), max_iter=2, random_state=0)
    fitted.fit(rows(80, 4))
    means, drawn = (fitted.sample(3000, random_state=0, return_mean=each) for each in (True, False))
    np.testing.assert_array_equal(drawn, drawn.round())
    assert (means != means.round()).any()
    assert (np.abs(drawn.mean(0) - means.mean(0)) < 6 * (drawn - means).std(0) / np.sqrt(3000)).all()


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_visible_units_are_means_or_draws(visible):
    X = shares(80, 4)
    rbm = RBM(3, visible=visible, max_iter=2, random_state=0).fit(X)
    means, drawn = (rbm.sample(3000, n_gibbs=5, random_state=0, return_mean=each) for each in (True, False))
    assert (set(np.unique(drawn)) == {0.0, 1.0}) == (visible == "binary")
    assert (np.abs(drawn.mean(0) - means.mean(0)) < 6 * (drawn - means).std(0) / np.sqrt(3000)).all()
