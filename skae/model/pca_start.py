"""The start at PCA: first weights that make the autoencoder linear and optimal."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skae.model.autoencoder import Autoencoder
from skae.model.penalties import Anchor

# Columns and components with less than this share of the mean variance are not blown up for the network.
VARIANCE_FLOOR = 0.1


class PrincipalAxes(NamedTuple):
    """The leading eigenvectors of the covariance of the standardised rows.

    Attributes
    ----------
    variances : Tensor of shape (n_axes,)
        Eigenvalues, largest first.
    vectors : Tensor of shape (n_features, n_axes)
    total : float
        The sum of all eigenvalues.
    class_means : Tensor of shape (n_classes, n_features) or None
        Means of the standardised rows of each class, where the axes are those of the rows around them.
    """

    variances: Tensor
    vectors: Tensor
    total: float
    class_means: Tensor | None = None

    def noise_variance(self, n_components: int, n_features: int) -> float:
        """Mean of the eigenvalues left out: the noise of probabilistic PCA (Tipping and Bishop 1999, equation 8)."""
        left = self.total - float(self.variances[:n_components].sum())
        return max(left / max(1, n_features - n_components), 1e-6 * self.total / n_features, 1e-12)


def start_at_pca(model: Autoencoder, axes: PrincipalAxes) -> None:
    """Set the linear paths to PCA and the networks' outputs to zero.

    A point code is PCA's. A random code is probabilistic PCA's: the posterior and the decoder of
    Tipping and Bishop, "Probabilistic principal component analysis", JRSS B 61, 1999, whose bound
    is tight. Of rows of classes it is that of the rows around the means of their classes.

    Parameters
    ----------
    model : Autoencoder
        With linear paths.
    axes : PrincipalAxes
    """
    p, d = model.n_features, model.posterior.n_decoded(model.n_components)
    columns = model.scaling.columns
    rank = min(d, axes.vectors.shape[1])
    vectors = axes.vectors.new_zeros(p, d)
    vectors[:, :rank] = axes.vectors[:, :rank]
    variances = axes.variances.new_zeros(d)
    variances[:rank] = axes.variances[:rank].clamp_min(0)
    into, out, unit, log_variance = _code_maps(model, axes, variances)
    bias, slope = model.likelihood.linear_start(columns)
    relative = model.scaling.relative_variance
    if axes.class_means is not None:
        relative = relative - torch.tensor(model.class_prior).to(relative) @ axes.class_means.square()
    left = (relative - vectors.square() @ (model.posterior.share_kept * variances)).clamp_min(0)
    # A change beyond the size of what is left is of no use, unless something else than that is to be made smaller.
    pace = (left.sum() / max(axes.total, 1e-300)).clamp(1e-16, 1.0).sqrt()
    if model.corruption is not None or d >= p or not all(isinstance(penalty, Anchor) for penalty in model.penalties):
        pace = torch.ones_like(pace)
    with torch.no_grad():
        sizes = (
            unit
            if model.posterior.variational or model.posterior.whiten
            else torch.minimum(unit, pace * unit.square().sum().sqrt())
        )
        _start_encoder(model, into[:, None] * vectors.T, sizes, log_variance, rank)
        for network in (model.encoder, model.decoder):
            network.linear.pace.fill_(pace)
        decoder = model.decoder
        if not decoder.linear._other:
            decoder.linear.weight[:, :d] = (slope[:, None] * vectors * out).to(decoder.linear.weight.dtype)
        if axes.class_means is not None:
            _start_classes(model, axes.class_means, slope)
        decoder.linear.bias.copy_(bias)
        if not model.posterior.variational:
            decoder.in_scale.copy_(1 / (unit**2 + VARIANCE_FLOOR).sqrt())
        else:
            decoder.in_scale.fill_(1.0)
        decoder.out_scale.copy_(slope * left.clamp_min(1e-6 * float(left.max())).sqrt())
        if decoder.network is not None:
            silence(decoder.network, 0, p)


def _code_maps(model: Autoencoder, axes: PrincipalAxes, variances: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Factors into and out of the code, the code's unit, and the posterior's log-variance."""
    if not model.posterior.variational:
        one, size = torch.ones_like(variances), variances.sqrt()
        if model.posterior.whiten:
            known = size > 1e-6 * size.max()
            return torch.where(known, 1 / size.clamp_min(1e-300), one), torch.where(known, size, one), one, one
        return one, one, size, one
    fixed = model.extras.get("log_scale")
    if "log_scale" in model._learnt:
        noise = axes.noise_variance(model.n_components, model.n_features)
        with torch.no_grad():
            model._learnt["log_scale"].fill_(0.5 * torch.log(torch.tensor(noise)))
    elif fixed is not None:
        noise = float(torch.exp(2 * fixed.double()))
    else:
        noise = axes.noise_variance(model.n_components, model.n_features)
    signal = torch.maximum(variances - noise, 0.05 * variances).clamp_min(1e-12)
    total = signal + noise
    return signal.sqrt() / total, signal.sqrt(), torch.ones_like(variances), torch.log(noise / total)


def _start_encoder(model: Autoencoder, matrix: Tensor, unit: Tensor, log_variance: Tensor, rank: int) -> None:
    encoder, d = model.encoder, len(matrix)
    # Of an overcomplete linear code the rest stays as it was drawn: from zero, with a decoder of zero, nothing moves.
    first = rank if encoder.network is None and d > model.n_features else d
    encoder.linear.weight[:first, : model.n_features] = matrix[:first].to(encoder.linear.weight.dtype)
    encoder.linear.weight[d:] = 0
    encoder.linear.bias.zero_()
    encoder.linear.bias[d:] = log_variance.to(encoder.linear.bias.dtype)[: encoder.linear.bias.numel() - d]
    encoder.in_scale.fill_(1.0)
    encoder.in_scale[: model.n_features] = (1 / (model.scaling.relative_variance + VARIANCE_FLOOR).sqrt()).to(
        encoder.in_scale.dtype
    )
    encoder.out_scale.fill_(1.0)
    encoder.out_scale[:d] = torch.where(unit > 0, unit, torch.ones_like(unit)).to(encoder.out_scale.dtype)
    if encoder.network is not None:
        # Components beyond the rank of the data have no axis to start from: theirs starts at random.
        silence(encoder.network, 0, rank)
        silence(encoder.network, d, encoder.linear.bias.numel())


def _start_classes(model: Autoencoder, means: Tensor, slope: Tensor) -> None:
    """Let the linear paths move with the means of the classes: codes are of what a row is beside them."""
    model.class_means.copy_(means)
    weight, p, d = model.encoder.linear.weight, model.n_features, model.n_components
    weight[:d, p:] = -weight[:d, :p] @ means.T.to(weight.dtype)
    model.decoder.linear.weight[:, d:] = (slope[:, None] * means.T).to(weight.dtype)


def silence(network: torch.nn.Module, first: int, last: int) -> None:
    """Let the outputs of the network from `first` to `last` start at zero."""
    layers = getattr(network, "layers", None)
    if layers is not None:
        for parameter in layers[-1].parameters(recurse=False):
            parameter[first:last].zero_()
        return
    outputs = getattr(network, "silence", None)
    if outputs is not None:
        outputs(first, last)
