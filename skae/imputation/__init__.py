"""Filling gaps."""

from skae.imputation._imputer import AutoencoderImputer

__all__ = ["AutoencoderImputer"]
