"""What a VAE says of missing entries, and its model of why they are missing."""

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from registry import counts, generator, real, shares
from sklearn.base import clone
from sklearn.datasets import load_iris
from torch.distributions import Bernoulli as BernoulliDistribution

from skae import (
    VAE,
    AutoencoderTransformer,
    Bernoulli,
    DenseNetwork,
    Gaussian,
    Mixed,
    MixturePrior,
    Multinomial,
    Poisson,
    SelfMasking,
    StudentT,
    VampPrior,
)
from skae.model.missingness import drawn_rows

QUICK = {"early_stopping": False, "random_state": 0}


def with_gaps(X, share=0.3, seed=0):
    """X with entries missing completely at random."""
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


@pytest.fixture(scope="module")
def linear():
    """Probabilistic PCA of rows with gaps."""
    X = with_gaps(real(200, 6))
    return VAE(2, hidden_layer_sizes=(), max_iter=40, **QUICK).fit(X), X


def conditional(vae, row):
    """Mean and covariance of the missing entries of a row, by the linear decoder and its scale."""
    model = vae.model_
    with torch.no_grad():
        intercept = model.decoder(torch.zeros(1, model.n_components))
        slope = (model.decoder(torch.eye(model.n_components)) - intercept).T.double().numpy() * model.scaling.unit
        mean = model.scaling.from_target(intercept.double())[0].numpy()
        variance = float(torch.exp(2 * model.extras["log_scale"].double())) * model.scaling.unit**2
    gone = np.isnan(row)
    seen, hidden = slope[~gone], slope[gone]
    precision = np.eye(model.n_components) + seen.T @ seen / variance
    code = np.linalg.solve(precision, seen.T @ (row - mean)[~gone]) / variance
    covariance = hidden @ np.linalg.solve(precision, hidden.T) + variance * np.eye(gone.sum())
    return mean[gone] + hidden @ code, covariance


def test_linear_completion_is_the_conditional_mean(linear):
    vae, X = linear
    filled = vae.complete(X[:20], n_samples=20_000, random_state=0)
    for row, made in zip(X[:20], filled, strict=True):
        mean, covariance = conditional(vae, row)
        assert_allclose(made[np.isnan(row)], mean, rtol=0, atol=0.05 * np.sqrt(np.trace(covariance) + 1e-12))


def test_completions_have_the_conditional_mean_and_covariance(linear):
    vae, X = linear
    row = X[np.isnan(X).sum(1) == 3][0]
    mean, covariance = conditional(vae, row)
    made = vae.sample_completions(row[None], 20_000, n_samples=20_000, random_state=0)[:, 0, np.isnan(row)]
    scale = np.sqrt(np.diag(covariance))
    assert_allclose((made.mean(0) - mean) / scale, 0, atol=0.05)
    assert_allclose(np.cov(made.T) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.06)


@pytest.mark.parametrize(("shift", "tolerance"), [([0.7, -0.7, -2, -2], 0.1), ([1.0, 1.0, -8, -8], 0.3)])
def test_the_encoder_decides_only_how_fast_it_converges(linear, shift, tolerance):
    vae, X = linear
    other = pickle.loads(pickle.dumps(vae))
    with torch.no_grad():
        # A posterior that is off and too narrow; so narrow that only the draws of the prior count.
        other.model_.encoder.linear.bias += torch.tensor(shift)
    row = X[np.isnan(X).sum(1) == 3][:1]
    filled = other.complete(row, n_samples=100_000, random_state=0)
    mean, covariance = conditional(vae, row[0])
    assert_allclose(filled[np.isnan(row)], mean, rtol=0, atol=tolerance * np.sqrt(np.diag(covariance).max()))


def test_empty_rows_get_the_priors_expectation():
    vae = VAE(2, hidden_layer_sizes=(8,), prior=MixturePrior(3), max_iter=10, **QUICK).fit(real(200, 4))
    empty = np.full((1, 4), np.nan)
    drawn = vae.sample(100_000, random_state=0, return_mean=True)
    filled = vae.complete(empty, n_samples=100_000, random_state=1)
    assert_allclose((filled[0] - drawn.mean(0)) / drawn.std(0), 0, atol=0.02)
    made = vae.sample_completions(empty, 20_000, n_samples=20_000, random_state=1)[:, 0]
    rows = vae.sample(100_000, random_state=2)
    assert_allclose((made.std(0) / rows.std(0)), 1, atol=0.05)


@pytest.mark.parametrize("missingness", [None, "self_masking"])
def test_observed_entries_stay_and_rows_do_not_depend_on_each_other(missingness, monkeypatch):
    X = with_gaps(real(120, 5))
    X[7] = np.nan
    vae = VAE(2, hidden_layer_sizes=(8,), missingness=missingness, max_iter=3, **QUICK).fit(X)
    filled = vae.complete(X, n_samples=200, random_state=0)
    seen = ~np.isnan(X)
    assert_array_equal(filled[seen], X[seen])
    assert np.isfinite(filled).all()
    assert_array_equal(filled, vae.complete(X, n_samples=200, random_state=0))
    assert not np.array_equal(filled, vae.complete(X, n_samples=200, random_state=1))
    monkeypatch.setattr("skae.autoencoders._vae.CHUNK_ELEMENTS", 20_000)
    assert_allclose(vae.complete(X[::-3], n_samples=200, random_state=0), filled[::-3], rtol=1e-4, atol=1e-5)
    made = vae.sample_completions(X, 3, n_samples=50, random_state=0)
    assert made.shape == (3, 120, 5)
    assert_array_equal(made[:, seen], np.repeat(X[seen][None], 3, axis=0))
    # Draws differ between tables, but for a code that is drawn again, and between two rows that are the same.
    assert (np.ptp(made[:, ~seen], axis=0) > 0).mean() > 0.9
    twins = np.repeat(X[:1] * [1, 1, 1, 1, np.nan], 2, axis=0)
    assert np.ptp(vae.sample_completions(twins, random_state=0)[0, :, 4]) > 0


def test_dtype_is_kept_and_rows_without_gaps_come_back():
    X = with_gaps(real(80, 4)).astype(np.float32)
    vae = VAE(2, hidden_layer_sizes=(8,), max_iter=2, **QUICK).fit(X)
    assert vae.complete(X, n_samples=10).dtype == np.float32
    full = real(5, 4)
    assert_array_equal(vae.complete(full), full)
    assert vae.complete(full) is not full
    for options in ({"n_samples": 0}, {"n_completions": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            vae.sample_completions(X, **options)
    with pytest.raises(ValueError, match="'n_samples' parameter of VAE"):
        vae.complete(X, n_samples=0)


def mixed(n, p, seed=0):
    """Two numbers, a boolean and a category of three."""
    X = real(n, 4, seed)
    category = np.eye(3)[np.digitize(X[:, 3], np.quantile(X[:, 3], [0.3, 0.7]))]
    return np.column_stack([X[:, :2], X[:, 2] > X[:, 2].mean(), category]).astype(float)


MIXED = Mixed([("gaussian", 2), ("bernoulli", 1), ("categorical", 3)])
KINDS = {
    "gaussian": (Gaussian(), real),
    "student_t": (StudentT(), real),
    "bernoulli": (Bernoulli(), lambda n, p: (shares(n, p) > 0.5).astype(float)),
    "poisson": (Poisson(), counts),
    "mixed": (MIXED, mixed),
}


def one_component(kind, missingness=None):
    """A model of one component, and rows with gaps, in which a category is missing as a whole."""
    likelihood, rows = KINDS[kind]
    X = rows(200, 6)
    gone = np.random.default_rng(0).random(X.shape) < 0.3
    if kind == "mixed":
        gone[:, 3:] = gone[:, 3:4]
    options = {"n_importance_samples": 5, "missingness": missingness} if missingness else {}
    X = np.where(gone, np.nan, X)
    return VAE(1, hidden_layer_sizes=(8,), likelihood=likelihood, max_iter=8, **options, **QUICK).fit(X), X


@pytest.mark.parametrize("kind", KINDS)
def test_completion_is_that_of_quadrature(kind):
    vae, X = one_component(kind)
    model, X = vae.model_, X[:30]
    with torch.no_grad():
        grid = torch.linspace(-6, 6, 4001)[:, None]
        eta = model.decoder(grid)
        step = model.step(*model.prepare_for_training(torch.from_numpy(X)))
        log_weight = step.log_likelihood_of(eta[:, None].expand(-1, len(X), -1)) - 0.5 * grid.square()
        weight = torch.softmax(log_weight, 0).double()
        expected = model.scaling.from_target(weight.T @ model.likelihood.mean(eta).double()).numpy()
    filled = vae.complete(X, n_samples=10_000, random_state=0)
    gone = np.isnan(X)
    assert_allclose(((filled - expected) / np.nanstd(X, axis=0))[gone], 0, atol=0.06)


@pytest.mark.parametrize("kind", ["bernoulli", "poisson", "mixed"])
@pytest.mark.parametrize("missingness", [None, "self_masking"])
def test_discrete_draws_are_values_that_rows_have(kind, missingness):
    vae, X = one_component(kind, missingness)
    made = vae.sample_completions(X[:30], 2, n_samples=100, random_state=0)
    discrete = made[..., 2:] if kind == "mixed" else made
    assert_array_equal(discrete, np.round(discrete))
    assert discrete.min() >= 0
    if kind == "mixed":
        assert_array_equal(made[..., 3:].sum(-1), 1)
    filled = vae.complete(X[:30], n_samples=100, random_state=0)
    if kind == "mixed":
        assert_allclose(filled[:, 3:].sum(1), 1, atol=1e-6)


# The model of why ----------------------------------------------------------------------------


def masked_above(n, p, n_hidden, seed=0):
    """Correlated Gaussian rows, in whose first columns high values are mostly hidden."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2)) @ rng.standard_normal((2, p)) + 0.5 * rng.standard_normal((n, p))
    X = (X - X.mean(0)) / X.std(0)
    gone = rng.random((n, n_hidden)) < 1 / (1 + np.exp(-4 * X[:, :n_hidden]))
    return X, np.where(np.column_stack([gone, np.zeros((n, p - n_hidden), bool)]), np.nan, X)


@pytest.fixture(scope="module")
def self_masked():
    """Rows, the same with gaps, and models of them, by their missingness."""
    X, gappy = masked_above(500, 6, 3)
    options = {"n_importance_samples": 5, "batch_size": 100, "learning_rate": 0.02, "max_iter": 60, **QUICK}
    names = (None, "self_masking", "self_masking_known")
    return X, gappy, {name: VAE(2, missingness=name, **options).fit(gappy) for name in names}


def error(vae, X, gappy):
    gone = np.isnan(gappy)
    return np.sqrt(np.square(vae.complete(gappy, random_state=0) - X)[gone].mean())


def test_self_masking_fills_hidden_values_better(self_masked):
    X, gappy, models = self_masked
    errors = {name: error(vae, X, gappy) for name, vae in models.items()}
    assert errors["self_masking"] < 0.8 * errors[None]
    assert errors["self_masking_known"] < 0.8 * errors[None]


@pytest.mark.parametrize("name", ["self_masking", "self_masking_known"])
def test_self_masking_learns_where_values_are_hidden(self_masked, name):
    _, gappy, models = self_masked
    mask = models[name].model_.code_module.missingness
    weight = mask.weight.detach().numpy()
    # What the other columns tell little of is learnt last.
    assert (weight[:2] > 1).all()
    assert weight[2] > 0.2
    start = 1.0 if name == "self_masking_known" else 0.0
    assert_allclose(weight[3:], start, rtol=1e-6)
    assert_array_equal(mask.threshold.detach().numpy()[3:], 0)
    # In the units of the columns as observed.
    unit = models[name].model_.scaling.unit * mask.unit.numpy()
    assert_allclose((np.nanmean(gappy, axis=0) + mask.threshold.detach().numpy() * unit)[:2], 0, atol=0.3)


def test_completion_with_self_masking_is_that_of_quadrature():
    vae, X = one_component("gaussian", "self_masking_known")
    model, X = vae.model_.double(), X[:10]
    mask, likelihood = model.code_module.missingness, model.likelihood
    with torch.no_grad():
        grid = torch.linspace(-6, 6, 1001).double()[:, None]
        eta, scale = model.decoder(grid), model.extras["log_scale"].exp()
        step = model.step(*model.prepare(torch.from_numpy(X)))
        log_weight = step.log_likelihood_of(eta[:, None].expand(-1, len(X), -1)) - 0.5 * grid.square()
        # The missing entries' own integrals, of shape (1001, n_features).
        points = torch.linspace(-8, 8, 401).double()
        rows = eta + scale * points[:, None, None]
        density = torch.exp(-0.5 * points.square())[:, None, None] * torch.sigmoid(mask.logits(rows))
        mass, moment = density.sum(0), (density * rows).sum(0)
        gone = 1 - step.observed
        weight = torch.softmax(log_weight + mass.log() @ gone.T, 0)
        expected = model.scaling.from_target(weight.T @ (moment / mass)).numpy()
        assert type(likelihood) is Gaussian
    model.float()
    filled = vae.complete(X, n_samples=40_000, random_state=0)
    assert_allclose((filled - expected)[np.isnan(X)] / np.nanstd(X), 0, atol=0.05)


def test_draws_follow_the_weights_of_self_masking(self_masked):
    _, gappy, models = self_masked
    vae = models["self_masking_known"]
    row = gappy[np.isnan(gappy).sum(1) == 2][:1]
    made = vae.sample_completions(row, 20_000, n_samples=20_000, random_state=0)[:, 0]
    filled = vae.complete(row, n_samples=20_000, random_state=1)[0]
    gone = np.isnan(row[0])
    assert_allclose(made.mean(0)[gone], filled[gone], atol=0.06)


def test_the_bound_holds_the_probability_of_the_mask(self_masked, monkeypatch):
    _, gappy, models = self_masked
    monkeypatch.setattr("skae.model.missingness.N_DRAWS", 20_000)
    model, rows = models["self_masking"].model_, torch.from_numpy(gappy[:20])
    step = model.step(*model.prepare_for_training(rows), generator=generator())
    plain = model.step(*model.prepare_for_training(rows))
    mask, points = model.code_module.missingness, torch.linspace(-8, 8, 2001)
    with torch.no_grad():
        eta = plain.eta
        factor = step.log_likelihood_of(eta) - plain.log_likelihood_of(eta)
        # The integral over each entry, or its value where it is known.
        x = eta + model.extras["log_scale"].exp() * points[:, None, None]
        density = torch.softmax(-0.5 * points.square(), 0)[:, None, None]
        gone = (density * torch.sigmoid(mask.weight * (x / mask.unit - mask.threshold))).sum(0)
        there = torch.sigmoid(-mask.weight * (step.input / mask.unit - mask.threshold))
        expected = torch.where(step.observed > 0, there, gone)[:, :3].log().sum(1)
    torch.testing.assert_close(factor, expected, rtol=0, atol=0.1)


def test_a_category_is_missing_once():
    vae, X = one_component("mixed", "self_masking")
    model = vae.model_
    mask = model.code_module.missingness
    with torch.no_grad():
        mask.raw_weight.copy_(torch.arange(6.0))
        rows, _ = model.scaling.input(torch.from_numpy(mixed(4, 6)).float())
        columns = mask.weight * (rows / mask.unit - mask.threshold)
        odds = torch.column_stack([columns[:, :3], columns[:, 3:].sum(1)])
        torch.testing.assert_close(mask.logits(rows), odds)
        gone = torch.tensor([[1.0, 0, 0, 1, 1, 1]]).expand(4, -1)
        assert mask.counted(gone).tolist() == [[1, 0, 0, 1]] * 4
        there = BernoulliDistribution(logits=odds[:, 1:3]).log_prob(torch.zeros(4, 2)).sum(1)
        torch.testing.assert_close(mask.log_present(rows, 1 - gone), there)


def test_gradients_of_draws_are_those_of_their_noise_or_their_mean():
    for kind, discrete in {
        "gaussian": [0] * 6,
        "bernoulli": [1] * 6,
        "poisson": [1] * 6,
        "mixed": [0, 0, 1, 1, 1, 1],
    }.items():
        model = one_component(kind, "self_masking")[0].model_
        eta = torch.zeros(3, 6, requires_grad=True)
        zeros = torch.zeros(3, 6)
        step = SimpleNamespace(model=model, input=zeros, target=zeros, observed=zeros)
        drawn, _ = drawn_rows(step, eta, generator())
        (made,) = torch.autograd.grad(drawn @ torch.arange(1.0, 7.0), eta, torch.ones(3))
        (of_mean,) = torch.autograd.grad(model.likelihood.mean(eta) @ torch.arange(1.0, 7.0), eta, torch.ones(3))
        expected = torch.where(torch.tensor(discrete) > 0, of_mean, torch.arange(1.0, 7.0).expand(3, 6))
        torch.testing.assert_close(made, expected)


def test_without_gaps_there_is_nothing_to_learn():
    X = real(200, 5)
    vae = VAE(2, missingness="self_masking", hidden_layer_sizes=(8,), max_iter=3, **QUICK).fit(X)
    assert not vae.model_.code_module.missingness.weight.any()
    # A gap in a column that had none says nothing of its value: the fill is that of the plain weights.
    gappy = X[:10].copy()
    gappy[:, 0] = np.nan
    before = vae.complete(gappy, n_samples=20_000, random_state=0)
    with torch.no_grad():
        vae.model_.code_module.missingness.raw_weight.fill_(10)
    assert_array_equal(vae.complete(gappy, n_samples=20_000, random_state=0), before)


def test_known_signs():
    _, gappy = masked_above(200, 4, 2)
    options = {"hidden_layer_sizes": (8,), "n_importance_samples": 3, "max_iter": 20, **QUICK}
    signs = [-1, 1, 0, 0]
    weight = VAE(2, missingness=SelfMasking(signs), **options).fit(gappy).model_.code_module.missingness.weight
    assert weight[0] < 0 < weight[1]
    low = VAE(2, missingness=SelfMasking(1), **options).fit(gappy)
    high = VAE(2, missingness=SelfMasking(-1), **options).fit(-gappy)
    # The mirror image; weights of networks are not mirrored, so it is not the same to the last digit.
    assert_allclose(
        low.model_.code_module.missingness.weight.detach()[:2],
        -high.model_.code_module.missingness.weight.detach()[:2],
        rtol=0.5,
    )
    for wrong in (2, "high", [1, -1], [[1, 1, 1, 1]]):
        with pytest.raises(ValueError, match="known_sign"):
            VAE(2, missingness=SelfMasking(wrong), **options).fit(gappy)


def test_networks_of_a_model_of_the_missingness():
    X = with_gaps(real(100, 5))
    vae = VAE(2, missingness="self_masking", max_iter=1, **QUICK).fit(X)
    # The encoder sees the mask; the decoder is linear unless sizes are asked for.
    assert vae.model_.encoder.network.sizes[0] == 10
    assert len(vae.model_.decoder.network.layers) == 1
    deep = clone(vae).set_params(network=DenseNetwork((8,))).fit(X)
    assert deep.model_.decoder.network.sizes == (2, 8, 5)
    again = pickle.loads(pickle.dumps(vae))
    assert_array_equal(again.complete(X, n_samples=20, random_state=0), vae.complete(X, n_samples=20, random_state=0))
    longer = clone(vae).set_params(warm_start=True).fit(X).fit(X)
    assert longer.n_iter_ == 1


@pytest.mark.parametrize("missingness", [None, "self_masking"])
def test_tables_stay_tables(missingness):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    age = rng.normal(40, 12, 100)
    table = pandas.DataFrame({"age": age, "old": age > 40, "kind": np.where(age > 45, "a", "b")})
    table.loc[0, "kind"] = "rare"
    gappy = table.astype({"old": object}).mask(rng.random(table.shape) < 0.2)
    gappy.loc[0, "kind"] = "rare"
    vae = VAE(2, likelihood="mixed", missingness=missingness, max_iter=5, **QUICK).fit(gappy)
    filled, seen = vae.complete(gappy, n_samples=100, random_state=0), gappy.notna()
    assert not filled.isna().any(axis=None)
    for made in [filled, *vae.sample_completions(gappy, 2, n_samples=100, random_state=0)]:
        assert list(made.columns) == list(table.columns)
        for name in table:
            assert list(made.loc[seen[name], name]) == list(table.loc[seen[name], name])
            assert set(made[name].unique()) <= set(table[name].unique()) or name == "age"


# Scores ---------------------------------------------------------------------------------------------


def density(vae, X):
    """Log-density of the observed entries of each row under a linear VAE, in closed form."""
    row = np.full(X.shape[1], np.nan)
    mean, covariance = conditional(vae, row)
    made = []
    for x in X:
        seen = ~np.isnan(x)
        part = covariance[np.ix_(seen, seen)]
        away = x[seen] - mean[seen]
        made.append(-0.5 * (away @ np.linalg.solve(part, away) + np.linalg.slogdet(2 * np.pi * part)[1]))
    return np.array(made)


def test_gaps_do_not_make_a_row_anomalous_where_the_encoder_knew_none():
    X, _ = load_iris(return_X_y=True)
    vae = VAE(2, hidden_layer_sizes=(), random_state=0).fit(X)
    gappy = X.copy()
    gappy[:, [1, 3]] = np.nan
    for rows in (gappy, with_gaps(X, 0.5)):
        exact = density(vae, rows)
        assert_allclose(vae.score_samples(rows), exact, rtol=0, atol=0.05)
        assert_allclose(vae.score_samples(rows.astype(np.float32)), exact, rtol=0, atol=0.05)
        assert_allclose(vae.score_samples(rows, n_samples=5000), exact, rtol=0, atol=0.01)
    assert_allclose(vae.score_samples(X), density(vae, X), rtol=0, atol=1e-3)


BY_PRIOR = {
    "gaussian": {},
    "vamp": {"prior": VampPrior(8)},
    "poisson": {"likelihood": "poisson"},
    "bernoulli": {"likelihood": Bernoulli(bounds=(0, 40))},
    "student_t": {"likelihood": "student_t"},
    "multinomial": {"likelihood": "multinomial"},
    "mixed": {"likelihood": Mixed([("gaussian", 2), ("student_t", 3)])},
    "categories": {"likelihood": Mixed([("gaussian", 2), ("categorical", 3)])},
}


@pytest.mark.parametrize("options", BY_PRIOR.values(), ids=BY_PRIOR)
def test_scores_of_rows_with_gaps_are_integrals_over_the_code(options):
    X = counts(120, 5).clip(0, 40)
    if isinstance(options.get("likelihood"), Mixed) and options["likelihood"].compares_columns:
        X[:, 2:] = np.eye(3)[X[:, 2:].argmax(1)]
    vae = VAE(1, hidden_layer_sizes=(8,), max_iter=20, **QUICK, **options).fit(X)
    rows = with_gaps(X[:25], 0.5)
    rows[3] = np.nan
    model = vae.model_.in_float64()
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        step = model.step(*model.prepare(torch.from_numpy(rows)))
        logs = []
        for codes in grid.split(2000):
            codes = codes.expand(-1, 25, -1)
            logs.append(step.log_likelihood_of(step.decode(codes)) + model.prior.log_prob(codes, model))
        width = float(grid[1] - grid[0])
        exact = torch.logsumexp(torch.cat(logs), 0) + math.log(width) - 0.5 * math.log(2 * math.pi)
    assert_allclose(exact[3], 0, atol=1e-6)
    assert_allclose(vae.score_samples(rows, n_samples=20_000, random_state=1), exact, rtol=0, atol=0.05)
    # A bound on average, and not far off with few draws.
    few = vae.score_samples(rows)
    assert abs(float(few.mean() - exact.mean())) < 0.25
    assert few[3] == 0


def test_scores_of_rows_do_not_depend_on_others_gaps():
    X = real(40, 5)
    vae = VAE(2, hidden_layer_sizes=(8,), max_iter=5, **QUICK).fit(X)
    gappy = np.where(np.arange(40)[:, None] % 2 == 0, with_gaps(X, 0.4), X)
    full = ~np.isnan(gappy).any(1)
    assert_allclose(vae.score_samples(gappy)[full], vae.score_samples(X)[full], rtol=1e-6)
    assert_allclose(vae.score_samples(gappy)[::-3], vae.score_samples(gappy[::-3]), rtol=1e-6)
    assert vae.score_samples(gappy, n_samples=1).shape == (40,)


# Words ----------------------------------------------------------------------------------------------

SHARES = np.array([0.5, 0.3, 0.2])


def words(n=400, total=100):
    """Counts of three words in documents of one length, and the same without every other first word."""
    X = np.random.default_rng(0).multinomial(total, SHARES, size=n).astype(float)
    gappy = X.copy()
    gappy[::2, 0] = np.nan
    return X, gappy


def test_the_observed_words_are_scored_among_themselves():
    _, gappy = words(20)
    vae = VAE(1, likelihood="multinomial", hidden_layer_sizes=(4,), max_iter=2, **QUICK).fit(gappy)
    model = vae.model_
    step = model.step(*model.prepare_for_training(torch.from_numpy(gappy)))
    with torch.no_grad():
        expected = []
        for row, logits in zip(gappy, step.eta, strict=True):
            seen = torch.from_numpy(~np.isnan(row))
            shares = torch.softmax(logits[seen], 0)
            expected.append(float((torch.from_numpy(row)[seen] * shares.log()).sum()))
        assert_allclose(step.log_likelihood, expected, rtol=1e-5)
        # What the decoder says of a word that is not there counts for nothing.
        wild = step.eta + torch.tensor([50.0, 0, 0]) * (1 - step.observed)
        assert_allclose(step.log_likelihood_of(wild), expected, rtol=1e-5)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAE])
def test_gaps_are_no_absent_words(estimator):
    _, gappy = words()
    options = {"hidden_layer_sizes": (8,), "max_iter": 40, "random_state": 0}
    made = estimator(1, likelihood="multinomial", **options).fit(gappy).reconstruct(gappy)
    assert_allclose(made.mean(0), SHARES, atol=0.02)


@pytest.mark.parametrize("unit", [1.0, 0.01])
def test_words_are_filled_in_the_rows_own_units(unit):
    X, gappy = (unit * rows for rows in words())
    vae = VAE(1, likelihood="multinomial", hidden_layer_sizes=(8,), max_iter=40, **QUICK).fit(gappy)
    filled = vae.complete(gappy, random_state=0)
    assert_allclose(filled[::2, 0].mean(), 50 * unit, rtol=0.05)
    # Rows of twice the length get twice as many.
    twice = vae.complete(gappy * [1, 2, 2], random_state=0)
    assert_allclose(twice[::2, 0].mean(), 100 * unit, rtol=0.15)
    assert_allclose(vae.complete(np.full((1, 3), np.nan), random_state=0)[0], SHARES, atol=0.03)
    if unit == 1:
        drawn = vae.sample_completions(gappy, 5, random_state=0)[:, ::2, 0]
        assert_allclose(drawn.mean(), filled[::2, 0].mean(), rtol=0.03)
        assert_array_equal(drawn, drawn.round())


def test_draws_of_missing_words_have_the_rate_of_those_that_are_there():
    part, eta = Multinomial(n_trials=7), torch.log(torch.tensor(SHARES)).expand(40_000, 3)
    for observed, o in (([0.0, 1.0, 1.0], 50.0), ([0.0, 0.0, 1.0], 20.0)):
        mask, target = torch.tensor(observed).double(), torch.tensor([0.0, 30.0, 20.0]).double()
        drawn = part.sample_given(eta, {}, target, mask, generator())[:, 0]
        known = float(mask @ torch.tensor(SHARES))
        mean = 0.5 * o / known
        assert_allclose(float(drawn.mean()), mean, rtol=0.02)
        # A negative multinomial count: Poisson with a rate that is known from so many words alone.
        assert_allclose(float(drawn.var()), mean + mean * 0.5 / known, rtol=0.04)
    nothing = part.sample_given(eta, {}, torch.zeros(3).double(), torch.zeros(3).double(), generator())
    assert_allclose(nothing.mean(0), 7 * SHARES, rtol=0.03)
