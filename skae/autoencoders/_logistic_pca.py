"""LogisticPCA."""

from __future__ import annotations

from sklearn.utils._param_validation import StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.model.likelihoods import Bernoulli
from skae.model.networks import DenseNetwork


class LogisticPCA(BaseAutoencoder):
    r"""Principal component analysis of values between 0 and 1, by cross-entropy.

    Encoder and decoder are linear, the output is logistic:

    .. math:: z = W x + b, \quad r = \sigma(V z + c), \quad
        \min -\sum_{ij} x_{ij} \log r_{ij} + (1 - x_{ij}) \log (1 - r_{ij})

    Parameters
    ----------
    n_components : int, float or "auto", default="auto"
        Size of the code; a share of the variance that PCA needs, in (0, 1); or the number of
        components with more than the mean variance.
    bounds : pair of float or "auto", default="auto"
        The values that count as zero and one. "auto" takes (0, 1) for data within it, and each
        column's smallest and largest training value otherwise; later values beyond are clipped. A
        pair raises an error for values beyond it.
    init : {"pca", "random"}, default="pca"
        Start at PCA, with the logistic function's tangent, or at random weights.
    n_init : int, default=1
        Restarts from other first weights; the one with the lowest held-out loss is kept (with the
        lowest loss where folds or nothing is held out). They train side by side; `partial_fit` has
        none.
    max_iter : int or "auto", default="auto"
        Epochs; "auto" is a budget in steps, so that few rows train long enough and many not too long.
    batch_size : int or "auto", default="auto"
        Rows of a batch.
    learning_rate : float or "auto", default=0.01
        First learning rate, larger than a deep network could bear; "auto" is the optimizer's own.
    optimizer : {"adamw", "sgd", "lbfgs"} or Optimizer, default="adamw"
        How the loss is minimised. "lbfgs" sees all rows at each step: exact, and slow on many rows.
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
    sklearn.decomposition.PCA : For real values, by squared error.

    References
    ----------
    Schein, Saul and Ungar, "A generalized linear model for principal component analysis of binary
    data", AISTATS 2003.

    Examples
    --------
    >>> from skae import LogisticPCA
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> lpca = LogisticPCA(5, bounds=(0, 16), max_iter=10, random_state=0).fit(X)
    >>> lpca.transform(X).shape
    (1797, 5)
    >>> bool(lpca.reconstruct(X).max() <= 16)
    True
    """

    _parameter_constraints = {
        name: BaseAutoencoder._parameter_constraints[name]
        for name in BaseAutoencoder._parameter_constraints
        if name not in ("hidden_layer_sizes", "activation", "network", "likelihood")
    } | {"bounds": [StrOptions({"auto"}), "array-like"]}

    def __init__(
        self,
        n_components="auto",
        *,
        bounds="auto",
        init="pca",
        n_init=1,
        max_iter="auto",
        batch_size="auto",
        learning_rate=0.01,
        optimizer="adamw",
        early_stopping=True,
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=False,
    ):
        self.n_components = n_components
        self.bounds = bounds
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _network_part(self):
        return DenseNetwork(())

    def _likelihood_part(self):
        return Bernoulli(self.bounds)
