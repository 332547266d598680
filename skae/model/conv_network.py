"""ConvNetwork: a convolutional encoder and decoder for rows that are images or signals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skae.base.parameters import LAYER_SIZES, Part, SequenceOf, at_least, layer_sizes, list_of
from skae.model.convolutions import ConvDecoder, ConvEncoder, Frame, frame_of
from skae.model.networks import ACTIVATIONS

DOWN = ("stride", "max", "average")
UP = ("transposed", "unpool", "upsample")
PADDINGS = ("same", "valid")
# What a size may be: one number for height and width, or both.
SIZES = [at_least(1), SequenceOf(at_least(1), lengths=(2, 2))]


def _height_and_width(value) -> tuple[int, int]:
    """A pair of numbers as it is, one number for both."""
    height, width = (value, value) if np.ndim(value) == 0 else value
    return int(height), int(width)


class ConvNetwork(Part):
    r"""Convolutional encoder and decoder, mirror images of each other, for rows that are images.

    Each layer divides height and width by the stride, two by default. A convolution with kernel f,
    padding p = ⌊(f − 1)/2⌋ and stride s turns d pixels into

    .. math:: d' = \lfloor (d - f + 2p)/s \rfloor + 1

    and the decoder comes back to exactly d, whatever was left over.

    Parameters
    ----------
    image_shape : tuple of int
        (length,), (height, width) or (channels, height, width) of a row, which holds the numbers in
        C order: the first line of the first channel from left to right, then the next line.
    channels : int or tuple of int, default=(16, 32)
        Channels after each convolution of the encoder; the decoder has them in reverse order. Two
        layers suffice for images of up to some thirty pixels; take one more each time the image is
        twice as large.
    kernel_size : int or (int, int), default=3
        Height and width of the kernels. With padding, an odd one fits images of any size.
    down : {"stride", "max", "average"}, default="stride"
        How the encoder makes the image smaller: strided convolutions, with a quarter of the
        operations at a stride of 2, or convolutions of stride 1 followed by the maximum or the mean
        of each window of `stride` pixels (fewer at an edge that is left over).
    up : {"transposed", "unpool", "upsample"}, default="transposed"
        How the decoder enlarges it: transposed convolutions, with a quarter of the operations;
        unpooling, which puts each number where the encoder found the maximum and zero elsewhere
        [2]_, followed by a convolution (only with ``down="max"``); or each pixel repeated, followed
        by a convolution, which draws no checkerboards [3]_.
    activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", "elu"}, default="gelu"
        Activation of the hidden layers. The code and the output are linear.
    hidden_layer_sizes : int or tuple of int, default=()
        Dense hidden units between the convolutions and the code.
    stride : int or (int, int), default=2
        By what each layer divides height and width: the stride of the convolutions, or the window
        of the pooling. 1 keeps the size, but for what `padding` takes away.
    padding : {"same", "valid"}, default="same"
        "same" adds ⌊(f − 1)/2⌋ zeros at each edge, so that a convolution of stride 1 with an odd
        kernel keeps the size; "valid" adds none, so that each output sees f pixels of the image.

    Notes
    -----
    With ``up="unpool"``, a row is rebuilt from its code and the positions of its maxima. Where there
    is a code alone, as in `inverse_transform` and in samples, each number goes to the first pixel of
    its window, so that ``inverse_transform(transform(X))`` is not ``reconstruct(X)``.

    What the encoder is conditioned on (`conditioning` of `DenoisingAE`) is further channels for
    a mask, and a further input of the dense layer for a noise level.

    References
    ----------
    .. [1] Masci, Meier, Cireşan and Schmidhuber, "Stacked convolutional auto-encoders for
       hierarchical feature extraction", ICANN 2011.
    .. [2] Zeiler, Taylor and Fergus, "Adaptive deconvolutional networks for mid and high level
       feature learning", ICCV 2011.
    .. [3] Odena, Dumoulin and Olah, "Deconvolution and checkerboard artifacts", Distill, 2016.

    Examples
    --------
    >>> from skae import VAE, ConvNetwork
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAE(5, network=ConvNetwork((8, 8), channels=(8, 16)), max_iter=2, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (1797, 5)
    """

    _parameter_constraints = {
        "image_shape": [SequenceOf(at_least(1), lengths=(1, 3))],
        "channels": [at_least(1), list_of(at_least(1))],
        "kernel_size": SIZES,
        "stride": SIZES,
        "down": [StrOptions(set(DOWN))],
        "up": [StrOptions(set(UP))],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "hidden_layer_sizes": LAYER_SIZES,
        "padding": [StrOptions(set(PADDINGS))],
    }

    def __init__(
        self,
        image_shape: Any,
        channels: Any = (16, 32),
        kernel_size: Any = 3,
        *,
        down: str = "stride",
        up: str = "transposed",
        activation: str = "gelu",
        hidden_layer_sizes: Any = (),
        stride: Any = 2,
        padding: str = "same",
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.kernel_size = kernel_size
        self.down = down
        self.up = up
        self.activation = activation
        self.hidden_layer_sizes = hidden_layer_sizes
        self.stride = stride
        self.padding = padding

    def check_parameters(self) -> None:
        """Raise ValueError for a decoder that needs another encoder, or kernels that are larger than the image."""
        if self.up == "unpool" and self.down != "max":
            raise ValueError(
                f"up='unpool' needs the positions of the maxima that down='max' finds, but down={self.down!r}; use "
                "down='max', or up='transposed'."
            )
        self._frame()

    @property
    def _sizes(self) -> tuple[int, ...]:
        return layer_sizes(self.hidden_layer_sizes)

    def _frame(self) -> Frame:
        kernel, stride = (_height_and_width(value) for value in (self.kernel_size, self.stride))
        return frame_of(self.image_shape, layer_sizes(self.channels), kernel, stride, self.padding)

    def encoder(self, n_in: int, n_out: int) -> nn.Module:
        """The map from `n_in` inputs, of which the image is the first, to `n_out` numbers about the code."""
        frame = self._frame()
        if n_in < frame.n_image:
            raise self._wrong_size(n_in)
        return ConvEncoder(frame, n_in, n_out, self.down, self.activation, self._sizes)

    def decoder(self, n_in: int, n_out: int, encoder: nn.Module) -> nn.Module:
        """The map from `n_in` components to the `n_out` numbers of the image."""
        frame = self._frame()
        if n_out != frame.n_image:
            raise self._wrong_size(n_out)
        return ConvDecoder(frame, n_in, self.up, self.activation, tuple(reversed(self._sizes)))

    def _wrong_size(self, n_features: int) -> ValueError:
        shape = tuple(self.image_shape)
        return ValueError(
            f"image_shape={shape} has {math.prod(shape)} numbers, but the rows have {n_features} features; "
            "pass the shape of one row."
        )

    # What a fit asks of a network ------------------------------------------------------------

    @property
    def has_memory(self) -> bool:
        """Whether encoder and decoder take a list as a second argument, by which one tells the other of a batch."""
        return self.up == "unpool"

    @property
    def width(self) -> int:
        """Channels or units of the widest layer: what the first learning rate depends on."""
        return max(*layer_sizes(self.channels), *self._sizes, 1)

    def n_products(self, n_features: int) -> int:
        """Multiplications of a row on its way through both networks, without those of the code's layers."""
        frame = self._frame()
        total = 0
        for layer, (n_in, n_out) in enumerate(zip(frame.channels[:-1], frame.channels[1:], strict=True)):
            once, small, convolved = (
                n_in * n_out * math.prod(frame.kernel),
                frame.full[layer + 1],
                frame.convolved[layer],
            )
            total += once * math.prod(small if self.down == "stride" else convolved)
            total += once * math.prod(small if self.up == "transposed" else frame.full[layer])
        widths = (frame.n_last, *self._sizes)
        return total + 2 * sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True))
