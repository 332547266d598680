"""How the loss is minimised: optimizers, schedules, stopping, training in pieces."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from registry import ESTIMATORS, OPTIMIZERS, assert_same_state, generator, over, real, shares, state_of, with_parameters
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import LBFGS, SGD, VAE, AdamW, AutoencoderTransformer, DenoisingAE, DenseNetwork, EarlyStopping, LaplaceCode
from skae.model.threads import threads
from skae.training.device import resolve_device
from skae.training.optimizers import SCHEDULES, FlatParameters, Updates
from skae.training.trainer import Trainer

P = 5
FREE = {"hidden_layer_sizes": (8,), "early_stopping": False, "random_state": 0}


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize("optimizer", **over(OPTIMIZERS))
def test_every_optimizer_lowers_the_loss(optimizer, init):
    X = real(120, P)
    ae = AutoencoderTransformer(2, optimizer=clone(optimizer), init=init, max_iter=10, batch_size=40, **FREE).fit(X)
    assert ae.loss_curve_[-1] < ae.loss_curve_[0]


@pytest.mark.parametrize("optimizer", **over(OPTIMIZERS))
@pytest.mark.parametrize("estimator", [VAE, DenoisingAE])
def test_every_optimizer_lowers_a_random_loss(estimator, optimizer):
    for seed in range(3):
        X = real(120, P, seed)
        ae = estimator(2, optimizer=clone(optimizer), init="random", max_iter=20, batch_size=40, **FREE).fit(X)
        assert np.mean(ae.loss_curve_[-5:]) < ae.loss_curve_[0]


def test_lbfgs_bears_noise_that_changes_from_epoch_to_epoch():
    """Curvature of the last epoch's noise would send some of these to infinity."""
    for seed in range(5):
        vae = VAE(2, optimizer="lbfgs", max_iter=20, **FREE).fit(real(120, P, seed))
        assert np.isfinite(vae.loss_curve_).all()


def test_lbfgs_goes_lower_than_first_order_methods_on_few_rows():
    X = real(60, P)
    options = FREE | {"max_iter": 20, "batch_size": 60}
    last = {name: AutoencoderTransformer(2, optimizer=name, **options).fit(X).loss_curve_[-1] for name in OPTIMIZERS}
    assert last["lbfgs"] < min(last["adamw"], last["sgd"])


@pytest.mark.parametrize("estimator", [VAE, DenoisingAE])
def test_a_line_search_sees_one_noise(estimator, monkeypatch):
    states = []
    inside = Trainer._accumulate

    def accumulate(self, *args):
        states.append(self.generator.get_state())
        inside(self, *args)

    monkeypatch.setattr(Trainer, "_accumulate", accumulate)
    estimator(2, optimizer="lbfgs", **FREE | {"max_iter": 1}).fit(real(60, P))
    assert len(states) > 3 and all(torch.equal(state, states[0]) for state in states)


def test_adamw_is_torchs_adamw():
    """Three full-batch steps of constant rate, by hand."""
    X = real(50, P)
    optimizer = AdamW(schedule="constant", weight_decay=0.1, betas=(0.8, 0.95), eps=1e-3)
    ae = AutoencoderTransformer(
        2, network=DenseNetwork((4,), "tanh"), init="random", optimizer=optimizer, batch_size=50, learning_rate=0.01
    ).set_params(early_stopping=False, random_state=0)
    start, end = clone(ae).set_params(max_iter=1, learning_rate=1e-30).fit(X), clone(ae).set_params(max_iter=3).fit(X)
    model = start.model_
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    by_hand = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)
    x, _ = model.scaling.input(torch.tensor(X, dtype=torch.float32))
    unit = float(model.scaling.columns.spread)
    for _ in range(3):
        by_hand.zero_grad()
        rebuilt = model.decoder(model.encoder(x))
        (0.5 * (x - rebuilt).square().sum(1).mean() * unit**2 * model.loss_scale).backward()
        by_hand.step()
    for name, values in state_of(start).items():
        np.testing.assert_allclose(state_of(end)[name], values, rtol=1e-4, atol=2e-6, err_msg=name)


def test_schedules():
    assert [SCHEDULES["constant"](p) for p in (0, 0.5, 1)] == [1, 1, 1]
    assert [SCHEDULES["linear"](p) for p in (0, 0.5, 1)] == [1, 0.5, 0]
    assert [SCHEDULES["cosine"](p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_follows_the_schedule(schedule, monkeypatch):
    rates = []
    inside = Updates.step

    def step(self, rate):
        inside(self, rate)
        rates.extend(group["lr"] for group in self.optimizer.param_groups[:1])

    monkeypatch.setattr(Updates, "step", step)
    options = FREE | {"max_iter": 5, "batch_size": 20, "learning_rate": 0.1}
    AutoencoderTransformer(2, optimizer=SGD(schedule=schedule), **options).fit(real(40, P))
    assert rates == pytest.approx([0.1 * SCHEDULES[schedule](k / 10) for k in range(10)])


def test_clipping_shortens_long_gradients_alone():
    for length, expected in ((10.0, 2.0), (1.0, 1.0), (0.0, 0.0)):
        gradient = torch.tensor([[0.6, 0.8], [0.0, 0.5]])
        gradient[0] *= length
        AdamW(clip_norm=2.0).clip(gradient)
        torch.testing.assert_close(gradient, torch.tensor([[0.6 * expected, 0.8 * expected], [0.0, 0.5]]))
    gradient = torch.tensor([[30.0]])
    AdamW().clip(gradient)
    assert gradient.item() == 30


def test_a_clipped_step_is_no_longer_than_the_rate():
    X = 100 * real(50, P)
    options = FREE | {"max_iter": 1, "batch_size": 50, "init": "random"}
    ae = AutoencoderTransformer(2, optimizer=SGD(momentum=0, clip_norm=0.1, schedule="constant"), **options)
    start = state_of(clone(ae).set_params(learning_rate=1e-30).fit(X))
    end = state_of(clone(ae).set_params(learning_rate=0.5).fit(X))
    moved = np.sqrt(sum(((end[name] - start[name]) ** 2).sum() for name in start))
    assert moved == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("part", [AdamW(weight_decay=50.0), SGD(weight_decay=50.0)], ids=str)
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAE])
def test_only_the_networks_weights_decay(part, estimator, monkeypatch):
    """With gradients of zero, decay alone moves what it applies to."""
    monkeypatch.setattr(type(part), "clip", lambda self, gradient: gradient.zero_())
    options = FREE | {"max_iter": 2, "batch_size": 20}
    X = real(40, P)
    for init in ("pca", "random"):
        ae = estimator(2, init=init, optimizer=part, **options)
        start = clone(ae).set_params(max_iter=1, learning_rate=1e-30).fit(X)
        end = state_of(ae.fit(X))
        matrices = {n for n, p in start.model_.named_parameters() if p.ndim > 1 and ".linear." not in f".{n}"}
        assert len(matrices) == 4
        for name, values in state_of(start).items():
            if name in matrices and values.any():
                assert (np.abs(end[name]) <= np.abs(values)).all() and not np.array_equal(end[name], values), name
            else:
                np.testing.assert_array_equal(end[name], values, err_msg=name)


def test_flat_parameters_are_views_until_released():
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator())) for shape in ((3, 2), (3,)) * 2]
    before = [w.detach().clone() for w in weights]
    flat = FlatParameters([weights[:2], weights[2:]], lambda p: p.ndim > 1)
    assert flat.values.shape == (2, 32)
    assert flat.parts(0.1) == [(slice(0, 16), 0.1, 1.0), (slice(16, 32), 0.0, 1.0)]
    assert flat.parts(0.0) == [(slice(0, 32), 0.0, 1.0)]
    values, gradient = flat.of(weights[0])
    torch.testing.assert_close(values, torch.stack([before[0], before[2]]))
    gradient.fill_(1)
    assert all((weight.grad == (weight.ndim > 1)).all() for weight in weights)
    flat.values.mul_(2)
    flat.release()
    flat.values.zero_()
    for weight, old in zip(weights, before, strict=True):
        torch.testing.assert_close(weight.detach(), 2 * old)


def test_linear_paths_go_at_the_pace_of_what_pca_leaves():
    """A column of huge variance: steps of the usual size would exceed what is left many times over."""
    X = real(200, P) * np.array([1.0, 1.0, 1.0, 1.0, 1e5])
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(16,), max_iter=30, early_stopping=False, random_state=0).fit(X)
    start = PCA(2).fit(X)
    error = np.square(X - start.inverse_transform(start.transform(X))).sum(1).mean()
    assert float(ae.model_.decoder.linear.pace) < 1e-4
    losses = 2 * (np.array(ae.loss_curve_) - 0.5 * P * np.log(2 * np.pi))
    assert losses.max() < 1.5 * error and losses[-1] < 1.001 * error


# Stopping --------------------------------------------------------------------------------------


def _held_out_loss(ae, X):
    return -ae.score(X)


def test_the_best_weights_are_restored(monkeypatch):
    kept = []
    inside = Trainer.run

    def run(self, rows, validation, *hooks):
        kept.append(validation[0].raw.take(slice(None)).numpy())
        return inside(self, rows, validation, *hooks)

    monkeypatch.setattr(Trainer, "run", run)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 10))
    stopping = EarlyStopping(0.3, patience=200, n_folds=0)
    ae = AutoencoderTransformer(
        3, hidden_layer_sizes=(64,), max_iter=60, learning_rate=0.01, early_stopping=stopping, random_state=0
    ).fit(X)
    curve = ae.validation_loss_curve_
    assert len(kept[0]) == 36 and min(curve) < curve[-1] - 1e-3
    assert _held_out_loss(ae, kept[0]) == pytest.approx(min(curve), rel=1e-5)


def test_patience_ends_the_training():
    X = np.random.default_rng(0).standard_normal((120, 10))
    options = {"hidden_layer_sizes": (64,), "max_iter": 2000, "learning_rate": 0.01, "random_state": 0}
    ae = AutoencoderTransformer(3, early_stopping=EarlyStopping(patience=3, n_folds=0), **options).fit(X)
    best = int(np.argmin(ae.validation_loss_curve_))
    assert len(ae.validation_loss_curve_) == best + 4 and ae.n_iter_ < 2000


@pytest.mark.parametrize("n_folds", [0, 2, 5])
def test_noise_is_not_learnt(n_folds):
    """Rows without structure: training cannot help those held out, so the guard keeps the start."""
    rng = np.random.default_rng(0)
    X, fresh = rng.standard_normal((150, 10)), rng.standard_normal((1000, 10))
    options = {"hidden_layer_sizes": (64,), "max_iter": 100, "learning_rate": 0.01, "random_state": 0}
    options["optimizer"] = AdamW(weight_decay=0.0)
    guarded = AutoencoderTransformer(3, early_stopping=EarlyStopping(n_folds=n_folds), **options).fit(X)
    start = AutoencoderTransformer(3, hidden_layer_sizes=()).fit(X)
    free = AutoencoderTransformer(3, early_stopping=False, **options).fit(X)
    assert guarded.score(fresh) > free.score(fresh) + 0.1
    assert guarded.score(fresh) > start.score(fresh) - 0.1


def test_few_rows_stay_at_the_start():
    X = real(30, P)
    ae = AutoencoderTransformer(2, random_state=0).fit(X)
    linear = AutoencoderTransformer(2, hidden_layer_sizes=(), random_state=0).fit(X)
    np.testing.assert_allclose(ae.reconstruct(X), linear.reconstruct(X), atol=1e-4)


def test_without_a_guard_nothing_is_held_out():
    ae = AutoencoderTransformer(2, max_iter=7, **FREE).fit(real(60, P))
    assert ae.validation_loss_curve_ == [] and ae.n_iter_ == len(ae.loss_curve_) == 7


def test_auto_is_a_budget_in_steps():
    for n in (60, 600, 1500):
        ae = AutoencoderTransformer(2, optimizer=SGD(), **FREE)
        steps = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SGD, "clip", lambda self, gradient, steps=steps: steps.append(1))
            ae.fit(real(n, 3))
        assert 1950 <= len(steps) <= 20000
        assert len(steps) % ae.n_iter_ == 0


# In pieces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_partial_fit_learns_chunk_by_chunk(estimator):
    X = shares(400, P)
    ae = clone(estimator).set_params(learning_rate=0.01, optimizer="adamw")
    first = clone(ae).partial_fit(X[:200]).score(X)
    for _ in range(30):
        for chunk in np.split(X, 4):
            ae.partial_fit(chunk)
    assert ae.score(X) > first
    assert ae.n_iter_ == len(ae.loss_curve_) == 120


def test_partial_fit_keeps_its_optimizer():
    """Two calls are two epochs of one training with a constant rate."""
    X = real(64, P).astype(np.float32)
    ae = AutoencoderTransformer(2, optimizer=AdamW(schedule="constant"), batch_size=64, max_iter=2, **FREE)
    whole = clone(ae).fit(X)
    pieces = clone(ae).partial_fit(X).partial_fit(X)
    np.testing.assert_allclose(pieces.loss_curve_, whole.loss_curve_, rtol=1e-6)
    assert_same_state(whole, pieces)


def test_partial_fit_goes_on_from_a_fit_and_a_fit_starts_over():
    X = real(100, P)
    ae = AutoencoderTransformer(2, max_iter=5, **FREE).fit(X)
    at_first, expected = ae.loss_curve_, clone(ae).fit(X)
    ae.partial_fit(X)
    assert ae.loss_curve_[:5] == at_first and len(ae.loss_curve_) == 6
    assert_same_state(ae.fit(X), expected)
    assert len(ae.loss_curve_) == 5


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_warm_start_goes_on(estimator):
    X = shares(100, P)
    ae = with_parameters(estimator, max_iter=20, early_stopping=False)
    cold = clone(ae).fit(X)
    warm = clone(ae).set_params(warm_start=True).fit(X)
    assert_same_state(cold, warm)
    score, start = warm.score(X), state_of(warm)
    warm.fit(X)
    assert warm.score(X) > score - 1e-3 * abs(score)
    moved = clone(ae).set_params(warm_start=True, learning_rate=1e-30)
    moved.fit(X).set_params(max_iter=1).fit(X)
    assert start.keys() == state_of(moved).keys()
    # A cold second fit forgets.
    assert_same_state(cold, cold.fit(X))


def test_a_linear_autoencoder_goes_on_to_other_rows():
    X, other = real(200, P), real(200, P, seed=1)
    ae = AutoencoderTransformer(2, warm_start=True, max_iter=30, **FREE | {"hidden_layer_sizes": ()}).fit(X)
    before = ae.score(other)
    assert ae.fit(other).score(other) > before


def test_terms_by_epoch():
    vae = VAE(2, max_iter=4, **FREE).fit(real(60, P))
    assert set(vae.loss_terms_) == {"negative_log_likelihood", "kl_divergence"}
    np.testing.assert_allclose(np.sum(list(vae.loss_terms_.values()), axis=0), vae.loss_curve_)


def test_bfloat16_stays_near_float32():
    X = real(100, P)
    ae = AutoencoderTransformer(2, max_iter=5, batch_size=25, **FREE)
    exact = clone(ae).fit(X)
    rough = ae.set_params(optimizer=AdamW(precision="bfloat16")).fit(X)
    assert next(rough.model_.parameters()).dtype == torch.float32
    np.testing.assert_allclose(rough.loss_curve_, exact.loss_curve_, rtol=0.05)
    assert not np.array_equal(rough.loss_curve_, exact.loss_curve_)


def test_penalties_and_lbfgs_go_together():
    ae = AutoencoderTransformer(2, optimizer=LBFGS(), penalties=[LaplaceCode(0.5)], max_iter=5, **FREE).fit(real(60, P))
    assert ae.loss_curve_[-1] < ae.loss_curve_[0]


def test_auto_takes_a_gpu_for_large_steps_alone(monkeypatch):
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto", 1e6) == torch.device("cpu")
    assert resolve_device("auto", 1e9) == resolve_device("auto") == torch.device("cuda")


def test_auto_goes_on_where_the_model_is(monkeypatch):
    X = real(60, P)
    options = FREE | {"hidden_layer_sizes": (2000, 2000), "batch_size": 60, "max_iter": 1}
    ae = AutoencoderTransformer(2, **options).fit(X)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ae.partial_fit(X)
    assert ae.model_.reference.device.type == "cpu"


@pytest.mark.parametrize("flops", [1e6, 1e9])
def test_threads_are_given_back(flops):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        with threads.for_work(flops):
            expected = 1 if flops < 3e7 else 4
            assert torch.get_num_threads() == expected
            for inner in (1e6, 1e9):
                # The outer one waits for the inner one, and goes on as before.
                with threads.for_work(inner):
                    assert torch.get_num_threads() == (1 if inner < 3e7 else 4)
                assert torch.get_num_threads() == expected
            with ThreadPoolExecutor(1) as pool:
                # Steps in another Python thread share the cores.
                assert pool.submit(_threads_for, flops).result() == (1 if flops < 3e7 else 2)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def _threads_for(flops):
    with threads.for_work(flops):
        return torch.get_num_threads()
