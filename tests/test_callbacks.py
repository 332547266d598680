"""scikit-learn's callbacks: an epoch is a subtask, its scores are logged, and who says stop is obeyed."""

import numpy as np
import pytest
from registry import ESTIMATORS, over, shares, with_parameters
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import (
    LBFGS,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    EarlyStopping,
    StackedAE,
)

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


def _task(name, inside=()):
    return [f"begin {name}", *inside, f"end {name}"]


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
    training = _task("fit", N_EPOCHS * _task("epoch"))
    if isinstance(estimator, StackedAE):
        training = _task("fit", _task("pretraining", 2 * _task("layer")) + _task("final", training[1:-1]))
    assert recorder.calls == ["setup", *training, "teardown"]


def test_folds_are_a_training_before_the_final_one():
    recorder, angle = Recorder(), np.linspace(0, 2, 60)
    # An arc: one component that is not linear has a smaller error than PCA's.
    ae = AutoencoderTransformer(1, hidden_layer_sizes=(16,), penalties=[], max_iter=30, random_state=0)
    ae.set_callbacks(recorder).fit(np.column_stack([np.cos(angle), np.sin(angle)]))
    n_folds_epochs = recorder.calls.count("end folds-epoch")
    assert n_folds_epochs == ae.validation_epochs_[-1] and ae.n_iter_ > 1
    folds = _task("folds", n_folds_epochs * _task("folds-epoch"))
    final = _task("final", ae.n_iter_ * _task("epoch"))
    assert recorder.calls == ["setup", *_task("fit", folds + final), "teardown"]


def test_who_says_stop_while_folds_are_tried_ends_that_alone():
    class Stopping(Recorder):
        def on_fit_task_end(self, estimator, context, **given):
            super().on_fit_task_end(estimator, context, **given)
            return context.task_name == "folds-epoch" and self.calls.count("end folds-epoch") == n_epochs

    ae = clone(FREE["AutoencoderTransformer"]).set_params(early_stopping=True, max_iter=60, batch_size=1)
    n_epochs, recorder = 3, Stopping()
    ae.set_callbacks(recorder).fit(X)
    # With one row a batch every epoch has a look.
    assert ae.validation_epochs_ == [0, 1, 2, 3]
    assert recorder.calls.count("end epoch") <= 3 and recorder.calls.count("end folds-epoch") == 3


def test_restarts_one_after_the_other():
    recorder = Recorder()
    clone(FREE["AutoencoderTransformer"]).set_params(n_init=2, optimizer=LBFGS()).set_callbacks(recorder).fit(X)
    assert recorder.calls[1:-1] == _task("fit", 2 * _task("restart", N_EPOCHS * _task("epoch")))


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


# Composed of autoencoders ----------------------------------------------------------------------------

Y = np.arange(60) % 2
MEMBER = FREE["AutoencoderTransformer"]
STACK = FREE["StackedAE"]
# With the tasks of their fit.
COMPOSED = {
    "detector": (AutoencoderOutlierDetector(MEMBER, n_estimators=2, random_state=0), 2 * _task("member")),
    "imputer": (AutoencoderImputer(FREE["MaskedAE"], n_estimators=2, random_state=0), 2 * _task("member")),
    "classifier": (
        AutoencoderClassifier(STACK, max_iter=N_EPOCHS, early_stopping=False, random_state=0),
        _task("autoencoder") + _task("fine-tuning", N_EPOCHS * _task("epoch")),
    ),
}


class Reaching(Recorder):
    """Reaches the fits within a fit, as bars of progress do, and sees the path of tasks."""

    max_propagation_depth = None

    def __init__(self):
        super().__init__()
        self.paths = []

    def on_fit_task_end(self, estimator, context, **given):
        super().on_fit_task_end(estimator, context, **given)
        path = [context]
        while path[0].parent is not None:
            path.insert(0, path[0].parent)
        self.paths.append([(each.estimator_name, each.source_task_name or each.task_name) for each in path])


@pytest.mark.parametrize(("estimator", "inside"), **over(COMPOSED))
def test_the_tasks_of_what_is_composed_of_autoencoders(estimator, inside):
    recorder = Recorder()
    clone(estimator).set_callbacks(recorder).fit(X, Y)
    assert recorder.calls == ["setup", *_task("fit", inside), "teardown"]


def test_the_folds_of_a_classifier():
    recorder = Recorder()
    AutoencoderClassifier(MEMBER, max_iter=8, random_state=0).set_callbacks(recorder).fit(X, Y)
    n_epochs, n_folds_epochs = (recorder.calls.count(f"end {name}") for name in ("epoch", "folds-epoch"))
    # Held-out rows may say that no epoch is worth it; then there is no final training.
    final = _task("final", n_epochs * _task("epoch")) if n_epochs else []
    tuning = _task("fine-tuning", _task("folds", n_folds_epochs * _task("folds-epoch")) + final)
    assert n_folds_epochs > 0
    assert recorder.calls == ["setup", *_task("fit", _task("autoencoder") + tuning), "teardown"]


@pytest.mark.parametrize(
    ("estimator", "path"),
    [
        (COMPOSED["detector"][0], [("AutoencoderTransformer", "member"), ("AutoencoderTransformer", "epoch")]),
        (COMPOSED["imputer"][0], [("MaskedAE", "member"), ("MaskedAE", "epoch")]),
        (STACK, [("StackedAE", "pretraining"), ("Layer", "layer"), ("Layer", "epoch")]),
        (
            COMPOSED["classifier"][0],
            [("StackedAE", "autoencoder"), ("StackedAE", "pretraining"), ("Layer", "layer"), ("Layer", "epoch")],
        ),
        (COMPOSED["classifier"][0], [("AutoencoderClassifier", "fine-tuning"), ("AutoencoderClassifier", "epoch")]),
    ],
    ids=str,
)
def test_callbacks_that_are_propagated_see_the_epochs_within(estimator, path):
    recorder = Reaching()
    made = clone(estimator).set_callbacks(recorder).fit(X, Y)
    assert [(type(made).__name__, "fit"), *path] in recorder.paths
    assert recorder.calls.count("setup") == recorder.calls.count("teardown") == 1
    begun = [call.split(" ", 1)[1] for call in recorder.calls if call.startswith("begin")]
    assert sorted(begun) == sorted(call.split(" ", 1)[1] for call in recorder.calls if call.startswith("end"))


@pytest.mark.parametrize("estimator", [each for each, _ in COMPOSED.values()], ids=list(COMPOSED))
def test_bars_of_what_is_composed_of_autoencoders(estimator, progress_bar, capfd):
    made = clone(estimator).set_callbacks(progress_bar).fit(X, Y)
    printed = "".join(capfd.readouterr())
    assert f"{type(made).__name__} - fit" in printed
    assert ("AutoencoderClassifier - autoencoder | " if hasattr(made, "autoencoder_") else " - member | ") in printed


@pytest.mark.parametrize("estimator", [each for each, _ in COMPOSED.values()], ids=list(COMPOSED))
def test_callbacks_do_not_change_what_is_composed_of_autoencoders(estimator):
    def outcome(made):
        made.fit(X, Y)
        if hasattr(made, "score_samples"):
            return made.score_samples(X)
        return made.predict_proba(X) if hasattr(made, "predict_proba") else made.transform(np.where(X < 0.3, np.nan, X))

    np.testing.assert_array_equal(
        outcome(clone(estimator).set_callbacks(Reaching(), Recorder())), outcome(clone(estimator))
    )


def test_a_fitted_detector_is_scored_and_stays_as_it_was():
    recorder, monitor = Recorder(), ScoringMonitor(scoring={"mean": lambda estimator, X, y: estimator.offset_})
    detector = clone(COMPOSED["detector"][0])
    detector.set_callbacks(monitor).fit(X)
    assert [(row["task_name"], row["mean"]) for row in monitor.get_logs().data] == [("fit", detector.offset_)]

    class Keeping(Recorder):
        def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
            self.kept = fitted_estimator

    keeping = Keeping()
    detector.set_callbacks(keeping).fit(X)
    before = detector.score_samples(X)
    detector.set_callbacks(recorder).partial_fit(X)
    assert recorder.calls == ["setup", *_task("fit", 2 * _task("member")), "teardown"]
    assert not np.array_equal(detector.score_samples(X), before)
    np.testing.assert_array_equal(keeping.kept.score_samples(X), before)


def test_fine_tuning_alone_is_torn_down():
    recorder = Recorder()
    fitted = clone(MEMBER).fit(X)
    classifier = AutoencoderClassifier(max_iter=N_EPOCHS, early_stopping=False).set_callbacks(recorder)
    classifier.fit_from(fitted, X, Y)
    assert recorder.calls == ["setup", *_task("fit", N_EPOCHS * _task("epoch")), "teardown"]


@pytest.mark.parametrize("estimator", [each for each, _ in COMPOSED.values()], ids=list(COMPOSED))
def test_a_propagated_callback_belongs_on_the_whole(estimator):
    inner = clone(estimator.autoencoder).set_callbacks(Reaching())
    with pytest.raises(TypeError, match="Register them directly on the meta-estimator"):
        clone(estimator).set_params(autoencoder=inner).fit(X, Y)


def test_other_callbacks_of_a_member_are_its_concern():
    recorder = Recorder()
    AutoencoderOutlierDetector(clone(MEMBER).set_callbacks(recorder), n_estimators=2, random_state=0).fit(X)
    assert recorder.calls == 2 * ["setup", *_task("fit", N_EPOCHS * _task("epoch")), "teardown"]


def test_members_without_callbacks_are_tasks_as_others_are():
    class Components(PCA):
        def reconstruct(self, X):
            return self.inverse_transform(self.transform(X))

    recorder = Reaching()
    AutoencoderOutlierDetector(Components(2), n_estimators=2, random_state=0).set_callbacks(recorder).fit(X)
    assert recorder.calls == ["setup", *_task("fit", 2 * _task("member")), "teardown"]


def test_a_member_that_fails_is_torn_down():
    class FailingMember(Reaching):
        def on_fit_task_begin(self, estimator, context, **given):
            super().on_fit_task_begin(estimator, context, **given)
            if self.calls.count("begin epoch") == N_EPOCHS + 2:
                raise Failure

    detector = clone(COMPOSED["detector"][0]).fit(X)
    before, failing = detector.score_samples(X), FailingMember()
    with pytest.raises(Failure):
        detector.set_callbacks(failing).fit(X[:40])
    assert failing.calls[-1] == "teardown"
    np.testing.assert_array_equal(detector.score_samples(X), before)
