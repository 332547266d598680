"""What can be reached from Python with torch: a training step of a dense relu network, written out by hand.

The batch lies in columns, so that the widest side of each matrix is the one that runs fastest. Each
call writes into a buffer that was made before, and the calls of a whole epoch are made once and run
again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

_threshold_backward = torch.ops.aten.threshold_backward.grad_input


class HandWritten:
    """Forward pass, squared error, backward pass and Adam as a list of calls without arguments.

    Parameters
    ----------
    n_features : int
    encoder : sequence of int
        Units of the encoder's layers, the code's last; the decoder has them in reverse order. relu
        between the layers, none after the code nor the output.
    batch_size : int
    learning_rate : float
    """

    def __init__(self, n_features: int, encoder: Sequence[int], batch_size: int, learning_rate: float):
        sizes = [n_features, *encoder, *encoder[-2::-1], n_features]
        self.n_layers = len(sizes) - 1
        self.linear = {len(encoder) - 1, self.n_layers - 1}
        n_parameters = sum(a * b + b for a, b in pairwise(sizes))
        self.values, self.gradient, self.mean, self.square = (torch.zeros(n_parameters) for _ in range(4))
        self.weights, self.biases = self._views(self.values, sizes)
        self.weight_gradients, bias_gradients = self._views(self.gradient, sizes)
        self.bias_gradient = self.gradient[-sum(sizes[1:]) :]
        self._draw(sizes)
        self.outputs = [torch.empty(size, batch_size) for size in sizes[1:]]
        self.slopes = torch.empty(sum(sizes[1:]), batch_size)
        self.slope = list(self.slopes.split(sizes[1:]))
        self.ones, self.one, self.n_steps = torch.ones(batch_size), torch.ones(()), torch.zeros(())
        # The slope of the mean squared error lacks a constant factor; Adam with a larger epsilon makes up for it.
        self.adam = partial(
            torch._fused_adam_,
            *([vector] for vector in (self.values, self.gradient, self.mean, self.square)),
            [],
            [self.n_steps],
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8 * batch_size * n_features / 2,
            amsgrad=False,
            maximize=False,
        )

    @staticmethod
    def _views(vector: Tensor, sizes: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
        """Weights (outputs, inputs), stored with the longer side last, and biases of each layer, all biases last."""
        shapes = list(pairwise(sizes))
        *weights, biases = vector.split([a * b for a, b in shapes] + [sum(sizes[1:])])
        weights = [
            part.view(n_out, n_in) if n_in >= n_out else part.view(n_in, n_out).t()
            for part, (n_in, n_out) in zip(weights, shapes, strict=True)
        ]
        return weights, [bias[:, None] for bias in biases.split(sizes[1:])]

    def _draw(self, sizes: Sequence[int]) -> None:
        """First weights and biases, as `nn.Linear` draws them."""
        for weight, bias, n_in in zip(self.weights, self.biases, sizes[:-1], strict=True):
            weight.uniform_(-(n_in**-0.5), n_in**-0.5)
            bias.uniform_(-(n_in**-0.5), n_in**-0.5)

    def step(self, x: Tensor) -> list[Callable]:
        """The calls of a step on a batch (features, rows)."""
        inputs = [x, *self.outputs[:-1]]
        calls = [call for layer in range(self.n_layers) for call in self._forward(layer, inputs[layer])]
        calls.append(partial(torch.sub, self.outputs[-1], x, out=self.slope[-1]))
        for layer in reversed(range(self.n_layers)):
            calls += self._backward(layer, inputs[layer])
        calls.append(partial(torch.mv, self.slopes, self.ones, out=self.bias_gradient))
        return [*calls, partial(self.n_steps.add_, self.one), self.adam]

    def _forward(self, layer: int, x: Tensor) -> list[Callable]:
        out = self.outputs[layer]
        product = partial(torch.addmm, self.biases[layer], self.weights[layer], x, out=out)
        return [product] if layer in self.linear else [product, out.relu_]

    def _backward(self, layer: int, x: Tensor) -> list[Callable]:
        slope, weight, gradient = self.slope[layer], self.weights[layer], self.weight_gradients[layer]
        calls: list[Callable] = []
        if gradient.is_contiguous():
            calls.append(partial(torch.mm, slope, x.t(), out=gradient))
        else:
            calls.append(partial(torch.mm, x, slope.t(), out=gradient.t()))
        if layer > 0:
            below = self.slope[layer - 1]
            calls.append(partial(torch.mm, weight.t(), slope, out=below))
            if layer - 1 not in self.linear:
                calls.append(partial(_threshold_backward, below, x, 0, grad_input=below))
        return calls

    @torch.inference_mode()
    def rebuild(self, rows: np.ndarray) -> np.ndarray:
        """Rows through the network."""
        x = torch.from_numpy(rows).t()
        for layer in range(self.n_layers):
            x = torch.addmm(self.biases[layer], self.weights[layer], x)
            x = x if layer in self.linear else x.relu_()
        return x.t().numpy()


@torch.inference_mode()
def train(rows: Tensor, encoder: Sequence[int], batch_size: int, n_epochs: int, learning_rate: float) -> HandWritten:
    """Train on whole batches of the rows, which are shuffled once an epoch."""
    columns = rows.t().contiguous()
    shuffled = torch.empty_like(columns)
    network = HandWritten(len(columns), encoder, batch_size, learning_rate)
    batches = [batch for batch in shuffled.split(batch_size, dim=1) if batch.shape[1] == batch_size]
    calls = [call for batch in batches for call in network.step(batch)]
    for _ in range(n_epochs):
        torch.index_select(columns, 1, torch.randperm(len(rows)), out=shuffled)
        for call in calls:
            call()
    return network
