"""The torch module of a fitted estimator, called as one: rows in, reconstructions out, in the units of the data."""

import numpy as np
import pandas as pd
import pytest
import torch
from registry import ESTIMATORS, over, shares
from sklearn.base import clone

from skae import GAN, AutoencoderClassifier, AutoencoderTransformer


@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_a_module_rebuilds_rows(estimator):
    X = 3 + 50 * shares(40, 4) if hasattr(estimator, "likelihood") else shares(40, 4)
    fitted = clone(estimator).fit(X)
    X[3, 1] = np.nan
    with torch.no_grad():
        made = fitted.model_.in_float64()(torch.from_numpy(X)).numpy()
        np.testing.assert_allclose(made, fitted.reconstruct(X).reshape(made.shape), rtol=1e-9, atol=1e-9)
        in_float32 = fitted.model_(torch.from_numpy(X))
    assert in_float32.dtype == torch.float32 and in_float32.isfinite().all()


def test_a_module_has_derivatives():
    X = torch.from_numpy(shares(20, 4)).requires_grad_()
    fitted = AutoencoderTransformer(2, hidden_layer_sizes=8, max_iter=2, random_state=0).fit(X.detach().numpy())
    fitted.model_(X).sum().backward()
    assert X.grad.abs().sum() > 0


def test_a_module_of_tables_takes_their_matrix():
    table = pd.DataFrame({"number": np.arange(60.0), "word": pd.Categorical(list("abc") * 20)})
    fitted = AutoencoderTransformer(2, hidden_layer_sizes=8, likelihood="mixed", max_iter=2, random_state=0).fit(table)
    matrix = np.asarray(fitted.table_encoder_.transform(table), dtype=np.float64)
    with torch.no_grad():
        made = fitted.model_.in_float64()(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(made[:, 0], fitted.reconstruct(table)["number"], rtol=1e-9)


def test_a_module_of_a_classifier_gives_logits():
    X = shares(40, 4)
    y = (X[:, 0] > np.median(X[:, 0])).astype(int) + (X[:, 1] > 0.8)
    linear = AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2)
    fitted = AutoencoderClassifier(linear, max_iter=2, random_state=0).fit(X, y)
    with torch.no_grad():
        logits = fitted.model_.in_float64()(torch.from_numpy(X))
    np.testing.assert_allclose(logits.softmax(1).numpy(), fitted.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_module_of_a_gan_gives_rows_for_codes(conditional):
    X = 100 + 10 * shares(40, 4)
    y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    fitted = GAN(2, conditional=conditional, max_iter=2, random_state=0).fit(X, y)
    classes = torch.eye(2).repeat(3, 1) if conditional else None
    with torch.no_grad():
        made = fitted.model_(torch.zeros(6, 2), classes)
    assert made.shape == (6, 4) and (made - 100).abs().max() < 50
