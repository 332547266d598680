"""One member of a detector: an autoencoder, its scorers, and what they say of held-out rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.utils import get_tags

from skae.anomaly._columns import CommonScale, StandardColumns
from skae.anomaly._scorers import NeighborDistance, RobustDistance, Scorer, rebuilt, receives_noise_level
from skae.anomaly._tail import Tail, harmonic_mean
from skae.autoencoders._ensemble import fit_weighted, rows_by_weight, update_weighted
from skae.autoencoders._estimator import TrainedEstimator, seeded
from skae.autoencoders._known_gaps import empty_columns_known
from skae.model.named_likelihoods import as_likelihood
from skae.tables._columns import ColumnGroup
from skae.training.progress import Task

# Rows that are scored at once: at most so many, and a multiple of so many, since products of few rows round otherwise.
CHUNK_ROWS, ROW_MULTIPLE = 8192, 64
# Parts of the held-out rows: the tails that a part is compared by are those of the other parts.
N_PARTS = 5
# The score of a row that is too far out to be scored.
HIGHEST = 1e100
# Rows that a stream remembers: its scorers are fitted on them, and their scores calibrate.
WINDOW = 1000


def dense(X) -> np.ndarray:
    """Rows as an array."""
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


class Member:
    """A fitted autoencoder with its scorers.

    Parameters
    ----------
    autoencoder : estimator
        Is cloned and fitted.
    scorers : sequence of Scorer
    X : array or sparse matrix of shape (n_rows, n_features)
        Training rows in the data's units.
    held_out : array or sparse matrix of shape (n_held_out, n_features)
        Rows that calibrate the scores.
    order : ndarray of int, of shape (n_held_out,)
        Places of these rows among all, in random order: a row that calibrates several members has one.
    seen : bool
        Whether there were too few rows to hold any out, and the training rows are all there is.
    standardize : bool
    support_fraction : float
        Share of the training rows that the autoencoder is fitted on: those that are the least
        suspicious.
    random_state : RandomState
    task : Task
        The member's among those of the detector's fit.
    groups : list of ColumnGroup or None
        The columns of the table that the rows were, where categories were among them.
    weight : ndarray of shape (n_rows,) or None
        Weights of the training rows, of mean one. Scorers, which know of none, are fitted to rows
        that are as frequent as their weights say.

    Attributes
    ----------
    autoencoder : estimator
    columns : function
        Scales rows.
    calibration : list of ndarray
        Sorted scores of the held-out rows, one array for each part of them; where several scorers
        are combined, by tails that were fitted to the other parts.
    places : list of ndarray of int
        The places of these rows among all.
    """

    def __init__(
        self,
        autoencoder,
        scorers: Sequence[Scorer],
        X,
        held_out,
        order,
        *,
        standardize,
        support_fraction,
        random_state,
        task: Task,
        seen: bool = False,
        groups: Sequence[ColumnGroup] | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        self.scorers, self.random_state = scorers, random_state
        self.entry = None if groups is None else entry_of(groups)
        self.autoencoder = seeded(autoencoder, random_state)
        self.columns = self._scaling(X, standardize, weight)
        if groups is not None and takes_tables(self.autoencoder):
            # It has units of its own, for zeros and ones.
            likelihood = as_likelihood(self.autoencoder.likelihood).for_groups(groups)
            self.autoencoder.set_params(likelihood=likelihood)
            if isinstance(self.columns, StandardColumns):
                self.columns.leave(np.array([group.kind != "numeric" for group in groups])[self.entry])
        Z, weight = self._training_rows(X, support_fraction, weight)
        try:
            # Others than those of the table may be empty in one member's rows.
            with empty_columns_known(), task.fit_of(self.autoencoder):
                fit_weighted(self.autoencoder, Z, weight)
        except ValueError as error:
            if standardize:
                error.add_note("The detector has standardised the columns; standardize=False leaves them as they are.")
            raise
        Z = dense(Z[rows_by_weight(weight, Z.shape[0])])
        self.learnt = self._fitted_scorers(Z)
        self.window = Z[:: -(-len(Z) // WINDOW)]
        self.held_out_scores, self.order, self.seen = self._raw(held_out), order, seen

    def _scaling(self, X, standardize: bool, weight: np.ndarray | None) -> StandardColumns | CommonScale:
        """What scales rows: columns whose unit the autoencoder needs, as that of counts, stay as they are."""
        kept = keeps_units(self.autoencoder, X.shape[1])
        if not standardize or kept.all():
            return CommonScale(X, self.entry, keep_units=bool(kept.any()))
        columns = StandardColumns(X, self.entry, weight)
        if kept.any():
            columns.leave(kept)
        return columns

    def _training_rows(self, X, support_fraction: float, weight: np.ndarray | None):
        """The rows that the autoencoder is to see, scaled, and their weights: the trusted ones, without wild cells."""
        Z = self.columns(X)
        if support_fraction != 1:
            kept = least_suspicious(dense(Z), support_fraction, self.random_state, self.entry, weight)
            Z, weight = Z[kept], None if weight is None else weight[kept]
        return self.columns.without_wild(Z), weight

    def _fitted_scorers(self, Z: np.ndarray) -> list:
        return [scorer.fit(self.autoencoder, Z, self.random_state) for scorer in self.scorers]

    def calibrate(self, tails: Sequence[Tail], by_part: Sequence[Sequence[Tail]], comparable: bool) -> None:
        """Let scores mean what they do in `tails`, one a scorer; those of one scorer only if they are compared.

        A held-out row that its own tails were fitted to would be less remarkable by them than a new
        row is. So held-out rows are compared with new ones by the tails of the other parts.
        """
        self.tails, self.comparable, raw = tails, comparable or len(tails) > 1, self.held_out_scores
        self.by_part: Sequence[Sequence[Tail]] = by_part if self.comparable else [tails]
        self.calibration, self.places = [], []
        for part, its_tails in enumerate(self.by_part):
            (rows,) = np.nonzero(self.order % len(self.by_part) == part)
            scores = self._combined([each[rows] for each in raw], its_tails)
            ascending = np.argsort(scores, kind="stable")
            self.calibration.append(scores[ascending])
            self.places.append(self.order[rows[ascending]])
        self.departures = np.mean([tail.departure(s) for tail, s in zip(tails, raw, strict=True)], axis=0)

    def updated(self, X, first: int, support_fraction: float, weight: np.ndarray | None, task: Task) -> Member:
        """The member after further rows, which calibrate it first and are learnt then; `first` is the first's place."""
        made = copy.copy(self)
        raw = self._raw(X[rows_by_weight(weight, X.shape[0])])
        Z, weight = self._training_rows(X, support_fraction, weight)
        with task.fit_of(self.autoencoder):
            update_weighted(self.autoencoder, Z, weight)
        made.window = np.concatenate([self.window, dense(Z[rows_by_weight(weight, Z.shape[0])])])[-WINDOW:]
        made.learnt = made._fitted_scorers(made.window)
        order = first + np.arange(X.shape[0])
        if not self.seen:
            raw = [np.concatenate(both) for both in zip(self.held_out_scores, raw, strict=True)]
            order = np.append(self.order, order)
        made.held_out_scores, made.order, made.seen = [scores[-WINDOW:] for scores in raw], order[-WINDOW:], False
        return made

    def _raw(self, X) -> list[np.ndarray]:
        """The scores of each scorer."""
        made = []
        for start in range(0, X.shape[0], CHUNK_ROWS):
            rows = dense(X[start : start + CHUNK_ROWS])
            # Products of a few rows are rounded otherwise than those of many, and a row's score must not tell.
            Z = self.columns(np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % ROW_MULTIPLE, axis=0)]))
            parts = zip(self.scorers, self.learnt, strict=True)
            with np.errstate(over="ignore"):
                scores = [np.asarray(s.score(self.autoencoder, learnt, Z), dtype=np.float64) for s, learnt in parts]
            made.append([np.nan_to_num(each[: len(rows)], nan=HIGHEST, posinf=HIGHEST) for each in scores])
        return [np.concatenate(scores) for scores in zip(*made, strict=True)]

    def _combined(self, raw: Sequence[np.ndarray], tails: Sequence[Tail]) -> np.ndarray:
        if not self.comparable:
            return raw[0]
        return harmonic_mean([tail(scores) for tail, scores in zip(tails, raw, strict=True)])

    @property
    def reconstructs(self) -> bool:
        """Whether the autoencoder says what it expects."""
        return hasattr(self.autoencoder, "reconstruct")

    @property
    def spread(self) -> np.ndarray:
        """The unit of each column."""
        return self.columns.spread

    def expected(self, X: np.ndarray) -> np.ndarray:
        """What the autoencoder makes of rows, in the data's units.

        A denoiser that is conditioned on the level of noise receives a medium one: with a small one it would
        hardly change a row.
        """
        medium = receives_noise_level(self.autoencoder)
        options = {"scale": float(np.sqrt(np.prod(self.autoencoder.corruption.bounds)))} if medium else {}
        return self.columns.back(rebuilt(self.autoencoder, self.columns(X), self.entry, **options))

    def __call__(self, X) -> np.ndarray:
        """Anomaly scores of rows: of the one scorer, or −log p of all together."""
        return self._combined(self._raw(X), self.tails)

    def scores_by_part(self, X) -> np.ndarray:
        """Anomaly scores of rows as comparable with each part of the held-out rows, of shape (n_rows, n_parts)."""
        raw = self._raw(X)
        return np.stack([self._combined(raw, tails) for tails in self.by_part], axis=1)


def keeps_units(autoencoder, n_columns: int) -> np.ndarray:
    """Which columns an autoencoder must get in the data's units, of shape (n_columns,)."""
    if isinstance(autoencoder, TrainedEstimator) and not takes_tables(autoencoder):
        return autoencoder._keeps_units(n_columns)
    return np.zeros(n_columns, dtype=bool)


def takes_tables(autoencoder) -> bool:
    """Whether an autoencoder has a likelihood for each column of a table."""
    return hasattr(autoencoder, "likelihood") and get_tags(autoencoder).input_tags.categorical


def entry_of(groups: Sequence[ColumnGroup]) -> np.ndarray:
    """Which column of the table each column of the matrix belongs to."""
    return np.repeat(np.arange(len(groups)), [group.stop - group.start for group in groups])


def least_suspicious(
    Z: np.ndarray,
    share: float,
    random_state: np.random.RandomState,
    entry: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Indices of the rows that are neither far from the bulk nor from everything else, by their share of the weight.

    An autoencoder that is flexible enough to learn the anomalies must not see them; what judges
    here is coarse: a robust covariance, and the distance to handfuls of other rows.
    """
    coarse = (RobustDistance(), NeighborDistance(max_samples=8, max_references=2048, columns="robust"))
    suspicion, counted = np.zeros(len(Z)), rows_by_weight(weight, len(Z))
    for scorer in coarse:
        scorer.entry = entry
        scores = scorer.score(None, scorer.fit(None, Z[counted], random_state), Z)
        suspicion += Tail(scores[counted], scorer.logarithmic)(scores)
    order = np.argsort(suspicion, kind="stable")
    reached = np.cumsum(np.ones(len(Z)) if weight is None else weight[order])
    return np.sort(order[: 1 + np.searchsorted(reached, share * reached[-1])])


def calibrate_together(members: Sequence[Member], *, comparable: bool) -> None:
    """Calibrate members of one kind by the held-out rows of all: each alone would have few."""
    pooled = [np.concatenate(parts) for parts in zip(*(member.held_out_scores for member in members), strict=True)]
    part = np.concatenate([member.order for member in members]) % N_PARTS
    kept = [part != each for each in range(N_PARTS)]

    def tails(where) -> list[Tail]:
        parts = zip(pooled, members[0].scorers, strict=True)
        return [Tail(scores[where], scorer.logarithmic) for scores, scorer in parts]

    everything = tails(slice(None))
    # A single row has no others: it is compared with by tails of its own.
    by_part = [tails(where) if where.any() else everything for where in kept]
    for member in members:
        member.calibrate(everything, by_part, comparable)
