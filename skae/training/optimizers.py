"""Optimizers as parts: what follows the gradient, and how fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from sklearn.base import BaseEstimator, clone
from torch import Tensor, nn

DECAY_TOWARDS_PCA = 0.3
SCHEDULES = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


class FlatParameters:
    """All parameters of a player in one vector, and their gradients in another.

    The parameters become views of the vector, so that one fused call updates them all. Those that
    decay come first.

    Parameters
    ----------
    parameters : sequence of nn.Parameter
    decays : callable
        Tells whether weight decay applies to a parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decays: Callable[[nn.Parameter], bool]):
        self.parameters = sorted(parameters, key=lambda parameter: not decays(parameter))
        self.n_decayed = sum(parameter.numel() for parameter in self.parameters if decays(parameter))
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        self.gradient = torch.zeros_like(self.values)
        for parameter, values, gradient in self._views():
            parameter.data, parameter.grad = values, gradient

    def _views(self):
        start = 0
        for parameter in self.parameters:
            stop = start + parameter.numel()
            yield (
                parameter,
                self.values[start:stop].view(parameter.shape),
                self.gradient[start:stop].view(parameter.shape),
            )
            start = stop

    def groups(self, weight_decay: float) -> list[dict]:
        """Parameter groups for torch's optimizers: what decays and what does not, or all in one."""
        if weight_decay == 0:
            return [{"params": [self.vector()]}]
        made = []
        for part, decays in ((slice(0, self.n_decayed), True), (slice(self.n_decayed, None), False)):
            if self.values[part].numel():
                made.append({"params": [self.vector(part)], "weight_decay": weight_decay if decays else 0.0})
        return made

    def vector(self, part: slice = slice(None)) -> nn.Parameter:
        """A part of the values as a parameter with its gradient."""
        vector = nn.Parameter(self.values[part])
        vector.data, vector.grad = self.values[part], self.gradient[part]
        return vector

    def release(self) -> None:
        """Give each parameter storage of its own again, so that a pickle holds no vector twice."""
        for parameter in self.parameters:
            parameter.data, parameter.grad = parameter.data.clone(), None


class Optimizer(BaseEstimator):
    """Base of the optimizers: the options that they share.

    Parameters
    ----------
    schedule : {"constant", "linear", "cosine"}
        How the learning rate falls over the training.
    weight_decay : float or "auto"
        Decay of the networks' weights, not of biases or of the linear path.
    clip_norm : float or None
        Largest norm of the gradient; None does not clip.
    precision : {"float32", "bfloat16"}
        Precision of the matrix products while training; bfloat16 is fast on recent GPUs and CPUs.
    """

    full_batch = False
    default_learning_rate = 1e-3

    def check(self) -> None:
        """Raise ValueError for a parameter outside its range."""
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r} is unknown; use one of {sorted(SCHEDULES)}.")
        if self.weight_decay != "auto" and not (not isinstance(self.weight_decay, str) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay={self.weight_decay!r} must not be negative; use a number or 'auto'.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm={self.clip_norm!r} must be positive, or None.")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r} is unknown; use 'float32' or 'bfloat16'.")

    @property
    def decay(self) -> float:
        """The weight decay as a number; "auto" that was not resolved is none."""
        return 0.0 if self.weight_decay == "auto" else float(self.weight_decay)

    def build(self, flat: FlatParameters, learning_rate: float) -> torch.optim.Optimizer:
        """The torch optimizer of a player's parameters."""
        raise NotImplementedError

    def set_progress(self, optimizer: torch.optim.Optimizer, learning_rate: float, progress: float) -> None:
        """Set the learning rate after a share `progress` of the training."""
        rate = learning_rate * SCHEDULES[self.schedule](min(progress, 1.0))
        for group in optimizer.param_groups:
            group["lr"] = rate

    def clip(self, gradient: Tensor) -> None:
        """Shorten the gradient to `clip_norm` without asking the device for a number."""
        if self.clip_norm is not None:
            gradient.mul_((self.clip_norm / (gradient.norm() + 1e-12)).clamp_max(1.0))


class AdamW(Optimizer):
    """Adam with decoupled weight decay, in torch's fused form.

    Parameters
    ----------
    betas : pair of float, default=(0.9, 0.999)
        Decay rates of the means of the gradient and of its square.
    schedule : {"constant", "linear", "cosine"}, default="cosine"
        How the learning rate falls over the training.
    weight_decay : float or "auto", default="auto"
        Decay of the networks' weights, not of biases or of the linear path. "auto" is 0.3 where a
        linear path stands beside them and the code is a point, since it pulls the model back
        towards PCA; elsewhere it would bend the likelihood and is 0.
    clip_norm : float or None, default=None
        Largest norm of the gradient; None does not clip.
    precision : {"float32", "bfloat16"}, default="float32"
        Precision of the matrix products while training.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> from skae import AdamW, AutoencoderTransformer
    >>> AutoencoderTransformer(2, optimizer=AdamW(weight_decay=0.01))
    AutoencoderTransformer(n_components=2, optimizer=AdamW(weight_decay=0.01))
    """

    def __init__(
        self, *, betas=(0.9, 0.999), schedule="cosine", weight_decay="auto", clip_norm=None, precision="float32"
    ):
        self.betas = betas
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.precision = precision

    def build(self, flat: FlatParameters, learning_rate: float) -> torch.optim.Optimizer:
        """The torch optimizer of a player's parameters."""
        fused = flat.values.device.type in ("cpu", "cuda", "mps")
        return torch.optim.AdamW(
            flat.groups(self.decay), lr=learning_rate, betas=self.betas, weight_decay=0.0, fused=fused
        )


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
    precision : {"float32", "bfloat16"}, default="float32"
        Precision of the matrix products while training.
    """

    default_learning_rate = 1e-2

    def __init__(self, *, momentum=0.9, schedule="cosine", weight_decay=0.0, clip_norm=1.0, precision="float32"):
        self.momentum = momentum
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.precision = precision

    def build(self, flat: FlatParameters, learning_rate: float) -> torch.optim.Optimizer:
        """The torch optimizer of a player's parameters."""
        return torch.optim.SGD(
            flat.groups(self.decay),
            lr=learning_rate,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
        )


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

    full_batch = True
    default_learning_rate = 1.0
    schedule = "constant"
    weight_decay = 0.0
    clip_norm = None
    precision = "float32"

    def __init__(self, *, max_evaluations=25, history_size=10):
        self.max_evaluations = max_evaluations
        self.history_size = history_size

    def build(self, flat: FlatParameters, learning_rate: float) -> torch.optim.Optimizer:
        """The torch optimizer of a player's parameters."""
        return torch.optim.LBFGS(
            [flat.vector()],
            lr=learning_rate,
            max_iter=max(1, self.max_evaluations * 4 // 5),
            max_eval=self.max_evaluations,
            history_size=self.history_size,
            line_search_fn="strong_wolfe",
        )


OPTIMIZERS = {"adamw": AdamW, "sgd": SGD, "lbfgs": LBFGS}


def as_optimizer(optimizer: str | Optimizer, *, near_pca: bool) -> Optimizer:
    """The part that a string names, or the part itself, checked, with a number for `weight_decay="auto"`."""
    part = OPTIMIZERS[optimizer]() if isinstance(optimizer, str) else optimizer
    part.check()
    if part.weight_decay == "auto":
        part = clone(part).set_params(weight_decay=DECAY_TOWARDS_PCA if near_pca else 0.0)
    return part
