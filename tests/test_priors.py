"""Priors: densities and draws that agree, and the penalties that compare codes with them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from registry import generator, real
from torch import distributions
from torch.nn.functional import binary_cross_entropy_with_logits

from skae import (
    VAE,
    AdversarialAE,
    AutoencoderTransformer,
    MaximumMeanDiscrepancy,
    MixturePrior,
    NormalPrior,
    SwissRollPrior,
    TotalCorrelation,
    UniformPrior,
    VampPrior,
)
from skae.model.divergences import inverse_multiquadric
from skae.model.posteriors import DiagonalGaussian
from skae.model.priors import CallablePrior, as_prior
from skae.training.batches import RawRows

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
MIXTURES = [MixturePrior(), MixturePrior(3, radius=1.5, scale=0.4, width=1.0)]


def like(n_components):
    """What a prior reads of a model: its components, and a tensor of its precision."""
    return SimpleNamespace(n_components=n_components, reference=torch.zeros((), dtype=torch.float64))


def draws(prior, n_components, n=20_000):
    """Draws of a prior."""
    return prior.sample(n, like(n_components), generator())


def density(prior, z):
    """p(z), with the constant that `log_prob` leaves out."""
    return torch.exp(prior.log_prob(z, like(z.shape[-1]))) / (2 * np.pi) ** (z.shape[-1] / 2)


@pytest.mark.parametrize("prior", [NormalPrior(), *MIXTURES], ids=str)
def test_densities_integrate_to_one_and_are_those_of_the_draws(prior):
    axis = torch.linspace(-9, 9, 721, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = density(prior, grid) * float(axis[1] - axis[0]) ** 2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    z = draws(prior, 2)
    # The mean of log p over draws is minus the entropy; means over draws and over the grid agree.
    for function in (
        lambda a: density(prior, a).log(),
        lambda a: a[:, 0],
        lambda a: a[:, 1] ** 2,
        lambda a: a[:, 0] ** 3,
    ):
        exact, drawn = float(mass @ function(grid).nan_to_num(neginf=0)), function(z)
        assert float(drawn.mean()) == pytest.approx(exact, abs=4 * float(drawn.std()) / len(z) ** 0.5)


def test_the_normal_density_is_torchs():
    z = torch.randn(7, 3, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(density(NormalPrior(), z).log(), distributions.Normal(0, 1).log_prob(z).sum(1))


@pytest.mark.parametrize("prior", MIXTURES, ids=str)
def test_further_components_are_standard_normal(prior):
    z = torch.randn(7, 4, generator=generator(), dtype=torch.float64)
    apart = density(prior, z[:, :2]) * density(NormalPrior(), z[:, 2:])
    torch.testing.assert_close(density(prior, z), apart)
    for part in (prior, SwissRollPrior()):
        rest = draws(part, 4)[:, 2:]
        assert rest.mean(0).abs().max() < 0.05 and (rest.T.cov() - torch.eye(2)).abs().max() < 0.05


def test_the_uniform_prior_fills_its_cube():
    z = draws(UniformPrior(), 3)
    assert z.abs().max() <= 3**0.5
    torch.testing.assert_close(z.T.cov(), torch.eye(3, dtype=z.dtype), rtol=0, atol=0.03)
    share = (z.abs() < 0.5 * 3**0.5).double().mean(0)
    torch.testing.assert_close(share, torch.full((3,), 0.5, dtype=z.dtype), rtol=0, atol=0.02)


def test_the_swiss_roll_is_a_spiral():
    z = draws(SwissRollPrior(noise=0), 2)
    radius = z.norm(dim=1)
    angle = 3 * np.pi * radius
    spiral = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    torch.testing.assert_close(z, spiral)
    assert angle.min() >= 1.5 * np.pi and angle.max() <= 4.5 * np.pi
    noisy = draws(SwissRollPrior(noise=0.1), 2)
    assert float((noisy - z).std()) == pytest.approx(0.1, rel=0.05)


def test_a_function_draws_by_the_seed():
    prior = CallablePrior(lambda n, rng: rng.exponential(size=(n, 2)))
    one, same, other = (prior.sample(5, like(2), generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.dtype == torch.float64 and (one > 0).all()
    assert as_prior(prior) is prior and isinstance(as_prior(len), CallablePrior)


# VampPrior --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vamp():
    """A VAE with few pseudo-inputs."""
    return VAE(2, prior=VampPrior(6), **SMALL).fit(real(80, 4))


def _mixture(model):
    posterior = model.posterior
    encoded = model.encode(model.code_module.rows)
    scale = torch.exp(0.5 * posterior.log_variance(encoded))
    modes = distributions.Independent(distributions.Normal(posterior.mean(encoded), scale), 1)
    return distributions.MixtureSameFamily(distributions.Categorical(logits=torch.zeros(len(encoded))), modes)


@torch.no_grad()
def test_the_vamp_prior_is_the_mixture_of_its_posteriors(vamp):
    model = vamp.model_.in_float64()
    z = torch.randn(5, 9, 2, generator=generator(), dtype=torch.float64)
    mixture = _mixture(model)
    constant = 2 * 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(model.prior.log_prob(z, model) - constant, mixture.log_prob(z))
    drawn = model.prior.sample(20_000, model, generator())
    torch.testing.assert_close(drawn.mean(0), mixture.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.var(0), mixture.variance, rtol=0.06, atol=0)


def test_pseudo_inputs_start_as_training_rows_and_are_learnt():
    X = real(80, 4)
    few = VAE(2, prior=VampPrior(100), max_iter=1, learning_rate=1e-12, early_stopping=False, random_state=0).fit(X)
    start = few.model_.scaling.from_input(few.model_.code_module.rows.detach().double()).numpy()
    # More than there are training rows: each is there, some twice.
    assert np.abs(start[:, None] - X).sum(2).min(1).max() < 1e-3
    assert np.abs(start[:, None] - X).sum(2).min(0).max() < 1e-3
    learnt = VAE(2, prior=VampPrior(20), max_iter=20, early_stopping=False, random_state=0).fit(X)
    rows = learnt.model_.scaling.from_input(learnt.model_.code_module.rows.detach().double()).numpy()
    assert np.abs(rows[:, None] - X).sum(2).min(1).min() > 1e-3


@torch.no_grad()
def test_the_estimated_density_is_the_integral_over_codes(vamp):
    X, model = real(80, 4)[:5], vamp.model_.in_float64()
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64)
    codes = torch.cartesian_prod(axis, axis)
    log_prior = model.prior.log_prob(codes, model) - np.log(2 * np.pi)
    ((_, step),) = vamp._steps(RawRows(X), model)
    log_joint = step.log_likelihood_of(step.decode(codes[:, None].expand(-1, len(X), -1))) + log_prior[:, None]
    exact = torch.logsumexp(log_joint, 0) + 2 * np.log(float(axis[1] - axis[0]))
    np.testing.assert_allclose(vamp.score_samples(X, n_samples=20_000), exact, atol=0.05)


def test_codes_of_clusters_are_nearer_to_the_vamp_prior_than_to_the_normal_one():
    rng = np.random.default_rng(0)
    X = 4 * rng.standard_normal((5, 6))[rng.integers(5, size=500)] + 0.3 * rng.standard_normal((500, 6))
    options = {"hidden_layer_sizes": (32,), "max_iter": 40, "early_stopping": False, "random_state": 0}
    normal, vamp = (VAE(2, prior=prior, **options).fit(X).score(X) for prior in ("normal", VampPrior(20)))
    assert vamp > normal + 0.2


# What does not fit ------------------------------------------------------------------------------


def _nan(n, rng):
    return np.full((n, 2), np.nan)


@pytest.mark.parametrize(
    ("prior", "n_components", "message"),
    [
        ("mixture", 1, "MixturePrior lies in a plane, but n_components=1"),
        ("swiss_roll", 1, "SwissRollPrior lies in a plane, but n_components=1"),
        (lambda n, rng: np.zeros((n, 3)), 2, r"returned shape \(2, 3\) for 2 codes of 2 components"),
        (_nan, 2, "returned NaN or infinity"),
        (VampPrior(3), 2, "VampPrior is learnt as the prior of a VAE"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_prior_that_does_not_fit_is_refused_before_training(prior, n_components, message, monkeypatch):
    X = real(60, 4)
    fitted = AdversarialAE(2, **SMALL).fit(X)
    before = fitted.transform(X)
    monkeypatch.setattr("skae.training.trainer.Trainer.run", _must_not_run)
    with pytest.raises(ValueError, match=message):
        fitted.set_params(prior=prior, n_components=n_components).fit(X)
    np.testing.assert_array_equal(fitted.transform(X), before)
    penalties = [MaximumMeanDiscrepancy(prior)]
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(n_components, penalties=penalties, init="random").fit(X)


def _must_not_run(*args):
    raise AssertionError("training has begun")


@pytest.mark.parametrize(
    "prior", ["uniform", "swiss_roll", lambda n, rng: rng.random((n, 2))], ids=lambda p: str(p)[:9]
)
def test_a_vae_refuses_a_prior_without_density_before_training(prior, monkeypatch):
    monkeypatch.setattr("skae.training.trainer.Trainer.run", _must_not_run)
    with pytest.raises(ValueError, match="has no density, which a VAE's prior needs: use 'normal', 'mixture'"):
        VAE(2, prior=prior, **SMALL).fit(real(60, 4))


def test_free_bits_need_the_normal_prior():
    with pytest.raises(ValueError, match="free_bits=0.1 needs prior='normal'"):
        VAE(2, prior="vamp", free_bits=0.1, **SMALL).fit(real(60, 4))


# Maximum mean discrepancy -----------------------------------------------------------------------


def codes_step(z, weight=None, seed=0):
    """A step that holds codes alone."""
    return SimpleNamespace(
        one_sample=z, weight=weight, generator=generator(seed), model=like(z.shape[1]), loss_scale=1.0
    )


def test_the_discrepancy_is_the_sum_over_pairs():
    z, n = torch.randn(6, 2, generator=generator(), dtype=torch.float64), 6
    drawn = NormalPrior().sample(n, like(2), generator())
    k = lambda a, b: 4 / (4 + float((a - b).square().sum()))  # noqa: E731
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    within = sum(k(z[i], z[j]) + k(drawn[i], drawn[j]) for i, j in pairs) / (n * (n - 1))
    across = sum(k(z[i], drawn[j]) for i in range(n) for j in range(n)) / n**2
    assert float(MaximumMeanDiscrepancy()(codes_step(z)).mean()) == pytest.approx(within - 2 * across)
    assert float(inverse_multiquadric(z, drawn)[1, 2]) == pytest.approx(k(z[1], drawn[2]))


def test_the_discrepancy_is_unbiased():
    estimates = []
    for seed in range(300):
        z = torch.randn(20, 2, generator=generator(1000 + seed), dtype=torch.float64)
        estimates.append(float(MaximumMeanDiscrepancy()(codes_step(z, seed=seed)).mean()))
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / 300**0.5
    apart = torch.randn(20, 2, generator=generator(), dtype=torch.float64) + 1
    assert float(MaximumMeanDiscrepancy()(codes_step(apart)).mean()) > 3 * np.std(estimates)


def test_rows_of_no_weight_do_not_count():
    z = torch.randn(30, 3, generator=generator(), dtype=torch.float64)
    weight = torch.ones(30, dtype=torch.float64)
    weight[20:] = 0
    other = torch.cat([z[:20], 5 + z[20:]])
    for penalty in (MaximumMeanDiscrepancy(), TotalCorrelation()):
        one, same = (penalty(_posterior_step(codes, weight)) for codes in (z, other))
        torch.testing.assert_close(one[:20], same[:20])
    step = _posterior_step(z, weight)
    made = TotalCorrelation()(step)[:20]
    step.one_sample, step.code, step.encoded, step.weight = step.one_sample[:20], z[:20], step.encoded[:20], None
    torch.testing.assert_close(made, TotalCorrelation()(step))


def test_the_discrepancy_draws_codes_to_the_prior():
    X = real(400, 5)
    options = {"init": "random", "max_iter": 30, "early_stopping": False, "random_state": 0}
    spread = []
    for penalties in ([], [MaximumMeanDiscrepancy()]):
        codes = AutoencoderTransformer(2, penalties=penalties, **options).fit_transform(X)
        spread.append(np.abs(np.cov(codes.T) - np.eye(2)).max())
    assert spread[1] < 0.3 < spread[0]


# Total correlation ------------------------------------------------------------------------------

TRUE = -0.5 * np.log(1 - 0.8**2)


def _posterior_step(mean, weight=None, log_variance=-2.0):
    """A step of posteriors with given means and one variance, and one draw of each."""
    step = codes_step(
        mean + np.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=generator(5)).to(mean), weight
    )
    step.code, step.encoded = mean, torch.cat([mean, torch.full_like(mean, log_variance)], dim=1)
    step.model.posterior = DiagonalGaussian()
    return step


def _correlated(n, correlation):
    """Means whose draws with variance exp(−2) have unit variance and a correlation."""
    inner = (1 - np.exp(-2.0)) * torch.eye(2) + correlation * (1 - torch.eye(2))
    z = torch.randn(n, 2, generator=generator(), dtype=torch.float64)
    return z @ torch.linalg.cholesky(inner.double()).T


@pytest.mark.parametrize(("correlation", "true"), [(0.0, 0.0), (0.8, TRUE)])
def test_the_total_correlation_of_normal_codes(correlation, true):
    step = _posterior_step(_correlated(2000, correlation))
    assert float(TotalCorrelation()(step).mean()) == pytest.approx(true, abs=0.06)


@pytest.mark.parametrize(("correlation", "true"), [(0.0, 0.0), (0.8, TRUE)])
def test_a_critic_finds_the_total_correlation(correlation, true):
    penalty = TotalCorrelation(estimator="critic")
    z = _posterior_step(_correlated(2000, correlation)).one_sample.float()
    critic = penalty.critic(5, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in critic.layers:
            torch.nn.init.kaiming_uniform_(module.weight)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    step = codes_step(z)
    step.critic = lambda _: critic
    for _ in range(100):
        optimizer.zero_grad()
        penalty.critic_terms(step)["loss"].mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert float(penalty(step).mean()) == pytest.approx(true, abs=0.1)


def test_the_critic_sees_columns_shuffled_apart():
    seen = []

    def critic(z):
        seen.append(z)
        return z[:, :1]

    z = torch.arange(12.0).view(6, 2)
    step = codes_step(z)
    step.critic = lambda _: critic
    loss = TotalCorrelation(estimator="critic").critic_terms(step)["loss"]
    whole, shuffled = seen
    assert torch.equal(whole, z) and torch.equal(shuffled.sort(0).values, z) and not torch.equal(shuffled, z)
    expected = binary_cross_entropy_with_logits(whole[:, 0], torch.ones(6), reduction="none")
    expected = expected + binary_cross_entropy_with_logits(shuffled[:, 0], torch.zeros(6), reduction="none")
    torch.testing.assert_close(loss, expected)
    # By weights: rows of none are not drawn.
    step.weight = torch.tensor([1.0, 0, 0, 1, 0, 0])
    TotalCorrelation(estimator="critic").critic_terms(step)
    assert set(seen[-1][:, 0].tolist()) <= {0.0, 6.0} and set(seen[-1][:, 1].tolist()) <= {1.0, 7.0}


@pytest.mark.parametrize("estimator", ["minibatch", "critic"])
def test_total_correlation_makes_components_independent(estimator):
    rng = np.random.default_rng(0)
    # Two sources on a square, turned: a VAE's codes keep the turn unless independence is asked for.
    sources = rng.uniform(-1, 1, (1500, 2))
    X = sources @ np.array([[1, 1, 0.5], [1, -1, 0.3]]) + 0.05 * rng.standard_normal((1500, 3))
    options = {"hidden_layer_sizes": (32,), "max_iter": 30, "early_stopping": False, "random_state": 0}
    penalties = [TotalCorrelation(5.0, estimator=estimator)]
    found = []
    for each in ((), penalties):
        mean, scale = VAE(2, penalties=each, init="random", **options).fit(X).posterior(X)
        found.append(_dependence(mean + scale * rng.standard_normal(mean.shape)))
    # Of independent components, half the degrees of freedom over the rows is found.
    nothing = 7**2 / (2 * len(X))
    assert found[1] - nothing < 0.5 * (found[0] - nothing)


def _dependence(codes):
    """Mutual information of two components, by a histogram of their ranks."""
    ranks = codes.argsort(0).argsort(0) / len(codes)
    joint = np.histogram2d(*ranks.T, bins=8, range=[[0, 1], [0, 1]])[0] / len(codes)
    return float(np.sum(joint * np.log(np.maximum(joint, 1e-12) * 64)))


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (TotalCorrelation(), "needs a VAE; use estimator='critic'"),
    ],
)
def test_total_correlation_is_checked(penalty, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(2, penalties=[penalty]).fit(real(60, 4))
