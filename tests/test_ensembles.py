"""What the detector and the imputer share: members in parallel, parameters of their autoencoders, weights of rows."""

import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from registry import real
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skae import AutoencoderImputer, AutoencoderOutlierDetector, AutoencoderTransformer, LaplaceCode, MaskedAE
from skae.anomaly import ReconstructionError, RobustDistance
from skae.anomaly._columns import StandardColumns
from skae.anomaly._member import least_suspicious
from skae.autoencoders._ensemble import merged_rows, rows_by_weight
from skae.imputation._scale import ColumnScale

N, P = 80, 3
PLAIN = AutoencoderTransformer(1, hidden_layer_sizes=(4,), max_iter=2, early_stopping=False)
MASKED = MaskedAE(1, hidden_layer_sizes=(4,), max_iter=2, early_stopping=False)
DETECTOR = AutoencoderOutlierDetector(PLAIN, n_estimators=3, random_state=0)
IMPUTER = AutoencoderImputer(MASKED, n_estimators=3, n_reference_rows=20, random_state=0)


def gappy(n=N, seed=0):
    X = real(n, P, seed)
    X[::3, 1] = np.nan
    return X


def results(estimator, X):
    """What a fitted detector or imputer says of rows."""
    if isinstance(estimator, AutoencoderImputer):
        return np.stack([estimator.transform(X), estimator.imputation_std(X), *estimator.interval(X)])
    return np.concatenate([estimator.score_samples(X), estimator.p_values(X), [estimator.offset_]])


both = pytest.mark.parametrize("ensemble", [DETECTOR, IMPUTER], ids=["detector", "imputer"])

# Members in parallel ---------------------------------------------------------------------------


@both
def test_results_are_the_same_for_every_n_jobs(ensemble):
    X = gappy()
    expected = results(clone(ensemble).fit(X), X)
    for n_jobs in (2, -1):
        np.testing.assert_array_equal(results(clone(ensemble).set_params(n_jobs=n_jobs).fit(X), X), expected)


def test_a_stream_goes_on_in_the_same_way_after_any_n_jobs():
    one, other = (clone(DETECTOR).set_params(n_jobs=n).partial_fit(real(N, P)) for n in (1, 2))
    X = real(30, P, 1)
    np.testing.assert_array_equal(results(one.partial_fit(X), X), results(other.partial_fit(X), X))


# Parameters of the autoencoders ----------------------------------------------------------------


@pytest.mark.parametrize("ensemble", [AutoencoderOutlierDetector(), AutoencoderImputer(n_reference_rows=0)], ids=str)
def test_parameters_of_the_default_autoencoder(ensemble):
    parameters = {"max_iter": 1, "hidden_layer_sizes": (4,)}
    ensemble = clone(ensemble).set_params(n_estimators=2, random_state=0, autoencoder_params=parameters)
    X = gappy(40)
    fitted = clone(ensemble).fit(X)
    for each in fitted.estimators_:
        assert each.max_iter == 1 and each.hidden_layer_sizes == (4,)
        # What was not asked for stays the default's.
        assert each.batch_size in (128, 256) and each.early_stopping is False
    before = results(fitted, X)
    fitted.set_params(autoencoder_params={"max_itr": 3})
    with pytest.raises(ValueError, match="Invalid parameter 'max_itr'"):
        fitted.fit(X)
    np.testing.assert_array_equal(results(fitted, X), before)


def test_a_search_of_the_default_autoencoder():
    base = {"hidden_layer_sizes": (4,), "max_iter": 1}
    grid = [{**base, "n_components": d} for d in (1, 2)]
    imputer = AutoencoderImputer(n_estimators=2, n_reference_rows=0, random_state=0)
    search = GridSearchCV(imputer, {"autoencoder_params": grid}, cv=2, error_score="raise").fit(gappy(40))
    assert search.best_params_["autoencoder_params"] in grid
    assert (
        search.best_estimator_.estimators_[0].n_components == search.best_params_["autoencoder_params"]["n_components"]
    )
    assert len(set(search.cv_results_["mean_test_score"])) == 2


def test_parameters_are_set_on_every_autoencoder_of_a_list_and_the_given_ones_stay():
    given = [clone(PLAIN), clone(PLAIN).set_params(n_components=2)]
    detector = AutoencoderOutlierDetector(given, n_estimators=2, autoencoder_params={"max_iter": 1}, random_state=0)
    assert [each.max_iter for each in detector.fit(real(30, P)).estimators_] == [1, 1]
    assert [each.max_iter for each in given] == [2, 2]


@both
def test_the_device_of_the_autoencoders(ensemble):
    X = gappy()
    with pytest.raises(ValueError, match="device='nowhere'"):
        clone(ensemble).set_params(device="nowhere").fit(X)
    fitted = clone(ensemble).set_params(device="cpu").fit(X)
    assert {each.device for each in fitted.estimators_} == {"cpu"}
    # An autoencoder that has asked for a device itself keeps it.
    fitted = clone(ensemble).set_params(device="nowhere", autoencoder__device="cpu").fit(X)
    assert {each.device for each in fitted.estimators_} == {"cpu"}


# Weights of rows -------------------------------------------------------------------------------


@both
def test_a_row_of_weight_zero_is_not_there(ensemble):
    X, weight = gappy(), np.where(np.arange(N) % 4 == 0, 0.0, 1.0 + np.arange(N) % 3)
    X[0] = 1e6
    one = clone(ensemble).fit(X, sample_weight=weight)
    other = clone(ensemble).fit(X[weight > 0], sample_weight=weight[weight > 0])
    np.testing.assert_array_equal(results(one, X), results(other, X))
    # Of a table, neither is its category.
    frame = pd.DataFrame(X, columns=list("abc")).assign(d=np.where(weight > 0, "usual", "rare"))
    one = clone(ensemble).fit(frame, sample_weight=weight)
    assert not any("rare" in name for name in one.table_encoder_.get_feature_names_out())
    assert any("usual" in name for name in one.table_encoder_.get_feature_names_out())


@both
def test_equal_weights_are_none_and_their_unit_does_not_count(ensemble):
    X = gappy()
    weight = 1.0 + np.arange(N) % 3
    np.testing.assert_array_equal(
        results(clone(ensemble).fit(X, sample_weight=np.full(N, 0.1)), X), results(clone(ensemble).fit(X), X)
    )
    np.testing.assert_array_equal(
        results(clone(ensemble).fit(X, sample_weight=8 * weight), X),
        results(clone(ensemble).fit(X, sample_weight=weight), X),
    )


@both
def test_below_50_rows_a_weight_of_two_is_a_row_given_twice(ensemble):
    X = gappy(20)
    weight = 1 + np.arange(20) % 3
    one = clone(ensemble).fit(X, sample_weight=weight)
    other = clone(ensemble).fit(np.repeat(X, weight, axis=0)[::-1])
    np.testing.assert_array_equal(results(one, X), results(other, X))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_scales_of_a_detector_by_weights(make):
    X, weight = real(N, P), 1 + np.arange(N) % 3
    one, other = StandardColumns(make(X), weight=weight), StandardColumns(make(np.repeat(X, weight, axis=0)))
    np.testing.assert_allclose(one.spread, other.spread, rtol=1e-12)
    np.testing.assert_allclose(one.centre, other.centre, rtol=1e-12)


def test_scales_with_gaps_by_weights():
    X, weight = gappy(), (1 + np.arange(N) % 3).astype(float)
    repeated = np.repeat(X, weight.astype(int), axis=0)
    one, other = StandardColumns(X, weight=weight), StandardColumns(repeated)
    np.testing.assert_allclose([one.centre, one.spread], [other.centre, other.spread], rtol=1e-12)
    numbers = np.ones(P, dtype=bool)
    one, other = ColumnScale(X, numbers, weight=weight), ColumnScale(repeated, numbers)
    np.testing.assert_allclose([one.location, one.scale], [other.location, other.scale], rtol=1e-12)


def test_trusted_rows_are_a_share_of_the_weight():
    X = np.random.default_rng(0).standard_normal((200, 2))
    far = np.arange(200) < 20
    X[far] += 30
    kept = least_suspicious(X, 0.5, np.random.RandomState(0), weight=np.where(far, 1.0, 9.0))
    assert not far[kept].any()
    assert len(kept) == -(-(20 + 9 * 180) // 18), "rows of weight 9 that have half of the weight"
    assert len(least_suspicious(X, 0.5, np.random.RandomState(0))) == 100


def test_the_flagged_share_is_one_of_the_weight():
    X = real(300, P)
    # Those far from the mean count little.
    weight = np.where(np.abs(X[:, 0] - X[:, 0].mean()) > X[:, 0].std(), 0.1, 1.0)
    detector = AutoencoderOutlierDetector(
        PLAIN, scorer=RobustDistance(), novelty=True, contamination=0.2, n_estimators=2, random_state=0
    )
    flagged = clone(detector).fit(X, sample_weight=weight).predict(X) < 0
    # A row counts a whole number of times.
    assert weight[flagged].sum() / weight.sum() == pytest.approx(0.2, abs=0.02)
    assert flagged.mean() > 0.3


def test_held_out_rows_calibrate_as_often_as_they_weigh():
    """A fifth of the rows is far away, and has half of the weight: so has the upper half of the scores."""
    X = np.random.default_rng(0).standard_normal((400, P))
    far = np.arange(400) % 5 == 0
    X[far] *= 10
    detector = AutoencoderOutlierDetector(
        PLAIN, scorer=ReconstructionError("absolute"), novelty=True, n_estimators=2, contamination=0.1, random_state=0
    )
    scores = clone(detector).fit(X, sample_weight=np.where(far, 4.0, 1.0)).calibration_scores_
    assert len(scores) == 400
    equally = clone(detector).fit(X)
    assert (scores < equally.calibration_scores_[100]).mean() > 0.4


def test_a_stream_with_weights():
    X, weight = real(60, P), 1.0 + np.arange(60) % 2
    one = clone(DETECTOR).partial_fit(X, sample_weight=weight).partial_fit(X[:30], sample_weight=weight[:30])
    other = clone(DETECTOR).partial_fit(X, sample_weight=weight).partial_fit(X[:30], sample_weight=5 * weight[:30])
    np.testing.assert_array_equal(results(one, X), results(other, X))
    unweighted = clone(DETECTOR).partial_fit(X, sample_weight=weight).partial_fit(X[:30])
    assert not np.array_equal(results(one, X), results(unweighted, X))


def test_an_imputers_means_and_answers_are_weighted():
    """Two halves with opposite slopes: the answer follows the one that has the weight."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200)
    first = np.arange(200) < 100
    X = np.column_stack([x, np.where(first, x, 2 - x) + 0.1 * rng.standard_normal(200)])
    weight = np.where(first, 1.0, 1e-3)
    imputer = clone(IMPUTER).fit(X, sample_weight=weight)
    filled = imputer.transform(np.array([[2.0, np.nan], [-2.0, np.nan], [np.nan, np.nan]]))
    np.testing.assert_allclose(filled[:2, 1], [2, -2], atol=0.3)
    np.testing.assert_allclose(filled[2], np.average(X, axis=0, weights=weight), rtol=1e-9)
    equally = clone(IMPUTER).fit(X)
    assert imputer.holdout_error_[1] < 0.5 * equally.holdout_error_[1], "held-out rows of the other half hardly count"


@both
def test_weights_that_are_none(ensemble):
    X = gappy()
    wrong = {"non-zero number": np.zeros(N), "Negative values": -np.ones(N), "inconsistent|shape": np.ones(3)}
    for message, weight in wrong.items():
        with pytest.raises(ValueError, match=message):
            clone(ensemble).fit(X, sample_weight=weight)


class MeanModel(BaseEstimator):
    """An autoencoder of another library, without weights."""

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        return self

    def reconstruct(self, X):
        return np.tile(self.mean_, (len(X), 1))


def test_an_autoencoder_without_weights():
    X = real(60, P)
    detector = AutoencoderOutlierDetector(MeanModel(), n_estimators=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"MeanModel\.fit takes none"):
        clone(detector).fit(X, sample_weight=1.0 + np.arange(60))


@both
def test_metadata_routing(ensemble):
    X, weight = gappy(), 1.0 + np.arange(N) % 3
    expected = results(clone(ensemble).fit(X, sample_weight=weight), X)
    with sklearn.config_context(enable_metadata_routing=True):
        last = clone(ensemble).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), last).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(results(pipeline[-1], X), expected)


@pytest.mark.parametrize("weight", [[2, 1, 0.5, 0.5], [1, 2, 0, 1], [3, 1, 1, 3], [0.1, 0.1, 0.1, 3.7]])
def test_rows_by_weight(weight):
    weight = np.array(weight, dtype=float)
    times = np.bincount(rows_by_weight(weight, 4), minlength=4)
    assert times.sum() == 4
    assert (np.abs(times - 4 * weight / weight.sum()) < 1).all()


def test_merged_rows():
    X = np.array([[2.0, np.nan], [1, 5], [2, np.nan], [0, 1], [7, 7], [3, 3], [1, 5]])
    rows, weight = merged_rows(X, None)
    np.testing.assert_array_equal(rows, [[0, 1], [1, 5], [2, np.nan], [3, 3], [7, 7]])
    np.testing.assert_array_equal(weight, [1, 2, 2, 1, 1])
    # Fewer than five different ones would not be held out.
    assert merged_rows(X[:4], None)[0] is not None and len(merged_rows(X[:4], None)[0]) == 4


# Several threads -------------------------------------------------------------------------------


class Fails(BaseEstimator):
    """An autoencoder that fails while others train."""

    def fit(self, X, y=None, sample_weight=None):
        time.sleep(0.2)
        raise RuntimeError("deliberate")

    def reconstruct(self, X):
        return X


def test_an_error_in_a_thread_ends_the_other_trainings():
    long = clone(PLAIN).set_params(max_iter=100_000)
    detector = AutoencoderOutlierDetector([long, Fails()], n_estimators=2, n_jobs=2, random_state=0)
    threads = threading.active_count()
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(RuntimeError, match="deliberate"):
            detector.fit(real(N, P))
        # What the fit sets in torch is put back by the last member that leaves.
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert not hasattr(detector, "members_")
    assert threading.active_count() <= threads + 2


def test_warnings_and_their_filters_are_left_alone_by_threads():
    X = real(N, P)
    X[:, 1] = np.nan
    X[:, 2] = 3.0
    before = list(warnings.filters)
    for seed in range(5):
        detector = clone(DETECTOR).set_params(n_estimators=6, n_jobs=3, random_state=seed)
        with pytest.warns(UserWarning, match="no observed value") as caught:
            detector.fit(X)
        assert [str(each.message) for each in caught if "no observed value" not in str(each.message)] == []
    assert [each for each in warnings.filters if each not in before and each[0] == "ignore"] == []


# Rows that are merged --------------------------------------------------------------------------


class Mean(BaseEstimator):
    """An autoencoder that takes no weights."""

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        return self

    def reconstruct(self, X):
        return np.tile(self.mean_, (len(X), 1))


def test_equal_rows_need_no_weights():
    X = real(30, P)
    X[1] = X[0]
    detector = AutoencoderOutlierDetector(Mean(), random_state=0).fit(X)
    assert detector.training_scores_[0] == detector.training_scores_[1]


class TrainingScores:
    """A callback that keeps the training scores at the end of the fit."""

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        if context.parent is None:
            self.found = fitted_estimator.training_scores_

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("weight", [None, np.arange(30) % 2])
def test_callbacks_see_the_scores_of_the_rows_that_were_given(weight):
    X = real(30, P)
    X[4] = X[20]
    callback = TrainingScores()
    detector = clone(DETECTOR).set_callbacks(callback).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(callback.found, detector.training_scores_)
    np.testing.assert_array_equal(callback.found, detector.score_samples(X))


@pytest.mark.parametrize("kind", ["coo", "dia", "bsr"])
def test_weights_of_rows_of_any_sparse_matrix(kind):
    X, weight = np.where(real(N, P) > 1, real(N, P), 0.0), np.arange(N) % 3
    one = clone(DETECTOR).fit(sparse.coo_matrix(X).asformat(kind), sample_weight=weight)
    other = clone(DETECTOR).fit(sparse.csr_matrix(X), sample_weight=weight)
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples(X))


@both
def test_weights_may_be_tensors(ensemble):
    X, weight = real(N, P), np.arange(N) % 3
    tensor = torch.tensor(weight, dtype=torch.bfloat16, requires_grad=True)
    one, other = (clone(ensemble).fit(X, sample_weight=each) for each in (weight, tensor))
    np.testing.assert_array_equal(results(one, gappy()), results(other, gappy()))
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        clone(ensemble).fit(X, sample_weight=np.ma.masked_equal(weight.astype(float), 2))


def test_a_stream_keeps_the_autoencoders_of_its_first_call():
    detector = clone(DETECTOR).partial_fit(real(N, P))
    detector.set_params(autoencoder=[PLAIN, PLAIN]).partial_fit(real(N, P, 1))
    assert len(detector.members_) == 3


def test_integer_tensors_are_filled():
    X = torch.randint(-1, 5, (N, P), generator=torch.Generator().manual_seed(0))
    imputer = clone(IMPUTER).set_params(missing_values=-1).fit(X)
    filled = imputer.transform(X)
    assert filled.dtype == np.int64 and filled.min() >= 0
    np.testing.assert_array_equal(filled, imputer.transform(X.numpy()))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_numbers_of_few_bits(kind):
    assert clone(PLAIN).set_params(batch_size=kind(100)).fit(real(300, P)).n_iter_ == 2


def test_penalties_in_an_array_are_checked():
    with pytest.raises(ValueError, match="'weight' parameter of LaplaceCode"):
        clone(PLAIN).set_params(penalties=np.array([LaplaceCode(-1)], dtype=object)).fit(real(N, P))
