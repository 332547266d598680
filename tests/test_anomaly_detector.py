"""The detector as an estimator: what it promises of scores, refits, failures, odd input and real data."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from registry import ESTIMATORS, assert_same_state, over, real, shares, with_parameters
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import (
    GAN,
    RBM,
    VAE,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    Bernoulli,
    DenoisingAE,
    GaussianNoise,
    LogisticPCA,
    MaskedAE,
    Mixed,
)
from skae.anomaly import (
    DenoisingError,
    NegativeLogLikelihood,
    NeighborDistance,
    ReconstructionError,
    RobustDistance,
)

P = 4
DENOISER = DenoisingAE(
    4,
    hidden_layer_sizes=(8,),
    init="random",
    corruption=GaussianNoise((0.05, 2.0)),
    conditioning="noise_level",
    max_iter=3,
    early_stopping=False,
)
LINEAR = AutoencoderTransformer(2, hidden_layer_sizes=())
X = real(200, P)
NEW = real(50, P, seed=1)
SEVERAL = [DenoisingError(), RobustDistance(1.0), NeighborDistance(columns="rank")]
DETECTORS = {
    "novelty": AutoencoderOutlierDetector(DENOISER, novelty=True, random_state=0),
    "polluted": AutoencoderOutlierDetector(DENOISER, random_state=0),
    "several": AutoencoderOutlierDetector(DENOISER, scorer=SEVERAL, random_state=0),
    "one": AutoencoderOutlierDetector(LINEAR, n_estimators=1, contamination=0.1, random_state=0),
    "list": AutoencoderOutlierDetector([LINEAR, clone(DENOISER)], scorer=ReconstructionError(), random_state=0),
    "units": AutoencoderOutlierDetector(DENOISER, standardize=False, random_state=0),
}
each_detector = pytest.mark.parametrize("detector", **over(DETECTORS))


def _state(detector):
    """Everything that a fit sets, and what follows from it."""
    values = {name: repr(value) for name, value in vars(detector).items() if name.endswith("_") and name != "members_"}
    scores = detector.score_samples(np.resize(NEW, (50, detector.n_features_in_)))
    return values, detector.offset_, detector.calibration_scores_.tobytes(), scores.tobytes()


# What it promises ------------------------------------------------------------------------------


@each_detector
def test_methods_agree(detector):
    fitted = clone(detector)
    np.testing.assert_array_equal(fitted.fit_predict(X), fitted.predict(X))
    scores = fitted.score_samples(NEW)
    assert scores.dtype == np.float64 and scores.shape == (50,)
    np.testing.assert_array_equal(fitted.decision_function(NEW), scores - fitted.offset_)
    np.testing.assert_array_equal(fitted.predict(NEW), np.where(scores < fitted.offset_, -1, 1))
    np.testing.assert_array_equal(fitted.detect(NEW, fdr=0.3) == -1, _procedure(fitted.p_values(NEW), 0.3))
    # Lower scores have lower p-values, with one member at the least.
    p = fitted.p_values(NEW)
    assert (p > 0).all() and (p <= 1).all()
    assert p[scores.argmin()] <= p[scores.argmax()]


def _procedure(p, fdr):
    """Benjamini and Hochberg's, by hand."""
    ordered = np.sort(p)
    below = np.flatnonzero(ordered <= fdr * np.arange(1, len(p) + 1) / len(p))
    return p <= ordered[below[-1]] if len(below) else np.zeros(len(p), dtype=bool)


@each_detector
def test_attributes(detector):
    fitted = clone(detector).fit(X)
    kinds = detector.autoencoder if isinstance(detector.autoencoder, list) else [detector.autoencoder]
    n_members = 1 if detector.n_estimators == 1 else 5
    assert len(fitted.estimators_) == n_members
    for index, each in enumerate(fitted.estimators_):
        assert type(each) is type(kinds[index % len(kinds)]) and hasattr(each, "model_")
    held_out = fitted.calibration_scores_
    assert held_out.shape == (20 if n_members == 1 else 200,) and (np.diff(held_out) >= 0).all()
    assert isinstance(fitted.offset_, float) and 0 < fitted.contamination_ <= 0.5
    assert fitted.n_features_in_ == P and not hasattr(fitted, "feature_names_in_")


@each_detector
def test_refits_and_copies_are_the_same_to_the_bit(detector, nothing_global_changed):
    fitted = clone(detector).fit(X)
    state = _state(fitted)
    for other in (clone(fitted).fit(X), clone(detector).fit(NEW).fit(X), fitted.fit(X)):
        assert _state(other) == state
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert _state(other) == state
        other.partial_fit(NEW)
        assert _state(other) != state
    assert _state(fitted) == state
    assert not hasattr(clone(fitted), "members_")


def test_without_a_seed_fits_differ_and_with_one_parts_do_not():
    one, other = (AutoencoderOutlierDetector(DENOISER).fit(X).score_samples(NEW) for _ in range(2))
    assert not np.array_equal(one, other)
    generator = np.random.RandomState(0)
    one, other = (
        AutoencoderOutlierDetector(DENOISER, random_state=s).fit(X).score_samples(NEW) for s in (0, generator)
    )
    np.testing.assert_array_equal(one, other)


@each_detector
def test_nothing_of_the_user_is_changed(detector):
    detector, rows = clone(detector), X.copy()
    before = repr(detector), pickle.dumps(detector.get_params())
    detector.fit(rows).score_samples(rows)
    assert (repr(detector), pickle.dumps(detector.get_params())) == before
    np.testing.assert_array_equal(rows, X)
    autoencoders = detector.autoencoder if isinstance(detector.autoencoder, list) else [detector.autoencoder]
    assert not any(hasattr(each, "model_") for each in autoencoders)


def test_what_is_set_after_a_fit_counts_for_the_next_one():
    detector = AutoencoderOutlierDetector(LINEAR, scorer=ReconstructionError(), random_state=0).fit(X)
    before = detector.score_samples(NEW)
    detector.set_params(scorer__loss="absolute")
    np.testing.assert_array_equal(detector.score_samples(NEW), before)
    assert not np.array_equal(detector.fit(X).score_samples(NEW), before)


def test_units_of_the_columns_do_not_matter():
    """Unless they are asked to."""
    units, shift = np.array([1e-3, 1, 50, 1e6]), np.array([5, 0, -1e3, 1e7])
    for standardize in (True, False):
        detector = AutoencoderOutlierDetector(DENOISER, standardize=standardize, random_state=0)
        one = clone(detector).fit(X).score_samples(NEW)
        other = clone(detector).fit(X * units + shift).score_samples(NEW * units + shift)
        assert np.allclose(one, other, rtol=1e-3, atol=1e-3) == standardize


# Ensembles -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_rows", "n_estimators", "n_members"), [(100, "auto", 5), (2000, "auto", 1), (100, 3, 3)])
def test_members_share_the_held_out_rows(n_rows, n_estimators, n_members):
    detector = AutoencoderOutlierDetector(LINEAR, n_estimators=n_estimators, random_state=0).fit(real(n_rows, P))
    assert len(detector.estimators_) == n_members
    assert len(detector.calibration_scores_) == (n_rows // 10 if n_members == 1 else n_rows)


def test_seeds():
    """Members draw seeds of their own where the autoencoder's is free; the user's own is kept."""
    free = AutoencoderOutlierDetector(DENOISER, random_state=0).fit(X).estimators_
    assert len({each.random_state for each in free}) == 5
    kept = AutoencoderOutlierDetector(clone(DENOISER).set_params(random_state=7), random_state=0).fit(X).estimators_
    assert {each.random_state for each in kept} == {7}
    again = AutoencoderOutlierDetector(DENOISER, random_state=0).fit(X).estimators_
    for one, other in zip(free, again, strict=True):
        assert_same_state(one, other)


def test_a_list_of_autoencoders():
    """Each has members, and those of different kinds are compared by what their scores mean."""
    kinds = [LINEAR, DENOISER, RBM(4, visible="gaussian", max_iter=2)]
    detector = AutoencoderOutlierDetector(kinds, random_state=0).fit(X)
    assert [type(each) for each in detector.estimators_] == [type(kinds[i % 3]) for i in range(5)]
    assert len(AutoencoderOutlierDetector(kinds, n_estimators=1, random_state=0).fit(X).estimators_) == 3
    rows = NEW.copy()
    rows[3] += 8 * X.std(axis=0) * [1, -1, 1, -1]
    by_kind = [AutoencoderOutlierDetector(kind, random_state=0).fit(X).score_samples(rows) for kind in kinds]
    made = detector.score_samples(rows)
    assert made.argmin() == 3
    # No kind drowns out the others, whose units differ.
    for scores in by_kind:
        assert np.corrcoef(scores.argsort().argsort(), made.argsort().argsort())[0, 1] > 0.3


def test_more_members_are_steadier():
    """The standard deviation of a row's score over seeds falls."""
    spread = []
    for n_estimators in (1, 8):
        detector = AutoencoderOutlierDetector(DENOISER, novelty=True, n_estimators=n_estimators)
        made = [clone(detector).set_params(random_state=seed).fit(X).score_samples(NEW) for seed in range(8)]
        spread.append(np.std(made, axis=0).mean())
    assert spread[1] < 0.6 * spread[0]


# Every autoencoder -----------------------------------------------------------------------------


EVERY = {**ESTIMATORS, "GAN": GAN(2, max_iter=3)}


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("autoencoder", **over(EVERY))
def test_every_autoencoder(autoencoder, standardize):
    rows = shares(120, 16)
    rows[0] = 1 - rows[0]
    autoencoder = with_parameters(autoencoder, early_stopping=False, max_iter=2, random_state=None)
    detector = AutoencoderOutlierDetector(autoencoder, standardize=standardize, n_estimators=2, random_state=0)
    scores = detector.fit(rows).score_samples(rows)
    assert np.isfinite(scores).all() and np.ptp(scores) > 0
    assert detector.predict(rows).min() == -1
    shown = detector.explain(rows[:2])
    assert np.isfinite(shown[["share", "expected"]].to_numpy()).all()
    assert np.isfinite(detector.partial_fit(rows).score_samples(rows)).all()


def _correlated(n, seed, shuffled=False):
    """Rows near a plane in eight dimensions; shuffled ones have the same columns in other company."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 2)) @ np.random.default_rng(9).standard_normal((2, 8))
    rows += 0.2 * rng.standard_normal((n, 8))
    return rng.permuted(rows, axis=0) if shuffled else rows


@pytest.mark.parametrize("autoencoder", **over(EVERY))
def test_the_automatic_scorer_of_every_autoencoder_finds_planted_anomalies(autoencoder):
    """Rows whose columns are usual one by one, and rows that are far out."""
    training, planted = _correlated(300, 0), _correlated(120, 1, shuffled=True)
    planted[::2] += 6 * training.std(axis=0) * np.random.default_rng(2).choice([-1, 1], (60, 8))
    autoencoder = with_parameters(autoencoder, early_stopping=False, max_iter=30, random_state=None)
    # All that a GAN has is its critic, which is sharp near the data alone.
    floor = 0.7 if isinstance(autoencoder, GAN) else 0.85
    if isinstance(autoencoder, GAN):
        autoencoder.set_params(max_iter=150)
    detector = AutoencoderOutlierDetector(autoencoder, novelty=True, n_estimators=1, random_state=0).fit(training)
    scores = detector.score_samples(np.concatenate([_correlated(120, 3), planted]))
    assert roc_auc_score(np.arange(240) < 120, scores) > floor


@pytest.mark.parametrize("scorer", [ReconstructionError(), DenoisingError(), NeighborDistance("output")], ids=str)
def test_residuals_of_an_autoencoder_that_returns_what_is_observed(scorer):
    """Entries are predicted from the others; as `reconstruct` returns them there is no residual."""
    training = _correlated(300, 0)
    detector = AutoencoderOutlierDetector(MaskedAE(4, max_iter=10), scorer=scorer, novelty=True, n_estimators=1)
    detector.set_params(random_state=0).fit(training)
    rows = np.concatenate([_correlated(120, 3), _correlated(120, 1, shuffled=True)])
    floor = 0.9 if scorer.get_params().get("space") is None else 0.5
    assert roc_auc_score(np.arange(240) < 120, detector.score_samples(rows)) > floor
    shown = detector.explain(rows[120:125])
    assert not np.allclose(shown["expected"], shown["seen"])


COUNTS = np.random.default_rng(4).poisson(np.exp(0.5 * _correlated(300, 0) + 1)).astype(float)
BITS = (_correlated(300, 0) > 0).astype(float)
OWN_UNITS = {
    "poisson": (VAE(2, hidden_layer_sizes=(8,), likelihood="poisson"), COUNTS),
    "poisson-point": (AutoencoderTransformer(2, likelihood="poisson"), COUNTS),
    "multinomial": (AutoencoderTransformer(2, likelihood="multinomial"), COUNTS),
    "bernoulli": (VAE(2, hidden_layer_sizes=(8,), likelihood="bernoulli"), BITS),
    "bernoulli-bounds": (AutoencoderTransformer(2, likelihood=Bernoulli(bounds=(0, 60))), COUNTS),
    "logistic": (LogisticPCA(2, bounds=(0, 1)), BITS),
    "machine": (RBM(4, bounds=(0, 1)), BITS),
}


@pytest.mark.parametrize(("autoencoder", "rows"), **over(OWN_UNITS))
def test_counts_and_bits_reach_their_likelihood_in_their_units(autoencoder, rows):
    # A machine starts at random.
    n_epochs = 20 if isinstance(autoencoder, RBM) else 5
    autoencoder = with_parameters(autoencoder, max_iter=n_epochs, early_stopping=False)
    made = AutoencoderOutlierDetector(autoencoder, n_estimators=1, random_state=0).fit(rows)
    as_they_are = clone(made).set_params(standardize=False).fit(rows)
    np.testing.assert_array_equal(made.score_samples(rows), as_they_are.score_samples(rows))
    wild = rows[:1].copy()
    wild[0] = np.where(wild[0] > np.median(rows), rows.min(), rows.max())
    assert made.score_samples(wild) < np.quantile(made.score_samples(rows), 0.2)
    assert np.isfinite(made.explain(rows[:2])["share"].to_numpy()).all()


def test_numbers_beside_bits_are_standardised():
    """Each column of a mixed likelihood by what it needs."""
    rows = np.column_stack([1e3 * _correlated(200, 0)[:, :2] + 5e4, BITS[:200, :2]])
    likelihood = Mixed([("gaussian", 2), ("bernoulli", 2)])
    vae = VAE(2, hidden_layer_sizes=(8,), likelihood=likelihood, max_iter=3, early_stopping=False)
    made = AutoencoderOutlierDetector(vae, n_estimators=1, random_state=0).fit(rows)
    scaled = made.members_[0].columns(rows)
    np.testing.assert_allclose(scaled[:, :2].std(axis=0), 1, rtol=0.05)
    np.testing.assert_array_equal(scaled[:, 2:], rows[:, 2:])


def test_scorers_that_suit_the_autoencoder():
    """The default is the scorer that its documentation names."""
    chosen = {
        NegativeLogLikelihood: [VAE(2, max_iter=1), RBM(2, visible="gaussian", max_iter=1), GAN(2, max_iter=1), PCA(2)],
        ReconstructionError: [LINEAR, DenoisingAE(2, max_iter=1), LogisticPCA(2, max_iter=1)],
        DenoisingError: [DENOISER],
    }
    for kind, autoencoders in chosen.items():
        for autoencoder in autoencoders:
            detector = AutoencoderOutlierDetector(autoencoder, n_estimators=1, random_state=0)
            named = clone(detector).set_params(scorer=kind()).fit(X).score_samples(NEW)
            np.testing.assert_array_equal(detector.fit(X).score_samples(NEW), named)
    relative = AutoencoderOutlierDetector(LINEAR, standardize=False, random_state=0)
    named = clone(relative).set_params(scorer=[ReconstructionError(), ReconstructionError("relative")])
    np.testing.assert_array_equal(relative.fit(X).score_samples(NEW), named.fit(X).score_samples(NEW))


def test_sparse_counts_of_words():
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(80, 0.1), 3)
    weights = rng.dirichlet(np.full(3, 0.3), 300) @ topics
    counts = np.array([rng.multinomial(60, row) for row in weights])
    # Words of no topic, in the usual number.
    counts[:10] = rng.multinomial(60, np.full(80, 1 / 80), 10)
    rows = sp.csr_array(counts)
    ae = AutoencoderTransformer(3, likelihood="multinomial", max_iter=30, early_stopping=False)
    for scorer in ("auto", NegativeLogLikelihood()):
        detector = AutoencoderOutlierDetector(ae, scorer=scorer, standardize=False, random_state=0).fit(rows)
        assert roc_auc_score(np.arange(300) < 10, -detector.score_samples(rows)) > 0.9


# Odd, but borne --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [sp.csr_array, sp.csc_array, sp.csr_matrix, sp.coo_array])
@pytest.mark.parametrize("novelty", [False, True])
def test_sparse_rows(form, novelty):
    rows = np.where(np.random.default_rng(0).random((120, 12)) < 0.7, 0, shares(120, 12))
    for standardize in (False, True):
        dense = AutoencoderOutlierDetector(DENOISER, novelty=novelty, standardize=standardize, random_state=0)
        sparse = clone(dense).fit(form(rows))
        scores = sparse.score_samples(form(rows))
        np.testing.assert_allclose(sparse.score_samples(rows), scores, atol=1e-9)
        np.testing.assert_array_equal(sparse.predict(form(rows)), sparse.predict(rows))
        assert np.isfinite(scores).all() and sparse.explain(form(rows[:2])).shape == (2, 48)
        if not standardize:
            np.testing.assert_allclose(dense.fit(rows).score_samples(rows), scores, atol=1e-6)


@pytest.mark.parametrize("detector", **over({name: DETECTORS[name] for name in ("novelty", "several")}))
def test_gaps(detector):
    """An anomaly is found whose gap is elsewhere, and rows without anything are no anomalies."""
    gaps = np.random.default_rng(0).random((250, P)) < 0.1
    training, rows = np.where(gaps[:200], np.nan, X), np.where(gaps[200:], np.nan, NEW)
    rows[0] = np.nan
    rows[1] = NEW[1] + 10 * X.std(axis=0) * [0, 1, -1, 1]
    rows[1, 0] = np.nan
    fitted = clone(detector).fit(training)
    scores = fitted.score_samples(rows)
    assert np.isfinite(scores).all() and np.isfinite(fitted.score_samples(training)).all()
    assert scores.argmin() == 1 and fitted.predict(rows[:2]).tolist() == [1, -1]
    assert np.isfinite(fitted.partial_fit(rows).score_samples(rows)).all()


def test_training_rows_without_anything():
    fitted = clone(DETECTORS["several"]).fit(np.concatenate([X, np.full((5, P), np.nan)]))
    assert np.isfinite(fitted.score_samples(X)).all()


@pytest.mark.filterwarnings("ignore:.*no observed:UserWarning")
def test_a_column_of_gaps():
    rows = X.copy()
    rows[:, 1] = np.nan
    fitted = clone(DETECTORS["several"]).fit(rows)
    for later in (NEW, np.where(np.arange(P) == 1, np.nan, NEW)):
        assert np.isfinite(fitted.score_samples(later)).all()
        assert np.isfinite(fitted.explain(later[:2])["share"].to_numpy()).all()


@pytest.mark.parametrize("value", [0.0, 3.0, 1e8, -1e-12])
@pytest.mark.parametrize("detector", **over({name: DETECTORS[name] for name in ("novelty", "several")}))
def test_a_column_that_is_constant_in_training(detector, value):
    rows, new = X.copy(), NEW.copy()
    rows[:, 1] = new[:, 1] = value
    other = new.copy()
    # Half of the value is five standard deviations, as the unit is a tenth of it.
    other[:, 1] += 0.5 * max(abs(value), 1)
    fitted = clone(detector).fit(rows)
    assert (fitted.score_samples(other) < fitted.score_samples(new)).all()
    assert (fitted.predict(other) == -1).mean() > 0.9
    shown = fitted.explain(other[:10])["share"]
    assert (shown["x1"] > 0).all() and shown.abs().idxmax(axis=1).eq("x1").mean() > 0.8


@pytest.mark.parametrize("value", [0.0, 3.0, 1e8])
@pytest.mark.parametrize("detector", **over({name: d for name, d in DETECTORS.items() if name not in ("list", "one")}))
def test_all_rows_equal(detector, value):
    """Nothing is anomalous about them, and any other row is."""
    rows = np.full((60, P), value)
    other = rows[:1] + np.eye(P)[1] * max(abs(value), 1)
    fitted = clone(detector).fit(rows)
    assert (fitted.predict(rows) == 1).all() and (fitted.p_values(rows) == 1).all()
    assert fitted.predict(other) == -1 and fitted.score_samples(other) < fitted.score_samples(rows[:1])
    assert np.isfinite(fitted.explain(other)["share"].to_numpy()).all()


@pytest.mark.parametrize("n_rows", [2, 3, 5, 19])
@each_detector
def test_few_rows(detector, n_rows):
    """Rows that a member was fitted to say nothing of new ones, and five rows are not 25, whatever the members."""
    fitted = clone(detector).fit(X[:n_rows])
    assert np.isfinite(fitted.score_samples(NEW)).all() and np.isfinite(fitted.offset_)
    wild = X[:1] + 1e3 * X.std(axis=0)
    n_held_out = 0 if n_rows < 5 else n_rows // 2 if detector.n_estimators == 1 else n_rows
    np.testing.assert_allclose(fitted.p_values(wild), 1 / (n_held_out + 1))
    if n_rows == 19 or not detector.novelty:
        assert fitted.predict(wild) == -1
    again = fitted.partial_fit(NEW)
    # Rows of a stream calibrate every member, and each of them is one row.
    np.testing.assert_allclose(again.p_values(1e3 * wild), 1 / (n_held_out + len(NEW) + 1))


@pytest.mark.parametrize("n_estimators", [7, 30])
def test_more_members_than_rows(n_estimators):
    detector = AutoencoderOutlierDetector(LINEAR, n_estimators=n_estimators, random_state=0).fit(X[:6])
    assert len(detector.estimators_) == n_estimators
    np.testing.assert_allclose(detector.p_values(1e3 * X[:1]), 1 / 7)


def test_duplicates():
    """Copies of a row are no anomalies, however often they occur, and do not hide one."""
    rows = np.concatenate([X, np.tile(X[:1], (150, 1)), X[1:2] + 20 * X.std(axis=0)])
    fitted = clone(DETECTORS["several"]).fit(rows)
    scores = fitted.score_samples(rows)
    assert np.isfinite(scores).all() and scores.argmin() == 350
    # Their scores differ by rounding, and the tail has a step where many are equal.
    assert np.ptp(scores[200:350]) < 0.01 and (fitted.predict(rows[200:350]) == 1).all()


def test_single_precision():
    for detector in (DETECTORS["several"], DETECTORS["one"]):
        one, other = clone(detector).fit(X), clone(detector).fit(X.astype(np.float32))
        made = other.score_samples(NEW.astype(np.float32))
        assert made.dtype == np.float64
        assert np.corrcoef(made, one.score_samples(NEW))[0, 1] > 0.999


def test_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["width", "height", "weight", "age"])
    fitted = clone(DETECTORS["polluted"]).fit(frame)
    assert fitted.feature_names_in_.tolist() == list(frame)
    np.testing.assert_array_equal(fitted.score_samples(frame), clone(fitted).fit(X).score_samples(X))
    with pytest.raises(ValueError, match="feature names should match those that were passed during fit"):
        fitted.predict(frame.rename(columns={"age": "years"}))


# Refused ---------------------------------------------------------------------------------------


class _NoFit:
    def __repr__(self):
        return "_NoFit()"  # in the name of a test, the same in every process


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"contamination": 0}, r"'contamination' parameter .* must be .* in the range \(0.0, 0.5\]. Got 0 instead"),
        ({"contamination": 0.6}, r"'contamination' parameter .* \(0.0, 0.5\]. Got 0.6 instead"),
        ({"contamination": "x"}, "'contamination' parameter .* {'auto'} or a float .* Got 'x' instead"),
        ({"support_fraction": 0}, "'support_fraction' parameter .* Got 0 instead"),
        ({"support_fraction": 1.5}, "'support_fraction' parameter .* Got 1.5 instead"),
        ({"n_estimators": 0}, "'n_estimators' parameter .* Got 0 instead"),
        ({"novelty": "yes"}, "'novelty' parameter .* Got 'yes' instead"),
        ({"autoencoder": _NoFit()}, "'autoencoder' parameter .* must be an object implementing 'fit'"),
        ({"autoencoder": "ae"}, "'autoencoder' parameter .* Got 'ae' instead"),
        (
            {"autoencoder": []},
            "'autoencoder' parameter .* must be an object implementing 'fit', a sequence of at least 1 entry",
        ),
        (
            {"autoencoder": [LINEAR, _NoFit()]},
            "'autoencoder' parameter .* must be an object implementing 'fit', a sequence of at least 1 entry",
        ),
        ({"autoencoder": StandardScaler()}, "needs an autoencoder with score_samples, which StandardScaler does not"),
        ({"autoencoder": KMeans(2)}, "needs an autoencoder with score_samples, which KMeans does not have"),
        ({"scorer": "error"}, "'scorer' parameter .* Got 'error' instead"),
        ({"scorer": PCA(2)}, "'scorer' parameter .* Got PCA"),
        ({"scorer": []}, "'scorer' parameter .* or a sequence of at least 1 entry"),
        ({"scorer": ["error"]}, "'scorer' parameter .* or a sequence of at least 1 entry"),
        ({"scorer": [ReconstructionError(), PCA(2)]}, "'scorer' parameter .* or a sequence of at least 1 entry"),
    ],
    ids=str,
)
def test_parameters_out_of_range(parameters, named):
    detector = clone(DETECTORS["novelty"]).fit(X)
    before = _state(detector)
    vars(detector).update(parameters)
    with pytest.raises(ValueError, match=named):
        detector.fit(X)
    assert _state(detector) == before
    for method in ("fit", "partial_fit"):
        first = AutoencoderOutlierDetector(**{"autoencoder": DENOISER, **parameters})
        with pytest.raises(ValueError, match=named):
            getattr(first, method)(X)
        _assert_unfitted(first)


def _assert_unfitted(detector):
    assert not [name for name in vars(detector) if name.endswith("_")]
    for method in ("predict", "score_samples", "decision_function", "p_values", "detect", "explain"):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            getattr(detector, method)(X)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (X[:1], "Found array with 1 sample.* a minimum of 2 is required"),
        (X[:0], "Found array with 0 sample"),
        (X[:, :0], "Found array with 0 feature"),
        (np.where(X > X.max() - 1e-9, np.inf, X), "contains infinity"),
        (sp.csr_array(np.where(X > X.max() - 1e-9, -np.inf, X)), "contains infinity"),
        (X[0], "Expected 2D array, got 1D array instead"),
        ([["a", "b"], ["c", "d"]], "could not convert string to float"),
    ],
    ids=["one", "none", "no columns", "infinite", "sparse infinite", "flat", "words"],
)
def test_rows_that_cannot_be_fitted(rows, named):
    detector = clone(DETECTORS["polluted"])
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=named):
            getattr(detector, method)(rows)
        _assert_unfitted(detector)
    detector.fit(X)
    before = _state(detector)
    with pytest.raises(ValueError, match=named):
        detector.fit(rows)
    assert _state(detector) == before


def test_rows_that_cannot_be_scored():
    detector = clone(DETECTORS["polluted"]).fit(X)
    before = _state(detector)
    for method in ("predict", "score_samples", "decision_function", "p_values", "detect", "explain", "partial_fit"):
        with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 4 features as input"):
            getattr(detector, method)(X[:, :3])
        with pytest.raises(ValueError, match="contains infinity"):
            getattr(detector, method)(np.full((3, P), np.inf))
    assert _state(detector) == before


# A fit that fails ------------------------------------------------------------------------------


class Failing(AutoencoderTransformer):
    """Fails in the call that is due: of `fit`, or of `partial_fit`."""

    calls, due, error = 0, None, RuntimeError

    def _count(self):
        type(self).calls += 1
        if self.calls == self.due:
            raise self.error("deliberate")

    def fit(self, X):
        self._count()
        return super().fit(X)

    def partial_fit(self, X):
        self._count()
        return super().partial_fit(X)


@pytest.fixture
def failing(monkeypatch):
    """A function that says which call from now on is to fail, and how."""

    def arm(due, error):
        monkeypatch.setattr(Failing, "calls", 0)
        monkeypatch.setattr(Failing, "due", due)
        monkeypatch.setattr(Failing, "error", error)

    return arm


SMALL = Failing(2, hidden_layer_sizes=(6,), max_iter=2, early_stopping=False)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("due", [1, 3, 5])
def test_a_fit_that_fails_or_is_interrupted_leaves_the_earlier_one(due, error, failing):
    detector = AutoencoderOutlierDetector(SMALL, random_state=0)
    failing(due, error)
    with pytest.raises(error, match="deliberate"):
        detector.fit(X)
    _assert_unfitted(detector)
    failing(None, error)
    detector.fit(X)
    before = _state(detector)
    for rows in (X, X[:, :2]):
        failing(due, error)
        with pytest.raises(error, match="deliberate"):
            detector.fit(rows)
        assert _state(detector) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("due", [1, 3, 5])
def test_a_partial_fit_that_fails_leaves_weights_and_thresholds(due, error, failing):
    failing(None, error)
    detector = AutoencoderOutlierDetector(SMALL, scorer=SEVERAL, random_state=0).fit(X)
    detector.partial_fit(NEW)
    before, shown = _state(detector), detector.explain(NEW[:3])
    failing(due, error)
    with pytest.raises(error, match="deliberate"):
        detector.partial_fit(100 + NEW)
    assert _state(detector) == before and detector.explain(NEW[:3]).equals(shown)
    failing(None, error)
    detector.partial_fit(NEW)


@pytest.mark.parametrize("where", ["_calibrated", "_set_threshold"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_failure_after_the_members_leaves_the_earlier_fit(method, where, monkeypatch):
    detector = clone(DETECTORS["several"]).fit(X)
    before, shown = _state(detector), detector.explain(NEW[:3])

    def fail(*args):
        raise RuntimeError("deliberate")

    monkeypatch.setattr(AutoencoderOutlierDetector, where, fail)
    with pytest.raises(RuntimeError, match="deliberate"):
        getattr(detector, method)(100 + NEW)
    assert _state(detector) == before and detector.explain(NEW[:3]).equals(shown)


# Real data -------------------------------------------------------------------------------------


def test_malignant_cells_are_new_to_what_knows_benign_ones():
    rows, benign = load_breast_cancer(return_X_y=True)
    known = np.flatnonzero(benign)[::2]
    rest = np.setdiff1d(np.arange(len(rows)), known)
    detector = AutoencoderOutlierDetector(novelty=True, random_state=0).fit(rows[known])
    assert roc_auc_score(1 - benign[rest], -detector.score_samples(rows[rest])) >= 0.93
    assert (detector.predict(rows[rest])[benign[rest] == 1] == -1).mean() < 0.06


@pytest.mark.slow
def test_digits_of_another_kind_among_ones():
    rows, digit = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    others = rng.choice(np.flatnonzero(digit != 1), 15, replace=False)
    chosen = np.concatenate([np.flatnonzero(digit == 1), others])
    detector = AutoencoderOutlierDetector(random_state=0).fit(rows[chosen])
    assert roc_auc_score(digit[chosen] != 1, -detector.score_samples(rows[chosen])) >= 0.9


def test_planted_values_in_the_wine_table():
    """Six values of each of ten rows are those of other rows: remarkable together, not by themselves."""
    rows = load_wine().data
    rng = np.random.default_rng(0)
    planted = np.isin(np.arange(len(rows)), rng.choice(len(rows), 10, replace=False))
    for row in np.flatnonzero(planted):
        columns = rng.choice(rows.shape[1], 6, replace=False)
        rows[row, columns] = rows[rng.integers(len(rows), size=6), columns]
    detector, trees = AutoencoderOutlierDetector(random_state=0), IsolationForest(random_state=0)
    found, by_trees = (roc_auc_score(planted, -model.fit(rows).score_samples(rows)) for model in (detector, trees))
    assert found >= 0.8 and found > by_trees


def test_an_error_of_the_autoencoder_says_that_columns_were_standardised():
    X = np.random.default_rng(0).random((40, 3))
    detector = AutoencoderOutlierDetector(make_pipeline(FunctionTransformer(_non_negative), PCA(2)), n_estimators=1)
    with pytest.raises(ValueError, match="negative") as raised:
        detector.fit(X)
    assert any("standardize=False" in note for note in raised.value.__notes__)
    assert detector.set_params(standardize=False).fit(X).predict(X).shape == (40,)


def _non_negative(X):
    if X.min() < 0:
        raise ValueError("a negative value")
    return X
