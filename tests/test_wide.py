"""Few rows of many columns: the model is trained on scores on the rows' axes, and is a model of the rows."""

import pickle

import numpy as np
import pytest
import torch
from registry import ESTIMATORS, generator, over, shares
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAE,
    DenseNetwork,
    GaussianNoise,
)
from skae.inspection._filters import first_layer
from skae.model.autoencoder import Autoencoder
from skae.model.likelihoods import Gaussian
from skae.model.pca_start import start_at_pca
from skae.model.penalties import Anchor
from skae.model.posteriors import Point
from skae.model.row_space import ProjectedNetwork, RowSpace, is_wide
from skae.training.batches import RawRows
from skae.training.principal_axes import column_moments, principal_axes

N, P = 60, 300
SHORT = {"max_iter": 3, "early_stopping": False}
SMALL = AutoencoderTransformer(2, max_iter=1, early_stopping=False, hidden_layer_sizes=(8,))


def curved(n=N, p=P, seed=0, noise=0.1, offset=5.0):
    """Rows near a curved surface of two dimensions."""
    Z = np.random.default_rng(seed).standard_normal((n, 2))
    A = np.random.default_rng(99).standard_normal((4, p))
    rng = np.random.default_rng(seed + 1)
    return offset + np.column_stack([Z, Z**2]) @ A + noise * rng.standard_normal((n, p))


def fitted(estimator, X=None):
    return estimator.set_params(random_state=0).fit(curved() if X is None else X)


def test_which_tables_are_wide():
    assert is_wide(60, 300) and not is_wide(80, 300) and not is_wide(10, 256) and not is_wide(3000, 20_000)


def test_rows_are_their_scores_on_an_orthonormal_basis():
    X = torch.from_numpy(curved())
    columns = column_moments(RawRows(X.numpy()), Gaussian())
    space = RowSpace(X, columns)
    assert space.basis.shape == (P, N - 1)
    torch.testing.assert_close(space.basis.T @ space.basis, torch.eye(N - 1).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(space.scores @ space.basis.T + columns.mean, X, rtol=1e-10, atol=1e-10)
    moments = space.score_columns(column_moments(RawRows(space.scores.numpy()), Gaussian()))
    np.testing.assert_allclose(float(moments.spread), float(columns.spread), rtol=1e-12)


@pytest.mark.parametrize("rows", ["equal", "two", "huge", "tiny"])
def test_a_basis_of_any_rows(rows):
    X = torch.from_numpy({"equal": np.ones((5, P)), "two": np.vstack([np.zeros((3, P)), np.ones((4, P))]),
                          "huge": 1e30 * curved(), "tiny": 1e-30 * curved()}[rows])  # fmt: skip
    columns = column_moments(RawRows(X.numpy()), Gaussian())
    space = RowSpace(X, columns)
    assert space.basis.shape[1] == {"equal": 1, "two": 1}.get(rows, N - 1)
    largest = float(X.abs().max())
    torch.testing.assert_close(space.scores @ space.basis.T + columns.mean, X, rtol=0, atol=1e-12 * largest)


@pytest.mark.parametrize("conditioning", [None, "noise_level"])
@pytest.mark.parametrize("sizes", [(), (16, 8)])
def test_the_model_of_the_rows_is_that_of_their_scores(sizes, conditioning):
    """Same codes, same log-likelihood, and the same reconstruction on the rows' axes; also of rows beyond these."""
    X = torch.from_numpy(curved())
    columns = column_moments(RawRows(X.numpy()), Gaussian())
    space, network = RowSpace(X, columns), DenseNetwork(sizes)
    raw = RawRows(space.scores.numpy())
    corruption = GaussianNoise((0.1, 1.0)) if conditioning else None

    def model(network, columns):
        options = {"conditioning": conditioning, "corruption": corruption, "penalties": [Anchor()]}
        return Autoencoder(network, Point(), Gaussian(), columns, 3, **options)

    inner = model(network, space.score_columns(column_moments(raw, Gaussian())))
    inner.reset(generator())
    start_at_pca(inner, principal_axes(raw, inner.scaling, 3, generator()))
    with torch.no_grad():
        for parameter in inner.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator()))
    space.adapt(inner)
    outer = space.lift(inner, model(ProjectedNetwork(network, space.basis.float()), columns))
    inner, outer = inner.double(), outer.double()
    steps = []
    for rows, each in ((space.scores, inner), (X, outer)):
        steps.append(each.step(*each.prepare(rows)))
    torch.testing.assert_close(steps[0].code, steps[1].code, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(steps[0].log_likelihood, steps[1].log_likelihood, rtol=1e-5, atol=1e-4)
    rebuilt = [each.scaling.from_target(step.rebuilt) for each, step in zip((inner, outer), steps, strict=True)]
    torch.testing.assert_close(rebuilt[0] @ space.basis.T + columns.mean, rebuilt[1], rtol=1e-5, atol=1e-4)
    assert outer.loss_scale == pytest.approx(inner.loss_scale, rel=1e-9)
    # What the axes do not span is rebuilt as the mean.
    beyond = torch.randn(P, generator=generator()).double()
    beyond -= space.basis @ (space.basis.T @ beyond)
    moved = outer.step(*outer.prepare(X + beyond))
    torch.testing.assert_close(moved.code, steps[1].code, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sizes", ["auto", ()])
@pytest.mark.parametrize("n", [40, N])
def test_it_starts_at_pca(n, sizes):
    """Below 50 rows it stays there; so does a linear one."""
    X = curved(n)
    ae = fitted(AutoencoderTransformer(3, hidden_layer_sizes=sizes), X)
    pca, new = PCA(3).fit(X), curved(10, seed=5)
    assert ae.explained_variance_ratio_ == pytest.approx(pca.explained_variance_ratio_, rel=1e-6)
    if n < 50 or sizes == ():
        np.testing.assert_allclose(ae.reconstruct(new), pca.inverse_transform(pca.transform(new)), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(np.abs(ae.transform(new)), np.abs(pca.transform(new)), rtol=1e-3, atol=1e-3)


def test_loss_curves_are_in_the_units_of_the_rows():
    X = curved(40)
    ae = fitted(AutoencoderTransformer(3), X)
    assert ae.loss_curve_[0] == pytest.approx(-ae.score(X), rel=1e-5)
    ae = fitted(AutoencoderTransformer(3, early_stopping=False, max_iter=3, learning_rate=1e-12))
    assert ae.loss_curve_[-1] == pytest.approx(-ae.score(curved()), rel=1e-5)


def test_as_many_components_as_directions_are_not_trained():
    X = curved()
    ae = fitted(AutoencoderTransformer(N - 1))
    assert ae.n_iter_ <= 1
    np.testing.assert_allclose(ae.reconstruct(X), X, rtol=1e-4)


def test_it_learns_beyond_pca():
    X, new = curved(200, 900), curved(200, 900, seed=7)
    ae = fitted(AutoencoderTransformer(2), X)
    pca = PCA(2).fit(X)
    assert ae.n_iter_ > 1
    error = (
        np.square(ae.reconstruct(new) - new).mean() / np.square(pca.inverse_transform(pca.transform(new)) - new).mean()
    )
    assert error < 0.7


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(2, max_iter=3, early_stopping=False),
        DenoisingAE(2, max_iter=3, early_stopping=False),
        DenoisingAE(
            2, corruption=GaussianNoise((0.1, 1)), conditioning="noise_level", max_iter=3, early_stopping=False
        ),
    ],
    ids=["plain", "denoising", "noise level"],
)
def test_conventions(estimator):
    X = curved()
    one, two = fitted(estimator), pickle.loads(pickle.dumps(fitted(estimator)))
    np.testing.assert_array_equal(one.reconstruct(X), two.reconstruct(X))
    single = one.reconstruct(X.astype(np.float32))
    np.testing.assert_allclose(single, one.reconstruct(X), rtol=1e-3, atol=1e-3)
    assert single.dtype == np.float32
    assert isinstance(one.model_.network, ProjectedNetwork)
    assert first_layer(one).shape[1] == P
    weights = np.random.default_rng(0).integers(1, 3, N)
    weighted = one.fit(X, sample_weight=weights).reconstruct(X)
    assert np.isfinite(weighted).all()
    # Training goes on where it was.
    before = one.score(X)
    one.partial_fit(X)
    assert one.score(X) > before - 0.5 * abs(before)
    again = one.set_params(warm_start=True).fit(X)
    assert again.n_iter_ == 3 and np.isfinite(again.reconstruct(X)).all()
    again.set_params(hidden_layer_sizes=(7,))
    with pytest.raises(ValueError, match="network's shape has changed"):
        again.fit(X)


@pytest.mark.parametrize(
    "options",
    [
        {"network": DenseNetwork((8,), tied=True)},
        {"likelihood": "student_t"},
        {"corruption": "masking"},
        {"init": "random"},
        {"likelihood": Gaussian("columns")},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_tells_columns_apart_sees_the_columns(options):
    ae = fitted(
        AutoencoderTransformer(2, max_iter=1, early_stopping=False, hidden_layer_sizes=(8,)).set_params(**options)
    )
    assert not isinstance(ae.model_.network, ProjectedNetwork)


def test_gaps_are_seen_as_gaps():
    X = curved()
    X[::7, ::11] = np.nan
    ae = fitted(clone(SMALL), X)
    assert not isinstance(ae.model_.network, ProjectedNetwork)
    assert np.isfinite(ae.reconstruct(X)).all()


def test_a_table_of_many_columns_costs_little_memory():
    """The model holds the rows' axes, its linear paths and a small network, and nothing of columns by columns."""
    ae = fitted(AutoencoderTransformer(2, max_iter=1, early_stopping=False), curved(20, 4000))
    numbers = sum(tensor.numel() for tensor in [*ae.model_.parameters(), *ae.model_.buffers()])
    assert numbers < 40 * 4000


# Every estimator --------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_every_estimator_takes_few_rows_of_many_columns(estimator):
    X, new = shares(20, 300), shares(5, 300, seed=1)
    ae = clone(estimator).fit(X)
    for made in (ae.transform(new), ae.reconstruct(new), ae.score_samples(new)):
        assert len(made) == 5 and np.isfinite(made).all()
    np.testing.assert_allclose(ae.reconstruct(new[2:4]), ae.reconstruct(new)[2:4], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("novelty", [False, True])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_the_detector_takes_few_rows_of_many_columns(novelty, gaps):
    X, new = curved(40), curved(40, seed=9)
    new[0] += 2 * np.random.default_rng(0).standard_normal(P)
    if gaps:
        X[::3, ::5] = np.nan
    detector = AutoencoderOutlierDetector(novelty=novelty, random_state=0).fit(X)
    scores = detector.score_samples(new)
    assert np.isfinite(scores).all() and scores.argmin() == 0
    assert detector.p_values(new).argmin() == 0
    # So few rows with gaps do not vouch for a threshold.
    assert gaps or detector.predict(new)[0] == -1


def test_the_imputer_takes_few_rows_of_many_columns():
    """Nearly as good as knowing the three factors; draws and intervals are as wide as what is left."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 300)) + 0.3 * rng.standard_normal((40, 300))
    gaps = rng.random(X.shape) < 0.2
    imputer = AutoencoderImputer(random_state=0).fit(np.where(gaps, np.nan, X))
    filled = imputer.transform(np.where(gaps, np.nan, X))
    assert 0.25 < np.sqrt(np.square(filled - X)[gaps].mean()) < 0.45
    low, high = imputer.interval(np.where(gaps, np.nan, X), coverage=0.9)
    assert 0.8 < ((low <= X) & (X <= high))[gaps].mean() < 0.98
    one, two = imputer.sample(np.where(gaps, np.nan, X), 2, random_state=0)
    # A draw is as far from the truth as the truth is from its expectation, once more.
    for drawn in (one, two):
        assert 0.3 < np.sqrt(np.square(drawn - X)[gaps].mean()) < 0.75
    assert 0.3 < np.sqrt(np.square(one - two)[gaps].mean()) < 0.75
