"""A VAE that is told the classes of its rows."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from registry import assert_same_state, real
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skae import VAE, ConvNetwork, DenseNetwork, TotalCorrelation, VampPrior
from skae.inspection import jacobian

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0}
SHARES = np.array([0.5, 0.3, 0.2])
LABELS = np.array(["a", "b", "c"])


def three_normals(n, seed=0, distance=3.0):
    """Rows of three classes, normal with one covariance and means of their own; the classes; mean and covariance."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(42)
    loadings, means = truth.standard_normal((5, 2)), distance * truth.standard_normal((3, 5))
    index = rng.choice(3, n, p=SHARES)
    X = means[index] + rng.standard_normal((n, 2)) @ loadings.T + 0.5 * rng.standard_normal((n, 5))
    return X, LABELS[index], means, loadings @ loadings.T + 0.25 * np.eye(5)


def log_mixture(X, shares, means, covariance):
    """log Σ π N(x; μ, Σ) of the entries of each row that are there."""
    made = []
    for row in X:
        there = ~np.isnan(row)
        block = covariance[np.ix_(there, there)]
        parts = [multivariate_normal(mean[there], block).logpdf(row[there]) for mean in means]
        made.append(np.logaddexp.reduce(np.log(shares) + parts))
    return np.array(made)


@pytest.fixture(scope="module")
def linear():
    X, y, _, _ = three_normals(2000)
    return VAE(2, hidden_layer_sizes=(), conditional=True, random_state=0).fit(X, y), X, y


def fitted_normals(X, y, d=2):
    """Means of the classes and the covariance of probabilistic PCA of what the rows are beside them."""
    means = np.array([X[y == label].mean(0) for label in LABELS])
    # PCA's own covariance divides by n − 1.
    covariance = PCA(d).fit(X - means[np.searchsorted(LABELS, y)]).get_covariance()
    return means, covariance * (len(X) - 1) / len(X)


def test_a_linear_model_is_a_mixture_of_normals_with_one_covariance(linear):
    """Closed form: with a mean a class, the maximum of the likelihood is probabilistic PCA around the means."""
    vae, X, y = linear
    test, _, means, covariance = three_normals(300, seed=1)
    shares = [np.mean(y == label) for label in LABELS]
    np.testing.assert_allclose(vae.class_prior_, shares, rtol=1e-12)
    expected = log_mixture(test, shares, *fitted_normals(X, y))
    np.testing.assert_allclose(vae.score_samples(test), expected, rtol=0, atol=1e-4)
    # And that is near the normals that the rows were drawn from.
    assert abs(vae.score(test) - log_mixture(test, SHARES, means, covariance).mean()) < 0.1
    assert vae.score(test) == pytest.approx(vae.score_samples(test).mean())


def test_the_density_of_rows_with_gaps(linear):
    vae, X, y = linear
    test = three_normals(60, seed=1)[0]
    test[np.random.default_rng(0).random(test.shape) < 0.4] = np.nan
    test = test[~np.isnan(test).all(1)]
    expected = log_mixture(test, vae.class_prior_, *fitted_normals(X, y))
    error = vae.score_samples(test, n_samples=1000) - expected
    assert abs(error.mean()) < 0.01
    assert np.abs(error).max() < 0.1


def test_gaps_are_filled_over_the_classes(linear):
    """E[x_m | x_o] = Σ p(y | x_o) E[x_m | x_o, y]."""
    vae, X, y = linear
    test = three_normals(200, seed=1)[0]
    test[:, 3:] = np.nan
    test[0] = np.nan
    means, covariance = fitted_normals(X, y)
    seen, slope = slice(3), covariance[3:, :3] @ np.linalg.inv(covariance[:3, :3])
    normals = [multivariate_normal(mean[seen], covariance[seen, seen]) for mean in means]
    density = vae.class_prior_ * np.column_stack([normal.pdf(test[:, seen]) for normal in normals])
    density[0] = vae.class_prior_
    share = density / density.sum(1, keepdims=True)
    by_class = np.stack([mean[3:] + np.nan_to_num(test[:, seen] - mean[seen]) @ slope.T for mean in means], 1)
    expected = np.einsum("nc,ncp->np", share, by_class)
    made = vae.complete(test, n_samples=5000, random_state=0)[:, 3:]
    assert np.sqrt(np.mean((made - expected) ** 2)) < 0.1
    draws = vae.sample_completions(test, 100, n_samples=2000, random_state=0)[:, :, 3:]
    assert np.sqrt(np.mean((draws.mean(0) - expected) ** 2)) < 0.2


@pytest.mark.parametrize("options", [{}, {"init": "random"}, {"likelihood": "student_t"}], ids=["pca", "random", "t"])
def test_classes_are_drawn_as_asked(options):
    X, y, means, _ = three_normals(1000)
    vae = VAE(2, hidden_layer_sizes=(32,), conditional=True, max_iter=30, random_state=0, **options).fit(X, y)
    assert list(vae.classes_) == ["a", "b", "c"]
    for label, mean in zip(LABELS, means, strict=True):
        assert np.abs(vae.sample(2000, y=label, random_state=0).mean(0) - mean).max() < 0.5
    order = np.array(["c", "a"] * 200)
    drawn = vae.sample(400, y=order, random_state=0, return_mean=True)
    assert (LABELS[np.linalg.norm(drawn[:, None] - means, axis=2).argmin(1)] == order).mean() > 0.95
    near = np.linalg.norm(vae.sample(4000, random_state=0)[:, None] - means, axis=2).argmin(1)
    np.testing.assert_allclose(np.bincount(near, minlength=3) / 4000, vae.class_prior_, atol=0.05)


def test_codes_are_of_the_most_likely_class(linear):
    vae, X, y = linear
    test, labels, _, _ = three_normals(300, seed=1)
    means, covariance = fitted_normals(X, y)
    logs = [multivariate_normal(mean, covariance).logpdf(test) for mean in means]
    likely = np.argmax(np.log(vae.class_prior_)[:, None] + logs, 0)
    assert (LABELS[likely] == labels).mean() > 0.9
    values, vectors = np.linalg.eigh(covariance)
    noise, signal = values[0], values[:-3:-1] - values[0]
    code = (test - means[likely]) @ vectors[:, :-3:-1] * np.sqrt(signal) / (signal + noise)
    np.testing.assert_allclose(np.abs(vae.transform(test)), np.abs(code), atol=1e-4)
    rebuilt = means[likely] + code * np.sqrt(signal) @ vectors[:, :-3:-1].T
    np.testing.assert_allclose(vae.reconstruct(test), rebuilt, atol=1e-4)
    np.testing.assert_array_equal(vae.posterior(test)[0], vae.transform(test))
    # A code alone has no class.
    expected = vae.class_prior_ @ means + code * np.sqrt(signal) @ vectors[:, :-3:-1].T
    np.testing.assert_allclose(vae.inverse_transform(vae.transform(test)), expected, atol=1e-4)
    # What a row gets does not depend on the others, nor its derivative on how rows are batched.
    np.testing.assert_allclose(vae.transform(test[:1]), vae.transform(test)[:1], rtol=1e-12)
    J = jacobian(vae, test[:4])
    moved = test[:4] + 1e-4 * np.eye(5)[0]
    np.testing.assert_allclose(J[:, :, 0], (vae.transform(moved) - vae.transform(test[:4])) / 1e-4, atol=1e-6)


def test_few_rows_start_at_the_means_of_their_classes():
    X, y, _, _ = three_normals(30)
    vae = VAE(2, conditional=True, random_state=0).fit(X, y)
    for label in LABELS:
        mean = vae.sample(20000, y=label, random_state=0).mean(0)
        np.testing.assert_allclose(mean, X[y == label].mean(0), atol=0.1)


def test_the_kl_of_training_rows_is_that_of_their_own_classes():
    # Classes that overlap: some rows are more likely of another one.
    X, y, _, _ = three_normals(400, distance=0.5)
    vae = VAE(2, hidden_layer_sizes=(), conditional=True, random_state=0).fit(X, y)
    means, covariance = fitted_normals(X, y)
    values, vectors = np.linalg.eigh(covariance)
    noise, signal = values[0], values[:-3:-1] - values[0]
    mean = (X - means[np.searchsorted(LABELS, y)]) @ vectors[:, :-3:-1] * np.sqrt(signal) / (signal + noise)
    variance = noise / (signal + noise)
    kl = 0.5 * ((mean**2).mean(0) + variance - np.log(variance) - 1)
    np.testing.assert_allclose(vae.kl_by_component_, kl, rtol=1e-4)


def test_refits_copies_and_pickles_are_the_same():
    X, y, _, _ = three_normals(120)
    vae = VAE(2, conditional=True, **SMALL).fit(X, y)
    assert_same_state(vae, clone(vae).fit(X, y))
    again = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(again.score_samples(X), vae.score_samples(X))
    np.testing.assert_array_equal(again.sample(5, random_state=0), vae.sample(5, random_state=0))
    np.testing.assert_array_equal(again.sample(5, y="b", random_state=0), vae.sample(5, y="b", random_state=0))
    search = GridSearchCV(VAE(conditional=True, **SMALL), {"n_components": [1, 2]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_weight_of_two_is_a_row_given_twice():
    X, y, _, _ = three_normals(40)
    weight = 1 + (np.arange(40) % 3 == 0)
    one = VAE(2, conditional=True, **SMALL).fit(X, y, sample_weight=weight)
    other = VAE(2, conditional=True, **SMALL).fit(np.repeat(X, weight, 0), np.repeat(y, weight))
    np.testing.assert_allclose(one.class_prior_, other.class_prior_)
    np.testing.assert_allclose(one.score_samples(X), other.score_samples(X), rtol=1e-6)
    # Rows of no weight do not count among the shares.
    some = VAE(2, conditional=True, **SMALL).fit(X, y, sample_weight=(y != "a").astype(float))
    assert some.class_prior_[0] == 0
    assert np.isfinite(some.score_samples(X)).all()
    assert np.isfinite(some.transform(X)).all()


@pytest.mark.parametrize(
    "options",
    [
        {"n_importance_samples": 3},
        {"prior": "mixture"},
        {"free_bits": 0.1, "kl_warm_up": 0.5},
        {"penalties": [TotalCorrelation()]},
        {"likelihood": "bernoulli"},
        {"likelihood": "poisson"},
        {"network": DenseNetwork((8,), dropout=0.2)},
        {"network": ConvNetwork((1, 5), channels=(4,), kernel_size=(1, 3))},
        {"n_init": 2},
        {"early_stopping": False},
        {"init": "random", "hidden_layer_sizes": ()},
        {"n_components": "auto"},
        {"optimizer": "lbfgs", "max_iter": 2},
    ],
    ids=str,
)
def test_the_other_parameters_go_with_it(options):
    X, y, _, _ = three_normals(80)
    X = np.round(X - X.min(0))
    if options.get("likelihood") == "bernoulli":
        X = X / X.max(0)
    X[3, 1] = np.nan
    vae = VAE(**{"n_components": 2, "conditional": True, **SMALL, **options}).fit(X, y)
    assert np.isfinite(vae.score_samples(X)).all()
    assert vae.transform(X).shape == (80, vae.n_components_)
    assert not np.isnan(vae.complete(X, n_samples=20, random_state=0)).any()
    assert vae.sample(4, y=["a", "b", "c", "a"], random_state=0).shape == (4, 5)
    assert_same_state(vae, clone(vae).fit(X, y))


def test_sparse_rows_and_pieces():
    X, y, _, _ = three_normals(90)
    X[np.abs(X) < 1] = 0
    vae = VAE(2, conditional=True, **SMALL)
    dense, sparse = clone(vae).fit(X, y), clone(vae).fit(sp.csr_matrix(X), y)
    np.testing.assert_allclose(sparse.score_samples(X), dense.score_samples(X), rtol=1e-5)
    pieces = clone(vae).partial_fit(X, y).partial_fit(X[:30], y[:30])
    assert pieces.n_iter_ == 2
    warm = clone(vae).set_params(warm_start=True).fit(X, y)
    shares = warm.class_prior_
    warm.fit(X[y != "c"], y[y != "c"])
    np.testing.assert_array_equal(warm.class_prior_, shares)
    assert warm.sample(3, y="c").shape == (3, 5)


def test_gaps_in_some_chunks_alone(monkeypatch):
    X, y, _, _ = three_normals(90)
    X[0, 0] = np.nan
    vae = VAE(2, conditional=True, **SMALL)
    whole = clone(vae).fit(X, y).score_samples(X)
    monkeypatch.setattr("skae.training.batches.CHUNK_ELEMENTS", 100)
    np.testing.assert_allclose(clone(vae).fit(X, y).score_samples(X), whole, rtol=1e-4)


def test_y_is_not_used_unless_it_is_asked_for():
    X, y, _, _ = three_normals(90)
    assert_same_state(VAE(2, **SMALL).fit(X), VAE(2, **SMALL).fit(X, y))
    with pytest.raises(ValueError, match="use conditional=True"):
        VAE(2, **SMALL).fit(X, y).sample(3, y="a")


def test_classes_that_are_missing_or_unknown():
    X, y, _, _ = three_normals(90)
    vae = VAE(2, conditional=True, **SMALL)
    with pytest.raises(ValueError, match="conditional=True needs the classes of the rows"):
        vae.fit(X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        vae.fit(X, y[:-1])
    for missing in (np.where(y == "a", np.nan, 1.0), np.where(y == "a", None, y)):
        with pytest.raises(ValueError, match="y has rows without a class"):
            vae.fit(X, missing)
    vae.fit(X, y)
    with pytest.raises(ValueError, match="classes that fit has not seen"):
        vae.sample(3, y="d")
    with pytest.raises(ValueError, match="y has 2 classes for 3 rows"):
        vae.sample(3, y=["a", "b"])
    with pytest.raises(ValueError, match="classes that fit has not seen"):
        vae.partial_fit(X, np.full(90, "d"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missingness": "self_masking"}, "does not go with missingness"),
        ({"prior": VampPrior(5)}, "VampPrior has no pseudo-inputs for a conditioned encoder"),
        ({"network": DenseNetwork((8,), tied=True)}, "use tied=False"),
    ],
)
def test_what_does_not_go_with_it(options, message):
    with pytest.raises(ValueError, match=message):
        VAE(2, conditional=True, **SMALL, **options).fit(real(60, 5), np.arange(60) % 2)
