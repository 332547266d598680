"""SemanticHashing and its parts: the posterior over bits, packing, the exact search, and retrieval on real data."""

import sys
import types

import numpy as np
import pytest
import torch
from registry import columns_of, counts, generator, real
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors
from torch.distributions import Bernoulli as Coin
from torch.distributions import kl_divergence

from skae import Multinomial, SemanticHashing
from skae.autoencoders import _hamming
from skae.autoencoders._hamming import nearest, pack_bits, unpack_bits
from skae.model.autoencoder import Autoencoder
from skae.model.bits import Bits, EncoderNetwork
from skae.model.likelihoods import Gaussian
from skae.model.step import Step

P, D = 5, 4
FAST = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}


def drawn(n, n_bits, seed=0, share=0.5):
    return (np.random.default_rng(seed).random((n, n_bits)) < share).astype(np.uint8)


def brute_force(queries, codes, k):
    """All distances, and a stable sort."""
    distances = (queries[:, None] != codes[None]).sum(2)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


# The posterior -------------------------------------------------------------------------------


def test_the_kl_is_torchs():
    logits = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None]
    expected = kl_divergence(Coin(logits=logits), Coin(torch.tensor(0.5).double()))
    torch.testing.assert_close(Bits().kl_divergence(logits), expected)
    extreme = torch.tensor([[-1e4, 1e4]])
    torch.testing.assert_close(Bits().kl_divergence(extreme), torch.full((1, 2), np.log(2.0), dtype=torch.float32))


def test_bits_are_signs_of_the_logits_and_draws_have_their_probabilities():
    logits = torch.tensor([[-3.0, -0.5, 0.0, 0.5, 3.0]])
    assert Bits().mean(logits).tolist() == [[-1, -1, -1, 1, 1]]
    draws = Bits().sample(logits.expand(20000, 5), generator())
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    expected = 2 * torch.sigmoid(logits[0]) - 1
    assert ((draws.mean(0) - expected).abs() < 5 * ((1 - expected**2) / 20000).sqrt()).all()


def test_gradients_pass_straight_through():
    logits = torch.randn(7, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    weight = torch.arange(21.0, dtype=torch.float64).view(7, 3)
    (found,) = torch.autograd.grad((Bits().sample(logits, generator()) * weight).sum(), logits)
    (expected,) = torch.autograd.grad(((2 * torch.sigmoid(logits) - 1) * weight).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_noise_on_the_logits():
    logits = torch.full((20000, 1), 1.5, dtype=torch.float64)
    made = Bits(noise=3.0).sample(logits, generator())
    noisy = 2 * torch.atanh(made.clamp(-1 + 1e-12, 1 - 1e-12))
    assert float(noisy.mean()) == pytest.approx(1.5, abs=5 * 3 / 20000**0.5)
    assert float(noisy.std()) == pytest.approx(3.0, rel=0.05)
    torch.testing.assert_close(Bits(noise=0.0).sample(logits, generator()), torch.tanh(logits / 2))


def test_terms_are_likelihood_and_weighted_kl():
    model = Autoencoder(
        EncoderNetwork((6,), "tanh"), Bits(0.3, kl_warm_up=0.5), Gaussian(), columns_of(real(50, P), Gaussian()), D
    )
    model.reset(generator())
    x, _ = model.double().scaling.input(torch.tensor(real(7, P)))
    for progress, weight in ((0.0, 0.0), (0.25, 0.15), (1.0, 0.3)):
        step = Step(model, x, x, generator=generator(), progress=progress)
        terms = step.terms
        torch.testing.assert_close(terms["negative_log_likelihood"], -step.log_likelihood)
        expected = weight * Bits().kl_divergence(step.encoded).sum(1)
        torch.testing.assert_close(terms["kl_divergence"], expected)
        assert Bits(0.3, kl_warm_up=0.5).weight(torch.tensor(progress)) == pytest.approx(weight)


def test_the_decoder_adds_up_the_bits():
    decoder = EncoderNetwork((6,)).decoder(D, P, None)
    decoder.reset(generator())
    one, other = torch.randn(2, 9, D, generator=generator())
    torch.testing.assert_close(
        decoder(one) + decoder(other) - decoder(torch.zeros(1, D)), decoder(one + other), rtol=1e-5, atol=1e-5
    )


def test_a_start_at_pca_has_the_signs_of_its_components():
    X = real(300, P)
    hashing = SemanticHashing(3, learning_rate=1e-30, max_iter=1, early_stopping=False, random_state=0).fit(X)
    scores = PCA(3).fit(X).transform(X)
    scores *= np.sign(PCA(3).fit(X).components_[np.arange(3), np.abs(PCA(3).fit(X).components_).argmax(1)])
    clear = np.abs(scores) > 1e-3
    np.testing.assert_array_equal(hashing.transform(X)[clear], (scores > 0)[clear])


# Packing and search --------------------------------------------------------------------------


@pytest.mark.parametrize("n_bits", [1, 7, 8, 63, 64, 65, 128, 200])
def test_packing_there_and_back(n_bits):
    bits = drawn(20, n_bits)
    words = pack_bits(bits)
    assert words.dtype == np.uint64 and words.shape == (20, -(-n_bits // 64))
    np.testing.assert_array_equal(unpack_bits(words, n_bits), bits)
    last = n_bits - 1
    np.testing.assert_array_equal(words[:, last // 64] >> np.uint64(last % 64), bits[:, last])


@pytest.mark.parametrize(("n_bits", "share"), [(3, 0.5), (8, 0.5), (64, 0.5), (64, 0.02), (130, 0.5), (300, 0.5)])
@pytest.mark.parametrize("k", [1, 10, 150, 700])
def test_the_search_is_exact_and_ties_are_in_the_order_of_the_index(n_bits, share, k, monkeypatch):
    monkeypatch.setattr(_hamming, "BLOCK", 64)
    monkeypatch.setattr(_hamming, "GROUP", 7)
    codes, queries = drawn(700, n_bits, 0, share), drawn(30, n_bits, 1, share)
    distances, indices = nearest(pack_bits(queries), pack_bits(codes), k, "numpy")
    expected = brute_force(queries, codes, k)
    np.testing.assert_array_equal(distances, expected[0])
    np.testing.assert_array_equal(indices, expected[1])


def test_distances_beyond_a_byte():
    codes = np.zeros((3, 70_000), dtype=np.uint8)
    codes[1, :300], codes[2] = 1, 1
    distances, _ = nearest(pack_bits(codes[:1]), pack_bits(codes), 3, "numpy")
    assert distances.tolist() == [[0, 300, 70_000]]


class FakeIndex:
    """faiss.IndexBinaryFlat as it may behave at worst: ties in the wrong order, the last ones taken."""

    def __init__(self, n_bits):
        self.n_bits = n_bits

    def add(self, codes):
        self.codes = np.unpackbits(codes, axis=1, bitorder="little")

    def search(self, queries, k):
        assert queries.dtype == np.uint8 and queries.shape[1] * 8 == self.n_bits
        distances, index = brute_force(np.unpackbits(queries, axis=1, bitorder="little"), self.codes[::-1], k)
        return distances.astype(np.int32), len(self.codes) - 1 - index


@pytest.mark.parametrize(("n_bits", "limit"), [(2, 20), (8, 100), (64, 2048)])
def test_ties_that_faiss_orders_otherwise_are_put_right(n_bits, limit, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", types.SimpleNamespace(IndexBinaryFlat=FakeIndex))
    monkeypatch.setattr(_hamming, "MAX_ASKED", limit)
    codes, queries = drawn(500, n_bits), drawn(20, n_bits, 1)
    for k in (1, 5, 499, 500):
        found = nearest(pack_bits(queries), pack_bits(codes), k, "faiss")
        for values, expected in zip(found, brute_force(queries, codes, k), strict=True):
            np.testing.assert_array_equal(values, expected)


def test_faiss_itself():
    pytest.importorskip("faiss")
    codes, queries = drawn(2000, 70), drawn(30, 70, 1)
    for values, expected in zip(
        nearest(pack_bits(queries), pack_bits(codes), 9, "faiss"), brute_force(queries, codes, 9), strict=True
    ):
        np.testing.assert_array_equal(values, expected)


# The estimator -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:1300], y[:1300], X[1300:], y[1300:]


@pytest.fixture(scope="module")
def fitted(digits):
    return SemanticHashing(32, hidden_layer_sizes=(64,), max_iter=20, random_state=0).fit(digits[0])


def test_neighbours_are_scikit_learns(fitted, digits):
    X, _, X_test, _ = digits
    found = fitted.kneighbors(X_test, 7)
    bits, test = fitted.transform(X), fitted.transform(X_test)
    for values, expected in zip(found, brute_force(test, bits, 7), strict=True):
        np.testing.assert_array_equal(values, expected)
    reference, _ = (
        NearestNeighbors(n_neighbors=7, metric="hamming", algorithm="brute").fit(bits > 0).kneighbors(test > 0)
    )
    np.testing.assert_allclose(found[0], 32 * reference)
    np.testing.assert_array_equal(fitted.kneighbors(X_test, 7, return_distance=False), found[1])


def test_indexed_rows_are_not_their_own_neighbours(fitted, digits):
    bits = fitted.transform(digits[0])
    distances = (bits[:, None] != bits[None]).sum(2).astype(float)
    np.fill_diagonal(distances, np.inf)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :6]
    found, indices = fitted.kneighbors(n_neighbors=6)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(distances, expected, 1))


def test_copies_of_a_row_crowd_it_out():
    hashing = SemanticHashing(3, **FAST).fit(real(60, P)).index(np.repeat(real(2, P), 5, axis=0))
    distances, indices = hashing.kneighbors(n_neighbors=2)
    assert (distances == 0).all()
    first = [0 if row < 5 else 5 for row in range(10)]
    same = hashing.codes_[0] == hashing.codes_[5]
    for row, found in enumerate(indices):
        start = 0 if same else first[row]
        assert found.tolist() == [i for i in range(start, 10) if i != row][:2]


def test_other_rows_can_be_indexed(digits, fitted):
    X, _, X_test, _ = digits
    hashing = clone(fitted).set_params(max_iter=2).fit(X)
    np.testing.assert_array_equal(hashing.codes_, hashing.pack(X))
    weights = hashing.model_.state_dict()["encoder.linear.weight"].clone()
    distances, indices = hashing.index(X_test).kneighbors(X_test[:20], 1)
    assert (distances == 0).all() and (indices[:, 0] <= np.arange(20)).all()
    assert torch.equal(hashing.model_.state_dict()["encoder.linear.weight"], weights)
    hashing.partial_fit(X)
    with pytest.raises(NotFittedError, match=r"partial_fit indexes none: call index\(X\) first"):
        hashing.kneighbors(X_test)
    assert len(hashing.index(X).kneighbors(X_test, 3)[0]) == len(X_test)


def test_bits_decode_to_the_reconstruction(fitted, digits):
    X_test = digits[2]
    bits = fitted.transform(X_test)
    assert bits.dtype == np.uint8 and set(np.unique(bits)) == {0, 1}
    np.testing.assert_allclose(fitted.inverse_transform(bits), fitted.reconstruct(X_test), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="X must hold bits"):
        fitted.inverse_transform(bits + 1.0)


def test_retrieval_is_above_pca_with_the_median_as_threshold(fitted, digits):
    """Defaults but for the size: 32 bits, and no bit is idle or nearly constant."""
    X, y, X_test, y_test = digits
    pca = PCA(32, random_state=0).fit(X)
    scores, test = pca.transform(X), pca.transform(X_test)
    median = np.median(scores, axis=0)
    _, reference = nearest(pack_bits(test > median), pack_bits(scores > median), 100)
    found = fitted.kneighbors(X_test, 100, return_distance=False)
    precision, below = ((y[rows] == y_test[:, None]).mean() for rows in (found, reference))
    assert precision > below + 0.15
    assert fitted.bit_means_.min() > 0.35 and fitted.bit_means_.max() < 0.65
    assert fitted.kl_by_component_.min() > 0.02
    np.testing.assert_allclose(fitted.bit_means_, fitted.transform(X.astype(np.float32)).mean(0), atol=1e-6)


def test_beta_weighs_what_bits_may_tell(digits):
    options = {"hidden_layer_sizes": (32,), "max_iter": 10, "random_state": 0}
    total = [SemanticHashing(16, beta=b, **options).fit(digits[0]).kl_by_component_.sum() for b in (0.1, 3.0, 300.0)]
    assert total[0] > total[1] > 100 * total[2]


@pytest.mark.parametrize("options", [{"noise": 2.0}, {"init": "random"}, {"likelihood": "multinomial"}], ids=str)
def test_options_train(options):
    X = counts(200, 6)
    hashing = SemanticHashing(8, hidden_layer_sizes=(16,), max_iter=20, early_stopping=False, random_state=0)
    hashing.set_params(**options).fit(X)
    assert hashing.loss_curve_[-1] < hashing.loss_curve_[0]
    again = clone(hashing).fit(X)
    np.testing.assert_array_equal(hashing.codes_, again.codes_)
    assert hashing.reconstruct(X).shape == X.shape


def test_rows_of_no_weight_are_indexed_but_not_learnt_from():
    X = real(80, P)
    weight = np.r_[np.ones(60), np.zeros(20)]
    one = SemanticHashing(4, **FAST).fit(X, sample_weight=weight)
    other = SemanticHashing(4, **FAST).fit(X[:60])
    assert len(one.codes_) == 80
    np.testing.assert_array_equal(one.transform(X), other.transform(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_neighbors": 61}, "n_neighbors=61 is above the number of other indexed rows, 60"),
        ({"X": None, "n_neighbors": 60}, "n_neighbors=60 is above the number of other indexed rows, 59"),
        ({"X": np.zeros((3, 2))}, "X has 2 features, but SemanticHashing is expecting 5"),
    ],
    ids=str,
)
def test_wrong_questions(arguments, message):
    hashing = SemanticHashing(4, **FAST).fit(real(60, P))
    with pytest.raises(ValueError, match=message):
        hashing.kneighbors(**{"X": real(3, P), **arguments})


@pytest.mark.parametrize("n_components", ["auto", 0.5, 0, 2.0])
def test_the_number_of_bits_is_an_int(n_components):
    with pytest.raises(ValueError, match="'n_components' parameter of SemanticHashing must be an int"):
        SemanticHashing(n_components).fit(real(60, P))


def test_before_fit():
    for call in (lambda h: h.kneighbors(real(3, P)), lambda h: h.index(real(3, P)), lambda h: h.pack(real(3, P))):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            call(SemanticHashing(4))


@pytest.mark.parametrize("engine", ["numpy", "faiss", "auto"])
def test_faiss_is_optional(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    hashing = SemanticHashing(4, **FAST).fit(real(60, P))
    if engine == "faiss":
        with pytest.raises(ImportError, match="engine='faiss' needs the package faiss"):
            hashing.kneighbors(engine=engine)
    else:
        assert hashing.kneighbors(engine=engine)[0].shape == (60, 5)


# The likelihood ------------------------------------------------------------------------------


def test_multinomial_gradient_by_slope_counts_each_row_by_its_total():
    X = torch.tensor(counts(9, P))
    eta = torch.randn(9, P, generator=generator(), dtype=torch.float64)
    part = Multinomial()
    torch.testing.assert_close(part.slope(eta, 3 * X), 3 * part.slope(eta, X))
    assert float(part.slope(eta, X).sum(1).abs().max()) < 1e-9


def test_multinomial_refuses_what_is_no_count():
    X = counts(60, P)
    X[4, 2] = -1
    with pytest.raises(ValueError, match="column 2 holds -1"):
        SemanticHashing(4, likelihood="multinomial", **FAST).fit(X)
