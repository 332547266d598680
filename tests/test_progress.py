"""`verbose`: lines from the first epoch on, by whoever trains, that say which training, how far and for how long."""

import pickle
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from registry import ESTIMATORS, over, shares
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import (
    GAN,
    LBFGS,
    VAE,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    EarlyStopping,
    MaskedAE,
    StackedAE,
)
from skae.training import progress
from skae.training.progress import Lines, Report, Task, seconds_left
from skae.training.trainer import Trainer

X = shares(60, 4)
Y = np.arange(60) % 2
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0}
PLAIN = AutoencoderTransformer(2, early_stopping=False, **SMALL)
STACK = StackedAE(2, hidden_layer_sizes=(5,), pretraining_iter=2, max_iter=2, early_stopping=False, random_state=0)
SEVERAL = {
    "detector": AutoencoderOutlierDetector(PLAIN, n_estimators=2, random_state=0),
    "imputer": AutoencoderImputer(MaskedAE(2, early_stopping=False, **SMALL), n_estimators=2, random_state=0),
    "classifier": AutoencoderClassifier(STACK, max_iter=3, random_state=0),
    "GAN": GAN(2, **SMALL),
    "restarts": clone(PLAIN).set_params(n_init=2),
    "restarts-one-by-one": clone(PLAIN).set_params(n_init=2, optimizer=LBFGS()),
}
LINE = re.compile(
    r"\[\w+\] (?:[\w ()-]+, )*epoch \d+(?: of \d+)?: loss [-\d.e+]+(?:, held-out loss [-\d.e+]+)?"
    r"(?:, \w+ [-\d.e+]+)*(?:, \d+ s left)?"
)
END = re.compile(r"\[\w+\] fitted in \d+\.\d s")


@pytest.fixture
def begun(monkeypatch):
    """The epochs that were begun, of models side by side together."""
    inside, begun = Trainer.run_epoch, []

    def run_epoch(self, rows):
        begun.append(1)
        inside(self, rows)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    return begun


@pytest.fixture
def seconds(monkeypatch):
    """Sets how many seconds pass between two looks at the clock."""

    def arm(step):
        now = [0.0]

        def monotonic():
            now[0] += step
            return now[0]

        monkeypatch.setattr(progress.time, "monotonic", monotonic)

    return arm


def _places(lines):
    return [line.split(":")[0] for line in lines if not END.fullmatch(line)]


@pytest.mark.parametrize("estimator", **over({**ESTIMATORS, **SEVERAL}))
def test_two_is_a_line_an_epoch(estimator, begun, capsys):
    fitted = clone(estimator).set_params(verbose=2).fit(X, Y)
    *lines, end = capsys.readouterr().out.splitlines()
    assert len(lines) == len(begun) and all(LINE.fullmatch(line) for line in lines)
    assert all(line.startswith(f"[{type(fitted).__name__}] ") for line in (*lines, end))
    assert END.fullmatch(end)


@pytest.mark.parametrize("estimator", **over({**ESTIMATORS, **SEVERAL}))
def test_zero_is_silent(estimator, capsys):
    clone(estimator).set_params(verbose=0).fit(X, Y)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("estimator", **over({**SEVERAL, "stack": STACK, "folds": PLAIN.set_params()}))
def test_one_prints_the_first_epoch_and_the_last(estimator, monkeypatch, capsys):
    printed, inside = [], Trainer.run_epoch

    def run_epoch(self, rows):
        printed.append(capsys.readouterr().out)
        inside(self, rows)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    clone(estimator).set_params(verbose=1).fit(X, Y)
    assert printed[0] == "" and LINE.fullmatch(printed[1].strip())
    last, end = capsys.readouterr().out.splitlines()
    assert LINE.fullmatch(last) and END.fullmatch(end)


@pytest.mark.parametrize(("step", "epochs"), [(0.25, [1, 5, 9, 10]), (0.6, [1, 3, 5, 7, 9, 10]), (2, [*range(1, 11)])])
def test_one_is_a_line_a_second(step, epochs, seconds, capsys):
    seconds(step)
    clone(PLAIN).set_params(max_iter=10, verbose=1).fit(X)
    printed = _places(capsys.readouterr().out.splitlines())
    assert printed == [f"[AutoencoderTransformer] epoch {epoch} of 10" for epoch in epochs]


def test_numbers_are_those_of_the_fit(capsys):
    # With one row a batch every epoch has a look, and there is one before the first.
    vae = VAE(2, early_stopping=EarlyStopping(n_folds=0), batch_size=1, verbose=2, **SMALL).fit(X)
    for epoch, line in enumerate(capsys.readouterr().out.splitlines()[:3]):
        numbers = dict(re.findall(r"(\w[\w -]*?) (-?[\d.]+)(?=,|$)", line.split(": ")[1]))
        assert float(numbers["loss"]) == pytest.approx(vae.loss_curve_[epoch], rel=1e-5)
        assert float(numbers["held-out loss"]) == pytest.approx(vae.validation_loss_curve_[epoch + 1], rel=1e-5)
        for name, values in vae.loss_terms_.items():
            assert float(numbers[name]) == pytest.approx(values[epoch], rel=1e-5)


def test_numbers_of_folds(capsys):
    ae = clone(PLAIN).set_params(early_stopping=True, max_iter=30, verbose=2).fit(X)
    lines = [line for line in capsys.readouterr().out.splitlines() if "folds" in line]
    held_out = [float(re.search("held-out loss ([-\\d.]+)", line)[1]) for line in lines]
    looks = dict(zip(ae.validation_epochs_, ae.validation_loss_curve_, strict=True))
    assert len(looks) > 2
    for epoch, loss in enumerate(held_out, 1):
        # Between two looks the last one stands.
        assert loss == pytest.approx(looks[max(look for look in looks if look <= epoch)], rel=1e-5)


def test_the_best_of_restarts_side_by_side_is_printed(capsys):
    ae = clone(PLAIN).set_params(n_init=3, verbose=2).fit(X)
    last = capsys.readouterr().out.splitlines()[-2]
    assert float(re.search(" loss ([-\\d.]+)", last)[1]) == pytest.approx(ae.loss_curve_[-1], rel=1e-5)


@pytest.mark.parametrize(
    ("estimator", "places"),
    [
        (PLAIN, ["epoch 3 of 3"]),
        (clone(PLAIN).set_params(early_stopping=True, max_iter=2), ["folds, epoch 2 of 2"]),
        (clone(SEVERAL["restarts-one-by-one"]), ["restart 1 of 2, epoch 3 of 3", "restart 2 of 2, epoch 1 of 3"]),
        (STACK, ["pretraining, layer 1 of 2, epoch 2 of 2", "pretraining, layer 2 of 2, epoch 1 of 2"]),
        (STACK, ["final, epoch 2 of 2"]),
        (clone(STACK).set_params(layer="rbm"), ["pretraining, layer 1 of 2 (RBM), epoch 1 of 2"]),
        (clone(STACK).set_params(early_stopping=True), ["pretraining of fold 5, layer 2 of 2, epoch 1 of 2"]),
        (SEVERAL["detector"], ["member 1 of 2 (AutoencoderTransformer), epoch 3 of 3"]),
        (SEVERAL["imputer"], ["member 2 of 2 (MaskedAE), epoch 3 of 3"]),
        (SEVERAL["classifier"], ["autoencoder (StackedAE), pretraining, layer 1 of 2, epoch 1 of 2"]),
        (SEVERAL["classifier"], ["autoencoder (StackedAE), final, epoch 2 of 2", "fine-tuning, folds, epoch 1 of 3"]),
    ],
    ids=str,
)
def test_places(estimator, places, capsys):
    made = clone(estimator).set_params(verbose=2).fit(X, Y)
    printed = _places(capsys.readouterr().out.splitlines())
    assert {f"[{type(made).__name__}] {place}" for place in places} <= set(printed)


def test_in_a_search_and_a_pipeline(capsys):
    pipeline = make_pipeline(MinMaxScaler(), clone(PLAIN).set_params(verbose=2))
    GridSearchCV(pipeline, {"autoencodertransformer__n_components": [1, 2]}, cv=2).fit(X)
    places = _places(capsys.readouterr().out.splitlines())
    assert len(places) == 5 * 3 and all(place.startswith("[GridSearchCV] ") for place in places)
    assert places[-1].endswith("fit-final-estimator 2 of 2 (AutoencoderTransformer), epoch 3 of 3")


def test_who_is_asked_prints_and_the_parts_are_left_as_they_are(begun, capsys):
    inner = clone(PLAIN).set_params(verbose=2)
    for verbose in (0, 2):
        detector = clone(SEVERAL["detector"]).set_params(autoencoder=inner, verbose=verbose)
        begun.clear()
        detector.fit(X)
        printed = _places(capsys.readouterr().out.splitlines())
        assert len(printed) == len(begun)
        assert printed[0].startswith("[AutoencoderOutlierDetector] member 1 of 2")
        assert all(each.verbose == 2 for each in detector.estimators_)
    quiet = clone(SEVERAL["detector"]).set_params(verbose=1).fit(X)
    assert not any(each.verbose or hasattr(each, "_skl_callbacks") for each in (*quiet.estimators_, quiet.autoencoder))
    assert not hasattr(quiet, "_skl_callbacks")


def test_pieces_of_a_training(capsys):
    ae = clone(PLAIN).set_params(verbose=1)
    for _ in range(3):
        ae.partial_fit(X)
    assert _places(capsys.readouterr().out.splitlines()) == [
        "[AutoencoderTransformer] epoch 1 of 1",
        "[AutoencoderTransformer] epoch 2",
        "[AutoencoderTransformer] epoch 3",
    ]
    detector = clone(SEVERAL["detector"]).fit(X).set_params(verbose=2).partial_fit(X)
    assert len(_places(capsys.readouterr().out.splitlines())) == len(detector.estimators_)


class Components(PCA):
    """Stands for an autoencoder that neither has callbacks nor prints."""

    def reconstruct(self, X):
        return self.inverse_transform(self.transform(X))


def test_members_without_callbacks_print_nothing(capsys):
    detector = AutoencoderOutlierDetector(Components(2), n_estimators=2, verbose=2, random_state=0).fit(X)
    assert END.fullmatch(capsys.readouterr().out.strip()) and len(detector.estimators_) == 2


def test_a_failed_fit_leaves_no_lines_behind(capsys):
    class Failing(BaseEstimator):
        def fit(self, X):
            raise RuntimeError("deliberate")

        reconstruct = fit

    detector = AutoencoderOutlierDetector(Failing(), verbose=2)
    with pytest.raises(RuntimeError, match="deliberate"):
        detector.fit(X)
    assert not hasattr(detector, "_skl_callbacks")
    detector.set_params(verbose="much")
    with pytest.raises(ValueError, match="The 'verbose' parameter of AutoencoderOutlierDetector must be"):
        detector.fit(X)


# Seconds left ---------------------------------------------------------------------------------------


def _context(parent, task_id, max_subtasks, age):
    return SimpleNamespace(
        parent=parent, task_id=task_id, max_subtasks=max_subtasks, init_time=datetime.now(UTC) - timedelta(seconds=age)
    )


def test_the_seconds_left_are_those_of_all_that_is_to_come():
    # Two members took 20 s each; of the third, 5 of 10 epochs took 10 s: 10 s more, and 20 s for each of two others.
    fit = _context(None, 0, 5, 50)
    member = _context(fit, 2, 10, 10)
    assert seconds_left(_context(member, 4, 0, 2)) == pytest.approx(50, rel=0.01)
    assert seconds_left(_context(member, 9, 0, 2)) == pytest.approx(2 * 50 / 3, rel=0.01)
    fit.max_subtasks = 3
    assert seconds_left(_context(member, 9, 0, 2)) == 0


def test_no_seconds_left_where_there_is_no_base_for_them():
    assert seconds_left(_context(_context(None, 0, 100, 0.01), 0, 0, 0)) is None
    assert seconds_left(_context(_context(None, 0, None, 100), 7, 0, 0)) is None


def test_in_a_fit_of_an_unknown_number_of_tasks(capsys):
    class Rounds(CallbackSupportMixin, BaseEstimator):
        @with_callbacks
        def fit(self, X):
            task = Task.of_fit(self, X, None, None)
            ae = clone(PLAIN).set_params(verbose=2)
            with task, task.part("round").fit_of(ae):
                ae.fit(X)

    Rounds().fit(X)
    assert _places(capsys.readouterr().out.splitlines())[0] == "[Rounds] round (AutoencoderTransformer), epoch 1 of 3"


def test_lines_travel_to_other_processes():
    lines = Lines(1)
    lines.withheld = Report(1, 2.0).epoch
    assert vars(pickle.loads(pickle.dumps(lines))) == vars(lines)
