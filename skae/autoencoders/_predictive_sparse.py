"""PredictiveSparseDecomposition."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import StrOptions

from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._estimator import CHUNK_ELEMENTS
from skae.base.parameters import at_least, checked_arguments, not_negative
from skae.model.predictive_sparse import PredictiveSparse, SparseCodingNetwork
from skae.training.optimizers import SGD, AdamW

# The codes of so few rows, layer by layer, stay in the processor's cache.
ROWS_AT_ONCE = 512


class PredictiveSparseDecomposition(BaseAutoencoder):
    r"""Sparse coding with an encoder that predicts the code: a dictionary's sparse codes at the cost of a product.

    A row x, with the columns' means taken off, is a sum of few atoms of a dictionary D, h D. Its
    code is the solution of a lasso, and an encoder f learns to predict it [1]_:

    .. math:: \min_{D, f} \sum_i \tfrac12 \|x_i - h_i D\|^2 + \lambda \|h_i\|_1
        + \tfrac\gamma2 \|h_i - f(x_i)\|^2,
        \quad h_i = \arg\min_h \tfrac12 \|x_i - h D\|^2 + \lambda \|h\|_1

    For each batch, h is found by a few steps of FISTA from f(x) on, and D and f follow the gradient
    with h fixed. Atoms have unit length. `transform` is f, a few
    thresholded matrix products [2]_; `sparse_encode` solves the lasso.

    Parameters
    ----------
    n_components : int, float or "auto", default="auto"
        Number of atoms: "auto" is the number of features. Dictionaries are often larger than that.
        A share in (0, 1) is the number of components that PCA needs for that share of the variance.
    sparsity : float, default=0.1
        λ in units of a row's length, √(Σ variances of the columns): neither the data's units nor
        the number of columns change what it does. Above 1 nearly all codes are zero. `alpha_` is λ
        in the data's units.
    prediction_weight : float, default=1.0
        γ: what held-out rows are judged by. The steps of "adamw" do not depend on it.
    n_layers : int, default=3
        Steps of the encoder after the first thresholding: 0 is the fastest, more are nearer to the
        lasso's solution.
    n_solver_steps : int, default=10
        Steps of FISTA at each batch.
    {n_init}
    {max_iter ... batch_size}
    learning_rate : float or "auto", default="auto"
        First learning rate of the encoder, ten times of which is the dictionary's; "auto" is 0.001
        for "adamw".
    optimizer : {"adamw", "sgd"}, AdamW or SGD, default="adamw"
        How dictionary and encoder follow the gradient. The solver depends on the encoder, so that
        "lbfgs" has no function to search.
    {early_stopping ... verbose}

    Attributes
    ----------
    {model_}
    n_components_ : int
        Number of atoms.
    components_ : ndarray of shape (n_components_, n_features_in_)
        The atoms, D.
    mean_ : ndarray of shape (n_features_in_,)
        The columns' means, which are no part of what the atoms sum up to.
    alpha_ : float
        λ in the data's units, as `sklearn.decomposition.sparse_encode` takes it.
    {n_iter_ ... loss_terms_}
    {n_features_in_ ... feature_names_in_}

    See Also
    --------
    SparseAE : Sparse codes by an encoder alone.
    sklearn.decomposition.MiniBatchDictionaryLearning : The same dictionary, without an encoder.

    References
    ----------
    .. [1] Kavukcuoglu, Ranzato and LeCun, "Fast inference in sparse coding algorithms with
       applications to object recognition", 2008, equation 4.
    .. [2] Gregor and LeCun, "Learning fast approximations of sparse coding", ICML 2010, section 3.

    Examples
    --------
    >>> from skae import PredictiveSparseDecomposition
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> psd = PredictiveSparseDecomposition(100, max_iter=5, random_state=0).fit(X)
    >>> psd.transform(X).shape, psd.components_.shape
    ((1797, 100), (100, 64))
    >>> h = psd.sparse_encode(X)
    >>> bool((h != 0).mean() < 0.25)
    True
    """

    _parameter_constraints = {
        "sparsity": [not_negative()],
        "prediction_weight": [not_negative()],
        "n_layers": [at_least(0)],
        "n_solver_steps": [at_least(1)],
        "optimizer": [StrOptions({"adamw", "sgd"}), AdamW, SGD],
    }

    sparsity: float
    prediction_weight: float
    n_layers: int
    n_solver_steps: int

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        sparsity: float = 0.1,
        prediction_weight: float = 1.0,
        n_layers: int = 3,
        n_solver_steps: int = 10,
        n_init: int = 1,
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

    def _asked_components(self):
        return self.n_features_in_ if self.n_components == "auto" else self.n_components

    def _network_part(self):
        return SparseCodingNetwork(self.n_layers)

    def _likelihood_part(self):
        return "gaussian"

    def _posterior(self):
        return PredictiveSparse(self.sparsity, prediction=self.prediction_weight, n_solver_steps=self.n_solver_steps)

    def _after_fit(self, raw):
        model = self.model_.in_float64()
        return {
            "components_": model.decoder.atoms().detach().cpu().numpy(),
            "mean_": model.scaling.columns.mean.numpy().copy(),
            "alpha_": model.posterior.penalty(model) * model.code_unit,
        }

    def transform(self, X) -> Any:
        """Predict the sparse codes of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as not observed, which the encoder takes at the column's mean.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Codes, in the units and the dtype of X (float64 for integers).
        """
        return self._map_rows(X, lambda model, step: step.code * model.code_unit, self._code_width, self._n_copies())

    def _n_copies(self) -> int:
        """What lets a chunk have `ROWS_AT_ONCE` rows."""
        return max(1, CHUNK_ELEMENTS // (ROWS_AT_ONCE * getattr(self, "n_features_in_", 1)))

    @checked_arguments(max_iter=[at_least(1)], tol=[not_negative()])
    def sparse_encode(self, X, *, max_iter=1000, tol=1e-5) -> Any:
        """Codes that minimise the lasso, found by FISTA from the encoder's on.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as not observed, and its error does not count.
        max_iter : int, default=1000
            Steps at most.
        tol : float, default=1e-5
            Steps of a row end when no entry of its code moves by more than this times the largest one.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Codes, in the dtype of X (float64 for integers).

        Raises
        ------
        ValueError
            If `max_iter` is below one or `tol` below zero.
        """

        def solve(model, step):
            return model.posterior.solve(step, max_iter, step.code, tol) * model.code_unit

        return self._map_rows(X, solve, self._code_width, self._n_copies())
