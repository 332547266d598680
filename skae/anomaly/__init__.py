"""Anomaly detection: the scorers of `skae.AutoencoderOutlierDetector`."""

from skae.anomaly._scorers import (
    CodeDensity,
    DenoisingError,
    NegativeLogLikelihood,
    NeighborDistance,
    ReconstructionError,
    RobustDistance,
    Scorer,
)

__all__ = [
    "CodeDensity",
    "DenoisingError",
    "NegativeLogLikelihood",
    "NeighborDistance",
    "ReconstructionError",
    "RobustDistance",
    "Scorer",
]
