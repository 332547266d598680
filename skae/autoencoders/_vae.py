"""VAE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._conditional import ConditionalMixin
from skae.autoencoders._estimator import CHUNK_ELEMENTS
from skae.base.parameters import SequenceOf, at_least, checked_arguments, not_negative, share
from skae.model.bits import EncoderNetwork
from skae.model.completion import expected_rows, resampled_rows
from skae.model.conditional import with_classes
from skae.model.marginal import log_density
from skae.model.missingness import MISSINGNESS, Missingness, NotAtRandom, as_missingness
from skae.model.penalties import Penalty
from skae.model.posteriors import DiagonalGaussian
from skae.model.settings import own_settings
from skae.tables._containers import asked_library, checked_table
from skae.tables._filling import GappyTable
from skae.training.batches import RawRows
from skae.training.device import new_generator


class VAE(ConditionalMixin, BaseAutoencoder):
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
    conditional : bool, default=False
        Whether encoder and decoder are conditioned on the class of each row, the `y` of `fit`, so that `sample`
        can draw rows of a class [8]_ [9]_. All else is asked of rows without `y`: `score_samples` is
        the density log Σ p(y) p(x | y), `complete` and `sample_completions` weigh the classes by
        p(y | x_o), `transform`, `posterior` and `reconstruct` take a row to be of its most likely
        class, and `inverse_transform` is the mean over the classes by their shares. It does not go
        with `missingness` or ``prior="vamp"``. Otherwise `y` is not used.
    missingness : {"self_masking", "self_masking_known"}, Missingness or None, default=None
        Why entries are missing. None takes it that their own values have nothing to do with it.
        "self_masking" learns how likely an entry is missing given its value [7]_, and
        "self_masking_known" knows that high values are; `SelfMasking` for low ones. The encoder
        then sees which entries are missing, and with ``hidden_layer_sizes="auto"`` the decoder is
        linear. Held-out rows tell little of values that none of them shows, so ``early_stopping=False``
        is as good and faster; a few importance samples help a little. It does not go with
        ``prior="vamp"``.
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
    classes_ : ndarray of shape (n_classes,)
        The classes, if `conditional`.
    class_prior_ : ndarray of shape (n_classes,)
        Their shares in `fit`, or in the first call of `partial_fit`, if `conditional`.

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
    .. [6] Mattei and Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data
       sets", ICML 2019.
    .. [7] Ipsen, Mattei and Frellsen, "not-MIWAE: deep generative modelling with missing not at
       random data", ICLR 2021.
    .. [8] Sohn, Lee and Yan, "Learning structured output representation using deep conditional
       generative models", NIPS 2015.
    .. [9] Kingma, Rezende, Mohamed and Welling, "Semi-supervised learning with deep generative
       models", NIPS 2014, section 2, of rows that all have a class.

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

    Rows with gaps are filled by their expectation given what is there:

    >>> import numpy as np
    >>> X[0, 20] = np.nan
    >>> filled = vae.complete(X, n_samples=100, random_state=0)
    >>> bool(np.isnan(filled).any()), filled.shape
    (False, (1797, 64))
    """

    _parameter_constraints = {
        "beta": [not_negative()],
        "kl_warm_up": [share()],
        "free_bits": [not_negative()],
        "n_importance_samples": [at_least(1)],
        "conditional": ["boolean"],
        "missingness": [StrOptions(set(MISSINGNESS)), Missingness, None],
        "penalties": [SequenceOf(Penalty)],
    }

    _scores_by_likelihood = True

    beta: float
    kl_warm_up: float
    free_bits: float
    n_importance_samples: int
    prior: Any
    conditional: bool
    missingness: Any
    penalties: Any

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        init: str = "pca",
        n_init: int = 1,
        beta: float = 1.0,
        kl_warm_up: float = 0.0,
        free_bits: float = 0.0,
        n_importance_samples: int = 1,
        prior: Any = "normal",
        conditional: bool = False,
        missingness: Any = None,
        penalties: Any = (),
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

    def _posterior(self):
        options = {
            "kl_warm_up": self.kl_warm_up,
            "free_bits": self.free_bits,
            "n_importance_samples": self.n_importance_samples,
            "prior": self.prior,
        }
        if self.missingness is None:
            return DiagonalGaussian(self.beta, **options)
        return NotAtRandom(self.beta, **options, missingness=as_missingness(self.missingness))

    def _conditioning(self):
        if self.conditional and self.missingness is not None:
            raise ValueError("conditional=True does not go with missingness: leave one of them out.")
        if self.conditional:
            return "class"
        return None if self.missingness is None else "mask"

    def _class_prior(self):
        return tuple(self.class_prior_.tolist()) if self.conditional else ()

    def _dense_network(self, hidden_layer_sizes, activation):
        if self.missingness is None or not isinstance(self.hidden_layer_sizes, str):
            return super()._dense_network(hidden_layer_sizes, activation)
        return EncoderNetwork(hidden_layer_sizes, activation)

    def _start_model(self, model, raw, fitting):
        super()._start_model(model, raw, fitting)
        if self.missingness is not None:
            gaps = sum(torch.isnan(rows).sum(0) for rows, _ in raw.chunks())
            model.code_module.missingness.has_gaps.copy_(gaps > 0)

    def posterior(self, X) -> tuple[np.ndarray, np.ndarray]:
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

    @checked_arguments(n_samples=[at_least(1)], random_state=["random_state"])
    @own_settings()
    def score_samples(self, X, *, n_samples=64, random_state=0) -> np.ndarray:
        """Importance-weighted bound of the log-density of each row; higher is more normal.

        log 1/K Σ p(x, zₖ)/q(zₖ | x) rises with K towards log p(x), equation 8 of [2]_. All rows
        share the same K draws of the noise, so that a row's score does not depend on the others.
        Of a row with gaps, it is the density of what is there, with codes drawn around the mode of
        p(z | x) and, for a twentieth, from the prior, since an encoder that was not trained on gaps
        takes them for column means.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; entries that are NaN do not count, nor does why they are missing.
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
        seed = int(torch.randint(2**31, (), generator=generator))

        def bound_of(model, step):
            posterior, encoded = model.posterior, step.encoded
            scale = torch.exp(0.5 * posterior.log_variance(encoded))
            logs = []
            for draws in noise.to(encoded).split(_draws_at_once(step)):
                sample = step.code + scale * draws
                log_joint = step.log_likelihood_of(step.decode(sample))
                logs.append(log_joint + posterior.log_ratio(encoded, sample, model))
            made = torch.logsumexp(torch.cat(logs), dim=0) - math.log(n_samples)
            if step.observed is not None:
                gappy = (step.observed == 0).any(1)
                made[gappy] = self._log_density_of_gappy(model, step, gappy, noise, seed).to(made.dtype)
            return made

        def bound(model, step):
            parts = [log_share + bound_of(model, each) for log_share, each in step.by_class()]
            return torch.logsumexp(torch.stack(parts), dim=0) if len(parts) > 1 else parts[0]

        # A few rows at a time, so that their draws share a chunk.
        return self._scores(X, bound, min(n_samples, 16))

    def _log_density_of_gappy(self, model, step, gappy, noise, seed) -> torch.Tensor:
        """log p(x_o) of these rows of a step, in double precision, in which differences are derivatives."""
        exact = model if model.reference.dtype == torch.float64 else self.model_.in_float64()
        noise = noise.to(model.reference.device)
        generator = torch.Generator(noise.device).manual_seed(seed)
        drawn = exact.prior.sample(len(noise), exact, generator)[:, None]
        size = max(1, CHUNK_ELEMENTS // ((2 * self.n_components_ + 1) * model.n_features))
        made = []
        for index in gappy.nonzero().flatten().split(size):
            rows = (each[index].double() for each in (step.given, step.target, step.observed))
            some = exact.step(*rows)
            made.append(log_density(some, noise, drawn, _draws_at_once(some)))
        return torch.cat(made) if made else noise.new_zeros(0)

    @checked_arguments(n_samples=[at_least(1)], random_state=["random_state"])
    @own_settings()
    def complete(self, X, *, n_samples=1000, random_state=None) -> Any:
        r"""Fill the gaps of X by their expectation given the observed entries.

        E[x_m | x_o] by self-normalised importance sampling, equations 11 and 12 of [6]_: with draws
        z of the posterior, and some of the prior,

        .. math:: \sum_l w_l\, E[x_m \mid z_l], \quad
            w_l \propto \frac{p(x_o \mid z_l)\, p(z_l)}{q(z_l \mid x_o)}, \quad \sum_l w_l = 1

        so that the encoder decides only how fast this converges. With `missingness` the missing
        entries are drawn as well, and the weights hold :math:`p(s \mid x_o, x_{m,l})` [7]_. A row
        that is entirely missing gets the prior's expectation. All rows share the draws of the
        noise, so that what a row gets does not depend on the others.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks what is to be filled.
        n_samples : int, default=1000
            Draws of the code for each row. So many rows are decoded at once.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features)
            A copy of X in its units and its dtype (float64 for integers), whose observed entries
            are as they were. With likelihood="mixed" a table like that of fit, in which a missing
            category is the most likely one.
        """
        rows, generator = self._dense_copy(X), self._generator(random_state)
        with self._threads_for(len(rows) * n_samples):
            for index, step in self._steps_of_gaps(rows, n_samples):
                self._fill(rows, index, expected_rows(step, n_samples, generator))
        return self._completed_table(rows, X)

    @checked_arguments(n_completions=[at_least(1)], n_samples=[at_least(1)], random_state=["random_state"])
    @own_settings()
    def sample_completions(self, X, n_completions=1, *, n_samples=1000, random_state=None) -> Any:
        """Fill the gaps of X by draws given the observed entries, for multiple imputation.

        Sampling-importance-resampling, section 3.2 of [6]_: of `n_samples` draws of the code, one is
        drawn by the weights of `complete`, and the missing entries by p(x_m | z). Rows are drawn
        independently.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Rows; NaN marks what is to be filled.
        n_completions : int, default=1
            How many tables to make.
        n_samples : int, default=1000
            Draws of the code for each row, of which those that are kept are drawn with replacement.
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        ndarray of shape (n_completions, n_rows, n_features), or list of tables
            Copies of X in its units and its dtype, whose observed entries are as they were. With
            likelihood="mixed" a list of tables like that of fit; with `set_output` one of frames.
        """
        rows, generator = self._dense_copy(X), self._generator(random_state)
        made = np.repeat(rows[None], n_completions, axis=0)
        with self._threads_for(len(rows) * n_samples):
            for index, step in self._steps_of_gaps(rows, n_samples + n_completions):
                self._fill(made, index, resampled_rows(step, n_samples, n_completions, generator))
        if "table_encoder_" in vars(self) or asked_library(self, "numpy") != "numpy":
            return [self._completed_table(rows, X) for rows in made]
        return made

    def _completed_table(self, rows, X):
        """X with its gaps filled by these rows; rare categories, which the encoder pools, stay what they are."""
        encoder = vars(self).get("table_encoder_")
        if encoder is None or encoder._is_identity:
            return self._as_table(rows, X)
        table, every = GappyTable(X, checked_table(encoder, X, reset=False)), np.ones(self.n_features_in_, dtype=bool)
        frame = table.filled(np.arange(len(rows)), encoder._decode(rows), every, encoder._container)
        return table.give(frame, self, _check_feature_names_in(self), encoder._container)

    def _dense_copy(self, X) -> np.ndarray:
        check_is_fitted(self)
        return RawRows(self._validate(X, reset=False)).take(slice(None)).numpy().copy()

    def _generator(self, random_state) -> torch.Generator:
        return new_generator(self.model_.reference.device, check_random_state(random_state))

    def _steps_of_gaps(self, X, n_copies):
        """Indices of rows with gaps, and their step, in single precision: noise is a larger error than rounding."""
        model = self.model_
        widest = max([model.n_features, *(len(each) for each in model.decoder.parameters() if each.ndim)])
        n_copies *= max(1, model.n_classes)
        size, gappy = max(1, CHUNK_ELEMENTS // (n_copies * widest)), np.flatnonzero(np.isnan(X).any(axis=1))
        with torch.inference_mode():
            for start in range(0, len(gappy), size):
                index = gappy[start : start + size]
                prepared = model.prepare_for_training(torch.from_numpy(X[index]))
                yield index, model.step(*(each.to(model.reference.device) for each in prepared))

    def _fill(self, tables, index, rows) -> None:
        """Write rows in the units of the likelihood to the gaps of one table, or of one each."""
        rows, before = self.model_.scaling.from_target(rows.cpu().double()).numpy(), tables[..., index, :]
        tables[..., index, :] = np.where(np.isnan(before), rows, before)

    @checked_arguments(n_samples=[at_least(1)], random_state=["random_state"], return_mean=["boolean"])
    def sample(self, n_samples=1, *, y=None, random_state=None, return_mean=False) -> Any:
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        y : label or array-like of shape (n_samples,), default=None
            Class of all rows, or of each, if `conditional`; None draws classes by their shares in `fit`.
        random_state : int, RandomState instance or None, default=None
            Seed.
        return_mean : bool, default=False
            Whether to return each row's expectation given its code, without the likelihood's noise.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Rows in the units of the training data; with likelihood="mixed" a table like that of fit.
        """
        check_is_fitted(self)
        classes = self._drawing_classes(n_samples, y)

        def draw(model, generator):
            drawn = classes(model, generator)
            eta = model.decoder(with_classes(model.prior.sample(n_samples, model, generator), drawn))
            return model.likelihood.mean(eta) if return_mean else model.likelihood.sample(eta, model.extras, generator)

        return self._drawn(draw, n_samples, random_state)

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


def _draws_at_once(step) -> int:
    """How many codes of each row of a step are decoded together."""
    return max(1, CHUNK_ELEMENTS // max(1, step.input.numel()))
