"""Dense networks on a tape: what goes forward, and the gradient back, in several models side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skae.model.networks import Dense, Linear, Shortcut
from skae.training.optimizers import FlatParameters
from skae.training.tape import Tape

_aten = torch.ops.aten


class _Activation(NamedTuple):
    """How a layer is bent and how a gradient passes back, both recorded on a tape.

    `forward` takes (tape, before, out) and `backward` (tape, gradient, kept); the gradient is
    changed in place. What is kept is the layer's output, which is written over what was before; or,
    where `needs_input`, what was before.
    """

    forward: Callable
    backward: Callable
    needs_input: bool = False


def _turned(x: Tensor) -> Tensor:
    """A view of a small layer that keeps torch's gelu away from oneDNN, whose set-up costs ten times the arithmetic."""
    return x.mT if x.numel() < ONE_DNN_PAYS else x


def _back(function: Callable, *between) -> Callable:
    """Record `function(gradient, *between, kept)`, written over the gradient."""
    return lambda tape, g, kept: tape.do(function, g, *between, kept, grad_input=g)


ONE_DNN_PAYS = 2**15
ACTIVATIONS = {
    "relu": _Activation(
        lambda tape, x, out: tape.do(torch.relu_, out),
        lambda tape, g, y: tape.do(_aten.threshold_backward.grad_input, g, y, 0, grad_input=g),
    ),
    "tanh": _Activation(
        lambda tape, x, out: tape.do(torch.tanh_, out),
        _back(_aten.tanh_backward.grad_input),
    ),
    "logistic": _Activation(
        lambda tape, x, out: tape.do(torch.sigmoid_, out),
        _back(_aten.sigmoid_backward.grad_input),
    ),
    "elu": _Activation(
        lambda tape, x, out: tape.do(_aten.elu_, out),
        _back(_aten.elu_backward.grad_input, 1.0, 1.0, 1.0, True),
    ),
    "gelu": _Activation(
        lambda tape, x, out: tape.do(_aten.gelu.out, _turned(x), out=_turned(out)),
        lambda tape, g, x: _back(_aten.gelu_backward.grad_input)(tape, _turned(g), _turned(x)),
        needs_input=True,
    ),
    "silu": _Activation(
        lambda tape, x, out: tape.do(_aten.silu.out, x, out=out),
        _back(_aten.silu_backward.grad_input),
        needs_input=True,
    ),
}


def path_of(networks: Sequence[torch.nn.Module], flat: FlatParameters) -> DensePath | ShortcutPath:
    """The same network of each model, to be recorded."""
    return (ShortcutPath if isinstance(networks[0], Shortcut) else DensePath)(networks, flat)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor for all models, with an axis for the model where there are several."""
    return tensors[0].detach() if len(tensors) == 1 else torch.stack([tensor.detach() for tensor in tensors])


class _Affine:
    """x Wᵀ + b and its gradient, in every model."""

    def __init__(self, layers: Sequence[Linear], flat: FlatParameters) -> None:
        first, self.learnt = layers[0], layers[0].weight.requires_grad
        self.n_in = first.weight.shape[1]
        if self.learnt:
            (self.weight, self.weight_grad), (self.bias, self.bias_grad) = (
                tuple(part[0] if len(layers) == 1 else part for part in flat.of(parameter))
                for parameter in (first.weight, first.bias)
            )
        else:
            self.weight = _stacked([layer.weight for layer in layers])
            self.bias = _stacked([layer.bias for layer in layers])

    def forward(self, tape: Tape, x: Tensor) -> Tensor:
        out = tape.empty(*x.shape[:-1], self.weight.shape[-2])
        if x.ndim == 2:
            tape.do(torch.addmm, self.bias, x, self.weight.t(), out=out)
        else:
            tape.do(torch.baddbmm, self.bias.unsqueeze(-2), x, self.weight.mT, out=out)
        return out

    def backward(self, tape: Tape, gradient: Tensor, x: Tensor, input_needed: bool) -> Tensor | None:
        if self.learnt:
            tape.product(gradient.mT, x, self.weight_grad)
            if x.ndim == 2:
                tape.do(torch.mv, gradient.t(), tape.ones(len(x)), out=self.bias_grad)
            else:
                tape.do(torch.sum, gradient, 1, out=self.bias_grad)
        return tape.product(gradient, self.weight, tape.empty(*x.shape)) if input_needed else None


class DensePath:
    """A `Dense` network; its trace holds each layer's input, and what its activation needs to go back."""

    def __init__(self, networks: Sequence[Dense], flat: FlatParameters) -> None:
        layers = zip(*(network.layers for network in networks), strict=True)
        self.layers = [_Affine(same, flat) for same in layers]
        self.n_in = self.layers[0].n_in
        self.activation = ACTIVATIONS.get(networks[0].activation)

    def forward(self, tape: Tape, x: Tensor) -> tuple[Tensor, Any]:
        """Record the way of x; returns the output and the trace that `backward` needs."""
        trace, act = [], self.activation
        for layer in self.layers[:-1]:
            before = layer.forward(tape, x)
            after = before
            if act is not None:
                after = torch.zeros_like(before) if act.needs_input else before
                act.forward(tape, before, after)
            trace.append((x, before))
            x = after
        trace.append((x, None))
        return self.layers[-1].forward(tape, x), (trace, None)

    def backward(self, tape: Tape, gradient: Any, trace: Any, input_needed: bool) -> Tensor | None:
        """Record the gradients of the weights, and of the input where it is needed."""
        for index in range(len(self.layers) - 1, -1, -1):
            x, kept = trace[0][index]
            if kept is not None and self.activation is not None:
                self.activation.backward(tape, gradient, kept)
            gradient = self.layers[index].backward(tape, gradient, x, input_needed or index > 0)
        return gradient


class ShortcutPath:
    """A `Shortcut`: a linear path beside a dense one; its trace ends with what the latter adds."""

    def __init__(self, networks: Sequence[Shortcut], flat: FlatParameters) -> None:
        first = networks[0]
        self.linear = _Affine([network.linear for network in networks], flat)
        self.dense = None if first.network is None else DensePath([network.network for network in networks], flat)
        self.n_in = len(first.in_scale)
        self.in_scale = self._constant([network.in_scale for network in networks])
        self.out_scale = self._constant([network.out_scale for network in networks])

    @staticmethod
    def _constant(tensors: Sequence[Tensor]) -> Tensor:
        made = _stacked(tensors)
        return made if made.ndim == 1 else made.unsqueeze(1)

    def forward(self, tape: Tape, x: Tensor) -> tuple[Tensor, Any]:
        """Record the way of x; returns the output and the trace that `backward` needs."""
        head = x[..., : self.linear.n_in]
        out = self.linear.forward(tape, head)
        if self.dense is None:
            return out, (head, None, None)
        scaled, added = tape.empty(*x.shape), tape.empty(*out.shape)
        tape.do(torch.mul, x, self.in_scale, out=scaled)
        made, trace = self.dense.forward(tape, scaled)
        tape.do(torch.mul, made, self.out_scale, out=added)
        tape.do(out.add_, added)
        return out, (head, trace, added)

    def backward(self, tape: Tape, gradient: Tensor, trace: Any, input_needed: bool) -> Tensor | None:
        """Record the gradients of the weights, and of the input where it is needed."""
        head, dense_trace, _ = trace
        straight = self.linear.backward(tape, gradient, head, input_needed)
        if self.dense is None:
            return straight
        bent = tape.empty(*gradient.shape)
        tape.do(torch.mul, gradient, self.out_scale, out=bent)
        curved = self.dense.backward(tape, bent, dense_trace, input_needed)
        if not input_needed:
            return None
        # Only the decoder's input needs a gradient, and it has no condition.
        tape.do(straight.addcmul_, curved, self.in_scale)
        return straight
