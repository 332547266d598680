"""Ctrl-C: a single training keeps the model so far; what trains several things stops at once, as if not begun.

`test_bad_input.py` interrupts the training of each class.
"""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from registry import ESTIMATORS, over, shares, with_parameters
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import (
    LBFGS,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    MaskedAE,
    StackedAE,
)
from skae.training.players import Player
from skae.training.trainer import Trainer

X = shares(60, 4)
Y = np.arange(60) % 2
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}
PLAIN = AutoencoderTransformer(2, early_stopping=False, **SMALL)
STACK = StackedAE(2, hidden_layer_sizes=(5, 4), pretraining_iter=4, max_iter=4, early_stopping=False, random_state=0)
# What trains several things, and how many epochs it has before the last of them.
SEVERAL = {
    "detector": (AutoencoderOutlierDetector(PLAIN, n_estimators=3, random_state=0), 12),
    "detector-of-several": (AutoencoderOutlierDetector([PLAIN, STACK], n_estimators=1, random_state=0), 20),
    "imputer": (AutoencoderImputer(MaskedAE(2, early_stopping=False, **SMALL), n_estimators=3, random_state=0), 12),
    "imputer-of-plain": (AutoencoderImputer(PLAIN, n_estimators=2, random_state=0), 8),
    "stack": (STACK, 12),
    "stack-of-rbms": (clone(STACK).set_params(layer="rbm"), 12),
    "classifier": (AutoencoderClassifier(STACK, max_iter=4, early_stopping=False, random_state=0), 16),
    "search": (GridSearchCV(PLAIN, {"n_components": [1, 2]}, cv=2), 20),
    "pipeline": (make_pipeline(MinMaxScaler(), PLAIN), 4),
    "search-of-pipelines": (
        GridSearchCV(make_pipeline(PLAIN), {"autoencodertransformer__n_components": [1]}, cv=2),
        12,
    ),
}
FOLDED = {
    name: estimator
    for name, estimator in ESTIMATORS.items()
    if estimator.get_params().get("early_stopping") and name != "StackedAE"
}


@pytest.fixture
def press(monkeypatch):
    """A function that lets the user press Ctrl-C in a certain epoch from now on; returns the epochs begun since."""
    inside, begun = Trainer.run_epoch, []

    def arm(epoch):
        def run_epoch(self, rows):
            begun.append(1)
            if len(begun) == epoch:
                raise KeyboardInterrupt
            inside(self, rows)

        begun.clear()
        monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
        return begun

    return arm


def _attributes(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def _assert_as_before(estimator, before):
    after = _attributes(estimator)
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)


def _tensors(ae):
    return [each.detach().numpy().copy() for each in (*ae.model_.parameters(), *ae.model_.buffers())]


# Several trainings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize(("estimator", "n_epochs"), **over(SEVERAL))
def test_it_stops_at_once_and_leaves_the_earlier_fit(estimator, n_epochs, which, press):
    # Of a stack and a classifier the last training is one of the whole, which the next test interrupts.
    last = n_epochs if isinstance(estimator, (StackedAE, AutoencoderClassifier, GridSearchCV)) else n_epochs - 1
    epoch = 2 if which == "first" else last
    fitted = clone(estimator).fit(X, Y)
    before = _attributes(fitted)
    for each in (fitted, clone(estimator)):
        begun = press(epoch)
        with pytest.raises(KeyboardInterrupt):
            each.fit(X[:50], Y[:50])
        assert len(begun) == epoch
    if not hasattr(estimator, "steps") and not isinstance(estimator, GridSearchCV):
        _assert_as_before(fitted, before)
        assert not _attributes(each)
    press(None)
    each.fit(X, Y)


@pytest.mark.parametrize(
    ("estimator", "n_before"),
    [(STACK, 12), (SEVERAL["classifier"][0], 16)],
    ids=["stack", "classifier"],
)
def test_the_fine_tuning_is_a_single_training(estimator, n_before, press):
    begun = press(n_before + 3)
    with pytest.warns(UserWarning, match="Training was interrupted in epoch 3; the model so far is kept"):
        made = clone(estimator).fit(X, Y)
    assert len(begun) == n_before + 3 and made.n_iter_ == 2
    assert len(made.predict(X) if hasattr(made, "predict") else made.transform(X)) == 60


def test_fine_tuning_by_a_fitted_stack_is_too(press):
    stack = clone(STACK).fit(X)
    press(2)
    with pytest.warns(UserWarning, match="Training was interrupted in epoch 2; the model so far is kept"):
        tuned = stack.fine_tune(X, Y, max_iter=4, early_stopping=False)
    assert tuned.n_iter_ == 1


@pytest.mark.parametrize("estimator", **over(FOLDED))
def test_while_folds_are_tried_there_is_no_model_to_keep(estimator, press):
    fitted = clone(estimator).fit(X)
    before = _attributes(fitted)
    press(2)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X[:55])
    _assert_as_before(fitted, before)
    press(2)
    fresh = clone(estimator)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X)
    with pytest.raises(NotFittedError):
        fresh.transform(X)


@pytest.mark.parametrize(("epoch", "n_trained"), [(1, 0), (3, 2), (5, 4), (6, 4)])
def test_restarts_one_after_the_other(epoch, n_trained, press):
    # A line search trains them so; the third is not begun, and one without an epoch is no candidate beside others.
    ae = clone(PLAIN).set_params(n_init=3, optimizer=LBFGS())
    begun = press(epoch)
    with pytest.warns(UserWarning, match=f"interrupted in epoch {1 + (epoch - 1) % 4}; the model so far is kept"):
        ae.fit(X)
    assert len(begun) == epoch and len(ae.loss_curve_) == max(1, min(n_trained, 4))
    press(None)
    alone = clone(ae).set_params(n_init=1).fit(X)
    if n_trained == 4:
        np.testing.assert_allclose(ae.loss_curve_[0], alone.loss_curve_[0])


# Pieces of a training ------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_a_pass_of_partial_fit_is_undone(estimator, monkeypatch):
    ae = with_parameters(estimator, batch_size=20).partial_fit(X)
    before, tensors, codes = _attributes(ae), _tensors(ae), ae.transform(X)
    inside, batches = Player.update, []

    def update(self):
        inside(self)
        batches.append(1)
        if len(batches) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Player, "update", update)
    for rows in (X, shares(60, 4, seed=1)):
        batches.clear()
        with pytest.raises(KeyboardInterrupt):
            ae.partial_fit(rows)
        _assert_as_before(ae, before)
        for one, other in zip(tensors, _tensors(ae), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ae.transform(X), codes)
    batches.clear()
    fresh = with_parameters(estimator, batch_size=20)
    with pytest.raises(KeyboardInterrupt):
        fresh.partial_fit(X)
    assert not _attributes(fresh)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_pass_of_a_detector_is_undone(epoch, press):
    detector = clone(SEVERAL["detector"][0]).fit(X).partial_fit(X[:20])
    before, scores, offset = _attributes(detector), detector.score_samples(X), detector.offset_
    begun = press(epoch)
    with pytest.raises(KeyboardInterrupt):
        detector.partial_fit(2 + X)
    assert len(begun) == epoch
    _assert_as_before(detector, before)
    assert detector.offset_ == offset
    np.testing.assert_array_equal(detector.score_samples(X), scores)


# A real one ----------------------------------------------------------------------------------------

PROGRAM = """
import sys, warnings
import numpy as np
from skae import AutoencoderOutlierDetector, AutoencoderTransformer
warnings.simplefilter("ignore")
X = np.random.default_rng(0).standard_normal((60, 4))
endless = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=10**6, early_stopping=False, verbose=1)
print("kept", endless.fit(X).transform(X).shape, flush=True)
detector = AutoencoderOutlierDetector(endless, n_estimators=5, verbose=1)
try:
    detector.fit(X)
except KeyboardInterrupt:
    print("stopped", hasattr(detector, "members_"), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_by_a_signal():
    import signal

    seen = []
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            seen.append(line)
            if "epoch 1 of" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert "kept (60, 2)\n" in seen
    assert seen[-1] == "stopped False\n"
    assert not any("member 2 of 5" in line for line in seen)


def test_without_one_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(PLAIN).fit(X)
