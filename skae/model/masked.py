"""The model that fills in what is hidden: it adds to the best linear guess of the hidden entries."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from skae.model.autoencoder import Autoencoder
from skae.model.conditional_gaussian import Normal, guess
from skae.model.corruptions import Corrupted
from skae.model.factor_analysis import Factors
from skae.model.scaling import Columns
from skae.model.step import Step

# Columns with a bent input of their own, and how many numbers may tell the bends of all columns.
MAX_BINS, MAX_BIN_INPUTS = 16, 256
# Share of a column's variance that the guess is never taken to be surer than.
LEAST_VARIANCE = 1e-4


def n_bins(n_features: int) -> int:
    """Bins a column: fewer in wide tables, and none beyond a few hundred columns."""
    made = min(MAX_BINS, MAX_BIN_INPUTS // n_features)
    return made if made > 1 else 0


class MaskedStep(Step):
    r"""A batch whose masked entries are to be predicted from the others.

    With the conditional mean m and deviation s of each hidden entry under a normal distribution of
    the row, the network F sees the row with m in its gaps, which entries are known, and where in its
    column's distribution each number lies; a hidden number is expected at

    .. math:: r = m + s \cdot F(x_o, m, \mathrm{known})

    and a hidden category by the softmax of log m + F. So the first loss is the normal
    distribution's, and the network meets a residual of unit variance in every column and under
    every mask. Hidden entries alone count.
    """

    @cached_property
    def known(self) -> Tensor:
        """One where the network receives the entry, zero elsewhere, of shape (n_rows, n_features)."""
        changed = self.corrupted.changed
        known = torch.ones_like(self.input) if self.observed is None else self.observed
        return known if changed is None else known * ~changed

    @cached_property
    def counted(self) -> Tensor | None:
        """One where the entry was hidden from the network alone: these are in the loss.

        Where an entry is a share of the row, what is known of the others says how large it is: all count.
        """
        if self.corrupted.changed is None or self.model.likelihood.compares_entries:
            return self.observed
        changed = self.corrupted.changed.to(self.input.dtype)
        return changed if self.observed is None else changed * self.observed

    @cached_property
    def guess(self) -> tuple[Tensor, Tensor]:
        """Conditional mean and deviation of each entry, in standardised units."""
        unit = self.model.column_unit
        mean, variance = guess(self.input / unit, self.known, self.model.normal)
        return mean * unit, variance.clamp_min(LEAST_VARIANCE).sqrt() * unit

    @cached_property
    def _located(self) -> tuple[Tensor, Tensor]:
        """The guess in the units of the likelihood: its mean, and by how much a number may miss it."""
        model = self.model
        units = model.scaling.units(self.input)
        mean, deviation = self.guess
        return model.scaling.target(model.scaling.from_input(mean)), deviation * units.spread / units.target_scale

    @cached_property
    def seen(self) -> Tensor:
        """The row with the guess in its gaps, each column in its own unit."""
        return self.guess[0] / self.model.column_unit

    @cached_property
    def condition(self) -> Tensor:
        """What is known, and the bins that each number fills."""
        return torch.cat([self.known, self.model.bins_of(self.seen)], dim=1)

    def encoder_function(self, x: Tensor) -> Tensor:
        """The code as a function of the rows: what stands in the gaps, and the bins, change with them."""
        return self.model.step(x, self._target, self.observed).code

    @cached_property
    def target(self) -> Tensor:
        """What the guess leaves over of hidden numbers, in units of its deviation; other entries as they are."""
        rows, (mean, deviation) = self.rows, self._located
        made = torch.where(self.model.is_number, (rows - mean) / deviation, rows)
        return made if self.counted is None else made * self.counted

    @cached_property
    def offset(self) -> Tensor | None:
        """What the guess adds to the decoder's output; None where all entries are numbers."""
        if self.model.numbers_only:
            return None
        likelihood = self.model.likelihood
        return torch.where(self.model.is_number, 0.0, likelihood.inverse_link(self._located[0]))

    @cached_property
    def eta(self) -> Tensor:
        """The decoder's output, and the offset."""
        made = self.decode(self.sample)
        return made if self.offset is None else made + self.offset

    @property
    def log_density(self) -> Tensor:
        """log p of the hidden entries given the known ones, in the data's units, of shape (n_rows,)."""
        likelihood, hidden = self.model.likelihood, self.corrupted.changed
        if likelihood.compares_entries and hidden is not None:
            eta = self.eta if self.observed is None else likelihood.of_observed(self.eta, self.observed)
            return (likelihood.log_prob(eta, self.target, self.model.extras) * hidden).sum(-1)
        made = self.log_likelihood
        width = torch.where(self.model.is_number, self._located[1].log(), 0.0)
        return made - (width * self.counted).sum(-1)

    @property
    def rebuilt(self) -> Tensor:
        """The row with its gaps filled by their expectation."""
        mean, deviation = self._located
        expected = self.model.likelihood.mean_given(self.eta, self.rows, self.known)
        made = torch.where(self.model.is_number, torch.addcmul(mean, deviation, self.eta), expected)
        return torch.where(self.known > 0, self.rows, made)


class MaskedModel(Autoencoder):
    """An autoencoder that adds to the guess of a normal distribution: see `MaskedStep`.

    The distribution's moments and the columns' bins are buffers, which `set_start` fills.

    Parameters
    ----------
    network, posterior, likelihood, columns, n_components, corruption, penalties
        As for `Autoencoder`.
    n_factors : int
        Factors of the normal distribution; 0 for a covariance matrix.
    """

    counts_hidden_only = True

    def __init__(
        self,
        network,
        posterior,
        likelihood,
        columns: Columns,
        n_components,
        *,
        n_factors=0,
        corruption=None,
        penalties=(),
    ) -> None:
        self.n_factors = n_factors
        super().__init__(
            network, posterior, likelihood, columns, n_components, corruption=corruption, penalties=penalties,
            shortcut=False,
        )  # fmt: skip
        self._remember(locals())
        self.preconditioned, self.step_class = True, MaskedStep
        # A residual is in units of its own deviation.
        if "_fixed_log_scale" in self._buffers:
            self._fixed_log_scale.zero_()
        self.loss_scale = 1.0

    def _build(self, shortcut: bool) -> None:
        p = self.n_features
        number = self.likelihood.is_number(p)
        # A column that is zero beside the others in single precision is as good as constant.
        unit = self.scaling.relative_variance.sqrt().float()
        self.numbers_only = bool(number.all())
        self.register_buffer("is_number", number, persistent=False)
        self.register_buffer(
            "column_unit", torch.where(unit > torch.finfo(unit.dtype).tiny, unit, 1.0), persistent=False
        )
        self.register_buffer("guess_mean", torch.zeros(p))
        wide = self.n_factors > 0
        self.register_buffer("guess_covariance", None if wide else torch.eye(p))
        self.register_buffer("loadings", torch.zeros(p, self.n_factors) if wide else None)
        self.register_buffer("uniqueness", torch.ones(p) if wide else None)
        self.register_buffer("knots", torch.zeros(int(number.sum()), n_bins(p) + 1))
        super()._build(shortcut)

    def _n_conditions(self) -> int:
        return self.n_features + (self.knots.shape[1] - 1) * len(self.knots)

    def set_start(self, normal: Normal | Factors, knots: Tensor) -> None:
        """Set the normal distribution, in standardised units, and the columns' quantiles, in each one's own."""
        for buffer, values in zip(self.normal, normal.scaled(1 / self.column_unit.double()), strict=True):
            buffer.copy_(values)
        self.knots.copy_(knots)

    @property
    def normal(self) -> Normal | Factors:
        """The normal distribution, each column in its own unit."""
        if self.loadings is None:
            return Normal(self.guess_mean, self.guess_covariance)
        return Factors(self.guess_mean, self.loadings, self.uniqueness)

    def bins_of(self, x: Tensor) -> Tensor:
        """How far each number is through each of its column's bins, from -1/2 to 1/2."""
        low, high = self.knots[:, :-1], self.knots[:, 1:]
        if low.numel() == 0:
            return x[:, :0]
        numbers = x if self.numbers_only else x[:, self.is_number]
        width = high - low
        # A bin without width tells nothing that its neighbours do not.
        share = ((numbers.unsqueeze(-1) - low) / width.clamp_min(1e-6)).clamp_(0, 1).sub_(0.5)
        return torch.where(width > 1e-6, share, 0.0).flatten(1)

    def hiding(self, step: Step, hidden: Tensor) -> Step:
        """The step with these entries hidden from the network."""
        step.corrupted = Corrupted(step.input, hidden)
        return step
