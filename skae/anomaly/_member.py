"""One member of a detector: an autoencoder, its scorers, and what they say of held-out rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.utils import get_tags

from skae.anomaly._columns import AsTheyAre, StandardColumns
from skae.anomaly._scorers import NeighborDistance, RobustDistance, Scorer
from skae.anomaly._tail import Tail, harmonic_mean
from skae.autoencoders._estimator import seeded
from skae.model.named_likelihoods import as_likelihood
from skae.tables._columns import ColumnGroup

# Rows that are scored at once.
CHUNK_ROWS = 8192
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
    standardize : bool
    support_fraction : float
        Share of the training rows that the autoencoder is fitted on: those that are the least
        suspicious.
    random_state : RandomState
    groups : list of ColumnGroup or None
        The columns of the table that the rows were, where categories were among them.

    Attributes
    ----------
    autoencoder : estimator
    columns : function
        Scales rows.
    calibration : ndarray of shape (n_held_out,)
        Sorted scores of the held-out rows.
    """

    def __init__(
        self,
        autoencoder,
        scorers: Sequence[Scorer],
        X,
        held_out,
        *,
        standardize,
        support_fraction,
        random_state,
        groups: Sequence[ColumnGroup] | None = None,
    ):
        self.scorers, self.random_state = scorers, random_state
        self.entry = None if groups is None else entry_of(groups)
        columns = StandardColumns if standardize else AsTheyAre
        self.columns: StandardColumns | AsTheyAre = columns(X, self.entry)
        self.autoencoder = seeded(autoencoder, random_state)
        if groups is not None and takes_tables(self.autoencoder):
            # It has units of its own, for zeros and ones.
            likelihood = as_likelihood(self.autoencoder.likelihood).for_groups(groups)
            self.autoencoder.set_params(likelihood=likelihood)
            if isinstance(self.columns, StandardColumns):
                self.columns.leave(np.array([group.kind != "numeric" for group in groups])[self.entry])
        Z = self._trusted(self.columns(X), support_fraction)
        try:
            self.autoencoder.fit(Z)
        except ValueError as error:
            if standardize:
                error.add_note("The detector has standardised the columns; standardize=False leaves them as they are.")
            raise
        Z = dense(Z)
        self.learnt = self._fitted_scorers(Z)
        self.window = Z[:: -(-len(Z) // WINDOW)]
        self.held_out_scores = self._raw(held_out)

    def _trusted(self, Z, support_fraction: float):
        """The rows that the autoencoder is to see."""
        if support_fraction == 1:
            return Z
        return Z[least_suspicious(dense(Z), support_fraction, self.random_state, self.entry)]

    def _fitted_scorers(self, Z: np.ndarray) -> list:
        return [scorer.fit(self.autoencoder, Z, self.random_state) for scorer in self.scorers]

    def calibrate(self, tails: Sequence[Tail], comparable: bool) -> None:
        """Let scores mean what they do in `tails`, one a scorer; those of one scorer only if they are compared."""
        self.tails, self.comparable, raw = tails, comparable or len(tails) > 1, self.held_out_scores
        self.calibration = np.sort(self._combined(raw))
        self.departures = np.mean([tail.departure(s) for tail, s in zip(tails, raw, strict=True)], axis=0)

    def updated(self, X, support_fraction: float) -> Member:
        """The member after further rows, which calibrate it first and are learnt then."""
        made = copy.copy(self)
        raw = self._raw(X)
        Z = self._trusted(self.columns(X), support_fraction)
        self.autoencoder.partial_fit(Z)
        made.window = np.concatenate([self.window, dense(Z)])[-WINDOW:]
        made.learnt = made._fitted_scorers(made.window)
        made.held_out_scores = [np.concatenate(both)[-WINDOW:] for both in zip(self.held_out_scores, raw, strict=True)]
        return made

    def _raw(self, X) -> list[np.ndarray]:
        """The scores of each scorer."""
        made = []
        for start in range(0, X.shape[0], CHUNK_ROWS):
            Z = self.columns(dense(X[start : start + CHUNK_ROWS]))
            parts = zip(self.scorers, self.learnt, strict=True)
            made.append([np.asarray(s.score(self.autoencoder, learnt, Z), dtype=np.float64) for s, learnt in parts])
        return [np.concatenate(scores) for scores in zip(*made, strict=True)]

    def _combined(self, raw: Sequence[np.ndarray]) -> np.ndarray:
        if not self.comparable:
            return raw[0]
        return harmonic_mean([tail(scores) for tail, scores in zip(self.tails, raw, strict=True)])

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

        A denoiser that is told the level of noise is told a medium one: with a small one it would
        hardly change a row.
        """
        told = getattr(self.autoencoder, "conditioning", None) == "noise_level"
        options = {"scale": float(np.sqrt(np.prod(self.autoencoder.corruption.bounds)))} if told else {}
        return self.columns.back(self.autoencoder.reconstruct(self.columns(X), **options))

    def __call__(self, X) -> np.ndarray:
        """Anomaly scores of rows: of the one scorer, or −log p of all together."""
        return self._combined(self._raw(X))


def takes_tables(autoencoder) -> bool:
    """Whether an autoencoder has a likelihood for each column of a table."""
    return hasattr(autoencoder, "likelihood") and get_tags(autoencoder).input_tags.categorical


def entry_of(groups: Sequence[ColumnGroup]) -> np.ndarray:
    """Which column of the table each column of the matrix belongs to."""
    return np.repeat(np.arange(len(groups)), [group.stop - group.start for group in groups])


def least_suspicious(
    Z: np.ndarray, share: float, random_state: np.random.RandomState, entry: np.ndarray | None = None
) -> np.ndarray:
    """Indices of the rows that are neither far from the bulk nor from everything else.

    An autoencoder that is flexible enough to learn the anomalies must not see them; what judges
    here is coarse: a robust covariance, and the distance to handfuls of other rows.
    """
    coarse = (RobustDistance(), NeighborDistance(max_samples=8, max_references=2048, columns="robust"))
    suspicion = np.zeros(len(Z))
    for scorer in coarse:
        scorer.entry = entry
        scores = scorer.score(None, scorer.fit(None, Z, random_state), Z)
        suspicion += Tail(scores, scorer.logarithmic)(scores)
    n_kept = max(1, int(np.ceil(share * len(Z))))
    return np.sort(np.argpartition(suspicion, n_kept - 1)[:n_kept])


def calibrate_together(members: Sequence[Member], *, comparable: bool) -> None:
    """Calibrate members of one kind by the held-out rows of all: each alone would have few."""
    scorers = members[0].scorers
    pooled = [np.concatenate(parts) for parts in zip(*(member.held_out_scores for member in members), strict=True)]
    tails = [Tail(scores, scorer.logarithmic) for scores, scorer in zip(pooled, scorers, strict=True)]
    for member in members:
        member.calibrate(tails, comparable)
