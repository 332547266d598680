"""log p(x) of rows with gaps under a VAE, by importance sampling around the mode of the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from skae.model.step import Step

# Share of the codes that are drawn from the prior.
PRIOR_SHARE = 0.05
# Codes among which the search for the mode begins, half of them the encoder's and half the prior's; and its steps.
N_FIRST, N_STEPS = 32, 6
# Lengths of a step that are tried, of which the best is taken.
LENGTHS = (1.0, 0.5, 0.1, 0.0)
# Width of differences that stand for derivatives, where a code has a variance of about one.
WIDTH = 1e-3
# Curvature that a direction has at least: no proposal is much wider than the prior.
LEAST_CURVATURE = 0.25


class Shape(NamedTuple):
    """What log p(x_o, z) looks like around a code z of each row.

    Attributes
    ----------
    slope : Tensor of shape (n_rows, n_components)
    curvature : Tensor of shape (n_rows, n_components, n_components)
        Minus the second derivatives, with the decoder taken as linear (Gauss and Newton), which makes
        the likelihood's part of it positive for every likelihood whose logarithm is concave.
    """

    slope: Tensor
    curvature: Tensor


def log_joint(step: Step, codes: Tensor) -> Tensor:
    """log p(x_o | z) + log p(z) without its constant, for codes of shape (n_codes, n_rows, n_components)."""
    prior = step.model.posterior.prior_part
    return step.log_likelihood_of(step.decode(codes)) + prior.log_prob(codes, step.model)


def shape_at(step: Step, code: Tensor) -> Shape:
    """The shape of the joint density at codes of shape (n_rows, n_components), by differences."""
    prior, d = step.model.posterior.prior_part, code.shape[1]
    moves = WIDTH * torch.eye(d, dtype=code.dtype, device=code.device)[:, None]
    beside = torch.cat([code + moves, code - moves])
    eta, there = step.decode(code[None])[0], step.decode(beside)
    logs = step.log_likelihood_of(there) + prior.log_prob(beside, step.model)
    moved = 0.5 * (there[:d] - there[d:])
    by_likelihood = _by_columns if not step.model.likelihood.compares_columns else _by_directions
    curvature = by_likelihood(step, eta, moved) / WIDTH**2
    if step.model.posterior.has_normal_prior:
        curvature = curvature + torch.eye(d, dtype=code.dtype, device=code.device)
    else:
        curvature = curvature + _second_differences(lambda z: prior.log_prob(z, step.model), code, moves) / WIDTH**2
    return Shape(((logs[:d] - logs[d:]) / (2 * WIDTH)).T, curvature)


def _by_columns(step: Step, eta: Tensor, moved: Tensor) -> Tensor:
    """Minus the second differences of the likelihood along `moved`, where each column has a curvature of its own."""
    likelihood, target, extras = step.model.likelihood, step.target, step.model.extras
    above, here, below = (likelihood.log_prob(eta + by, target, extras) for by in (WIDTH, 0.0, -WIDTH))
    bent = (2 * here - above - below) / WIDTH**2 * step.observed
    along = moved.transpose(0, 1)
    return (along * bent[:, None]) @ along.mT


def _by_directions(step: Step, eta: Tensor, moved: Tensor) -> Tensor:
    """The same for every likelihood."""
    return _second_differences(step.log_likelihood_of, eta, moved)


def _second_differences(function: Callable[[Tensor], Tensor], at: Tensor, moves: Tensor) -> Tensor:
    """Minus those of a function of rows, of shape (n_rows, n_moves, n_moves)."""
    made = [
        function(at + moves - move) + function(at - moves + move)
        - function(at + moves + move) - function(at - moves - move)
        for move in moves
    ]  # fmt: skip
    return 0.25 * torch.stack(made).permute(2, 0, 1)


def inverse_root(curvature: Tensor) -> Tensor:
    """R with R Rᵀ the inverse of the curvature, none of whose eigenvalues is taken to be below the least.

    The symmetric one: eigenvectors of equal eigenvalues, and so another root, are a matter of rounding.
    """
    values, vectors = torch.linalg.eigh(0.5 * (curvature + curvature.mT))
    return (vectors * values.clamp_min(LEAST_CURVATURE).rsqrt().unsqueeze(-2)) @ vectors.mT


def mode_and_root(step: Step, noise: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """A mode of p(z | x_o) for each row, and a root of its covariance: Laplace's approximation.

    Parameters
    ----------
    step : Step
    noise, drawn : Tensor of shape (n_draws, 1, n_components)
        Standard normal numbers, and draws of the prior: from the codes that they make the search begins.
    """
    mean, scale = step.code, torch.exp(0.5 * step.model.posterior.log_variance(step.encoded))
    half = N_FIRST // 2
    firsts = torch.cat([mean[None], mean + scale * noise[:half], drawn[:half].expand(-1, len(mean), -1)])
    code = _best(step, firsts)
    lengths = torch.tensor(LENGTHS, dtype=code.dtype, device=code.device).view(-1, 1, 1)
    for _ in range(N_STEPS):
        slope, curvature = shape_at(step, code)
        root = inverse_root(curvature)
        move = torch.einsum("nij,nkj,nk->ni", root, root, slope)
        code = _best(step, code + lengths * move)
    return code, inverse_root(shape_at(step, code).curvature)


def _best(step: Step, codes: Tensor) -> Tensor:
    """The most likely of codes of shape (n_codes, n_rows, n_components) for each row."""
    index = torch.nan_to_num(log_joint(step, codes), nan=-torch.inf).argmax(0)
    return codes[index, torch.arange(len(index), device=index.device)]


def log_density(step: Step, noise: Tensor, drawn: Tensor, draws_at_once: int) -> Tensor:
    r"""log p(x_o) of rows with gaps, of shape (n_rows,).

    An encoder that was not trained on gaps is sure of codes that fit the column means in the place of
    what is missing. So codes are drawn around the mode of :math:`p(z \mid x_o)`, and, for a twentieth, from
    the prior, which bounds the weights:

    .. math:: \log \frac1K \sum_k \frac{p(x_o, z_k)}{0.95\, N(z_k; \hat z, C) + 0.05\, p(z_k)}

    is a lower bound on average, and rises to :math:`\log p(x_o)` with K. Where decoder, likelihood and
    prior are linear and normal, :math:`N(\hat z, C)` is :math:`p(z \mid x_o)`.

    Parameters
    ----------
    step : Step
    noise, drawn : Tensor of shape (K, 1, n_components)
        Standard normal numbers and draws of the prior, shared by all rows.
    draws_at_once : int
        How many codes of each row are decoded together.

    References
    ----------
    Tierney and Kadane, "Accurate approximations for posterior moments and marginal densities", JASA 81, 1986;
    Hesterberg, "Weighted average importance sampling and defensive mixture distributions", Technometrics 37, 1995.
    """
    n_draws, prior = len(noise), step.model.posterior.prior_part
    n_prior = int(PRIOR_SHARE * n_draws)
    code, root = mode_and_root(step, noise, drawn)
    # A row without an entry has the density one, which draws of the prior alone give.
    empty = ~step.observed.any(1)
    from_prior = (torch.arange(n_draws, device=code.device) < n_prior)[:, None] | empty
    codes = torch.where(from_prior[..., None], drawn, code + torch.einsum("nij,knj->kni", root, noise + 0 * code))
    share = torch.tensor(n_prior / n_draws, dtype=code.dtype, device=code.device)
    logs = []
    for some in codes.split(draws_at_once):
        log_prior = prior.log_prob(some, step.model)
        away = torch.linalg.solve(root, (some - code).unsqueeze(-1)).squeeze(-1)
        log_normal = -0.5 * away.square().sum(-1) - torch.linalg.slogdet(root).logabsdet
        mixed = torch.logaddexp(torch.log1p(-share) + log_normal, share.log() + log_prior)
        logs.append(log_joint(step, some) - torch.where(empty, log_prior, mixed))
    return torch.logsumexp(torch.cat(logs), 0) - math.log(n_draws)
