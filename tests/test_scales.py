"""Tables from 1e-30 to 1e30 are fitted as those near one are; beyond, an error names the cell."""

import numpy as np
import pytest
from registry import ESTIMATORS, over, real, shares, with_parameters
from sklearn.base import clone

from skae import (
    GAN,
    LBFGS,
    RBM,
    VAE,
    AutoencoderClassifier,
    AutoencoderTransformer,
    EarlyStopping,
    Gaussian,
    SparseAE,
    StackedAE,
)

P = 4
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
CASES = {
    **ESTIMATORS,
    "SparseAE-kl": SparseAE(2, penalty="kl", **SMALL),
    "VAE-student_t": VAE(2, likelihood="student_t", **SMALL),
    "VAE-columns": VAE(2, likelihood=Gaussian(scale="columns"), **SMALL),
    "RBM-gaussian": RBM(2, visible="gaussian", max_iter=3, random_state=0),
    "StackedAE-rbm": StackedAE(2, layer="rbm", pretraining_iter=1, **SMALL),
    "StackedAE-contractive": StackedAE(2, layer="contractive", pretraining_iter=1, **SMALL),
    "one-split": AutoencoderTransformer(2, early_stopping=EarlyStopping(n_folds=0), **SMALL),
    "restarts": SparseAE(2, n_init=2, early_stopping=EarlyStopping(n_folds=0), **SMALL),
    "GAN": GAN(2, **SMALL),
}


def assert_finite(ae, X):
    """All that the methods of a fitted estimator return is finite."""
    gaps = X.copy()
    gaps[::3, 1] = np.nan
    for name in ("transform", "reconstruct", "score_samples", "complete", "sample_completions"):
        if hasattr(ae, name):
            rows = X if name in ("transform", "reconstruct", "score_samples") else gaps
            assert np.isfinite(getattr(ae, name)(rows)).all(), name
    if hasattr(ae, "sample"):
        assert np.isfinite(ae.sample(5, random_state=0)).all()


# Powers of two, so that rounding is nearly the same: 6e-30 and 2e28.
@pytest.mark.parametrize("exponent", [-97, 94])
@pytest.mark.parametrize("estimator", **over(CASES))
def test_a_table_of_another_scale(estimator, exponent):
    # Folds of unequal size have weights.
    X, factor = real(61, P), 2.0**exponent
    one, other = clone(estimator).fit(X), clone(estimator).fit(factor * X)
    weight = np.arange(61.0)
    assert_finite(clone(estimator).fit(factor * X, sample_weight=weight), factor * X)
    assert_finite(other, factor * X)
    assert one.n_iter_ == other.n_iter_
    if hasattr(one, "reconstruct"):
        expected = one.reconstruct(X)
        np.testing.assert_allclose(other.reconstruct(factor * X) / factor, expected, atol=1e-3 * X.std())
        small = other.reconstruct((factor * X).astype(np.float32))
        assert small.dtype == np.float32
        np.testing.assert_allclose(small / factor, expected, atol=2e-3 * X.std())


@pytest.mark.parametrize("exponent", [-60, -30, -12, 12, 30, 60])
def test_training_is_as_long_on_another_scale(exponent):
    """Held-out losses in small units differ in digits that lie far behind the likelihood's constant."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 3, 200)
    X = np.column_stack([np.cos(angle), np.sin(angle), angle**2]) + 0.01 * rng.standard_normal((200, 3))
    for estimator in (
        AutoencoderTransformer(1, hidden_layer_sizes=(16,), max_iter=60, random_state=0),
        SparseAE(1, hidden_layer_sizes=(16,), max_iter=60, early_stopping=EarlyStopping(n_folds=0), random_state=0),
    ):
        one, other = clone(estimator).fit(X), clone(estimator).fit(2.0**exponent * X)
        assert one.n_iter_ == other.n_iter_ > 1
        # Minus log-likelihoods differ by the logarithm of the scale, but for squared errors that have it as a factor.
        assert len(one.validation_loss_curve_) == len(other.validation_loss_curve_)


@pytest.mark.parametrize("exponent", [-60, -12, 60])
def test_a_line_search_on_another_scale(exponent):
    X = real(60, P)
    ae = AutoencoderTransformer(2, optimizer=LBFGS(), early_stopping=False, **SMALL)
    errors = [np.square(clone(ae).fit(f * X).reconstruct(f * X) / f - X).mean() for f in (1, 2.0**exponent)]
    assert errors[1] == pytest.approx(errors[0], rel=0.01)
    assert errors[0] < 0.98 * np.square(ae.set_params(hidden_layer_sizes=()).fit(X).reconstruct(X) - X).mean()
    weighted = clone(ae).fit(X, sample_weight=np.arange(60.0))
    twice = clone(ae).fit(X, sample_weight=2 * np.arange(60.0))
    assert weighted.loss_curve_ == twice.loss_curve_
    for scale in (None, 0.5):
        # The curve's last entry is the loss of the weights: minus the score.
        likelihood = "gaussian" if scale is None else Gaussian(scale)
        one = AutoencoderTransformer(
            2, optimizer=LBFGS(), penalties=[], early_stopping=False, likelihood=likelihood, **SMALL
        )
        one.set_params(max_iter=1).fit(X)
        assert one.loss_curve_[-1] == pytest.approx(-one.score(X), rel=0.05)


def test_held_out_losses_are_those_of_score():
    X = np.concatenate([real(200, P), real(200, P, 1)])
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(8,), penalties=[], max_iter=5, random_state=0)
    ae.set_params(early_stopping=EarlyStopping(0.5, n_folds=0)).fit(X)
    order = np.random.RandomState(0)
    # Two seeds are drawn before the rows are.
    for _ in range(2):
        order.randint(np.iinfo(np.int32).max)
    held = X[np.sort(order.permutation(400)[:200])]
    assert min(ae.validation_loss_curve_) == pytest.approx(-ae.score(held), rel=1e-5)


@pytest.mark.parametrize("estimator", **over({k: v for k, v in CASES.items() if k != "MaskedAE"}))
def test_columns_of_very_different_scales(estimator):
    X = shares(60, P) * [1e-12, 1e-6, 1, 1e12]
    assert_finite(clone(estimator).fit(X), X)


@pytest.mark.parametrize(("value", "dtype"), [(9.97e36, np.float32), (-1e155, np.float64)])
@pytest.mark.parametrize("estimator", **over({**ESTIMATORS, "GAN": CASES["GAN"]}))
def test_a_number_that_is_too_large(estimator, value, dtype):
    X = shares(60, P).astype(dtype)
    fitted = clone(estimator).fit(X)
    X[17, 2] = value
    weight = np.ones(60)
    weight[:5] = 0
    message = r"X holds (9.97e\+36|-1e\+155) in column 2, row 17: numbers beyond 1e\+30 are too large.*NaN"
    for fit in (clone(estimator).fit, clone(estimator).partial_fit):
        with pytest.raises(ValueError, match=message):
            fit(X, sample_weight=weight)
    with pytest.raises(ValueError, match=message):
        fitted.partial_fit(X)


def test_the_cell_is_named_as_the_user_knows_it():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(shares(20, 3), columns=["sea", "land", "air"])
    X.iloc[3, 1] = 9.97e36
    with pytest.raises(ValueError, match="in column 'land', row 3"):
        AutoencoderTransformer(2).fit(X)
    table = X.assign(kind=["a", "b"] * 10)[["kind", "sea", "land", "air"]]
    with pytest.raises(ValueError, match="in column 'land', row 3"):
        AutoencoderTransformer(2, likelihood="mixed").fit(table)
    y = np.arange(20) % 2
    with pytest.raises(ValueError, match="in column 'land', row 3"):
        AutoencoderClassifier(AutoencoderTransformer(2)).fit(X, y)


@pytest.mark.parametrize("value", [1e25, -9e29])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("name", ["AutoencoderTransformer", "SparseAE-l1", "VAE", "StackedAE", "VQVAE"])
def test_a_number_far_from_its_column(name, early_stopping, value):
    X = shares(60, P)
    X[17, 2] = value
    ae = with_parameters(ESTIMATORS[name], early_stopping=early_stopping)
    try:
        assert_finite(ae.fit(X), X)
    except ValueError as error:
        assert "in column 2, row 17" in str(error) and "as far from the column's median" in str(error)
        assert not hasattr(ae, "model_")


def test_a_stack_names_the_users_row():
    X = shares(60, P)
    X[37, 2] = 1e25
    stack = StackedAE(2, layer="contractive", pretraining_iter=1, **SMALL)
    with pytest.raises(ValueError, match="in column 2, row 37, .*as far from the column's median"):
        stack.fit(X, sample_weight=np.arange(60.0))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("estimator", **over({k: v for k, v in CASES.items() if k != "MaskedAE"}))
def test_later_rows_with_large_numbers(estimator, dtype):
    ae = clone(estimator).fit(shares(60, P))
    for value in (1e20, -1e30):
        X = shares(60, P).astype(dtype)
        X[17, 2] = value
        for name in ("transform", "reconstruct", "score_samples"):
            if hasattr(ae, name):
                assert np.isfinite(getattr(ae, name)(X)).all()


def test_later_rows_beyond_the_range():
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(shares(60, P))
    X = shares(60, P)
    X[17, 2] = 1e200
    with pytest.raises(ValueError, match=r"X holds 1e\+200 in column 2, row 17"):
        ae.score_samples(X)


def test_a_table_that_varies_too_little():
    with pytest.raises(ValueError, match=r"X varies by .*e-3\d at most, in column 3; .*less than 1e-30 is lost"):
        AutoencoderTransformer(2).fit(1e-35 * real(60, P))
    # One column does not matter, and a constant one neither.
    X = real(60, P) * [1, 1e-40, 1, 0]
    AutoencoderTransformer(2, max_iter=2).fit(X)
