"""Every estimator through every shared check."""

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks as checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import (
    GAN,
    RBM,
    VAE,
    VQVAE,
    AdversarialAE,
    AutoencoderClassifier,
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    ContractiveAE,
    ConvAE,
    DenoisingAE,
    GaussianNoise,
    LogisticPCA,
    MaskedAE,
    PredictiveSparseDecomposition,
    SemanticHashing,
    SparseAE,
    StackedAE,
    TableEncoder,
)

DENOISER = DenoisingAE(
    4,
    hidden_layer_sizes=(8,),
    init="random",
    corruption=GaussianNoise((0.05, 2.0)),
    conditioning="noise_level",
    max_iter=3,
    early_stopping=False,
)
ESTIMATORS = [
    AutoencoderTransformer(max_iter=3),
    AutoencoderTransformer(likelihood="mixed", max_iter=3),
    LogisticPCA(max_iter=3),
    DenoisingAE(max_iter=3),
    ContractiveAE(max_iter=3),
    SparseAE(max_iter=3),
    SparseAE(penalty="kl", max_iter=3),
    ConvAE(max_iter=3),
    VAE(max_iter=3),
    VAE(prior="vamp", max_iter=3),
    VAE(conditional=True, max_iter=3),
    VAE(missingness="self_masking", n_importance_samples=3, max_iter=3),
    AdversarialAE(max_iter=3),
    RBM(max_iter=3),
    RBM(visible="gaussian", hidden="gaussian", persistent=True, max_iter=3),
    StackedAE(pretraining_iter=2, max_iter=3),
    StackedAE(layer="rbm", pretraining_iter=2, max_iter=3),
    GAN(max_iter=3),
    GAN(conditional=True, max_iter=3),
    AutoencoderClassifier(AutoencoderTransformer(max_iter=3), max_iter=20),
    SemanticHashing(max_iter=3),
    VQVAE(max_iter=3),
    PredictiveSparseDecomposition(max_iter=3),
    AutoencoderOutlierDetector(DENOISER),
    # Of clean rows "auto" may flag none, and a check wants one.
    AutoencoderOutlierDetector(DENOISER, novelty=True, contamination=0.05),
    TableEncoder(),
    MaskedAE(max_iter=3),
    AutoencoderImputer(MaskedAE(4, hidden_layer_sizes=(8,), max_iter=2, early_stopping=False)),
]
FURTHER_CHECKS = [
    checks.check_param_validation,
    checks.check_dataframe_column_names_consistency,
    checks.check_inplace_ensure_writeable,
]
TRANSFORMER_CHECKS = [
    checks.check_set_output_transform,
    checks.check_set_output_transform_pandas,
    checks.check_set_output_transform_polars,
    checks.check_global_output_transform_pandas,
    checks.check_global_set_output_transform_polars,
    checks.check_transformer_get_feature_names_out,
    checks.check_transformer_get_feature_names_out_pandas,
    checks.check_get_feature_names_out_error,
]
FURTHER = [
    pytest.param(check, estimator, id=f"{check.__name__}-{type(estimator).__name__}")
    for estimator in ESTIMATORS
    for check in (*FURTHER_CHECKS, *(TRANSFORMER_CHECKS if hasattr(estimator, "transform") else ()))
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# These checks fit on a frame and transform an array, whoever the estimator is.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize(("check", "estimator"), FURTHER)
def test_further_scikit_learn_checks(check, estimator):
    check(type(estimator).__name__, clone(estimator))
