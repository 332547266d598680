"""AutoencoderOutlierDetector."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skae.anomaly._member import Member
from skae.anomaly._scorers import (
    DenoisingError,
    NegativeLogLikelihood,
    NeighborDistance,
    ReconstructionError,
    RobustDistance,
    Scorer,
)
from skae.anomaly._tail import benjamini_hochberg, conformal_p_values, share_of_anomalies
from skae.autoencoders._denoising import DenoisingAE
from skae.autoencoders._estimator import all_or_nothing
from skae.autoencoders._gan import GAN
from skae.autoencoders._rbm import RBM
from skae.autoencoders._vae import VAE
from skae.model.corruptions import GaussianNoise

# n_estimators="auto": several members below this number of rows, where one held-out part would be too small.
FEW_ROWS, N_MEMBERS = 2000, 5
# Below this number nothing is held out.
TOO_FEW_ROWS = 20
# The held-out part of a single member.
HELD_OUT_SHARE, MAX_HELD_OUT = 0.1, 10_000
# Optimizer steps of the default autoencoder, and its rows a batch.
N_STEPS, BATCH_SIZE = 1000, 256


class AutoencoderOutlierDetector(OutlierMixin, BaseEstimator):
    def __init__(
        self,
        autoencoder=None,
        *,
        novelty=False,
        scorer="auto",
        contamination="auto",
        standardize=True,
        support_fraction="auto",
        n_estimators="auto",
        random_state=None,
    ):
        self.autoencoder = autoencoder
        self.novelty = novelty
        self.scorer = scorer
        self.contamination = contamination
        self.standardize = standardize
        self.support_fraction = support_fraction
        self.n_estimators = n_estimators
        self.random_state = random_state

    _parameter_constraints = {
        "autoencoder": [HasMethods(["fit"]), "array-like", None],
        "novelty": ["boolean"],
        "scorer": [StrOptions({"auto"}), HasMethods(["fit"]), "array-like"],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "standardize": ["boolean"],
        "support_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="right")],
        "n_estimators": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    # Fitting ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        with all_or_nothing(self):
            X = self._validate(X, reset=True)
            random_state = check_random_state(self.random_state)
            autoencoders = self._autoencoders(X.shape[0])
            scorers = [self._scorers(autoencoder) for autoencoder in autoencoders]
            members = []
            for index, (training, held_out) in enumerate(self._parts(X.shape[0], len(autoencoders), random_state)):
                which = index % len(autoencoders)
                members.append(
                    Member(
                        autoencoders[which],
                        scorers[which],
                        X[training],
                        X[held_out],
                        standardize=self.standardize,
                        support_fraction=self._support_fraction(),
                        random_state=random_state,
                    )
                )
            self.members_ = members
            self._set_threshold(X)
        return self

    def _validate(self, X, *, reset):
        return validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=(np.float64, np.float32),
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )

    def _support_fraction(self) -> float:
        if self.support_fraction == "auto":
            return 1.0 if self.novelty else 0.5
        return float(self.support_fraction)

    def _autoencoders(self, n_rows: int) -> list:
        """The autoencoders asked for, or the default one."""
        if self.autoencoder is None:
            n_epochs = max(1, round(N_STEPS / -(-n_rows // BATCH_SIZE)))
            return [
                DenoisingAE(
                    64,
                    hidden_layer_sizes=(256,),
                    init="random",
                    corruption=GaussianNoise((0.05, 2.0)),
                    conditioning="noise_level",
                    max_iter=n_epochs,
                    batch_size=BATCH_SIZE,
                    early_stopping=False,
                )
            ]
        return list(self.autoencoder) if isinstance(self.autoencoder, Sequence) else [self.autoencoder]

    def _scorers(self, autoencoder) -> list[Scorer]:
        """The scorers asked for, or those that suit the autoencoder."""
        scorer = self.scorer
        if isinstance(scorer, str):
            made = self._auto_scorers(autoencoder)
        else:
            made = list(scorer) if isinstance(scorer, Sequence) else [scorer]
        for each in made:
            each.check(autoencoder)
        return made

    def _auto_scorers(self, autoencoder) -> list[Scorer]:
        if isinstance(autoencoder, (VAE, GAN, RBM)) or not hasattr(autoencoder, "reconstruct"):
            return [NegativeLogLikelihood()]
        told = getattr(autoencoder, "conditioning", None) == "noise_level"
        own: Scorer = DenoisingError() if told else ReconstructionError()
        if self.autoencoder is not None:
            return [own]
        if self.novelty:
            return [own, NeighborDistance(), NeighborDistance(columns="rank")]
        return [own, RobustDistance(1.0)]

    def _parts(self, n_rows: int, n_autoencoders: int, random_state):
        """Training and held-out rows of each member."""
        n_members = self.n_estimators
        if n_members == "auto":
            n_members = N_MEMBERS if n_rows < FEW_ROWS else 1
        n_members = max(n_members, n_autoencoders)
        everything = np.arange(n_rows)
        if n_rows < TOO_FEW_ROWS:
            return [(everything, everything)] * n_members
        order = random_state.permutation(n_rows)
        if n_members == 1:
            n_held_out = min(int(np.ceil(HELD_OUT_SHARE * n_rows)), MAX_HELD_OUT)
            parts = [order[:n_held_out]]
        else:
            parts = np.array_split(order, n_members)
        return [(np.setdiff1d(everything, part), np.sort(part)) for part in parts]

    def _set_threshold(self, X) -> None:
        if self.contamination == "auto":
            self.contamination_ = share_of_anomalies(np.concatenate([member.departures for member in self.members_]))
            scores = -np.concatenate([member.calibration for member in self.members_])
            n_flagged = round(self.contamination_ * len(scores))
            lowest = np.sort(scores)
            self.offset_ = float(lowest[n_flagged]) if n_flagged < len(lowest) else float(lowest[-1])
        else:
            self.contamination_ = float(self.contamination)
            self.offset_ = float(np.percentile(self._score(X), 100.0 * self.contamination))

    # Using -----------------------------------------------------------------------------------

    def _score(self, X) -> np.ndarray:
        return -np.mean([member(X) for member in self.members_], axis=0)

    def score_samples(self, X):
        check_is_fitted(self)
        return self._score(self._validate(X, reset=False))

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X):
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        scores = np.stack([member(X) for member in self.members_], axis=1)
        return conformal_p_values([member.calibration for member in self.members_], scores)

    def detect(self, X, *, fdr=0.05):
        return np.where(benjamini_hochberg(self.p_values(X), fdr), -1, 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags
