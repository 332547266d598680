"""AdversarialAE."""

from __future__ import annotations

from typing import Any

from skae.autoencoders._base import BaseAutoencoder
from skae.base.parameters import LAYER_SIZES, at_least, checked_arguments, not_negative
from skae.model.adversarial import AdversarialCode
from skae.model.posteriors import Point
from skae.training.optimizers import AdamW


class AdversarialAE(BaseAutoencoder):
    r"""Adversarial autoencoder: codes that are distributed as a prior, so that rows can be drawn.

    A critic D learns to tell codes from draws of the prior, and the encoder to fool it [1]_:

    .. math:: \min_{f, g} \frac1n \sum_i -\log p(x_i \mid f(x_i)) - \lambda \log \sigma(D(f(x_i))), \quad
        \min_D -E_{z \sim p} \log \sigma(D(z)) - \frac1n \sum_i \log(1 - \sigma(D(f(x_i))))

    The prior may be anything that can be drawn from.

    Parameters
    ----------
    {n_components ... likelihood}
    init : {"pca", "random"}, default="pca"
        "pca" puts a linear path beside the networks that starts as PCA with components of unit
        variance, while the networks start at zero. "random" has no linear path.
    {n_init}
    prior : {"normal", "uniform", "mixture", "swiss_roll"}, Prior or callable, default="normal"
        What the codes are to be like. A function takes a number of codes and a
        `numpy.random.Generator`, and returns an array of shape (n, n_components).
    weight : float, default=10.0
        λ: 1 charges a nat as much as twice the variance of one entry of a row. A larger one holds the
        codes nearer to the prior; held-out errors were up to 1.3 times those of
        `AutoencoderTransformer` on tables with 10.
    critic_layer_sizes : int or tuple of int, default=(128, 128)
        Hidden units of the critic.
    critic_steps : int, default=2
        Updates of the critic at each batch: one that keeps up tells the encoder where to go.
    {max_iter ... batch_size}
    {learning_rate}
    optimizer : {"adamw", "sgd"} or Optimizer, default="adamw"
        How the losses are minimised; "adamw" has betas=(0.5, 0.99) here, since a gradient that a
        critic turns is old after a few steps.
    early_stopping : bool or EarlyStopping, default=False
        Whether held-out rows decide when to stop. Their loss has a part that the critic changes, so
        that a smaller one is not always a better model.
    {warm_start ... verbose}

    Attributes
    ----------
    {model_ ... table_encoder_}

    See Also
    --------
    VAE : Codes near a prior by a closed formula, with a density of the rows.
    MaximumMeanDiscrepancy : Codes near a prior without a critic.

    References
    ----------
    .. [1] Makhzani et al., "Adversarial autoencoders", 2015, section 2.

    Examples
    --------
    >>> from skae import AdversarialAE
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> aae = AdversarialAE(2, max_iter=5, random_state=0).fit(X)
    >>> aae.sample(3, random_state=0).shape
    (3, 64)
    """

    _parameter_constraints = {
        "weight": [not_negative()],
        "critic_layer_sizes": LAYER_SIZES,
        "critic_steps": [at_least(1)],
    }

    prior: Any
    weight: float
    critic_layer_sizes: Any
    critic_steps: int

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
        prior: Any = "normal",
        weight: float = 10.0,
        critic_layer_sizes: Any = (128, 128),
        critic_steps: int = 2,
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        optimizer: Any = "adamw",
        early_stopping: Any = False,
        warm_start: bool = False,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self._set_parameters(locals())

    def _optimizer_part(self):
        return AdamW(betas=(0.5, 0.99)) if self.optimizer == "adamw" else self.optimizer

    def _posterior(self):
        return Point(whiten=True)

    def _penalty_parts(self):
        return [
            AdversarialCode(
                self.prior,
                self.weight,
                hidden_layer_sizes=self.critic_layer_sizes,
                critic_steps=self.critic_steps,
            )
        ]

    @checked_arguments(n_samples=[at_least(1)], random_state=["random_state"], return_mean=["boolean"])
    def sample(self, n_samples=1, *, random_state=None, return_mean=True) -> Any:
        """Draw codes from the prior and decode them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seed.
        return_mean : bool, default=True
            Whether to return each row's expectation given its code, which the squared error of a point
            code brings near a row. Otherwise rows are drawn by the likelihood: counts, bits,
            categories, and numbers with its scale.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Rows in the units of the training data; with likelihood="mixed" a table like that of fit.
        """

        def draw(model, generator):
            eta = model.decoder(model.prior.sample(n_samples, model, generator))
            return model.likelihood.mean(eta) if return_mean else model.likelihood.sample(eta, model.extras, generator)

        return self._drawn(draw, n_samples, random_state)
