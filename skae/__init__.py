"""Autoencoders as scikit-learn estimators."""

from skae.anomaly._detector import AutoencoderOutlierDetector
from skae.autoencoders._adversarial import AdversarialAE
from skae.autoencoders._autoencoder import AutoencoderTransformer
from skae.autoencoders._classifier import AutoencoderClassifier
from skae.autoencoders._contractive import ContractiveAE
from skae.autoencoders._conv import ConvAE
from skae.autoencoders._denoising import DenoisingAE
from skae.autoencoders._gan import GAN
from skae.autoencoders._hashing import SemanticHashing
from skae.autoencoders._logistic_pca import LogisticPCA
from skae.autoencoders._masked import MaskedAE
from skae.autoencoders._predictive_sparse import PredictiveSparseDecomposition
from skae.autoencoders._rbm import RBM
from skae.autoencoders._sparse import SparseAE
from skae.autoencoders._stacked import StackedAE
from skae.autoencoders._vae import VAE
from skae.autoencoders._vq_vae import VQVAE
from skae.imputation._held_out import HeldOutEntries
from skae.imputation._imputer import AutoencoderImputer
from skae.model.adversarial import AdversarialCode
from skae.model.bounded_gaussian import BoundedGaussian
from skae.model.contraction import Contraction
from skae.model.conv_network import ConvNetwork
from skae.model.corruptions import GaussianNoise, Masking, SaltAndPepper, Swap
from skae.model.divergences import MaximumMeanDiscrepancy, TotalCorrelation
from skae.model.likelihoods import Bernoulli, Gaussian, Poisson, StudentT
from skae.model.missingness import SelfMasking
from skae.model.mixed import Mixed
from skae.model.multinomial import Multinomial
from skae.model.negative_binomial import NegativeBinomial
from skae.model.networks import DenseNetwork
from skae.model.penalties import Anchor, GaussianCode, LaplaceCode
from skae.model.priors import MixturePrior, NormalPrior, SwissRollPrior, UniformPrior, VampPrior
from skae.model.sparsity import ActivationPenalty
from skae.tables._encoder import TableEncoder
from skae.training.early_stopping import EarlyStopping
from skae.training.optimizers import LBFGS, SGD, AdamW

__version__ = "0.1.0.dev0"

__all__ = [
    "ActivationPenalty",
    "AdamW",
    "AdversarialAE",
    "AdversarialCode",
    "Anchor",
    "AutoencoderClassifier",
    "AutoencoderImputer",
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "Bernoulli",
    "BoundedGaussian",
    "Contraction",
    "ContractiveAE",
    "ConvAE",
    "ConvNetwork",
    "DenoisingAE",
    "DenseNetwork",
    "EarlyStopping",
    "GAN",
    "Gaussian",
    "GaussianCode",
    "GaussianNoise",
    "HeldOutEntries",
    "LBFGS",
    "LaplaceCode",
    "LogisticPCA",
    "MaskedAE",
    "Masking",
    "MaximumMeanDiscrepancy",
    "Mixed",
    "MixturePrior",
    "Multinomial",
    "NegativeBinomial",
    "NormalPrior",
    "Poisson",
    "PredictiveSparseDecomposition",
    "RBM",
    "SGD",
    "SaltAndPepper",
    "SelfMasking",
    "SemanticHashing",
    "SparseAE",
    "StackedAE",
    "StudentT",
    "Swap",
    "SwissRollPrior",
    "TableEncoder",
    "TotalCorrelation",
    "UniformPrior",
    "VAE",
    "VQVAE",
    "VampPrior",
]
