"""The likelihood of tables: numbers, booleans and categories, each by its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from sklearn.utils._param_validation import HasMethods, StrOptions
from torch import Tensor

from skae.base.estimators import clone
from skae.base.parameters import at_least, list_of, positive
from skae.model.likelihoods import SCALE, Bernoulli, Gaussian, Likelihood, StudentT, log_scale_of
from skae.model.multinomial import Multinomial
from skae.model.scaling import Columns

KINDS = ("gaussian", "student_t", "bernoulli", "categorical")
NUMERIC = KINDS[:2]
# Shares of a category, or of ones, beyond which the start's bias, and its slope, are bounded.
RAREST, RAREST_SLOPE = 1e-4, 0.02


class Part(NamedTuple):
    """Columns that are scored together.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    width : int
        Categories of each group, or 1.
    columns : Tensor of int, of shape (n_groups * width,)
    first : int or None
        The first column, where the others follow one by one.
    """

    kind: str
    width: int
    columns: Tensor
    first: int | None

    def of(self, values: Tensor) -> Tensor:
        """These columns of values of shape (..., n_features); a softmax gets groups, (..., n_groups, width)."""
        if self.first is None:
            made = values.index_select(-1, self.columns)
        else:
            made = values.narrow(-1, self.first, len(self.columns))
        return made.unflatten(-1, (-1, self.width)) if self.kind == "categorical" else made


class Layout(NamedTuple):
    """Which columns are of which kind.

    Attributes
    ----------
    parts : tuple of Part
        One for each kind of a single column, and for the categorical groups of each width.
    back : Tensor of int or None
        Where each column is when the parts' columns stand one behind another; None where in its place.
    kind, entry : Tensor of int, of shape (n_features,)
        Index of the kind of each column, and which entry of the table it belongs to.
    """

    parts: tuple[Part, ...]
    back: Tensor | None
    kind: Tensor
    entry: Tensor


class Mixed(Likelihood):
    r"""Likelihood of tables: each group of columns has its own.

    .. math:: \log p(x \mid z) = \sum_{j\,\mathrm{numeric}} \log N(x_j; r_j, \sigma^2)
        + \sum_{j\,\mathrm{binary}} x_j \log r_j + (1 - x_j) \log(1 - r_j)
        + \sum_g \sum_{k \in g} x_k \log r_k

    with a logistic output for 0/1 columns and a softmax over the columns of a categorical group,
    which are 1 in the row's category and 0 in the others.

    Numbers are scored in units of their own column's standard deviation, not in one unit for all
    as in `Gaussian`: a fare in pounds would outweigh every age and every category, whose
    probabilities have no unit. For the same reason the network sees every number, every boolean
    and every group at a variance of 1, and a code starts as the PCA of that.

    Parameters
    ----------
    groups : "auto" or list of (kind, width) pairs, default="auto"
        The kinds of the columns from the first to the last: "gaussian", "student_t" and
        "bernoulli" of so many columns, and "categorical" with so many categories. "auto" takes them
        from the table that the estimator is fitted to.
    numeric : {"gaussian", "student_t"}, default="gaussian"
        What "auto" takes for numbers; "student_t" bears wild ones.
    scale : float, "shared", "columns" or "auto", default="auto"
        Scale of the numbers in units of their columns' standard deviation, or whether to learn one
        for all or one a column. "auto" learns a shared one where the code is random or a kind is
        "student_t", and takes 1 for a point code.
    df : float, default=4.0
        Degrees of freedom of "student_t".
    table_encoder : TableEncoder or None, default=None
        What an estimator turns tables into matrices with, where `groups` is "auto": another than
        `TableEncoder()` for numbers that are categories, say. It is cloned.

    See Also
    --------
    TableEncoder : Makes such columns from a table.

    References
    ----------
    Nazábal, Olmos, Ghahramani and Valera, "Handling incomplete heterogeneous data using VAEs",
    Pattern Recognition 107, 2020, section 2.2.

    Examples
    --------
    >>> from skae import VAE, Mixed
    >>> VAE(2, likelihood=Mixed([("gaussian", 3), ("bernoulli", 1), ("categorical", 4)]))
    VAE(likelihood=Mixed(groups=[('gaussian', 3), ('bernoulli', 1),
                                 ('categorical', 4)]),
        n_components=2)
    """

    _parameter_constraints = {
        "groups": [StrOptions({"auto"}), list_of(tuple, list)],
        "numeric": [StrOptions({"gaussian", "student_t"})],
        "scale": SCALE,
        "df": [positive()],
        "table_encoder": [HasMethods(["fit", "transform", "inverse_transform"]), None],
    }

    def __init__(
        self,
        groups: Any = "auto",
        *,
        numeric: str = "gaussian",
        scale: float | str = "auto",
        df: float = 4.0,
        table_encoder: Any = None,
    ) -> None:
        self.groups = groups
        self.numeric = numeric
        self.scale = scale
        self.df = df
        self.table_encoder = table_encoder

    def check_parameters(self) -> None:
        """Raise ValueError for groups that are none."""
        for group in () if isinstance(self.groups, str) else self.groups:
            if len(group) != 2 or group[0] not in KINDS or not at_least(1).is_satisfied_by(group[1]):
                raise ValueError(
                    f"Mixed(groups=...) holds {group!r}: use pairs (kind, width) with a kind of {KINDS} and a width of "
                    "at least 1."
                )

    def for_groups(self, groups: Iterable) -> Mixed:
        """A copy whose "auto" groups are set by those of a table, each with `kind`, `start` and `stop`."""
        made = clone(self)
        if isinstance(self.groups, str):
            kinds = {"numeric": self.numeric, "binary": "bernoulli", "categorical": "categorical"}
            pairs: list[tuple[str, int]] = []
            for group in groups:
                kind, width = kinds[group.kind], group.stop - group.start
                if pairs and pairs[-1][0] == kind != "categorical":
                    width += pairs.pop()[1]
                pairs.append((kind, width))
            made.groups = pairs
        return made

    # Where what is ---------------------------------------------------------------------------

    def _layout(self, device: torch.device | str = "cpu") -> Layout:
        if isinstance(self.groups, str):
            raise ValueError(
                "Mixed(groups='auto') takes its groups from the table that an estimator is fitted to; here there is "
                "none, so give pairs (kind, width)."
            )
        return _layout(tuple(map(tuple, self.groups)), torch.device(device))

    def entry_columns(self, n_features: int, device: torch.device | str = "cpu") -> Tensor:
        """Which entry of the table each column belongs to, of shape (n_features,)."""
        return self._layout(device).entry

    def is_numeric(self, device: torch.device | str = "cpu") -> Tensor:
        """Whether a column holds numbers, of shape (n_features,)."""
        return self._layout(device).kind < len(NUMERIC)

    def is_categorical(self, device: torch.device | str = "cpu") -> Tensor:
        """Whether a column belongs to a softmax, of shape (n_features,)."""
        return self._layout(device).kind == KINDS.index("categorical")

    def is_number(self, n_features: int, device: torch.device | str = "cpu") -> Tensor:
        """Whether a column is a number, of shape (n_features,)."""
        return self._layout(device).kind < len(NUMERIC)

    def keeps_units(self, n_features: int) -> Tensor:
        """Bits and categories."""
        return ~self.is_number(n_features)

    def check_rows(self, columns: Columns) -> None:
        """Raise ValueError for another number of columns, and for 0/1 columns that hold other numbers."""
        kind, p = self._layout().kind, len(columns.mean)
        if len(kind) != p:
            raise ValueError(f"The groups of Mixed have {len(kind)} columns in all, but X has {p}.")
        beyond = ((kind >= len(NUMERIC)) & ((columns.low < 0) | (columns.high > 1))).nonzero().flatten().tolist()
        if beyond:
            low, high = float(columns.low[beyond[0]]), float(columns.high[beyond[0]])
            raise ValueError(
                f"Column {beyond[0]} is {KINDS[kind[beyond[0]]]}, so it must lie between 0 and 1, but holds "
                f"{low if low < 0 else high:g}: encode the table, as TableEncoder does, or change the groups of Mixed."
            )

    # Units -----------------------------------------------------------------------------------

    def input_scale(self, columns: Columns) -> Tensor:
        """By what the network's input is divided: each entry of the table has a variance of 1 in all."""
        entry = self._layout().entry
        variance = torch.zeros_like(columns.variance).index_add_(0, entry, columns.variance)[entry]
        return torch.where(variance > 0, variance, 1.0).sqrt()

    def target_affine(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """Numbers are standardised, each column by itself; 0/1 columns are scored as they are."""
        numeric = self.is_numeric()
        return torch.where(numeric, columns.mean, 0.0), torch.where(numeric, self.input_scale(columns), 1.0)

    def linear_start(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """The tangents of the links at the mean, as of the logistic function and of softmax."""
        scale, categorical = self.input_scale(columns), self.is_categorical()
        binary = self._layout().kind == KINDS.index("bernoulli")
        mean, bounded = (columns.mean.clamp(low, 1 - low) for low in (RAREST, RAREST_SLOPE))
        bias = torch.where(binary, torch.logit(mean), torch.where(categorical, torch.log(mean), 0.0))
        slope = torch.where(binary, scale / (bounded * (1 - bounded)), torch.where(categorical, scale / bounded, 1.0))
        return bias, slope

    def extras(self, n_features: int, variational: bool, spread: float) -> dict[str, tuple[Tensor, bool]]:
        """The logarithm of the numbers' scale in units of the target."""
        kind, scale = self._layout().kind, self.scale
        robust = bool((kind == KINDS.index("student_t")).any())
        if scale == "auto":
            scale = "shared" if variational or robust else 1.0
        n_numbers = int((kind < len(NUMERIC)).sum())
        return log_scale_of(scale, 0.5 if robust else 1.0, n_numbers, 1.0) if n_numbers else {}

    # The distribution ------------------------------------------------------------------------

    def log_prob(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """What each entry of the target adds to the log-density of its row, in the target's units."""
        return self._by_part(lambda part, own, e, t: part.log_prob(e, t, own), extras, eta, target)

    def mean(self, eta: Tensor) -> Tensor:
        """Expected target: a probability in 0/1 columns."""
        return self._by_part(lambda part, own, e: part.mean(e), {}, eta)

    def inverse_link(self, mean: Tensor) -> Tensor:
        """Numbers as they are, log-odds and log-probabilities that are not quite sure."""
        return self._by_part(lambda part, own, m: part.inverse_link(m), {}, mean)

    def sample(self, eta: Tensor, extras: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A draw of the target; of a categorical group one column is 1."""
        return self._by_part(lambda part, own, e: part.sample(e, own, generator), extras, eta)

    def sample_like(
        self, eta: Tensor, other_eta: Tensor, other: Tensor, extras: dict[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """A draw of the target that deviates from `eta` as `other` does from `other_eta`."""

        def of_part(part, own, eta, other_eta, other):
            return part.sample_like(eta, other_eta, other, own, generator)

        return self._by_part(of_part, extras, eta, other_eta, other)

    @property
    def compares_columns(self) -> bool:  # type: ignore[override]
        """Whether there are categories, whose columns share a softmax."""
        return any(kind == "categorical" for kind, _ in self.groups)

    @property
    def has_slope(self) -> bool:
        """Whether `slope` is defined."""
        return not any(kind == "student_t" for kind, _ in self.groups)

    def slope(self, eta: Tensor, target: Tensor, extras: dict[str, Tensor]) -> Tensor:
        """Derivative of minus the log-probability with respect to the decoder's output."""

        def of_part(part, own, eta, target):
            if isinstance(part, Gaussian):
                return (eta - target) * torch.exp(-2 * own["log_scale"])
            return part.slope(eta, target)

        return self._by_part(of_part, extras, eta, target)

    def scale_slope(self, eta: Tensor, target: Tensor, slope: Tensor, weight: Tensor) -> Tensor:
        """Derivative of minus the weighted log-probability of each number by the logarithm of its scale.

        Parameters
        ----------
        eta, target, slope : Tensor of shape (..., n_features)
            `slope` is what the method of this name makes.
        weight : Tensor
            Of the entries, of a shape that expands to that of `eta`.

        Returns
        -------
        Tensor of shape (..., n_numbers)
        """
        (part,) = (part for part in self._layout(eta.device).parts if part.kind == "gaussian")
        return (1 - (part.of(eta) - part.of(target)) * part.of(slope)) * part.of(weight.expand_as(eta))

    def _by_part(self, function: Callable, extras: dict[str, Tensor], *values: Tensor) -> Tensor:
        """`function(likelihood, its extras, its columns of each of the values)` of each part, put together."""
        layout, made = self._layout(values[0].device), []
        log_scale, first = extras.get("log_scale"), 0
        for part in layout.parts:
            own = {}
            if log_scale is not None and part.kind in NUMERIC:
                n = len(part.columns)
                own["log_scale"] = log_scale if log_scale.shape[-1] == 1 else log_scale[..., first : first + n]
                first += n
            each = function(self._likelihood(part.kind), own, *(part.of(tensor) for tensor in values))
            made.append(each.flatten(-2) if part.kind == "categorical" else each)
        together = made[0] if len(made) == 1 else torch.cat(made, -1)
        return together if layout.back is None else together.index_select(-1, layout.back)

    def _likelihood(self, kind: str) -> Likelihood:
        return StudentT(self.df) if kind == "student_t" else PARTS[kind]


PARTS = {"gaussian": Gaussian(), "bernoulli": Bernoulli(), "categorical": Multinomial()}


@lru_cache(maxsize=256)
def _layout(groups: Sequence[tuple[str, int]], device: torch.device) -> Layout:
    """The layout of pairs (kind, width)."""
    kinds, entries, found = [], [], {}  # type: ignore[var-annotated]
    for kind, width in groups:
        columns = range(len(kinds), len(kinds) + width)
        categorical = kind == "categorical"
        found.setdefault((KINDS.index(kind), width if categorical else 1), []).extend(columns)
        first = entries[-1] + 1 if entries else 0
        entries += [first] * width if categorical else range(first, first + width)
        kinds += [KINDS.index(kind)] * width
    # Numbers come first and in the order of KINDS, as the numbers of log_scale do.
    parts, order = [], []
    # Tensors of inference mode could not take part in training.
    with torch.inference_mode(False):
        for (kind, width), columns in sorted(found.items()):
            first = columns[0] if columns[-1] - columns[0] == len(columns) - 1 else None
            parts.append(Part(KINDS[kind], width, torch.tensor(columns, device=device), first))
            order += columns
        back = None if order == sorted(order) else torch.tensor(order, device=device).argsort()
        return Layout(tuple(parts), back, *(torch.tensor(each, device=device) for each in (kinds, entries)))
