"""GAN."""

from __future__ import annotations

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from skae.autoencoders._estimator import RowSampler
from skae.model.adversarial import CRITIC_PACE, LOSSES, AdversarialLoss, GenerativeAdversary
from skae.model.priors import fixed_prior
from skae.training.optimizers import AdamW


class GAN(RowSampler):
    r"""Generative adversarial network: rows from a generator that a critic cannot tell from real ones.

    .. math:: \min_G \max_D E_x \log \sigma(D(x)) + E_z \log(1 - \sigma(D(G(z))))

    is the minimax loss [1]_; the "wasserstein" loss with a gradient penalty [2]_ is steadier and
    covers more of what the data have.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Size of the draws z from which rows are made; "auto" takes the number of principal components
        with more than the mean variance.
    hidden_layer_sizes : tuple of int or "auto", default="auto"
        Hidden units of the critic, from the row on; the generator has them in reverse order. "auto"
        takes two layers, the first about twice as wide as X.
    activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", "elu", "auto"}, default="auto"
        Activation of the hidden units; "auto" is "gelu".
    network : Network part or None, default=None
        Builds both in place of the two parameters above: its `decoder` is the generator and its
        `encoder`, with one output, the critic. `ConvNetwork` for images.
    {likelihood}
        Here, its mean turns the generator's output into rows: "bernoulli" keeps them between 0 and 1.
    loss : {"wasserstein", "non_saturating", "minimax"}, default="wasserstein"
        What generator and critic minimise.
    prior : {"normal", "uniform", "mixture", "swiss_roll"}, Prior or callable, default="normal"
        What z is drawn from.
    critic_steps : int or "auto", default="auto"
        Updates of the critic at each batch; "auto" is 5 for "wasserstein" and 1 otherwise.
    gradient_penalty : float or "auto", default="auto"
        λ of λ·(‖∇D(x̂)‖ − 1)² between real and made rows for "wasserstein" [2]_, of λ/2·‖∇D(x)‖² at
        real ones otherwise [3]_. "auto" is 0.1·√p for p columns, and 0: the first loss is a distance
        of rows, beside which a λ of 10 leaves the means of narrow tables unlearnt.
    {max_iter ... batch_size}
    learning_rate : float or "auto", default="auto"
        First learning rate of the generator; the critic's is four times as high [4]_. "auto" is a
        quarter of the optimizer's own, which for "adamw" is 0.05 over the root of the widest hidden
        layer's units, between 0.001 and 0.01.
    optimizer : {"adamw", "sgd"} or Optimizer, default="adamw"
        How the losses are minimised; "adamw" has betas=(0.5, 0.9) here [2]_.
    {warm_start ... verbose}

    Attributes
    ----------
    model_ : GenerativeAdversary
        The trained torch module.
    n_components_ : int
        Size of the draws.
    n_iter_ : int
        Epochs run.
    loss_curve_ : list of float
        Mean loss of the generator in each epoch.
    loss_terms_ : dict of list of float
        The generator's and the critic's loss by term.
    validation_loss_curve_, validation_epochs_ : list
        Empty: no rows are held out.
    {n_features_in_ ... table_encoder_}

    See Also
    --------
    AdversarialAE : With an encoder.
    VAE : With a density.

    References
    ----------
    .. [1] Goodfellow et al., "Generative adversarial nets", NIPS 2014.
    .. [2] Gulrajani et al., "Improved training of Wasserstein GANs", NIPS 2017, algorithm 1.
    .. [3] Mescheder, Geiger and Nowozin, "Which training methods for GANs do actually converge?",
       ICML 2018.
    .. [4] Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash
       equilibrium", NIPS 2017.

    Examples
    --------
    >>> from skae import GAN
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> gan = GAN(10, max_iter=5, random_state=0).fit(X)
    >>> gan.sample(3, random_state=0).shape
    (3, 64)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "loss": [StrOptions(set(LOSSES))],
        "critic_steps": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "gradient_penalty": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    }

    rate_factor = 1 / CRITIC_PACE

    def __init__(
        self,
        n_components="auto",
        *,
        hidden_layer_sizes="auto",
        activation="auto",
        network=None,
        likelihood="gaussian",
        loss="wasserstein",
        prior="normal",
        critic_steps="auto",
        gradient_penalty="auto",
        max_iter="auto",
        batch_size="auto",
        learning_rate="auto",
        optimizer="adamw",
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=False,
    ):
        self._set_parameters(locals())

    def _optimizer_part(self):
        return AdamW(betas=(0.5, 0.9)) if self.optimizer == "adamw" else self.optimizer

    def _build_model(self, fitting, columns, n_components):
        steps = self.critic_steps
        if steps == "auto":
            steps = 5 if self.loss == "wasserstein" else 1
        return GenerativeAdversary(
            fitting.network,
            fitting.likelihood,
            columns,
            n_components,
            prior=fixed_prior(self.prior, n_components),
            loss=AdversarialLoss(self.loss, self.gradient_penalty),
            critic_steps=steps,
        )

    def _draw(self, model, n_samples, generator):
        return model.draw(n_samples, generator)

    def score_samples(self, X):
        """The critic's output for each row; higher is more like the training rows than like the generator's.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; entries that are NaN are taken at the column mean.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Not a density: a critic that can no longer tell the two apart gives all rows about the
            same.
        """
        return self._scores(X, lambda model, step: model.critic(step.input)[:, 0])
