"""Vector quantisation: codebooks, their gradient and life, and codes of integers."""

import numpy as np
import pytest
import torch
from registry import generator, real, shares
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances_argmin

from skae import VQVAE, ConvNetwork, EarlyStopping
from skae.model.quantised import ROWS_A_CODE, STEPS, Codebooks, Quantised, k_means, nearest

P = 6


def codebooks(n_groups=3, n_codes=5, width=2, shared=False):
    """Codebooks of random vectors."""
    made = Codebooks(n_groups, n_codes, width, shared)
    made.reset(generator())
    return made


def test_the_nearest_centre_is_scikit_learns():
    points, centres = torch.randn(3, 40, 2, generator=generator()), torch.randn(3, 5, 2, generator=generator(1))
    for found, x, e in zip(nearest(points, centres), points, centres, strict=True):
        np.testing.assert_array_equal(found, pairwise_distances_argmin(x.numpy(), e.numpy()))


def test_k_means_finds_centres_that_lie_far_apart():
    centres = torch.tensor([[[0.0, 0], [50, 0], [0, 50], [50, 50]]]).repeat(2, 1, 1) + torch.tensor([[[0.0]], [[9.0]]])
    noise = torch.randn(2, 4, 30, 2, generator=generator())
    found = k_means((centres[:, :, None] + noise).flatten(1, 2), 4, generator(1))
    means = (centres[:, :, None] + noise).mean(2)
    for one, other in zip(found, means, strict=True):
        order = pairwise_distances_argmin(other.numpy(), one.numpy())
        assert sorted(order) == [0, 1, 2, 3]
        torch.testing.assert_close(one[order], other)


def test_k_means_bears_equal_points():
    found = k_means(torch.ones(1, 6, 2), 4, generator())
    torch.testing.assert_close(found, torch.ones(1, 4, 2))


@pytest.mark.parametrize("shared", [False, True])
def test_codes_of_vectors_are_those_vectors(shared):
    books = codebooks(shared=shared)
    indices = torch.randint(5, (20, 3), generator=generator())
    chosen = books.chosen(indices)
    assert chosen.shape == (20, 6)
    torch.testing.assert_close(books.nearest(chosen), indices)
    # Groups are dealt out: group 1 of 3 has the outputs 1 and 4.
    torch.testing.assert_close(chosen[:, [1, 4]], books.vectors[0 if shared else 1][indices[:, 1]])


def _model(X, **parameters):
    options = {"n_codes": 4, "code_width": 2, "hidden_layer_sizes": (), "max_iter": 1, "early_stopping": False}
    return VQVAE(2, random_state=0, **options | parameters).fit(X).model_


def test_the_gradient_goes_straight_through():
    """Of the code: the likelihood's at e, and β(z − e). Of the codebook: (e − z), summed over its rows."""
    X, beta = real(30, P), 0.3
    model = _model(X, commitment=beta)
    x, target, _ = model.prepare_for_training(torch.tensor(X))
    step = model.step(x, target, generator=generator())
    step.encoded.retain_grad()
    vectors = model.code_module.vectors
    sum(step.terms.values()).sum().backward()
    z, e = step.encoded.detach(), step.code.detach().requires_grad_()
    (-step.log_likelihood_of(model.decoder(e)).sum()).backward()
    unit = 1 / model.loss_scale
    torch.testing.assert_close(step.encoded.grad, e.grad + beta * unit * (z - e.detach()))
    expected = torch.zeros_like(vectors)
    for group in range(2):
        difference = (e.detach() - z)[:, [group, group + 2]]
        expected[group].index_add_(0, step.indices[:, group], unit * difference)
    torch.testing.assert_close(vectors.grad, expected)


def test_a_codebook_with_a_code_a_row_is_pca():
    """Too few rows to train on: the start is kept, and each row is its own code."""
    X = real(40, P)
    vqvae = VQVAE(2, n_codes=64, code_width=2, random_state=0).fit(X)
    pca = PCA(4).fit(X)
    np.testing.assert_allclose(vqvae.reconstruct(X), pca.inverse_transform(pca.transform(X)), atol=1e-4)
    np.testing.assert_allclose(vqvae.perplexity_, 40)
    assert vqvae.entropy_per_row_ == pytest.approx(2 * np.log2(40)) and vqvae.bits_per_row_ == 12


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_codes_that_no_row_is_near_to_start_again_at_rows(shared, weighted):
    books, encoded = codebooks(shared=shared), torch.randn(64, 6, generator=generator(2))
    weight = torch.cat([torch.zeros(32), torch.ones(32)]) if weighted else None
    with torch.no_grad():
        books.vectors[:, 3:] = 1e6
    before = books.vectors.detach().clone()
    n_steps = max(ROWS_A_CODE * 5, STEPS * 64) // 64
    for _ in range(n_steps):
        books.revive(encoded, weight, generator())
        books.count(books.nearest(encoded), weight)
    torch.testing.assert_close(books.vectors, before)
    books.revive(encoded, weight, generator())
    used = books.idle < n_steps * 64
    assert used.all()
    kept = books.vectors[:, :3] == before[:, :3]
    assert kept.all()
    points = books.by_codebook(encoded[32:] if weighted else encoded)
    distance = torch.cdist(books.vectors[:, 3:], points).amin(2)
    torch.testing.assert_close(distance, torch.zeros_like(distance), atol=2e-3, rtol=0)


def test_a_collapsed_codebook_recovers(digits):
    vqvae = VQVAE(4, n_codes=16, hidden_layer_sizes=(32,), init="random", max_iter=1, early_stopping=False)
    vqvae.set_params(batch_size=100, random_state=0, warm_start=True).fit(digits)
    with torch.no_grad():
        vqvae.model_.code_module.vectors[:, 1:] = 1e3
    alive = clone(vqvae).set_params(warm_start=False, max_iter=60)
    vqvae.set_params(max_iter=60).fit(digits)
    assert (vqvae.perplexity_ > 8).all()
    assert vqvae.loss_curve_[-1] < 1.1 * alive.fit(digits).loss_curve_[-1]


def test_usage_counts_the_training_rows():
    X, weight = real(90, P), np.arange(90) % 3
    vqvae = VQVAE(2, n_codes=4, max_iter=2, random_state=0).fit(X, sample_weight=weight)
    codes = vqvae.transform(X)
    for group in range(2):
        expected = np.bincount(codes[:, group], weights=weight, minlength=4) / weight.sum()
        np.testing.assert_allclose(vqvae.code_usage_[group], expected)
    used = np.where(vqvae.code_usage_ > 0, vqvae.code_usage_, 1)
    entropy = -(used * np.log2(used)).sum(1)
    np.testing.assert_allclose(np.log2(vqvae.perplexity_), entropy)
    assert vqvae.entropy_per_row_ == pytest.approx(entropy.sum())
    assert vqvae.entropy_per_row_ <= vqvae.bits_per_row_ == 4


def test_drawn_rows_are_decoded_codes_at_their_frequencies():
    X = real(200, P)
    vqvae = VQVAE(1, n_codes=8, code_width=2, max_iter=2, random_state=0).fit(X)
    drawn = vqvae.sample(4000, random_state=0)
    index = pairwise_distances_argmin(drawn, vqvae.inverse_transform(np.arange(8)[:, None]))
    frequency = np.bincount(index, minlength=8) / 4000
    # Four standard deviations of a frequency.
    np.testing.assert_allclose(frequency, vqvae.code_usage_[0], atol=4 * 0.5 / 4000**0.5)
    np.testing.assert_array_equal(drawn, vqvae.sample(4000, random_state=0))


def test_codes_are_integers_and_decode_to_the_reconstruction():
    X = shares(70, P)
    vqvae = VQVAE(2, n_codes=8, max_iter=2, random_state=0).fit(X)
    codes = vqvae.transform(X)
    assert codes.dtype == np.int64 and codes.min() >= 0 and codes.max() < 8
    np.testing.assert_allclose(vqvae.inverse_transform(codes), vqvae.reconstruct(X), rtol=1e-9)
    np.testing.assert_array_equal(vqvae.inverse_transform(codes.tolist()), vqvae.inverse_transform(codes.astype(float)))


@pytest.mark.parametrize("value", [-1, 8, 0.5, 20000])
def test_what_is_no_code(value):
    vqvae = VQVAE(2, n_codes=8, max_iter=1, random_state=0).fit(real(60, P))
    with pytest.raises(ValueError, match=f"X holds {value:g}, which is no code: .* whole numbers from 0 to 7"):
        vqvae.inverse_transform([[0, 0], [3, value]])


@pytest.mark.parametrize("parameters", [{"n_codes": 1}, {"code_width": 0}, {"commitment": -1.0}], ids=str)
def test_parameters_out_of_range(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter of VQVAE must be"):
        VQVAE(2, **parameters).fit(real(60, P))


def test_the_width_of_a_code():
    assert [Quantised(n_features=9).width(d) for d in (1, 2, 3, 4, 5, 20)] == [4, 4, 3, 2, 1, 1]
    assert Quantised(code_width=3, n_features=9).n_decoded(5) == 15


@pytest.mark.parametrize(
    "parameters",
    [
        {"network": ConvNetwork((8, 8), (4,))},
        {"shared_codebook": True},
        {"init": "random"},
        {"optimizer": "lbfgs", "max_iter": 3},
        {"n_init": 2},
        {"likelihood": "bernoulli"},
        {"early_stopping": EarlyStopping(n_folds=2)},
    ],
    ids=str,
)
def test_it_goes_with_other_parts(parameters, digits):
    X = np.where(np.random.default_rng(0).random(digits.shape) < 0.05, np.nan, digits / 16)
    options = {"n_codes": 32, "max_iter": 5, "early_stopping": False, "random_state": 0} | parameters
    vqvae = VQVAE(4, **options).fit(X)
    observed = ~np.isnan(X)
    error = np.square((X - vqvae.reconstruct(X))[observed]).mean()
    assert error < np.square((X - np.nanmean(X, axis=0))[observed]).mean()
    assert (vqvae.perplexity_ > 4).all()


def _quantised_pca(X_train, X_test, bits):
    """Squared error of PCA with uniformly quantised components, at the best split of the bits."""
    errors = []
    for n_levels in 2 ** np.arange(1, 9):
        n_components = int(bits // np.log2(n_levels))
        if n_components > X_train.shape[1]:
            continue
        pca = PCA(n_components, random_state=0).fit(X_train)
        low, high = np.quantile(pca.transform(X_train), [0.005, 0.995], axis=0)
        # Components of no variance have one level.
        size = np.maximum(high - low, 1e-9) / n_levels
        codes = low + (np.floor((pca.transform(X_test) - low) / size).clip(0, n_levels - 1) + 0.5) * size
        errors.append(np.square(X_test - pca.inverse_transform(codes)).sum(1).mean())
    return min(errors)


def test_fewer_errors_than_quantised_pca_at_the_same_bits():
    X, _ = load_digits(return_X_y=True)
    X_train, X_test = X[:1200], X[1200:]
    vqvae = VQVAE(8, n_codes=256, max_iter=20, early_stopping=False, random_state=0).fit(X_train)
    error = np.square(X_test - vqvae.reconstruct(X_test)).sum(1).mean()
    assert error < 0.75 * _quantised_pca(X_train, X_test, vqvae.bits_per_row_)
    assert (vqvae.perplexity_ > 0.5 * 256).all()
