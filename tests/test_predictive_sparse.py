"""Predictive sparse decomposition: the solver, the encoder and the dictionary."""

import numpy as np
import pytest
import torch
from registry import generator, real
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, sparse_encode

from skae import EarlyStopping, PredictiveSparseDecomposition
from skae.model.predictive_sparse import Dictionary, UnrolledShrinkage, fista, lipschitz_bound, shrink

P = 8


def problem(n=20, d=12, p=P, dtype=torch.float64):
    """Rows and unit atoms."""
    x = torch.randn(n, p, generator=generator(), dtype=dtype)
    atoms = torch.nn.functional.normalize(torch.randn(d, p, generator=generator(1), dtype=dtype), dim=1)
    return x, atoms


def objective(x, atoms, penalty, h):
    """Of each row."""
    return 0.5 * ((x - h @ atoms) ** 2).sum(1) + penalty * abs(h).sum(1)


def test_shrink_is_the_proximal_map_of_the_absolute_value():
    h, grid = torch.linspace(-2, 2, 9), torch.linspace(-3, 3, 6001)
    best = (0.5 * (grid[:, None] - h).square() + 0.7 * grid[:, None].abs()).argmin(0)
    torch.testing.assert_close(shrink(h, 0.7), grid[best], atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 40), (30, 30), (40, 3)])
def test_the_bound_is_above_the_largest_eigenvalue_and_near_it(shape):
    a = torch.randn(shape, generator=generator(), dtype=torch.float64)
    gram = a @ a.T
    largest = torch.linalg.eigvalsh(gram)[-1]
    assert largest <= lipschitz_bound(gram) <= len(gram) ** (1 / 16) * largest * (1 + 1e-12)


@pytest.mark.parametrize("penalty", [0.01, 0.1, 1.0])
def test_fista_solves_the_lasso(penalty):
    x, atoms = problem()
    found = fista(x, atoms, penalty, torch.zeros(20, 12, dtype=torch.float64), 3000)
    expected = torch.tensor(sparse_encode(x.numpy(), atoms.numpy(), algorithm="lasso_lars", alpha=penalty))
    gap = objective(x, atoms, penalty, found) - objective(x, atoms, penalty, expected)
    assert gap.abs().max() < 1e-8
    # The conditions of optimality: the residual's correlation is at most the penalty, and equal to it where active.
    slope = (x - found @ atoms) @ atoms.T
    assert slope.abs().max() <= penalty * (1 + 1e-5)
    torch.testing.assert_close(slope[found != 0], penalty * found[found != 0].sign(), rtol=1e-5, atol=1e-8)


def test_without_a_penalty_and_with_orthonormal_atoms_codes_are_coordinates():
    x, _ = problem()
    atoms = torch.linalg.qr(torch.randn(P, P, generator=generator(), dtype=torch.float64))[0]
    start = torch.zeros(20, P, dtype=torch.float64)
    torch.testing.assert_close(fista(x, atoms, 0.0, start, 300), x @ atoms.T)
    torch.testing.assert_close(fista(x, atoms, 0.3, start, 300), shrink(x @ atoms.T, 0.3))


def test_entries_that_are_not_observed_do_not_count():
    x, atoms = problem()
    start = torch.zeros(20, 12, dtype=torch.float64)
    observed = torch.ones_like(x)
    torch.testing.assert_close(
        fista(x, atoms, 0.1, start, 50, observed=observed), fista(x, atoms, 0.1, start, 50), rtol=1e-9, atol=1e-9
    )
    observed[:, :2] = 0
    masked = fista(x * observed, atoms, 0.1, start, 3000, observed=observed)
    # The same as without those columns.
    expected = fista(x[:, 2:], atoms[:, 2:], 0.1, start, 3000)
    gap = objective(x[:, 2:], atoms[:, 2:], 0.1, masked) - objective(x[:, 2:], atoms[:, 2:], 0.1, expected)
    assert gap.abs().max() < 1e-8


def test_a_tolerance_ends_the_steps_near_the_solution():
    x, atoms = problem()
    start = torch.zeros(20, 12, dtype=torch.float64)
    exact, early = fista(x, atoms, 0.1, start, 3000), fista(x, atoms, 0.1, start, 3000, tol=1e-4)
    above = objective(x, atoms, 0.1, early) - objective(x, atoms, 0.1, exact)
    assert above.max() < 1e-3 * objective(x, atoms, 0.1, exact).min()
    assert not torch.equal(early, exact)


@pytest.mark.parametrize("n_layers", [0, 1, 4])
def test_the_encoder_starts_as_proximal_gradient_steps(n_layers):
    x, atoms = problem(dtype=torch.float32)
    encoder = UnrolledShrinkage(P, 12, n_layers)
    encoder.reset(generator())
    encoder.start_at(atoms, 0.1)
    rate, h = 1 / lipschitz_bound(atoms @ atoms.T), torch.zeros(20, 12)
    for _ in range(n_layers + 1):
        h = shrink(h - rate * (h @ atoms - x) @ atoms.T, rate * 0.1)
    torch.testing.assert_close(encoder(x), h, rtol=1e-4, atol=1e-5)


def test_atoms_have_unit_length_and_start_near_rows():
    dictionary = Dictionary(5, P)
    rows = torch.randn(3, P, generator=generator()) * 100
    dictionary.start_at(rows, generator(1))
    atoms = dictionary.atoms()
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(5))
    assert ((atoms[:3] * torch.nn.functional.normalize(rows, dim=1)).sum(1) > 0.97).all()
    rows[:, 2] = 5
    dictionary.start_at(rows - rows.mean(0), generator(1))
    torch.testing.assert_close(dictionary.atoms()[:, 2], torch.zeros(5))


@pytest.fixture(scope="module")
def fitted():
    """Digits to train and to test, and a model of them."""
    X, _ = load_digits(return_X_y=True)
    X = X.astype(np.float64)
    psd = PredictiveSparseDecomposition(100, learning_rate=0.002, max_iter=80, random_state=0)
    psd.set_params(batch_size=64, early_stopping=False)
    return X[:1200], X[1200:], psd.fit(X[:1200])


def _objective(psd, X, h):
    return objective(X - psd.mean_, psd.components_, psd.alpha_, h).mean()


def test_dictionary_and_penalty_are_in_the_units_of_the_data(fitted):
    X, X_test, psd = fitted
    np.testing.assert_allclose(np.linalg.norm(psd.components_, axis=1), 1)
    np.testing.assert_allclose(psd.mean_, X.mean(0))
    assert psd.alpha_ == pytest.approx(0.1 * X.var(0).sum() ** 0.5)
    h = psd.transform(X_test)
    np.testing.assert_allclose(psd.inverse_transform(h), psd.mean_ + h @ psd.components_, atol=1e-9)
    # What is minimised is this objective, and γ times the squared distance of the two codes.
    exact = psd.sparse_encode(X)
    assert psd.loss_terms_["sparsity"][-1] == pytest.approx(psd.alpha_ * np.abs(exact).sum(1).mean(), rel=0.05)


def test_sparse_encode_is_the_lassos_solution(fitted):
    _, X_test, psd = fitted
    expected = sparse_encode(X_test - psd.mean_, psd.components_, algorithm="lasso_lars", alpha=psd.alpha_)
    found = psd.sparse_encode(X_test, max_iter=5000, tol=1e-9)
    assert _objective(psd, X_test, found) == pytest.approx(_objective(psd, X_test, expected), rel=1e-6)


def test_the_encoder_is_near_the_lasso_on_rows_it_has_not_seen(fitted):
    _, X_test, psd = fitted
    least = _objective(psd, X_test, psd.sparse_encode(X_test))
    assert _objective(psd, X_test, psd.transform(X_test)) < 1.1 * least
    product = clone(psd).set_params(n_layers=0, max_iter=40).fit(fitted[0])
    excess = _objective(product, X_test, product.transform(X_test))
    assert excess > 1.05 * _objective(product, X_test, product.sparse_encode(X_test))


def test_the_dictionary_is_better_than_principal_axes_and_rows(fitted):
    X, X_test, psd = fitted
    least = _objective(psd, X_test, psd.sparse_encode(X_test))
    axes = PCA(64).fit(X).components_
    rows = X[:100] - psd.mean_
    for atoms in (axes, rows / np.linalg.norm(rows, axis=1, keepdims=True)):
        h = sparse_encode(X_test - psd.mean_, atoms, algorithm="lasso_cd", alpha=psd.alpha_, max_iter=5000)
        assert least < 0.9 * objective(X_test - psd.mean_, atoms, psd.alpha_, h).mean()


def test_neither_units_nor_offsets_matter():
    X = real(100, P)
    options = {"max_iter": 5, "early_stopping": False, "random_state": 0}
    one = PredictiveSparseDecomposition(10, **options).fit(X)
    other = PredictiveSparseDecomposition(10, **options).fit(1000 * X + 5000)
    np.testing.assert_allclose(other.components_, one.components_, atol=1e-4)
    np.testing.assert_allclose(other.transform(1000 * X + 5000), 1000 * one.transform(X), rtol=1e-2, atol=1.0)
    assert other.alpha_ == pytest.approx(1000 * one.alpha_)


def test_more_sparsity_has_fewer_atoms_a_row():
    X = real(200, P)
    options = {"max_iter": 20, "early_stopping": False, "random_state": 0}
    models = [PredictiveSparseDecomposition(16, sparsity=s, **options).fit(X) for s in (0.01, 0.1, 0.5, 3.0)]
    active = [(psd.sparse_encode(X) != 0).sum(1).mean() for psd in models]
    assert active[0] > active[1] > active[2] > active[3] == 0


def test_gaps_are_filled():
    X = real(300, P)
    holes = np.random.default_rng(0).random(X.shape) < 0.1
    Z = np.where(holes, np.nan, X)
    psd = PredictiveSparseDecomposition(16, sparsity=0.03, max_iter=60, early_stopping=False, random_state=0).fit(Z)
    mean = np.square(X - np.nanmean(Z, axis=0))[holes].mean()
    # The encoder sees the mean there, the solver knows which entries count.
    predicted, solved = (
        np.square(X - psd.inverse_transform(codes))[holes].mean() for codes in (psd.transform(Z), psd.sparse_encode(Z))
    )
    assert solved < predicted < mean
    assert solved < 0.75 * mean


@pytest.mark.parametrize("early_stopping", [True, EarlyStopping(n_folds=0)], ids=str)
def test_held_out_rows_decide(early_stopping):
    X = real(120, P)
    psd = PredictiveSparseDecomposition(8, max_iter=20, early_stopping=early_stopping, random_state=0).fit(X)
    assert min(psd.validation_loss_curve_) < psd.validation_loss_curve_[0]


def test_auto_is_an_atom_a_feature():
    X = real(60, P)
    assert PredictiveSparseDecomposition(max_iter=1).fit(X).n_components_ == P
    assert PredictiveSparseDecomposition(0.8, max_iter=1).fit(X).n_components_ < P


@pytest.mark.parametrize(
    "parameters", [{"sparsity": -0.1}, {"n_layers": -1}, {"n_solver_steps": 0}, {"optimizer": "lbfgs"}], ids=str
)
def test_parameters_out_of_range(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"The '{name}' parameter of PredictiveSparseDecomposition must be"):
        PredictiveSparseDecomposition(2, **parameters).fit(real(60, P))


def test_a_row_is_solved_alone_as_among_others():
    """Rows of very different size take different numbers of steps, and each takes its own."""
    rng = np.random.default_rng(0)
    atoms = torch.tensor(rng.standard_normal((12, 6)))
    atoms /= atoms.norm(dim=1, keepdim=True)
    x = torch.tensor(rng.standard_normal((40, 6)) * np.logspace(-6, 3, 40)[:, None])
    start = torch.zeros(40, 12, dtype=torch.float64)
    together = fista(x, atoms, 0.1, start, 1000, tol=1e-5)
    for index in range(40):
        row = slice(index, index + 1)
        alone = fista(x[row], atoms, 0.1, start[row], 1000, tol=1e-5)
        torch.testing.assert_close(alone, together[row], rtol=1e-9, atol=1e-12)
