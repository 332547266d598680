"""ContractiveAE."""

from __future__ import annotations

from numbers import Real

from sklearn.utils._param_validation import Interval, StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.model.contraction import ESTIMATORS, Contraction
from skae.model.posteriors import Point


class ContractiveAE(BaseAutoencoder):
    r"""Contractive autoencoder: a code that hardly moves when a row does.

    .. math:: \min \frac1n \sum_i -\log p(x_i \mid z_i) + \lambda \Big\|\frac{\partial f}{\partial x}(x_i)\Big\|_F^2,
        \quad z_i = f(x_i)

    What is left of the Jacobian are the directions that the data take, so that the code ignores the
    others [1]_. The code is logistic, as in the paper: bounded, where a linear one could become
    insensitive by being small alone.

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
        "random" has a logistic code and no linear path. "pca" has a linear code that starts as
        PCA's: its Jacobian is of full size at first and shrinks with the code, so that a contraction
        by the same factor takes longer and leaves more of it sensitive.
    n_init : int, default=1
        Restarts from other first weights; the one with the lowest held-out loss is kept (with the
        lowest loss where folds or nothing is held out). They train side by side; `partial_fit` has
        none.
    contraction : float, default=0.1
        λ, in units of a row's variance: neither the data's units nor the number of columns change
        what it does. With 0.1 the Jacobian is more than ten times below the plain autoencoder's.
    estimator : {"hutchinson", "exact", "finite_difference"}, default="hutchinson"
        How the norm is computed. "hutchinson" is unbiased and costs one more backward pass;
        "exact" is not random, which L-BFGS needs, and costs one a component (no hidden layer has
        the closed form of [1]_); "finite_difference" costs a second forward pass.
    second_order : float, default=0.0
        γ: weight, beside λ, of ‖J(x) − J(x + ε)‖²_F, which lets the Jacobian change slowly [2]_.
    noise_scale : float, default=0.1
        Standard deviation of ε, and of the finite difference, in units of the standardised rows.
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

    See Also
    --------
    DenoisingAE : Insensitive to corruption, over larger distances.

    References
    ----------
    .. [1] Rifai, Vincent, Muller, Glorot and Bengio, "Contractive auto-encoders: explicit
       invariance during feature extraction", ICML 2011, equation 7.
    .. [2] Rifai, Mesnil, Vincent, Muller, Bengio, Dauphin and Glorot, "Higher order contractive
       auto-encoder", ECML 2011.

    Examples
    --------
    >>> from skae import ContractiveAE
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> cae = ContractiveAE(10, max_iter=5, random_state=0).fit(X)
    >>> cae.transform(X).shape
    (1797, 10)
    """

    _parameter_constraints = BaseAutoencoder._parameter_constraints | {
        "contraction": [Interval(Real, 0, None, closed="left")],
        "estimator": [StrOptions(set(ESTIMATORS))],
        "second_order": [Interval(Real, 0, None, closed="left")],
        "noise_scale": [Interval(Real, 0, None, closed="neither")],
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
        contraction=0.1,
        estimator="hutchinson",
        second_order=0.0,
        noise_scale=0.1,
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
        self.contraction = contraction
        self.estimator = estimator
        self.second_order = second_order
        self.noise_scale = noise_scale
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
        return Point("identity" if self.init == "pca" else "logistic")

    def _penalty_parts(self):
        return [
            Contraction(
                self.contraction,
                estimator=self.estimator,
                second_order=self.second_order,
                noise_scale=self.noise_scale,
            )
        ]
