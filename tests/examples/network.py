"""A network: residual blocks."""

from sklearn.base import BaseEstimator
from torch import nn

from skae.model.networks import Linear


class Residual(nn.Module):
    """Hidden layers that each add to what was before: h ← h + W gelu(norm(h)) + b."""

    def __init__(self, n_in, n_out, width, n_blocks):
        super().__init__()
        sizes = [n_in, *[width] * (n_blocks + 1), n_out]
        self.layers = nn.ModuleList(Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.bend = nn.Sequential(nn.LayerNorm(width), nn.GELU())

    def forward(self, x):
        """Map rows of shape (n_rows, n_in) to (n_rows, n_out)."""
        first, *blocks, last = self.layers
        h = first(x)
        for block in blocks:
            h = h + block(self.bend(h))
        return last(h)


class ResidualNetwork(BaseEstimator):
    """Residual blocks of one width.

    Parameters
    ----------
    width : int, default=128
    n_blocks : int, default=2
    """

    def __init__(self, width=128, *, n_blocks=2):
        self.width = width
        self.n_blocks = n_blocks

    def encoder(self, n_in, n_out):
        """The map from `n_in` inputs to `n_out` numbers about the code."""
        return Residual(n_in, n_out, self.width, self.n_blocks)

    def decoder(self, n_in, n_out, encoder):
        """The map from `n_in` components to `n_out` numbers about the row."""
        return Residual(n_in, n_out, self.width, self.n_blocks)
