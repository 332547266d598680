"""GAN."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skae.autoencoders._conditional import ConditionalMixin
from skae.autoencoders._estimator import UnsupervisedEstimator
from skae.base.parameters import at_least, checked_arguments, not_negative
from skae.model.adversarial import CRITIC_PACE, LOSSES, AdversarialLoss, GenerativeAdversary
from skae.model.priors import fixed_prior
from skae.training.optimizers import AdamW


class GAN(ConditionalMixin, UnsupervisedEstimator):
    r"""Generative adversarial network: rows from a generator that a critic cannot tell from real ones.

    .. math:: \min_G \max_D E_x \log \sigma(D(x)) + E_z \log(1 - \sigma(D(G(z))))

    is the minimax loss [1]_; the "wasserstein" loss with a gradient penalty [2]_ is steadier and
    covers more of what the data have.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Size of the draws z from which rows are made; "auto" takes the number of principal components
        with more than the mean variance.
    hidden_layer_sizes : int, tuple of int or "auto", default="auto"
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
    label_smoothing : float, default=0.0
        α in [0, 0.5): the critic's label of a real row is 1 − α, so that it does not become too sure
        of few rows [5]_. For "non_saturating" and "minimax".
    instance_noise : float, default=0.0
        Standard deviation of noise that the critic sees on real rows and made ones, in units of the
        columns' root-mean-square standard deviation [6]_. It falls to zero over `max_iter` epochs;
        `partial_fit`, which has no last epoch, is without.
    conditional : bool, default=False
        Whether generator and critic receive the class of each row, the `y` of `fit`, so that `sample`
        can draw rows of a class [7]_. Otherwise `y` is not used.
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
        The trained torch module. Its `forward` maps a tensor of codes to rows in the units of X.
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
    classes_ : ndarray of shape (n_classes,)
        The classes, if `conditional`.
    class_prior_ : ndarray of shape (n_classes,)
        Their shares in `fit`, or in the first call of `partial_fit`, if `conditional`.

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
    .. [5] Salimans et al., "Improved techniques for training GANs", NIPS 2016, section 3.4.
    .. [6] Arjovsky and Bottou, "Towards principled methods for training generative adversarial
       networks", ICLR 2017, section 3.
    .. [7] Mirza and Osindero, "Conditional generative adversarial nets", 2014.

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
        "n_components": [at_least(1), StrOptions({"auto"})],
        "loss": [StrOptions(set(LOSSES))],
        "critic_steps": [at_least(1), StrOptions({"auto"})],
        "label_smoothing": [Interval(Real, 0, 0.5, closed="left")],
        "instance_noise": [not_negative()],
        "conditional": ["boolean"],
        "gradient_penalty": [not_negative(), StrOptions({"auto"})],
    }

    _learning_rate_factor = 1 / CRITIC_PACE

    _scores_by_likelihood = True

    loss: str
    prior: Any
    critic_steps: Any
    gradient_penalty: float | str
    label_smoothing: float
    instance_noise: float
    conditional: bool

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        network: Any = None,
        likelihood: Any = "gaussian",
        loss: str = "wasserstein",
        prior: Any = "normal",
        critic_steps: int | str = "auto",
        gradient_penalty: float | str = "auto",
        label_smoothing: float = 0.0,
        instance_noise: float = 0.0,
        conditional: bool = False,
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
            loss=AdversarialLoss(self.loss, self.gradient_penalty, self.label_smoothing),
            critic_steps=steps,
            instance_noise=float(self.instance_noise),
            n_classes=len(self.classes_) if self.conditional else 0,
        )

    @checked_arguments(n_samples=[at_least(1)], random_state=["random_state"])
    def sample(self, n_samples=1, *, y=None, random_state=None) -> Any:
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        y : label or array-like of shape (n_samples,), default=None
            Class of all rows, or of each, if `conditional`; None draws classes by their shares in `fit`.
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Expected rows in the units of the training data; with likelihood="mixed" a table like
            that of fit.
        """
        check_is_fitted(self)
        classes = self._drawing_classes(n_samples, y)

        def draw(model, generator):
            return model.draw(n_samples, generator, classes(model, generator))

        return self._drawn(draw, n_samples, random_state)

    def score_samples(self, X) -> np.ndarray:
        """The critic's output for each row; higher is more like the training rows than like the generator's.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; entries that are NaN are taken at the column mean.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Not a density: a critic that can no longer tell the two apart gives all rows about the
            same. If `conditional`, the mean over the classes by their shares.
        """

        def score(model, step):
            rows = step.input
            if not model.n_classes:
                return model.critic(rows)[:, 0]
            classes = torch.eye(model.n_classes, device=rows.device, dtype=rows.dtype)
            parts = zip(classes, self.class_prior_, strict=True)
            return sum(share * model.critic_of(each.expand(len(rows), -1))(rows)[:, 0] for each, share in parts)

        return self._scores(X, score)
