"""The gradient of the plain dense case by hand: what autograd would give, without its overhead.

A step of a small network costs more in bookkeeping than in arithmetic. `DenseGradient` covers dense
networks with a point code and a likelihood of fixed shape; everything else goes through autograd.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skae.model.autoencoder import Autoencoder
from skae.model.networks import ACTIVATIONS, Dense, Linear, Shortcut
from skae.model.posteriors import Point
from skae.model.step import Step

_aten = torch.ops.aten
# Each takes (gradient, input of the activation, output of the activation).
BACKWARD = {
    "identity": lambda g, x, y: g,
    "relu": lambda g, x, y: _aten.threshold_backward(g, y, 0),
    "tanh": lambda g, x, y: _aten.tanh_backward(g, y),
    "logistic": lambda g, x, y: _aten.sigmoid_backward(g, y),
    "gelu": lambda g, x, y: _aten.gelu_backward(g, x),
    "silu": lambda g, x, y: _aten.silu_backward(g, x),
}


class DenseGradient:
    """Loss and gradient of one batch.

    Parameters
    ----------
    model : Autoencoder
        Whose parameters already have their `grad`, which is overwritten.
    """

    def __init__(self, model: Autoencoder):
        self.model, self.extras = model, model.extras
        self.encoder, self.decoder = _path(model.encoder), _path(model.decoder)

    @staticmethod
    def covers(model: Autoencoder, precision: str) -> bool:
        """Whether the model is one of those whose gradient is written out here."""
        return (
            precision == "float32"
            and isinstance(model.posterior, Point)
            and all(hasattr(penalty, "code_slope") for penalty in model.penalties)
            and model.emphasis == 1
            and not model._learnt
            and hasattr(model.likelihood, "slope")
            and all(_is_plain(network) for network in (model.encoder, model.decoder))
        )

    @torch.no_grad()
    def __call__(self, step: Step, weight: Tensor | float) -> dict[str, Tensor]:
        """Set the gradient of the weighted sum over the rows; returns the terms of the loss."""
        x, condition, model = step.seen, step.condition, step.model

        def by_row(gradient: Tensor) -> Tensor:
            return gradient * (weight if isinstance(weight, float) else weight[:, None])

        code, encoder_trace = self.encoder.forward(x if condition is None else torch.cat([x, condition], dim=1))
        eta, decoder_trace = self.decoder.forward(code)
        slope = model.likelihood.slope(eta, step.target, self.extras)
        if step.observed is not None:
            slope = slope * step.observed
        slope = by_row(slope)
        slope = self.decoder.backward(slope, decoder_trace, True)
        step.encoded, step.eta = code, eta
        for penalty in model.penalties:
            slope = slope + penalty.weight * by_row(penalty.code_slope(step))
        self.encoder.backward(slope, encoder_trace, False)
        return step.terms


def _is_plain(network: torch.nn.Module) -> bool:
    if isinstance(network, Shortcut):
        return not network.linear._other and (network.network is None or _is_plain(network.network))
    dense = isinstance(network, Dense) and network.activation in BACKWARD
    return dense and network.dropout is None and network.input_dropout is None


def _path(network: torch.nn.Module) -> _DensePath | _ShortcutPath:
    return _ShortcutPath(network) if isinstance(network, Shortcut) else _DensePath(network)


class _Affine:
    """x Wᵀ + b and its gradient."""

    def __init__(self, layer: Linear):
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.weight_t = self.weight.t()
        self.weight_grad, self.bias_grad = layer.weight.grad, layer.bias.grad

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight_t)

    def backward(self, gradient: Tensor, x: Tensor, input_needed: bool) -> Tensor | None:
        if self.weight_grad is not None:
            torch.mm(gradient.t(), x, out=self.weight_grad)
            torch.sum(gradient, 0, out=self.bias_grad)
        return gradient @ self.weight if input_needed else None


class _DensePath:
    """A `Dense` network; its trace holds each layer's input and, before the activation, its output."""

    def __init__(self, network: Dense):
        self.layers = [_Affine(layer) for layer in network.layers]
        self.activation = ACTIVATIONS[network.activation]
        self.activation_backward = BACKWARD[network.activation]

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        trace = []
        for layer in self.layers[:-1]:
            before = layer.forward(x)
            trace.append((x, before))
            x = self.activation(before)
        trace.append((x, None))
        return self.layers[-1].forward(x), trace

    def backward(self, gradient: Tensor, trace: Any, input_needed: bool) -> Tensor | None:
        for i in range(len(self.layers) - 1, -1, -1):
            x, before = trace[i]
            if before is not None:
                gradient = self.activation_backward(gradient, before, trace[i + 1][0])
            gradient = self.layers[i].backward(gradient, x, input_needed or i > 0)
        return gradient


class _ShortcutPath:
    """A `Shortcut`: a linear path beside a dense one."""

    def __init__(self, network: Shortcut):
        self.linear, self.n_linear = _Affine(network.linear), network.n_linear
        self.dense = None if network.network is None else _DensePath(network.network)
        self.in_scale, self.out_scale = network.in_scale, network.out_scale

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        head = x if self.n_linear == x.shape[1] else x[:, : self.n_linear]
        straight = self.linear.forward(head)
        if self.dense is None:
            return straight, (head, None)
        made, trace = self.dense.forward(x * self.in_scale)
        return torch.addcmul(straight, made, self.out_scale), (head, trace)

    def backward(self, gradient: Tensor, trace: Any, input_needed: bool) -> Tensor | None:
        head, dense_trace = trace
        straight = self.linear.backward(gradient, head, input_needed)
        if self.dense is None:
            return straight
        curved = self.dense.backward(gradient * self.out_scale, dense_trace, input_needed)
        # The encoder's input needs no gradient, so a condition beside the row never gets here.
        return torch.addcmul(straight, curved, self.in_scale) if input_needed else None
