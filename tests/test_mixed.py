"""The likelihood of tables against torch.distributions and autograd."""

import numpy as np
import pytest
import torch
from registry import columns_of, generator, real, scaling_of
from sklearn.base import clone
from sklearn.decomposition import PCA
from torch.distributions import Bernoulli, Categorical, Normal, StudentT

from skae import VAE, AutoencoderTransformer, DenoisingAE, Gaussian, Masking, Mixed, SaltAndPepper, Swap, TableEncoder

N = 400
# The kinds take turns, so that no kind's columns stand side by side.
GROUPS = [
    ("gaussian", 1),
    ("categorical", 3),
    ("bernoulli", 1),
    ("student_t", 2),
    ("categorical", 2),
    ("gaussian", 2),
    ("categorical", 3),
    ("bernoulli", 1),
]
NORMAL = [("gaussian" if kind == "student_t" else kind, width) for kind, width in GROUPS]
ALL_KINDS, P = Mixed(GROUPS), sum(width for _, width in GROUPS)


def one_hot(rng, n, width):
    return np.eye(width)[rng.choice(width, n, p=np.arange(1, width + 1) / sum(range(1, width + 1)))]


def rows(n=N, groups=GROUPS, seed=0):
    """Rows of these groups: numbers of very different size, booleans, categories."""
    rng, made = np.random.default_rng(seed), []
    for index, (kind, width) in enumerate(groups):
        if kind == "categorical":
            made.append(one_hot(rng, n, width))
        elif kind == "bernoulli":
            made.append(rng.random((n, width)) < 0.3)
        else:
            made.append(10.0**index * (index + rng.standard_normal((n, width))))
    return np.column_stack(made).astype(float)


def parts(groups=GROUPS):
    """Kind and columns of each group."""
    stops = np.cumsum([width for _, width in groups])
    return [(kind, slice(stop - width, stop)) for (kind, width), stop in zip(groups, stops, strict=True)]


def eta_and_target(likelihood=ALL_KINDS, groups=GROUPS):
    X = rows(30, groups)
    target = scaling_of(X, likelihood).target(torch.tensor(X))
    return torch.randn(30, P, generator=generator(), dtype=torch.float64), target


def test_log_prob_is_that_of_torch_distributions():
    eta, target = eta_and_target()
    scale = torch.tensor([0.3], dtype=torch.float64)
    found = ALL_KINDS.log_prob(eta, target, {"log_scale": scale.log()})
    for kind, columns in parts():
        e, t, entries = eta[:, columns], target[:, columns], found[:, columns]
        if kind == "categorical":
            expected = Categorical(logits=e).log_prob(t.argmax(1))
            entries = entries.sum(1)
        elif kind == "bernoulli":
            expected = Bernoulli(logits=e).log_prob(t)
        else:
            expected = (Normal(e, scale) if kind == "gaussian" else StudentT(4.0, e, scale)).log_prob(t)
        torch.testing.assert_close(entries, expected)


def test_mean_is_that_of_torch_distributions():
    eta, _ = eta_and_target()
    found = ALL_KINDS.mean(eta)
    for kind, columns in parts():
        e = eta[:, columns]
        expected = {"categorical": torch.softmax(e, 1), "bernoulli": torch.sigmoid(e)}.get(kind, e)
        torch.testing.assert_close(found[:, columns], expected)


def test_draws_have_the_mean_and_variance_of_the_distribution():
    n, scale = 40000, 0.5
    likelihood = Mixed(GROUPS, df=5.0)
    eta = torch.randn(1, P, generator=generator(), dtype=torch.float64)
    draws = likelihood.sample(eta.expand(n, P), {"log_scale": torch.tensor([scale]).log()}, generator())
    mean = likelihood.mean(eta)[0]
    for kind, columns in parts():
        if kind == "categorical":
            assert (draws[:, columns].sum(1) == 1).all() and draws[:, columns].unique().tolist() == [0.0, 1.0]
        variance = mean[columns] * (1 - mean[columns])
        if kind in ("gaussian", "student_t"):
            variance = torch.full_like(variance, scale**2 * (1 if kind == "gaussian" else 5 / 3))
        assert ((draws[:, columns].mean(0) - mean[columns]).abs() < 5 * (variance / n).sqrt()).all()
        torch.testing.assert_close(draws[:, columns].var(0), variance, rtol=0.1, atol=0)


@pytest.mark.parametrize("scale", [1.0, "columns"])
def test_slopes_are_the_gradients_of_minus_the_log_prob(scale):
    likelihood = Mixed(NORMAL, scale=scale)
    eta, target = eta_and_target(likelihood, NORMAL)
    log_scale = 0.2 * torch.arange(1.0 if scale == 1.0 else 5.0, dtype=torch.float64) - 0.3
    eta, log_scale = eta.requires_grad_(), log_scale.requires_grad_()
    weight = torch.rand(30, 1, generator=generator(), dtype=torch.float64)
    loss = -(weight * likelihood.log_prob(eta, target, {"log_scale": log_scale})).sum()
    expected = torch.autograd.grad(loss, (eta, log_scale))
    with torch.no_grad():
        slope = likelihood.slope(eta, target, {"log_scale": log_scale})
        by_scale = likelihood.scale_slope(eta, target, slope, weight)
    torch.testing.assert_close(weight * slope, expected[0])
    torch.testing.assert_close(by_scale.sum_to_size(expected[1].shape), expected[1])


def test_gradients_are_finite_where_numbers_are_extreme():
    eta, target = (values.float() for values in eta_and_target())
    eta = (1e4 * eta).requires_grad_()
    log_prob = ALL_KINDS.log_prob(eta, target, {"log_scale": torch.zeros(1)})
    (gradient,) = torch.autograd.grad(log_prob.sum(), eta)
    assert torch.isfinite(log_prob).all() and torch.isfinite(gradient).all()


def test_one_kind_alone_is_the_likelihood_of_that_name():
    X = real(60, 4)
    mixed = Mixed([("gaussian", 4)])
    scaling = scaling_of(X, mixed)
    assert scaling.same_target
    eta = torch.randn(60, 4, generator=generator(), dtype=torch.float64)
    target, extras = scaling.target(torch.tensor(X)), {"log_scale": torch.tensor([0.4], dtype=torch.float64)}
    torch.testing.assert_close(mixed.log_prob(eta, target, extras), Gaussian().log_prob(eta, target, extras))


def test_each_entry_of_the_table_has_a_variance_of_one():
    X = rows()
    scaling = scaling_of(X, ALL_KINDS)
    input, _ = scaling.input(torch.tensor(X))
    entry = ALL_KINDS.entry_columns(P)
    assert entry.tolist() == [0, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 8, 9]
    variance = torch.zeros(10, dtype=torch.float64).index_add_(0, entry, input.var(0, correction=0))
    torch.testing.assert_close(variance, torch.ones_like(variance))
    torch.testing.assert_close(scaling.relative_variance, input.var(0, correction=0))
    np.testing.assert_allclose(scaling.from_input(input), X, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scaling.from_target(scaling.target(torch.tensor(X))), X, rtol=1e-9, atol=1e-9)


def test_constant_columns_are_not_divided_by_zero():
    X = rows()
    X[:, 0], X[:, 1:4] = 7.0, [1, 0, 0]
    codes = AutoencoderTransformer(2, likelihood=ALL_KINDS, max_iter=2, random_state=0).fit_transform(X)
    assert np.isfinite(codes).all()


def test_linear_start_is_the_links_tangent_at_the_mean():
    X = rows()
    columns = columns_of(X, ALL_KINDS)
    scaling = scaling_of(X, ALL_KINDS)
    bias, slope = ALL_KINDS.linear_start(columns)
    torch.testing.assert_close(scaling.from_target(ALL_KINDS.mean(bias)), torch.tensor(X.mean(0)))
    # A small step of a standardised row, whose categories keep the sum of one, is followed by the mean.
    step = 1e-6 * scaling.input(torch.tensor(X[:5]))[0]
    moved = scaling.from_target(ALL_KINDS.mean(bias + slope * step))
    torch.testing.assert_close(moved, scaling.from_input(step), rtol=1e-6, atol=1e-9)


def test_a_linear_code_is_the_pca_of_the_standardised_table():
    X = rows(groups=NORMAL)
    options = {"hidden_layer_sizes": (), "max_iter": 1, "early_stopping": False, "learning_rate": 1e-30}
    codes = AutoencoderTransformer(3, likelihood=Mixed(NORMAL), random_state=0, **options).fit_transform(X)
    input, _ = scaling_of(X, Mixed(NORMAL)).input(torch.tensor(X))
    expected = PCA(3).fit_transform(input.numpy())
    np.testing.assert_allclose(np.abs(codes), np.abs(expected), atol=1e-4)


@pytest.mark.parametrize(("code", "learnt"), [(AutoencoderTransformer(2), False), (VAE(2), True)], ids=str)
def test_the_scale_is_learnt_where_the_code_is_random(code, learnt):
    model = clone(code).set_params(likelihood=Mixed(NORMAL), max_iter=1).fit(rows(60, NORMAL)).model_
    assert ("log_scale" in model._learnt) == learnt and model.extras["log_scale"].shape == (1,)
    assert model.loss_scale == 1


def test_score_samples_is_the_density_in_the_units_of_the_data():
    X = rows(60)
    X[::3, 4] = X[::4, 0] = X[1::5, 1:4] = np.nan
    ae = AutoencoderTransformer(2, likelihood=ALL_KINDS, max_iter=2, random_state=0).fit(X)
    mean = ae.reconstruct(X)
    scale = float(ae.model_.extras["log_scale"].detach().exp()) * ae.model_.scaling._constants.target_scale.numpy()
    expected = np.zeros(60)
    for kind, columns in parts():
        x, m, s = (torch.tensor(values) for values in (X[:, columns], mean[:, columns], scale[columns]))
        if kind == "categorical":
            entries = x * m.log()
        elif kind == "bernoulli":
            entries = x * m.log() + (1 - x) * (1 - m).log()
        else:
            entries = (Normal(m, s) if kind == "gaussian" else StudentT(4.0, m, s)).log_prob(torch.nan_to_num(x))
            entries[x.isnan()] = 0
        expected += entries.nansum(1).numpy()
    np.testing.assert_allclose(ae.score_samples(X), expected, rtol=1e-4)


@pytest.mark.parametrize("corruption", [Masking(0.4, fill="mean"), Swap(0.4)], ids=str)
def test_columns_of_a_category_are_corrupted_together(corruption):
    X = rows()
    scaling = scaling_of(X, ALL_KINDS)
    input, _ = scaling.input(torch.tensor(X))
    made = corruption.corrupt(input, scaling, generator())
    assert 0.35 < float(made.changed.double().mean()) < 0.45
    for kind, columns in parts():
        changed = made.changed[:, columns]
        if kind == "categorical":
            assert (changed == changed[:, :1]).all()
            if isinstance(corruption, Swap):
                values = scaling.from_input(made.rows)[:, columns]
                assert torch.allclose(values.sum(1), torch.ones(N).double()) and torch.allclose(
                    values.amax(1), torch.ones(N).double()
                )
        elif changed.shape[1] > 1:
            assert (changed != changed[:, :1]).any()


def test_salt_and_pepper_is_for_numbers():
    options = {"corruption": SaltAndPepper(), "max_iter": 1}
    with pytest.raises(ValueError, match="categories do not have: use Masking or Swap"):
        DenoisingAE(2, likelihood=ALL_KINDS, **options).fit(rows(60))
    groups = [("gaussian", 3), ("bernoulli", 1)]
    DenoisingAE(2, likelihood=Mixed(groups), **options).fit(rows(60, groups))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Mixed([("gaussian", 2)]), "have 2 columns in all, but X has 15"),
        (Mixed([("normal", 15)]), r"holds \('normal', 15\): use pairs"),
        (Mixed("gaussian"), "'groups' parameter of Mixed must be"),
        (Mixed([("bernoulli", 15)]), "Column 0 is bernoulli, so it must lie between 0 and 1, but holds"),
        (Mixed(GROUPS, scale=-1), "'scale' parameter of Mixed must be"),
        (Mixed(GROUPS, df=0), "'df' parameter of Mixed must be"),
        (Mixed(GROUPS, numeric="normal"), "'numeric' parameter of Mixed must be"),
    ],
    ids=str,
)
def test_what_is_no_likelihood_of_these_rows(part, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(2, likelihood=part, max_iter=1).fit(rows(60))


def test_groups_of_no_table():
    with pytest.raises(ValueError, match="takes its groups from the table that an estimator is fitted to"):
        scaling_of(rows(60), Mixed())


def test_groups_of_a_table():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", "y"], "d": [True, None], "e": ["u", "u"]})
    encoder = TableEncoder().fit(table)
    found = Mixed(numeric="student_t").for_groups(encoder.groups_)
    assert found.groups == [("student_t", 2), ("categorical", 2), ("bernoulli", 1), ("categorical", 1)]
    assert ALL_KINDS.for_groups(encoder.groups_).groups == GROUPS


def planted(n=1500, seed=0):
    """A table in which the category says the sign of one number, and the boolean the sign of another."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    age, fare = rng.standard_normal(n), np.exp(4 + rng.standard_normal(n))
    port = np.select([age < -0.6, age < 0.6], ["Cork", "Oslo"], "Rome")
    return pandas.DataFrame({"age": 40 + 12 * age, "fare": fare, "port": port, "rich": fare > np.exp(4)})


@pytest.mark.parametrize(
    "estimator",
    [
        VAE(3, max_iter=100, random_state=0),
        DenoisingAE(16, corruption=Masking(0.4, fill="mean"), conditioning="mask", max_iter=100, random_state=0),
    ],
    ids=["VAE", "DenoisingAE"],
)
def test_a_category_is_told_from_a_number(estimator):
    table = planted()
    model = clone(estimator).set_params(likelihood="mixed").fit(table[:1000])
    guessed = model.reconstruct(table[1000:].assign(port=None, rich=None))
    # The most frequent port has .45 of the rows.
    assert (guessed["port"].to_numpy() == table["port"][1000:].to_numpy()).mean() > 0.8
    assert (guessed["rich"].to_numpy() == table["rich"][1000:].to_numpy()).mean() > 0.8
