"""Sparse coding by a dictionary, and an encoder that predicts the codes."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from skae.base.parameters import Part
from skae.model.posteriors import Posterior
from skae.model.step import Step

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder

# The dictionary's learning rate beside the encoder's, whose matrices have entries that are far smaller.
DICTIONARY_PACE = 10.0
# Training rows from which the first atoms are drawn; the noise on them, so that equal rows make no equal atoms.
START_ROWS, START_NOISE = 4096, 0.1
# Steps of a solver between two looks at whether it is done.
STEPS_A_LOOK = 20


def shrink(h: Tensor, threshold: Tensor | float) -> Tensor:
    """Soft thresholding, sign(h)·max(|h| − θ, 0)."""
    return h - h.clamp(-threshold, threshold)


def lipschitz_bound(gram: Tensor) -> Tensor:
    """A bound of the largest eigenvalue of a positive semidefinite matrix, at most d^(1/16) times it.

    The norm of an eighth power is at least the eighth power of the eigenvalue; no value is read
    from the device.
    """
    scale = gram.diagonal().sum().clamp_min(torch.finfo(gram.dtype).tiny)
    power = gram / scale
    for _ in range(3):
        power = power @ power
    return scale * power.norm() ** 0.125


@torch.no_grad()
def fista(
    x: Tensor,
    atoms: Tensor,
    penalty: float,
    start: Tensor,
    n_steps: int,
    *,
    observed: Tensor | None = None,
    tol: float = 0.0,
) -> Tensor:
    r"""Codes that minimise :math:`\tfrac12 \|x - h D\|^2 + \lambda \|h\|_1`, by accelerated proximal gradient steps.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_features)
    atoms : Tensor of shape (n_components, n_features)
        D.
    penalty : float
        λ.
    start : Tensor of shape (n_rows, n_components)
        Codes to begin with.
    n_steps : int
        Steps at most.
    observed : Tensor of shape (n_rows, n_features) or None
        Zero for entries whose error does not count.
    tol : float
        Steps of a row end when no entry of its code has moved by more than this times the largest
        one, whatever the other rows do; with 0 all are taken, and no value is read from the device.

    Returns
    -------
    Tensor of shape (n_rows, n_components)

    References
    ----------
    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
    problems", SIAM J. Imaging Sciences 2, 2009, equations 4.1 to 4.3; momentum starts again where
    it points uphill, row by row, as in O'Donoghue and Candès, "Adaptive restart for accelerated
    gradient schemes", Foundations of Computational Mathematics 15, 2015.
    """
    gram, target = atoms @ atoms.T, x @ atoms.T
    rate = 1 / lipschitz_bound(gram)
    point, previous, t = start, start, torch.ones_like(start[:, :1])
    made, rows = start.clone(), torch.arange(len(start), device=start.device)
    for step in range(n_steps):
        gradient = point @ gram - target if observed is None else ((point @ atoms - x) * observed) @ atoms.T
        found = shrink(point - rate * gradient, rate * penalty)
        moved = found - previous
        t = torch.where(((point - found) * moved).sum(1, keepdim=True) > 0, torch.ones_like(t), t)
        following = 0.5 * (1 + (1 + 4 * t.square()).sqrt())
        point, previous, t = torch.addcmul(found, (t - 1) / following, moved), found, following
        if tol and step % STEPS_A_LOOK == STEPS_A_LOOK - 1:
            made[rows] = previous
            moves = moved.abs().amax(1) > tol * found.abs().amax(1)
            if not moves.any():
                return made
            rows, x, target, point, previous, t = (each[moves] for each in (rows, x, target, point, previous, t))
            observed = None if observed is None else observed[moves]
    made[rows] = previous
    return made


class Dictionary(nn.Module):
    """The decoder h D: a row is a sum of few atoms, which have unit length because D is divided by their lengths."""

    no_decay, pace = True, DICTIONARY_PACE

    def __init__(self, n_components: int, n_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_components, n_features))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new atoms."""
        with torch.no_grad():
            self.weight.normal_(generator=generator)

    @torch.no_grad()
    def start_at(self, rows: Tensor, generator: torch.Generator) -> None:
        """Let the first atoms be rows with some noise, and noise alone where there are too few."""
        self.reset(generator)
        # Columns without information get no part in an atom.
        spread = rows.std(0, correction=0)
        self.weight.mul_(torch.where(spread.any(), spread, torch.ones_like(spread)))
        n = min(len(rows), len(self.weight))
        self.weight[:n] = rows[:n] + START_NOISE * self.weight[:n]
        # Entries of size one, so that steps of the optimizer are shares of them.
        self.weight.copy_(self.atoms() * self.weight.shape[1] ** 0.5)

    def atoms(self) -> Tensor:
        """D, of shape (n_components, n_features), with rows of unit length."""
        return functional.normalize(self.weight, dim=1)

    def forward(self, h: Tensor) -> Tensor:
        """Map codes of shape (n_rows, n_components) to (n_rows, n_features)."""
        return h @ self.atoms()


class UnrolledShrinkage(nn.Module):
    r"""The encoder f: soft thresholding of a linear map, and `n_layers` steps towards the sparse code.

    .. math:: h_0 = s(c_0 E x, \theta_0), \quad
        h_t = s(y + c_t (E x + S y - y), \theta_t), \quad y = h_{t-1} + m_t (h_{t-1} - h_{t-2})

    with learnt E, S, thresholds θ, step sizes c and momenta m [1]_. They start as plain proximal
    gradient steps: E = D/L, S = I − D Dᵀ/L, θ = λ/L, c = 1, m = 0.

    Parameters
    ----------
    n_in, n_out, n_layers : int

    References
    ----------
    .. [1] Gregor and LeCun, "Learning fast approximations of sparse coding", ICML 2010, equation 4;
       there c = 1 and m = 0.
    """

    no_decay = True

    def __init__(self, n_in: int, n_out: int, n_layers: int) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.into = nn.Parameter(torch.zeros(n_out, n_in))
        if n_layers:
            self.across = nn.Parameter(torch.zeros(n_out, n_out))
        self.threshold = nn.Parameter(torch.zeros(n_layers + 1, n_out))
        self.size = nn.Parameter(torch.ones(n_layers + 1))
        self.momentum = nn.Parameter(torch.zeros(n_layers + 1))

    def reset(self, generator: torch.Generator) -> None:
        """Draw a first matrix."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.size.fill_(1)
            self.into.normal_(0, self.into.shape[1] ** -0.5, generator=generator)

    @torch.no_grad()
    def start_at(self, atoms: Tensor, penalty: float) -> None:
        """Let it be proximal gradient steps on the lasso of these atoms."""
        gram = atoms @ atoms.T
        rate = 1 / lipschitz_bound(gram)
        self.into.copy_(rate * atoms)
        if self.n_layers:
            self.across.copy_(torch.eye(len(gram), dtype=gram.dtype, device=gram.device) - rate * gram)
        self.threshold.fill_(rate * penalty)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of shape (n_rows, n_in) to codes of shape (n_rows, n_out)."""
        seen, threshold = x @ self.into.T, self.threshold.abs()
        previous, code = None, shrink(self.size[0] * seen, threshold[0])
        for layer in range(1, self.n_layers + 1):
            point = code if previous is None else torch.lerp(previous, code, 1 + self.momentum[layer])
            goal = torch.addmm(seen, point, self.across.T)
            previous, code = code, shrink(torch.lerp(point, goal, self.size[layer]), threshold[layer])
        return code


class SparseCodingNetwork(Part):
    """Unrolled shrinkage as the encoder and a dictionary as the decoder.

    Parameters
    ----------
    n_layers : int, default=3
        Steps of the encoder after the first thresholding.
    """

    def __init__(self, n_layers=3) -> None:
        self.n_layers = n_layers

    def encoder(self, n_in: int, n_out: int) -> nn.Module:
        """The map from rows to codes."""
        return UnrolledShrinkage(n_in, n_out, self.n_layers)

    def decoder(self, n_in: int, n_out: int, encoder: nn.Module) -> nn.Module:
        """The map from codes to rows."""
        return Dictionary(n_in, n_out)


class PredictiveSparseStep(Step):
    """One batch in a model that predicts sparse codes."""

    @cached_property
    def sparse_code(self) -> Tensor:
        """The codes that the solver finds, starting at the encoder's, of shape (n_rows, n_components)."""
        posterior, model = self.model.posterior, self.model
        with torch.autocast(self.input.device.type, enabled=False):
            return posterior.solve(self, posterior.n_solver_steps, self.code.detach().to(model.reference.dtype))

    @cached_property
    def sample(self) -> Tensor:
        """What is decoded: the solver's codes while training, the encoder's otherwise."""
        return self.code if self.generator is None else self.sparse_code


class PredictiveSparse(Posterior):
    r"""A sparse code h, found by a solver while training, and an encoder f that learns to predict it.

    .. math:: \min_{D, f} \tfrac12 \|x - h D\|^2 + \lambda \|h\|_1 + \tfrac\gamma2 \|h - f(x)\|^2

    where h is the lasso's solution, found without a gradient.

    Parameters
    ----------
    sparsity : float
        λ in units of a row's length, the root of its mean square.
    prediction : float
        γ.
    n_solver_steps : int
        Steps of the solver, from the encoder's codes on.

    References
    ----------
    .. [1] Kavukcuoglu, Ranzato and LeCun, "Fast inference in sparse coding algorithms with applications to
       object recognition", 2008, equation 4.
    """

    step_class = PredictiveSparseStep
    in_data_units = True
    n_start_rows = START_ROWS
    term_names = ("negative_log_likelihood", "sparsity", "prediction")

    def __init__(self, sparsity=0.1, *, prediction=1.0, n_solver_steps=10) -> None:
        self.sparsity = sparsity
        self.prediction = prediction
        self.n_solver_steps = n_solver_steps

    def penalty(self, model: Autoencoder) -> float:
        """λ for standardised rows, whose mean square length is the number of columns."""
        return self.sparsity * math.sqrt(model.n_features)

    def start_from_rows(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        """Let the first atoms be training rows, and the encoder be steps of the solver."""
        model.decoder.start_at(rows, generator)
        model.encoder.start_at(model.decoder.atoms(), self.penalty(model))

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """The encoder's prediction of the sparse code."""
        return encoded

    @torch.no_grad()
    def solve(self, step: Step, n_steps: int, start: Tensor, tol: float = 0.0) -> Tensor:
        """Sparse codes of a batch, of shape (n_rows, n_components)."""
        model = step.model
        atoms = model.decoder.atoms()
        return fista(step.input, atoms, self.penalty(model), start, n_steps, observed=step.observed, tol=tol)

    def terms(self, step: PredictiveSparseStep) -> dict[str, Tensor]:  # type: ignore[override]
        """What is minimised, by name, each of shape (n_rows,)."""
        found, unit = step.sparse_code, 1 / step.loss_scale
        return {
            "negative_log_likelihood": -step.log_likelihood_of(step.decode(found)),
            "sparsity": unit * self.penalty(step.model) * found.abs().sum(1),
            "prediction": 0.5 * unit * self.prediction * (found - step.code).square().sum(1),
        }
