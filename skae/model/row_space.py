"""Few rows of many columns: they differ in as many directions as there are rows, and the network sees these alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skae.base.parameters import Part, layer_sizes
from skae.model.autoencoder import Autoencoder
from skae.model.corruptions import GaussianNoise
from skae.model.likelihoods import Gaussian
from skae.model.networks import Dense, DenseNetwork, Linear, reset_parts
from skae.model.penalties import Anchor
from skae.model.posteriors import Point
from skae.model.scaling import Columns

# Columns a row from which on, and columns beyond which, rows are replaced by their scores; rows up to which.
COLUMNS_A_ROW, MIN_COLUMNS, MAX_ROWS = 4, 256, 2048
# Directions in which the rows vary less, beside the widest one, are rounding.
LEAST_SPREAD = 1e-6


def is_wide(n_rows: int, n_features: int) -> bool:
    """Whether rows are so few that their scores are worth the change."""
    return n_rows <= MAX_ROWS and n_features > max(MIN_COLUMNS, COLUMNS_A_ROW * n_rows)


def is_isotropic(network, posterior, likelihood, corruption, penalties) -> bool:
    """Whether a model that starts at PCA is the same for rows that are rotated: all that it measures are lengths."""
    plain = type(network) is DenseNetwork and not network.tied and not network.input_dropout
    squared_error = type(likelihood) is Gaussian and (
        likelihood.scale == "auto" or not isinstance(likelihood.scale, str)
    )
    point = type(posterior) is Point and posterior.is_linear and not posterior.whiten
    noise = corruption is None or type(corruption) is GaussianNoise
    return plain and squared_error and point and noise and all(isinstance(penalty, Anchor) for penalty in penalties)


class ScoreColumns(Columns):
    """The moments of scores on the axes of the rows; their unit is that of the columns that the rows have."""

    n_features: int

    @classmethod
    def of(cls, columns: Columns, n_features: int) -> ScoreColumns:
        """The moments of the scores, of rows with so many columns."""
        made = cls(*columns)
        made.n_features = n_features
        return made

    @property
    def spread(self) -> Tensor:
        """Root-mean-square standard deviation over the columns of the rows, one for constant data."""
        spread = (self.variance.sum() / self.n_features).sqrt()
        return spread if spread > 0 else torch.ones_like(spread)


class RowSpace:
    r"""An orthonormal basis B of what the rows differ by, x = μ + B s, and a model of s as one of x.

    Squared error and isotropic noise are the same for s as for x; what the rows do not span, no
    model that starts at PCA rebuilds. So a model of s is trained, whose cost does not grow with the
    columns, and B becomes the first layer of the encoder and the last of the decoder.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_features), float64
    columns : Columns
        Their moments.
    """

    def __init__(self, rows: Tensor, columns: Columns) -> None:
        self.columns = columns
        centred = (rows - columns.mean) / columns.spread
        values, left = torch.linalg.eigh(centred @ centred.T)
        kept = values > LEAST_SPREAD**2 * values[-1].clamp_min(1e-300)
        # The largest direction is kept where all rows are the same.
        kept[-1] = True
        values, left = values[kept].flip(0), left[:, kept].flip(1)
        basis = centred.T @ left / values.clamp_min(1e-300).sqrt()
        # Orthogonal to rounding, which the smallest directions are not yet.
        self.basis = torch.linalg.qr(basis)[0] if float(values[0]) > 0 else torch.eye(*basis.shape, dtype=basis.dtype)
        self.scores = (centred @ self.basis) * columns.spread

    def score_columns(self, columns: Columns) -> ScoreColumns:
        """The moments of scores as the model is to have them."""
        return ScoreColumns.of(columns, len(self.basis))

    def adapt(self, model: Autoencoder) -> None:
        """Let a new model of scores be as one of rows, in what scales there are.

        The networks see all directions in one unit, as the columns' is: the many in which there is
        little but noise are not blown up. And the log-density is that of rows, whose other
        directions are rebuilt exactly.
        """
        p, r = self.basis.shape
        model.encoder.in_scale[:r] = (r / p) ** 0.5
        model.decoder.out_scale.copy_(model.decoder.out_scale.square().mean().sqrt())
        zero = torch.zeros(1)
        at_scores = -float(model.likelihood.log_prob(zero, zero, model.extras))
        entry = at_scores + float(self.columns.spread.log())
        model.log_jacobian.fill_(at_scores - entry * p / r)
        model.log_jacobian_sum = at_scores * r - entry * p

    def lift(self, model: Autoencoder, made: Autoencoder) -> Autoencoder:
        """Fill a model of rows, whose network is `ProjectedNetwork`, with that of their scores."""
        basis = self.basis.to(model.reference)
        with torch.no_grad():
            for one, other in ((model.encoder, made.encoder), (model.decoder, made.decoder)):
                is_encoder = one is model.encoder
                weight, bias = one.linear.weight, one.linear.bias
                other.linear.weight.copy_(weight @ basis.T if is_encoder else basis @ weight)
                other.linear.bias.copy_(bias if is_encoder else basis @ bias)
                other.linear.pace.copy_(one.linear.pace)
                if is_encoder:
                    other.out_scale.copy_(one.out_scale)
                else:
                    other.in_scale.copy_(one.in_scale)
                if one.network is not None:
                    other.network.inner.load_state_dict(one.network.state_dict())
                    other.network.scale.copy_(one.in_scale if is_encoder else one.out_scale)
        return made


class ProjectedNetwork(Part):
    """A dense network between projections on fixed axes.

    Parameters
    ----------
    network : DenseNetwork
        Maps scores to codes and back.
    basis : Tensor of shape (n_features, n_axes)
    """

    def __init__(self, network: DenseNetwork, basis: Tensor) -> None:
        self.network = network
        self.basis = basis

    def encoder(self, n_in: int, n_out: int) -> nn.Module:
        """From rows, and what stands beside them, to `n_out` numbers about the code."""
        p, r = self.basis.shape
        if not layer_sizes(self.network.hidden_layer_sizes):
            return self.network.encoder(n_in, n_out)
        return ProjectedEncoder(self.network.encoder(n_in - p + r, n_out), Basis(self.basis), n_in - p)

    def decoder(self, n_in: int, n_out: int, encoder: Any) -> nn.Module:
        """From codes to rows."""
        if not layer_sizes(self.network.hidden_layer_sizes):
            return self.network.decoder(n_in, n_out, encoder)
        return ProjectedDecoder(self.network.decoder(n_in, self.basis.shape[1], encoder.inner), encoder.basis)

    @property
    def width(self) -> int | None:
        """Units of the widest hidden layer."""
        return self.network.width

    def n_products(self, n_features: int) -> int:
        """Multiplications of a row on its way through both networks."""
        return 2 * self.basis.numel() + self.network.n_products(self.basis.shape[1])


class Basis(nn.Module):
    """The axes, which the encoder and the decoder share."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors.to(torch.float32), persistent=False)


class ProjectedEncoder(nn.Module):
    """A network that sees the scores of a row, and what stands beside it as it is."""

    def __init__(self, inner: Dense, basis: Basis, n_conditions: int) -> None:
        super().__init__()
        self.inner, self.basis, self.n_conditions = inner, basis, n_conditions
        self.register_buffer("scale", torch.ones(basis.vectors.shape[1] + n_conditions))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        reset_parts([self.inner], generator)

    def _scores(self, x: Tensor) -> Tensor:
        vectors = self.basis.vectors
        scores = x[:, : len(vectors)] @ vectors
        return torch.cat([scores, x[:, len(vectors) :]], 1) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of shape (n_rows, n_features + n_conditions) to (n_rows, n_out)."""
        return self.inner(self._scores(x))

    def hidden(self, x: Tensor) -> list[Tensor]:
        """The activations of the hidden layers, without dropout."""
        return self.inner.hidden(self._scores(x))

    @property
    def activation(self) -> str:
        """Of the hidden layers."""
        return self.inner.activation

    @property
    def layers(self) -> list[Linear]:
        """The layers, of which the first reads rows: a product of the projection and what reads the scores."""
        first = self.inner.layers[0]
        p, r = self.basis.vectors.shape
        made = Linear(p + self.n_conditions, len(first.bias))
        weight = first.weight * self.scale
        with torch.no_grad():
            made.weight.copy_(torch.cat([weight[:, :r] @ self.basis.vectors.T, weight[:, r:]], 1))
            made.bias.copy_(first.bias)
        return [made, *self.inner.layers[1:]]


class ProjectedDecoder(nn.Module):
    """A network whose output are scores of a row."""

    def __init__(self, inner: nn.Module, basis: Basis) -> None:
        super().__init__()
        self.inner, self.basis = inner, basis
        self.register_buffer("scale", torch.ones(basis.vectors.shape[1]))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        reset_parts([self.inner], generator)

    def forward(self, z: Tensor) -> Tensor:
        """Map codes of shape (n_rows, n_in) to rows of shape (n_rows, n_features)."""
        return (self.inner(z) * self.scale) @ self.basis.vectors.T
