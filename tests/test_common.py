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
    AutoencoderTransformer,
    ContractiveAE,
    ConvAE,
    DenoisingAE,
    LogisticPCA,
    PredictiveSparseDecomposition,
    SemanticHashing,
    SparseAE,
    StackedAE,
)

ESTIMATORS = [
    AutoencoderTransformer(max_iter=3),
    LogisticPCA(max_iter=3),
    DenoisingAE(max_iter=3),
    ContractiveAE(max_iter=3),
    SparseAE(max_iter=3),
    SparseAE(penalty="kl", max_iter=3),
    ConvAE(max_iter=3),
    VAE(max_iter=3),
    VAE(prior="vamp", max_iter=3),
    AdversarialAE(max_iter=3),
    RBM(max_iter=3),
    RBM(visible="gaussian", hidden="gaussian", persistent=True, max_iter=3),
    StackedAE(pretraining_iter=2, max_iter=3),
    StackedAE(layer="rbm", max_iter=3),
    GAN(max_iter=3),
    AutoencoderClassifier(),
    SemanticHashing(max_iter=3),
    VQVAE(max_iter=3),
    PredictiveSparseDecomposition(max_iter=3),
]
FURTHER_CHECKS = [
    checks.check_param_validation,
    checks.check_set_output_transform,
    checks.check_set_output_transform_pandas,
    checks.check_set_output_transform_polars,
    checks.check_global_output_transform_pandas,
    checks.check_global_set_output_transform_polars,
    checks.check_transformer_get_feature_names_out,
    checks.check_transformer_get_feature_names_out_pandas,
    checks.check_get_feature_names_out_error,
    checks.check_dataframe_column_names_consistency,
    checks.check_inplace_ensure_writeable,
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# These checks fit on a frame and transform an array, whoever the estimator is.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("check", FURTHER_CHECKS, ids=lambda c: c.__name__)
def test_further_scikit_learn_checks(estimator, check):
    check(type(estimator).__name__, clone(estimator))
