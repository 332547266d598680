"""Optimizers as parts: what follows the gradient, and how fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skae.base.estimators import clone
from skae.base.parameters import Part, SequenceOf, at_least, not_negative, positive, share

DECAY_TOWARDS_PCA = 0.3
# In numbers of four bytes.
ALIGNMENT = 16
SCHEDULES = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


class FlatParameters:
    """All parameters of a player in one matrix, a row a model, and their gradients in another.

    The parameters of the models become views of it, so that one fused call updates many. Those that
    decay come first, those of the linear paths, whose rates differ, last. Each begins at a multiple
    of 64 bytes.

    Parameters
    ----------
    models : sequence of sequences of nn.Parameter
        The parameters of each model; all models have the same.
    decays, paces : callable
        Whether weight decay applies to a parameter; the factor of its learning rate.

    Attributes
    ----------
    values, gradient : Tensor of shape (n_models, size)
    """

    def __init__(
        self,
        models: Sequence[Sequence[nn.Parameter]],
        decays: Callable[[nn.Parameter], bool],
        paces: Callable[[nn.Parameter], float] = lambda parameter: 1.0,
    ) -> None:
        kinds = [(not decays(parameter), -paces(parameter)) for parameter in models[0]]
        order = sorted(range(len(kinds)), key=lambda index: kinds[index])
        self.models = [[parameters[index] for index in order] for parameters in models]
        self.parameters = [parameter for parameters in self.models for parameter in parameters]
        self._start, size = {}, 0
        # The columns of each kind: where they end, whether they decay, and their pace.
        self._ends: dict[tuple[bool, float], int] = {}
        for index, parameter in zip(order, self.models[0], strict=True):
            self._start[id(parameter)] = size
            size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
            self._ends[not kinds[index][0], -kinds[index][1]] = size
        first = self.models[0][0]
        self.values = torch.zeros(len(models), size, dtype=first.dtype, device=first.device)
        self.gradient = torch.zeros_like(self.values)
        for slots in zip(*self.models, strict=True):
            values, gradient = self.of(slots[0])
            for row, parameter in enumerate(slots):
                values[row].copy_(parameter.detach())
                parameter.data, parameter.grad = values[row], gradient[row]

    def of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Values and gradient of a parameter of the first model in all models, of shape (n_models, ...)."""
        start = self._start[id(parameter)]
        columns = slice(start, start + parameter.numel())
        shape = (len(self.models), *parameter.shape)
        return self.values[:, columns].view(shape), self.gradient[:, columns].view(shape)

    def parts(self, weight_decay: float) -> list[tuple[slice, float, float]]:
        """Columns, their weight decay and the pace of their learning rate, as few parts as these allow."""
        parts: list[tuple[slice, float, float]] = []
        for (decays, pace), stop in self._ends.items():
            kind = (weight_decay if decays else 0.0, pace)
            start = parts[-1][0].stop if parts else 0
            if parts and parts[-1][1:] == kind:
                start = parts.pop()[0].start
            parts.append((slice(start, stop), *kind))
        return parts

    def groups(self, weight_decay: float) -> list[dict]:
        """Parameter groups for torch's optimizers."""
        return [
            {"params": [self.as_parameter(columns)], "weight_decay": decay, "pace": pace}
            for columns, decay, pace in self.parts(weight_decay)
        ]

    def as_parameter(self, columns: slice = slice(None)) -> nn.Parameter:
        """Some columns as a parameter with its gradient."""
        part = nn.Parameter(self.values[:, columns])
        part.data, part.grad = self.values[:, columns], self.gradient[:, columns]
        return part

    def release(self) -> None:
        """Give each parameter storage of its own again, so that a pickle holds no vector twice."""
        for parameter in self.parameters:
            parameter.data, parameter.grad = parameter.data.clone(), None


class Updates:
    """A torch optimizer of a player, asked for one step at a learning rate.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, rate: float, closure: Callable | None = None) -> None:
        """Follow the gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("pace", 1.0)
        self.optimizer.step(closure)

    def forget(self) -> None:
        """Drop what was learnt of the objective's shape."""
        self.optimizer.state.clear()


class FusedAdamW:
    """AdamW by torch's fused kernel, without the bookkeeping of `torch.optim.AdamW`, several times the cost here.

    Parameters
    ----------
    flat : FlatParameters
    betas : pair of float
    eps, weight_decay : float
    """

    def __init__(self, flat: FlatParameters, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
        (self.beta1, self.beta2), self.eps = betas, eps
        # A number would be turned into a tensor at each step.
        self.count, self.one = (torch.full((), value, device=flat.values.device) for value in (0.0, 1.0))
        counts = [self.count] * len(flat.values)
        means, squares = torch.zeros_like(flat.values), torch.zeros_like(flat.values)
        tensors = (flat.values, flat.gradient, means, squares)
        self.parts = [
            ([[row[columns] for row in matrix] for matrix in tensors], counts, decay, pace)
            for columns, decay, pace in flat.parts(weight_decay)
        ]

    def step(self, rate: float | Tensor) -> None:
        """Follow the gradient."""
        self.count.add_(self.one)
        for (values, gradients, means, squares), counts, decay, pace in self.parts:
            torch._fused_adamw_(
                values,
                gradients,
                means,
                squares,
                [],
                counts,
                amsgrad=False,
                lr=rate * pace,
                beta1=self.beta1,
                beta2=self.beta2,
                weight_decay=decay,
                eps=self.eps,
                maximize=False,
            )


class Optimizer(Part):
    """Base of the optimizers: the options that they share.

    Parameters
    ----------
    schedule : {"constant", "linear", "cosine"}
        How the learning rate falls over the training.
    weight_decay : float or "auto"
        Decay of the networks' weights, not of biases or of the linear path.
    clip_norm : float or None
        Largest norm of the gradient; None does not clip.
    precision : {"float32", "tf32", "bfloat16"}
        Precision of the matrix products while training: "tf32" rounds their factors on a GPU that
        can, and "bfloat16" is fast on recent GPUs and CPUs.
    compile : bool
        Whether `torch.compile` turns encoder and decoder into fewer, larger operations: seconds
        to minutes at the start of each training, which only long trainings on a GPU repay.

    Attributes
    ----------
    full_batch : bool
        Whether it sees all rows at once.
    """

    _parameter_constraints = {
        "schedule": [StrOptions(set(SCHEDULES))],
        "weight_decay": [not_negative(), StrOptions({"auto"})],
        "clip_norm": [positive(), None],
        "precision": [StrOptions({"float32", "tf32", "bfloat16"})],
        "compile": ["boolean"],
    }

    full_batch = False

    def default_learning_rate(self, width: int | None) -> float:
        """The first rate for a network whose widest hidden layer has `width` units, None where that is not known."""
        return 1e-3

    @property
    def decay(self) -> float:
        """The weight decay as a number; "auto" that was not resolved is none."""
        return 0.0 if self.weight_decay == "auto" else float(self.weight_decay)

    def build(self, flat: FlatParameters) -> Updates | FusedAdamW:
        """What updates a player's parameters."""
        raise NotImplementedError

    def rate(self, learning_rate: float, progress: float) -> float:
        """The learning rate after a share `progress` of the training."""
        return learning_rate * SCHEDULES[self.schedule](min(progress, 1.0))

    def clip(self, gradient: Tensor) -> None:
        """Shorten each model's gradient to `clip_norm` without asking the device for a number."""
        if self.clip_norm is not None:
            norm = gradient.norm(dim=1, keepdim=True)
            gradient.mul_((self.clip_norm / (norm + 1e-12)).clamp_max(1.0))


class AdamW(Optimizer):
    """Adam with decoupled weight decay, in torch's fused form.

    Parameters
    ----------
    betas : pair of float, default=(0.9, 0.999)
        Decay rates of the means of the gradient and of its square.
    eps : float, default=1e-6
        Added to the root of the mean square. Larger than torch's 1e-8, so that hidden layers do not
        follow the rounding errors that are all their gradient while the start at PCA still holds.
    schedule : {"constant", "linear", "cosine"}, default="cosine"
        How the learning rate falls over the training.
    weight_decay : float or "auto", default="auto"
        Decay of the networks' weights, not of biases or of the linear path. "auto" is 0.3 where a
        linear path stands beside them and the code is a point, since it pulls the model back
        towards PCA; elsewhere it would bend the likelihood and is 0.
    clip_norm : float or None, default=None
        Largest norm of the gradient; None does not clip.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Precision of the matrix products while training; "tf32" is for GPUs.
    compile : bool, default=False
        Whether `torch.compile` is used: seconds to minutes more at the start of each training.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> from skae import AdamW, AutoencoderTransformer
    >>> AutoencoderTransformer(2, optimizer=AdamW(weight_decay=0.01))
    AutoencoderTransformer(n_components=2, optimizer=AdamW(weight_decay=0.01))
    """

    _parameter_constraints = {
        **Optimizer._parameter_constraints,
        "betas": [SequenceOf(share("left"), lengths=(2, 2))],
        "eps": [positive()],
    }

    def __init__(
        self,
        *,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-6,
        schedule: str = "cosine",
        weight_decay: float | str = "auto",
        clip_norm: float | None = None,
        precision: str = "float32",
        compile: bool = False,
    ) -> None:
        self.betas = betas
        self.eps = eps
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.precision = precision
        self.compile = compile

    def default_learning_rate(self, width: int | None) -> float:
        """0.05 over the root of the width: narrow networks bear larger steps than wide ones."""
        return 1e-3 if width is None else min(1e-2, max(1e-3, 0.05 * width**-0.5))

    def build(self, flat: FlatParameters) -> Updates | FusedAdamW:
        """What updates a player's parameters."""
        if flat.values.device.type in ("cpu", "cuda") and hasattr(torch, "_fused_adamw_"):
            return FusedAdamW(flat, self.betas, self.eps, self.decay)
        return Updates(torch.optim.AdamW(flat.groups(self.decay), betas=self.betas, eps=self.eps))


class SGD(Optimizer):
    """Stochastic gradient descent with Nesterov's momentum.

    Parameters
    ----------
    momentum : float, default=0.9
    schedule : {"constant", "linear", "cosine"}, default="cosine"
        How the learning rate falls over the training.
    weight_decay : float, default=0.0
        Decay of the networks' weights, not of biases or of the linear path.
    clip_norm : float or None, default=1.0
        Largest norm of the gradient; None does not clip.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Precision of the matrix products while training; "tf32" is for GPUs.
    compile : bool, default=False
        Whether `torch.compile` is used: seconds to minutes more at the start of each training.
    """

    _parameter_constraints = {
        **Optimizer._parameter_constraints,
        "momentum": [share("left")],
        "weight_decay": [not_negative()],
    }

    def default_learning_rate(self, width: int | None) -> float:
        """The first rate."""
        return 1e-2

    def __init__(
        self,
        *,
        momentum: float = 0.9,
        schedule: str = "cosine",
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        precision: str = "float32",
        compile: bool = False,
    ) -> None:
        self.momentum = momentum
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.precision = precision
        self.compile = compile

    def build(self, flat: FlatParameters) -> Updates | FusedAdamW:
        """What updates a player's parameters."""
        groups = flat.groups(self.decay)
        return Updates(torch.optim.SGD(groups, lr=0.0, momentum=self.momentum, nesterov=self.momentum > 0))


class LBFGS(Optimizer):
    """L-BFGS on all rows at once, with a strong Wolfe line search.

    Noise (a corruption, a random code) is drawn once an epoch, so that the line search sees a
    function. For small data and smooth objectives.

    Parameters
    ----------
    max_evaluations : int, default=25
        Evaluations of the objective in an epoch.
    history_size : int, default=10
        Updates that the approximation of the Hessian remembers.
    """

    _parameter_constraints = {"max_evaluations": [at_least(1)], "history_size": [at_least(1)]}

    full_batch = True
    schedule = "constant"
    weight_decay = 0.0
    clip_norm = None
    precision = "float32"
    compile = False

    def __init__(self, *, max_evaluations: int = 25, history_size: int = 10) -> None:
        self.max_evaluations = max_evaluations
        self.history_size = history_size

    def default_learning_rate(self, width: int | None) -> float:
        """The first rate."""
        return 1.0

    def build(self, flat: FlatParameters) -> Updates | FusedAdamW:
        """What updates a player's parameters."""
        return Updates(self._lbfgs(flat))

    def _lbfgs(self, flat: FlatParameters) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(
            [flat.as_parameter()],
            max_iter=max(1, self.max_evaluations * 4 // 5),
            max_eval=self.max_evaluations,
            history_size=self.history_size,
            line_search_fn="strong_wolfe",
        )


OPTIMIZERS = {"adamw": AdamW, "sgd": SGD, "lbfgs": LBFGS}


def as_optimizer(optimizer: str | Optimizer, *, near_pca: bool) -> Optimizer:
    """The part that a string names, or the part itself, with a number for `weight_decay="auto"`."""
    part = OPTIMIZERS[optimizer]() if isinstance(optimizer, str) else optimizer
    if part.weight_decay == "auto":
        part = clone(part).set_params(weight_decay=DECAY_TOWARDS_PCA if near_pca else 0.0)
    return part
