"""Reasons: faults planted in known cells are found, though nothing is remarkable about their values."""

from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from registry import real
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import GAN, AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE, GaussianNoise
from skae.anomaly import NeighborDistance

# Four columns with pairwise correlations of 0.95, six that are one angle's harmonics, and three on their own.
CORRELATED, HARMONICS, ALONE = np.arange(4), np.arange(4, 10), np.arange(10, 13)
RHO = 0.95
UNIT = np.array([1, 10, 0.1, 1, 1, 5, 1, 1, 2, 0.2, 1, 2, 3])
CENTRE = np.array([0, 5, 0, 100, 0, 0, 3, 0, 0, 0, 0, 0, 7])
SPREAD = UNIT * np.repeat([1, np.sqrt(0.5), 1], [4, 6, 3])


def _rows(n, rng):
    """Rows, and their angles."""
    together = np.sqrt(RHO) * rng.standard_normal((n, 1)) + np.sqrt(1 - RHO) * rng.standard_normal((n, 4))
    angle = rng.uniform(0, 2 * np.pi, n)
    curve = _curve(angle) + 0.05 * rng.standard_normal((n, 6))
    return np.hstack([together, curve, rng.standard_normal((n, 3))]) * UNIT + CENTRE, angle


def _curve(angle):
    return np.stack([f(k * angle) for k in (1, 2, 3) for f in (np.cos, np.sin)], axis=1)


class Planted(NamedTuple):
    """Rows with one faulty cell each, what belongs into it, and the sign of the fault."""

    rows: np.ndarray
    column: np.ndarray
    expected: np.ndarray
    sign: np.ndarray


def _plant(columns, size, limit, n=50):
    """Faults of `size` standard deviations beside the conditional mean, within `limit` of the mean."""
    rng = np.random.default_rng(1)
    rows, angle = _rows(100 * n, rng)
    column = rng.choice(columns, len(rows))
    which = np.arange(len(rows))
    z = (rows - CENTRE) / UNIT
    conditional = np.zeros_like(z)
    conditional[:, HARMONICS] = _curve(angle)
    # Of a normal distribution with equal correlations.
    others = z[:, CORRELATED].sum(axis=1, keepdims=True) - z[:, CORRELATED]
    conditional[:, CORRELATED] = RHO * others / (1 + 2 * RHO)
    expected = (conditional * UNIT + CENTRE)[which, column]
    sign = rng.choice([-1, 1], len(rows))
    rows[which, column] = expected + sign * size * SPREAD[column]
    fit = np.flatnonzero(np.abs(rows[which, column] - CENTRE[column]) <= limit * SPREAD[column])[:n]
    assert len(fit) == n
    return Planted(rows[fit], column[fit], expected[fit], sign[fit])


KINDS = {
    "correlated": _plant(CORRELATED, 1.5, 1.5),
    "nonlinear": _plant(HARMONICS, 1.2, 1.5),
    "alone": _plant(ALONE, 6, 6.1),
}


@pytest.fixture(scope="module", params=[True, False], ids=["novelty", "polluted"])
def default(request):
    """The default detector, fitted to rows without faults."""
    X, _ = _rows(2000, np.random.default_rng(0))
    return AutoencoderOutlierDetector(novelty=request.param, random_state=0).fit(X)


def _of(frame, block, planted):
    return frame[block].to_numpy()[np.arange(len(planted.rows)), planted.column]


@pytest.mark.parametrize("kind", KINDS)
def test_the_faulty_cell_comes_first(default, kind):
    planted = KINDS[kind]
    shown = default.explain(planted.rows)
    share = np.abs(shown["share"].to_numpy())
    assert (share.argmax(axis=1) == planted.column).mean() >= 0.9
    np.testing.assert_allclose(share.sum(axis=1), 1)
    # The contrast: by itself the value is nothing unusual, where others tell it.
    remarkable = np.abs((planted.rows - CENTRE) / SPREAD).argmax(axis=1) == planted.column
    assert remarkable.mean() > 0.9 if kind == "alone" else remarkable.mean() < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_the_faulty_cell(default, kind):
    """Its share has the fault's sign; what is expected is its conditional mean, and with it the row is normal."""
    planted = KINDS[kind]
    shown = default.explain(planted.rows)
    assert (np.sign(_of(shown, "share", planted)) == planted.sign).mean() >= 0.95
    error = np.abs(_of(shown, "expected", planted) - planted.expected) / SPREAD[planted.column]
    assert np.median(error) < 0.25 and np.quantile(error, 0.9) < 0.5
    without, scores = _of(shown, "score_without", planted), default.score_samples(planted.rows)
    assert (without > scores).mean() >= 0.95
    assert (without > default.offset_).mean() >= 0.8 > 0.4 > (scores > default.offset_).mean()


def test_the_contrast_is_a_linear_residual():
    """That of a linear autoencoder blames neighbours of the faulty cell."""
    X, _ = _rows(2000, np.random.default_rng(0))
    planted = KINDS["nonlinear"]
    spread = X.std(axis=0)
    pca = PCA(5).fit(X / spread)
    residual = planted.rows / spread - pca.inverse_transform(pca.transform(planted.rows / spread))
    assert (np.abs(residual).argmax(axis=1) == planted.column).mean() < 0.7


# What the frame holds --------------------------------------------------------------------------

P = 5
X = real(300, P)
NEW = X[:12] + np.random.default_rng(1).standard_normal((12, P)) * X.std(axis=0)
DENOISER = DenoisingAE(
    4,
    hidden_layer_sizes=(16,),
    init="random",
    corruption=GaussianNoise((0.05, 2.0)),
    conditioning="noise_level",
    max_iter=20,
    early_stopping=False,
)


@pytest.fixture(scope="module")
def detector():
    """A small one."""
    return AutoencoderOutlierDetector(DENOISER, novelty=True, random_state=0).fit(X)


def test_blocks_and_scores(detector):
    rows = NEW.copy()
    shown = detector.explain(rows)
    np.testing.assert_array_equal(rows, NEW)
    names = [f"x{j}" for j in range(P)]
    assert shown.columns.tolist() == [(b, n) for b in ("share", "seen", "expected", "score_without") for n in names]
    np.testing.assert_array_equal(shown["seen"], NEW)
    share, expected, without = (shown[block].to_numpy() for block in ("share", "expected", "score_without"))
    scores = detector.score_samples(NEW)
    for j in range(P):
        filled = NEW.copy()
        filled[:, j] = expected[:, j]
        np.testing.assert_allclose(without[:, j], detector.score_samples(filled), rtol=1e-9)
    gain = np.maximum(without - scores[:, None], 0)
    np.testing.assert_allclose(np.abs(share), gain / gain.sum(axis=1, keepdims=True), atol=1e-9)
    assert (np.sign(share)[gain > 0] == np.sign(NEW - expected)[gain > 0]).all()
    assert (expected >= X.min(axis=0)).all() and (expected <= X.max(axis=0)).all()


def test_a_row_that_no_cell_explains_has_no_shares():
    fitted = AutoencoderOutlierDetector(DENOISER, scorer=NeighborDistance(), novelty=True, random_state=0).fit(X)
    total = fitted.explain(X)["share"].abs().sum(axis=1).to_numpy()
    assert (np.isclose(total, 1) | (total == 0)).all()
    constant = clone(fitted).fit(np.full((40, P), 2.0))
    assert (constant.explain(np.full((2, P), 2.0))["share"].to_numpy() == 0).all()


def test_the_fixed_point_of_a_linear_autoencoder():
    """The value without a residual: v = −Σ_{k≠j} Q_jk z_k / Q_jj with Q = I − WWᵀ, in standardised units."""
    linear = AutoencoderTransformer(2, hidden_layer_sizes=())
    fitted = AutoencoderOutlierDetector(linear, novelty=True, n_estimators=1, random_state=0).fit(X)
    (member,) = fitted.members_
    unit, centre = member.columns.spread, member.columns.centre
    mean = member.autoencoder.reconstruct(np.zeros((1, P)))[0]
    # What unit vectors become.
    projection = member.autoencoder.reconstruct(np.eye(P)) - mean
    Q = np.eye(P) - projection.T
    middle = np.linalg.lstsq(Q, mean, rcond=None)[0]
    z = (NEW - centre) / unit - middle
    expected = np.stack([-(z @ Q[j] - z[:, j] * Q[j, j]) / Q[j, j] for j in range(P)], axis=1)
    expected = np.clip((expected + middle) * unit + centre, X.min(axis=0), X.max(axis=0))
    np.testing.assert_allclose(fitted.explain(NEW)["expected"], expected, rtol=1e-3, atol=1e-3 * unit.max())


def test_only_the_cells_with_the_largest_residuals_are_tried(detector):
    whole = detector.explain(NEW)
    for max_columns in (1, 3, P, 2 * P):
        shown = detector.explain(NEW, max_columns=max_columns)
        tried = shown["expected"].notna()
        assert (tried.sum(axis=1) == min(max_columns, P)).all()
        assert shown["score_without"].notna().equals(tried)
        assert (shown["share"][~tried].fillna(0) == 0).all(axis=None)
        np.testing.assert_allclose(shown["expected"][tried], whole["expected"][tried], rtol=1e-9)
    assert shown.equals(whole)


def test_names_and_index_are_kept():
    pandas = pytest.importorskip("pandas")
    names = ["width", "height", "weight", "age", "dose"]
    frame = pandas.DataFrame(X, columns=names, index=[f"row {i}" for i in range(300)])
    fitted = AutoencoderOutlierDetector(DENOISER, random_state=0).fit(frame)
    some = frame.iloc[[7, 3]]
    shown = fitted.explain(some)
    assert shown.index.tolist() == ["row 7", "row 3"] and shown["share"].columns.tolist() == names
    assert shown["seen"].equals(some)
    # The largest shares of each row, as a report would have them.
    assert set(shown["share"].abs().idxmax(axis=1)) <= set(names)


def test_gaps_are_no_reason(detector):
    rows = NEW.copy()
    rows[:, 2] = np.nan
    shown = detector.explain(rows)
    assert (shown["share"]["x2"] == 0).all() and shown["seen"]["x2"].isna().all()
    assert np.isfinite(shown["share"].to_numpy()).all()
    nothing = detector.explain(np.full((1, P), np.nan))
    assert (nothing["share"].to_numpy() == 0).all()


@pytest.mark.parametrize("form", [sp.csr_array, sp.csc_array])
def test_sparse_rows_and_single_precision(form, detector):
    whole = detector.explain(NEW)
    np.testing.assert_allclose(detector.explain(form(NEW)), whole)
    single = detector.explain(NEW.astype(np.float32))
    np.testing.assert_allclose(single["share"], whole["share"], atol=0.01)


def test_without_a_reconstruction_the_median_is_expected():
    fitted = AutoencoderOutlierDetector(GAN(2, max_iter=2), n_estimators=2, random_state=0).fit(X)
    shown = fitted.explain(NEW)
    np.testing.assert_allclose(shown["expected"], np.tile(np.median(X, axis=0), (12, 1)))
    rows = np.median(X, axis=0) + np.eye(P) * 8 * X.std(axis=0)
    middle = AutoencoderOutlierDetector(GAN(2, max_iter=2), scorer=NeighborDistance(), random_state=0).fit(X)
    share = middle.explain(rows)["share"].to_numpy()
    assert (np.abs(share).argmax(axis=1) == np.arange(P)).all()


def test_a_stream_widens_what_can_be_expected():
    """Later values are expected that the first batch did not have."""
    linear = AutoencoderTransformer(2, hidden_layer_sizes=())
    fitted = AutoencoderOutlierDetector(linear, random_state=0).partial_fit(X)
    far = X.mean(axis=0) + 5 * (X - X.mean(axis=0))
    before = fitted.explain(far[:20])["expected"].to_numpy()
    assert (before <= X.max(axis=0) + 1e-9).all()
    after = fitted.partial_fit(far).explain(far[:20])["expected"].to_numpy()
    assert (after > X.max(axis=0)).mean() > 0.1 and (after <= far.max(axis=0) + 1e-9).all()


def test_rows_are_explained_one_by_one(detector, monkeypatch):
    whole = detector.explain(NEW)
    np.testing.assert_allclose(detector.explain(NEW[4:5]), whole.iloc[4:5], rtol=1e-6)
    # Also where there are more cells than are filled at once.
    monkeypatch.setattr("skae.anomaly._reasons.CHUNK_ELEMENTS", 35)
    np.testing.assert_allclose(detector.explain(NEW), whole, rtol=1e-6, atol=1e-6)


def test_members_that_do_not_reconstruct_leave_the_expected_values_to_the_others():
    X = np.random.default_rng(0).standard_normal((60, 3))
    short = {"max_iter": 2, "random_state": 0}
    detector = AutoencoderOutlierDetector([GAN(2, **short), AutoencoderTransformer(2, **short)], random_state=0).fit(X)
    assert np.isfinite(detector.explain(X[:5])["expected"]).all(axis=None)
