"""Whatever a fit hands over is finite, or it raises; held-out losses that are no numbers choose nothing."""

import types

import numpy as np
import pytest
import torch
from registry import ESTIMATORS, assert_same_state, over, real, shares, state_of, with_parameters
from sklearn.base import clone

from skae import GAN, LBFGS, SGD, VAE, AdamW, AutoencoderClassifier, AutoencoderTransformer, EarlyStopping, StackedAE
from skae.training import early_stopping
from skae.training.early_stopping import best_length
from skae.training.trainer import History, Trainer

P = 4
CASES = {**ESTIMATORS, "GAN": GAN(2, hidden_layer_sizes=(8,), max_iter=3, random_state=0)}
OPTIMIZERS = [SGD(clip_norm=None), AdamW(precision="bfloat16")]
MODES = {"fit": {}, "partial_fit": {}, "restarts": {"n_init": 2}, "folds": {"early_stopping": EarlyStopping(n_folds=2)}}


def results(ae):
    """All that the methods of a fitted estimator return."""
    X = shares(40, P)
    gaps = X.copy()
    gaps[::3, 1] = np.nan
    made = [getattr(ae, name)(X) for name in ("transform", "reconstruct", "score_samples") if hasattr(ae, name)]
    # Not the walk of a hundred steps by which `DenoisingAE` draws rows.
    made += [ae.sample(30, random_state=0)] if hasattr(ae, "sample") and not hasattr(ae, "corruption") else []
    if hasattr(ae, "complete"):
        made += [ae.complete(gaps, n_samples=50, random_state=0), ae.sample_completions(gaps, n_samples=50)]
    return made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("estimator", **over(CASES))
def test_a_fit_is_finite_or_raises(estimator, mode):
    X, n_raised = shares(60, P), 0
    for optimizer in OPTIMIZERS:
        for learning_rate in (1e3, 1e30):
            options = {"optimizer": optimizer, "learning_rate": learning_rate, "max_iter": 1, "early_stopping": False}
            ae = with_parameters(estimator, **{**options, **MODES[mode]})
            try:
                getattr(ae, "partial_fit" if mode == "partial_fit" else "fit")(X)
            except FloatingPointError as error:
                assert "diverges" in str(error) or "held-out" in str(error)
                assert not hasattr(ae, "model_")
                n_raised += 1
            else:
                assert all(np.isfinite(values).all() for values in results(ae))
                assert all(np.isfinite(values).all() for values in state_of(ae).values())
    # Of folds, the start is kept.
    assert n_raised > 0 or mode == "folds" or type(ae).__name__ in ("RBM", "MaskedAE", "LogisticPCA")


@pytest.fixture
def last_step_diverges(monkeypatch):
    """Weights are NaN after the last step: all losses were read before."""
    inside = Trainer._record

    def record(self, rows):
        inside(self, rows)
        if 0 < self.plan.n_epochs <= self.epoch + 1:
            for player in self.players:
                player.flat.values.fill_(torch.nan)

    monkeypatch.setattr(Trainer, "_record", record)


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(2, hidden_layer_sizes=(4,), early_stopping=False),
        AutoencoderTransformer(2, hidden_layer_sizes=(4,), early_stopping=False, n_init=3),
        AutoencoderTransformer(2, hidden_layer_sizes=(4,), early_stopping=False, optimizer=LBFGS()),
        VAE(2, hidden_layer_sizes=(4,), early_stopping=False, batch_size=13),
        StackedAE(2, hidden_layer_sizes=(4,), pretraining_iter=1, max_iter=0),
        StackedAE(2, hidden_layer_sizes=(4,), pretraining_iter=1, early_stopping=False, layer="rbm"),
        GAN(2, hidden_layer_sizes=(4,)),
    ],
    ids=str,
)
def test_a_last_step_that_diverges(estimator, last_step_diverges):
    ae = clone(estimator)
    if ae.max_iter == "auto":
        ae.set_params(max_iter=2)
    for method in ("fit", "partial_fit"):
        with pytest.raises(FloatingPointError, match="not finite after [12] epochs: training diverges"):
            getattr(clone(ae), method)(real(60, P))


def test_held_out_rows_restore_the_weights_before(last_step_diverges):
    ae = VAE(2, hidden_layer_sizes=(4,), early_stopping=EarlyStopping(n_folds=0), max_iter=20, random_state=0)
    assert all(np.isfinite(values).all() for values in results(ae.fit(shares(200, P))))


def test_a_classifier_whose_last_step_diverges(last_step_diverges, monkeypatch):
    X = real(60, P)
    start = AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0).fit(X)
    with pytest.raises(FloatingPointError, match="training diverges"):
        AutoencoderClassifier(max_iter=2, early_stopping=False).fit_from(start, X, np.arange(60) % 2)


def test_what_was_learnt_before_stays(monkeypatch, request):
    X = shares(60, P)
    going_on = AutoencoderTransformer(2, hidden_layer_sizes=(4,), early_stopping=False, max_iter=2, random_state=0)
    going_on.set_params(warm_start=True).fit(X).partial_fit(X)
    before, codes = clone(going_on).fit(X).partial_fit(X), going_on.transform(X)
    request.getfixturevalue("last_step_diverges")
    for method in ("fit", "partial_fit"):
        with pytest.raises(FloatingPointError, match="training diverges"):
            getattr(going_on, method)(X)
        assert_same_state(before, going_on)
        np.testing.assert_array_equal(going_on.transform(X), codes)


# The choice of epochs ------------------------------------------------------------------------


def length_of(monkeypatch, looks, patience=10):
    """What `best_length` returns where these are the losses of two rows at each look, an epoch apart."""
    looks = iter(looks)

    def row_losses(model, held, batch_size):
        losses = torch.tensor(next(looks), dtype=torch.float64)
        return losses, torch.zeros_like(losses), torch.ones_like(losses)

    monkeypatch.setattr(early_stopping, "row_losses", row_losses)
    plan = types.SimpleNamespace(batch_size=2, n_epochs=3, evaluate_every=1)
    trainer = types.SimpleNamespace(plan=plan, models=[None], run_epoch=lambda rows: None)
    return best_length([(trainer, None, [None])], patience)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("looks", "length"),
    [
        ([[9, 9], [5, 5], [1, 1], [2, 2]], 2),
        ([[9, 9], [5, 5], [1, 1], [NAN, 1]], 2),
        ([[9, 9], [NAN, 5], [1, 1], [2, 2]], 2),
        ([[INF, 9], [5, 5], [1, 1], [INF, INF]], 2),
        ([[NAN, NAN], [5, 5], [INF, 1], [NAN, 2]], 1),
        ([[3, 3], [NAN, 5], [INF, -INF], [INF, INF]], 0),
        ([[NAN, NAN], [NAN, 5], [INF, INF], [4, 4]], 3),
    ],
)
def test_looks_that_are_no_numbers_are_not_chosen(looks, length, monkeypatch):
    assert length_of(monkeypatch, looks)[0] == length


def test_patience_counts_looks_that_are_no_numbers(monkeypatch):
    length, curve = length_of(monkeypatch, [[3, 3], [NAN, NAN], [INF, INF], [1, 1]], patience=2)
    assert length == 0 and len(curve) == 3


def test_no_look_is_a_number(monkeypatch):
    with pytest.raises(FloatingPointError, match="loss of held-out rows is nan at the start and at all 4 looks"):
        length_of(monkeypatch, 4 * [[NAN, 1]])


def test_the_best_of_restarts_has_a_loss_that_is_a_number():
    assert History([3.0], relative_loss=[NAN, 2.0, INF]).final_loss == 2.0
    assert History([3.0], relative_loss=[NAN, INF]).final_loss == INF
    assert History([3.0, 1.0]).final_loss == 1.0
