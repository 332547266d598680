"""Labels of training rows, how sure labels are, and labels that are given where they are sure."""

import re
from itertools import permutations

import numpy as np
import pytest
from registry import real
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from test_guides import GUIDE

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly import RobustDistance
from skae.anomaly._confidence import share_of_flags

LINEAR = AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2)


@pytest.fixture(scope="module")
def detector():
    return AutoencoderOutlierDetector(LINEAR, novelty=True, contamination=0.1, random_state=0).fit(real(400, 5))


@pytest.mark.parametrize(("n", "contamination"), [(20, 0.1), (99, 0.01), (150, 0.3)])
def test_the_probability_is_that_of_other_held_out_rows(n, contamination):
    """By draws of the share of more anomalous rows, of the held-out rows, and of others."""
    rng = np.random.default_rng(0)
    share = rng.random(400_000)
    seen, others = rng.binomial(n, share), rng.binomial(n, share)
    flagged = (others + 1) / (n + 1) <= contamination + 1e-9
    for k in range(0, n + 1, max(1, n // 7)):
        some = flagged[seen == k]
        expected = share_of_flags(np.array([(k + 1) / (n + 1)]), n, contamination)[0]
        assert abs(some.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(some)) + 1e-3


def test_a_share_below_the_smallest_p_value_flags_nothing():
    np.testing.assert_array_equal(share_of_flags(np.array([0.05, 1.0]), 19, 0.01), 0)


def test_labels_that_are_sure_stay_when_other_rows_are_fitted():
    """Fits to other rows of the same distribution: the share of labels that stay is about the mean confidence."""
    rng = np.random.default_rng(1)
    new = rng.standard_normal((300, 4)) * np.linspace(0.3, 2.5, 300)[:, None]
    detector = AutoencoderOutlierDetector(
        LINEAR, scorer=RobustDistance(1.0), novelty=True, contamination=0.2, n_estimators=1, random_state=0
    )
    fits = [clone(detector).fit(rng.standard_normal((1000, 4))) for _ in range(8)]
    labels, confidence = (
        np.array([getattr(fit, name)(new) for fit in fits]) for name in ("predict", "predict_confidence")
    )
    stay = np.mean([one == other for one, other in permutations(labels, 2)], axis=0)
    assert stay.mean() == pytest.approx(confidence.mean(), abs=0.03)
    sure = confidence.mean(0) > 0.99
    assert sure.mean() > 0.5 and stay[sure].mean() > 0.99
    assert stay[confidence.mean(0) < 0.8].mean() < 0.85


def test_rejection_gives_the_labels_that_are_sure(detector):
    X = real(200, 5, seed=1) * np.linspace(0.5, 2, 200)[:, None]
    labels, confidence = detector.predict(X), detector.predict_confidence(X)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    for least in (0, 0.7, 0.95):
        made = detector.predict_with_rejection(X, min_confidence=least)
        np.testing.assert_array_equal(made, np.where(confidence < least, 0, labels))
    assert set(made) == {-1, 0, 1}


def test_training_scores_are_those_of_the_training_rows(detector):
    X = real(400, 5)
    np.testing.assert_array_equal(detector.training_scores_, detector.score_samples(X))


@pytest.mark.parametrize("novelty", [False, True])
def test_fit_predict_labels_the_training_rows(novelty):
    X = real(120, 4)
    X[5, 2] = 80
    detector = AutoencoderOutlierDetector(LINEAR, novelty=novelty, contamination=0.05, random_state=0)
    labels = detector.fit_predict(X)
    np.testing.assert_array_equal(labels, detector.predict(X))
    assert labels[5] == -1 and (labels == -1).sum() == 6
    before = detector.training_scores_
    np.testing.assert_array_equal(detector.partial_fit(X[:20]).training_scores_, before)


def test_few_rows_are_not_sure():
    X = real(4, 3)
    detector = AutoencoderOutlierDetector(LINEAR, contamination=0.25, random_state=0).fit(X)
    assert np.isfinite(detector.predict_confidence(X)).all()


def test_before_fit():
    with pytest.raises(NotFittedError):
        AutoencoderOutlierDetector().predict_confidence(real(5, 3))


def test_the_guide_has_all_that_detectors_of_pyod_have():
    """The public methods and attributes of `pyod.models.base.BaseDetector`, version 3.6.7."""
    names = """compute_rejection_stats decision_function fit fit_predict fit_predict_score get_params predict
        predict_confidence predict_proba predict_with_rejection set_params decision_scores_ threshold_ labels_"""
    rows = (GUIDE / "outliers.md").read_text(encoding="utf-8").split("What PyOD's base class")[1].split("In PyOD:")[0]
    left = [row.split("|")[1] for row in rows.splitlines() if row.startswith("|")]
    for name in names.split():
        assert any(re.search(rf"`{name}[`(]", cell) for cell in left), name
