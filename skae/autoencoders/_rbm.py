"""RBM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from torch.nn.functional import logsigmoid, softplus

from skae.autoencoders._base import BaseAutoencoder
from skae.base.parameters import at_least, checked_arguments
from skae.model.boltzmann import BoltzmannNetwork, BoltzmannUnits
from skae.model.likelihoods import Bernoulli, Gaussian
from skae.tables._containers import plain_rows
from skae.training.optimizers import AdamW

# Pseudo-likelihood of held-out binary rows with 256 units, decay 0 / 0.3 / 1 / 3: 400 of spam -25.0 / -18.7 / -17.1 /
# -16.7, 1500 of spam -18.9 / -15.7 / -15.5 / -15.9, 400 digits -20.2 / -15.4 / -14.6 / -16.3.
WEIGHT_DECAY = 1.0


class RBM(BaseAutoencoder):
    r"""Restricted Boltzmann machine, trained by contrastive divergence.

    .. math:: p(v, h) \propto \exp(-E(v, h)), \quad E(v, h) = -c^T v - b^T h - h^T W (v - \mu)

    with binary hidden units h and binary visible units v, or Gaussian ones, whose energy has
    :math:`\tfrac12 \|v - c\|^2` in place of the first term. μ are the columns' means. The code of a
    row is E[h | v].

    Parameters
    ----------
    n_components : int, default=256
        Number of hidden units.
    visible : {"binary", "gaussian"}, default="binary"
        "binary" takes values between `bounds` as probabilities of a one; "gaussian" takes real
        values, with unit variance given the hidden units: standardise the columns before.
    hidden : {"binary", "gaussian"}, default="binary"
        "gaussian" makes linear codes, as in the last layer of [4]_.
    bounds : pair of float or "auto", default="auto"
        What counts as zero and one of "binary" visible units; "auto" is (0, 1), or each column's
        smallest and largest value where X exceeds that.
    n_gibbs : int, default=1
        k, the steps of Gibbs sampling at each batch: CD-k [1]_.
    persistent : bool, default=False
        Whether 128 chains go on from batch to batch [2]_ instead of starting at the rows. The model
        is better and the training slower and noisier.
    {max_iter ... batch_size}
    learning_rate : float or "auto", default="auto"
        First learning rate; "auto" is three times the optimizer's own, for "adamw" 0.15 over the root
        of `n_components`, between 0.003 and 0.03: contrastive divergence bears larger steps than an
        autoencoder does.
    optimizer : {"adamw", "sgd"} or Optimizer, default="adamw"
        How the gradient is followed; "adamw" has weight_decay=1 here, since nothing else keeps few
        rows from being learnt by heart. Contrastive divergence is not the gradient of a function,
        so that line searches do not work.
    {warm_start ... verbose}

    Attributes
    ----------
    {model_ ... n_iter_}
    loss_curve_ : list of float
        Mean difference of the free energies of the rows and of the ends of the chains in each
        epoch: not a measure of the fit; `score` is.
    validation_loss_curve_, validation_epochs_ : list
        Empty: no rows are held out.
    {loss_terms_}
    {n_features_in_ ... feature_names_in_}

    See Also
    --------
    sklearn.neural_network.BernoulliRBM : Binary units by persistent contrastive divergence.
    StackedAE : Stacks them, and trains the whole.

    References
    ----------
    .. [1] Hinton, "Training products of experts by minimizing contrastive divergence", Neural
       Computation 14, 2002.
    .. [2] Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood
       gradient", ICML 2008.
    .. [3] Melchior, Fischer and Wiskott, "How to center deep Boltzmann machines", JMLR 17, 2016.
    .. [4] Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks",
       Science 313, 2006.

    Examples
    --------
    >>> from skae import RBM
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> rbm = RBM(30, max_iter=5, random_state=0).fit(X)
    >>> rbm.transform(X).shape
    (1797, 30)
    >>> rbm.sample(3, n_gibbs=10, random_state=0).shape
    (3, 64)
    """

    _parameter_constraints = {
        "n_components": [at_least(1)],
        "visible": [StrOptions({"binary", "gaussian"})],
        "hidden": [StrOptions({"binary", "gaussian"})],
        "bounds": Bernoulli._parameter_constraints["bounds"],
        "n_gibbs": [at_least(1)],
        "persistent": ["boolean"],
    }

    visible: str
    hidden: str
    bounds: Any
    n_gibbs: int
    persistent: bool

    def __init__(
        self,
        n_components: int = 256,
        *,
        visible: str = "binary",
        hidden: str = "binary",
        bounds: Any = "auto",
        n_gibbs: int = 1,
        persistent: bool = False,
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        optimizer: Any = "adamw",
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self._set_parameters(locals())

    _learning_rate_factor = 3.0

    @property
    def _scores_by_likelihood(self) -> bool:
        """Whether the free energy says more than the reconstruction: of numbers brought between bounds it does not."""
        return self.visible == "gaussian" or not isinstance(self.bounds, str)

    def _network_part(self):
        return BoltzmannNetwork(self.n_components)

    def _likelihood_part(self):
        return Bernoulli(bounds=self.bounds) if self.visible == "binary" else Gaussian()

    def _posterior(self):
        return BoltzmannUnits(self.hidden, n_gibbs=self.n_gibbs, persistent=self.persistent)

    def _optimizer_part(self):
        if getattr(self.optimizer, "full_batch", self.optimizer == "lbfgs"):
            raise ValueError(
                f"optimizer={self.optimizer!r} searches along lines, but contrastive divergence is not the gradient "
                "of a function: use 'adamw' or 'sgd'."
            )
        return AdamW(weight_decay=WEIGHT_DECAY) if self.optimizer == "adamw" else self.optimizer

    def score_samples(self, X) -> np.ndarray:
        """Minus the free energy of each row, log Σₕ exp(−E(v, h)); higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; entries that are NaN are taken as the model expects them.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            The log-density up to a constant, which is another one for each fitted model.
        """
        return self._scores(X, lambda model, step: -model.posterior.energy_of_rows(step))

    def pseudo_log_likelihood(self, X) -> np.ndarray:
        """Logarithm of the pseudo-likelihood of each row, Σᵢ log p(vᵢ | all other vⱼ).

        Unlike `score_samples`, it can be compared between models.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; values between the bounds count as probabilities.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In nats. Exact: every unit is flipped.

        Raises
        ------
        ValueError
            If the visible units are not binary.

        References
        ----------
        Besag, "Statistical analysis of non-lattice data", The Statistician 24, 1975.
        """
        if self.visible != "binary":
            raise ValueError("The pseudo-likelihood is that of binary units; visible='gaussian' has score_samples.")

        def of(model, step):
            units = model.posterior
            v, encoded = units.filled(step)
            slope, bias = model.decoder.slope, model.decoder.bias
            weight = model.encoder.weight * slope
            total = torch.zeros_like(v[:, 0])
            for i in range(model.n_features):
                # The input of the hidden units where this one is zero, and what a one adds.
                off = encoded - v[:, i : i + 1] * weight[:, i]
                on = off + weight[:, i]
                if units.hidden == "binary":
                    logit = bias[i] + (softplus(on) - softplus(off)).sum(1)
                else:
                    logit = bias[i] + 0.5 * (on.square() - off.square()).sum(1)
                total += v[:, i] * logsigmoid(logit) + (1 - v[:, i]) * logsigmoid(-logit)
            return total

        check_is_fitted(self)
        # As many rows at a time as their hidden units allow.
        return self._scores(X, of, -(-self.n_components_ // self.n_features_in_))

    def score(self, X, y=None, sample_weight=None) -> float:
        """Mean pseudo-log-likelihood; of Gaussian visible units, mean log-likelihood given the codes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        float
        """
        scores = self.pseudo_log_likelihood(X) if self.visible == "binary" else super().score_samples(X)
        weight = None if sample_weight is None else _check_sample_weight(plain_rows(sample_weight), scores)
        return float(np.average(scores, weights=weight))

    @checked_arguments(
        n_samples=[at_least(1)], n_gibbs=[at_least(1)], random_state=["random_state"], return_mean=["boolean"]
    )
    def sample(self, n_samples=1, *, n_gibbs=1000, X=None, random_state=None, return_mean=True) -> Any:
        """Draw rows by Gibbs sampling.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, each the end of a chain of its own.
        n_gibbs : int, default=1000
            Steps of each chain.
        X : array-like of shape (n_samples, n_features), default=None
            Where the chains start; None starts each unit by its own bias.
        random_state : int, RandomState instance or None, default=None
            Seed.
        return_mean : bool, default=True
            Whether to return the expected rows given the last hidden units. Otherwise the visible units
            are drawn: zeros and ones between the bounds, or normal numbers.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows in the units of the training data.
        """
        start = None if X is None else np.asarray(self._validate(X, reset=False), dtype=np.float32)
        if start is not None and len(start) != n_samples:
            raise ValueError(f"X has {len(start)} rows for n_samples={n_samples}: there is one chain a row.")

        def draw(model, generator):
            if start is None:
                visible = model.likelihood.mean(model.decoder.bias).expand(n_samples, -1)
            else:
                visible = model.scaling.target(torch.from_numpy(start).to(model.reference))
            return model.posterior.gibbs(model, visible, n_gibbs, generator, last="mean" if return_mean else "draw")

        return self._drawn(draw, n_samples, random_state)
