"""Networks: parts that build the encoder and the decoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn
from torch.nn import functional

from skae.base.parameters import LAYER_SIZES, Part, layer_sizes, share

# Of what a layer has just made, so that they may work in place.
ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": torch.relu_,
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "elu": functional.elu,
}


def reset_parts(parts: Iterable[nn.Module], generator: torch.Generator) -> None:
    """Draw new weights where a part can do so; a network that a user wrote may hold such parts, or none."""
    waiting = list(parts)
    while waiting:
        part = waiting.pop(0)
        if hasattr(part, "reset"):
            part.reset(generator)
        else:
            waiting.extend(part.children())


def first_bound(n_in: float, n_out: float, activation: str) -> float:
    """Bound of uniform first weights: He's scale before rectifying units, Glorot's before others."""
    rectifying = activation in ("relu", "gelu", "silu", "elu")
    return (6.0 / n_in) ** 0.5 if rectifying else (6.0 / (n_in + n_out)) ** 0.5


class Linear(nn.Module):
    """An affine map x Wᵀ + b whose first weights come from a private generator.

    Parameters
    ----------
    n_in, n_out : int
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self._other: list[Linear] = []

    def reset(self, generator: torch.Generator, activation: str = "identity") -> None:
        """Draw weights: He's scale before rectifying units, Glorot's before others."""
        n_out, n_in = self.matrix().shape
        bound = first_bound(n_in, n_out, activation)
        with torch.no_grad():
            if not self._other:
                self.weight.uniform_(-bound, bound, generator=generator)
            self.bias.zero_()

    def tie(self, other: Linear) -> None:
        """Use the transposed weight of `other` from here on."""
        del self.weight
        self._other = [other]

    def matrix(self) -> Tensor:
        """The weight, of shape (n_out, n_in)."""
        return self._other[0].weight.t() if self._other else self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of shape (n_rows, n_in) to (n_rows, n_out)."""
        # Looked up as attributes, they would cost more than the product of one row.
        weight, bias = self._parameters.get("weight"), self._parameters.get("bias")
        if weight is None or bias is None:
            weight, bias = self.matrix(), self.bias
        return functional.linear(x, weight, bias)


class Dropout(nn.Module):
    """Dropout that draws from a private generator, which the trainer sets."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of the entries and scale the rest up, while training."""
        if not self.training or self.share == 0 or self.generator is None:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.share, generator=self.generator)
        return x * kept / (1 - self.share)


class Dense(nn.Module):
    """A stack of affine layers with an activation between them and a linear output.

    Parameters
    ----------
    sizes : sequence of int
        Number of units of input, hidden layers and output.
    activation : str
    dropout, input_dropout : float
        Share of hidden and input entries zeroed while training.
    """

    def __init__(self, sizes: Sequence[int], activation: str, dropout: float = 0.0, input_dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes, self.activation = tuple(sizes), activation
        self.layers = nn.ModuleList(Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.dropout = Dropout(dropout) if dropout else None
        self.input_dropout = Dropout(input_dropout) if input_dropout else None

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        for layer in self.layers[:-1]:
            layer.reset(generator, self.activation)
        self.layers[-1].reset(generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of shape (n_rows, sizes[0]) to (n_rows, sizes[-1])."""
        act = ACTIVATIONS[self.activation]
        if self.input_dropout is not None:
            x = self.input_dropout(x)
        last = len(self.sizes) - 2
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < last:
                x = act(x)
                if self.dropout is not None:
                    x = self.dropout(x)
        return x

    @property
    def n_hidden(self) -> int:
        """Number of hidden layers."""
        return len(self.layers) - 1

    def hidden(self, x: Tensor) -> list[Tensor]:
        """The activations of the hidden layers, without dropout."""
        made = []
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
            made.append(x)
        return made


class TiedDense(nn.Module):
    """The decoder whose weights are the encoder's, transposed; its biases are its own.

    Parameters
    ----------
    encoder : Dense
    n_in : int
        Components; where the encoder has more outputs (a variance each), its first `n_in` are tied.
    n_out : int
        Features; where the encoder has more inputs (a condition), its first `n_out` are tied.
    """

    def __init__(self, encoder: Dense, n_in: int, n_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        # In a list, so that the encoder's parameters are not registered twice.
        self._encoder = [encoder]
        self.n_in, self.n_out = n_in, n_out
        sizes = encoder.sizes[-2:0:-1]
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in (*sizes, n_out))
        self.dropout = Dropout(dropout) if dropout else None

    def reset(self, generator: torch.Generator) -> None:
        """Set the biases to zero; the weights are the encoder's."""
        with torch.no_grad():
            for bias in self.biases:
                bias.zero_()

    def forward(self, z: Tensor) -> Tensor:
        """Map codes of shape (n_rows, n_in) to (n_rows, n_out)."""
        encoder = self._encoder[0]
        act = ACTIVATIONS[encoder.activation]
        weights = [layer.weight for layer in reversed(encoder.layers)]
        weights[0] = weights[0][: self.n_in]
        weights[-1] = weights[-1][:, : self.n_out]
        for weight, bias in zip(weights[:-1], self.biases[:-1], strict=True):
            z = act(functional.linear(z, weight.t(), bias))
            if self.dropout is not None:
                z = self.dropout(z)
        return functional.linear(z, weights[-1].t(), self.biases[-1])


class DenseNetwork(Part):
    """Fully connected encoder and decoder, mirror images of each other.

    Parameters
    ----------
    hidden_layer_sizes : int or tuple of int, default=(128, 64)
        Hidden units of the encoder, from the input on; the decoder has them in reverse order. A
        number is a single layer, and an empty tuple makes both linear.
    activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", "elu"}, default="gelu"
        Activation of the hidden units. The code and the output are linear.
    tied : bool, default=False
        Whether the decoder's weights are the encoder's, transposed: half the parameters.
    dropout : float, default=0.0
        Share of the hidden units that is zeroed at each training step.
    input_dropout : float, default=0.0
        Share of the inputs that is zeroed at each training step.

    References
    ----------
    Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks",
    Science 313, 2006.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, DenseNetwork
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> network = DenseNetwork(hidden_layer_sizes=(16,), tied=True)
    >>> AutoencoderTransformer(2, network=network, max_iter=5, random_state=0).fit_transform(X).shape
    (150, 2)
    """

    _parameter_constraints = {
        "hidden_layer_sizes": LAYER_SIZES,
        "activation": [StrOptions(set(ACTIVATIONS))],
        "tied": ["boolean"],
        "dropout": [share("left")],
        "input_dropout": [share("left")],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (128, 64),
        activation: str = "gelu",
        *,
        tied: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.tied = tied
        self.dropout = dropout
        self.input_dropout = input_dropout

    @property
    def _sizes(self) -> tuple[int, ...]:
        return layer_sizes(self.hidden_layer_sizes)

    def encoder(self, n_in: int, n_out: int) -> nn.Module:
        """The map from `n_in` inputs to `n_out` numbers about the code."""
        sizes = (n_in, *self._sizes, n_out)
        return Dense(sizes, self.activation, self.dropout, self.input_dropout)

    def decoder(self, n_in: int, n_out: int, encoder: nn.Module) -> nn.Module:
        """The map from `n_in` components to `n_out` numbers about the row."""
        if self.tied:
            return TiedDense(encoder, n_in, n_out, self.dropout)
        return Dense((n_in, *reversed(self._sizes), n_out), self.activation, self.dropout)

    # What a fit asks of a network ------------------------------------------------------------

    @property
    def width(self) -> int | None:
        """Units of the widest hidden layer: what the first learning rate depends on."""
        return max(self._sizes, default=None)

    def n_products(self, n_features: int) -> int:
        """Multiplications of a row on its way through both networks, without those of the code's layers."""
        widths = (n_features, *self._sizes)
        return 2 * sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True))


class Shortcut(nn.Module):
    """A linear path beside a network: A x + a + out_scale · network(in_scale · x).

    The linear path starts as PCA and the network's output at zero, so the sum starts as PCA and
    training can only improve on it. The scales are constants that give the network whitened inputs
    and let its outputs start at the size of what is left to explain.

    Parameters
    ----------
    network : nn.Module or None
        None leaves the linear path alone.
    n_linear, n_in, n_out : int
        The linear path reads the first `n_linear` of the `n_in` inputs.
    """

    def __init__(self, network: nn.Module | None, n_linear: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.network, self.n_linear = network, n_linear
        self.linear = Linear(n_linear, n_out)
        # Decaying it would pull the start away from PCA.
        self.linear.no_decay = True
        # Its learning rate, beside the network's: small where PCA leaves little, which a step of the usual size would
        # exceed. A buffer, so that training can go on from a pickle.
        self.linear.register_buffer("pace", torch.ones(()))
        self.register_buffer("in_scale", torch.ones(n_in))
        self.register_buffer("out_scale", torch.ones(n_out))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        reset_parts([part for part in (self.linear, self.network) if part is not None], generator)

    def forward(self, x: Tensor, *memory: list[Tensor]) -> Tensor:
        """Map rows of shape (n_rows, n_in) to (n_rows, n_out); the network alone knows what to do with `memory`."""
        straight = self.straight(x)
        if self.network is None:
            return straight
        return straight + self.network(x * self.in_scale, *memory) * self.out_scale

    def straight(self, x: Tensor) -> Tensor:
        """The linear path alone."""
        return self.linear(x if self.n_linear == x.shape[1] else x[:, : self.n_linear])

    @property
    def n_hidden(self) -> int | None:
        """Number of the network's hidden layers; None where it does not tell."""
        return 0 if self.network is None else getattr(self.network, "n_hidden", None)

    def hidden(self, x: Tensor) -> list[Tensor]:
        """The activations of the network's hidden layers, without dropout."""
        return [] if self.network is None else self.network.hidden(x * self.in_scale)
