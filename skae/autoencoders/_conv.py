"""ConvAE."""

from __future__ import annotations

import math
from typing import Any

from sklearn.utils._param_validation import StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.model.conv_network import ConvNetwork
from skae.model.networks import ACTIVATIONS
from skae.tables._containers import plain_rows


class ConvAE(BaseAutoencoder):
    r"""Convolutional autoencoder: for rows that are images or signals.

    .. math:: \min \frac1n \sum_i -\log p(x_i \mid z_i), \quad z_i = f(x_i)

    f and the decoder are stacks of convolutions: the same small kernel at every place, so that few
    weights learn what neighbouring pixels have in common. See `ConvNetwork`, which works in every
    other class as well: ``VAE(network=ConvNetwork((28, 28)))``.

    `fit`, `partial_fit`, `transform`, `reconstruct`, `score_samples` and `score` take images of
    shape (n_samples, height, width) or (n_samples, channels, height, width) as well as rows of
    shape (n_samples, n_features), which hold each image in C order. `reconstruct` and
    `inverse_transform` return images if `fit` saw images, and rows if it saw rows.

    Parameters
    ----------
    {n_components}
    image_shape : tuple of int or "auto", default="auto"
        (length,), (height, width) or (channels, height, width) of a row. "auto" takes it from X
        where X holds images; of rows it makes square images where the number of features is a
        square number, and signals of shape (n_features,) otherwise.
    channels : int or tuple of int, default=(16, 32)
        Channels after each convolution of the encoder, each of which divides height and width by
        the stride; the decoder has them in reverse order.
    kernel_size : int or (int, int), default=3
        Height and width of the kernels. With padding, an odd one fits images of any size.
    stride : int or (int, int), default=2
        By what each layer divides height and width; 1 keeps the size.
    padding : {"same", "valid"}, default="same"
        "same" adds ⌊(kernel_size − 1)/2⌋ zeros at each edge, "valid" none: see `ConvNetwork`.
    down : {"stride", "max", "average"}, default="stride"
        How the encoder makes the image smaller: strided convolutions, which are the fastest, or
        the maximum or mean of windows of `stride` pixels after a convolution.
    up : {"transposed", "unpool", "upsample"}, default="transposed"
        How the decoder enlarges it: transposed convolutions, which are the fastest; with
        ``down="max"``, unpooling to where the maxima stood; or each pixel repeated, followed by a
        convolution.
    hidden_layer_sizes : int or tuple of int, default=(128,)
        Dense hidden units between the convolutions and the code, which see the whole image. ()
        makes the code linear in the last channels.
    {activation}
    {likelihood ... batch_size}
    learning_rate : float or "auto", default="auto"
        First learning rate; "auto" is the optimizer's own: for "adamw", 0.05 over the root of the
        most channels or hidden units, between 0.001 and 0.01.
    {optimizer ... verbose}

    Attributes
    ----------
    {model_ ... feature_names_in_}
    image_shape_ : tuple of int
        The image shape that was used.
    row_shape_ : tuple of int
        Shape of a row of X as `fit` saw it, and of what `reconstruct` and `inverse_transform` return.

    See Also
    --------
    ConvNetwork : The network, for use in the other classes.
    AutoencoderTransformer : With a dense network.

    Notes
    -----
    With ``up="unpool"``, `reconstruct` knows the positions of the maxima in X beside its code;
    `inverse_transform`, which has only the code, puts them at the first pixel of each window.

    References
    ----------
    Masci, Meier, Cireşan and Schmidhuber, "Stacked convolutional auto-encoders for hierarchical
    feature extraction", ICANN 2011.

    Examples
    --------
    >>> from skae import ConvAE
    >>> from sklearn.datasets import load_digits
    >>> images = load_digits().images
    >>> ae = ConvAE(5, channels=(8, 16), max_iter=2, random_state=0).fit(images)
    >>> ae.image_shape_
    (8, 8)
    >>> ae.reconstruct(images).shape
    (1797, 8, 8)
    """

    image_shape_: tuple[int, ...]

    _parameter_constraints = {
        **ConvNetwork._parameter_constraints,
        "image_shape": [*ConvNetwork._parameter_constraints["image_shape"], StrOptions({"auto"})],
        "activation": [StrOptions({*ACTIVATIONS, "auto"})],
    }

    image_shape: Any
    channels: Any
    kernel_size: Any
    stride: Any
    padding: str
    down: str
    up: str
    corruption: Any
    penalties: Any

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        image_shape: Any = "auto",
        channels: Any = (16, 32),
        kernel_size: Any = 3,
        stride: Any = 2,
        padding: str = "same",
        down: str = "stride",
        up: str = "transposed",
        hidden_layer_sizes: Any = (128,),
        activation: str = "auto",
        likelihood: Any = "gaussian",
        init: str = "pca",
        n_init: int = 1,
        corruption: Any = None,
        penalties: Any = "auto",
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        optimizer: Any = "adamw",
        early_stopping: Any = True,
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self._set_parameters(locals())

    def _network_part(self):
        activation = "gelu" if self.activation == "auto" else self.activation
        return ConvNetwork(
            self.image_shape_,
            self.channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            down=self.down,
            up=self.up,
            activation=activation,
            hidden_layer_sizes=self.hidden_layer_sizes,
        )

    # Images ----------------------------------------------------------------------------------

    def _validate(self, X, *, reset: bool):
        """Check X, images as rows."""
        if self._takes_tables():
            raise ValueError("likelihood='mixed' is for tables, and the columns of images are pixels: choose another.")
        shape = tuple(getattr(X, "shape", ()))[1:]
        if len(shape) not in (2, 3):
            checked = super()._validate(X, reset=reset)
            shape = (self.n_features_in_,)
        else:
            if not reset and _without_ones(shape) != _without_ones(self.image_shape_):
                raise ValueError(
                    f"X has images of shape {shape}, but {type(self).__name__} was fitted to images of shape "
                    f"{self.image_shape_}."
                )
            checked = super()._validate(plain_rows(X).reshape(len(X), math.prod(shape)), reset=reset)
        if reset:
            self.row_shape_ = shape
        return checked

    def _raw_rows(self, X, sample_weight, *, reset: bool, y=None):
        raw = super()._raw_rows(X, sample_weight, reset=reset, y=y)
        self.image_shape_ = self._image_shape(self.row_shape_)
        return raw

    def _image_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an image, for rows of shape `shape`."""
        if isinstance(self.image_shape, str):
            side = math.isqrt(self.n_features_in_)
            return (side, side) if len(shape) == 1 and 1 < side == self.n_features_in_ / side else shape
        given = tuple(self.image_shape)
        if math.prod(given) != self.n_features_in_:
            raise ValueError(
                f"image_shape={given} has {math.prod(given)} numbers, but X has {self.n_features_in_} features a row; "
                "pass the shape of one image: (length,), (height, width) or (channels, height, width)."
            )
        if len(shape) > 1 and _without_ones(shape) != _without_ones(given):
            raise ValueError(f"image_shape={given}, but X has images of shape {shape}; use image_shape='auto'.")
        return given

    def inverse_transform(self, X) -> Any:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, *row_shape_)
            Expected images, or rows if `fit` saw rows, in the units of the training data.
        """
        return self._as_seen(super().inverse_transform(X))

    def reconstruct(self, X) -> Any:
        """Encode and decode X; entries that are NaN come back filled.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or array of images
            Rows or images.

        Returns
        -------
        ndarray of shape (n_samples, *row_shape_)
            Expected images, or rows if `fit` saw rows, in the units of X.
        """
        return self._as_seen(super().reconstruct(X))

    def _as_seen(self, rows):
        return rows.reshape(len(rows), *self.row_shape_) if len(self.row_shape_) > 1 else rows

    def __sklearn_tags__(self):
        """Images beside rows."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape in which a gray image is the same with and without its one channel."""
    return tuple(size for size in shape if size > 1)
