"""SparseAE."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.model.posteriors import Point, TopK
from skae.model.sparsity import NORMS, TARGETED, ActivationPenalty

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
    n_components : int, float or "auto", default="auto"
        Size of the code; a share of the variance that PCA needs, in (0, 1); or the number of
        components with more than the mean variance. It may be above the number of features.
    hidden_layer_sizes : tuple of int or "auto", default="auto"
        Hidden units of the encoder, from the input on; the decoder has them in reverse order. ()
        makes both linear: PCA. "auto" takes two layers, the first about twice as wide as X.
    activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", "elu", "auto"}, default="auto"
        Activation of the hidden units; "auto" is "gelu".
    network : Network part or None, default=None
        Builds encoder and decoder in place of the two parameters above: `DenseNetwork` with tied
        weights or dropout, or your own part with `encoder(n_in, n_out)` and
        `decoder(n_in, n_out, encoder)`.
    likelihood : {"gaussian", "bernoulli", "student_t", "poisson"} or Likelihood, default="gaussian"
        What a row is scored by: "gaussian" is squared error, "bernoulli" binary cross-entropy for
        values between 0 and 1, "student_t" squared error that bears wild entries, "poisson" counts.
    init : {"pca", "random"}, default="random"
        "random" has no linear path: PCA's code is neither sparse nor between 0 and 1. "pca" starts
        as PCA's, with linear units: "l1" and "l2" go on from there, and so do "top_k" and
        "batch_top_k" while k falls from all units. Logistic units cannot start there.
    n_init : int, default=1
        Restarts from other first weights; the one with the lowest held-out loss is kept (with the
        lowest loss where folds or nothing is held out). They train side by side; `partial_fit` has
        none.
    penalty : {"top_k", "batch_top_k", "l1", "l2", "kl", "absolute", "squared"}, default="top_k"
        "top_k" keeps the k largest units of each row, "batch_top_k" the n·k largest of a batch of n
        rows while training [3]_; their units are linear. "l1", Σ|hⱼ|, has rectified units, with
        exact zeros, and "l2", Σhⱼ², linear ones. "kl", Σ KL(ρ‖ρ̂ⱼ) [1]_, "absolute", Σ|ρ − ρ̂ⱼ|,
        and "squared", Σ(ρ − ρ̂ⱼ)², have logistic units whose mean activation ρ̂ over the batch is
        brought to ρ.
    weight : float, default=0.01
        λ, in units of a row's variance: neither the data's units nor the number of columns change
        what it does. Not used by "top_k" and "batch_top_k". A linear or rectified code can lower
        its norm by being small and a decoder with large weights; `DenseNetwork(tied=True)` cannot.
    target_activation : float, default=0.05
        ρ, in (0, 1), of "kl", "absolute" and "squared".
    k : int or "auto", default="auto"
        Units that "top_k" keeps; "auto" is a tenth of them, at least one.
    alpha : float, default=1.0
        `transform` keeps round(α·k) units of each row; above 1 is often better for classifiers [2]_.
    annealing : float, default=0.5
        Share of the training over which k falls from all units, so that no unit is left without a
        gradient from the start [2]_.
    layers : {"code", "all"} or sequence of float, default="code"
        What a penalty reads: the code, or also the encoder's hidden layers; numbers are weights of
        the hidden layers, from the input on, and of the code.
    max_iter : int or "auto", default="auto"
        Epochs; "auto" is a budget in steps, so that few rows train long enough and many not too long.
    batch_size : int or "auto", default="auto"
        Rows of a batch.
    learning_rate : float or "auto", default="auto"
        First learning rate; "auto" is the optimizer's own: for "adamw", 0.05 over the root of the
        widest hidden layer's units, between 0.001 and 0.01.
    optimizer : {"adamw", "sgd", "lbfgs"} or Optimizer, default="adamw"
        How the loss is minimised.
    early_stopping : bool or EarlyStopping, default=True
        Whether held-out rows decide when to stop.
    warm_start : bool, default=False
        Whether `fit` goes on from the last fit.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1", "mps"; "auto" takes a CUDA device where there is one and the
        network is large enough to be faster there.
    random_state : int, RandomState instance or None, default=None
        Seed of all that is random; an int makes refits identical.
    verbose : bool or int, default=False
        Whether to print the loss of each epoch.

    Attributes
    ----------
    model_ : Autoencoder
        The trained torch module.
    n_components_ : int
        Size of the code.
    n_iter_ : int
        Epochs run.
    loss_curve_ : list of float
        Mean loss of each epoch; of the start, where it was kept.
    validation_loss_curve_, validation_epochs_ : list
        Mean loss of the held-out rows, and after how many epochs, beginning with the start.
    loss_terms_ : dict of list of float
        The loss by term.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Share of the variance of PCA's components, where the fit started.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has string column names.
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

    _parameter_constraints = BaseAutoencoder._parameter_constraints | {
        "penalty": [StrOptions({*TOP_K, *NORMS, *TARGETED})],
        "weight": [Interval(Real, 0, None, closed="left")],
        "target_activation": [Interval(Real, 0, 1, closed="neither")],
        "k": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "annealing": [Interval(Real, 0, 1, closed="both")],
        "layers": [StrOptions({"code", "all"}), "array-like"],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        hidden_layer_sizes="auto",
        activation="auto",
        network=None,
        likelihood="gaussian",
        init="random",
        n_init=1,
        penalty="top_k",
        weight=0.01,
        target_activation=0.05,
        k="auto",
        alpha=1.0,
        annealing=0.5,
        layers="code",
        max_iter="auto",
        batch_size="auto",
        learning_rate="auto",
        optimizer="adamw",
        early_stopping=True,
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=False,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.network = network
        self.likelihood = likelihood
        self.init = init
        self.n_init = n_init
        self.penalty = penalty
        self.weight = weight
        self.target_activation = target_activation
        self.k = k
        self.alpha = alpha
        self.annealing = annealing
        self.layers = layers
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _posterior(self):
        if self.init == "pca" and self.penalty in TARGETED:
            raise ValueError(f"penalty={self.penalty!r} has logistic units, not PCA's: use init='random'.")
        if self.penalty in TOP_K:
            return TopK(self.k, alpha=self.alpha, batch=self.penalty == "batch_top_k", annealing=self.annealing)
        if self.penalty in TARGETED:
            return Point("logistic", start=self.target_activation)
        return Point("relu" if self.penalty == "l1" and self.init == "random" else "identity")

    def _penalty_parts(self):
        if self.penalty in TOP_K:
            return []
        return [ActivationPenalty(self.penalty, self.weight, target=self.target_activation, layers=self.layers)]

    def _after_fit(self, raw):
        largest = torch.zeros(self.n_components_)
        for _, step in self._steps(raw, self.model_):
            largest = torch.maximum(largest, step.code.abs().amax(0).cpu())
        return {"dead_units_": int((largest <= (IDLE if self.penalty in TARGETED else 0.0)).sum())}
