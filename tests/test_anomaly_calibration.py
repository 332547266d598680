"""Thresholds and p-values of the detector: shares of false alarms that were promised are kept."""

import warnings

import numpy as np
import pytest
from registry import over, real
from scipy import stats
from sklearn.base import BaseEstimator, clone

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE, GaussianNoise
from skae.anomaly import NeighborDistance, ReconstructionError, RobustDistance
from skae.anomaly._tail import (
    Tail,
    benjamini_hochberg,
    between_ties,
    conformal_p_values,
    extrapolated_threshold,
    harmonic_mean,
    share_of_anomalies,
    threshold,
)

P = 4
LINEAR = AutoencoderTransformer(2, hidden_layer_sizes=())


class Mean(BaseEstimator):
    """An autoencoder whose code is empty, and which costs nothing."""

    def fit(self, X):
        self.mean_ = X.mean(axis=0)
        return self

    def reconstruct(self, X):
        return np.broadcast_to(self.mean_, X.shape)


DENOISER = DenoisingAE(
    4,
    hidden_layer_sizes=(8,),
    init="random",
    corruption=GaussianNoise((0.05, 2.0)),
    conditioning="noise_level",
    max_iter=3,
    early_stopping=False,
)
CHEAP = AutoencoderOutlierDetector(LINEAR, scorer=RobustDistance(1.0), novelty=True, n_estimators=1, random_state=0)
SEVERAL = [ReconstructionError(), RobustDistance(1.0), NeighborDistance()]


def _rows(n, rng, p=P):
    """Rows of a normal distribution with correlated columns."""
    return rng.standard_normal((n, p)) @ (np.eye(p) + 0.5)


# Tails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("n", [20, 200, 5000])
def test_the_body_of_a_tail_is_the_empirical_distribution(n, logarithmic, rng):
    scores = rng.standard_gamma(2, n)
    new = np.linspace(np.min(scores), np.quantile(scores, 0.9), 50)
    p = np.exp(-Tail(scores, logarithmic)(new))
    as_high = (scores >= new[:, None]).mean(axis=1)
    np.testing.assert_allclose(p, as_high, atol=2.5 / min(n, 512))


@pytest.mark.parametrize("logarithmic", [False, True])
def test_beyond_it_is_exponential_in_the_logarithm(logarithmic, rng):
    """P = 0.1 (s/t)^(−1/b), with b the mean excess of the logarithm."""
    logs = rng.standard_normal(1000)
    tail = Tail(logs if logarithmic else np.exp(logs), logarithmic)
    begin = np.quantile(logs, 0.9)
    mean_excess = (logs[logs > begin] - begin).mean()
    beyond = begin + np.array([0.01, 0.5, 3.0, 40.0])
    made = tail(beyond if logarithmic else np.exp(beyond))
    np.testing.assert_allclose(made, -np.log(0.1) + (beyond - begin) / mean_excess, rtol=1e-3)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 19, 300])
def test_a_tail_rises_with_the_score_and_without_end(n, logarithmic, rng):
    scores = np.round(rng.standard_gamma(2, n), 1)
    tail = Tail(scores, logarithmic)
    assert (np.diff(tail(np.linspace(0.01, scores.max(), 500))) >= 0).all()
    assert (np.diff(tail(scores.max() * np.array([1.001, 1.1, 10, 1e6, 1e12]))) > 0).all()


def test_a_pareto_tail_is_found_again(rng):
    """P(s) = (s/s₀)^(−α): the extrapolation is right a hundred times beyond what was seen."""
    scores = rng.pareto(3, 20_000) + 1
    far = np.array([30.0, 100.0])
    np.testing.assert_allclose(Tail(scores, False)(far), 3 * np.log(far), rtol=0.05)


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_equal_scores_have_a_tail(value):
    made = Tail(np.full(50, value), False)(np.array([0.0, value, value + 2, value + 3]))
    assert np.isfinite(made).all() and made[0] <= made[1] < made[2] < made[3]


def test_departures_are_in_standard_deviations_of_the_bulk(rng):
    """A quarter of anomalies hardly moves them."""
    bulk = 3 + 2 * rng.standard_normal(20_000)
    made = Tail(np.concatenate([bulk, np.full(1000, 50.0)]), True).departure(bulk)
    assert made.mean() == pytest.approx(-0.06, abs=0.05) and made.std() == pytest.approx(1, abs=0.1)


def test_the_harmonic_mean_of_p_values(rng):
    p = rng.uniform(1e-3, 1, (3, 50))
    np.testing.assert_allclose(harmonic_mean(-np.log(p)), -np.log(stats.hmean(p, axis=0)))
    # Beyond what floats can hold: 2 of 3 scorers see nothing.
    sure = harmonic_mean(np.array([[5000.0], [0.0], [0.0]]))
    np.testing.assert_allclose(sure, 5000 - np.log(3))


def test_conformal_p_values_count(rng):
    held_out = [np.sort(rng.standard_normal(n)) for n in (7, 5)]
    scores = rng.standard_normal((20, 2))
    scores[3] = held_out[0][2], held_out[1][4]
    by_hand = [
        (1 + sum(int((part >= row[m]).sum()) for m, part in enumerate(held_out))) / (1 + 7 + 5) for row in scores
    ]
    np.testing.assert_allclose(conformal_p_values(held_out, scores), by_hand)


def test_benjamini_and_hochbergs_procedure():
    """The largest k with p₍ₖ₎ ≤ αk/m."""
    p = np.array([0.9, 0.01, 0.04, 0.02, 0.3])
    np.testing.assert_array_equal(benjamini_hochberg(p, 0.05), [False, True, False, True, False])
    np.testing.assert_array_equal(benjamini_hochberg(p, 0.07), [False, True, True, True, False])


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.01, 0.015), (0.05, 0.05, 0.07), (0.2, 0.19, 0.24)])
def test_the_share_of_anomalies_is_what_the_bulk_does_not_explain(share, low, high, rng):
    n = 10_000
    scores = np.concatenate([rng.standard_normal(n - int(share * n)), 8 + rng.standard_normal(int(share * n))])
    assert low <= share_of_anomalies(Tail(scores, True).departure(scores)) <= high


# p-values --------------------------------------------------------------------------------------


def _p_values(detector, n_repeats=200, n_rows=100):
    """p-values of one new row for each of many training sets, made continuous where that is exact."""
    rng = np.random.default_rng(0)
    made = np.empty(n_repeats)
    for index in range(n_repeats):
        X = _rows(n_rows + 1, rng)
        fitted = clone(detector).set_params(random_state=index).fit(X[:-1])
        # Of the n + 1 ranks that are equally likely, one at random within its step.
        made[index] = fitted.p_values(X[-1:])[0] - rng.random() / (len(fitted.calibration_scores_) + 1)
    return made


EXCHANGEABLE = {
    "one": clone(CHEAP),
    "one-denoiser": AutoencoderOutlierDetector(DENOISER, novelty=True, n_estimators=1),
    "one-polluted": AutoencoderOutlierDetector(Mean(), n_estimators=1),
    "five": clone(CHEAP).set_params(autoencoder=Mean(), n_estimators=5),
}


@pytest.mark.parametrize("name", EXCHANGEABLE)
def test_p_values_of_exchangeable_rows_are_uniform(name):
    assert stats.kstest(_p_values(EXCHANGEABLE[name]), "uniform").pvalue > 1e-3


def _shares_of_small_p_values(detector, levels, n_repeats, n_rows=200, n_new=500):
    """P(p ≤ α) for new rows of each of several training sets."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(n_repeats):
        X = _rows(n_rows + n_new, rng)
        p = clone(detector).set_params(random_state=index).fit(X[:n_rows]).p_values(X[n_rows:])
        made.append((p[:, None] <= levels).mean(axis=0))
    return np.mean(made, axis=0), np.std(made, axis=0) / np.sqrt(n_repeats)


LEVELS = np.array([0.02, 0.05, 0.1, 0.2, 0.5])


def test_p_values_of_members_that_disagree_are_not_too_small():
    """Random networks, each with an opinion of its own: their mean rank is seldom extreme."""
    detector = AutoencoderOutlierDetector(DENOISER, novelty=True, n_estimators=5)
    shares, error = _shares_of_small_p_values(detector, LEVELS, 15)
    assert (shares[:4] <= LEVELS[:4] + 2 * error[:4]).all()


def test_p_values_of_several_scorers_are_nearly_uniform_where_enough_rows_are_held_out():
    """Members with references of their own disagree, so that their mean rank is less often extreme."""
    detector = clone(CHEAP).set_params(autoencoder=Mean(), scorer=SEVERAL, n_estimators=5)
    shares, error = _shares_of_small_p_values(detector, LEVELS, 30)
    assert (shares <= LEVELS + 2 * error).all() and (shares >= 0.85 * LEVELS - 2 * error).all()


FEW = {
    "one": RobustDistance(1.0),
    "several": SEVERAL,
}


@pytest.mark.parametrize("scorer", **over(FEW))
@pytest.mark.parametrize(
    ("n_rows", "n_estimators", "n_repeats"),
    [
        (25, 1, 100),
        (25, 5, 60),
        (100, 1, 80),
        pytest.param(50, 5, 100, marks=pytest.mark.slow),
        pytest.param(200, 1, 200, marks=pytest.mark.slow),
        pytest.param(200, 5, 100, marks=pytest.mark.slow),
        pytest.param(1000, 1, 60, marks=pytest.mark.slow),
        pytest.param(1000, 5, 30, marks=pytest.mark.slow),
    ],
)
def test_few_held_out_rows_are_never_too_sure(n_rows, n_estimators, n_repeats, scorer):
    """P(p ≤ α) ≤ α at each level that there is, and no more new rows are flagged than `contamination_` says."""
    rng = np.random.default_rng(0)
    detector = AutoencoderOutlierDetector(Mean(), scorer=scorer, novelty=True, n_estimators=n_estimators)
    shares, flagged, promised = [], [], []
    for index in range(n_repeats):
        X = _rows(n_rows + 300, rng)
        fitted = clone(detector).set_params(random_state=index).fit(X[:n_rows])
        n_held_out = len(fitted.calibration_scores_)
        levels = np.unique(np.array([1, 2, 3, n_held_out // 5, n_held_out // 2])) / (n_held_out + 1)
        shares.append((fitted.p_values(X[n_rows:])[:, None] <= levels + 1e-9).mean(axis=0))
        flagged.append((fitted.predict(X[n_rows:]) == -1).mean())
        promised.append(fitted.contamination_)
    error = np.std(shares, axis=0) / np.sqrt(n_repeats)
    assert (np.mean(shares, axis=0) <= levels + 2.5 * error).all()
    assert np.mean(flagged) <= np.mean(promised) + 2.5 * np.std(flagged) / np.sqrt(n_repeats)
    # From 99 held-out rows on it may be more, so that the most suspicious training row is flagged.
    least = max(0.01, 1 / (n_held_out + 1))
    assert least - 1e-9 <= promised[0] <= (5 * least if n_held_out >= 99 else least) + 1e-9


def test_a_held_out_row_is_not_compared_by_its_own_tail():
    """The contrast: by tails that were fitted to them, the highest of 20 rows are less remarkable than new ones."""
    rng = np.random.default_rng(0)
    beaten = np.zeros(2)
    for _ in range(200):
        held_out, new = rng.standard_normal((3, 20)), rng.standard_normal((3, 50))
        tails = [Tail(each, True) for each in held_out]
        by_own = harmonic_mean([tail(each) for tail, each in zip(tails, held_out, strict=True)])
        found = harmonic_mean([tail(each) for tail, each in zip(tails, new, strict=True)])
        beaten[0] += (conformal_p_values([np.sort(by_own)], found[:, None]) < 1.5 / 21).mean() / 200
        parts, columns = [], []
        for part in range(5):
            other = np.arange(20) % 5 != part
            tails = [Tail(each[other], True) for each in held_out]
            parts.append(np.sort(harmonic_mean([t(each[~other]) for t, each in zip(tails, held_out, strict=True)])))
            columns.append(harmonic_mean([t(each) for t, each in zip(tails, new, strict=True)]))
        beaten[1] += (conformal_p_values(parts, np.stack(columns, axis=1)) < 1.5 / 21).mean() / 200
    assert beaten[0] > 1.4 / 21 and beaten[1] < 1.1 / 21


def test_a_level_that_cannot_be_reached_is_said():
    X = _rows(100, np.random.default_rng(0))
    few = clone(CHEAP).set_params(autoencoder=Mean())
    with pytest.warns(UserWarning, match="contamination='auto' flags 1% of the normal rows, and 10 held-out rows"):
        few.fit(X)
    with pytest.warns(UserWarning, match=r"fdr=0.05 cannot be reached: p-values by 10 held-out rows are at least 0.09"):
        assert (few.detect(1e3 * X, fdr=0.05) == 1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (few.detect(1e3 * X, fdr=0.1) == -1).all()
        enough = clone(few).set_params(n_estimators=5).fit(X)
        clone(few).set_params(contamination=0.05).fit(X)
    assert 0.01 <= enough.contamination_ <= 0.05
    # The default with polluted rows estimates a share and promises no level.
    clone(few).set_params(novelty=False).fit(X)


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("n", [10, 20, 50])
def test_an_extrapolated_threshold_is_exceeded_by_its_share(n, logarithmic, rng):
    """Exact where logarithms of scores are exponential, whatever their scale."""
    exceeded = []
    for _ in range(2000):
        logs = 0.3 * rng.standard_exponential(n)
        limit = extrapolated_threshold(logs if logarithmic else np.exp(logs), 0.01, logarithmic)
        exceeded.append(np.exp(-(limit if logarithmic else np.log(limit)) / 0.3))
    assert np.mean(exceeded) == pytest.approx(0.01, abs=3 * np.std(exceeded) / 2000**0.5)


def test_thresholds_do_not_part_equal_scores():
    scores = np.sort(np.array([1.0, 2.0, 2.0 + 1e-12, 2.0 + 2e-12, 3.0, 4.0, 5.0]))
    for n_below, flagged in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 5)):
        at = threshold(scores, n_below)
        assert (scores < at).sum() == flagged
        # Not by a hair's breadth.
        assert np.abs(scores - at).min() > 1e-6
    assert (scores < between_ties(scores, 2.0 + 1e-12)).sum() == 1
    assert between_ties(scores, 2.5) == 2.5
    assert (np.ones(9) < threshold(np.ones(9), 3)).sum() == 0


def test_a_tail_does_not_tell_equal_scores_apart(rng):
    """Half of the scores are equal but for rounding, and have the least of their tail probabilities."""
    scores = np.concatenate([np.full(60, 1.0), 2 + rng.random(40), np.full(20, 4.0)])
    tail = Tail(scores * (1 + 1e-13 * rng.standard_normal(120)), True)
    for value, share in ((1.0, 60 / 120), (4.0, 0.1)):
        made = np.exp(-tail(value * (1 + 1e-12 * rng.standard_normal(50))))
        assert np.ptp(made) == 0
        np.testing.assert_allclose(made, share, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("novelty", [True, False])
def test_p_values_of_the_default_are_not_too_small_and_not_much_too_large(novelty):
    """Members that are fitted to half of the rows agree less, and their mean rank is less often extreme."""
    shares, error = _shares_of_small_p_values(AutoencoderOutlierDetector(novelty=novelty), LEVELS, 12)
    assert (shares <= LEVELS + 2 * error + 0.002).all()
    assert (shares >= (0.75 if novelty else 0.5) * LEVELS).all()


def _false_discoveries(detector, fdr, n_repeats, n_training):
    """False discovery proportions and power, with 40 anomalies among 200 new rows each time."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) < 40
    proportions, power = [], []
    for index in range(n_repeats):
        X = _rows(n_training, rng)
        new = _rows(200, rng)
        new[truth, rng.integers(P, size=40)] += rng.choice([-5, 5], 40)
        found = clone(detector).set_params(random_state=index).fit(X).detect(new, fdr=fdr) == -1
        proportions.append((found & ~truth).sum() / max(found.sum(), 1))
        power.append(found[truth].mean())
    return np.array(proportions), np.mean(power)


@pytest.mark.parametrize("fdr", [0.05, 0.1])
@pytest.mark.parametrize("scorer", [RobustDistance(1.0), SEVERAL], ids=["one", "several"])
def test_the_false_discovery_rate_is_kept(scorer, fdr):
    proportions, power = _false_discoveries(clone(CHEAP).set_params(autoencoder=Mean(), scorer=scorer), fdr, 60, 2000)
    assert proportions.mean() <= fdr + proportions.std() / np.sqrt(len(proportions))
    assert power > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("novelty", [True, False])
def test_the_false_discovery_rate_of_the_default_is_kept(novelty):
    proportions, power = _false_discoveries(AutoencoderOutlierDetector(novelty=novelty), 0.1, 10, 2000)
    assert proportions.mean() <= 0.1 + proportions.std() / np.sqrt(len(proportions))
    assert power > 0.6


# Thresholds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [100, 300, 700])
def test_novelty_flags_one_normal_row_in_a_hundred(n_rows):
    """⌈k/100⌉ of k held-out rows lie below the threshold; a new row does in as many of k + 1 cases."""
    rng = np.random.default_rng(0)
    flagged = []
    for index in range(50):
        X = _rows(n_rows + 1000, rng)
        fitted = clone(CHEAP).set_params(autoencoder=Mean(), n_estimators=2, random_state=index).fit(X[:n_rows])
        assert (fitted.calibration_scores_ < fitted.offset_).sum() >= np.ceil(n_rows / 100 - 1e-6)
        flagged.append((fitted.predict(X[n_rows:]) == -1).mean())
    expected = np.ceil(n_rows / 100) / (n_rows + 1)
    # The mean of members is less often extreme than the one that held a row out.
    assert expected / 2 <= np.mean(flagged) <= expected + 2.5 * np.std(flagged) / 7


def _flagged(n_rows, n_columns, novelty, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows + 2000, n_columns))
    fitted = AutoencoderOutlierDetector(novelty=novelty, random_state=seed).fit(X[:n_rows])
    return (fitted.predict(X[n_rows:]) == -1).mean()


@pytest.mark.parametrize(("n_columns", "novelty"), [(2, True), (20, False)])
def test_hardly_anything_is_flagged_where_nothing_is_wrong(n_columns, novelty):
    assert 0.002 < _flagged(3000, n_columns, novelty) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("novelty", [False, True])
@pytest.mark.parametrize("n_columns", [2, 5, 20])
@pytest.mark.parametrize("n_rows", [1000, 3000])
def test_hardly_anything_is_flagged_in_the_mean_where_nothing_is_wrong(n_rows, n_columns, novelty):
    assert 0.002 < np.mean([_flagged(n_rows, n_columns, novelty, seed) for seed in range(3)]) < 0.02


@pytest.mark.parametrize("share", [0.003, 0.03, 0.1, 0.5])
@pytest.mark.parametrize("novelty", [False, True])
def test_the_share_asked_for_is_flagged_in_the_training_rows(novelty, share):
    X = real(333, P)
    fitted = AutoencoderOutlierDetector(DENOISER, novelty=novelty, contamination=share, random_state=0).fit(X)
    assert abs((fitted.predict(X) == -1).sum() - share * len(X)) <= 1
    assert fitted.contamination_ == share


def test_the_share_of_planted_anomalies_is_estimated():
    rng = np.random.default_rng(0)
    X = _rows(1000, rng)
    X[:80] += 8 * rng.choice([-1, 1], (80, P))
    fitted = AutoencoderOutlierDetector(LINEAR, scorer=SEVERAL, random_state=0).fit(X)
    assert 0.065 < fitted.contamination_ < 0.09
    flagged = fitted.predict(X) == -1
    assert flagged[:80].mean() > 0.8 and flagged[80:].mean() < 0.02


# Streams ---------------------------------------------------------------------------------------


def _stream(shift, n_batches=25):
    """Batches with a changing mean, of which a hundredth is anomalous, and anomalies of that time."""
    rng = np.random.default_rng(0)
    for index in range(n_batches):
        rows = _rows(220, rng) + shift(index) * np.array([1, -1, 0.5, 1])
        rows[200:, 0] += 6 * rng.choice([-1, 1], 20)
        yield index, rows[:202], rows[200:]


STREAMING = {
    "default": AutoencoderOutlierDetector(random_state=0),
    "share": AutoencoderOutlierDetector(LINEAR, scorer=RobustDistance(), contamination=0.05, random_state=0),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("drift", "default"),
        ("drift", "share"),
        ("jump", "share"),
        pytest.param("jump", "default", marks=pytest.mark.slow),
    ],
)
def test_the_threshold_follows_a_stream(kind, name):
    shift = {"drift": lambda index: 0.1 * index, "jump": lambda index: 4.0 * (index >= 12)}[kind]
    detector = clone(STREAMING[name])
    flagged, found = {}, {}
    for index, rows, anomalies in _stream(shift):
        if index:
            flagged[index] = (detector.predict(rows[:200]) == -1).mean()
            found[index] = (detector.predict(anomalies) == -1).mean()
        detector.partial_fit(rows)
    calm = [flagged[index] for index in flagged if kind == "drift" or index < 12 or index >= 14]
    assert np.mean(calm) < 0.07 and max(calm) < 0.12
    if kind == "jump":
        # Anomalies are missed as long as the jump is among the last thousand rows.
        assert flagged[12] > 0.9
    else:
        assert np.mean(list(found.values())) > 0.7
    assert np.mean([found[index] for index in range(19, 25)]) > 0.7


def test_without_partial_fit_the_threshold_stays_behind():
    """The contrast: what was fitted to the first batch flags most of the drifted ones."""
    batches = list(_stream(lambda index: 0.1 * index))
    detector = clone(STREAMING["share"]).fit(batches[0][1])
    assert (detector.predict(batches[-1][1][:200]) == -1).mean() > 0.5


def test_a_stream_keeps_the_scores_of_the_last_thousand():
    detector = clone(CHEAP)
    sizes = []
    for seed in range(8):
        detector.partial_fit(real(300, P, seed))
        sizes.append(len(detector.calibration_scores_))
    assert sizes == [30, 330, 630, 930, 1000, 1000, 1000, 1000]


@pytest.mark.parametrize("novelty", [False, True])
def test_partial_fit_goes_on_from_a_fit_and_usable_after_one_call(novelty):
    X = real(400, P)
    one = AutoencoderOutlierDetector(DENOISER, novelty=novelty, random_state=0).partial_fit(X[:200])
    assert set(np.unique(one.predict(np.concatenate([X, 1e3 * X])))) == {-1, 1}
    fitted = clone(one).fit(X[:200])
    members, before = len(fitted.estimators_), fitted.score_samples(X)
    fitted.partial_fit(X[200:])
    assert len(fitted.estimators_) == members == 5 and len(one.estimators_) == 1
    assert not np.array_equal(fitted.score_samples(X), before)
    assert np.isfinite(fitted.explain(X[:3])["share"].to_numpy()).all()
