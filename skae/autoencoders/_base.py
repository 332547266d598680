"""What all autoencoders share: code, reconstruction, score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted

from skae.autoencoders._estimator import CHUNK_ELEMENTS, UnsupervisedEstimator
from skae.autoencoders._fitting import Fitting
from skae.base.estimators import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from skae.model.autoencoder import Autoencoder
from skae.model.penalties import Anchor
from skae.model.posteriors import Point
from skae.model.scaling import Columns
from skae.model.settings import own_settings
from skae.tables._containers import plain_rows
from skae.training.batches import RawRows


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, UnsupervisedEstimator):
    """Base of the autoencoders: everything but the constructor and the parts of the model.

    The hooks of a named one are `_network_part`, `_likelihood_part`, `_posterior`,
    `_corruption_part`, `_penalty_parts`, `_conditioning`, `_emphasis` and `_walkback`.
    """

    # Hooks -----------------------------------------------------------------------------------

    def _posterior(self):
        """The posterior part."""
        return Point()

    def _penalty_parts(self):
        """The penalty parts: those asked for; by default the anchor, where the fit starts at PCA."""
        penalties = getattr(self, "penalties", ())
        if isinstance(penalties, str):
            return [Anchor()] if self._parameter("init") == "pca" else []
        return list(penalties)

    def _conditioning(self):
        """What the encoder is conditioned on beside the row: None, "noise_level", "mask" or "class"."""
        return None

    @property
    def _sees_gaps(self) -> bool:
        """Whether the encoder receives which entries are missing, so that a filled gap is not one to it."""
        return self._conditioning() == "mask"

    def _emphasis(self):
        """The weight of corrupted entries."""
        return 1.0

    def _walkback(self):
        """Most further steps of corrupting and drawing before a row is rebuilt."""
        return 0

    def _build_model(self, fitting: Fitting, columns: Columns, n_components: int) -> Autoencoder:
        """A model of the fit's parts."""
        return Autoencoder(
            fitting.network,
            self._posterior(),
            fitting.likelihood,
            columns,
            n_components,
            corruption=fitting.corruption,
            penalties=self._penalty_parts(),
            conditioning=self._conditioning(),
            emphasis=self._emphasis(),
            walkback=self._walkback(),
            shortcut=self._parameter("init") == "pca",
            class_prior=self._class_prior(),
        )

    def _start_model(self, model: Autoencoder, raw: RawRows, fitting: Fitting) -> None:
        """Let the posterior set what it learns by training rows."""
        n_rows = model.posterior.n_start_rows
        if n_rows:
            model.posterior.start_from_rows(model, fitting.some_rows(raw, model, n_rows), fitting.cpu_generator)

    # Using -----------------------------------------------------------------------------------

    def transform(self, X) -> Any:
        """Encode X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN marks an entry as not observed.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Codes, in the dtype of X (float64 for integers).
        """
        return self._map_rows(X, lambda model, step: step.code * model.code_unit, self._code_width)

    def _code_width(self) -> int:
        return self.n_components_

    @own_settings()
    def inverse_transform(self, X) -> Any:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Expected rows in the units of the training data; with likelihood="mixed" a table like
            that of fit. A frame where `set_output` asks for one.
        """
        codes = self._checked_codes(X)
        if codes.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {codes.shape[1]} columns, but {type(self).__name__} has {self.n_components_} components."
            )
        model = self._model(codes.dtype)
        device = model.reference.device
        out = np.empty((len(codes), model.n_features), dtype=codes.dtype)
        step = max(1, CHUNK_ELEMENTS // max(model.n_features, 1))
        with torch.inference_mode(), self._threads_for(len(codes)):
            for start in range(0, len(codes), step):
                z = self._latent(model, torch.tensor(codes[start : start + step], device=device))
                rows = model.scaling.from_target(model.expected(z))
                out[start : start + step] = rows.cpu().numpy()
        return self._as_table(out, X)

    def _checked_codes(self, X) -> np.ndarray:
        check_is_fitted(self)
        return check_array(plain_rows(X), dtype=(np.float64, np.float32), estimator=self, input_name="X")

    def _latent(self, model, codes: torch.Tensor) -> torch.Tensor:
        """What the decoder reads of codes as `transform` returns them."""
        return codes / model.code_unit

    def reconstruct(self, X) -> Any:
        """Encode and decode X; entries that are NaN come back filled.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, n_features_in_)
            Expected rows in the units of X. With likelihood="mixed" a table like that of fit, in the
            container and with the index of X: of a category the most likely one. A frame where
            `set_output` asks for one.
        """
        return self._rebuilt(X, lambda step: step)

    def _rebuilt(self, X, told):
        """Rows rebuilt from their codes, of the step that `told` makes of a step."""
        rows = self._map_rows(X, lambda model, step: model.scaling.from_target(told(step).rebuilt), self._n_columns)
        return self._as_table(rows, X)

    def score_samples(self, X) -> np.ndarray:
        """Log-likelihood of each row given its code; higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; entries that are NaN do not count.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            log p(x | z) in nats. With the Gaussian likelihood and a point code this is minus half
            the squared error, and a constant.
        """
        return self._scores(X, lambda model, step: step.log_likelihood)

    def score(self, X, y=None, sample_weight=None) -> float:
        """Mean of `score_samples`, so that model selection needs no y; but see `HeldOutEntries` for `n_components`.

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
        scores = self.score_samples(X)
        if sample_weight is None:
            return float(np.mean(scores))
        return float(np.average(scores, weights=_check_sample_weight(plain_rows(sample_weight), scores)))

    # Results ---------------------------------------------------------------------------------

    def _set_fitted(self, model: Autoencoder, attributes: dict) -> None:
        """Set what fitting found, and what readers of PCA read where the encoder is as linear as PCA is."""
        super()._set_fitted(model, attributes)
        for name in ("components_", "mean_"):
            self.__dict__.pop(name, None)
        if model.linear_encoder is not None and "table_encoder_" not in vars(self):
            self.components_, self.mean_ = linear_map(model)

    # Conventions -----------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self):
        """The dtype of X is kept."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def linear_map(model: Autoencoder) -> tuple[np.ndarray, np.ndarray]:
    """A and m with codes A (x − m), of shape (n_components, n_features) and (n_features,), of a linear encoder."""
    layer, d = model.linear_encoder, model.n_components
    units = model.scaling.units(torch.zeros(0, dtype=torch.float64))
    with torch.no_grad():
        weight, bias = (each[:d].double().cpu() * model.code_unit for each in (layer.matrix(), layer.bias))
    components, mean = (weight / units.spread).numpy(), model.scaling.columns.mean.cpu().numpy().copy()
    # A start at PCA has no bias; what training adds to it moves the mean.
    return components, mean - np.linalg.pinv(components) @ bias.numpy() if bias.any() else mean
