"""What was learnt: derivatives, paths and grids of codes, files for a viewer, and displays in scikit-learn's manner."""

from skae.inspection._decoding import analogy, decode_grid, interpolate
from skae.inspection._filters import FiltersDisplay
from skae.inspection._imputation import ImputationDisplay
from skae.inspection._jacobian import jacobian, tangents
from skae.inspection._jacobian_spectrum import JacobianSpectrumDisplay
from skae.inspection._latent_space import LatentSpaceDisplay
from skae.inspection._latent_traversal import LatentTraversalDisplay
from skae.inspection._loss_curve import LossCurveDisplay
from skae.inspection._manifold import ManifoldDisplay
from skae.inspection._outlier_scores import OutlierScoresDisplay
from skae.inspection._projector import export_projector
from skae.inspection._reconstruction import ReconstructionDisplay

__all__ = [
    "FiltersDisplay",
    "ImputationDisplay",
    "JacobianSpectrumDisplay",
    "LatentSpaceDisplay",
    "LatentTraversalDisplay",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "OutlierScoresDisplay",
    "ReconstructionDisplay",
    "analogy",
    "decode_grid",
    "export_projector",
    "interpolate",
    "jacobian",
    "tangents",
]
