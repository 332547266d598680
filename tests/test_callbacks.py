"""scikit-learn's callbacks: an epoch is a subtask, its scores are logged, and who says stop is obeyed."""

import numpy as np
import pytest
from registry import ESTIMATORS, over, shares, with_parameters
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import AutoencoderTransformer, EarlyStopping

N_EPOCHS = 4
FREE = {
    name: with_parameters(estimator, max_iter=N_EPOCHS, early_stopping=False) for name, estimator in ESTIMATORS.items()
}
X = shares(60, 5)


def _score(estimator, X, y=None):
    return estimator.score(X)


@pytest.fixture
def progress_bar():
    """scikit-learn's own, which needs a package to draw with."""
    pytest.importorskip("rich")
    return ProgressBar()


class Recorder:
    """What was called, with which fitted estimators; says stop after some epochs."""

    def __init__(self, stop_after=None):
        self.calls, self.fitted, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(f"end {context.task_name}")
        if context.task_name == "epoch":
            self.fitted.append(fitted_estimator)
            return self.stop_after is not None and len(self.fitted) >= self.stop_after


@pytest.mark.parametrize("estimator", **over(FREE))
def test_an_epoch_is_a_subtask(estimator):
    recorder = Recorder()
    clone(estimator).set_callbacks(recorder).fit(X)
    assert recorder.calls == [
        "setup", "begin fit", *(N_EPOCHS * ["begin epoch", "end epoch"]), "end fit", "teardown",
    ]  # fmt: skip


@pytest.mark.parametrize("early_stopping", [True, EarlyStopping(n_folds=0)], ids=str)
def test_with_held_out_rows_too(early_stopping):
    recorder = Recorder()
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=6, early_stopping=early_stopping, random_state=0)
    ae.set_callbacks(recorder).fit(X)
    n_epochs = recorder.calls.count("end epoch")
    assert recorder.calls.count("begin epoch") == n_epochs
    # Where the guard keeps the start, its loss alone is there.
    assert len(ae.loss_curve_) == max(1, n_epochs)
    assert recorder.calls[0] == "setup" and recorder.calls[-1] == "teardown"


@pytest.mark.parametrize("estimator", **over(FREE))
def test_who_says_stop_is_obeyed(estimator):
    ae = clone(estimator).set_callbacks(Recorder(stop_after=2)).fit(X)
    assert len(ae.loss_curve_) == ae.n_iter_ == 2
    assert np.isfinite(ae.transform(X)).all()


def test_a_callback_may_look_at_the_model_of_an_epoch():
    recorder = Recorder()
    ae = clone(FREE["AutoencoderTransformer"]).set_callbacks(recorder).fit(X)
    assert [len(each.loss_curve_) for each in recorder.fitted] == [1, 2, 3, 4]
    codes = [each.transform(X) for each in recorder.fitted]
    assert not np.array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[-1], ae.transform(X))


def test_looking_does_not_change_the_training():
    for estimator in FREE.values():
        alone = clone(estimator).fit(X)
        monitored = clone(estimator).set_callbacks(ScoringMonitor(scoring={"score": _score}), Recorder()).fit(X)
        np.testing.assert_array_equal(alone.transform(X), monitored.transform(X))


@pytest.mark.parametrize("estimator", **over(FREE))
def test_scores_are_logged_once_an_epoch(estimator):
    monitor = ScoringMonitor(scoring={"score": _score})
    ae = clone(estimator).set_callbacks(monitor).fit(X)
    log = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(log) == N_EPOCHS
    assert [row["score"] for row in log][-1] == pytest.approx(ae.score(X))


@pytest.mark.parametrize("estimator", **over(FREE))
def test_progress_bars_alone(estimator, progress_bar, capfd):
    ae = clone(estimator).set_callbacks(progress_bar).fit(X)
    printed = capfd.readouterr()
    assert type(ae).__name__ in printed.out + printed.err
    assert len(ae.loss_curve_) == N_EPOCHS


@pytest.mark.filterwarnings("ignore:The estimator MinMaxScaler does not support callbacks")
@pytest.mark.parametrize("estimator", **over(FREE))
def test_in_a_pipeline(estimator, progress_bar):
    monitor, recorder = ScoringMonitor(scoring={"score": _score}), Recorder()
    ae = clone(estimator).set_callbacks(monitor, recorder)
    pipeline = make_pipeline(MinMaxScaler(), ae).set_callbacks(progress_bar).fit(X)
    assert pipeline.transform(X).shape == (60, 2)
    assert recorder.calls.count("end epoch") == N_EPOCHS
    assert sum(row["task_name"] == "epoch" for row in monitor.get_logs().data) == N_EPOCHS


@pytest.mark.parametrize("estimator", **over(FREE))
def test_under_a_grid_search(estimator, progress_bar):
    monitor = ScoringMonitor(scoring={"score": _score})
    ae = clone(estimator).set_callbacks(monitor)
    search = GridSearchCV(ae, {"n_components": [1, 2]}, cv=2).set_callbacks(progress_bar).fit(X)
    assert search.best_params_["n_components"] in (1, 2)
    # Two values, two folds, and the refit.
    runs = [row for log in monitor.get_logs(select="all") for row in log.data if row["task_name"] == "epoch"]
    assert len(runs) == 5 * N_EPOCHS


def test_under_a_grid_search_of_a_pipeline():
    monitor = ScoringMonitor(scoring={"score": _score})
    pipeline = make_pipeline(MinMaxScaler(), clone(FREE["AutoencoderTransformer"]).set_callbacks(monitor))
    GridSearchCV(pipeline, {"autoencodertransformer__n_components": [1, 2]}, cv=2).fit(X)
    runs = [row for log in monitor.get_logs(select="all") for row in log.data if row["task_name"] == "epoch"]
    assert len(runs) == 5 * N_EPOCHS


def test_partial_fit_is_one_epoch():
    recorder = Recorder()
    ae = clone(FREE["AutoencoderTransformer"]).set_callbacks(recorder).partial_fit(X).partial_fit(X)
    assert recorder.calls.count("end epoch") == 2 and len(ae.loss_curve_) == 2


def test_a_linear_autoencoder_needs_no_epoch():
    recorder = Recorder()
    AutoencoderTransformer(2, hidden_layer_sizes=()).set_callbacks(recorder).fit(X)
    assert recorder.calls == ["setup", "begin fit", "end fit", "teardown"]


class Failure(Exception):
    """What the callback below raises."""


class Failing(Recorder):
    """Raises in its second epoch."""

    def on_fit_task_end(self, estimator, context, **given):
        super().on_fit_task_end(estimator, context, **given)
        if len(self.fitted) == 2:
            raise Failure


def test_a_failing_callback_is_torn_down_and_leaves_the_earlier_fit():
    ae = clone(FREE["AutoencoderTransformer"]).fit(X)
    before = ae.transform(X)
    failing = Failing()
    with pytest.raises(Failure):
        ae.set_callbacks(failing).fit(X[:40])
    assert failing.calls[-1] == "teardown"
    np.testing.assert_array_equal(ae.transform(X), before)
    assert len(ae.loss_curve_) == N_EPOCHS
