"""The multinomial likelihood of words in a document, clicks of a user, or one class of several."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions import Multinomial as MultinomialDistribution

from skae.base.parameters import at_least
from skae.model.likelihoods import UNSURE, CountLikelihood
from skae.model.scaling import Columns

# The logarithm of the share of an entry that is not observed, beside the others: zero in every precision.
GONE = -1e4
# Of the observed columns together, by which their total is divided.
LEAST_SHARE = 1e-6
# The shape of a gamma distribution that is as good as zero.
TINY = 1e-6


class Multinomial(CountLikelihood):
    r"""Multinomial likelihood with a softmax over the columns; the network sees log(1 + x).

    .. math:: \log p(x \mid z) = \sum_j x_j \log r_j, \quad r = \mathrm{softmax}(\eta)

    without the multinomial coefficient, which no parameter changes. Rows are counts, shares,
    tf-idf weights or a one among zeros. They are not normalised here: a row counts as many times
    as its total, as words do that are drawn one by one. Rows of one total, as `TfidfTransformer`
    or `normalize(X, norm="l1")` roughly or exactly make them, count alike; but where a KL term or
    a penalty stands beside the likelihood, a smaller total makes that weigh more.

    Of a row with gaps, the observed columns alone are scored, by their shares among themselves.
    `VAE.complete` fills the others in the row's own units: with the observed total o and the
    columns' probabilities r, column j is expected at :math:`r_j\, o / \sum_{k\,\mathrm{observed}} r_k`.

    Parameters
    ----------
    n_trials : int, default=1
        Total of a row that is predicted or drawn: `reconstruct` gives probabilities with 1, and
        expected counts of a row of that total otherwise. Scores depend on the rows' own totals.

    References
    ----------
    Chaidaroon and Fang, "Variational deep semantic hashing for text documents", SIGIR 2017.

    Examples
    --------
    >>> from skae import VAE, Multinomial
    >>> VAE(2, likelihood=Multinomial())
    VAE(likelihood=Multinomial(), n_components=2)
    """

    compares_columns, compares_entries = True, True

    _parameter_constraints = {"n_trials": [at_least(1)]}

    def __init__(self, n_trials: int = 1) -> None:
        self.n_trials = n_trials

    def distribution(self, eta: Tensor, extras: dict[str, Tensor]) -> Distribution:
        """The distribution of a whole row of `n_trials` in all, given the decoder's output."""
        return MultinomialDistribution(int(self.n_trials), logits=eta, validate_args=False)

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """What each entry of the target adds to the log-probability of its row."""
        return target * torch.log_softmax(eta, -1)

    def slope(self, eta: Tensor, target: Tensor) -> Tensor:
        """Derivative of minus the row's log-probability with respect to the decoder's output."""
        return torch.softmax(eta, -1) * target.sum(-1, keepdim=True) - target

    def mean(self, eta: Tensor) -> Tensor:
        """Expected target of `n_trials` in all: the probabilities, where that is one."""
        return self.n_trials * torch.softmax(eta, -1)

    def of_observed(self, eta: Tensor, observed: Tensor) -> Tensor:
        """The decoder's output with nothing left for entries that are not observed."""
        return torch.where(observed > 0, eta, GONE)

    def _row(self, eta: Tensor, target: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The columns' shares; of the observed ones the share and the total; and whether there are any."""
        shares = torch.softmax(eta, -1)
        known = (shares * observed).sum(-1, keepdim=True).clamp_min(LEAST_SHARE)
        total = (target * observed).sum(-1, keepdim=True)
        return shares, known, total, observed.sum(-1, keepdim=True) > 0

    def mean_given(self, eta: Tensor, target: Tensor, observed: Tensor) -> Tensor:
        """Expected target in the row's own units: `n_trials` in all where nothing is observed."""
        shares, known, total, any_known = self._row(eta, target, observed)
        return shares * torch.where(any_known, total / known, float(self.n_trials))

    def sample_given(
        self, eta: Tensor, extras: dict[str, Tensor], target: Tensor, observed: Tensor, generator: torch.Generator
    ) -> Tensor:
        r"""Counts of the missing columns given the observed total, whose mean is that of `mean_given`.

        Words come at an unknown rate λ, of which the observed total o says
        :math:`\lambda \sim \mathrm{Gamma}(o, \sum_{k\,\mathrm{observed}} r_k)`; column j then has a Poisson
        count of mean λ r_j.
        """
        shares, known, total, any_known = self._row(eta, target, observed)
        drawn = torch._standard_gamma((total + torch.zeros_like(known)).clamp_min(TINY), generator=generator)
        return torch.poisson(shares * torch.where(any_known, drawn / known, float(self.n_trials)), generator=generator)

    def inverse_link(self, mean: Tensor) -> Tensor:
        """The logarithm of the shares, none of them quite zero."""
        return torch.log((mean / self.n_trials).clamp_min(UNSURE))

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target: counts that sum to `n_trials`."""
        shares = torch.softmax(eta, -1)
        rows = shares.reshape(-1, shares.shape[-1])
        drawn = torch.multinomial(rows, int(self.n_trials), replacement=True, generator=generator)
        counts = torch.zeros_like(rows).scatter_add_(1, drawn, torch.ones_like(drawn, dtype=rows.dtype))
        return counts.view_as(shares)

    def sample_like(
        self, eta: Tensor, other_eta: Tensor, other: Tensor, extras: dict[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """Of one trial the winner of a race that `other` would have won; of several an independent draw.

        The waiting times are exponential with the shares as rates. Those of the other race are drawn given its winner,
        and run again with the new rates.
        """
        if self.n_trials != 1:
            return self.sample(eta, extras, generator)
        both = (torch.softmax(each, -1).clamp_min(1e-12) for each in (eta, other_eta))
        shares, other_shares = (each.reshape(-1, each.shape[-1]) for each in both)
        winner = torch.multinomial(other.reshape(shares.shape).clamp_min(0) + 1e-12, 1, generator=generator)
        first = torch.empty_like(shares[:, :1]).exponential_(generator=generator)
        times = first + torch.empty_like(shares).exponential_(generator=generator) / other_shares
        times = times.scatter(1, winner, first) * other_shares / shares
        return torch.zeros_like(shares).scatter_(1, times.argmin(1, keepdim=True), 1.0).view_as(eta)

    def linear_start(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """The logarithm of the mean input, of which softmax takes the shares, with slopes on the input's scale."""
        return torch.log(columns.mean.clamp_min(1e-6)), columns.spread.expand_as(columns.mean)
