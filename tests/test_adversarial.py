"""Critics and AdversarialAE: closed forms of the losses, and codes that are distributed as a prior."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from registry import assert_same_state, generator, real, state_of
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import distributions, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from skae import (
    AdversarialAE,
    AdversarialCode,
    AutoencoderTransformer,
    ConvNetwork,
    EarlyStopping,
    MixturePrior,
    SwissRollPrior,
)
from skae.model.adversarial import LOSSES, AdversarialLoss
from skae.model.networks import Dense, reset_parts

SMALL = {"hidden_layer_sizes": (16,), "critic_layer_sizes": (16,), "max_iter": 4, "random_state": 0}


# Losses -----------------------------------------------------------------------------------------


def rows(n=9, p=3, seed=0):
    """Real rows and made ones."""
    return torch.randn(2, n, p, generator=generator(seed), dtype=torch.float64)


@pytest.fixture
def critic():
    """A network of rows of three columns."""
    made = Dense((3, 8, 1), "silu").double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=generator(1))
    return made


@pytest.mark.parametrize("kind", ["minimax", "non_saturating"])
def test_a_critics_loss_is_cross_entropy(critic, kind):
    x, made = rows()
    terms = AdversarialLoss(kind).critic(critic, x, made, generator())
    assert set(terms) == {"loss"}
    log_prob = lambda z, y: distributions.Bernoulli(logits=critic(z)[:, 0]).log_prob(torch.full((9,), y).double())  # noqa: E731
    torch.testing.assert_close(terms["loss"], -log_prob(x, 1.0) - log_prob(made, 0.0))


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_smooth_labels_are_cross_entropy_with_them(critic, kind):
    """And the best logit of real rows alone is log (1 − α)/α."""
    x, made = rows()
    found = AdversarialLoss(kind, label_smoothing=0.1).critic(critic, x, made, generator())["loss"]

    def cross_entropy(rows, label):
        labels = torch.full((9,), label, dtype=torch.float64)
        return binary_cross_entropy_with_logits(critic(rows)[:, 0], labels, reduction="none")

    expected = cross_entropy(x, 0.9) + cross_entropy(made, 0.0)
    torch.testing.assert_close(found, expected)
    logit = torch.linspace(-6, 6, 1201)[:, None]
    alone = AdversarialLoss(kind, label_smoothing=0.1).critic(lambda x: x, logit, torch.zeros_like(logit), generator())
    assert float(logit[alone["loss"].argmin(), 0]) == pytest.approx(np.log(9), abs=0.02)


def test_what_the_opponent_minimises(critic):
    _, made = rows()
    logit = critic(made)[:, 0]
    real_as, made_as = (
        binary_cross_entropy_with_logits(logit, torch.full_like(logit, y), reduction="none") for y in (1, 0)
    )
    expected = {"minimax": -made_as, "non_saturating": real_as, "wasserstein": -logit}
    for kind in LOSSES:
        torch.testing.assert_close(AdversarialLoss(kind).opponent(critic, made), expected[kind])
    # Their gradients meet where the critic is at a loss, and one vanishes where it is sure.
    slope = {}
    for kind in ("minimax", "non_saturating"):
        at = torch.tensor([[-20.0], [0.0]], requires_grad=True)
        AdversarialLoss(kind).opponent(lambda z: z, at).sum().backward()
        slope[kind] = at.grad[:, 0]
    torch.testing.assert_close(slope["minimax"], torch.tensor([0.0, -0.5]), atol=1e-6, rtol=0)
    torch.testing.assert_close(slope["non_saturating"], torch.tensor([-1.0, -0.5]), atol=1e-6, rtol=0)


def test_the_gradient_penalty_of_a_linear_critic():
    x, made = rows()
    critic = nn.Linear(3, 1).double()
    norm = critic.weight.norm()
    terms = AdversarialLoss("wasserstein", 10.0).critic(critic, x, made, generator())
    torch.testing.assert_close(terms["loss"], (critic(made) - critic(x))[:, 0])
    torch.testing.assert_close(terms["gradient_penalty"], (10 * (norm - 1) ** 2).expand(9))
    terms["gradient_penalty"].mean().backward()
    torch.testing.assert_close(critic.weight.grad, (20 * (norm - 1) / norm * critic.weight).detach())
    for kind in ("minimax", "non_saturating"):
        terms = AdversarialLoss(kind, 3.0).critic(critic, x, made, generator())
        torch.testing.assert_close(terms["gradient_penalty"], (1.5 * norm**2).expand(9))
    assert "gradient_penalty" not in AdversarialLoss("wasserstein", 0.0).critic(critic, x, made, generator())
    auto = AdversarialLoss("wasserstein").critic(critic, x, made, generator())["gradient_penalty"]
    torch.testing.assert_close(auto, (0.1 * 3**0.5 * (norm - 1) ** 2).expand(9))


def test_where_the_gradient_is_penalised():
    x, made = rows()
    for kind, share in (("non_saturating", 0.0), ("wasserstein", None)):
        seen = []

        def critic(z, seen=seen):
            seen.append(z.detach())
            return z.square().sum(1, keepdim=True)

        terms = AdversarialLoss(kind, 1.0).critic(critic, x, made, generator())
        at = seen[-1]
        norm = 2 * at.norm(dim=1)
        if share is None:
            weights = (at - x) / (made - x)
            torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
            assert weights.min() >= 0 and weights.max() <= 1 and weights[:, 0].std() > 0.1
            torch.testing.assert_close(terms["gradient_penalty"], (norm - 1).square())
        else:
            assert torch.equal(at, x)
            torch.testing.assert_close(terms["gradient_penalty"], 0.5 * norm.square())


def test_the_best_critic_is_the_log_ratio_of_densities():
    """For N(0, 1) and N(1, 1): D(x) = ½ − x, and its loss 2 log 2 − 2 JS, equation 4 of Goodfellow et al. 2014."""
    x = torch.randn(2, 40_000, 1, generator=generator(), dtype=torch.float64)
    x[1] += 1
    critic = nn.Linear(1, 1).double()
    optimizer = torch.optim.LBFGS(critic.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = AdversarialLoss("minimax").critic(critic, *x, generator())["loss"].mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    loss = float(closure().detach())
    assert critic.weight.item() == pytest.approx(-1, abs=0.03) and critic.bias.item() == pytest.approx(0.5, abs=0.03)
    grid = torch.linspace(-9, 10, 20_001, dtype=torch.float64)
    p, q = (distributions.Normal(mean, 1.0).log_prob(grid).exp() for mean in (0.0, 1.0))
    middle = 0.5 * (p + q)
    shannon = 0.5 * torch.trapezoid(p * (p / middle).log() + q * (q / middle).log(), grid)
    assert loss == pytest.approx(float(2 * np.log(2) - 2 * shannon), abs=0.01)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_shift_is_learnt_by_either_loss(kind):
    """A generator that adds two numbers ends where made and real rows have the same means."""
    shift, critic = nn.Parameter(torch.tensor([2.0, -1.0])), Dense((2, 16, 1), "silu")
    reset_parts([critic], generator())
    loss, source = AdversarialLoss(kind), generator(3)
    opponent, other = (torch.optim.Adam(p, 0.02, (0.5, 0.9)) for p in ([shift], critic.parameters()))
    tail = []
    for _ in range(300):
        x, z = torch.randn(2, 64, 2, generator=source)
        opponent.zero_grad()
        loss.opponent(critic, z + shift).mean().backward()
        opponent.step()
        other.zero_grad()
        sum(loss.critic(critic, x, (z + shift).detach(), source).values()).mean().backward()
        other.step()
        tail.append(shift.detach().clone())
    assert torch.stack(tail[150:]).mean(0).abs().max() < 0.25


def test_an_unknown_loss():
    with pytest.raises(ValueError, match="loss='hinge' is unknown; use one of"):
        AdversarialLoss("hinge")


def test_encoder_and_critic_terms_of_a_code():
    penalty, codes = AdversarialCode("uniform"), torch.randn(50, 2, generator=generator())
    critic = penalty.critic(5, 2)
    reset_parts([critic], generator())
    model = SimpleNamespace(n_components=2, reference=codes)
    step = SimpleNamespace(
        one_sample=codes.requires_grad_(), model=model, generator=generator(), critic=lambda _: critic
    )
    with torch.no_grad():
        critic.layers[-1].weight.zero_()
        critic.layers[-1].bias.fill_(0.3)
    one, other = np.log1p(np.exp(-0.3)), np.log1p(np.exp(0.3))
    torch.testing.assert_close(penalty(step), torch.full((50,), one, dtype=torch.float32))
    loss = penalty.critic_terms(step)["loss"]
    torch.testing.assert_close(loss, torch.full((50,), one + other, dtype=torch.float32))
    loss.sum().backward()
    assert codes.grad is None


# Codes and their prior --------------------------------------------------------------------------


def energy_test(a, b, n_permutations=200, seed=0):
    """The p-value of the energy distance of two samples, by permutations (Székely and Rizzo 2013)."""
    rng, together = np.random.default_rng(seed), np.concatenate([a, b])
    distance = cdist(together, together)

    def statistic(index):
        weight = np.full(len(together), -1 / len(b))
        weight[index] = 1 / len(a)
        return -weight @ distance @ weight

    found = statistic(np.arange(len(a)))
    drawn = [statistic(rng.permutation(len(together))[: len(a)]) for _ in range(n_permutations)]
    return (1 + sum(each >= found for each in drawn)) / (n_permutations + 1)


def _ring(n, rng):
    angle = rng.uniform(0, 2 * np.pi, n)
    return (1.5 + 0.1 * rng.standard_normal(n))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def test_the_energy_test_tells_apart(rng):
    a, b = rng.standard_normal((2, 200, 2))
    assert energy_test(a, b) > 0.05
    assert energy_test(a, b + 0.5) < 0.01
    assert energy_test(a, 2 * b) < 0.01


@pytest.fixture(scope="module")
def split():
    """Digits to train on, and others."""
    X = np.random.default_rng(0).permutation(load_digits().data)
    return X[:1200], X[1200:]


@pytest.mark.parametrize(
    "prior",
    ["normal", "uniform", MixturePrior(5, radius=1.5, scale=0.4), SwissRollPrior(0.1), _ring],
    ids=["normal", "uniform", "mixture", "swiss_roll", "callable"],
)
def test_codes_of_held_out_rows_are_distributed_as_the_prior(prior, split):
    X, other = split
    aae = AdversarialAE(2, hidden_layer_sizes=(64, 64), prior=prior, max_iter=70, random_state=0).fit(X)
    drawn = aae.model_.prior.sample(len(other), aae.model_, generator()).numpy()
    assert energy_test(aae.transform(other), drawn) > 0.02
    # And the codes are still good: PCA, where they start, has the error 1.
    start = AdversarialAE(2, hidden_layer_sizes=(), max_iter=1, learning_rate=1e-9, random_state=0).fit(X)
    error, error_start = (np.square(other - each.reconstruct(other)).mean() for each in (aae, start))
    assert error < 0.9 * error_start


def test_rows_are_drawn_by_decoding_the_prior(digits):
    aae = AdversarialAE(2, **SMALL).fit(digits)
    drawn = aae.sample(6, random_state=0)
    np.testing.assert_array_equal(drawn, aae.sample(6, random_state=0))
    assert not np.array_equal(drawn, aae.sample(6, random_state=1))
    fixed = clone(aae).set_params(prior=lambda n, rng: np.zeros((n, 2))).fit(digits)
    np.testing.assert_allclose(fixed.sample(4), fixed.inverse_transform(np.zeros((4, 2))), rtol=1e-4, atol=1e-4)


def test_drawn_digits_have_the_means_and_variances_of_digits(digits):
    aae = AdversarialAE(6, max_iter=60, random_state=0).fit(digits)
    drawn = aae.sample(1000, random_state=0)
    size = np.sqrt(digits.var(0).mean())
    assert np.abs(drawn.mean(0) - digits.mean(0)).max() < 0.35 * size
    assert 0.5 < drawn.var(0).sum() / digits.var(0).sum() < 1.1


def test_the_start_is_whitened_pca(digits):
    aae = AdversarialAE(4, max_iter=1, learning_rate=1e-9, random_state=0).fit(digits)
    codes = aae.transform(digits)
    np.testing.assert_allclose(np.cov(codes.T, bias=True), np.eye(4), atol=1e-3)
    plain = AutoencoderTransformer(4, hidden_layer_sizes=(), random_state=0).fit(digits)
    np.testing.assert_allclose(aae.reconstruct(digits), plain.reconstruct(digits), atol=1e-2)


def test_names_of_the_loss_terms():
    aae = AdversarialAE(2, **SMALL).fit(real(60, 4))
    assert set(aae.loss_terms_) == {
        "negative_log_likelihood", "adversarial_code", "adversarial_code_critic_loss",
    }  # fmt: skip
    parts = [aae.loss_terms_[name] for name in ("negative_log_likelihood", "adversarial_code")]
    np.testing.assert_allclose(np.sum(parts, axis=0), aae.loss_curve_)


def test_the_critic_is_updated_as_often_as_asked(monkeypatch):
    seen = []
    inside = AdversarialLoss.critic
    monkeypatch.setattr(AdversarialLoss, "critic", lambda self, *args: seen.append(1) or inside(self, *args))
    for steps in (1, 3):
        seen.clear()
        AdversarialAE(2, critic_steps=steps, **SMALL | {"max_iter": 2, "batch_size": 20}).fit(real(60, 4))
        assert len(seen) == 2 * 3 * steps


# What all estimators can ------------------------------------------------------------------------


def test_pickles_refits_and_pieces():
    X = real(120, 5)
    aae = AdversarialAE(2, **SMALL)
    one = clone(aae).fit(X)
    assert_same_state(one, clone(aae).fit(X))
    assert_same_state(one, one.fit(X))
    again = pickle.loads(pickle.dumps(one))
    assert_same_state(one, again)
    np.testing.assert_array_equal(one.sample(4, random_state=0), again.sample(4, random_state=0))
    pieces = clone(aae).partial_fit(X).partial_fit(X[:60])
    assert pieces.n_iter_ == 2 and len(pieces.loss_terms_["adversarial_code_critic_loss"]) == 2
    assert_same_state(pieces, clone(aae).partial_fit(X).partial_fit(X[:60]))
    warm = clone(aae).set_params(warm_start=True).fit(X)
    assert_same_state(one, warm)
    before = state_of(warm)
    warm.set_params(learning_rate=1e-30, max_iter=1).fit(X)
    for name, values in state_of(warm).items():
        np.testing.assert_allclose(values, before[name], rtol=1e-6, atol=1e-12)


def test_a_model_goes_on_with_its_critic():
    aae = AdversarialAE(2, warm_start=True, **SMALL).fit(real(120, 5))
    with pytest.raises(ValueError, match="The network's shape has changed since the last fit"):
        aae.set_params(critic_layer_sizes=(8,)).fit(real(120, 5))
    assert aae.transform(real(3, 5)).shape == (3, 2)


def test_rows_of_no_weight_are_not_there():
    X, weight = real(120, 5), np.ones(120)
    weight[80:] = 0
    one = AdversarialAE(2, **SMALL).fit(X, sample_weight=weight)
    assert_same_state(one, AdversarialAE(2, **SMALL).fit(X[:80], sample_weight=np.ones(80)))


def test_weights_move_the_codes():
    """Codes of the heavy rows fill the prior, so that those of the light ones lie to one side."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 6))
    heavy = X[:, 0] > 0
    aae = AdversarialAE(2, max_iter=60, random_state=0).fit(X, sample_weight=np.where(heavy, 1.0, 1e-6))
    codes = aae.transform(X)
    assert np.abs(codes[heavy].mean(0)).max() < 0.25
    assert np.linalg.norm(codes[~heavy].mean(0)) > 0.5


def test_gaps_are_filled(digits):
    X, rng = digits.copy(), np.random.default_rng(0)
    gap = rng.random(X.shape) < 0.2
    X[gap] = np.nan
    aae = AdversarialAE(8, max_iter=60, random_state=0).fit(X)
    filled, mean = aae.reconstruct(X), np.broadcast_to(np.nanmean(X, axis=0), X.shape)
    assert np.isfinite(aae.transform(X)).all()
    assert np.square(filled - digits)[gap].mean() < 0.7 * np.square(mean - digits)[gap].mean()


def test_convolutions(digits):
    network = ConvNetwork((8, 8), channels=(4,))
    aae = AdversarialAE(2, network=network, max_iter=2, random_state=0).fit(digits)
    assert aae.sample(3, random_state=0).shape == (3, 64)


def test_restarts_and_held_out_rows():
    X = real(150, 5)
    for stopping in (True, EarlyStopping(0.2, n_folds=0)):
        aae = AdversarialAE(2, n_init=2, early_stopping=stopping, **SMALL).fit(X)
        assert np.isfinite(aae.transform(X)).all() and len(aae.validation_loss_curve_) >= 2


@pytest.mark.filterwarnings("ignore:Training was interrupted")
def test_an_interrupt_keeps_the_model_so_far(monkeypatch):
    X, epochs = real(120, 5), []
    inside = AdversarialLoss.critic

    def interrupt(self, *args):
        epochs.append(1)
        if len(epochs) > 9:
            raise KeyboardInterrupt
        return inside(self, *args)

    monkeypatch.setattr(AdversarialLoss, "critic", interrupt)
    aae = AdversarialAE(2, **SMALL | {"max_iter": 50}).fit(X)
    assert 1 <= aae.n_iter_ < 50
    assert np.isfinite(aae.transform(X)).all() and np.isfinite(aae.sample(5)).all()


@pytest.mark.parametrize("parameters", [{"weight": -1}, {"critic_steps": 0}, {"prior": "laplace"}], ids=str)
def test_parameters_are_checked(parameters):
    with pytest.raises(ValueError, match=f"The '{next(iter(parameters))}' parameter of AdversarialAE must be"):
        AdversarialAE(2, **SMALL | parameters).fit(real(60, 4))
