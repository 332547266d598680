"""On a CUDA device: the same losses, and models that go where there is none."""

import pickle

import numpy as np
import pytest
import torch
from registry import (
    CORRUPTIONS,
    ESTIMATORS,
    LIKELIHOODS,
    NETWORKS,
    OPTIMIZERS,
    PENALTIES,
    assert_same_state,
    over,
    real,
    shares,
)
from sklearn.base import clone

from skae import SGD, VAE, AdamW, AutoencoderTransformer, DenoisingAE, EarlyStopping
from skae.training.graphs import CapturedStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
P = 6
FREE = {"hidden_layer_sizes": (8,), "early_stopping": False, "random_state": 0, "max_iter": 4, "device": "cuda"}


def _is_on_cuda(ae):
    return {parameter.device.type for parameter in ae.model_.parameters()} == {"cuda"}


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_every_class_fits_there(estimator):
    X = shares(200, P)
    on_gpu = clone(estimator).set_params(device="cuda").fit(X)
    assert _is_on_cuda(on_gpu)
    assert np.isfinite(on_gpu.loss_curve_).all()
    for made in (
        on_gpu.transform(X),
        on_gpu.reconstruct(X),
        on_gpu.score_samples(X),
        on_gpu.partial_fit(X).transform(X),
    ):
        assert isinstance(made, np.ndarray) and np.isfinite(made).all()
    assert_same_state(clone(on_gpu).fit(X), clone(on_gpu).fit(X))


def test_auto_takes_it_for_large_steps():
    assert not _is_on_cuda(AutoencoderTransformer(2, max_iter=1).fit(real(60, P)))
    large = AutoencoderTransformer(2, hidden_layer_sizes=(2000, 2000), max_iter=1, batch_size=60)
    assert _is_on_cuda(large.fit(real(60, P)))


def test_the_losses_are_those_of_the_cpu():
    """One batch and no noise: only rounding differs."""
    X = real(200, P)
    ae = AutoencoderTransformer(2, batch_size=200, **FREE)
    on_gpu, on_cpu = clone(ae).fit(X), clone(ae).set_params(device="cpu").fit(X)
    np.testing.assert_allclose(on_gpu.loss_curve_, on_cpu.loss_curve_, rtol=1e-3)
    np.testing.assert_allclose(on_gpu.transform(X), on_cpu.transform(X), atol=0.02 * X.std())


@pytest.mark.parametrize("part", [*CORRUPTIONS.values(), *PENALTIES.values(), *NETWORKS.values()], ids=str)
def test_every_part_works_there(part):
    X = real(100, P)
    if part in CORRUPTIONS.values():
        ae = DenoisingAE(2, corruption=part, **FREE)
    elif part in PENALTIES.values():
        ae = AutoencoderTransformer(2, penalties=[part], **FREE)
    else:
        ae = AutoencoderTransformer(2, network=part, **FREE)
    for early_stopping in (False, EarlyStopping(n_folds=0), EarlyStopping(n_folds=2)):
        assert _is_on_cuda(clone(ae).set_params(early_stopping=early_stopping).fit(X))


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_every_likelihood_works_there(example):
    X = example.rows(100, P)
    vae = VAE(2, likelihood=example.part, **FREE).fit(X)
    assert np.isfinite(vae.score_samples(X)).all()
    assert vae.sample(5, random_state=0).shape == (5, P)


@pytest.mark.parametrize("optimizer", **over(OPTIMIZERS))
def test_every_optimizer_works_there(optimizer):
    ae = AutoencoderTransformer(2, optimizer=optimizer, batch_size=50, **FREE).fit(real(100, P))
    assert ae.loss_curve_[-1] < ae.loss_curve_[0]


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_pickles_load_on_a_machine_without_it(estimator, monkeypatch):
    X = shares(100, P)
    ae = clone(estimator).set_params(device="cuda").fit(X)
    expected = ae.transform(X)
    dumped = pickle.dumps(ae)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = pickle.loads(dumped)
    assert {parameter.device.type for parameter in loaded.model_.parameters()} == {"cpu"}
    np.testing.assert_allclose(loaded.transform(X), expected, rtol=1e-4, atol=1e-4)
    assert np.isfinite(loaded.set_params(device="cpu").partial_fit(X).transform(X)).all()


@pytest.mark.parametrize("optimizer", [AdamW(precision="bfloat16"), SGD(precision="bfloat16")], ids=str)
def test_bfloat16_stays_near_float32(optimizer):
    X = real(400, P)
    exact = AutoencoderTransformer(2, optimizer=clone(optimizer).set_params(precision="float32"), **FREE).fit(X)
    rough = AutoencoderTransformer(2, optimizer=optimizer, **FREE).fit(X)
    assert next(rough.model_.parameters()).dtype == torch.float32
    np.testing.assert_allclose(rough.loss_curve_, exact.loss_curve_, rtol=0.05)


def test_tf32_stays_near_float32_and_is_put_back():
    before = torch.backends.cuda.matmul.fp32_precision
    X = real(400, P)
    exact, rough = (AutoencoderTransformer(2, optimizer=AdamW(precision=p), **FREE).fit(X) for p in ("float32", "tf32"))
    np.testing.assert_allclose(rough.loss_curve_, exact.loss_curve_, rtol=0.01)
    assert torch.backends.cuda.matmul.fp32_precision == before


@pytest.mark.parametrize(
    "ae",
    [
        AutoencoderTransformer(2, batch_size=32, **FREE),
        AutoencoderTransformer(2, batch_size=32, n_init=3, **FREE),
        AutoencoderTransformer(2, batch_size=32, optimizer=AdamW(precision="bfloat16"), **FREE),
        AutoencoderTransformer(2, batch_size=32, **FREE | {"network": NETWORKS["dropout"]}),
        AutoencoderTransformer(2, batch_size=32, penalties=[PENALTIES["contraction"]], **FREE),
        DenoisingAE(2, batch_size=32, corruption=CORRUPTIONS["masking"], conditioning="mask", **FREE),
        VAE(2, batch_size=32, kl_warm_up=0.5, **FREE),
        VAE(2, batch_size=32, n_importance_samples=3, **FREE),
    ],
    ids=str,
)
def test_steps_are_captured_and_train_as_steps_that_are_not(ae, monkeypatch):
    X, captured = real(300, P), []
    inside = CapturedStep._capture

    def capture(self, *args):
        captured.append(inside(self, *args))
        return captured[-1]

    monkeypatch.setattr(CapturedStep, "_capture", capture)
    made = clone(ae).fit(X)
    assert captured and all(captured)
    assert_same_state(made, clone(ae).fit(X))
    monkeypatch.setattr(CapturedStep, "_capture", lambda *args: False)
    # What is random comes in another order from a graph, so that losses agree and weights need not.
    np.testing.assert_allclose(made.loss_curve_, clone(ae).fit(X).loss_curve_, rtol=0.1)


def test_a_corruption_on_the_cpu_is_not_captured():
    ae = DenoisingAE(2, batch_size=32, corruption=CORRUPTIONS["callable"], **FREE).fit(real(300, P))
    assert np.isfinite(ae.loss_curve_).all()


def test_rows_that_do_not_fit_are_read_by_chunk(monkeypatch):
    X = real(300, P)
    ae = AutoencoderTransformer(2, batch_size=32, **FREE)
    expected = clone(ae).fit(X)
    monkeypatch.setattr("skae.training.batches.resident_limit", lambda device: 0)
    np.testing.assert_allclose(clone(ae).fit(X).loss_curve_, expected.loss_curve_, rtol=1e-4)


def test_nothing_global_moves(nothing_global_changed):
    before = torch.cuda.get_rng_state()
    DenoisingAE(2, **FREE).fit(real(100, P)).sample(3, random_state=0)
    assert torch.equal(before, torch.cuda.get_rng_state())
