"""A row has the same score, label and p-value alone as among others, also where many rows are equal."""

import numpy as np
import pytest
from registry import over
from sklearn.base import clone

from skae import VAE, AutoencoderOutlierDetector, AutoencoderTransformer, DenoisingAE, GaussianNoise, MaskedAE
from skae.anomaly import DenoisingError, NeighborDistance, ReconstructionError, RobustDistance

SHORT = {"max_iter": 3, "early_stopping": False}
DENOISER = DenoisingAE(
    4,
    hidden_layer_sizes=(16,),
    init="random",
    corruption=GaussianNoise((0.05, 2.0)),
    conditioning="noise_level",
    **SHORT,
)
NEAR = [DenoisingError((0.08,)), NeighborDistance(), NeighborDistance(columns="rank")]
COARSE = [DenoisingError((0.08,)), RobustDistance(1.0), NeighborDistance(max_samples=64, columns="robust")]
LINEAR = AutoencoderTransformer(2, hidden_layer_sizes=())
DETECTORS = {
    "novelty": AutoencoderOutlierDetector(DENOISER, scorer=NEAR, novelty=True, n_estimators=2, random_state=0),
    "polluted": AutoencoderOutlierDetector(DENOISER, scorer=COARSE, n_estimators=2, random_state=0),
    "one": AutoencoderOutlierDetector(LINEAR, n_estimators=1, random_state=0),
    "share": AutoencoderOutlierDetector(LINEAR, contamination=0.1, random_state=0),
    "exact": AutoencoderOutlierDetector(AutoencoderTransformer(4, hidden_layer_sizes=()), random_state=0),
    "vae": AutoencoderOutlierDetector(VAE(2, hidden_layer_sizes=(8,), **SHORT), random_state=0),
    "masked": AutoencoderOutlierDetector(MaskedAE(4, hidden_layer_sizes=(8,), **SHORT), n_estimators=2, random_state=0),
    "list": AutoencoderOutlierDetector([LINEAR, DENOISER], scorer=ReconstructionError(), random_state=0),
}


def _discrete(n, seed, gaps=False):
    """Rows of few values, which occur many times each."""
    rng = np.random.default_rng(seed)
    cause = rng.standard_normal(n)
    columns = (cause + rng.standard_normal(n) > 0, rng.poisson(1, n), np.round(cause), rng.integers(0, 3, n))
    rows = np.column_stack(columns).astype(float)
    return np.where(rng.random(rows.shape) < 0.1, np.nan, rows) if gaps else rows


@pytest.mark.parametrize("gaps", [False, True], ids=["full", "gaps"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("detector", **over(DETECTORS))
def test_a_row_alone_is_judged_as_in_a_batch(detector, dtype, gaps):
    fitted = clone(detector).fit(_discrete(300, 0, gaps).astype(dtype))
    rows = _discrete(230, 1, gaps).astype(dtype)
    labels, p, scores = fitted.predict(rows), fitted.p_values(rows), fitted.score_samples(rows)
    pieces = [slice(i, i + 1) for i in range(12)] + [slice(12, 15), slice(15, 80), slice(80, 230)]
    for name, together in (("predict", labels), ("p_values", p)):
        np.testing.assert_array_equal(
            np.concatenate([getattr(fitted, name)(rows[piece]) for piece in pieces]), together
        )
    alone = np.concatenate([fitted.score_samples(rows[piece]) for piece in pieces])
    tolerance = 1e-5 if dtype == np.float32 else 1e-8
    np.testing.assert_allclose(alone, scores, rtol=tolerance, atol=tolerance * np.median(np.abs(scores)))


@pytest.mark.parametrize("detector", **over({name: DETECTORS[name] for name in ("novelty", "polluted", "one")}))
def test_copies_of_a_row_have_one_label_and_one_p_value(detector):
    fitted = clone(detector).fit(_discrete(300, 0))
    rows = _discrete(500, 1)
    _, kind = np.unique(rows, axis=0, return_inverse=True)
    labels, p = fitted.predict(rows), fitted.p_values(rows)
    for each in range(kind.max() + 1):
        assert np.ptp(labels[kind.ravel() == each]) == 0 and np.ptp(p[kind.ravel() == each]) == 0


def test_explanations_and_streams_do_not_know_the_batch():
    fitted = clone(DETECTORS["polluted"]).fit(_discrete(300, 0))
    rows = _discrete(20, 2)
    shown = fitted.explain(rows)
    for index in (0, 7):
        alone = fitted.explain(rows[index : index + 1])
        np.testing.assert_allclose(alone.to_numpy()[0], shown.to_numpy()[index], rtol=1e-6, atol=1e-6)
    fitted.partial_fit(rows)
    p = fitted.p_values(rows)
    np.testing.assert_array_equal(np.concatenate([fitted.p_values(row[None]) for row in rows[:8]]), p[:8])


def test_products_of_few_and_of_many_rows_are_rounded_differently():
    """The contrast: what the detector keeps from the scores."""
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((512, 300)).astype(np.float32), rng.standard_normal((300, 64)).astype(np.float32)
    assert not np.array_equal((X[:1] @ W)[0], (X @ W)[0])
