"""The best linear guess of the entries that are hidden: a normal distribution of the whole row, given the rest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skae.model.factor_analysis import Factors, estimate_factors, max_factors
from skae.model.threads import threads

# Columns up to which each row's own matrix is solved; beyond, the columns have so many factors in common, and the
# cost of a guess is linear in them.
MAX_DENSE, N_FACTORS = 32, 32
# Columns beyond which these factors are estimated without a covariance matrix, as where rows are fewer than so many a
# column, which do not determine one.
MAX_ESTIMATED, ROWS_A_COLUMN = 100, 5
# Numbers of the matrices that are solved at once.
BLOCK_ELEMENTS = 2**22
# Products that estimating may take, in so many steps or, with few rows, until it hardly changes.
MAX_PRODUCTS, FEW_STEPS = 2e9, 5
MAX_STEPS, TOLERANCE = 50, 1e-3
# Products up to which complete rows are the start, and the change is small beside what other columns leave of each.
FINE_PRODUCTS = 1e8
# Rows' worth of independent columns, and the share of its variance that every column keeps to itself.
PRIOR_ROWS, OWN_SHARE = 1.0, 1e-5
# Such a row has no more than so many times the variance that the other columns leave of a column.
PRIOR_RESIDUALS = 30.0
LEAST_OWN, FACTOR_STEPS = 0.01, 20
# Share of a column's variance in all rows that it is given at least.
LEAST_SPREAD = 0.5
# Deviation of a column that is constant but for rounding, of its largest value.
ROUNDING = 1e-7


class Normal(NamedTuple):
    """A normal distribution.

    Attributes
    ----------
    mean : Tensor of shape (n_features,)
    covariance : Tensor of shape (n_features, n_features)
    """

    mean: Tensor
    covariance: Tensor

    @property
    def variance(self) -> Tensor:
        """Of each column."""
        return self.covariance.diagonal()

    def scaled(self, unit: Tensor) -> Normal:
        """The distribution of the columns times these units."""
        return Normal(self.mean * unit, self.covariance * torch.outer(unit, unit))


def guess(rows: Tensor, known: Tensor, normal: Normal | Factors) -> tuple[Tensor, Tensor]:
    """Conditional mean and variance of every entry given those that are known, by either kind of distribution."""
    return guess_hidden(rows, known, *normal) if isinstance(normal, Normal) else guess_by_factors(rows, known, *normal)


def flops_of_guess(n_rows: int, n_features: int, n_factors: int) -> float:
    """Operations of the guesses of so many rows, which are about those of a step of `estimate_normal`."""
    return 2.0 * n_rows * (n_features * n_factors**2 if n_factors else n_features**3)


def n_factors_of(n_rows: int, n_features: int) -> int:
    """Factors of the distribution that `estimate_normal` makes of so many rows; 0 for a covariance matrix."""
    return 0 if n_features <= MAX_DENSE else max_factors(n_rows, n_features, N_FACTORS)


def estimate_normal(rows: Tensor, known: Tensor, weight: Tensor | None, n_factors: int) -> Normal | Factors:
    """The normal distribution of rows with gaps.

    Parameters
    ----------
    rows, known : Tensor of shape (n_rows, n_features), float64
        Values, and one where they are known, zero elsewhere.
    weight : Tensor of shape (n_rows,) or None
        Weights of the rows.
    n_factors : int
        Factors at most, or 0 for a covariance matrix: see `n_factors_of`.

    Returns
    -------
    Normal or Factors
    """
    with threads.for_work(flops_of_guess(len(rows), rows.shape[1], n_factors)):
        return _estimate_normal(rows, known, weight, n_factors)


def _estimate_normal(rows: Tensor, known: Tensor, weight: Tensor | None, n_factors: int) -> Normal | Factors:
    n, p = rows.shape
    if n_factors and (p > MAX_ESTIMATED or n < ROWS_A_COLUMN * p):
        return estimate_factors(rows, known, weight, n_factors).with_factors(n_factors)
    mean, covariance = estimate(rows, known, weight)
    return Factors(mean, *factors_of(covariance, n_factors)) if n_factors else Normal(mean, covariance)


def guess_hidden(rows: Tensor, known: Tensor, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Conditional mean and variance of every entry given those that are known.

    .. math:: E[x_h \mid x_o] = \mu_h + \Sigma_{ho} \Sigma_{oo}^{-1} (x_o - \mu_o), \quad
        \mathrm{var} = \mathrm{diag}(\Sigma_{hh} - \Sigma_{ho} \Sigma_{oo}^{-1} \Sigma_{oh})

    Parameters
    ----------
    rows, known : Tensor of shape (n_rows, n_features)
        Values, and one where they are known, zero elsewhere.
    mean : Tensor of shape (n_features,)
    covariance : Tensor of shape (n_features, n_features)

    Returns
    -------
    mean, variance : Tensor of shape (n_rows, n_features)
        A known entry is its own mean; its variance is close to zero.
    """
    size = max(1, BLOCK_ELEMENTS // mean.numel() ** 2)
    if len(rows) > size:
        parts = [
            guess_hidden(*part, mean, covariance) for part in zip(rows.split(size), known.split(size), strict=True)
        ]
        means, variances = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(variances)
    inverse = _inverse_of_known(known, covariance)
    coefficients = (inverse @ ((rows - mean) * known).unsqueeze(-1)).squeeze(-1)
    guess = torch.where(known > 0, rows, mean + coefficients @ covariance)
    explained = ((inverse.flatten(0, 1) @ covariance).view_as(inverse) * covariance).sum(1)
    return guess, (covariance.diagonal() - explained).clamp_min(0.0)


def guess_by_factors(rows: Tensor, known: Tensor, mean: Tensor, loadings: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    r"""What `guess_hidden` makes for a covariance of factors and of what each column has alone, ΛΛᵀ + diag(ψ).

    .. math:: E[z \mid x_o] = (I + \Lambda_o^T \Psi_o^{-1} \Lambda_o)^{-1} \Lambda_o^T \Psi_o^{-1} (x_o - \mu_o)

    Parameters
    ----------
    rows, known : Tensor of shape (n_rows, n_features)
        Values, and one where they are known, zero elsewhere.
    mean, own : Tensor of shape (n_features,)
    loadings : Tensor of shape (n_features, n_factors)

    Returns
    -------
    mean, variance : Tensor of shape (n_rows, n_features)
    """
    p, k = loadings.shape
    size = max(1, BLOCK_ELEMENTS // max(k**2, p))
    if len(rows) > size:
        pairs = zip(rows.split(size), known.split(size), strict=True)
        means, variances = zip(*(guess_by_factors(*pair, mean, loadings, own) for pair in pairs), strict=True)
        return torch.cat(means), torch.cat(variances)
    blocks = loadings.split(max(1, BLOCK_ELEMENTS // k**2))
    precision = known / own
    matrix = sum(
        part @ _outer(block) for part, block in zip(precision.split(len(blocks[0]), 1), blocks, strict=True)
    ).view(-1, k, k)
    matrix.diagonal(dim1=-2, dim2=-1).add_(1)
    inverse = _inverse(matrix)
    factors = (inverse @ (((rows - mean) * precision) @ loadings).unsqueeze(-1)).squeeze(-1)
    guess = torch.where(known > 0, rows, mean + factors @ loadings.T)
    variance = torch.cat([inverse.flatten(1) @ _outer(block).T for block in blocks], 1)
    return guess, (variance + own) * (1 - known)


def _outer(loadings: Tensor) -> Tensor:
    """Products of each column's loadings, of shape (n_features, n_factors²)."""
    return (loadings.unsqueeze(2) * loadings.unsqueeze(1)).flatten(1)


def _inverse(matrix: Tensor) -> Tensor:
    """Of positive definite matrices; a CUDA graph can capture it, which it cannot `torch.cholesky_inverse`."""
    factor = torch.linalg.cholesky_ex(matrix)[0]
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    root = torch.linalg.solve_triangular(factor, one.expand_as(matrix), upper=False)
    return root.mT @ root


def factors_of(covariance: Tensor, n_factors: int) -> tuple[Tensor, Tensor]:
    """Loadings and own variances of the factors that a covariance is nearest to, by principal factors.

    Parameters
    ----------
    covariance : Tensor of shape (n_features, n_features), float64
    n_factors : int

    Returns
    -------
    loadings : Tensor of shape (n_features, n_factors)
    own : Tensor of shape (n_features,)

    References
    ----------
    Jöreskog, "Some contributions to maximum likelihood factor analysis", Psychometrika 32, 1967.
    """
    unit = covariance.diagonal().sqrt()
    correlation = covariance / torch.outer(unit, unit)
    nearly = correlation + 1e-3 * torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
    own = (1 / torch.linalg.inv(nearly).diagonal()).clamp(LEAST_OWN, 1.0)
    for _ in range(FACTOR_STEPS):
        root = own.sqrt()
        values, vectors = torch.linalg.eigh(correlation / torch.outer(root, root))
        values, vectors = values[-n_factors:], vectors[:, -n_factors:]
        loadings = root.unsqueeze(1) * vectors * (values - 1).clamp_min(0).sqrt()
        own = (1 - loadings.square().sum(1)).clamp(LEAST_OWN, 1.0)
    return loadings * unit.unsqueeze(1), own * unit.square()


def _inverse_of_known(known: Tensor, covariance: Tensor) -> Tensor:
    """Of each row's matrix of known columns, zero in the others; of shape (n_rows, n_features, n_features)."""
    matrix = covariance * known.unsqueeze(-1) * known.unsqueeze(-2)
    matrix.diagonal(dim1=-2, dim2=-1).add_(1 - known)
    return _inverse(matrix).mul_(known.unsqueeze(-1)).mul_(known.unsqueeze(-2))


def estimate(rows: Tensor, known: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows with gaps, by expectation maximisation.

    Every column keeps a little variance to itself, and a row's worth of independent columns is
    added, so that few rows, copies of columns and constant ones do no harm. Where the other columns
    nearly determine a column, that row has a variance in units of what they leave of it.

    Parameters
    ----------
    rows, known : Tensor of shape (n_rows, n_features), float64
        Values, and one where they are known, zero elsewhere.
    weight : Tensor of shape (n_rows,) or None
        Weights of the rows.

    Returns
    -------
    mean : Tensor of shape (n_features,)
    covariance : Tensor of shape (n_features, n_features)

    References
    ----------
    Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM algorithm",
    Journal of the Royal Statistical Society B 39, 1977, section 4.1.3.
    """
    n, p = rows.shape
    weight = torch.ones(n, dtype=rows.dtype, device=rows.device) if weight is None else weight
    counted = known * weight.unsqueeze(-1)
    count = counted.sum(0).clamp_min(1e-12)
    mean = (rows * counted).sum(0) / count
    variance = ((rows - mean).square() * counted).sum(0) / count
    # A column without a value, or with one alone, has no unit of its own: what varies is how its mean is rounded.
    varies = variance > (ROUNDING * (rows * known).abs().amax(0)).square()
    variance = torch.where(varies, variance, 1e-6 * variance.max().clamp_min(1e-12))
    # From independent columns: where the steps do not suffice, dependence is underestimated, which does little harm.
    covariance = torch.diag(variance)
    if n * p**3 * FEW_STEPS > MAX_PRODUCTS:
        every = -(-n // max(p, int(MAX_PRODUCTS / (FEW_STEPS * p**3))))
        rows, known, weight = (each[::every] for each in (rows, known, weight))
    budget = MAX_PRODUCTS / (float(len(rows)) * p**3) if bool((known == 0).any()) else 1
    unit = variance.sqrt()
    location, complete = mean, (known > 0).all(1)
    if not complete.all() and 2 * p <= float(weight[complete].sum()) and MAX_STEPS * len(rows) * p**3 < FINE_PRODUCTS:
        # Few rows that lack what makes a column vary would find that out in many steps.
        location, covariance = _of_complete(rows[complete], weight[complete], variance)
    for index in range(int(max(1, min(MAX_STEPS, budget)))):
        before = covariance
        location, covariance = _step(rows, known, weight, location, covariance)
        own = covariance.diagonal() * OWN_SHARE + variance * 1e-8
        covariance = covariance + torch.diag(own)
        is_cheap = (index + 1) * len(rows) * p**3 < FINE_PRODUCTS
        tolerance = TOLERANCE * (_least_unique(covariance) if is_cheap else 1.0)
        if ((covariance - before) / torch.outer(unit, unit)).abs().max() < tolerance:
            break
    # Few of the rows may lack what makes a column vary: a value beyond would be taken for a wonder.
    return location, covariance + torch.diag((LEAST_SPREAD * variance - covariance.diagonal()).clamp_min(0))


def _of_complete(rows: Tensor, weight: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows without gaps."""
    total = weight.sum().clamp_min(1e-12)
    mean = weight @ rows / total
    deviation = rows - mean
    covariance = (deviation * weight.unsqueeze(-1)).T @ deviation / total
    return mean, covariance + torch.diag(OWN_SHARE * torch.maximum(covariance.diagonal(), variance))


def _least_unique(covariance: Tensor) -> float:
    """Ten times the least share of a column's variance that the other columns leave, between 0.1 and 1."""
    share = 1 / (torch.linalg.inv(covariance).diagonal() * covariance.diagonal())
    return float((10 * share.min()).clamp(0.1, 1.0))


def _step(rows, known, weight, mean, covariance) -> tuple[Tensor, Tensor]:
    total, p = weight.sum(), rows.shape[1]
    size = max(1, BLOCK_ELEMENTS // p**2)
    filled, precision = [], torch.zeros_like(covariance)
    for x, k, w in zip(rows.split(size), known.split(size), weight.split(size), strict=True):
        inverse = _inverse_of_known(k, covariance)
        coefficients = (inverse @ ((x - mean) * k).unsqueeze(-1)).squeeze(-1)
        filled.append(torch.where(k > 0, x, mean + coefficients @ covariance))
        precision += (w @ inverse.flatten(1)).view(p, p)
    # What the known entries leave open, of all rows together.
    left = total * covariance - covariance @ precision @ covariance
    made = torch.cat(filled)
    mean = weight @ made / total
    deviation = made - mean
    scatter = (deviation * weight.unsqueeze(-1)).T @ deviation + left
    prior = torch.diag(_prior_variance(scatter, scatter - left, known, weight)) * (PRIOR_ROWS / total)
    return mean, (scatter + prior) / (total + PRIOR_ROWS)


def _prior_variance(scatter: Tensor, filled: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """Sums of squares of independent columns: the columns' own, or less where others nearly determine a column.

    What others leave of a column is estimated by the filled rows' sums of squares and products, as
    filled entries are nearly determined, and by as many rows as know the column.
    """
    p, diagonal, count = len(scatter), scatter.diagonal(), (known * weight.unsqueeze(-1)).sum(0)
    n = float(count.mean())
    if n <= p:
        return diagonal
    least = torch.where(diagonal > 0, OWN_SHARE * diagonal, 1.0)
    unique = 1 / torch.linalg.inv(filled + torch.diag(least)).diagonal()
    unique = unique * weight.sum() / count.clamp_min(1.0)
    return torch.minimum(diagonal, PRIOR_RESIDUALS * n / (n - p) * unique)
