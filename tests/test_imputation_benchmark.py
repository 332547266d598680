"""The benchmark of imputation: how cells are hidden, and how errors are compared."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import _imputation_cost as cost
from benchmarks import _imputation_downstream as downstream
from benchmarks import _imputation_frames as frames
from benchmarks import _imputation_mixed as mixed
from benchmarks._compare import mean_ranks
from benchmarks._imputation_frame_methods import FRAME_METHODS
from benchmarks._imputation_methods import OWN, Setting
from benchmarks._imputation_page import best_peer, ratios
from benchmarks._imputation_tables import MECHANISMS, case


def correlated(n_rows=4000, n_columns=6):
    """Standard columns that share one factor."""
    generator = np.random.default_rng(0)
    return (generator.normal(size=(n_rows, 1)) + generator.normal(size=(n_rows, n_columns))) / np.sqrt(2)


def hide(mechanism, X=None):
    return MECHANISMS[mechanism].hide(correlated() if X is None else X, np.random.default_rng(1))


@pytest.mark.parametrize(("mechanism", "rate"), [("MCAR 50", 0.5), ("MCAR 20", 0.2), ("MNAR 30", 0.3)])
def test_share_of_hidden_cells(mechanism, rate):
    # The share's standard deviation is at most .0033.
    assert hide(mechanism).mean() == pytest.approx(rate, abs=0.015)


def test_missing_at_random_depends_on_complete_columns_alone():
    X = correlated()
    hidden = hide("MAR 30", X)
    complete = ~hidden.any(axis=0)
    assert complete.sum() == 3
    assert hidden[:, ~complete].mean() == pytest.approx(0.3, abs=0.02)
    other = np.where(complete, X, -X)
    np.testing.assert_array_equal(hide("MAR 30", other), hidden)


def test_missing_by_own_value_hides_one_end_of_each_column():
    X, hidden = correlated(), hide("MNAR 30")
    differences = [abs(column[gone].mean() - column[~gone].mean()) for column, gone in zip(X.T, hidden.T, strict=True)]
    assert min(differences) > 0.5


def test_above_mean_leaves_what_is_below():
    X, hidden = correlated(), hide("above mean")
    assert not hidden[:, 3:].any()
    np.testing.assert_array_equal(hidden[:, :3], X[:, :3] > X[:, :3].mean(axis=0))


def test_a_column_that_would_lose_all_its_cells_is_drawn_again():
    X = np.zeros((2, 500))
    assert not hide("MCAR 50", X).all(axis=0).any()


def test_case_is_the_same_for_the_same_arguments():
    made = [case("wine", "MCAR 50", seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(made[0].hidden, made[1].hidden)
    assert (made[0].hidden != made[2].hidden).any()
    np.testing.assert_array_equal(np.isnan(made[0].gappy), made[0].hidden)
    np.testing.assert_allclose(made[0].X.std(axis=0), 1)


def test_small_errors_rank_first_and_own_is_compared_with_the_best_peer():
    values = {"skae": {"x": 0.5, "y": 0.9}, "mean": {"x": 1.0, "y": 1.0}, "kNN": {"x": 0.6, "y": 0.8}}
    assert mean_ranks(values, ["x", "y"], largest=False) == {"skae": 1.5, "mean": 3.0, "kNN": 1.5}
    assert best_peer(values, "x") == (0.6, "kNN")
    assert ratios(values, ["x", "y"]) == pytest.approx({"x": 0.5 / 0.6, "y": 0.9 / 0.8})


@pytest.fixture
def table(monkeypatch):
    """A category that decides the other column of categories and, but for noise, the numbers; with gaps of its own."""
    generator = np.random.default_rng(0)
    group = generator.integers(3, size=600)
    made = pd.DataFrame(
        {
            "size": group + 0.1 * generator.normal(size=600),
            "colour": np.array(["red", "green", "blue"])[group],
            "weight": 100 * group + generator.normal(size=600),
            "shape": pd.Categorical(np.array(["disc", "cube", "rod"])[group]),
        }
    )
    made = made.mask(generator.random(made.shape) < 0.1)
    monkeypatch.setattr(frames, "load", lambda name: made)
    return made


def test_cells_of_frames_are_hidden_among_known_ones(table):
    hidden = frames.frame("any", "mixed 40", 0)
    known = table.notna().to_numpy()
    assert not (hidden.hidden & ~known).any()
    # The share's standard deviation is .0105.
    assert hidden.hidden[known].mean() == pytest.approx(0.4, abs=0.045)
    np.testing.assert_array_equal(hidden.gappy.isna(), hidden.hidden | ~known)
    np.testing.assert_array_equal(frames.frame("any", "mixed 40", 0).hidden, hidden.hidden)


@pytest.mark.parametrize("method", [name for name in FRAME_METHODS if name != OWN])
def test_peers_fill_frames_and_keep_known_cells(method, table):
    case = frames.frame("any", "mixed 20", 0)
    filled = FRAME_METHODS[method](Setting(0)).fit_transform(case.gappy)
    known = case.gappy.notna()
    assert not filled.isna().any(axis=None)
    assert filled.where(known).equals(case.gappy)
    errors = mixed.errors(case, filled)
    if method == "mean":
        assert errors["rmse"] == pytest.approx(1, abs=0.1)
        assert errors["wrong_cells"] == pytest.approx(2 / 3, abs=0.12)
    else:
        # One of four cells is missing, so that about one of a hundred rows has nothing that tells its group.
        assert errors["rmse"] < 0.4
        assert errors["wrong"] < 0.1


def test_errors_of_frames_by_hand():
    known = pd.DataFrame({"x": [0.0, 2.0, 0.0, 2.0], "a": list("ppqq"), "b": ["u", "v", "u", None]})
    hidden = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=bool)
    filled = pd.DataFrame({"x": [3.0, 2.0, 0.0, 2.0], "a": list("qqqq"), "b": ["u", "v", "u", "u"]})
    made = mixed.errors(frames.Frame(known, hidden), filled)
    assert (made["rmse"], made["wrong"], made["wrong_cells"]) == pytest.approx((3, 0.5, 0.5))
    hidden[1, 2] = False
    assert mixed.errors(frames.Frame(known, hidden), filled)["wrong_cells"] == pytest.approx(2 / 3)


def test_own_categories_are_compared_with_the_best_peer():
    rates = {OWN: 0.2, "mean": 0.5, "kNN": 0.3}
    results = [{"method": name, "set": mixed.GATED, "wrong": rate, "wrong_cells": rate} for name, rate in rates.items()]
    assert [gate[1] for gate in mixed.category_gates(results, "mixed 20")] == pytest.approx([-0.1, -0.1])
    assert mixed.category_gates(results[1:], "mixed 20") == []


def test_accuracy_of_classes_far_apart_and_of_classes_by_chance():
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    X = generator.normal(size=(200, 6)) + 8 * y[:, None]
    X[generator.random(X.shape) < downstream.RATE] = np.nan
    # All cells of a row are missing with probability .004.
    assert downstream.measure("mean", X, y, Setting(0))["accuracy"] > 0.95
    assert abs(downstream.measure("mean", X, generator.permutation(y), Setting(0))["accuracy"] - 0.5) < 0.15


def test_accuracy_gates_need_every_table():
    values = {name: dict.fromkeys(downstream.TABLES, 0.8) for name in (OWN, "mean", "kNN")}
    values["kNN"] = dict.fromkeys(downstream.TABLES, 0.7)
    ((_, difference, sign, bound),) = downstream.accuracy_gates("boosting", values)
    assert (difference, sign, bound) == (0, ">=", 0)
    del values[OWN]["wine"]
    assert downstream.accuracy_gates("boosting", values) == []


def test_draws_are_missing_at_their_rate_and_of_few_dimensions():
    X = cost.draws(4000, 50)
    assert np.isnan(X).mean() == pytest.approx(cost.RATE, abs=0.005)
    covariance = pd.DataFrame(X).cov().to_numpy()
    spectrum = np.linalg.eigvalsh(covariance)[::-1]
    assert spectrum[: cost.N_LATENT].sum() / spectrum.sum() > 0.75


def test_memory_is_the_largest_since_the_last_call():
    if not cost.resident():
        pytest.skip("memory is read where Linux shows it")
    before = cost.resident()
    block = np.ones(25_000_000)
    del block
    after = cost.resident()
    assert after["VmHWM"] - before["VmRSS"] == pytest.approx(200, abs=20)
    assert cost.resident()["VmHWM"] - before["VmRSS"] < 100


def test_bounds_and_growth_of_seconds():
    def results(power_of_rows, power_of_columns):
        return {
            (cost.label(shape), OWN): {"seconds": shape[0] ** power_of_rows * shape[1] ** power_of_columns}
            for shape in cost.SHAPES.values()
        }

    assert [gate[1] for gate in cost.growth(results(1.2, 0.7))] == pytest.approx([1.2, 0.7])
    timed = {(cost.label(cost.BESIDE), OWN): {"seconds": 2.0}, (cost.label(cost.BESIDE), cost.PEER): {"seconds": 50.0}}
    assert [gate[1] for gate in cost.bounds(timed)] == [25.0]
    assert cost.growth(timed) == []
