"""The benchmark of anomaly detection: how rows are split, ranked and kept."""

import numpy as np
import pytest

from benchmarks._anomaly_cost import power
from benchmarks._anomaly_page import mean_ranks, origin_mean
from benchmarks._anomaly_sets import split
from benchmarks._anomaly_store import Store


def numbered(n_rows, share=0.2):
    """Rows that tell their own number, of which the first is 0, and anomalies among them."""
    y = (np.random.default_rng(0).random(n_rows) < share).astype(int)
    return np.arange(n_rows, dtype=float)[:, None], y


def test_semi_trains_on_the_first_half_of_the_normal_rows():
    X, y = numbered(1501)
    case = split(X, y, "semi", seed=3)
    normal = X[y == 0, 0]
    half = round(0.5 * len(normal))
    scale = normal[:half].std()
    np.testing.assert_allclose(case.train[:, 0] * scale + normal[:half].mean(), normal[:half])
    rest = np.concatenate([normal[half:], X[y == 1, 0]])
    np.testing.assert_allclose(case.test[:, 0] * scale + normal[:half].mean(), rest)
    np.testing.assert_array_equal(case.y, y[rest.astype(int)])


def test_unsup_draws_from_all_rows_and_tests_on_all():
    X, y = numbered(2000)
    case = split(X, y, "unsup", seed=0)
    np.testing.assert_allclose(case.test[:, 0] * X.std() + X.mean(), X[:, 0])
    np.testing.assert_array_equal(case.y, y)
    assert len(case.train) == len(X)
    assert np.isin(case.train.round(9), case.test.round(9)).all()
    # The share of rows that a bootstrap holds is 1 − 1/e, with a standard deviation of .007 here.
    assert len(np.unique(case.train)) / len(X) == pytest.approx(1 - np.exp(-1), abs=0.03)


def test_few_rows_are_resampled_and_many_are_cut():
    few = split(*numbered(100), "unsup", seed=0)
    assert len(few.train) == len(few.test) == 1000
    assert len(np.unique(few.test)) <= 100
    many = split(*numbered(5000), "unsup", seed=0, max_rows=3000)
    assert len(many.test) == len(np.unique(many.test)) == 3000
    other = split(*numbered(5000), "unsup", seed=1, max_rows=3000)
    assert not np.array_equal(many.y, other.y)


def test_mean_ranks_share_ties():
    values = {"a": {"x": 0.9, "y": 0.5}, "b": {"x": 0.9, "y": 0.7}, "c": {"x": 0.1, "y": 0.6}}
    assert mean_ranks(values, ["x", "y"]) == {"a": 2.25, "b": 1.25, "c": 2.5}


def test_sets_of_one_origin_count_once():
    assert origin_mean({"4_breastw": 1.0, "42_WBC": 0.8, "45_wine": 0.5}) == pytest.approx(0.7)


def test_growth_of_a_power():
    rows = np.array([1000, 4000, 9000])
    assert power(rows, 3e-5 * rows**1.5) == pytest.approx(1.5)


def test_the_later_of_two_results_counts(tmp_path):
    store = Store(tmp_path / "folder" / "results.jsonl")
    key = {"protocol": "semi", "set": "45_wine", "seed": 0, "method": "KNN", "max_rows": 50_000, "parameters": ""}
    assert store.results() == []
    for auroc in (0.5, 0.75):
        store.add(key, {"auroc": auroc, "ap": 0.1, "fit_seconds": 1.0, "score_seconds": 1.0})
    store.add(key | {"seed": 1}, {"error": "ValueError: no"})
    assert [result["auroc"] for result in store.results(seed=0)] == [0.75]
    assert tuple(key.values()) in store.keys()
    assert len(store.keys()) == 2
