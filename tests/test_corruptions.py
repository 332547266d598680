"""What each corruption does to a row."""

import numpy as np
import pytest
import torch
from registry import CORRUPTIONS, LIKELIHOODS, generator, over, real, scaling_of
from sklearn.base import clone

from skae import AutoencoderTransformer, DenoisingAE, GaussianNoise, Masking, SaltAndPepper, Swap
from skae.model.corruptions import CallableCorruption
from skae.model.step import Step

N, P = 4000, 3


@pytest.fixture(scope="module")
def scaling():
    """Of uncorrelated columns with scales of their own."""
    return scaling_of(real(N, P))


@pytest.fixture(scope="module")
def rows(scaling):
    """Standardised rows."""
    return scaling.input(torch.tensor(real(N, P)))[0]


def _corrupted(part, rows, scaling):
    before = rows.clone()
    made = part.corrupt(rows, scaling, generator())
    torch.testing.assert_close(rows, before, rtol=0, atol=0)
    return made


@pytest.mark.parametrize("part", **over(CORRUPTIONS))
def test_rows_keep_shape_precision_and_are_finite(part, rows, scaling):
    for dtype in (torch.float32, torch.float64):
        made = _corrupted(part, rows.to(dtype), scaling)
        assert made.rows.shape == rows.shape and made.rows.dtype == dtype
        assert torch.isfinite(made.rows).all()
        assert not torch.equal(made.rows, rows.to(dtype))


@pytest.mark.parametrize("part", **over(CORRUPTIONS))
def test_what_is_not_marked_as_changed_is_as_it_was(part, rows, scaling):
    made = _corrupted(part, rows, scaling)
    if made.changed is not None:
        assert torch.equal(made.rows[~made.changed], rows[~made.changed])


@pytest.mark.parametrize("part", **over(CORRUPTIONS))
def test_the_same_generator_gives_the_same_corruption(part, rows, scaling):
    assert torch.equal(_corrupted(part, rows, scaling).rows, _corrupted(part, rows, scaling).rows)


def test_gaussian_noise_has_its_scale(rows, scaling):
    noise = _corrupted(GaussianNoise(0.4), rows, scaling).rows - rows
    torch.testing.assert_close(noise.std(0), torch.full((P,), 0.4).double(), rtol=0.05, atol=0)
    assert float(noise.mean(0).abs().max()) < 0.03


def test_gaussian_noise_in_the_units_of_the_data(rows, scaling):
    made = _corrupted(GaussianNoise(2.0, relative=False), rows, scaling).rows
    noise = scaling.from_input(made) - scaling.from_input(rows)
    torch.testing.assert_close(noise.std(0), torch.full((P,), 2.0).double(), rtol=0.05, atol=0)


def test_a_range_of_scales_is_log_uniform_over_rows(scaling):
    rows = torch.zeros(N, 200, dtype=torch.float64)
    made = GaussianNoise((0.01, 1.0)).corrupt(rows, scaling, generator())
    levels = made.log_level[:, 0]
    assert levels.min() >= np.log(0.01) - 1e-9 and levels.max() <= 1e-9
    assert float(levels.mean()) == pytest.approx(np.log(0.1), abs=0.1)
    assert float(levels.std()) == pytest.approx(np.log(100) / 12**0.5, rel=0.05)
    # Each row's noise has the level that the row is said to have.
    torch.testing.assert_close(made.rows.std(1), levels.exp(), rtol=0.25, atol=0)


@pytest.mark.parametrize("part", [Masking(0.3), SaltAndPepper(0.3), Swap(0.3)], ids=str)
def test_a_share_of_the_entries_changes(part, rows, scaling):
    changed = _corrupted(part, rows, scaling).changed
    assert float(changed.double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(changed.all(1).double().mean()) == pytest.approx(0.3**P, abs=0.01)


@pytest.mark.parametrize("part", [Masking(0.0), SaltAndPepper(0.0), Swap(0.0)], ids=str)
def test_no_share_no_change(part, rows, scaling):
    assert torch.equal(_corrupted(part, rows, scaling).rows, rows)


@pytest.mark.parametrize(("fill", "value"), [(0.0, 0.0), (1.5, 1.5), ("mean", None)])
def test_masking_fills_in_the_units_of_the_data(fill, value, rows, scaling):
    made = _corrupted(Masking(0.5, fill=fill), rows, scaling)
    filled = scaling.from_input(made.rows)
    for column in range(P):
        expected = float(scaling.columns.mean[column]) if value is None else value
        entries = filled[made.changed[:, column], column]
        torch.testing.assert_close(entries, torch.full_like(entries, expected))


def test_salt_and_pepper_takes_both_extremes_equally_often(rows, scaling):
    made = _corrupted(SaltAndPepper(0.4), rows, scaling)
    values = scaling.from_input(made.rows)
    low, high = scaling.columns.low, scaling.columns.high
    at_low, at_high = torch.isclose(values, low), torch.isclose(values, high)
    assert torch.equal((at_low | at_high) | ~made.changed, torch.ones_like(made.changed))
    assert float(at_low.double().mean()) == pytest.approx(0.2, abs=0.02)
    assert float(at_high.double().mean()) == pytest.approx(0.2, abs=0.02)


def test_swapped_values_are_the_columns_own(rows, scaling):
    made = _corrupted(Swap(0.5), rows, scaling).rows
    for column in range(P):
        assert np.isin(made[:, column], rows[:, column]).all()
    # Whole swaps keep each column's distribution and break the columns' dependence.
    apart = _corrupted(Swap(1.0), rows, scaling).rows
    torch.testing.assert_close(apart.std(0), rows.std(0), rtol=0.05, atol=0)
    correlation = torch.corrcoef(apart.T) - torch.eye(P)
    assert float(correlation.abs().max()) < 0.06 < float((torch.corrcoef(rows.T) - torch.eye(P)).abs().max())


@pytest.mark.parametrize("name", ["gaussian", "bernoulli-bounds", "poisson"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_callable_gets_and_gives_rows_in_the_units_of_the_data(name, dtype):
    example = LIKELIHOODS[name]
    X = example.rows(50, P)
    scaling = scaling_of(X, example.part)
    seen = []
    part = CallableCorruption(lambda rows: seen.append(rows) or np.where(rows > 2, 0.0, rows))
    rows, _ = scaling.input(torch.tensor(X, dtype=dtype))
    made = part.corrupt(rows, scaling, generator())
    np.testing.assert_allclose(seen[0], X, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scaling.from_input(made.rows), np.where(seen[0] > 2, 0, X), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(made.changed, seen[0] > 2)


def test_a_callable_may_write_into_its_rows(rows, scaling):
    def blank(X):
        X[:, 0] = 0.0
        return X

    made = CallableCorruption(blank).corrupt(rows, scaling, generator())
    np.testing.assert_array_equal(made.changed, np.arange(P) == np.zeros((N, 1)))


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, DenoisingAE])
@pytest.mark.parametrize("part", ["gaussian", "masking", "salt_and_pepper", "swap", np.roll, *CORRUPTIONS.values()])
def test_every_corruption_trains(part, estimator):
    corruption = (lambda X: np.roll(X, 1, axis=1)) if part is np.roll else part
    options = {"max_iter": 2, "early_stopping": False, "random_state": 0, "hidden_layer_sizes": (6,)}
    ae = estimator(2, corruption=corruption, **options).fit(real(60, P))
    assert np.isfinite(ae.loss_curve_).all() and ae.n_iter_ == 2


def test_gaps_stay_gaps_when_rows_are_corrupted():
    X = real(60, P)
    X[::3, 1] = np.nan
    for corruption in CORRUPTIONS.values():
        dae = DenoisingAE(2, corruption=clone(corruption), hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X)
        input, target, observed = dae.model_.prepare(torch.tensor(X, dtype=torch.float32))
        seen = Step(dae.model_, input, target, observed, generator=generator()).seen
        assert (seen[::3, 1] == 0).all()


def test_rows_are_whole_outside_of_training():
    X = real(60, P)
    dae = DenoisingAE(2, max_iter=2, random_state=0).fit(X)
    np.testing.assert_array_equal(dae.transform(X), dae.transform(X))
    np.testing.assert_array_equal(dae.score_samples(X), dae.score_samples(X))


@pytest.mark.parametrize(
    ("corruption", "message"),
    [
        (lambda X: X[:, :1], r"returned shape \(\d+, 1\) for rows of shape"),
        (lambda X: X[:1], r"it must keep the shape"),
        (lambda X: np.where(X > 1, np.nan, X), "NaN or infinity; it must return finite values"),
        (lambda X: np.where(X > 1, np.inf, X), "NaN or infinity; it must return finite values"),
    ],
)
def test_what_a_corruption_must_not_do(corruption, message):
    with pytest.raises(ValueError, match=message):
        DenoisingAE(2, corruption=corruption, max_iter=2).fit(real(60, P))
