"""What a row gets does not depend on the other rows of the call, in single precision too."""

import numpy as np
import pytest
from registry import ESTIMATORS, over, real, shares, with_parameters
from sklearn.base import clone

from skae import (
    GAN,
    VQVAE,
    AutoencoderClassifier,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    ConvAE,
    DenoisingAE,
    PredictiveSparseDecomposition,
    SemanticHashing,
    SparseAE,
)
from skae.anomaly import DenoisingError, ReconstructionError

CASES = {
    **ESTIMATORS,
    "GAN": GAN(2, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    "DenoisingAE-levels": DenoisingAE(2, conditioning="noise_level", init="random", max_iter=3, random_state=0),
    "ConvAE-unpool": ConvAE(2, channels=(4,), down="max", up="unpool", max_iter=3, random_state=0),
}
PARTS = [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 10), slice(10, 31), slice(31, 64)]
CONTINUOUS = ("transform", "reconstruct", "score_function")


def in_parts(method, X):
    return np.concatenate([np.asarray(method(X[part])) for part in PARTS])


def assert_alone_as_together(estimator, X):
    for name in CONTINUOUS:
        if hasattr(estimator, name) and not (name == "score_function" and estimator.corruption != "gaussian"):
            together = getattr(estimator, name)(X)
            assert together.dtype in (np.float32, np.uint8, np.int64)
            scale = np.abs(together).max(0)
            np.testing.assert_allclose(in_parts(getattr(estimator, name), X) / scale, together / scale, atol=1e-5)
    scores = estimator.score_samples(X)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(in_parts(estimator.score_samples, X), scores, rtol=1e-9)
    # Those of the same numbers in double precision.
    np.testing.assert_allclose(estimator.score_samples(X.astype(np.float64)), scores, rtol=1e-12)


@pytest.mark.parametrize("estimator", **over(CASES))
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
def test_rows_alone_and_together(estimator):
    X = shares(200, 16).astype(np.float32)
    assert_alone_as_together(clone(estimator).fit(X), X[:64])


@pytest.mark.parametrize("estimator", [ConvAE(14, max_iter=3), VQVAE(8, max_iter=3), DenoisingAE(15, max_iter=3)])
def test_scores_of_rows_that_are_rebuilt_nearly_exactly(estimator):
    X = (1000 + real(300, 16)).astype(np.float32)
    assert_alone_as_together(clone(estimator).set_params(random_state=0).fit(X), X[:64])


@pytest.mark.parametrize("estimator", **over(CASES))
def test_a_huge_cell_is_of_its_own_row_alone(estimator):
    X = shares(200, 16).astype(np.float32)
    ae = clone(estimator).fit(X)
    wild = X[:64].copy()
    wild[7, 3] = 1e22
    with np.errstate(all="ignore"):
        scores = ae.score_samples(wild)
    others = np.delete(np.arange(64), 7)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[others], ae.score_samples(X[:64])[others], rtol=1e-9)


def test_bits_labels_and_indices_are_equal():
    X, y = real(300, 16).astype(np.float32), np.arange(300) % 3
    hashing = SemanticHashing(32, max_iter=3, random_state=0).fit(X)
    vectors = VQVAE(4, max_iter=3, random_state=0).fit(X)
    top_k = SparseAE(8, k=2, max_iter=3, random_state=0).fit(X)
    base = AutoencoderTransformer(2, hidden_layer_sizes=(4,), max_iter=2)
    classifier = AutoencoderClassifier(base, max_iter=2, random_state=0).fit(X, y)
    for ae in (hashing, vectors):
        np.testing.assert_array_equal(in_parts(ae.transform, X[:64]), ae.transform(X[:64]))
        np.testing.assert_allclose(in_parts(ae.reconstruct, X[:64]), ae.reconstruct(X[:64]), rtol=1e-5)
    np.testing.assert_array_equal(in_parts(top_k.transform, X[:64]) != 0, top_k.transform(X[:64]) != 0)
    np.testing.assert_array_equal(in_parts(classifier.predict, X[:64]), classifier.predict(X[:64]))
    assert classifier.predict_proba(X[:3]).dtype == np.float32


def test_bits_of_rows_on_their_border():
    """The first axis of these rows is (1, 1)/√2, and half of them lie at zero on it."""
    rng = np.random.default_rng(0)
    along, across = rng.standard_normal(40), rng.standard_normal(40) / 3
    pairs = np.concatenate([np.column_stack([along + across, along - across]), np.column_stack([across, -across])])
    X = np.concatenate([pairs, -pairs]).astype(np.float32)
    # Fewer rows than could tell whether training helps: the start at PCA is kept.
    ae = SemanticHashing(2, random_state=0, max_iter=1, learning_rate=1e-30, early_stopping=False).fit(X)
    for rows in (X, X.astype(np.float64)):
        np.testing.assert_array_equal(in_parts(ae.transform, rows[40:104]), ae.transform(rows[40:104]))
        np.testing.assert_array_equal(in_parts(ae.reconstruct, rows[40:104]), ae.reconstruct(rows[40:104]))


@pytest.mark.parametrize("factor", [1, 1e6])
def test_sparse_encode_ends_row_by_row(factor):
    X = real(100, 8)
    psd = PredictiveSparseDecomposition(12, max_iter=3, random_state=0).fit(X)
    rows = X[:64].copy()
    rows[40] *= factor
    together = psd.sparse_encode(rows)
    np.testing.assert_allclose(in_parts(psd.sparse_encode, rows), together, rtol=1e-9, atol=1e-12)
    exact = psd.sparse_encode(rows, max_iter=20_000, tol=1e-12)
    nearly = psd.sparse_encode(rows, max_iter=20_000, tol=1e-8)
    largest = np.abs(exact).max(1, keepdims=True)
    np.testing.assert_allclose(nearly / largest, exact / largest, atol=1e-3)


@pytest.mark.parametrize("scorer", [DenoisingError(), ReconstructionError(), ReconstructionError("scaled")], ids=str)
def test_detectors(scorer):
    X = (100 + real(300, 8)).astype(np.float32)
    for standardize in (True, False):
        detector = AutoencoderOutlierDetector(
            with_parameters(ESTIMATORS["DenoisingAE"], n_components=7), scorer=scorer, standardize=standardize
        )
        detector.set_params(random_state=0).fit(X)
        np.testing.assert_allclose(in_parts(detector.score_samples, X[:64]), detector.score_samples(X[:64]), rtol=1e-5)
        np.testing.assert_array_equal(in_parts(detector.predict, X[:64]), detector.predict(X[:64]))
