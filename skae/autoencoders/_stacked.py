"""StackedAE: greedy layer-wise pretraining, then fine-tuning of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skae.autoencoders._base import BaseAutoencoder
from skae.autoencoders._known_gaps import empty_columns_known
from skae.autoencoders._rbm import RBM
from skae.base.estimators import clone
from skae.base.parameters import at_least
from skae.model.boltzmann import Visible
from skae.model.contraction import Contraction
from skae.model.likelihoods import Bernoulli, Gaussian, StudentT
from skae.model.networks import ACTIVATIONS, Dense, DenseNetwork
from skae.model.posteriors import Point
from skae.model.scaling import Units
from skae.training.batches import RawRows
from skae.training.progress import Task

KINDS = ("autoencoder", "denoising", "contractive", "rbm")
# The share of the budget of max_iter="auto" that each layer gets.
PRETRAINING_SHARE = 0.2
FEW_EPOCHS = 5


class Layer(BaseAutoencoder):
    """One layer of a stack: an autoencoder without hidden layers, with an activation at the code and at the output.

    The output's activation is that of the layer below, whose units it rebuilds. The other parameters are those of
    `StackedAE`.
    """

    code_activation: str
    output_activation: str

    def __init__(
        self,
        n_components,
        *,
        code_activation,
        output_activation,
        likelihood,
        corruption,
        penalties,
        max_iter,
        batch_size,
        learning_rate,
        optimizer,
        device,
        random_state,
    ) -> None:
        self._set_parameters(locals())

    def _network_part(self):
        return LayerNetwork(self.n_components, self.output_activation)

    def _posterior(self):
        return Point(self.code_activation)

    def _start_model(self, model, raw, fitting):
        super()._start_model(model, raw, fitting)
        if isinstance(model.decoder, RebuiltUnits):
            model.decoder.set_units(model.scaling.units(model.reference))


class LayerNetwork(DenseNetwork):
    """The network of one layer, whose width, on which the first learning rate depends, is its code's.

    Parameters
    ----------
    n_components : int
    output_activation : str
        One of `ACTIVATIONS`.
    """

    def __init__(self, n_components, output_activation) -> None:
        super().__init__(())
        self.n_components = n_components
        self.output_activation = output_activation

    def decoder(self, n_in: int, n_out: int, encoder: nn.Module) -> nn.Module:
        """The map from `n_in` components to the units below."""
        dense = super().decoder(n_in, n_out, encoder)
        return dense if self.output_activation == "identity" else RebuiltUnits(dense, self.output_activation)

    @property
    def width(self) -> int | None:
        """Units of the code."""
        return self.n_components


class RebuiltUnits(nn.Module):
    """The units of the layer below, s(V h + c), in the units of the likelihood.

    Parameters
    ----------
    dense : Dense
        V and c.
    activation : str
        s, one of `ACTIVATIONS`.
    """

    def __init__(self, dense: Dense, activation: str) -> None:
        super().__init__()
        self.dense, self.activation = dense, activation
        self.register_buffer("location", torch.zeros(dense.sizes[-1]))
        self.register_buffer("scale", torch.ones(dense.sizes[-1]))

    def set_units(self, units: Units) -> None:
        """Set location and scale of the likelihood's target."""
        self.location.copy_(units.target_location)
        self.scale.copy_(units.target_scale)

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        self.dense.reset(generator)

    def forward(self, h: Tensor) -> Tensor:
        """Map codes of shape (n_rows, n_in) to (n_rows, n_out)."""
        return (ACTIVATIONS[self.activation](self.dense(h)) - self.location) / self.scale


class StackedAE(BaseAutoencoder):
    r"""Stacked autoencoder: each layer learns to rebuild the codes of the one below, then all are tuned together.

    Layer l is trained alone, as an autoencoder of the activations
    :math:`h_{l-1}`, with :math:`h_l = s(W_l h_{l-1} + b_l)`; the encoders are stacked, the decoders
    unrolled in reverse order [1]_, [2]_, and `max_iter` epochs fine-tune the whole. The encoder can
    then be tuned to tell classes: `fine_tune`, or `AutoencoderClassifier`.

    Between two layers the codes of all rows are held in memory, 4 bytes for each row and unit, also
    of rows that are read from disk. Ctrl-C while layers or folds are trained raises
    `KeyboardInterrupt`, and an earlier fit stays as it was; `warm_start` goes on from the whole, without the layers.

    Parameters
    ----------
    {n_components}
    {hidden_layer_sizes}
    activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", "elu", "auto"}, default="auto"
        Activation of the hidden units; "auto" is "logistic" for ``layer="rbm"``, whose units are, and
        "gelu" otherwise.
    code_activation : {"identity", "relu", "tanh", "logistic", "gelu", "silu", "elu"}, default="identity"
        Activation of the code: linear for dimension reduction, bent for features of a classifier.
    layer : {"denoising", "autoencoder", "contractive", "rbm"}, default="denoising"
        What each layer is trained as: to rebuild its input from a corrupted copy [2]_ or as it is,
        with a penalty of the Jacobian [3]_, or as a restricted Boltzmann machine [1]_, whose visible
        units are binary for the likelihood "bernoulli", Gaussian for "gaussian" and "student_t", and
        no others.
    corruption : str, Corruption, callable or None, default="masking"
        What the layers of "denoising" undo. The fine-tuning of the whole sees rows as they are.
    {likelihood}
    pretraining_iter : int or "auto", default="auto"
        Epochs of each layer; "auto" is a fifth of what `max_iter="auto"` would be, at least 5. With 0
        the weights are left as they were drawn.
    max_iter : int or "auto", default="auto"
        Epochs of the fine-tuning; 0 keeps the layers as they were trained. "auto" is a budget in
        steps, so that few rows train long enough and many not too long.
    {batch_size ... optimizer}
    early_stopping : bool or EarlyStopping, default=True
        Whether held-out rows decide when the fine-tuning stops.
    {warm_start ... verbose}

    Attributes
    ----------
    {model_ ... loss_terms_}
    {n_features_in_ ... table_encoder_}

    See Also
    --------
    AutoencoderClassifier : Tunes the encoder to tell classes.

    References
    ----------
    .. [1] Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks",
       Science 313, 2006.
    .. [2] Vincent et al., "Stacked denoising autoencoders", JMLR 11, 2010.
    .. [3] Rifai et al., "Contractive auto-encoders", ICML 2011.

    Examples
    --------
    >>> from skae import StackedAE
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> stack = StackedAE(10, hidden_layer_sizes=(64,), max_iter=5, random_state=0).fit(X)
    >>> stack.transform(X).shape
    (1797, 10)
    >>> classifier = stack.fine_tune(X, y, max_iter=5)
    >>> classifier.predict(X[:3]).shape
    (3,)
    """

    _parameter_constraints = {
        "code_activation": [StrOptions(set(ACTIVATIONS))],
        "layer": [StrOptions(set(KINDS))],
        "pretraining_iter": [at_least(0), StrOptions({"auto"})],
        "max_iter": [at_least(0), StrOptions({"auto"})],
    }

    code_activation: str
    layer: str
    corruption: Any
    pretraining_iter: Any

    def __init__(
        self,
        n_components: int | float | str | None = "auto",
        *,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        code_activation: str = "identity",
        layer: str = "denoising",
        corruption: Any = "masking",
        likelihood: Any = "gaussian",
        pretraining_iter: int | str = "auto",
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

    def _network_part(self):
        return None

    def _default_activation(self):
        return "logistic" if self.layer == "rbm" else "gelu"

    def _corruption_part(self):
        # Of the whole; the layers have it.
        return None

    def _posterior(self):
        return Point(self.code_activation)

    # Pretraining -----------------------------------------------------------------------------

    def _start_model(self, model, raw, fitting):
        if self.layer == "rbm":
            self._check_units(fitting)
        sizes = model.encoder.sizes[1:]
        if self._n_pretrained_layers(fitting):
            self._check_sizes(model.n_features, sizes, fitting)
            with fitting.pretraining(len(sizes)) as task:
                self._pretrain(model, sizes, raw, fitting, task)

    def _n_pretrained_layers(self, fitting):
        return len(fitting.network.hidden_layer_sizes) + 1 if self._pretraining_epochs(fitting) else 0

    def _pretrain(self, model, sizes, raw, fitting, task: Task) -> None:
        n_epochs = self._pretraining_epochs(fitting)
        # Of some rows of a memory map, X is the whole map.
        rows = raw.X if type(raw) is RawRows else raw.take(slice(None)).numpy()
        for index, size in enumerate(sizes):
            last = index == len(sizes) - 1
            bent = self.code_activation if last else fitting.network.activation
            layer = self._layer(index == 0, bent, size, n_epochs, fitting)
            # Arrays, whatever the user has set for the output of transformers.
            with task.part("layer").fit_of(layer):
                _fit_layer(layer.set_output(transform="default"), rows, raw.weight)
            take_layer(model, index, layer.model_)
            if not last:
                rows = layer.transform(rows).astype(np.float32, copy=False)

    def _check_sizes(self, n_features: int, sizes, fitting) -> None:
        """Raise ValueError for a linear layer of more units than inputs, of which nothing keeps it from a copy."""
        if self.layer not in ("autoencoder", "denoising") or self.layer == "denoising" and self.corruption is not None:
            return
        for index, (n_inputs, size) in enumerate(zip((n_features, *sizes[:-1]), sizes, strict=True)):
            last = index == len(sizes) - 1
            if size > n_inputs and (self.code_activation if last else fitting.network.activation) == "identity":
                named = f"n_components={size}" if last else f"hidden_layer_sizes has {size} units, which"
                below = f"the {n_inputs} units of the layer below" if index else f"n_features={n_inputs}"
                raise ValueError(
                    f"{named} is above {below}: without noise or a penalty a linear layer has at most one unit for "
                    f"each input. Lower it, or use another activation, a corruption, or layer='contractive'."
                )

    def _check_units(self, fitting) -> None:
        """Raise ValueError for what restricted Boltzmann machines cannot be."""
        if fitting.network.activation != "logistic":
            raise ValueError(
                f"activation={fitting.network.activation!r}: the units of layer='rbm' are logistic; use "
                "activation='logistic' or 'auto'."
            )
        if self.code_activation not in ("identity", "logistic"):
            raise ValueError(
                f"code_activation={self.code_activation!r}: layer='rbm' has 'identity' (Gaussian units) or 'logistic'."
            )
        if not isinstance(fitting.likelihood, (Bernoulli, Gaussian, StudentT)):
            raise ValueError(
                f"likelihood={self.likelihood!r}: layer='rbm' has binary units ('bernoulli') or Gaussian ones "
                "('gaussian'); other likelihoods need another layer."
            )

    def _pretraining_epochs(self, fitting) -> int:
        if self.pretraining_iter != "auto":
            return self.pretraining_iter
        return max(FEW_EPOCHS, round(PRETRAINING_SHARE * fitting.budget))

    def _layer(self, first: bool, activation: str, size: int, n_epochs: int, fitting) -> BaseAutoencoder:
        """An estimator of one layer: the first sees rows, the others activations."""
        training = {
            "max_iter": n_epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "optimizer": self.optimizer,
            "device": str(fitting.device),
            "random_state": int(fitting.random_state.randint(np.iinfo(np.int32).max)),
        }
        logistic = fitting.network.activation == "logistic"
        likelihood = fitting.likelihood if first else (Bernoulli() if logistic else Gaussian())
        if self.layer == "rbm":
            binary = isinstance(likelihood, Bernoulli)
            if fitting.optimizer.full_batch:
                training["optimizer"] = "adamw"
            return RBM(
                size,
                visible="binary" if binary else "gaussian",
                hidden="binary" if activation == "logistic" else "gaussian",
                bounds=likelihood.bounds if isinstance(likelihood, Bernoulli) else "auto",
                **training,
            )
        return Layer(
            size,
            code_activation=activation,
            # A Bernoulli likelihood has the logistic function of its own.
            output_activation="identity" if first or logistic else fitting.network.activation,
            likelihood=clone(likelihood),
            corruption=self.corruption if self.layer == "denoising" else None,
            penalties=[Contraction()] if self.layer == "contractive" else [],
            **training,
        )

    # Fine-tuning -----------------------------------------------------------------------------

    def fine_tune(self, X, y, sample_weight=None, **parameters) -> Any:
        """Tune a copy of the encoder, with a softmax layer on top, to tell the classes of rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Classes; rows of class -1 are not labelled, and not used here.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        **parameters
            Parameters of `AutoencoderClassifier` but `autoencoder`.

        Returns
        -------
        AutoencoderClassifier
            A fitted classifier. This estimator stays as it is.
        """
        from skae.autoencoders._classifier import AutoencoderClassifier

        return AutoencoderClassifier(clone(self), **parameters).fit_from(self, X, y, sample_weight)


def _fit_layer(layer, rows, weight) -> None:
    """Fit a layer; of one that diverges the cause is told, as its columns and rows are not the user's."""
    try:
        with empty_columns_known():
            layer.fit(rows, sample_weight=weight)
    except ValueError as error:
        if isinstance(error.__cause__, FloatingPointError):
            raise error.__cause__ from None
        raise


@torch.no_grad()
def take_layer(model, index: int, layer) -> None:
    """Take a trained layer into encoder and decoder of the whole.

    A layer sees its input in standardised units, x = (h − m)/s, and, where its output is linear, rebuilds it in the
    likelihood's, h = l + w·η; the layers of the whole have no units between them.
    """
    first = layer.encoder.layers[0] if hasattr(layer.encoder, "layers") else layer.encoder
    back, bias = _output_layer(layer, first)
    there, offset = first.weight, first.bias
    if index > 0:
        units = layer.scaling.units(layer.reference)
        there = there / units.spread
        offset = offset - there @ units.mean
        if not isinstance(layer.likelihood, Bernoulli) and not isinstance(layer.decoder, RebuiltUnits):
            back, bias = units.target_scale[:, None] * back, units.target_location + units.target_scale * bias
    to, fro = model.encoder.layers[index], model.decoder.layers[-1 - index]
    to.weight.copy_(there)
    to.bias.copy_(offset)
    fro.weight.copy_(back)
    fro.bias.copy_(bias)


def _output_layer(layer, first) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer's decoder, before an activation."""
    if isinstance(layer.decoder, Visible):
        return layer.decoder.slope[:, None] * first.weight.T, layer.decoder.bias
    dense = layer.decoder.dense if isinstance(layer.decoder, RebuiltUnits) else layer.decoder
    return dense.layers[0].weight, dense.layers[0].bias
