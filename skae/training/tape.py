"""Calls that are recorded once and run at each step, on tensors that stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


class Tape:
    """A list of calls, each with its arguments and the tensor that it writes.

    Allocating tensors and looking up arguments costs a small network more than arithmetic does.

    Parameters
    ----------
    like : Tensor
        Whose precision and device the tensors of the tape have.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._ones: dict[int, Tensor] = {}
        self.calls: list[Callable] = []

    def empty(self, *shape: int) -> Tensor:
        """A tensor to be written by a call."""
        return torch.zeros(shape, dtype=self._like.dtype, device=self._like.device)

    def ones(self, n: int) -> Tensor:
        """A constant vector of ones."""
        if n not in self._ones:
            self._ones[n] = torch.ones(n, dtype=self._like.dtype, device=self._like.device)
        return self._ones[n]

    def do(self, function: Callable, *args, **kwargs) -> None:
        """Record a call."""
        self.calls.append(partial(function, *args, **kwargs))

    def product(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """Record the matrix product of each model; returns where it is written."""
        self.do(torch.mm if a.ndim == 2 else torch.bmm, a, b, out=out)
        return out

    def add_dot(self, total: Tensor, a: Tensor, b: Tensor, factor: float) -> None:
        """Record the addition of factor · Σ a·b of each model to `total`, of shape (n_models, 1, 1)."""
        n_models = len(total)

        def add(a: Tensor, b: Tensor) -> None:
            total.baddbmm_(a.reshape(n_models, 1, -1), b.reshape(n_models, -1, 1), alpha=factor)

        if a.is_contiguous() and b.is_contiguous():
            self.do(total.baddbmm_, a.view(n_models, 1, -1), b.view(n_models, -1, 1), alpha=factor)
        else:
            self.do(add, a, b)
