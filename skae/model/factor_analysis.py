"""Factor analysis of rows with gaps: the normal distribution of wide tables, whose cost is linear in the columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Share of its variance that a column keeps to itself at least, and the worth of rows by which it is taken to have one.
LEAST_UNIQUENESS, PRIOR_ROWS = 0.01, 1.0
# Rows that a factor needs: fewer cannot tell one from noise.
ROWS_A_FACTOR = 4
# A factor that explains less of the columns' variance is dropped.
LEAST_SHARE = 1e-4
# Products that estimating may take, in so many steps at least (of fewer rows where they are many), or until the
# columns' shared variance hardly changes.
MAX_PRODUCTS, FEW_STEPS, MAX_STEPS, TOLERANCE = 1e10, 5, 50, 3e-3
# Numbers of the columns' matrices that are held at once.
BLOCK_ELEMENTS = 2**17


class Factors(NamedTuple):
    """A normal distribution with covariance ΛΛᵀ + diag(ψ).

    Attributes
    ----------
    mean : Tensor of shape (n_features,)
    loadings : Tensor of shape (n_features, n_factors)
        Λ.
    uniqueness : Tensor of shape (n_features,)
        ψ, the variance that a column shares with no other.
    """

    mean: Tensor
    loadings: Tensor
    uniqueness: Tensor

    @property
    def variance(self) -> Tensor:
        """Of each column."""
        return self.loadings.square().sum(1) + self.uniqueness

    @property
    def covariance(self) -> Tensor:
        """A matrix of columns by columns: of small tables only, or where it is asked for."""
        return self.loadings @ self.loadings.T + torch.diag(self.uniqueness)

    def scaled(self, unit: Tensor) -> Factors:
        """The distribution of the columns times these units."""
        return Factors(self.mean * unit, self.loadings * unit.unsqueeze(1), self.uniqueness * unit.square())

    def compact(self) -> Factors:
        """The same distribution without factors that are zero."""
        used = self.loadings.any(0)
        used[0] = True
        return self._replace(loadings=self.loadings[:, used])

    def with_factors(self, n_factors: int) -> Factors:
        """The same distribution with so many factors: the last ones are zero."""
        extra = n_factors - self.loadings.shape[1]
        return self._replace(loadings=torch.nn.functional.pad(self.loadings, (0, extra)))


def max_factors(n_rows: int, n_features: int, most: int) -> int:
    """How many factors so many rows can tell."""
    return max(1, min(most, n_features, n_rows // ROWS_A_FACTOR))


def estimate_factors(rows: Tensor, known: Tensor, weight: Tensor | None, n_factors: int) -> Factors:
    r"""Factor analysis of rows with gaps, by variational expectation maximisation.

    .. math:: x = \mu + \Lambda z + \varepsilon, \quad z \sim N(0, I), \quad \varepsilon \sim N(0, \mathrm{diag}\,\psi),
        \quad \Lambda_{jk} \sim N(0, 1 / \alpha_k)

    The loadings have a posterior distribution of their own, so that few rows do not make factors of
    noise, and the precisions α switch off those that the rows do not need. A step is linear in rows
    and columns, and no matrix of columns by columns is made.

    Parameters
    ----------
    rows, known : Tensor of shape (n_rows, n_features), float64
        Values, and one where they are known, zero elsewhere.
    weight : Tensor of shape (n_rows,) or None
        Weights of the rows.
    n_factors : int
        Factors at most.

    Returns
    -------
    Factors
        Of `n_factors` factors, fewer where the rows need no more; the uncertainty of the loadings
        is part of the uniqueness.

    References
    ----------
    Ilin and Raiko, "Practical approaches to principal component analysis in the presence of missing
    values", JMLR 11, 2010, section 4 (variational Bayes); Bishop, "Variational principal
    components", ICANN 1999 (the precisions); Liu, Rubin and Wu, "Parameter expansion to accelerate
    EM", Biometrika 85, 1998 (factors are brought to unit covariance in each step).
    """
    weight = torch.ones_like(rows[:, 0]) if weight is None else weight
    model = _FactorAnalysis(rows, known, weight, n_factors)
    n_steps = MAX_PRODUCTS / model.n_products
    for _ in range(int(max(FEW_STEPS, min(MAX_STEPS, n_steps)))):
        before = model.shared_variance
        model.step()
        if (model.shared_variance - before).square().mean().sqrt() < TOLERANCE:
            break
    return model.result()


class _FactorAnalysis:
    """The state of `estimate_factors`: everything is in units of the columns' deviations."""

    def __init__(self, rows: Tensor, known: Tensor, weight: Tensor, n_factors: int) -> None:
        # Rows that FEW_STEPS can afford.
        most = int(MAX_PRODUCTS / (2 * FEW_STEPS * rows.shape[1] * n_factors**2))
        every = max(1, -(-len(rows) // max(most, 2 * n_factors)))
        rows, known, weight = (each[::every] for each in (rows, known, weight))
        self.known, self.weight = known, weight
        self.counted = known * weight.unsqueeze(1)
        count = self.counted.sum(0)
        self.location = (rows * self.counted).sum(0) / count.clamp_min(1e-300)
        deviation = (rows - self.location) * known
        self.unit = ((deviation.square() * self.counted).sum(0) / count.clamp_min(1e-300)).sqrt()
        # Columns that do not vary but for how their mean is rounded.
        constant = self.unit <= 1e-7 * (rows * known).abs().amax(0)
        self.unit = torch.where(constant, 1e-3 * self.unit.max().clamp_min(1e-300), self.unit)
        self.x = torch.where(constant, 0.0, deviation / self.unit)
        self.count = count
        self._start(n_factors)

    def _start(self, n_factors: int) -> None:
        """At the principal axes of the rows with the mean in their gaps."""
        n, p = self.x.shape
        share = (self.weight / self.weight.sum()).sqrt().unsqueeze(1)
        variance, axes = _leading_axes(share * self.x, n_factors)
        left = ((share * self.x).square().sum() - variance.sum()).clamp_min(0) / max(p - len(variance), 1)
        self.mean = torch.zeros_like(self.location)
        self.loadings = axes * (variance - left).clamp_min(1e-3 * float(variance.max()) + 1e-12).sqrt()
        self.uniqueness = (1 - self.loadings.square().sum(1)).clamp(0.05, 1.0)
        # The precision of each row's factors, without that of their prior.
        outer = (self.loadings.unsqueeze(2) * self.loadings.unsqueeze(1)).flatten(1)
        self.information = ((self.known / self.uniqueness) @ outer).view(n, len(variance), -1)
        self.uncertainty = torch.zeros_like(self.location)
        self.spread = self.loadings.T @ self.loadings

    @property
    def n_products(self) -> float:
        """Of a step."""
        n, (p, k) = len(self.x), self.loadings.shape
        return 2.0 * n * p * k**2 + 3.0 * (n + p) * k**3

    @property
    def shared_variance(self) -> Tensor:
        """What the factors explain of each column."""
        return self.loadings.square().sum(1)

    def step(self) -> None:
        """Estimate the factors of the rows, then the columns' parameters given them."""
        factors, second = self._factors()
        moments = self.weight @ second.flatten(1)
        total, k = self.weight.sum(), self.loadings.shape[1]
        centre = self.weight @ factors / total
        spread = moments.view(k, k) / total - torch.outer(centre, centre)
        self._columns(factors, second, moments / total)
        # The same distribution, with factors of mean zero and unit covariance again.
        self.mean += self.loadings @ centre
        values, vectors = torch.linalg.eigh(spread)
        root = vectors * values.clamp_min(1e-12).sqrt()
        loadings = self.loadings @ root
        root = root @ torch.linalg.eigh(loadings.T @ (loadings / self.uniqueness.unsqueeze(1)))[1]
        self._transform(root)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """E[z] and E[zzᵀ] of each row, of shape (n_rows, n_factors) and (n_rows, n_factors, n_factors)."""
        matrix = self.information + torch.eye(self.loadings.shape[1], dtype=self.x.dtype, device=self.x.device)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix)[0])
        residual = (self.x - self.mean) * self.known / self.uniqueness
        factors = (covariance @ (residual @ self.loadings).unsqueeze(2)).squeeze(2)
        return factors, covariance + factors.unsqueeze(2) * factors.unsqueeze(1)

    def _columns(self, factors: Tensor, second: Tensor, moments: Tensor) -> None:
        """Loadings, uniqueness and mean of each column, a block of columns at a time."""
        p, k = self.loadings.shape
        precision = p / self.spread.diagonal().clamp_min(1e-12)
        self.information, spread = torch.zeros_like(self.information), torch.zeros_like(self.spread)
        size = max(1, BLOCK_ELEMENTS // k**2)
        for start in range(0, p, size):
            part = slice(start, start + size)
            counted, count = self.counted[:, part], self.count[part]
            x = self.x[:, part] - self.mean[part]
            square = (counted.T @ second.flatten(1)).view(-1, k, k)
            along = (counted * x).T @ factors
            matrix = square / self.uniqueness[part, None, None]
            matrix.diagonal(dim1=1, dim2=2).add_(precision)
            covariance = torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix)[0])
            loadings = (covariance @ (along / self.uniqueness[part, None]).unsqueeze(2)).squeeze(2)
            outer = covariance + loadings.unsqueeze(2) * loadings.unsqueeze(1)
            error = (counted * x.square()).sum(0) - 2 * (along * loadings).sum(1) + (square * outer).sum((1, 2))
            self.loadings[part] = loadings
            self.uniqueness[part] = ((error + PRIOR_ROWS) / (count + PRIOR_ROWS)).clamp_min(LEAST_UNIQUENESS)
            self.mean[part] += (counted * (x - factors @ loadings.T)).sum(0) / (count + 1e-9)
            self.information += ((self.known[:, part] / self.uniqueness[part]) @ outer.flatten(1)).view_as(second)
            self.uncertainty[part] = covariance.flatten(1) @ moments
            spread += outer.sum(0)
        self.spread = spread

    def _transform(self, root: Tensor) -> None:
        """Change the basis of the factors to that in which they are `root` times the new ones; drop empty ones."""
        loadings = self.loadings @ root
        kept = loadings.square().mean(0) > LEAST_SHARE
        kept[-1] = True
        root = root[:, kept]
        self.loadings = loadings[:, kept]
        self.information = root.T @ self.information @ root
        self.spread = root.T @ self.spread @ root

    def result(self) -> Factors:
        """In the units of the rows."""
        made = Factors(self.mean, self.loadings, self.uniqueness + self.uncertainty).scaled(self.unit)
        return made._replace(mean=made.mean + self.location)


def _leading_axes(rows: Tensor, n_axes: int) -> tuple[Tensor, Tensor]:
    """Variances and axes of the rows about zero, by whichever matrix of products is smaller."""
    n, p = rows.shape
    if p <= n:
        values, axes = torch.linalg.eigh(rows.T @ rows)
        return values.flip(0)[:n_axes].clamp_min(0), axes.flip(1)[:, :n_axes]
    values, left = torch.linalg.eigh(rows @ rows.T)
    values, left = values.flip(0)[:n_axes].clamp_min(0), left.flip(1)[:, :n_axes]
    return values, rows.T @ left / values.sqrt().clamp_min(1e-150)
