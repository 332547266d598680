"""Why entries are missing: p(s | x), learnt together with the model of the rows."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils._param_validation import Options
from torch import Tensor, nn
from torch.nn import functional

from skae.base.parameters import Part, SequenceOf
from skae.model.posteriors import DiagonalGaussian
from skae.model.step import Step

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder

# First weight of a column whose sign is known.
START = 1.0
# Draws of each missing entry for each draw of the code. With one, weights stay too small: a steep curve makes the
# weights of a few draws vary.
N_DRAWS = 16


# What a direction may be: high values are missing, low ones, or it is not known.
SIGN = Options(Real, {-1, 0, 1})


class Missingness(Part):
    """Base of the models of why entries are missing; what is learnt lives in the module of `build`."""

    def check(self, n_features: int) -> None:
        """Raise ValueError for a parameter outside its range."""

    def build(self, model: Autoencoder) -> SelfMask:
        """What is learnt."""
        raise NotImplementedError


class SelfMasking(Missingness):
    r"""An entry is missing because of its own value.

    .. math:: p(x_j\ \mathrm{missing} \mid x_j) = \frac{1}{1 + \exp(-w_j (x_j - b_j))}

    with a weight and a threshold for each column that has gaps, of columns of unit variance. A
    categorical entry, of which several columns say the category, has the sum over its columns in
    the exponent.

    Parameters
    ----------
    known_sign : {1, -1} or array-like of int of shape (n_features,), default=None
        1 where high values are missing (w > 0), -1 where low ones are, 0 where nothing is known.
        None knows nothing of any column. Data alone say little of the sign, since what is missing
        was not seen: say it if you know it.

    References
    ----------
    Ipsen, Mattei and Frellsen, "not-MIWAE: deep generative modelling with missing not at random
    data", ICLR 2021, section 2: self-masking with an unknown and with a known direction.

    Examples
    --------
    >>> from skae import VAE, SelfMasking
    >>> VAE(2, missingness=SelfMasking(known_sign=-1))
    VAE(missingness=SelfMasking(known_sign=-1), n_components=2)
    """

    _parameter_constraints = {"known_sign": [SIGN, SequenceOf(SIGN), None]}

    def __init__(self, known_sign: Any = None) -> None:
        self.known_sign = known_sign

    def check(self, n_features: int) -> None:
        """Raise ValueError for signs that are none, or of another number of columns."""
        sign = np.asarray(0 if self.known_sign is None else self.known_sign)
        if sign.ndim > 1 or (sign.ndim == 1 and len(sign) != n_features) or not np.isin(sign, (-1, 0, 1)).all():
            raise ValueError(
                f"SelfMasking(known_sign={self.known_sign!r}): use None, 1, -1, or one of 1, -1 and 0 for each of the "
                f"{n_features} columns."
            )

    def build(self, model: Autoencoder) -> SelfMask:
        """Weights and thresholds."""
        self.check(model.n_features)
        sign = torch.as_tensor(np.asarray(0 if self.known_sign is None else self.known_sign))
        return SelfMask(model, sign)


class SelfMask(nn.Module):
    """Weights and thresholds of `SelfMasking`.

    Parameters
    ----------
    model : Autoencoder
    sign : Tensor of shape () or (n_features,)

    Attributes
    ----------
    has_gaps : Tensor of shape (n_features,)
        One for the columns that count, those with gaps in the training rows.
    """

    # They move further than a network's weights do. Faster still, an unknown sign was more often the wrong one.
    pace = 3.0

    def __init__(self, model: Autoencoder, sign: Tensor) -> None:
        super().__init__()
        p, variance = model.n_features, model.scaling.relative_variance
        unit = torch.where(variance > 0, variance, 1.0).sqrt()
        for name, values in {"unit": unit, "sign": sign.expand(p)}.items():
            self.register_buffer(name, values.to(torch.float32).clone(), persistent=False)
        self.register_buffer("has_gaps", torch.ones(p))
        entry = model.likelihood.entry_columns(p)
        # Columns of one entry of the table are missing together and count once: in the first of them.
        first = None if entry is None else torch.searchsorted(entry, torch.arange(int(entry[-1]) + 1))
        self.register_buffer("entry", entry, persistent=False)
        self.register_buffer("first", first, persistent=False)
        # No weight where its sign is not known, and thresholds at the means.
        self.raw_weight = nn.Parameter(math.log(math.expm1(START)) * self.sign.abs())
        self.threshold = nn.Parameter(torch.zeros(p))

    @property
    def weight(self) -> Tensor:
        """w, of shape (n_features,)."""
        return torch.where(self.sign == 0, self.raw_weight, self.sign * functional.softplus(self.raw_weight))

    def logits(self, x: Tensor) -> Tensor:
        """Log-odds of being missing for standardised rows of shape (..., n_features), by entry of the table."""
        logits = self.weight * (x / self.unit - self.threshold)
        if self.entry is None:
            return logits
        return logits.new_zeros(*logits.shape[:-1], len(self.first)).index_add_(-1, self.entry, logits)

    def counted(self, entries: Tensor) -> Tensor:
        """Which of these, one or zero and of shape (n_rows, n_features), count, by entry of the table."""
        counted = entries * self.has_gaps
        return counted if self.first is None else counted.index_select(-1, self.first)

    def log_present(self, x: Tensor, observed: Tensor) -> Tensor:
        """Log-probability that the observed entries of standardised rows are there, of shape (n_rows,)."""
        return (functional.logsigmoid(-self.logits(x)) * self.counted(observed)).sum(-1)

    def log_missing(self, x: Tensor) -> Tensor:
        """Log-probability that each entry of standardised rows is missing, of shape (..., n_entries)."""
        return functional.logsigmoid(self.logits(x))


def observed_of(step: Step) -> Tensor:
    """One for the observed entries of a batch, zero for the others."""
    return torch.ones_like(step.input) if step.observed is None else step.observed


def drawn_rows(
    step: Step, eta: Tensor, generator: torch.Generator, row: int | slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Draws of p(x | z) in the units of the likelihood, and standardised, each of the shape of `eta`.

    What is observed of the batch, or of one of its rows, gives the unit of likelihoods that have none.

    The gradient goes through the noise. Draws of discrete columns have none: theirs is the
    gradient of their mean, the straight-through estimate (Bengio, Léonard and Courville,
    "Estimating or propagating gradients through stochastic neurons", 2013, section 4).
    """
    model = step.model
    likelihood, scaling = model.likelihood, model.scaling
    target, observed = step.target[row], observed_of(step)[row]
    # A training that diverges is known by its loss: nothing can be drawn there.
    drawn = likelihood.sample_given(torch.nan_to_num(eta), model.extras, target, observed, generator)
    if eta.requires_grad:
        mean = likelihood.mean_given(eta, target, observed)
        numbers = likelihood.is_number(eta.shape[-1], eta.device)
        drawn = torch.where(numbers, drawn, drawn.detach() + mean - mean.detach())
    raw = scaling.from_target(drawn)
    return drawn, scaling.units(raw).standardise(likelihood.network_input(raw))


class MissingnessStep(Step):
    """A batch whose rows say also which of their entries are missing, while training."""

    def log_likelihood_of(self, eta: Tensor) -> Tensor:
        """log p(x_o | z) and an estimate of log p(s | x_o, z); without a generator, the first alone."""
        made = super().log_likelihood_of(eta)
        if self.generator is None:
            return made
        mask = self.model.code_module.missingness
        if self.observed is None:
            return made + mask.log_present(self.input, torch.ones_like(self.input))
        x = drawn_rows(self, eta.expand(N_DRAWS, *eta.shape), self.generator)[1]
        log_missing = torch.logsumexp(mask.log_missing(x), 0) - math.log(N_DRAWS)
        there = mask.log_present(self.input, self.observed)
        return made + there + (log_missing * mask.counted(1 - self.observed)).sum(-1)


class NotAtRandom(DiagonalGaussian):
    r"""`DiagonalGaussian` of rows whose entries are missing for a reason.

    .. math:: \log \frac1K \sum_k
        \frac{p(x_o \mid z_k)\, p(s \mid x_o, \tilde x_{m,k})\, p(z_k)}{q(z_k \mid x_o)},
        \quad \tilde x_{m,k} \sim p(x_m \mid z_k)

    Given the code, entries are independent, and so are the probabilities that they are missing.
    Each is therefore averaged over several draws of its entry: the product is as unbiased as with
    one draw, and varies less, so that the bound is tighter.

    Parameters
    ----------
    beta, kl_warm_up, free_bits, n_importance_samples, prior :
        As of `DiagonalGaussian`.
    missingness : Missingness
        p(s | x).

    References
    ----------
    Ipsen, Mattei and Frellsen, "not-MIWAE: deep generative modelling with missing not at random
    data", ICLR 2021, section 2.
    """

    step_class = MissingnessStep

    def __init__(
        self, beta=1.0, *, kl_warm_up=0.0, free_bits=0.0, n_importance_samples=1, prior="normal", missingness=None
    ) -> None:
        super().__init__(
            beta, kl_warm_up=kl_warm_up, free_bits=free_bits, n_importance_samples=n_importance_samples, prior=prior
        )
        self.missingness = missingness

    def build(self, model: Autoencoder) -> nn.Module:
        """What the prior learns, and the missingness."""
        module = super().build(model) or nn.Module()
        module.missingness = self.missingness.build(model)
        return module


MISSINGNESS = {"self_masking": SelfMasking(), "self_masking_known": SelfMasking(known_sign=1)}


def as_missingness(missingness: str | Missingness) -> Missingness:
    """The part that a string names, or the part itself."""
    return MISSINGNESS[missingness] if isinstance(missingness, str) else missingness
