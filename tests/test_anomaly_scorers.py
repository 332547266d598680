"""Scorers: shared properties of each, and closed forms."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from registry import ESTIMATORS, SCORERS, over, real
from scipy.spatial.distance import cdist
from scipy.stats import norm, spearmanr
from sklearn.base import clone
from sklearn.covariance import MinCovDet
from sklearn.decomposition import PCA

from skae import GAN, VAE, AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE, GaussianNoise
from skae.anomaly import (
    CodeDensity,
    DenoisingError,
    NegativeLogLikelihood,
    NeighborDistance,
    ReconstructionError,
    RobustDistance,
)
from skae.anomaly._columns import GEOMETRIES, AsTheyAre, RankColumns, RobustColumns, StandardColumns, quartiles
from skae.anomaly._covariance import LEAST_VARIANCE, Ellipsoid

P = 5
LINEAR = AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0)
X = (real(200, P) - np.arange(P)) / np.linspace(0.5, 3.0, P)
NEW = (real(60, P, seed=1) - np.arange(P)) / np.linspace(0.5, 3.0, P)


@pytest.fixture(scope="module")
def ae():
    """PCA as an autoencoder."""
    return clone(LINEAR).fit(X)


@pytest.fixture(scope="module")
def residuals(ae):
    """The residuals of the training rows, by scikit-learn's PCA."""
    pca = PCA(2).fit(X)
    return X - pca.inverse_transform(pca.transform(X))


def _scores(scorer, ae, rows, training=X, seed=0):
    scorer.check(ae)
    return scorer.score(ae, scorer.fit(ae, training, np.random.RandomState(seed)), rows)


# Each of them ----------------------------------------------------------------------------------


# A relative error is small where the row is long.
ABSOLUTE = {name: scorer for name, scorer in SCORERS.items() if name != "error-relative"}


@pytest.mark.parametrize("scorer", **over(ABSOLUTE))
def test_a_strange_row_has_the_highest_score(scorer, ae):
    rows = NEW.copy()
    rows[7] += [6, -6, 6, -6, 6]
    made = _scores(scorer, ae, rows)
    assert made.shape == (60,) and made.argmax() == 7


@pytest.mark.parametrize("scorer", **over(SCORERS))
def test_rows_are_scored_one_by_one(scorer, ae):
    learnt = scorer.fit(ae, X, np.random.RandomState(0))
    whole = scorer.score(ae, learnt, NEW)
    alone = np.concatenate([scorer.score(ae, learnt, NEW[i : i + 7]) for i in range(0, 60, 7)])
    np.testing.assert_allclose(alone, whole, rtol=1e-9, atol=1e-9)
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(scorer.score(ae, learnt, NEW[order]), whole[order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scorer", **over(SCORERS))
def test_what_is_learnt_is_not_kept_in_the_scorer(scorer, ae):
    """So that one scorer may serve several members, and what was learnt goes into a pickle."""
    scorer = clone(scorer)
    rows, training = NEW.copy(), X.copy()
    scorer.check(ae)
    learnt = scorer.fit(ae, training, np.random.RandomState(0))
    made = scorer.score(ae, learnt, rows)
    assert vars(scorer) == scorer.get_params()
    np.testing.assert_array_equal(rows, NEW)
    np.testing.assert_array_equal(training, X)
    again = pickle.loads(pickle.dumps(learnt))
    np.testing.assert_array_equal(clone(scorer).score(ae, again, NEW), made)


@pytest.mark.parametrize("scorer", **over(ABSOLUTE))
def test_gaps(scorer, ae):
    """Rows with gaps are learnt from and scored; a strange value elsewhere is still seen."""
    gaps = np.random.default_rng(0).random((260, P)) < 0.15
    training, rows = np.where(gaps[:200], np.nan, X), np.where(gaps[200:], np.nan, NEW)
    rows[3] = np.nan
    rows[7] = [np.nan, 8, -8, 8, -8]
    with np.errstate(all="raise"):
        made = _scores(scorer, ae, rows, training)
    assert np.isfinite(made).all() and made.argmax() == 7


@pytest.mark.parametrize("scorer", **over(SCORERS))
def test_single_precision(scorer, ae):
    made = _scores(scorer, ae, NEW.astype(np.float32), X.astype(np.float32))
    np.testing.assert_allclose(made, _scores(scorer, ae, NEW), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("scorer", **over(SCORERS))
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_training_rows_that_are_all_equal(scorer, value):
    """The score of such a row is finite, and that of another one higher."""
    rows = np.full((40, P), value)
    ae = clone(LINEAR).fit(rows)
    with np.errstate(all="raise"):
        made = _scores(scorer, ae, np.concatenate([rows[:3], rows[:1] + np.eye(P)[1]]), rows)
    assert np.isfinite(made).all() and made[3] >= made[:3].max()
    if not (isinstance(scorer, CodeDensity) or getattr(scorer, "space", "input") != "input"):
        assert made[3] > made[:3].max()


@pytest.mark.parametrize("scorer", **over(SCORERS))
def test_in_a_detector_scores_are_the_mean_over_members(scorer):
    detector = AutoencoderOutlierDetector(LINEAR, scorer=scorer, novelty=True, standardize=False, n_estimators=3)
    detector.set_params(random_state=0).fit(X)
    by_member = [scorer.score(m.autoencoder, m.learnt[0], NEW) for m in detector.members_]
    np.testing.assert_allclose(detector.score_samples(NEW), -np.mean(by_member, axis=0))
    again = clone(detector).fit(X)
    np.testing.assert_array_equal(again.score_samples(NEW), detector.score_samples(NEW))


@pytest.mark.parametrize(
    ("scorer", "named"),
    [
        (NegativeLogLikelihood(5), r"NegativeLogLikelihood\(n_samples=5\): AutoencoderTransformer draws no"),
    ],
    ids=str,
)
def test_parameters_out_of_range(scorer, named):
    with pytest.raises(ValueError, match=named):
        AutoencoderOutlierDetector(LINEAR, scorer=scorer).fit(X)


@pytest.mark.parametrize(
    ("scorer", "autoencoder", "named"),
    [
        (
            ReconstructionError(),
            GAN(max_iter=1),
            "ReconstructionError needs an autoencoder with reconstruct, which GAN",
        ),
        (CodeDensity(), GAN(max_iter=1), "CodeDensity needs an autoencoder with transform, which GAN"),
        (NeighborDistance("code"), GAN(max_iter=1), "NeighborDistance needs an autoencoder with transform, which GAN"),
        (NeighborDistance("output"), PCA(2), "NeighborDistance needs an autoencoder with reconstruct, which PCA"),
        (DenoisingError(), PCA(2), "DenoisingError needs an autoencoder with reconstruct, which PCA"),
    ],
    ids=str,
)
def test_an_autoencoder_that_cannot_be_read(scorer, autoencoder, named):
    with pytest.raises(ValueError, match=f"{named} does not have; choose another scorer"):
        AutoencoderOutlierDetector(autoencoder, scorer=[RobustDistance(), scorer]).fit(X)


# Errors ----------------------------------------------------------------------------------------


def test_errors_by_hand(ae, residuals):
    squares = np.square(residuals)
    covariance = residuals.T @ residuals / len(X)
    by_hand = {
        "squared": squares.mean(axis=1),
        "absolute": np.abs(residuals).mean(axis=1),
        "relative": squares.mean(axis=1) / (np.square(X).mean(axis=1) + 1e-3 * np.square(X).mean()),
        "scaled": (squares / squares.mean(axis=0)).mean(axis=1),
        # Residuals lie in a plane; in it, the inverse is the covariance's pseudo-inverse.
        "mahalanobis": np.einsum("ij,jk,ik->i", residuals, np.linalg.pinv(covariance, rcond=1e-6), residuals) / P,
    }
    for loss, expected in by_hand.items():
        np.testing.assert_allclose(_scores(ReconstructionError(loss), ae, X), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_errors_are_means_over_what_a_row_has(loss, ae):
    rows = X.copy()
    rows[:, 2] = np.nan
    error = np.abs(rows - ae.reconstruct(rows))[:, [0, 1, 3, 4]] ** (2 if loss == "squared" else 1)
    np.testing.assert_allclose(_scores(ReconstructionError(loss), ae, rows), error.mean(axis=1))


def test_relative_errors_do_not_know_the_length_of_a_row():
    rows = np.abs(X) + 1
    ae = AutoencoderTransformer(1, hidden_layer_sizes=(), random_state=0).fit(rows - rows.mean(axis=0))
    one, other = (_scores(ReconstructionError("relative"), ae, k * NEW, X) for k in (1e3, 1e4))
    np.testing.assert_allclose(one, other, rtol=1e-2)


def test_the_likelihood_is_the_autoencoders_own(ae):
    np.testing.assert_array_equal(_scores(NegativeLogLikelihood(), ae, NEW), -ae.score_samples(NEW))


def test_the_number_of_importance_samples():
    vae = VAE(2, hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X)
    for n_samples in (1, 20):
        np.testing.assert_allclose(
            _scores(NegativeLogLikelihood(n_samples), vae, NEW), -vae.score_samples(NEW, n_samples=n_samples)
        )


def test_what_a_denoiser_changes(ae):
    dae = DenoisingAE(
        3, hidden_layer_sizes=(8,), init="random", corruption=GaussianNoise((0.05, 2.0)), conditioning="noise_level"
    ).set_params(max_iter=3, early_stopping=False, random_state=0)
    dae.fit(X)
    errors = [np.square(NEW - dae.reconstruct(NEW, scale=scale)).mean(axis=1) for scale in (0.1, 0.5, 1.5)]
    made = _scores(DenoisingError((0.1, 0.5, 1.5)), dae, NEW)
    np.testing.assert_allclose(made, np.log(errors).mean(axis=0), rtol=1e-6)
    # Others have one level, their own.
    one = np.log(np.square(NEW - ae.reconstruct(NEW)).mean(axis=1))
    np.testing.assert_allclose(_scores(DenoisingError(), ae, NEW), one, rtol=1e-6)


def test_the_score_of_a_gaussian_denoiser_is_the_pull_towards_the_data():
    """‖x − r(x, σ)‖ = σ² ‖(Σ + σ²I)⁻¹(x − μ)‖ for the best denoiser, which a linear one finds."""
    rows = np.random.default_rng(0).standard_normal((3000, 2)) @ [[1.0, 0.6], [0.0, 0.5]]
    noise = GaussianNoise(0.5, relative=False)
    dae = DenoisingAE(2, hidden_layer_sizes=(), corruption=noise, max_iter=100, learning_rate=0.01, batch_size=250)
    dae.set_params(early_stopping=False, random_state=0).fit(rows)
    smoothed = np.cov(rows.T) + 0.25 * np.eye(2)
    pull = 0.25 * np.linalg.norm(np.linalg.solve(smoothed, (rows - rows.mean(axis=0)).T), axis=0)
    made = _scores(DenoisingError(), dae, rows, rows)
    far = pull > np.median(pull)
    np.testing.assert_allclose(made[far], np.log(pull[far] ** 2 / 2), atol=0.2)


# Densities -------------------------------------------------------------------------------------


def _mahalanobis(rows, of):
    centred = rows - of.mean(axis=0)
    return np.einsum("ij,jk,ik->i", centred, np.linalg.inv(np.cov(of.T, bias=True)), centred) / of.shape[1]


def test_the_distance_by_all_rows_is_mahalanobis(ae):
    np.testing.assert_allclose(_scores(RobustDistance(1.0), ae, NEW), _mahalanobis(NEW, X), rtol=1e-6)
    codes, new = ae.transform(X), ae.transform(NEW)
    np.testing.assert_allclose(_scores(CodeDensity(), ae, NEW), _mahalanobis(new, codes), rtol=1e-6)


@pytest.mark.parametrize(("support", "share"), [(0.75, 0.2), (0.5, 0.3)])
def test_the_robust_distance_beside_the_minimum_covariance_determinant(support, share, ae):
    rng = np.random.default_rng(0)
    n_outliers = int(share * 400)
    rows = rng.standard_normal((400, P)) @ (np.eye(P) + 0.5)
    rows[:n_outliers] = 0.3 * rng.standard_normal((n_outliers, P)) + [9, -9, 9, -9, 9]
    made = _scores(RobustDistance(support), ae, rows, rows)
    assert made[:n_outliers].min() > 5 * made[n_outliers:].max()
    # Its criterion, the determinant of the kept rows' covariance, from many starts: 15 % a direction are near.
    exact = MinCovDet(support_fraction=support, random_state=0).fit(rows)
    whitening = RobustDistance(support).fit(ae, rows, None).whitening
    found = -np.linalg.slogdet(whitening @ whitening.T)[1]
    assert found < np.linalg.slogdet(exact.raw_covariance_)[1] + 0.15 * P
    # The contrast: outliers hide where all rows count.
    plain = _scores(RobustDistance(1.0), ae, rows, rows)
    assert plain[:n_outliers].min() < plain[n_outliers:].max()


def test_rows_in_a_plane(ae):
    """A direction without variance counts, but not without end."""
    rows = X.copy()
    rows[:, 4] = rows[:, 0]
    off = rows[:5] + np.eye(P)[4]
    learnt = RobustDistance(1.0).fit(ae, rows, None)
    made, before = learnt(off), learnt(rows)
    assert np.isfinite(made).all() and made.min() > before.max()


@pytest.mark.parametrize("n_rows", [2, 3, 4, 6])
def test_fewer_rows_than_columns(n_rows, ae):
    for support in (1.0, 0.5):
        assert np.isfinite(_scores(RobustDistance(support), ae, NEW, X[:n_rows])).all()


# Neighbours ------------------------------------------------------------------------------------


def _nearest(distances):
    return np.log(distances.min(axis=1))


def test_one_subsample_of_all_rows_is_the_nearest_neighbour(ae):
    scorer = NeighborDistance(max_samples=200)
    np.testing.assert_allclose(_scores(scorer, ae, NEW), _nearest(cdist(NEW, X)), rtol=1e-6, atol=1e-9)
    # A training row is not its own neighbour.
    others = cdist(X, X) + np.diag(np.full(200, np.inf))
    np.testing.assert_allclose(_scores(scorer, ae, X), _nearest(others), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [3, 8, 30, 150])
def test_a_row_is_never_its_own_neighbour(size, ae):
    """Its mean is at least the distance to the nearest other row, however often rows serve as references."""
    for dtype in (np.float64, np.float32):
        made = _scores(NeighborDistance(max_samples=size), ae, X.astype(dtype), X.astype(dtype))
        assert (made >= _nearest(cdist(X, X) + np.diag(np.full(200, np.inf))) - 1e-3).all()


@pytest.mark.parametrize(("space", "method"), [("code", "transform"), ("output", "reconstruct")])
def test_neighbours_in_other_spaces(space, method, ae):
    rows, new = getattr(ae, method)(X), getattr(ae, method)(NEW)
    made = _scores(NeighborDistance(space, max_samples=500), ae, NEW)
    np.testing.assert_allclose(made, _nearest(cdist(new, rows)), rtol=1e-6, atol=1e-9)


def test_subsamples_of_one_row_are_the_mean_over_all_rows(ae):
    made = _scores(NeighborDistance(max_samples=1, max_references=200), ae, NEW)
    np.testing.assert_allclose(made, np.log(cdist(NEW, X)).mean(axis=1), rtol=1e-6)


def test_smaller_subsamples_have_farther_neighbours(ae):
    means = [_scores(NeighborDistance(max_samples=size), ae, NEW).mean() for size in (200, 64, 8, 1)]
    assert means == sorted(means) and means[0] == pytest.approx(_nearest(cdist(NEW, X)).mean())


def test_a_distance_over_what_is_observed_is_scaled_up(ae):
    """√(5/3) times the distance in the three columns that are there."""
    rows = NEW.copy()
    rows[:, [1, 3]] = np.nan
    seen = [0, 2, 4]
    made = _scores(NeighborDistance(max_samples=200), ae, rows)
    expected = _nearest(np.sqrt(P / 3) * cdist(rows[:, seen], X[:, seen]))
    np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-9)


def test_gaps_of_the_references_are_their_columns_mean(ae):
    training = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    filled = np.where(np.isnan(training), np.nanmean(training, axis=0), training)
    made = _scores(NeighborDistance(max_samples=200), ae, NEW, training)
    np.testing.assert_allclose(made, _nearest(cdist(NEW, filled)), rtol=1e-6, atol=1e-9)


MAPS = {
    "affine": lambda Z: Z * [1, 20, 0.1, 3, 700] + [0, -5, 1e3, 0, 7],
    "monotone": lambda Z: np.stack([np.exp(Z[:, 0]), Z[:, 1] ** 3, np.arctan(Z[:, 2]), Z[:, 3], 5 * Z[:, 4]], axis=1),
}


@pytest.mark.parametrize(
    ("columns", "kind"), [("standard", "affine"), ("robust", "affine"), ("rank", "affine"), ("rank", "monotone")]
)
def test_units_of_the_columns_do_not_matter(columns, kind, ae):
    """Nor, to ranks, does any change that keeps the order."""
    rng = np.random.default_rng(0)
    # Training values in other company, between which nothing has to be interpolated.
    new = rng.permuted(X, axis=0)[:50]
    scorer = NeighborDistance(columns=columns, max_samples=32)
    mapped = MAPS[kind]
    np.testing.assert_allclose(
        _scores(scorer, ae, mapped(new), mapped(X)), _scores(scorer, ae, new, X), rtol=1e-6, atol=1e-6
    )


def test_the_contrast_is_that_units_matter_where_columns_stay_as_they_are(ae):
    scorer = NeighborDistance(max_samples=32)
    mapped = MAPS["affine"]
    one, other = _scores(scorer, ae, mapped(NEW), mapped(X)), _scores(scorer, ae, NEW, X)
    assert spearmanr(one, other).statistic < 0.9


# Columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", **over(GEOMETRIES))
def test_a_column_that_is_constant_in_training(kind):
    """A departure shows, and the larger the more, in units of the value."""
    for value in (0.0, 3.0, 1e8, -1e-12):
        rows = X.copy()
        rows[:, 1] = value
        unit = max(abs(value), 1)
        off = rows[:3].copy()
        off[:, 1] += unit * np.array([0.0, 0.5, 1.0])
        with np.errstate(all="raise"):
            columns = kind(rows)
            made = columns(off)[:, 1]
        assert np.isfinite(made).all()
        if kind is not AsTheyAre:
            np.testing.assert_allclose(made[0], 0, atol=1e-6)
            assert 1 < made[1] < made[2]


def test_standard_columns():
    columns = StandardColumns(X * [1, 20, 0.1, 3, 700] + 5)
    Z = columns(X * [1, 20, 0.1, 3, 700] + 5)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(Z.std(axis=0), 1)
    np.testing.assert_allclose(columns.back(Z), X * [1, 20, 0.1, 3, 700] + 5)


def test_standard_columns_of_a_sparse_matrix_are_not_centred():
    dense = np.where(np.random.default_rng(0).random(X.shape) < 0.7, 0, X)
    dense[:, 3] = 0
    rows = sp.csr_array(dense)
    columns = StandardColumns(rows)
    made = columns(rows)
    assert sp.issparse(made) and made.nnz == rows.nnz
    spread = dense.std(axis=0)
    np.testing.assert_allclose(made.toarray()[:, [0, 1, 2, 4]], (dense / np.where(spread, spread, 1))[:, [0, 1, 2, 4]])
    np.testing.assert_allclose(columns(dense), made.toarray())


@pytest.mark.parametrize("n_rows", [100, 5000])
def test_ranks_are_normal_scores(n_rows):
    values = np.random.default_rng(0).standard_gamma(0.5, (n_rows, 1))
    made = np.sort(RankColumns(values)(values)[:, 0])
    expected = norm.ppf((np.arange(n_rows) + 0.5) / n_rows)
    assert (np.diff(made) > 0).all()
    # Beside the outermost of the 256 knots it is a line.
    bulk = np.abs(expected) < 2
    np.testing.assert_allclose(made[bulk], expected[bulk], atol=0.02)


def test_beyond_the_training_values_ranks_go_on_in_standard_deviations():
    columns = RankColumns(X)
    spread = X[:, 0].std()
    rows = np.tile(X[X[:, 0].argmax()], (3, 1))
    rows[:, 0] += spread * np.array([0, 1, 50])
    made = columns(rows)[:, 0]
    np.testing.assert_allclose(made - made[0], [0, 1, 50], atol=1e-9)


def test_robust_columns_draw_wild_values_in():
    rows = np.random.default_rng(0).standard_normal((2000, 1))
    rows[:100] = 1e6
    made = RobustColumns(rows)(rows)
    assert made.std() == pytest.approx(1) and made.max() < 10
    # The contrast: with means and variances, the bulk is one point.
    assert np.ptp(StandardColumns(rows)(rows)[100:]) < 1e-3 < 0.5 < np.ptp(made[100:])


def test_every_estimator_has_scores_for_the_scorers_that_it_can_be_read_by():
    rows = 1 / (1 + np.exp(-X))
    for estimator in ESTIMATORS.values():
        fitted = clone(estimator).fit(rows)
        for scorer in SCORERS.values():
            assert np.isfinite(_scores(scorer, fitted, rows[:9], rows)).all()


# Wide tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [True, False])
def test_the_distance_of_few_rows_is_that_of_their_covariance_matrix(centred):
    """As by all axes, of which those beyond the rows have the least variance."""
    rows, new = np.random.default_rng(0).standard_normal((2, 8, 40)) + 1
    made = Ellipsoid(rows, centred=centred)
    centre = rows.mean(0) if centred else np.zeros(40)
    variance, axes = np.linalg.eigh((rows - centre).T @ (rows - centre) / len(rows))
    whitened = (new - centre) @ axes / np.sqrt(np.maximum(variance, LEAST_VARIANCE * variance.mean()))
    np.testing.assert_allclose(made(new), np.square(whitened).mean(1), rtol=1e-6)
    assert made.axes.shape[1] < 9


def test_quartiles_are_those_of_numpy():
    rows = np.random.default_rng(0).standard_normal((23, 7))
    np.testing.assert_allclose(quartiles(rows), np.percentile(rows, [25, 50, 75], axis=0))
    rows[np.random.default_rng(1).random(rows.shape) < 0.4] = np.nan
    rows[1:, 3] = np.nan
    np.testing.assert_allclose(quartiles(rows), np.nanpercentile(rows, [25, 50, 75], axis=0))
    rows[:, 4] = np.nan
    assert np.isnan(quartiles(rows)[:, 4]).all()
