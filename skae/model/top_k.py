"""The k-sparse code: the largest of the encoder's outputs, and a new start for units that are never among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from skae.model.networks import Dense, Linear, Shortcut, TiedDense
from skae.model.posteriors import Point

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step


class TopK(Point):
    """The k largest of the encoder's outputs, by themselves or by |h|, and zero elsewhere.

    The gradient flows through the kept alone.

    Parameters
    ----------
    k : int or "auto"
        Units that are kept; "auto" is a tenth of them, at least one.
    alpha : float
        Outside of training, round(α·k) units are kept.
    batch : bool
        Whether training keeps the n·k largest of a batch's n rows, so that some rows have more
        units and some fewer [2]_. Otherwise each row has k. A row of weight two counts as two rows.
    annealing : float
        Share of the training over which k falls from all units.
    revive : int or None
        Training steps without an activation after which a unit gets a new start, see `Revival`.
    magnitude : bool
        Whether units are ranked by |h|, so that strongly negative ones are kept as well.

    References
    ----------
    .. [1] Makhzani and Frey, "k-sparse autoencoders", ICLR 2014, algorithm 1.
    .. [2] Bussmann, Leask and Nanda, "BatchTopK sparse autoencoders", 2024.
    """

    is_linear = False
    is_choice = True

    def __init__(self, k="auto", *, alpha=1.0, batch=False, annealing=0.0, revive=None, magnitude=False) -> None:
        self.k = k
        self.alpha = alpha
        self.batch = batch
        self.annealing = annealing
        self.revive = revive
        self.magnitude = magnitude

    @property
    def compares_rows(self) -> bool:  # type: ignore[override]
        """Whether the code of a row depends on the batch's other rows, and so on their weights."""
        return self.batch

    def build(self, model: Autoencoder) -> nn.Module | None:
        """The state that this posterior needs beside the network's weights."""
        return None if self.revive is None else Revival(model, self.revive)

    def n_outputs(self, n_components: int) -> int:
        """How many numbers the encoder says about a code; raises ValueError where k is above it."""
        if self.k != "auto" and self.k > n_components:
            raise ValueError(f"k={self.k} is above the number of units, n_components={n_components}: lower k.")
        return n_components

    def n_kept(self, n_components: int, progress: float | Tensor = 1.0) -> int | Tensor:
        """k after a share `progress` of the training."""
        k = max(1, n_components // 10) if self.k == "auto" else int(self.k)
        if self.annealing <= 0:
            return k
        share = progress / self.annealing
        if isinstance(share, Tensor):
            return n_components - share.clamp_max(1.0) * (n_components - k)
        return round(n_components - min(1.0, share) * (n_components - k))

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """The code outside of training: the round(α·k) largest outputs of each row."""
        d = encoded.shape[1]
        return self._largest(encoded, min(d, max(1, round(self.alpha * self.n_kept(d)))))

    def sample(
        self,
        encoded: Tensor,
        generator: torch.Generator,
        progress: float | Tensor = 1.0,
        module: nn.Module | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The code that is decoded while training; `weight`, of shape (n_rows,), is the rows' in the batch."""
        n, d = encoded.shape
        k = self.n_kept(d, progress)
        if not self.batch:
            return self._largest(encoded, k)
        flat = encoded.reshape(1, -1)
        if weight is None:
            return self._largest(flat, k * n).view_as(encoded)
        counts = weight.repeat_interleave(d).view(1, -1)
        return self._largest(flat, k * weight.sum(), counts).view_as(encoded)

    def _largest(self, values: Tensor, k: int | Tensor, counts: Tensor | None = None) -> Tensor:
        return largest(values, k, counts, values.abs() if self.magnitude else None)

    def terms(self, step: Step) -> dict[str, Tensor]:
        """What is minimised, by name, each of shape (n_rows,); while training, idle units get a new start."""
        terms = super().terms(step)
        if self.revive is not None and step.generator is not None and step.model.training:
            step.model.code_module(step, terms["negative_log_likelihood"])
        return terms

    def is_solved_by_pca(self, learnt_scale: bool) -> bool:
        """Whether PCA minimises a linear model's loss: it does not."""
        return False


def largest(values: Tensor, k: int | Tensor, counts: Tensor | None = None, ranked: Tensor | None = None) -> Tensor:
    """The k largest entries of each row, or those where `ranked` is largest, and zero elsewhere.

    k may be a tensor, so that a captured step can change it; an entry may count as more or less than
    one, or nothing.
    """
    if not isinstance(k, Tensor):
        kept, index = (values if ranked is None else ranked).topk(k, dim=1, sorted=False)
        if ranked is not None:
            kept = values.gather(1, index)
        return torch.zeros_like(values).scatter(1, index, kept)
    index = (values if ranked is None else ranked).detach().argsort(1, descending=True)
    counts = torch.ones((), device=values.device).expand_as(values) if counts is None else counts.gather(1, index)
    within = (counts.cumsum(1) <= k.round()).to(values.dtype)
    return values * torch.zeros_like(values).scatter(1, index, within)


class Revival(nn.Module):
    r"""A new start for idle units: those that no row has activated for so many training steps.

    Such a unit has no gradient, so that it stays idle. Each gets one of the batch's worst rebuilt rows,
    whose deviation from the mean of the batch, :math:`u = h_i - \bar h` of what the encoder's last layer
    reads, becomes its weight, so long that the unit would have been active in that row as its kept units
    are on average, :math:`m_i`:

    .. math:: w = \frac{m_i}{\|u\|^2}\, u, \qquad b = -w^\top \bar h

    Its decoder weights become zero, so that nothing is rebuilt otherwise at first; tied ones are the
    encoder's. Where a linear path stands beside the network, the path gets the weight and the network's
    becomes zero. What is written has no part in the step's own gradient.

    Parameters
    ----------
    model : Autoencoder
        Its networks are dense.
    patience : int
        Training steps without an activation.

    Attributes
    ----------
    idle : Tensor of shape (n_components,), int64
        Steps since a row last activated each unit. It is not kept in a pickle.

    Raises
    ------
    ValueError
        If the networks are of another kind.
    """

    idle: Tensor

    def __init__(self, model: Autoencoder, patience: int) -> None:
        super().__init__()
        for network in (model.encoder, model.decoder):
            inner = network.network if type(network) is Shortcut else network
            if inner is not None and type(inner) not in (Dense, TiedDense):
                raise ValueError(
                    f"revive writes weights of dense networks, but one is of type {type(inner).__name__}: use a "
                    "DenseNetwork, or revive=None."
                )
        self.patience = patience
        self.register_buffer("idle", torch.zeros(model.n_components, dtype=torch.int64), persistent=False)

    @torch.no_grad()
    def forward(self, step: Step, loss: Tensor) -> None:
        """Count what the batch activates, and write the new starts.

        Everything stays on the device, whether or not a unit is idle, so that a step can be captured.
        """
        code = step.sample
        active = code != 0
        if step.weight is not None:
            active, loss = active & (step.weight > 0).unsqueeze(1), loss * (step.weight > 0)
        self.idle.copy_(torch.where(active.any(0), 0, self.idle + 1))
        # No two units get the same row: who comes too late waits for the next batch.
        rank = (self.idle > self.patience).cumsum(0)
        revived = (self.idle > self.patience) & (rank <= len(code))
        row = loss.argsort(descending=True)[(rank - 1).clamp(0, len(code) - 1)]
        read = _read_by_the_code(step)
        mean = step.batch_mean(read)
        deviation = read[row] - mean
        size = code.abs().sum(1) if step.model.posterior.magnitude else code.sum(1).abs()
        kept = size / (code != 0).sum(1).clamp_min(1)
        weight = (kept[row] / deviation.square().sum(1).clamp_min(1e-12)).unsqueeze(1) * deviation
        _restart(step.model, revived, weight, -(weight @ mean))
        self.idle.masked_fill_(revived, 0)


def _read_by_the_code(step: Step) -> Tensor:
    """What the layer reads that a new start is written to, of shape (n_rows, n_units)."""
    encoder = step.model.encoder
    if type(encoder) is Shortcut or len(encoder.layers) == 1:
        return step.seen
    return step.hidden[-1]


def _restart(model: Autoencoder, revived: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Write the revived units' weights.

    It goes past autograd, for which a weight that the backward pass still reads must not change: what changes
    belongs to units that are not in this batch's code.
    """
    encoder, decoder = model.encoder, model.decoder
    kept = (~revived).to(weight.dtype)
    head = encoder.linear if type(encoder) is Shortcut else encoder.layers[-1]
    head.weight.data.copy_(torch.where(revived.unsqueeze(1), weight, head.weight))
    head.bias.data.copy_(torch.where(revived, bias, head.bias))
    if type(encoder) is Shortcut and encoder.network is not None:
        encoder.network.layers[-1].weight.data.mul_(kept.unsqueeze(1))
        encoder.network.layers[-1].bias.data.mul_(kept)
    networks = [decoder.linear, decoder.network] if type(decoder) is Shortcut else [decoder]
    for network in networks:
        first = network.layers[0] if type(network) is Dense else network
        # Tied layers have no weight of their own.
        if type(first) is Linear and "weight" in first._parameters:
            first.weight.data.mul_(kept)
