"""Penalties: what an objective holds beside the likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from skae.base.parameters import Part, not_negative
from skae.model.networks import Shortcut

if TYPE_CHECKING:
    from skae.model.autoencoder import Autoencoder
    from skae.model.step import Step


class Penalty(Part):
    r"""Base of the penalties: `penalty(step)` returns a tensor P of shape (n_rows,).

    All weights have one unit. A point code minimises, for standardised rows x, whose columns have
    a mean variance of 1,

    .. math:: \tfrac12 \|x - r\|^2 + \sum_k \lambda_k P_k

    times a constant that brings it to the data's units, so that these change nothing of what a
    `weight` λ does; where the loss is in nats (other likelihoods, a learnt scale, a random code),
    λ·P is as well. The step's rows and codes are the standardised ones. A penalty that should
    count the same beside few columns and many is a multiple of their number.

    A penalty of the code alone may give its derivative, `code_slope(step)` of shape
    (n_rows, n_components), so that the gradient by hand covers it; it and the penalty itself then
    read nothing of the step but `code` and `departure`.

    A penalty with a critic returns a module from `critic` and that module's own loss from
    `critic_terms`, which may change nothing but the critic: the trainer then has a second player.
    `step.critic(self)` is that module.

    Attributes
    ----------
    weight : float
        λ; most penalties have it as a parameter.
    critic_steps : int
        Updates of the critic at each batch.
    """

    _parameter_constraints = {"weight": [not_negative()]}

    weight = 1.0
    critic_steps = 1

    @property
    def name(self) -> str:
        """The name of the term in `loss_terms_`, which has a number behind it where another term is called so."""
        return "".join("_" + c.lower() if c.isupper() else c for c in type(self).__name__).lstrip("_")

    @property
    def has_code_slope(self) -> bool:
        """Whether `code_slope` is the derivative of this penalty: defined with `__call__`, or after it."""
        for kind in type(self).__mro__:
            if kind is Penalty or "code_slope" in vars(kind) or "__call__" in vars(kind):
                break
        return kind is not Penalty and "code_slope" in vars(kind)

    def __call__(self, step: Step) -> Tensor:
        """The penalty of each row, before it is multiplied by `weight`."""
        raise NotImplementedError

    def code_slope(self, step: Step) -> Tensor:
        """The derivative with respect to the code, where the penalty depends on nothing else."""
        raise NotImplementedError

    def prepare(self, model: Autoencoder) -> None:
        """Change the model before training; most penalties do not."""

    def critic(self, n_features: int, n_components: int) -> nn.Module | None:
        """A network that this penalty trains against the autoencoder; most have none."""
        return None

    def critic_terms(self, step: Step) -> dict[str, Tensor]:
        """What the critic minimises, by name, each of shape (n_rows,)."""
        raise NotImplementedError


class Anchor(Penalty):
    r"""A code that stays near PCA's, ‖z − z_PCA‖².

    The encoder's linear path is held at PCA, and what the network adds to the code is charged as
    the same distance between rows would be. A code that leaves PCA's must earn it by a smaller
    error, so that what a linear classifier or neighbours find in PCA's code stays there. It does
    nothing with `init="random"`.

    Parameters
    ----------
    weight : float, default=1.0
        1 charges a unit in the code as much as a unit of error in the row.

    Examples
    --------
    >>> from skae import Anchor, AutoencoderTransformer
    >>> AutoencoderTransformer(2, penalties=[Anchor(0.1)])
    AutoencoderTransformer(n_components=2, penalties=[Anchor(weight=0.1)])
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def prepare(self, model: Autoencoder) -> None:
        """Hold the encoder's linear path, where a network stands beside it."""
        if isinstance(model.encoder, Shortcut) and model.encoder.network is not None:
            model.encoder.linear.requires_grad_(False)

    def __call__(self, step: Step) -> Tensor:
        """Half the squared length of what the network adds to each row's code."""
        return 0.5 * step.departure.square().sum(1)

    def code_slope(self, step: Step) -> Tensor:
        """The derivative with respect to the code."""
        return step.departure


class LaplaceCode(Penalty):
    """Sparsity of the code by its absolute values, Σ|hⱼ|: a Laplace prior.

    Parameters
    ----------
    weight : float, default=0.01
        1 charges a unit of a code of standardised rows as much as a squared error of two.

    Examples
    --------
    >>> from skae import AutoencoderTransformer, LaplaceCode
    >>> AutoencoderTransformer(20, penalties=[LaplaceCode(0.1)])
    AutoencoderTransformer(n_components=20, penalties=[LaplaceCode(weight=0.1)])
    """

    def __init__(self, weight: float = 0.01) -> None:
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """Sum of the absolute values of each row's code."""
        return step.code.abs().sum(1)

    def code_slope(self, step: Step) -> Tensor:
        """The derivative with respect to the code."""
        return step.code.sign()


class GaussianCode(Penalty):
    """Small codes, ½ Σ hⱼ²: a Gaussian prior.

    Parameters
    ----------
    weight : float, default=0.01
        1 charges the code's squared length, of standardised rows, as much as the squared error.
    """

    def __init__(self, weight: float = 0.01) -> None:
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """Half the squared length of each row's code."""
        return 0.5 * step.code.square().sum(1)

    def code_slope(self, step: Step) -> Tensor:
        """The derivative with respect to the code."""
        return step.code
