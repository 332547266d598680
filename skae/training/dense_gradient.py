"""The gradient of dense networks by hand: what autograd would give, without its overhead.

A step of a small network costs more in bookkeeping than in arithmetic. `DenseGradient` covers dense
networks with a point code or a normal one and the common likelihoods, for several models side by
side; everything else goes through autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skae.model.autoencoder import Autoencoder
from skae.model.likelihoods import Bernoulli, Gaussian, Poisson
from skae.model.mixed import Mixed
from skae.model.model import Model
from skae.model.networks import Dense, Shortcut
from skae.model.penalties import Anchor, Penalty
from skae.model.posteriors import DiagonalGaussian, Point
from skae.training.batches import Batch
from skae.training.dense_paths import ACTIVATIONS, path_of
from skae.training.optimizers import FlatParameters
from skae.training.tape import Tape


class DenseGradient:
    """Loss and gradient of a batch in models side by side.

    Parameters
    ----------
    models : sequence of Autoencoder
        Alike but for their numbers.
    flat : FlatParameters
        Of the models; its gradient is overwritten at each call.

    Attributes
    ----------
    sums : dict of Tensor of shape (n_models, 1, 1)
        Sum of each term over the rows so far, times the model's `loss_scale`, without constants.
    """

    def __init__(self, models: Sequence[Autoencoder], flat: FlatParameters) -> None:
        self.models, self.flat = models, flat
        self.encoder = path_of([model.encoder for model in models], flat)
        self.decoder = path_of([model.decoder for model in models], flat)
        self.variational = models[0].posterior.variational
        names = ["negative_log_likelihood"] + ["kl_divergence"] * self.variational
        names += models[0].penalty_names
        self.sums = {name: flat.values.new_zeros(len(models), 1, 1) for name in names}
        self._passes: dict[tuple, _Pass] = {}

    @staticmethod
    def covers(model: Model, precision: str) -> bool:
        """Whether the model is one of those whose gradient is written out here."""
        return (
            isinstance(model, Autoencoder)
            and precision != "bfloat16"
            and _is_plain_posterior(model.posterior)
            and all(penalty.has_code_slope for penalty in model.penalties)
            and model.emphasis == 1
            and not model.has_double_loss
            and model.walkback == 0
            and _is_plain_likelihood(model)
            and all(_is_plain(network) for network in (model.encoder, model.decoder))
        )

    def __call__(self, batch: Batch, generator: torch.Generator, progress: float | Tensor) -> None:
        """Set the gradient of the mean over the rows, and add to the sums."""
        masked = batch.observed is not None
        key = (batch.input.shape[-2], masked, batch.weight is not None)
        if key not in self._passes:
            self._passes[key] = _Pass(self, batch)
        self._passes[key].run(batch, generator, progress)

    def collect(self, n_rows: Sequence[int], masked: bool) -> dict[str, Tensor]:
        """Sum of each term over the rows since the last `clear`, of shape (n_models,), in float64."""
        scale = torch.tensor([model.loss_scale for model in self.models], dtype=torch.float64)
        made = {name: total.flatten().double().cpu() / scale for name, total in self.sums.items()}
        if not masked and not self.models[0].counts_hidden_only:
            constants = torch.stack([_constants(model).sum() for model in self.models]).cpu()
            made["negative_log_likelihood"] += constants * torch.tensor(n_rows)
        return made

    def clear(self) -> None:
        """Set the sums to zero."""
        for total in self.sums.values():
            total.zero_()


def _is_plain_posterior(posterior) -> bool:
    if type(posterior) is DiagonalGaussian:
        return posterior.n_importance_samples == 1 and posterior.free_bits == 0 and posterior.has_normal_prior
    return type(posterior) is Point and posterior.activation == "identity"


def _is_plain_likelihood(model: Autoencoder) -> bool:
    if type(model.likelihood) is Mixed:
        return model.likelihood.has_slope and model.loss_scale == 1
    return type(model.likelihood) in (Gaussian, Bernoulli, Poisson)


def _is_plain(network: torch.nn.Module) -> bool:
    if type(network) is Shortcut:
        return not network.linear._other and (network.network is None or _is_plain(network.network))
    bent = type(network) is Dense and (network.activation in ACTIVATIONS or network.activation == "identity")
    return bent and network.dropout is None and network.input_dropout is None


def _constants(model: Autoencoder) -> Tensor:
    """What each entry adds to the loss whatever the weights, of shape (n_features,), in float64."""
    made = -model.log_jacobian.double()
    if isinstance(model.likelihood, Gaussian):
        made = made + 0.5 * math.log(2 * math.pi)
        if "log_scale" not in model._learnt:
            made = made + model.extras["log_scale"].double()
    return made


def _by_model(values: Sequence[float], like: Tensor) -> float | Tensor:
    """One number where all models have the same, or a tensor of shape (n_models, 1, 1)."""
    if max(values) - min(values) <= 1e-12 * abs(max(values)):
        return values[0]
    return like.new_tensor(values).view(-1, 1, 1)


class _Pass:
    """One step for batches of one shape, recorded on a tape."""

    def __init__(self, gradient: DenseGradient, batch: Batch) -> None:
        self.gradient, self.models, self.sums = gradient, gradient.models, gradient.sums
        model, like = self.models[0], batch.input
        self.tape = tape = Tape(like)
        self.leading, self.n_rows = like.shape[:-1], like.shape[-2]
        n_seen = gradient.encoder.n_in
        self.seen = tape.empty(*self.leading, n_seen)
        self.rows = self.seen[..., : model.n_features]
        self.classes = self.seen[..., n_seen - model.n_classes :]
        self.is_seen_as_given = model.corruption is None and model.conditioning is None
        same = self.is_seen_as_given and batch.target is batch.input
        shape = self.rows.shape
        self.target = self.rows if same else tape.empty(*shape)
        masked, weighted = batch.observed is not None or model.counts_hidden_only, batch.weight is not None
        self.observed = tape.empty(*shape) if masked else None
        has_offset = model.counts_hidden_only and not model.numbers_only
        self.offset = tape.empty(*shape) if has_offset else None
        # What a row counts in the mean: one number for all, or one a row.
        self.by_row = masked or weighted
        self.share = tape.empty(*((*self.leading, 1) if self.by_row else (1,))).fill_(1 / self.n_rows)
        self.loss_scale = _by_model([m.loss_scale for m in self.models], like)
        self._record()

    def run(self, batch: Batch, generator: torch.Generator, progress: float | Tensor) -> None:
        """Bring the batch to where the tape reads it, and run the tape."""
        if self.is_seen_as_given:
            self.rows.copy_(batch.input)
        else:
            self._see(batch, generator)
        if self.target is not self.rows and not self.models[0].preconditioned:
            self.target.copy_(batch.target[..., : self.target.shape[-1]])
        if batch.weight is not None:
            torch.mul(batch.weight.unsqueeze(-1), 1 / self.n_rows, out=self.share)
        if batch.observed is not None and not self.models[0].counts_hidden_only:
            self.observed.copy_(batch.observed[..., : self.observed.shape[-1]])
        if self.gradient.variational:
            self.noise.normal_(generator=generator)
            torch.mul(self._kl_unit, self.models[0].posterior.weight(progress), out=self._kl_share)
        for call in self.tape.calls:
            call()

    def _see(self, batch: Batch, generator: torch.Generator) -> None:
        n_features = self.models[0].n_features
        seen = [self.seen] if len(self.models) == 1 else self.seen.unbind(0)
        for index, (model, out) in enumerate(zip(self.models, seen, strict=True)):
            one = batch.of(index) if len(self.models) > 1 else batch
            step: Any = model.step(one.input, one.target, one.observed, generator=generator)
            out[:, :n_features].copy_(step.seen)
            made = [(self.target, step.target)] if model.preconditioned else []
            if model.counts_hidden_only:
                made += [(self.observed, step.counted), (self.offset, step.offset)]
            for buffer, values in made:
                if buffer is not None:
                    (buffer if len(self.models) == 1 else buffer[index]).copy_(values)
            if step.condition is not None:
                out[:, n_features:].copy_(step.condition)

    # What is recorded ------------------------------------------------------------------------

    def _record(self) -> None:
        gradient, tape = self.gradient, self.tape
        encoded, encoder_trace = gradient.encoder.forward(tape, self.seen)
        self.code, self.departure = encoded[..., : self.models[0].n_components], encoder_trace[-1]
        sample = self._sample(encoded) if gradient.variational else encoded
        eta, decoder_trace = gradient.decoder.forward(tape, self._with_classes(sample))
        if self.offset is not None:
            tape.do(eta.add_, self.offset)
        slope = self._likelihood(eta)
        slope = gradient.decoder.backward(tape, slope, decoder_trace, True)[..., : sample.shape[-1]]
        self.code_slope = slope
        if gradient.variational:
            slope = self._kl_divergence(slope)
        for name, penalty in zip(self.models[0].penalty_names, self.models[0].penalties, strict=True):
            if type(penalty) is Anchor and not gradient.variational:
                self._anchor(name, penalty)
            else:
                tape.do(self._penalty, name, penalty)
        gradient.encoder.backward(tape, slope, encoder_trace, False)

    def _with_classes(self, sample: Tensor) -> Tensor:
        """What is decoded: the sample, and the classes where there are any."""
        if not self.models[0].n_classes:
            return sample
        n_components = sample.shape[-1]
        made = self.tape.empty(*self.leading, n_components + self.classes.shape[-1])
        self.tape.do(made[..., :n_components].copy_, sample)
        self.tape.do(made[..., n_components:].copy_, self.classes)
        return made

    def _likelihood(self, eta: Tensor) -> Tensor:
        """Record the loss and its derivative with respect to `eta`."""
        model = self.models[0]
        if self.observed is not None:
            self.constants = torch.stack([_constants(m) * m.loss_scale for m in self.models]).to(eta).unsqueeze(-2)
            self.tape.do(self._count_constants)
        if isinstance(model.likelihood, Mixed):
            return self._mixed(eta)
        if not isinstance(model.likelihood, Gaussian):
            slope = torch.zeros_like(eta)
            self.tape.do(self._entries, eta, slope)
            return slope
        # eta becomes the residual.
        self.tape.do(eta.sub_, self.target)
        if self.observed is not None:
            self.tape.do(eta.mul_, self.observed)
        slope = torch.zeros_like(eta)
        if "log_scale" in model._learnt:
            return self._learnt_scale(eta, slope)
        # A scale that is fixed is the square root of loss_scale.
        self.tape.do(torch.mul, eta, self.share, out=slope)
        self.tape.add_dot(self.sums["negative_log_likelihood"], slope, eta, 0.5 * self.n_rows)
        return slope

    def _log_scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The learnt scales' logarithms and where their gradient is written, for tensors like this one."""
        parameter = self.models[0]._learnt["log_scale"]
        values, gradient = (part.unsqueeze(-2) for part in self.gradient.flat.of(parameter))
        return (values[0], gradient[0]) if like.ndim == 2 else (values, gradient)

    def _learnt_scale(self, residual: Tensor, slope: Tensor) -> Tensor:
        values, gradient = self._log_scale(residual)
        total, n_rows = self.sums["negative_log_likelihood"], self.n_rows
        counted = residual.new_full((*residual.shape[:-2], 1, residual.shape[-1]), 1.0)
        squared = torch.zeros_like(residual)

        def run() -> None:
            torch.mul(residual, torch.exp(-2 * values), out=slope)
            slope.mul_(self.share)
            if self.by_row:
                weight = self.share if self.observed is None else self.observed * self.share
                torch.sum(weight.expand_as(residual), -2, keepdim=True, out=counted)
            error = torch.mul(slope, residual, out=squared).sum(-2, keepdim=True)
            gradient.copy_((counted - error).sum_to_size(gradient.shape))
            loss = 0.5 * error + counted * values
            total.add_(loss.sum((-2, -1)).view(-1, 1, 1), alpha=n_rows)

        self.tape.do(run)
        return slope

    def _mixed(self, eta: Tensor) -> Tensor:
        """Record the loss of several kinds of columns, and its derivative with respect to `eta`."""
        likelihood, extras, slope = self.models[0].likelihood, self.models[0].extras, torch.zeros_like(eta)
        gradient, total = None, self.sums["negative_log_likelihood"]
        categorical = likelihood.is_categorical(eta.device).to(eta.dtype)
        if "log_scale" in self.models[0]._learnt:
            extras["log_scale"], gradient = self._log_scale(eta)

        def run() -> None:
            counted = self.share if self.observed is None else self.observed * self.share
            slope.copy_(likelihood.slope(eta, self.target, extras))
            if gradient is not None:
                by_scale = likelihood.scale_slope(eta, self.target, slope, counted)
                gradient.copy_(by_scale.sum_to_size(gradient.shape))
            # The target of a missing category is zero, which is the mask of a softmax: its columns share their slope.
            slope.mul_(counted if self.observed is None else torch.maximum(self.observed, categorical) * self.share)
            entries = likelihood.log_prob(eta, self.target, extras).mul_(counted)
            total.sub_(entries.sum((-2, -1)).view(-1, 1, 1), alpha=self.n_rows)

        self.tape.do(run)
        return slope

    def _entries(self, eta: Tensor, slope: Tensor) -> None:
        likelihood = self.models[0].likelihood
        torch.mul(likelihood.slope(eta, self.target), self.share, out=slope)
        entries = likelihood.log_prob(eta, self.target, {}).mul_(self.share)
        if self.observed is not None:
            slope.mul_(self.observed)
            entries.mul_(self.observed)
        self.sums["negative_log_likelihood"].sub_(entries.sum((-2, -1)).view(-1, 1, 1), alpha=self.n_rows)

    def _count_constants(self) -> None:
        made = self.observed * self.share * self.constants
        self.sums["negative_log_likelihood"].add_(made.sum((-2, -1)).view(-1, 1, 1), alpha=self.n_rows)

    def _sample(self, encoded: Tensor) -> Tensor:
        """Record z = μ + σ·ε."""
        tape, d = self.tape, self.models[0].n_components
        self.mean, self.raw = encoded[..., :d], encoded[..., d:]
        self.log_variance, self.scale, self.noise, sample = (tape.empty(*self.leading, d) for _ in range(4))
        tape.do(torch.clamp, self.raw, -30.0, 20.0, out=self.log_variance)
        tape.do(torch.mul, self.log_variance, 0.5, out=self.scale)
        tape.do(self.scale.exp_)
        tape.do(torch.addcmul, self.mean, self.scale, self.noise, out=sample)
        # The weight of a row's KL in the mean, before the factor that depends on the progress of training.
        unit = torch.as_tensor(self.loss_scale, dtype=encoded.dtype, device=encoded.device)
        self._kl_unit = unit if self.by_row else unit / self.n_rows
        self._kl_share = torch.zeros_like(self._kl_unit)
        return sample

    def _kl_divergence(self, slope: Tensor) -> Tensor:
        """Record β·KL and the gradient of the encoder's output; `slope` is that of the sample."""
        made = self.tape.empty(*self.leading, 2 * slope.shape[-1])
        mean_slope, variance_slope = made[..., : slope.shape[-1]], made[..., slope.shape[-1] :]
        variance, terms, inside = (self.tape.empty(*slope.shape) for _ in range(3))
        total = self.sums["kl_divergence"]

        def run() -> None:
            weight = self._kl_share * self.share if self.by_row else self._kl_share
            torch.mul(self.scale, self.scale, out=variance)
            torch.addcmul(variance, self.mean, self.mean, out=terms)
            terms.sub_(self.log_variance).sub_(1.0).mul_(weight)
            total.add_(terms.sum((-2, -1)).view(-1, 1, 1), alpha=0.5 * self.n_rows)
            torch.addcmul(slope, self.mean, weight, out=mean_slope)
            torch.mul(slope, self.noise, out=variance_slope)
            variance_slope.mul_(self.scale)
            variance_slope.addcmul_(variance.sub_(1.0), weight)
            torch.eq(self.raw, self.log_variance, out=inside)
            variance_slope.mul_(inside).mul_(0.5)

        self.tape.do(run)
        self.code_slope = mean_slope
        return made

    def _anchor(self, name: str, penalty: Anchor) -> None:
        """Record ½·‖departure‖², which is in the units of the loss times its scale."""
        if self.departure is None:
            return
        departure = self.departure[..., : self.code.shape[-1]]
        if self.by_row:
            weighted = torch.zeros_like(departure)
            self.tape.do(torch.mul, departure, self.share, out=weighted)
            factor = penalty.weight
        else:
            weighted, factor = departure, penalty.weight / self.n_rows
        self.tape.do(self.code_slope.add_, weighted, alpha=factor)
        self.tape.add_dot(self.sums[name], weighted, departure, 0.5 * factor * self.n_rows)

    def _penalty(self, name: str, penalty: Penalty) -> None:
        """A penalty of the code and its slope, model by model."""
        for index, model in enumerate(self.models):

            def of(tensor, index=index):
                return tensor[index] if tensor is not None and tensor.ndim == 3 else tensor

            step: Any = CodeStep(of(self.code), of(self.departure))
            share, scale = of(self.share), penalty.weight * model.penalty_unit * model.loss_scale
            of(self.code_slope).add_(penalty.code_slope(step) * share, alpha=scale)
            loss = (penalty(step).unsqueeze(-1) * share).sum()
            self.sums[name][index].add_(loss, alpha=scale * self.n_rows)


class CodeStep:
    """What a penalty of the code alone may read of a step, without autograd.

    Attributes
    ----------
    code : Tensor of shape (n_rows, n_components)
    departure : Tensor of shape (n_rows, n_components)
        What the network adds to the linear path's code; zero without a path.
    """

    def __init__(self, code: Tensor, departure: Tensor | None) -> None:
        d = code.shape[1]
        self.code = code
        self.departure = torch.zeros_like(code) if departure is None else departure[:, :d]
