"""Captured steps: how batches reach them, with a graph that calls what it captured."""

import contextlib

import numpy as np
import pytest
import torch
from registry import LIKELIHOODS, over, real, scaling_of
from sklearn.base import clone

from skae import SGD, VAE, AdamW, AutoencoderTransformer, DenoisingAE, DenseNetwork, Masking
from skae.training.batches import Batch
from skae.training.graphs import WARM_UP, CapturedStep
from skae.training.trainer import Trainer

P = 5
FREE = {"hidden_layer_sizes": (6,), "early_stopping": False, "max_iter": 6, "batch_size": 16, "random_state": 0}


class _Replay:
    """A graph that captures a call by keeping it."""

    made = 0

    def __init__(self, source):
        _Replay.made += 1

    @classmethod
    def warm_up(cls):
        return contextlib.nullcontext()

    def capture(self, call):
        self.replay = call


class _Broken(_Replay):
    def capture(self, call):
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("same", [True, False], ids=["same", "target"])
def test_replays_see_each_batch(same):
    seen = []
    captured = CapturedStep(lambda batch: seen.append((batch.input.clone(), batch.target.clone())), None, _Replay)
    batches = []
    for index in range(WARM_UP + 4):
        x = torch.full((3, 2), float(index))
        batches.append(Batch(x, x if same else x + 0.5, None, torch.ones(3)))
        captured(batches[-1])
    for (x, target), batch in zip(seen, batches, strict=True):
        torch.testing.assert_close(x, batch.input)
        torch.testing.assert_close(target, batch.target)
    assert len(captured._captured) == 1
    captured(Batch(torch.zeros(2, 2), torch.zeros(2, 2), None, None))
    assert len(captured._captured) == 1 and len(seen) == len(batches) + 1


def test_what_cannot_be_captured_runs_as_usual():
    seen = []
    captured = CapturedStep(seen.append, None, _Broken)
    for _ in range(WARM_UP + 3):
        captured(Batch(torch.zeros(2, 2), torch.zeros(2, 2), None, None))
    assert len(seen) == WARM_UP + 3 and "not permitted" in captured.failure


@pytest.mark.parametrize(
    "ae",
    [
        AutoencoderTransformer(2, **FREE),
        AutoencoderTransformer(2, n_init=2, **FREE),
        AutoencoderTransformer(2, **FREE | {"network": DenseNetwork((6,), tied=True)}),
        DenoisingAE(2, corruption=Masking(0.3), conditioning="mask", **FREE),
        VAE(2, kl_warm_up=0.5, **FREE),
        VAE(2, kl_warm_up=0.5, n_importance_samples=3, optimizer=AdamW(schedule="linear"), **FREE),
    ],
    ids=lambda ae: type(ae).__name__,
)
def test_training_is_the_same(ae, monkeypatch):
    X = np.where(np.random.default_rng(0).random((70, P)) < 0.1, np.nan, real(70, P))
    expected = clone(ae).fit(X)
    inside, before = Trainer.__init__, _Replay.made

    def init(self, *args):
        inside(self, *args)
        self._capture(_Replay)

    monkeypatch.setattr(Trainer, "__init__", init)
    made = clone(ae).fit(X)
    assert _Replay.made > before
    np.testing.assert_allclose(made.loss_curve_, expected.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(made.score(X), expected.score(X), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("optimizer", [AdamW(compile=True), SGD(compile=True)], ids=str)
def test_compiled_networks_train_the_same(optimizer):
    X = real(70, P)
    ae = AutoencoderTransformer(2, optimizer=optimizer, **FREE)
    plain = clone(ae).set_params(optimizer__compile=False).fit(X)
    compiled = clone(ae).fit(X)
    np.testing.assert_allclose(compiled.loss_curve_, plain.loss_curve_, rtol=1e-4)
    assert compiled.model_.encoder._compiled_call_impl is None


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_constants_that_inference_met_first_serve_a_training(example):
    """Autograd refuses tensors made in inference mode, so none may be kept."""
    scaling = scaling_of(example.rows(20, P), example.part)
    with torch.inference_mode():
        scaling.units(torch.zeros(1))
    assert not any(constant.is_inference() for constant in scaling.units(torch.zeros(1)))
