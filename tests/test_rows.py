"""Rows of any storage, with weights and gaps, give what plain rows give."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from registry import LIKELIHOODS, assert_same_state, counts, over, real, shares
from sklearn.base import clone

from skae import LBFGS, VAE, AutoencoderTransformer, DenoisingAE, EarlyStopping, LogisticPCA
from skae.model.step import Step
from skae.training.batches import RawRows

N, P = 90, 5
FULL = {"optimizer": LBFGS(max_evaluations=6), "early_stopping": False, "random_state": 0, "max_iter": 1}
BRIEF = {"max_iter": 3, "random_state": 0}
STORED = {
    "AutoencoderTransformer": AutoencoderTransformer(2, hidden_layer_sizes=(6,), **BRIEF),
    "one-batch": AutoencoderTransformer(2, hidden_layer_sizes=(6,), batch_size=1000, **BRIEF),
    "lbfgs": AutoencoderTransformer(2, hidden_layer_sizes=(6,), **FULL),
    "split": AutoencoderTransformer(2, hidden_layer_sizes=(6,), early_stopping=EarlyStopping(n_folds=0), **BRIEF),
    "no-guard": AutoencoderTransformer(2, hidden_layer_sizes=(6,), early_stopping=False, **BRIEF),
    "DenoisingAE": DenoisingAE(2, hidden_layer_sizes=(6,), early_stopping=False, **BRIEF),
    "DenoisingAE-one-batch": DenoisingAE(2, hidden_layer_sizes=(6,), batch_size=N, early_stopping=False, **BRIEF),
    "LogisticPCA": LogisticPCA(2, **BRIEF),
    "VAE": VAE(2, hidden_layer_sizes=(6,), **BRIEF),
    "VAE-poisson": VAE(2, hidden_layer_sizes=(6,), likelihood="poisson", **BRIEF),
}


def _sparse(n=N):
    X = counts(n, P)
    return np.where(X < 3, 0, X)


# Weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_a_weight_of_two_is_a_row_twice(example):
    X = example.rows(N, P)
    weight = np.random.default_rng(0).integers(0, 3, N)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), likelihood=example.part, **FULL)
    weighted = clone(ae).fit(X, sample_weight=weight)
    repeated = clone(ae).fit(np.repeat(X, weight, axis=0))
    assert weighted.loss_curve_[0] == pytest.approx(repeated.loss_curve_[0], rel=1e-4)
    unit = X.std()
    np.testing.assert_allclose(weighted.reconstruct(X), repeated.reconstruct(X), atol=1e-3 * unit)


@pytest.mark.parametrize("estimator", [VAE, LogisticPCA, DenoisingAE])
def test_weights_at_the_start_are_repeated_rows(estimator):
    """Before the first update, where float32 has not added up."""
    X = shares(N, P)
    weight = np.random.default_rng(0).integers(0, 3, N)
    ae = estimator(2, max_iter=1, batch_size=1000, learning_rate=1e-30, early_stopping=False, random_state=0)
    weighted = clone(ae).fit(X, sample_weight=weight)
    repeated = clone(ae).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-5)
    if estimator is VAE:
        np.testing.assert_allclose(weighted.kl_by_component_, repeated.kl_by_component_, rtol=1e-4)
        assert weighted.active_units_ == repeated.active_units_


@pytest.mark.parametrize("early_stopping", [False, True, EarlyStopping(n_folds=0)], ids=str)
def test_the_scale_of_the_weights_does_not_matter(early_stopping):
    X = real(N, P)
    weight = np.random.default_rng(0).uniform(0.5, 2, N)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), early_stopping=early_stopping, **BRIEF)
    one, other = clone(ae).fit(X, sample_weight=weight), clone(ae).fit(X, sample_weight=1024 * weight)
    np.testing.assert_allclose(one.transform(X), other.transform(X), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-5)


def test_rows_of_no_weight_are_not_there():
    X = real(N, P)
    weight = (np.arange(N) < 60).astype(float)
    X[60:] = 1e6
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), **BRIEF)
    assert_same_state(clone(ae).fit(X, sample_weight=weight), clone(ae).fit(X[:60], sample_weight=np.ones(60)))


def test_score_takes_weights():
    X = real(N, P)
    ae = AutoencoderTransformer(2, **BRIEF).fit(X)
    weight = np.random.default_rng(0).integers(0, 3, N)
    assert ae.score(X, sample_weight=weight) == pytest.approx(ae.score(np.repeat(X, weight, axis=0)))


# Gaps ------------------------------------------------------------------------------------------


def _with_gaps(X, share=0.2):
    return np.where(np.random.default_rng(1).random(X.shape) < share, np.nan, X)


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_the_loss_counts_observed_entries_alone(example):
    X = _with_gaps(example.rows(N, P))
    options = {"likelihood": example.part, "max_iter": 2, "early_stopping": False, "random_state": 0}
    model = AutoencoderTransformer(2, hidden_layer_sizes=(6,), **options).fit(X).model_
    input, target, observed = model.prepare(torch.tensor(X))
    model = model.in_float64()
    with torch.no_grad():
        step = Step(model, input, target, observed)
        eta = model.likelihood.of_observed(step.eta, observed)
        entries = model.likelihood.log_prob(eta, step.target, model.extras) + model.log_jacobian
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(observed, seen)
    by_hand = np.array([row[mask].sum() for row, mask in zip(entries.numpy(), seen, strict=True)])
    with torch.no_grad():
        np.testing.assert_allclose(-step.terms["negative_log_likelihood"], by_hand, rtol=1e-10)
        # What stands in the place of a gap moves nothing.
        wild = torch.where(torch.tensor(seen), target, 1e3 if example.rows is not shares else 0.5)
        again = Step(model, input, wild, observed).terms["negative_log_likelihood"]
        np.testing.assert_allclose(again, step.terms["negative_log_likelihood"], rtol=1e-10)


def test_a_gap_reads_as_the_columns_mean_and_comes_back_filled():
    X = real(N, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), **BRIEF).fit(X)
    gappy, filled = X.copy(), X.copy()
    gappy[::2, 1], filled[::2, 1] = np.nan, X[:, 1].mean()
    np.testing.assert_allclose(ae.transform(gappy), ae.transform(filled), rtol=1e-9, atol=1e-9)
    assert np.isfinite(ae.reconstruct(gappy)).all() and np.isfinite(ae.score_samples(gappy)).all()


def test_gaps_are_filled_better_than_by_the_mean():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2)) @ rng.standard_normal((2, 10)) + 0.1 * rng.standard_normal((500, 10))
    gappy = _with_gaps(X)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(16,), max_iter=40, random_state=0).fit(gappy)
    missing = np.isnan(gappy)
    error = (ae.reconstruct(gappy) - X)[missing]
    assert (error**2).mean() < 0.4 * ((X - X.mean(0))[missing] ** 2).mean()


@pytest.mark.parametrize("estimator", **over(STORED))
def test_every_class_fits_and_scores_rows_with_gaps(estimator):
    X = _with_gaps(counts(N, P))
    X[0] = np.nan
    ae = clone(estimator).fit(X)
    for made in (ae.transform(X), ae.reconstruct(X), ae.score_samples(X)):
        assert np.isfinite(made).all()
    # Of a row without entries nothing is said; a random code says so by log p(x) = 0.
    assert ae.score_samples(X)[0] == pytest.approx(0, abs=0.5 if isinstance(ae, VAE) else 1e-12)


# Storage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
@pytest.mark.parametrize("format", [sp.csr_array, sp.csc_array, sp.csr_matrix], ids=lambda f: f.__name__)
@pytest.mark.parametrize("estimator", **over(STORED))
def test_sparse_rows_give_what_dense_rows_give(estimator, format, dtype):
    X = _sparse().astype(dtype)
    dense, sparse = clone(estimator).fit(X), clone(estimator).fit(format(X))
    np.testing.assert_allclose(sparse.loss_curve_, dense.loss_curve_, rtol=1e-5)
    assert_same_state(dense, sparse)
    for method in ("transform", "reconstruct", "score_samples"):
        made = getattr(sparse, method)(format(X))
        np.testing.assert_array_equal(made, getattr(dense, method)(X))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("estimator", **over(STORED))
def test_memory_maps_give_what_arrays_give(estimator, dtype, tmp_path):
    X = _sparse().astype(dtype)
    mapped = _mapped(X, tmp_path)
    in_memory, on_disk = clone(estimator).fit(X), clone(estimator).fit(mapped)
    assert_same_state(in_memory, on_disk)
    np.testing.assert_array_equal(on_disk.transform(mapped), in_memory.transform(X))


def _mapped(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


@pytest.fixture
def reads(monkeypatch):
    """How many rows were read each time, where chunks are of 512 rows."""
    made_so_far = []
    inside = RawRows.take

    def take(self, rows):
        made = inside(self, rows)
        made_so_far.append(len(made))
        return made

    monkeypatch.setattr(RawRows, "take", take)
    monkeypatch.setattr("skae.training.batches.CHUNK_ELEMENTS", 512 * P)
    for module in ("_estimator", "_base", "_vae"):
        monkeypatch.setattr(f"skae.autoencoders.{module}.CHUNK_ELEMENTS", 512 * P)
    return made_so_far


@pytest.mark.parametrize("n_folds", [None, 0, 2])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, DenoisingAE, VAE])
def test_memory_maps_are_never_read_whole(estimator, n_folds, reads, tmp_path):
    X = _mapped(real(6000, P).astype(np.float32), tmp_path)
    early_stopping = False if n_folds is None else EarlyStopping(n_folds=n_folds)
    ae = estimator(2, hidden_layer_sizes=(6,), batch_size=256, early_stopping=early_stopping, max_iter=2)
    ae.fit(X, sample_weight=np.arange(6000) % 3).partial_fit(X)
    ae.transform(X), ae.score_samples(X)
    # Held-out rows are read 1024 at a time.
    assert max(reads) <= (512 if n_folds is None else 1024)


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "by-chunk"])
def test_rows_that_do_not_fit_train_as_those_that_do(resident, monkeypatch):
    X = real(300, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), batch_size=32, early_stopping=False, **BRIEF)
    expected = clone(ae).fit(X, sample_weight=np.arange(300) % 3)
    monkeypatch.setattr("skae.training.batches.CHUNK_ELEMENTS", 64 * P)
    if not resident:
        monkeypatch.setattr("skae.training.batches.resident_limit", lambda device: 0)
    assert_same_state(expected, clone(ae).fit(X, sample_weight=np.arange(300) % 3))


def test_tensors_lists_and_frames_are_rows(tmp_path):
    pandas = pytest.importorskip("pandas")
    X = real(60, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), **BRIEF)
    expected = clone(ae).fit(X)
    frame = pandas.DataFrame(X, columns=list("abcde"))
    for other in (X.tolist(), frame, np.asfortranarray(X)):
        assert_same_state(expected, clone(ae).fit(other))
    np.testing.assert_array_equal(clone(ae).fit(frame).feature_names_in_, list("abcde"))


@pytest.mark.parametrize("estimator", **over(STORED))
def test_the_order_of_the_features_matters_to_nobody(estimator):
    """Permuted columns, permuted reconstruction: at the start, from PCA."""
    X = counts(N, P)
    order = np.random.default_rng(0).permutation(P)
    ae = clone(estimator).set_params(max_iter=1, learning_rate=1e-30)
    one, other = clone(ae).fit(X), clone(ae).fit(X[:, order])
    np.testing.assert_allclose(one.reconstruct(X)[:, order], other.reconstruct(X[:, order]), atol=1e-3)


@pytest.mark.parametrize("estimator", **over(STORED))
def test_rows_are_handled_one_by_one(estimator):
    X = counts(N, P)
    ae = clone(estimator).fit(X)
    order = np.random.default_rng(0).permutation(N)
    for method in ("transform", "reconstruct", "score_samples"):
        whole = getattr(ae, method)(X)
        np.testing.assert_allclose(getattr(ae, method)(X[order]), whole[order], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(getattr(ae, method)(X[3:4]), whole[3:4], rtol=1e-9, atol=1e-9)
