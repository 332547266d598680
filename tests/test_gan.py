"""GAN: rows that have the data's means, variances and modes."""

import pickle

import numpy as np
import pytest
import torch
from registry import assert_same_state, real, shares, state_of
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae import GAN, AdamW, ConvNetwork, DenseNetwork
from skae.model.adversarial import LOSSES, AdversarialLoss

SMALL = {"hidden_layer_sizes": (16,), "max_iter": 4, "random_state": 0}


@pytest.mark.parametrize("loss", LOSSES)
def test_means_and_covariances_of_a_table(loss):
    X = real(1000, 4)
    gan = GAN(4, loss=loss, hidden_layer_sizes=(32, 32), critic_steps=2, max_iter=60, random_state=0).fit(X)
    drawn = gan.sample(4000, random_state=0)
    # In units of the mean variance, as the critic sees rows.
    spread = np.sqrt(X.var(0).mean())
    assert np.abs(drawn.mean(0) - X.mean(0)).max() < 0.2 * spread
    assert np.abs(drawn.std(0) - X.std(0)).max() < 0.2 * spread
    assert np.abs(np.cov(drawn.T) - np.cov(X.T)).max() < 0.4 * spread**2


@pytest.mark.parametrize("loss", ["non_saturating", "minimax"])
def test_means_and_covariances_with_smooth_labels_and_noise(loss):
    X = real(1000, 4)
    gan = GAN(4, loss=loss, hidden_layer_sizes=(32, 32), critic_steps=2, max_iter=60, random_state=0)
    drawn = gan.set_params(label_smoothing=0.1, instance_noise=0.5).fit(X).sample(4000, random_state=0)
    spread = np.sqrt(X.var(0).mean())
    assert np.abs(drawn.mean(0) - X.mean(0)).max() < 0.2 * spread
    assert np.abs(drawn.std(0) - X.std(0)).max() < 0.2 * spread


def test_instance_noise_is_in_units_of_the_rows_and_falls_to_zero():
    model = GAN(2, instance_noise=0.5, **SMALL).fit(real(80, 4)).model_
    rows = torch.randn(20000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    observed = torch.ones_like(rows)
    observed[:, 0] = 0
    rows = rows * observed
    spread = float(rows.var(0).mean().sqrt())
    for progress in (0.0, 0.4, 1.0):
        step = model.step(rows, rows, observed, generator=torch.Generator().manual_seed(1), progress=progress)
        noise = step._noisy(rows) - rows
        assert (noise[:, 0] == 0).all()
        expected = torch.full((3,), 0.5 * (1 - progress) * spread)
        torch.testing.assert_close(noise[:, 1:].std(0), expected, rtol=0.03, atol=1e-6)


def three_classes(n, seed=0):
    """Rows around three centres, and which, as strings."""
    rng = np.random.default_rng(seed)
    index = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    centres = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    return centres[index] + 0.3 * rng.standard_normal((n, 2)), np.array(["a", "b", "c"])[index], centres


@pytest.mark.parametrize("loss", ["wasserstein", "non_saturating"])
def test_classes_are_drawn_as_asked(loss):
    X, y, centres = three_classes(1000)
    gan = GAN(2, conditional=True, loss=loss, hidden_layer_sizes=(32, 32), critic_steps=2, max_iter=60, random_state=0)
    gan.fit(X, y)
    assert list(gan.classes_) == ["a", "b", "c"]
    np.testing.assert_allclose(gan.class_prior_, [np.mean(y == each) for each in "abc"])
    for label, centre in zip("abc", centres, strict=True):
        assert np.abs(gan.sample(500, y=label, random_state=0).mean(0) - centre).max() < 0.5
    order = np.array(["c", "a"] * 200)
    drawn = gan.sample(400, y=order, random_state=0)
    near = np.linalg.norm(drawn[:, None] - centres, axis=2).argmin(1)
    assert (np.array(list("abc"))[near] == order).mean() > 0.95
    # Without a class, by the shares of the classes.
    near = np.linalg.norm(gan.sample(2000, random_state=0)[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_allclose(np.bincount(near, minlength=3) / 2000, gan.class_prior_, atol=0.05)
    again = pickle.loads(pickle.dumps(gan))
    np.testing.assert_array_equal(again.sample(5, y="b", random_state=0), gan.sample(5, y="b", random_state=0))


def test_the_score_of_a_row_is_the_mean_over_classes():
    X, y, _ = three_classes(90)
    gan = GAN(2, conditional=True, **SMALL).fit(X, y)
    model, rows = gan.model_, gan.model_.scaling.input(torch.tensor(X, dtype=torch.float32))[0]
    with torch.no_grad():
        logits = [model.critic(torch.cat([rows, row.expand(90, -1)], 1))[:, 0] for row in torch.eye(3)]
    expected = np.tensordot(gan.class_prior_, np.array([each.numpy() for each in logits]), 1)
    np.testing.assert_allclose(gan.score_samples(X.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)


def test_y_is_not_used_unless_it_is_asked_for():
    X, y, _ = three_classes(90)
    assert_same_state(GAN(2, **SMALL).fit(X), GAN(2, **SMALL).fit(X, y))
    with pytest.raises(ValueError, match="use conditional=True"):
        GAN(2, **SMALL).fit(X, y).sample(3, y="a")


def test_classes_that_are_missing_or_unknown():
    X, y, _ = three_classes(90)
    gan = GAN(2, conditional=True, **SMALL)
    with pytest.raises(ValueError, match="conditional=True needs the classes of the rows"):
        gan.fit(X)
    gan.fit(X, y)
    with pytest.raises(ValueError, match="classes that fit has not seen"):
        gan.sample(3, y="d")
    with pytest.raises(ValueError, match="classes that fit has not seen"):
        gan.partial_fit(X, np.full(90, "d"))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        gan.fit(X, y[:-1])
    # In pieces, with rows of no weight, and few rows that are merged.
    pieces = clone(gan).partial_fit(X, y, sample_weight=(np.arange(90) > 20).astype(float)).partial_fit(X[:30], y[:30])
    assert pieces.sample(3, y="a").shape == (3, 2)
    assert clone(gan).fit(X[:20].repeat(2, 0), y[:20].repeat(2)).sample(4).shape == (4, 2)


def test_shares_of_classes_are_weighted_and_gaps_may_be_in_some_chunks_alone(monkeypatch):
    X, y, _ = three_classes(90)
    weight = 1.0 + (y == "a")
    gan = GAN(2, conditional=True, **SMALL).fit(X, y, sample_weight=weight)
    expected = [weight[y == label].sum() / weight.sum() for label in "abc"]
    np.testing.assert_allclose(gan.class_prior_, expected)
    X[0, 0] = np.nan
    monkeypatch.setattr("skae.training.batches.CHUNK_ELEMENTS", 60)
    assert np.isfinite(gan.fit(X, y).sample(5, y="a", random_state=0)).all()


@pytest.mark.slow
def test_eight_modes_on_a_ring():
    """Every mode gets draws; the benchmark `generative` has narrow modes and counts draws of high quality."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(8) / 8
    centres = 2 * np.column_stack([np.cos(angle), np.sin(angle)])
    X = centres[rng.integers(8, size=2000)] + 0.1 * rng.standard_normal((2000, 2))
    gan = GAN(2, hidden_layer_sizes=(64, 64), max_iter=50, batch_size=128, random_state=0).fit(X)
    distance = np.linalg.norm(gan.sample(2500, random_state=0)[:, None] - centres, axis=2)
    near = distance.min(1) < 0.3
    assert np.bincount(distance.argmin(1)[near], minlength=8).min() >= 20
    assert near.mean() > 0.4


def test_rows_lie_in_the_likelihoods_range():
    X = shares(200, 4)
    assert np.all(GAN(2, likelihood="bernoulli", **SMALL).fit(X).sample(500) >= 0)
    assert np.all(GAN(2, likelihood="bernoulli", **SMALL).fit(X).sample(500) <= 1)
    assert np.all(GAN(2, likelihood="poisson", **SMALL).fit(np.round(9 * X)).sample(500) >= 0)


def corners(n, rng):
    """Draws of the corners of a square."""
    return rng.choice([-1.0, 1.0], (n, 2))


@pytest.mark.parametrize("prior", ["uniform", "mixture", corners], ids=["uniform", "mixture", "function"])
def test_rows_are_what_the_generator_makes_of_the_prior(prior):
    gan = GAN(2, prior=prior, **SMALL).fit(real(80, 4))
    model, source = gan.model_, torch.Generator()
    z = model.prior.sample(300, model, source.manual_seed(3))
    with torch.no_grad():
        expected = model.scaling.from_target(model.decoder(z))
        torch.testing.assert_close(model.scaling.from_target(model.draw(300, source.manual_seed(3))), expected)
    np.testing.assert_array_equal(gan.sample(5, random_state=0), gan.sample(5, random_state=0))
    assert not np.array_equal(gan.sample(5, random_state=0), gan.sample(5, random_state=1))


def test_the_score_is_the_critics_output():
    X = real(300, 4)
    gan = GAN(4, hidden_layer_sizes=(32,), max_iter=30, random_state=0).fit(X)
    model = gan.model_.in_float64()
    with torch.no_grad():
        rows, _ = model.scaling.input(torch.tensor(X))
        np.testing.assert_allclose(gan.score_samples(X), model.critic(rows)[:, 0], rtol=1e-6)
    far = X.mean(0) + 10 * X.std(0) * np.random.default_rng(0).choice([-1, 1], X.shape)
    assert gan.score_samples(X).mean() > gan.score_samples(far).mean()
    one = X.copy()
    one[0, 0] = np.nan
    filled = X.copy()
    filled[0, 0] = X[:, 0].mean()
    np.testing.assert_allclose(gan.score_samples(one), gan.score_samples(filled), rtol=1e-5)


@pytest.mark.parametrize(("loss", "steps"), [("wasserstein", 5), ("non_saturating", 1), ("minimax", 1)])
def test_updates_of_the_critic_at_each_batch(loss, steps, monkeypatch):
    seen = []
    inside = AdversarialLoss.critic
    monkeypatch.setattr(AdversarialLoss, "critic", lambda self, *args: seen.append(1) or inside(self, *args))
    GAN(2, loss=loss, **SMALL | {"max_iter": 2, "batch_size": 20}).fit(real(60, 4))
    # And once more, where what is handed over is seen to be finite.
    assert len(seen) == 2 * 3 * steps + 1
    seen.clear()
    GAN(2, loss=loss, critic_steps=2, **SMALL | {"max_iter": 1, "batch_size": 20}).fit(real(60, 4))
    assert len(seen) == 3 * 2 + 1


@pytest.mark.parametrize("loss", LOSSES)
def test_in_bfloat16(loss):
    X = real(120, 5)
    optimizer = AdamW(betas=(0.5, 0.9), precision="bfloat16")
    rounded, single = (
        GAN(2, loss=loss, gradient_penalty=1.0, optimizer=each, **SMALL).fit(X)
        for each in (optimizer, clone(optimizer).set_params(precision="float32"))
    )
    for name, values in single.loss_terms_.items():
        np.testing.assert_allclose(rounded.loss_terms_[name][0], values[0], atol=0.05, rtol=0.05)


def test_names_of_the_loss_terms():
    gan = GAN(2, **SMALL).fit(real(60, 4))
    assert set(gan.loss_terms_) == {"generator_loss", "critic_loss", "critic_gradient_penalty"}
    assert gan.loss_curve_ == gan.loss_terms_["generator_loss"]
    assert gan.n_iter_ == len(gan.loss_curve_) == 4


def test_pickles_refits_and_pieces():
    X = real(120, 5)
    one = GAN(2, **SMALL).fit(X)
    assert_same_state(one, GAN(2, **SMALL).fit(X))
    assert_same_state(one, one.fit(X))
    again = pickle.loads(pickle.dumps(one))
    assert_same_state(one, again)
    np.testing.assert_array_equal(one.sample(4, random_state=0), again.sample(4, random_state=0))
    pieces = GAN(2, **SMALL).partial_fit(X).partial_fit(X[:60])
    assert pieces.n_iter_ == 2 and len(pieces.loss_terms_["critic_loss"]) == 2
    warm = GAN(2, warm_start=True, **SMALL).fit(X)
    assert_same_state(one, warm)
    before = state_of(warm)
    warm.set_params(learning_rate=1e-30, max_iter=1).fit(X)
    for name, values in state_of(warm).items():
        np.testing.assert_allclose(values, before[name], rtol=1e-6, atol=1e-12)


def test_rows_of_no_weight_are_not_there_and_heavy_ones_are_drawn():
    X, weight = real(120, 5), np.ones(120)
    weight[80:] = 0
    one = GAN(2, **SMALL).fit(X, sample_weight=weight)
    assert_same_state(one, GAN(2, **SMALL).fit(X[:80], sample_weight=np.ones(80)))
    rng = np.random.default_rng(0)
    side = np.where(rng.random(500) < 0.5, -2.0, 2.0)
    Z = side[:, None] + 0.3 * rng.standard_normal((500, 2))
    gan = GAN(2, hidden_layer_sizes=(32, 32), max_iter=60, critic_steps=2, random_state=0)
    drawn = gan.fit(Z, sample_weight=np.where(side > 0, 9.0, 1.0)).sample(1000, random_state=0)
    assert (drawn[:, 0] > 0).mean() > 0.75


def test_gaps(rng):
    X = real(400, 4)
    holes = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    gan = GAN(4, hidden_layer_sizes=(32, 32), max_iter=60, critic_steps=2, random_state=0).fit(holes)
    drawn = gan.sample(2000, random_state=0)
    spread = np.sqrt(X.var(0).mean())
    assert np.abs(drawn.mean(0) - X.mean(0)).max() < 0.3 * spread
    # A gap is the same in what is drawn, so gaps do not shrink the spread.
    assert np.abs(drawn.std(0) - X.std(0)).max() < 0.3 * spread


@pytest.mark.parametrize("network", [DenseNetwork((8,), "tanh"), ConvNetwork((8, 8), channels=(4,))], ids=str)
def test_networks(network, digits):
    gan = GAN(3, network=network, max_iter=1, random_state=0).fit(digits)
    assert gan.sample(2, random_state=0).shape == (2, 64) and gan.score_samples(digits).shape == (len(digits),)


@pytest.mark.filterwarnings("ignore:Training was interrupted")
@pytest.mark.parametrize("after", [0, 9])
def test_an_interrupt_keeps_the_model_so_far(after, monkeypatch):
    X, calls = real(120, 5), []
    inside = AdversarialLoss.critic

    def interrupt(self, *args):
        calls.append(1)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return inside(self, *args)

    monkeypatch.setattr(AdversarialLoss, "critic", interrupt)
    gan = GAN(2, critic_steps=1, **SMALL | {"max_iter": 50}).fit(X)
    assert len(gan.loss_curve_) >= 1
    assert np.isfinite(gan.sample(5)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "hinge"}, "The 'loss' parameter of GAN must be"),
        ({"critic_steps": 0}, "The 'critic_steps' parameter of GAN must be"),
        ({"gradient_penalty": -1.0}, "The 'gradient_penalty' parameter of GAN must be"),
        ({"label_smoothing": 0.5}, "The 'label_smoothing' parameter of GAN must be"),
        ({"label_smoothing": 0.1}, "loss='wasserstein' has no labels"),
        ({"instance_noise": -1.0}, "The 'instance_noise' parameter of GAN must be"),
        ({"prior": "mixture", "n_components": 1}, "MixturePrior lies in a plane, but n_components=1"),
        ({"prior": "vamp"}, "VampPrior is learnt as the prior of a VAE"),
    ],
    ids=str,
)
def test_parameters_are_checked_and_an_earlier_fit_stays(parameters, message):
    X = real(60, 4)
    gan = GAN(2, **SMALL).fit(X)
    before = gan.sample(3, random_state=0)
    with pytest.raises(ValueError, match=message):
        gan.set_params(**parameters).fit(X)
    np.testing.assert_array_equal(gan.sample(3, random_state=0), before)


def test_before_fit():
    for call in (lambda gan: gan.sample(2), lambda gan: gan.score_samples(real(3, 4))):
        with pytest.raises(NotFittedError):
            call(clone(GAN(2)))
