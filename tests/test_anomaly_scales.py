"""The detector bears cells and tables of every size, and flags a cell that is out of all proportion."""

import numpy as np
import pytest
import scipy.sparse as sp
from registry import over
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import VAE, AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE, GaussianNoise
from skae.anomaly import DenoisingError, NeighborDistance, RobustDistance
from skae.anomaly._columns import CommonScale, StandardColumns

SHORT = {"max_iter": 3, "early_stopping": False}
DENOISER = DenoisingAE(
    4,
    hidden_layer_sizes=(8,),
    init="random",
    corruption=GaussianNoise((0.05, 2.0)),
    conditioning="noise_level",
    **SHORT,
)
NEAR = [DenoisingError((0.08,)), NeighborDistance(), NeighborDistance(columns="rank")]
COARSE = [DenoisingError((0.08,)), RobustDistance(1.0), NeighborDistance(max_samples=64, columns="robust")]
LINEAR = AutoencoderTransformer(2, hidden_layer_sizes=(), **SHORT)
ONE = {"n_estimators": 1, "random_state": 0}
DETECTORS = {
    "novelty": AutoencoderOutlierDetector(DENOISER, scorer=NEAR, novelty=True, **ONE),
    "polluted": AutoencoderOutlierDetector(DENOISER, scorer=COARSE, **ONE),
    "linear": AutoencoderOutlierDetector(LINEAR, **ONE),
    "units": AutoencoderOutlierDetector(LINEAR, standardize=False, **ONE),
    "vae": AutoencoderOutlierDetector(VAE(2, hidden_layer_sizes=(8,), **SHORT), novelty=True, **ONE),
    "sklearn": AutoencoderOutlierDetector(PCA(2), novelty=True, **ONE),
}
each_detector = pytest.mark.parametrize("detector", **over(DETECTORS))
X = np.random.default_rng(0).standard_normal((200, 4)) @ (np.eye(4) + 0.5)
# What netCDF writes in a gap, what others do, and what is beyond the square root of the largest number.
HUGE = [
    (np.float64, 9.97e36),
    (np.float64, 1e155),
    (np.float64, -1.7e308),
    (np.float32, 9.97e36),
    (np.float32, -3.4e38),
]


@pytest.mark.parametrize(("dtype", "value"), HUGE)
@each_detector
def test_a_huge_cell_is_borne_flagged_and_named(detector, dtype, value):
    rows = X.astype(dtype)
    rows[3, 1] = value
    fitted = clone(detector).fit(rows)
    scores = fitted.score_samples(rows)
    assert np.isfinite(scores).all() and scores.argmin() == 3
    assert fitted.predict(rows[3:4]) == -1 and (fitted.predict(rows) == -1).mean() < 0.06
    if hasattr(fitted.estimators_[0], "reconstruct"):
        assert fitted.explain(rows[3:4])["share"].abs().idxmax(axis=1).item() == "x1"


@pytest.mark.parametrize("detector", **over({name: each for name, each in DETECTORS.items() if name != "units"}))
def test_a_huge_cell_hides_no_other_anomaly(detector):
    detector = clone(detector).set_params(n_estimators=5)
    rows, usual = X.copy(), np.arange(200) != 3
    rows[7] += 5 * X.std(axis=0) * [1, -1, 1, -1]
    before = clone(detector).fit(rows).score_samples(rows)[usual]
    rows[3, 1] = 9.97e36
    after = clone(detector).fit(rows).score_samples(rows)[usual]
    assert (after < after[6]).sum() <= (before < before[6]).sum() + 2
    # Its column is seen as before: a value that is unusual there still shows.
    rows[9, 1] += 10 * X[:, 1].std()
    scores = clone(detector).fit(rows).score_samples(rows)
    assert scores.argmin() == 3 and (scores < scores[9]).sum() <= 3


@pytest.mark.parametrize(("dtype", "value"), HUGE)
@each_detector
def test_a_huge_cell_in_a_new_row_is_flagged(detector, dtype, value):
    fitted = clone(detector).fit(X.astype(dtype))
    rows = X[:5].astype(dtype)
    rows[2, 0] = value
    scores = fitted.score_samples(rows)
    assert np.isfinite(scores).all() and scores.argmin() == 2
    assert fitted.predict(rows[2:3]) == -1
    np.testing.assert_allclose(fitted.p_values(rows[2:3]), 1 / (len(fitted.calibration_scores_) + 1))
    if hasattr(fitted.estimators_[0], "partial_fit"):
        assert np.isfinite(fitted.partial_fit(rows).score_samples(rows)).all()


SIZES = [(np.float64, size) for size in (1e-30, 1e19, 1e30, 1e150)] + [
    (np.float32, size) for size in (1e-15, 1e19, 1e30)
]


@pytest.mark.parametrize(("dtype", "size"), SIZES)
@each_detector
def test_tables_of_every_size_have_the_same_order(detector, dtype, size):
    one = clone(detector).fit(X.astype(dtype)).score_samples(X.astype(dtype))
    rows = (X * size).astype(dtype)
    other = clone(detector).fit(rows).score_samples(rows)
    assert np.isfinite(other).all() and spearmanr(one, other).statistic > 0.999


@pytest.mark.parametrize("standardize", [True, False])
def test_a_huge_cell_of_a_sparse_matrix(standardize):
    rows = np.where(np.random.default_rng(1).random((200, 6)) < 0.6, 0, np.random.default_rng(2).random((200, 6)))
    rows[3, 1] = 9.97e36
    fitted = AutoencoderOutlierDetector(LINEAR, standardize=standardize, **ONE).fit(sp.csr_array(rows))
    scores = fitted.score_samples(sp.csr_array(rows))
    assert np.isfinite(scores).all() and scores.argmin() == 3 and fitted.predict(rows[3:4]) == -1


def test_fill_values_have_no_say_in_a_columns_scale():
    """As many as a third of them."""
    rows = X.copy()
    rows[::3, 1] = 9.97e36
    columns = StandardColumns(rows)
    usual = np.arange(200) % 3 > 0
    np.testing.assert_allclose(columns(rows)[usual, 1].std(), 1)
    np.testing.assert_allclose(columns(rows)[~usual, 1], 1e6)
    np.testing.assert_array_equal(columns.without_wild(columns(rows))[~usual, 1], 0)
    # Columns without them are scaled as before.
    np.testing.assert_allclose(columns(rows)[:, 0], (X[:, 0] - X[:, 0].mean()) / X[:, 0].std(), rtol=1e-12)


def test_a_rare_value_is_no_fill_value():
    """A column that is nearly constant keeps its variance, and one of many sizes too."""
    rows = np.stack([np.arange(500.0) == 3, np.exp(np.linspace(-10, 10, 500)), 1e6 * (np.arange(500) % 50 == 0)], 1)
    columns = StandardColumns(rows)
    np.testing.assert_allclose(columns(rows).std(axis=0), 1)
    assert columns.without_wild(columns(rows)) is not None
    np.testing.assert_array_equal(columns.without_wild(columns(rows)), columns(rows))


def test_a_common_unit_is_a_power_of_two_and_only_where_it_is_needed():
    assert CommonScale(X)(X) is X and CommonScale(1e30 * X, keep_units=True)(X) is X
    columns = CommonScale(1e30 * X)
    np.testing.assert_array_equal(columns.back(columns(1e30 * X)), 1e30 * X)
    assert 0.1 < np.median(np.abs(columns(1e30 * X))) < 10


def test_precise_numbers_far_from_zero():
    """Moments are taken in double precision, in the data's own."""
    rows = (1e4 + X).astype(np.float32)
    scaled = StandardColumns(rows)(rows)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-4)
