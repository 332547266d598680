"""What a VAE says of the entries that a row lacks: importance sampling of its code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skae.model.missingness import drawn_rows, observed_of
from skae.model.step import Step

# Share of the codes that are drawn from the prior.
PRIOR_SHARE = 0.1


class WeightedDraws(NamedTuple):
    """Draws of codes for each row, and how much each counts.

    Attributes
    ----------
    weight : Tensor of shape (n_draws, n_rows)
        Of each draw; they sum to one.
    eta : Tensor of shape (n_draws, n_rows, n_features)
        The decoder's output.
    rows : Tensor of shape (n_draws, n_rows, n_features) or None
        Draws of the missing entries, where their values decide the weight.
    """

    weight: Tensor
    eta: Tensor
    rows: Tensor | None


def weighted_draws(step: Step, n_draws: int, generator: torch.Generator, *, shared: bool) -> WeightedDraws:
    r"""Self-normalised importance sampling of p(z | x_o).

    Codes are drawn from q(z | x_o) and, for a tenth, from p(z), so that a posterior that is too
    narrow cannot make a few draws outweigh all others: the weights

    .. math:: w \propto \frac{p(x_o \mid z)\, p(z)}{0.9\, q(z \mid x_o) + 0.1\, p(z)}

    are bounded by ten times the likelihood. Rows that are entirely missing draw from the prior
    alone. With a model of the missingness the weights hold p(s | x_o, x̃) as well. Where rows may be of
    several classes there are as many draws of each, and the weights hold p(y).

    Parameters
    ----------
    step : Step
        Rows with gaps.
    n_draws : int
    generator : torch.Generator
    shared : bool
        Whether all rows have the same noise, so that what is made of one does not depend on the others.

    References
    ----------
    Mattei and Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets",
    ICML 2019, equations 11 and 12. The mixture is that of Hesterberg, "Weighted average importance
    sampling and defensive mixture distributions", Technometrics 37, 1995.
    """
    made = [_draws_of(each, log_share, n_draws, generator, shared) for log_share, each in step.by_class()]
    log_weight, eta, rows = zip(*made, strict=True)
    outputs = _joined(eta)
    # Likelihoods of data in extreme units are in double precision.
    weight = torch.softmax(_joined(log_weight), 0).to(outputs.dtype)
    return WeightedDraws(weight, outputs, rows[0])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _draws_of(
    step: Step, log_share: float, n_draws: int, generator: torch.Generator, shared: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-weights, decoder's outputs and drawn rows, where the rows are of one class with log p(y) = `log_share`."""
    model, encoded = step.model, step.encoded
    empty = torch.zeros_like(encoded[:, 0]).bool() if step.observed is None else ~step.observed.any(1)
    n_prior = int(PRIOR_SHARE * n_draws)
    codes = _codes(step, n_draws, n_prior, empty, generator, shared)
    eta = step.decode(codes)
    share = torch.tensor(n_prior / n_draws, dtype=codes.dtype, device=codes.device)
    excess = -torch.logaddexp(torch.log1p(-share) - model.posterior.log_ratio(encoded, codes, model), share.log())
    log_weight = step.log_likelihood_of(eta) + torch.where(empty, 0.0, excess)
    mask, rows = getattr(model.code_module, "missingness", None), None
    if mask is not None and step.observed is not None:
        rows, seen = _rows(step, eta, generator, shared)
        log_weight = log_weight + (mask.log_missing(seen) * mask.counted(1 - step.observed)).sum(-1)
    return log_weight + log_share, eta, rows


def _codes(step: Step, n_draws: int, n_prior: int, empty: Tensor, generator: torch.Generator, shared: bool) -> Tensor:
    """Codes of shape (n_draws, n_rows, n_components): the first `n_prior`, and all of empty rows, from the prior."""
    model, mean = step.model, step.code
    shape = (n_draws, 1 if shared else len(mean), mean.shape[1])
    noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
    first = model.prior.sample(shape[0] * shape[1], model, generator).view(shape)
    from_prior = (torch.arange(n_draws, device=mean.device) < n_prior)[:, None] | empty
    scale = torch.exp(0.5 * model.posterior.log_variance(step.encoded))
    return torch.where(from_prior[..., None], first, torch.addcmul(mean, scale, noise))


def _rows(step: Step, eta: Tensor, generator: torch.Generator, shared: bool) -> tuple[Tensor, Tensor]:
    """Draws of p(x | z), as `drawn_rows` makes them; shared noise is drawn again for each row."""
    if not shared:
        return drawn_rows(step, eta, generator)
    state, made = generator.get_state(), []
    for index, row in enumerate(eta.unbind(1)):
        generator.set_state(state)
        made.append(drawn_rows(step, row, generator, index))
    drawn, seen = zip(*made, strict=True)
    return torch.stack(drawn, 1), torch.stack(seen, 1)


def expected_rows(step: Step, n_draws: int, generator: torch.Generator) -> Tensor:
    """E[x | x_o] in the units of the likelihood, of shape (n_rows, n_features); the generator stays as it was."""
    state = generator.get_state()
    draws = weighted_draws(step, n_draws, generator, shared=True)
    generator.set_state(state)
    rows = draws.rows
    if rows is None:
        rows = step.model.likelihood.mean_given(draws.eta, step.target, observed_of(step))
    return torch.einsum("kn,knp->np", draws.weight, rows)


def resampled_rows(step: Step, n_draws: int, n_made: int, generator: torch.Generator) -> Tensor:
    """Draws of p(x | x_o) by sampling-importance-resampling, of shape (n_made, n_rows, n_features).

    References
    ----------
    Mattei and Frellsen, ICML 2019, section 3.2; Rubin, "Using the SIR algorithm to simulate
    posterior distributions", Bayesian Statistics 3, 1988.
    """
    draws = weighted_draws(step, n_draws, generator, shared=False)
    chosen = torch.multinomial(draws.weight.T, n_made, replacement=True, generator=generator).T
    index = chosen[..., None].expand(-1, -1, draws.eta.shape[-1])
    if draws.rows is not None:
        return draws.rows.gather(0, index)
    eta, likelihood = draws.eta.gather(0, index), step.model.likelihood
    return likelihood.sample_given(eta, step.model.extras, step.target, observed_of(step), generator)
