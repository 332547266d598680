"""Convolutional encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from skae.model.networks import ACTIVATIONS, Dense, first_bound

Pair = tuple[int, int]


class Frame(NamedTuple):
    """Channels and sizes from the image to the last layer; a signal is an image of height 1.

    Attributes
    ----------
    channels : tuple of int
        Of the image and after each layer.
    full, convolved : list of (height, width)
        `full` has the image's and that after each layer; `convolved` that of each layer before it
        is halved.
    kernel, padding, stride : (int, int)
    """

    channels: tuple[int, ...]
    full: list[Pair]
    convolved: list[Pair]
    kernel: Pair
    padding: Pair
    stride: Pair

    @property
    def n_image(self) -> int:
        """Numbers of an image."""
        return self.channels[0] * math.prod(self.full[0])

    @property
    def n_last(self) -> int:
        """Numbers after the last layer."""
        return self.channels[-1] * math.prod(self.full[-1])


def output_size(size: int, kernel_size: int, padding: int, stride: int = 1) -> int:
    """d' = ⌊(d − f + 2p)/s⌋ + 1, what a convolution makes of `size` pixels."""
    return (size - kernel_size + 2 * padding) // stride + 1


def frame_of(
    image_shape: Sequence[int],
    channels: Sequence[int],
    kernel: Pair,
    step: Pair = (2, 2),
    padding: str = "same",
) -> Frame:
    """The sizes of a network; raises ValueError where a kernel does not fit.

    Of the kernel and the step, a signal of one dimension has the width alone.
    """
    signal = len(image_shape) == 1
    n_channels = image_shape[0] if len(image_shape) == 3 else 1
    size: Pair = (1, image_shape[0]) if signal else (image_shape[-2], image_shape[-1])
    if signal:
        kernel, step = (1, kernel[1]), (1, step[1])
    border = (0, 0) if padding == "valid" else ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
    full, convolved = [size], []
    for layer in range(len(channels)):
        if any(f > d + 2 * p for d, f, p in zip(size, kernel, border, strict=True)):
            raise ValueError(
                f"A kernel of {kernel[0]} x {kernel[1]} is larger than the padded image in convolution {layer + 1} of "
                f"image_shape={tuple(image_shape)}: {size} pixels, padded by {border}. Use padding='same' with an "
                "odd kernel_size, a smaller stride, or fewer channels."
            )
        convolved.append(_pair(output_size, size, kernel, border))
        size = _pair(output_size, size, kernel, border, step)
        full.append(size)
    return Frame((n_channels, *channels), full, convolved, kernel, border, step)


def _pair(function: Callable[..., int], *pairs: Pair) -> Pair:
    """The function of the heights and that of the widths."""
    height, width = map(function, *pairs)
    return height, width


class Convolution(nn.Module):
    """A convolution whose first weights come from a private generator.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel, padding, stride : (int, int)
    """

    def __init__(self, n_in: int, n_out: int, kernel: Pair, padding: Pair, stride: Pair = (1, 1)) -> None:
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        self.padding, self.stride = padding, stride
        self.weight = nn.Parameter(torch.empty(*self._channels(), *kernel))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def _channels(self) -> Pair:
        return self.n_out, self.n_in

    def _kernels_a_pixel(self) -> float:
        """Over how much of the kernel an output sums."""
        return float(math.prod(self.weight.shape[2:]))

    def reset(self, generator: torch.Generator, activation: str = "identity") -> None:
        """Draw weights, of the scale that a dense layer with as many inputs has."""
        size = self._kernels_a_pixel()
        bound = first_bound(size * self.n_in, size * self.n_out, activation)
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n_rows, n_in, height, width) to others."""
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class TransposedConvolution(Convolution):
    """The transpose of a convolution, which returns to the size from which that one came.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel, padding, stride : (int, int)
        Of the convolution.
    small, large : (int, int)
        Height and width of input and output.
    """

    def __init__(
        self, n_in: int, n_out: int, kernel: Pair, padding: Pair, stride: Pair, small: Pair, large: Pair
    ) -> None:
        super().__init__(n_in, n_out, kernel, padding, stride)
        sizes = zip(small, large, kernel, padding, stride, strict=True)
        # What the division in d' = ⌊(d − f + 2p)/s⌋ + 1 left over.
        self.left_over = tuple(d - ((smaller - 1) * s + f - 2 * p) for smaller, d, f, p, s in sizes)

    def _channels(self) -> Pair:
        return self.n_in, self.n_out

    def _kernels_a_pixel(self) -> float:
        return super()._kernels_a_pixel() / math.prod(self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n_rows, n_in, height, width) to larger ones."""
        return functional.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.left_over)


def halve(x: Tensor, down: str, window: Pair) -> tuple[Tensor, Tensor | None]:
    """Pool windows that do not overlap; those at an odd edge are smaller.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_channels, height, width)
    down : {"max", "average"}
    window : (int, int)

    Returns
    -------
    pooled : Tensor of shape (n_rows, n_channels, ⌈height/window⌉, ⌈width/window⌉)
    positions : Tensor of the same shape or None
        Where each maximum stood, as an index into height · width.
    """
    if down == "max":
        return functional.max_pool2d(x, window, ceil_mode=True, return_indices=True)
    return functional.avg_pool2d(x, window, ceil_mode=True, count_include_pad=False), None


def unpool(x: Tensor, positions: Tensor, size: Pair) -> Tensor:
    """Put each entry where its maximum stood, and zero elsewhere.

    Parameters
    ----------
    x, positions : Tensor of shape (n_rows, n_channels, height, width)
    size : (int, int)
        Height and width of the result.

    Returns
    -------
    Tensor of shape (n_rows, n_channels, *size)
    """
    empty = x.new_zeros(*x.shape[:2], math.prod(size))
    return empty.scatter(2, positions.flatten(2), x.flatten(2)).unflatten(2, size)


def first_positions(small: Pair, size: Pair, window: Pair) -> Tensor:
    """The first pixel of each window, as `halve` counts positions, of shape `small`."""
    rows, columns = (step * torch.arange(n) for n, step in zip(small, window, strict=True))
    return rows[:, None] * size[1] + columns


class ConvEncoder(nn.Module):
    """Convolutions that make the image smaller, and dense layers that make the code.

    Parameters
    ----------
    frame : Frame
    n_in, n_out : int
        Inputs beyond the image are further channels where they make whole images, and inputs of
        the dense layers otherwise.
    down, activation : str
    hidden : sequence of int
    """

    def __init__(self, frame: Frame, n_in: int, n_out: int, down: str, activation: str, hidden: Sequence[int]) -> None:
        super().__init__()
        self.down, self.activation, self.window, self.size = down, activation, frame.stride, frame.full[0]
        further = n_in - frame.n_image
        n_images, n_dense = (0, further) if further % frame.n_image else (further // frame.n_image, 0)
        self.n_conv = n_in - n_dense
        channels = ((1 + n_images) * frame.channels[0], *frame.channels[1:])
        stride = frame.stride if down == "stride" else (1, 1)
        self.convolutions = nn.ModuleList(
            Convolution(a, b, frame.kernel, frame.padding, stride)
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        self.dense = Dense((frame.n_last + n_dense, *hidden, n_out), activation)

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        for convolution in self.convolutions:
            convolution.reset(generator, self.activation)
        self.dense.reset(generator)

    def silence(self, first: int, last: int) -> None:
        """Let the outputs from `first` to `last` be zero."""
        self.dense.layers[-1].weight[first:last].zero_()

    def forward(self, x: Tensor, memory: list[Tensor] | None = None) -> Tensor:
        """Map rows of shape (n_rows, n_in) to (n_rows, n_out); `memory` receives the positions of the maxima."""
        for images in self._halved(x, memory):
            flat = images.flatten(1)
        return self.dense(self._with_further(flat, x))

    def _halved(self, x: Tensor, memory: list[Tensor] | None = None) -> Iterator[Tensor]:
        """The images after each convolution."""
        act = ACTIVATIONS[self.activation]
        images = x[:, : self.n_conv].unflatten(1, (-1, *self.size))
        for convolution in self.convolutions:
            images = act(convolution(images))
            if self.down != "stride":
                images, positions = halve(images, self.down, self.window)
                if memory is not None and positions is not None:
                    memory.append(positions)
            yield images

    def _with_further(self, flat: Tensor, x: Tensor) -> Tensor:
        """What the first dense layer reads: the last images, and inputs beyond the image."""
        return torch.cat([flat, x[:, self.n_conv :]], 1) if x.shape[1] > self.n_conv else flat

    @property
    def n_hidden(self) -> int:
        """Number of hidden layers, convolutions and dense ones."""
        return len(self.convolutions) + self.dense.n_hidden

    def hidden(self, x: Tensor) -> list[Tensor]:
        """What each convolution and each hidden dense layer passes on, of shape (n_rows, n_units)."""
        made = [images.flatten(1) for images in self._halved(x)]
        return [*made, *self.dense.hidden(self._with_further(made[-1], x))]


class ConvDecoder(nn.Module):
    """Dense layers and convolutions that bring the image back to its size.

    Parameters
    ----------
    frame : Frame
    n_in : int
        Components.
    up, activation : str
    hidden : sequence of int
    """

    def __init__(self, frame: Frame, n_in: int, up: str, activation: str, hidden: Sequence[int]) -> None:
        super().__init__()
        self.up, self.activation = up, activation
        self.n_last_channels, self.last_size = frame.channels[-1], frame.full[-1]
        self.dense = Dense((n_in, *hidden, frame.n_last), activation)
        layers = range(len(frame.convolved) - 1, -1, -1)
        self.sizes = [frame.convolved[layer] for layer in layers]
        self.convolutions = nn.ModuleList(self._convolution(frame, layer) for layer in layers)
        for index, layer in enumerate(layers):
            where = first_positions(frame.full[layer + 1], frame.convolved[layer], frame.stride)
            self.register_buffer(f"first_{index}", where, persistent=False)

    def _convolution(self, frame: Frame, layer: int) -> Convolution:
        channels, kernel, padding = frame.channels, frame.kernel, frame.padding
        n_in, n_out = channels[layer + 1], channels[layer]
        if self.up == "transposed":
            small, large = frame.full[layer + 1], frame.full[layer]
            return TransposedConvolution(n_in, n_out, kernel, padding, frame.stride, small, large)
        # Back from the convolved size to the full one.
        return Convolution(n_in, n_out, kernel, (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        for layer in (*self.dense.layers, *self.convolutions[:-1]):
            layer.reset(generator, self.activation)
        self.convolutions[-1].reset(generator)

    def silence(self, first: int, last: int) -> None:
        """Let the output be zero: all of it, because its pixels share their weights."""
        self.convolutions[-1].weight.zero_()

    def forward(self, z: Tensor, memory: list[Tensor] | None = None) -> Tensor:
        """Map codes of shape (n_rows, n_in) to (n_rows, n_out), with the positions that the encoder left."""
        act = ACTIVATIONS[self.activation]
        images = act(self.dense(z)).unflatten(1, (self.n_last_channels, *self.last_size))
        if self.up == "upsample":
            # Twice as fast there on a CPU; strided convolutions and unpooling gain nothing from it.
            images = images.contiguous(memory_format=torch.channels_last)
        last = len(self.convolutions) - 1
        for index, convolution in enumerate(self.convolutions):
            images = convolution(self._enlarged(images, index, memory))
            if index < last:
                images = act(images)
        return images.flatten(1)

    def _enlarged(self, images: Tensor, index: int, memory: list[Tensor] | None) -> Tensor:
        if self.up == "transposed":
            return images
        if self.up == "upsample":
            return functional.interpolate(images, size=self.sizes[index])
        if memory:
            # Several codes of each row, one block of rows after the other.
            positions = memory[-1 - index].repeat(len(images) // len(memory[0]), 1, 1, 1)
        else:
            positions = getattr(self, f"first_{index}").expand_as(images)
        return unpool(images, positions, self.sizes[index])
