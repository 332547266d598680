"""Tangents of a surface that is known: a part of a sphere in 50 dimensions."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, GaussianNoise
from skae.inspection import jacobian, tangents

SHORT = {"early_stopping": False, "random_state": 0}


def sphere(longitude, latitude, basis):
    """Points of a sphere of radius 3 in the span of three orthonormal rows, and bases of its tangent planes."""
    a, b, zero = longitude, latitude, np.zeros_like(longitude)
    points = [np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)]
    east = [np.cos(a), zero, -np.sin(a)]
    north = [-np.sin(a) * np.sin(b), np.cos(b), -np.cos(a) * np.sin(b)]
    points, east, north = (np.stack(vectors, axis=1) @ basis for vectors in (points, east, north))
    return 3 * points, np.stack([east, north], axis=1)


def largest_angle(planes, others):
    """The larger of the two principal angles between planes that are given by orthonormal rows."""
    cosines = np.linalg.svd(planes @ np.swapaxes(others, 1, 2), compute_uv=False)
    return np.arccos(np.clip(cosines.min(axis=1), -1, 1))


@pytest.fixture(scope="module")
def surface():
    """Training rows, and others with their tangent planes, not at the edge, where one side is unknown."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((50, 3)))[0].T
    X_train, _ = sphere(*rng.uniform(-0.8, 0.8, (2, 1000)), basis)
    return X_train, *sphere(*rng.uniform(-0.65, 0.65, (2, 300)), basis)


def test_an_insensitive_encoders_tangents_are_the_surfaces(surface):
    X_train, X, planes = surface
    # Noise of the root-mean-square spread of the 50 columns, a fifth of that of the surface's own directions.
    # Three components: beyond the rank of the rows, a start at PCA depends on rounding.
    noise = GaussianNoise(1.0)
    noisy = AutoencoderTransformer(3, corruption=noise, penalties=[], max_iter=300, **SHORT).fit(X_train)
    values, vectors = tangents(noisy, X)
    angle = largest_angle(vectors[:, :2], planes)
    assert np.mean(angle) < 0.1
    assert np.quantile(angle, 0.95) < 0.15
    # Two are large.
    spectrum = values.mean(axis=0)
    assert spectrum[1] > 0.5 * spectrum[0]
    assert spectrum[2] < 0.1 * spectrum[1]


def test_one_plane_for_all_rows_is_far_from_theirs(surface):
    """The surface is curved: what is found above is not PCA's plane."""
    X_train, X, planes = surface
    flat = np.broadcast_to(PCA(2).fit(X_train).components_, (len(X), 2, 50))
    assert np.mean(largest_angle(flat, planes)) > 0.4


def swiss_roll(u, v, basis):
    """Points of a rolled sheet, and bases of its tangent planes."""
    t, zero, one = 3 + 2.4 * u, np.zeros_like(u), np.ones_like(u)
    along = np.stack([np.cos(t) - t * np.sin(t), zero, np.sin(t) + t * np.cos(t)], axis=1)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([zero, one, zero], axis=1)
    points = np.stack([t * np.cos(t), 6 * v, t * np.sin(t)], axis=1)
    return points @ basis, np.stack([along @ basis, across @ basis], axis=1)


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("shape", [sphere, swiss_roll])
def test_the_decoders_tangents_are_the_surfaces(shape, noise):
    """The recipe of `tangents`: a code of as many numbers as the surface has dimensions, decoded."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((50, 3)))[0].T
    X_train, _ = shape(*rng.uniform(-0.8, 0.8, (2, 1000)), basis)
    X_train += noise * X_train.std(axis=0).mean() * rng.standard_normal(X_train.shape)
    X, planes = shape(*rng.uniform(-0.65, 0.65, (2, 300)), basis)
    ae = AutoencoderTransformer(2, penalties=[], max_iter=150, **SHORT).fit(X_train)
    values, vectors = tangents(ae, X, of="decoder")
    angle = largest_angle(vectors, planes)
    assert np.mean(angle) < 0.06
    assert np.quantile(angle, 0.95) < 0.15
    J = jacobian(ae, ae.transform(X), of="decoder")
    np.testing.assert_allclose((vectors @ J @ np.swapaxes(vectors @ J, 1, 2))[:, 0, 0], values[:, 0] ** 2, rtol=1e-6)
