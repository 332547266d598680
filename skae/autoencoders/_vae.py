"""VAE."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._estimator import CHUNK_ELEMENTS
from skae.model.posteriors import DiagonalGaussian
from skae.training.device import new_generator


class VAE(BaseAutoencoder):
    r"""Variational autoencoder: a distribution over codes, and one over rows.

    .. math:: \max E_{q(z \mid x)} [\log p(x \mid z)] - \beta\, KL(q(z \mid x) \,\|\, N(0, I)),
        \quad q(z \mid x) = N(\mu(x), \mathrm{diag}\, \sigma^2(x))

    With several importance samples, the tighter bound
    :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k \mid x)` [2]_.

    Parameters
    ----------
    {n_components ... n_init}
    beta : float, default=1.0
        Weight of the KL term; above 1, components are kept apart and unused ones dropped [3]_.
    kl_warm_up : float, default=0.0
        Share of the training over which the weight rises from 0 to `beta`, against collapse.
    free_bits : float, default=0.0
        Nats of each component's KL that cost nothing, against collapse.
    n_importance_samples : int, default=1
        Samples K of the code while training.
    prior : {"normal", "uniform", "mixture", "swiss_roll", "vamp"}, Prior or callable, default="normal"
        p(z). "vamp" learns a mixture of posteriors of pseudo-inputs [4]_, which fits the codes
        better and helps against collapse. A prior needs a density here: "uniform", "swiss_roll" and
        functions have none.
    penalties : list of Penalty, default=()
        Penalties beside the bound: `TotalCorrelation` [5]_, `MaximumMeanDiscrepancy`, or your own.
    {max_iter ... verbose}

    Attributes
    ----------
    {model_ ... table_encoder_}
    kl_by_component_ : ndarray of shape (n_components_,)
        Mean KL of each component over the training rows, in nats: a collapsed one has none. With
        another prior than "normal", the KL to the normal distribution of the codes' own mean and
        variance.
    active_units_ : int
        Components whose posterior mean varies by more than 0.01 over the training rows [2]_.

    See Also
    --------
    sklearn.decomposition.FactorAnalysis : The linear case with a noise variance a column.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014, equation 10.
    .. [2] Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    .. [3] Higgins et al., "beta-VAE: learning basic visual concepts with a constrained
       variational framework", ICLR 2017.
    .. [4] Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018.
    .. [5] Chen et al., "Isolating sources of disentanglement in variational autoencoders", NeurIPS
       2018.

    Examples
    --------
    >>> from skae import VAE
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAE(5, max_iter=5, random_state=0).fit(X)
    >>> vae.sample(3, random_state=0).shape
    (3, 64)
    >>> mean, scale = vae.posterior(X)
    >>> mean.shape, scale.shape
    ((1797, 5), (1797, 5))
    """

    _parameter_constraints = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warm_up": [Interval(Real, 0, 1, closed="both")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
        "penalties": ["array-like"],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        hidden_layer_sizes="auto",
        activation="auto",
        network=None,
        likelihood="gaussian",
        init="pca",
        n_init=1,
        beta=1.0,
        kl_warm_up=0.0,
        free_bits=0.0,
        n_importance_samples=1,
        prior="normal",
        penalties=(),
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
        self._set_parameters(locals())

    def _posterior(self):
        return DiagonalGaussian(
            self.beta,
            kl_warm_up=self.kl_warm_up,
            free_bits=self.free_bits,
            n_importance_samples=self.n_importance_samples,
            prior=self.prior,
        )

    def posterior(self, X):
        """Mean and standard deviation of q(z | x).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        mean, scale : ndarray of shape (n_samples, n_components_)
        """

        def both(model, step):
            scale = torch.exp(0.5 * model.posterior.log_variance(step.encoded))
            return torch.cat([step.code, scale], dim=1)

        made = self._map_rows(X, both, lambda: 2 * self.n_components_)
        return made[:, : self.n_components_], made[:, self.n_components_ :]

    def score_samples(self, X, *, n_samples=64, random_state=0):
        """Importance-weighted bound of the log-density of each row; higher is more normal.

        log 1/K Σ p(x, zₖ)/q(zₖ | x) rises with K towards log p(x), equation 8 of [2]_. All rows
        share the same K draws of the noise, so that a row's score does not depend on the others.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; entries that are NaN do not count.
        n_samples : int, default=64
            K.
        random_state : int, RandomState instance or None, default=0
            Seed of the noise.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            In nats.
        """
        check_is_fitted(self)
        generator = new_generator(torch.device("cpu"), check_random_state(random_state))
        noise = torch.randn(n_samples, 1, self.n_components_, generator=generator, dtype=torch.float64)

        def bound(model, step):
            posterior, encoded = model.posterior, step.encoded
            scale = torch.exp(0.5 * posterior.log_variance(encoded))
            draws_at_once, logs = max(1, CHUNK_ELEMENTS // max(1, encoded.shape[0] * model.n_features)), []
            for draws in noise.to(encoded).split(draws_at_once):
                sample = step.code + scale * draws
                log_joint = step.log_likelihood_of(step.decode(sample))
                logs.append(log_joint + posterior.log_ratio(encoded, sample, model))
            return torch.logsumexp(torch.cat(logs), dim=0) - math.log(n_samples)

        # A few rows at a time, so that their draws share a chunk.
        return self._scores(X, bound, min(n_samples, 16))

    def sample(self, n_samples=1, *, random_state=None, return_mean=False):
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed.
        return_mean : bool, default=False
            Whether to return each row's expectation given its code, without the likelihood's noise.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Rows in the units of the training data; with likelihood="mixed" a table like that of fit.
        """

        def draw(model, generator):
            eta = model.decoder(model.prior.sample(n_samples, model, generator))
            return model.likelihood.mean(eta) if return_mean else model.likelihood.sample(eta, model.extras, generator)

        return self._drawn(draw, random_state)

    def _after_fit(self, raw):
        sums, total = torch.zeros(4, self.n_components_, dtype=torch.float64), 0.0
        posterior = self.model_.posterior
        for start, step in self._steps(raw, self.model_):
            kl, code, variance = posterior.kl_divergence(step.encoded), step.code, posterior.log_variance(step.encoded)
            weight = raw.take_weight(slice(start, start + len(code)))
            weight = torch.ones(len(code)).double() if weight is None else weight
            sums += weight @ torch.stack([kl, code, code.square(), variance.exp()]).double().cpu()
            total += float(weight.sum())
        kl, mean, square, variance = sums / total
        spread = square - mean.square()
        if not posterior.has_normal_prior:
            log_variance = square + variance - 1 - 2 * kl
            kl = 0.5 * (torch.log(variance + spread) - log_variance)
        return {"kl_by_component_": kl.numpy(), "active_units_": int((spread > 0.01).sum())}
