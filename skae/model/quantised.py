"""Vector quantisation: a code of integers, each the number of the nearest vector in a codebook."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from skae.model.posteriors import Posterior
from skae.model.step import Step

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder

# Numbers of a group where PCA has enough components for all groups.
MAX_WIDTH = 4
# A code is dead when this many rows a code, and rows of this many steps, had another that was nearer. By then the
# optimizer has forgotten the code's momentum.
ROWS_A_CODE, STEPS = 20, 50
# Rows a code, and iterations, of the k-means that finds the first codebooks.
START_ROWS_A_CODE, START_ITERATIONS = 16, 10


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The index of the centre nearest to each point.

    Parameters
    ----------
    points : Tensor of shape (n_groups, n_points, width)
    centres : Tensor of shape (n_groups, n_centres, width)

    Returns
    -------
    Tensor of shape (n_groups, n_points)
    """
    # ‖z − e‖² without ‖z‖², which does not change the order.
    return torch.baddbmm(centres.square().sum(-1)[:, None], points, centres.mT, alpha=-2).argmin(-1)


def k_means(points: Tensor, n_centres: int, generator: torch.Generator) -> Tensor:
    """Centres of each group's points, by k-means from a start by k-means++.

    Parameters
    ----------
    points : Tensor of shape (n_groups, n_points, width)
    n_centres : int
    generator : torch.Generator

    Returns
    -------
    Tensor of shape (n_groups, n_centres, width)
        With fewer points than centres, those that are left over lie at random between the points.

    References
    ----------
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    groups = torch.arange(len(points), device=points.device)
    centres = points.new_empty(len(points), n_centres, points.shape[2])
    distance, spread = points.new_ones(points.shape[:2]), points.std(1, correction=0)
    for index in range(n_centres):
        chosen = torch.multinomial(distance + torch.finfo(points.dtype).tiny, 1, generator=generator)[:, 0]
        # Where all points are centres already, another: rows between equal centres would change theirs by rounding.
        is_left_over = (distance[groups, chosen] == 0)[:, None]
        noise = torch.randn(spread.shape, generator=generator, device=points.device, dtype=points.dtype)
        centres[:, index] = points[groups, chosen] + is_left_over * spread * noise
        to_new = (points - centres[:, index, None]).square().sum(-1)
        distance = to_new if index == 0 else torch.minimum(distance, to_new)
    for _ in range(START_ITERATIONS):
        index = nearest(points, centres)
        sums = torch.zeros_like(centres).scatter_add_(1, index[..., None].expand_as(points), points)
        counts = sums.new_zeros(sums.shape[:2]).scatter_add_(1, index, torch.ones_like(distance))[..., None]
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres


class Codebooks(nn.Module):
    """The vectors that stand for what the encoder says, for each group of its outputs.

    Of m groups, group g has the outputs g, g + m, g + 2m, and so on: those that start as PCA's
    components are dealt out, so that no group has the largest alone.

    Parameters
    ----------
    n_groups, n_codes, width : int
    shared : bool
        Whether one codebook serves all groups.
    """

    # Pulling them to zero would make them one.
    no_decay = True

    def __init__(self, n_groups: int, n_codes: int, width: int, shared: bool) -> None:
        super().__init__()
        self.n_groups, self.width, self.shared = n_groups, width, shared
        self.vectors = nn.Parameter(torch.zeros(1 if shared else n_groups, n_codes, width))
        # Training rows since a code was last the nearest.
        self.register_buffer("idle", torch.zeros(self.vectors.shape[:2]))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new vectors."""
        with torch.no_grad():
            self.vectors.normal_(generator=generator)
            self.idle.zero_()

    def groups(self, encoded: Tensor) -> Tensor:
        """The encoder's output by group, of shape (n_groups, n_rows, width)."""
        return encoded.unflatten(1, (self.width, self.n_groups)).permute(2, 0, 1)

    def by_codebook(self, encoded: Tensor) -> Tensor:
        """What each codebook has to stand for, of shape (n_codebooks, n_points, width)."""
        groups = self.groups(encoded)
        return groups.flatten(0, 1)[None] if self.shared else groups

    @torch.no_grad()
    def nearest(self, encoded: Tensor) -> Tensor:
        """The nearest code of each group, of shape (n_rows, n_groups), int64."""
        with torch.autocast(encoded.device.type, enabled=False):
            points = self.groups(encoded).to(self.vectors.dtype)
            return nearest(points, self.vectors.expand(self.n_groups, -1, -1)).T

    def chosen(self, indices: Tensor) -> Tensor:
        """The vectors of codes of shape (n_rows, n_groups), as what the decoder reads."""
        group = torch.zeros_like(indices[0]) if self.shared else torch.arange(self.n_groups, device=indices.device)
        return self.vectors[group, indices].transpose(1, 2).flatten(1)

    @torch.no_grad()
    def start_at(self, encoded: Tensor, generator: torch.Generator) -> None:
        """Let the codebooks be the centres of encoded rows."""
        self.vectors.copy_(k_means(self.by_codebook(encoded), self.vectors.shape[1], generator))

    @torch.no_grad()
    def revive(self, encoded: Tensor, weight: Tensor | None, generator: torch.Generator) -> None:
        """Let codes that no row was nearest to for long start again at encoded rows of this batch."""
        points = self.by_codebook(encoded).to(self.vectors.dtype)
        n_codebooks, n_points = points.shape[:2]
        size = self.idle.shape
        if weight is None:
            index = torch.randint(n_points, size, generator=generator, device=points.device)
        else:
            # In proportion to the weights, of which rows without a part in the batch have none.
            shares = weight.repeat(n_points // len(weight)).cumsum(0)
            drawn = torch.rand(size, generator=generator, device=points.device) * shares[-1]
            index = torch.searchsorted(shares, drawn, right=True).clamp_max(n_points - 1)
        dead = self.idle >= max(ROWS_A_CODE * size[1], STEPS * len(encoded))
        other = points[torch.arange(n_codebooks, device=points.device)[:, None], index]
        self.vectors.copy_(torch.where(dead[..., None], other, self.vectors))
        self.idle.masked_fill_(dead, 0)

    @torch.no_grad()
    def count(self, indices: Tensor, weight: Tensor | None) -> None:
        """Note which codes the rows of a batch are nearest to."""
        counted = torch.ones_like(self.idle[0, :1]) if weight is None else (weight > 0).to(self.idle.dtype)
        used = self.idle.new_zeros(self.n_groups, self.idle.shape[1])
        used.scatter_add_(1, indices.T, counted.expand(self.n_groups, len(indices)))
        if self.shared:
            used = used.sum(0, keepdim=True)
        self.idle.add_(len(indices)).mul_(used == 0)


class QuantisedStep(Step):
    """One batch in a model whose code is quantised."""

    @cached_property
    def indices(self) -> Tensor:
        """The nearest code of each group, of shape (n_rows, n_components), int64."""
        codebooks = self.model.code_module
        revives = self.generator is not None and self.model.posterior.revive
        if revives:
            codebooks.revive(self.encoded, self.weight, self.generator)
        found = codebooks.nearest(self.encoded)
        if revives:
            codebooks.count(found, self.weight)
        return found

    @cached_property
    def code(self) -> Tensor:
        """The vectors of the nearest codes, of shape (n_rows, n_decoded)."""
        return self.model.code_module.chosen(self.indices)

    @cached_property
    def sample(self) -> Tensor:
        """The code; its gradient goes straight through to the encoder's output."""
        if self.generator is None:
            return self.code
        return self.model.posterior.with_gradient(self.encoded, self.code)


class Quantised(Posterior):
    r"""A code of integers: each group of the encoder's outputs is replaced by the nearest vector e of a codebook.

    .. math:: -\log p(x \mid e) + \tfrac12 \|\mathrm{sg}(z) - e\|^2 + \tfrac\beta2 \|z - \mathrm{sg}(e)\|^2,

    where sg has no gradient; the first term's passes from e to z as if they were the same [1]_,
    equation 3. A unit of the code is charged as much as a unit of error in the row.

    Parameters
    ----------
    n_codes : int
        Vectors of a codebook.
    code_width : int or "auto"
        Numbers of a group; "auto" is as many as PCA's components fill, at most four.
    n_features : int
        Columns of the rows, which "auto" depends on.
    shared : bool
        Whether one codebook serves all groups.
    commitment : float
        β.
    revive : bool
        Whether codes that are not used start again at encoded rows.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning", NIPS 2017.
    """

    step_class, is_choice = QuantisedStep, True
    term_names = ("negative_log_likelihood", "codebook", "commitment")

    def __init__(
        self, n_codes=256, code_width="auto", *, n_features=1, shared=False, commitment=1.0, revive=True
    ) -> None:
        self.n_codes = n_codes
        self.code_width = code_width
        self.n_features = n_features
        self.shared = shared
        self.commitment = commitment
        self.revive = revive

    @property
    def n_start_rows(self) -> int:  # type: ignore[override]
        """Training rows for the first codebooks."""
        return START_ROWS_A_CODE * self.n_codes

    def width(self, n_components: int) -> int:
        """Numbers of a group."""
        if self.code_width == "auto":
            return min(MAX_WIDTH, max(1, self.n_features // n_components))
        return int(self.code_width)

    @property
    def share_kept(self) -> float:  # type: ignore[override]
        """Share of the variance that a code of so many bits a number keeps of a normal distribution, at best."""
        width = MAX_WIDTH if self.code_width == "auto" else int(self.code_width)
        return 1 - self.n_codes ** (-2 / width)

    def n_outputs(self, n_components: int) -> int:
        """How many numbers the encoder says about a code."""
        return n_components * self.width(n_components)

    def n_decoded(self, n_components: int) -> int:
        """How many numbers the decoder reads of a code."""
        return self.n_outputs(n_components)

    def build(self, model: Autoencoder) -> nn.Module:
        """The codebooks."""
        return Codebooks(model.n_components, self.n_codes, self.width(model.n_components), self.shared)

    def start_from_rows(self, model: Autoencoder, rows: Tensor, generator: torch.Generator) -> None:
        """Let the codebooks be the centres of encoded training rows."""
        with torch.no_grad():
            model.code_module.start_at(model.encode(rows), generator)

    def mean(self, encoded: Tensor, module: nn.Module | None = None) -> Tensor:
        """The vectors of the nearest codes, of shape (n_rows, n_decoded)."""
        return module.chosen(module.nearest(encoded))

    def with_gradient(self, encoded: Tensor, code: Tensor) -> Tensor:
        """The code; its gradient goes straight through to the encoder's output."""
        return encoded + (code - encoded).detach()

    def terms(self, step: QuantisedStep) -> dict[str, Tensor]:  # type: ignore[override]
        """What is minimised, by name, each of shape (n_rows,)."""
        # They depend on the scale of the code, which the encoder may choose: held-out rows are not judged by them.
        unit = 0.0 if step.generator is None else 0.5 / step.loss_scale
        return {
            "negative_log_likelihood": -step.log_likelihood,
            "codebook": unit * (step.code - step.encoded.detach()).square().sum(1),
            "commitment": self.commitment * unit * (step.encoded - step.code.detach()).square().sum(1),
        }
