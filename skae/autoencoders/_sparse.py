"""SparseAE."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.utils._param_validation import StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.base.parameters import at_least, not_negative, positive, share
from skae.model.posteriors import Point
from skae.model.sparsity import NORMS, TARGETED, ActivationPenalty
from skae.model.top_k import TopK
from skae.training.optimizers import as_optimizer

TOP_K = ("top_k", "batch_top_k")
# The largest activation of a unit that never was active: logistic units are never quite at zero.
IDLE = 0.01


class SparseAE(BaseAutoencoder):
    r"""Sparse autoencoder: each row is rebuilt from few active units.

    .. math:: \min \frac1n \sum_i -\log p(x_i \mid h_i) + \lambda\, \Omega(h),
        \quad \Omega = \sum_j |h_j|,\ \sum_j h_j^2,\ \sum_j KL(\rho \,\|\, \hat\rho_j), \dots

    or, without a penalty, with the k largest units of each row and zero elsewhere [2]_, which needs
    no λ and cannot be met by a small code. There may be more units than features.

    Parameters
    ----------
    {n_components ... likelihood}
    init : {"pca", "random"}, default="random"
        "random" has no linear path: PCA's code is neither sparse nor between 0 and 1. "pca" starts
        as PCA's, with linear units: "l1" and "l2" go on from there, and so do "top_k" and
        "batch_top_k" while k falls from all units. Logistic units cannot start there.
    {n_init}
    penalty : str or ActivationPenalty, default="top_k"
        "top_k" keeps the k largest units of each row, "batch_top_k" the n·k largest of a batch of n
        rows while training [3]_; their units are linear. "l1", Σ|hⱼ|, has rectified units, with
        exact zeros, and "l2", Σhⱼ², linear ones. "kl", Σ KL(ρ‖ρ̂ⱼ) [1]_, "absolute", Σ|ρ − ρ̂ⱼ|,
        and "squared", Σ(ρ − ρ̂ⱼ)², have logistic units whose mean activation ρ̂ over the batch is
        brought to ρ. An `ActivationPenalty` has more options, such as one ρ a layer, and what a row's
        mean over the units is brought to; `weight`, `target_activation` and `layers` are then its own.
    weight : float, default=0.01
        λ, in units of a row's variance: neither the data's units nor the number of columns change
        what it does. Not used by "top_k" and "batch_top_k". A linear or rectified code can lower
        its norm by being small and a decoder with large weights; `DenseNetwork(tied=True)` cannot.
    target_activation : float, default=0.05
        ρ, in (0, 1), of "kl", "absolute" and "squared".
    k : int or "auto", default="auto"
        Units that "top_k" keeps; "auto" is a tenth of them, at least one.
    magnitude : bool, default=False
        Whether "top_k" and "batch_top_k" rank units by |hⱼ|, and so keep strongly negative ones as well.
    alpha : float, default=1.0
        `transform` keeps round(α·k) units of each row; above 1 is often better for classifiers [2]_.
    annealing : float, default=0.0
        Share of the training over which k falls from all units, so that no unit is left without a
        gradient from the start [2]_. It leaves fewer dead units, and a larger error, since less of the
        training is sparse.
    revive : int or None, default=None
        Training steps without an activation after which a unit of "top_k" or "batch_top_k" gets a new
        start, towards a row that is rebuilt badly; None leaves it. An epoch has n_samples / batch_size
        steps. It leaves hardly any dead unit; on tables of a few hundred rows, where they do no harm,
        the error on other rows may rise. It needs dense networks, and an optimizer of batches: not
        "lbfgs".
    layers : {"code", "all"} or sequence of float, default="code"
        What a penalty reads: the code, or also the encoder's hidden layers; numbers are weights of
        the hidden layers, from the input on, and of the code.
    {max_iter ... verbose}

    Attributes
    ----------
    {model_ ... table_encoder_}
    dead_units_ : int
        Units that no training row activates: exactly zero, or below 0.01 where they are logistic.

    See Also
    --------
    sklearn.decomposition.DictionaryLearning : Linear, with a code found by optimisation.

    References
    ----------
    .. [1] Ng, "Sparse autoencoder", CS294A lecture notes, Stanford 2011, section 3.
    .. [2] Makhzani and Frey, "k-sparse autoencoders", ICLR 2014.
    .. [3] Bussmann, Leask and Nanda, "BatchTopK sparse autoencoders", 2024.

    Examples
    --------
    >>> from skae import SparseAE
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = SparseAE(100, k=10, hidden_layer_sizes=(), max_iter=5, random_state=0).fit(X)
    >>> int((sae.transform(X) != 0).sum(1).max())
    10
    """

    _parameter_constraints = {
        "penalty": [StrOptions({*TOP_K, *NORMS, *TARGETED}), ActivationPenalty],
        "weight": [not_negative()],
        "target_activation": [share("neither")],
        "k": [at_least(1), StrOptions({"auto"})],
        "magnitude": ["boolean"],
        "alpha": [positive()],
        "annealing": [share()],
        "revive": [at_least(1), None],
        "layers": ActivationPenalty._parameter_constraints["layers"],
    }

    penalty: Any
    weight: float
    target_activation: float
    k: int | str
    magnitude: bool
    alpha: float
    annealing: float
    revive: int | None
    layers: Any

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        init: str = "random",
        n_init: int = 1,
        penalty: Any = "top_k",
        weight: float = 0.01,
        target_activation: float = 0.05,
        k: int | str = "auto",
        magnitude: bool = False,
        alpha: float = 1.0,
        annealing: float = 0.0,
        revive: int | None = None,
        layers: Any = "code",
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

    def _part(self):
        """The penalty as a part; None for the k largest."""
        if not isinstance(self.penalty, str):
            return self.penalty
        if self.penalty in TOP_K:
            return None
        return ActivationPenalty(self.penalty, self.weight, target=self.target_activation, layers=self.layers)

    def _posterior(self):
        part = self._part()
        if self.init == "pca" and part is not None and part.kind in TARGETED:
            raise ValueError(f"penalty={self.penalty!r} has logistic units, not PCA's: use init='random'.")
        if part is None:
            if self.revive is not None and as_optimizer(self.optimizer, near_pca=False).full_batch:
                raise ValueError("revive changes weights between batches, which L-BFGS has none of: use 'adamw'.")
            return TopK(
                self.k,
                alpha=self.alpha,
                batch=self.penalty == "batch_top_k",
                annealing=self.annealing,
                revive=self.revive,
                magnitude=self.magnitude,
            )
        if part.kind in TARGETED:
            return Point("logistic", start=part.code_target)
        return Point("relu" if part.kind == "l1" and self.init == "random" else "identity")

    def _penalty_parts(self):
        part = self._part()
        return [] if part is None else [part]

    def _after_fit(self, raw):
        largest = torch.zeros(self.n_components_)
        for _, step in self._steps(raw, self.model_):
            largest = torch.maximum(largest, step.code.abs().amax(0).cpu())
        part = self._part()
        logistic = part is not None and part.kind in TARGETED
        return {"dead_units_": int((largest <= (IDLE if logistic else 0.0)).sum())}
