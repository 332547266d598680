"""What is kept of a fit: clones, copies, pickles, and their size."""

import copy
import io
import pickle
import pickletools

import joblib
import numpy as np
import pytest
import torch
from registry import ESTIMATORS, LIKELIHOODS, NETWORKS, PENALTIES, assert_same_state, over, real, shares
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skae import VAE, AutoencoderTransformer, DenoisingAE, Masking, SparseAE

P = 5
KEPT = {
    **ESTIMATORS,
    "SparseAE-kl": SparseAE(4, penalty="kl", max_iter=2),
    "VAE-options": VAE(2, beta=2.0, free_bits=0.1, n_importance_samples=3, max_iter=2),
    "DenoisingAE-mask": DenoisingAE(2, corruption=Masking(), conditioning="mask", emphasis=2.0, max_iter=2),
    **{f"network-{name}": AutoencoderTransformer(2, network=n, max_iter=2) for name, n in NETWORKS.items()},
    **{
        f"tied-{init}": AutoencoderTransformer(2, network=NETWORKS["tied"], init=init, max_iter=2)
        for init in ("random",)
    },
    **{f"penalty-{name}": AutoencoderTransformer(2, penalties=[p], max_iter=2) for name, p in PENALTIES.items()},
}


def _by_joblib(ae):
    file = io.BytesIO()
    joblib.dump(ae, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {"pickle": lambda ae: pickle.loads(pickle.dumps(ae)), "joblib": _by_joblib, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", **over(WAYS))
@pytest.mark.parametrize("estimator", **over(KEPT))
def test_round_trips_keep_every_bit(estimator, way, nothing_global_changed):
    X = shares(70, P)
    ae = clone(estimator).set_params(random_state=0).fit(X)
    other = way(ae)
    assert_same_state(ae, other)
    for rows in (X, X.astype(np.float32)):
        for method in ("transform", "reconstruct", "score_samples"):
            np.testing.assert_array_equal(getattr(ae, method)(rows), getattr(other, method)(rows))
    if hasattr(ae, "inverse_transform"):
        codes = ae.transform(X)
        np.testing.assert_array_equal(ae.inverse_transform(codes), other.inverse_transform(codes))
    assert other.loss_curve_ == ae.loss_curve_ and other.n_iter_ == ae.n_iter_
    # It goes on from there as the original does without its optimizer.
    assert np.isfinite(other.partial_fit(X).transform(X)).all()


@pytest.mark.parametrize("example", **over(LIKELIHOODS))
def test_every_likelihood_makes_the_round_trip(example):
    X = example.rows(70, P)
    vae = VAE(2, hidden_layer_sizes=(6,), likelihood=clone(example.part), max_iter=2, random_state=0).fit(X)
    other = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(vae.score_samples(X), other.score_samples(X))
    np.testing.assert_array_equal(vae.sample(3, random_state=0), other.sample(3, random_state=0))


@pytest.mark.parametrize("estimator", **over(KEPT))
def test_clones_are_unfitted_and_refit_the_same(estimator):
    X = shares(70, P)
    ae = clone(estimator).set_params(random_state=0).fit(X)
    other = clone(ae)
    assert not hasattr(other, "model_") and repr(other) == repr(ae)
    assert_same_state(ae, other.fit(X))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "both"])
@pytest.mark.parametrize("estimator", [AutoencoderTransformer, DenoisingAE, VAE])
def test_a_pickle_holds_little_beside_the_weights(estimator, method):
    X = real(3000, 40)
    ae = estimator(8, hidden_layer_sizes=(256, 128), max_iter=1, early_stopping=False, random_state=0)
    for each in ("fit", "partial_fit") if method == "both" else (method,):
        getattr(ae, each)(X)
    ae.transform(X[:10]), ae.score_samples(X[:10])
    weights = 4 * sum(parameter.numel() for parameter in ae.model_.parameters())
    for dumped in (pickle.dumps(ae), pickle.dumps(ae.model_)):
        assert len(dumped) <= 1.1 * weights + 50_000
        assert len(dumped) < X.nbytes / 2
        named = {arg for _, arg, _ in pickletools.genops(dumped) if isinstance(arg, str)}
        assert not any(
            word in name for name in named for word in ("torch.optim", "Trainer", "torch._utils", "Generator")
        )


def test_a_logistic_pca_is_small_too():
    ae = ESTIMATORS["LogisticPCA"]
    X = shares(500, 60)
    ae = clone(ae).fit(X)
    assert len(pickle.dumps(ae)) <= 1.1 * 4 * sum(p.numel() for p in ae.model_.parameters()) + 50_000


def test_fitting_keeps_no_hold_on_the_data():
    X = real(200, P)
    ae = AutoencoderTransformer(2, max_iter=2, random_state=0).fit(X)
    before = ae.transform(X[:5].copy())
    rows = X[:5].copy()
    X[:] = 0
    np.testing.assert_array_equal(ae.transform(rows), before)


def test_a_pickle_of_an_unfitted_estimator_is_unfitted():
    for ae in ESTIMATORS.values():
        other = pickle.loads(pickle.dumps(clone(ae)))
        with pytest.raises(Exception, match="is not fitted yet"):
            check_is_fitted(other)


def test_parameters_have_storage_of_their_own():
    """Not views of the trainer's vector, which would live as long as any of them."""
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(real(70, P))
    for parameter in ae.model_.parameters():
        assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()
        assert parameter.grad is None


def test_the_model_is_a_module_to_be_used_by_those_who_know_torch():
    X = real(70, P)
    ae = AutoencoderTransformer(2, hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X)
    model = ae.model_
    assert isinstance(model, torch.nn.Module) and not model.training
    with torch.no_grad():
        z, _ = model.scaling.input(torch.tensor(X, dtype=torch.float32))
        code = model.encode(z) * model.code_unit
    np.testing.assert_allclose(code, ae.transform(X.astype(np.float32)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", **over(ESTIMATORS))
def test_what_inference_keeps_can_be_trained(estimator, dtype):
    """Constants that are first needed in `transform` of a copy are not tensors of inference mode."""
    X = shares(70, P).astype(dtype)
    ae = pickle.loads(pickle.dumps(clone(estimator).fit(shares(70, P))))
    ae.transform(X)
    model = ae._model(dtype)
    kept = [*model.parameters(), *model.buffers(), *model.scaling.units(model.reference)]
    assert not any(tensor.is_inference() for tensor in kept)
    # As in the taking over of a layer: a product that keeps both sides for the gradient.
    with torch.enable_grad():
        (
            model.scaling.units(model.reference).spread * torch.ones(P, requires_grad=True, dtype=model.reference.dtype)
        ).sum().backward()
