"""Convolutions: sizes, pooling by hand, images in and out, and what they gain over PCA."""

import itertools
import math

import numpy as np
import pytest
import torch
from registry import assert_same_state, generator, real, state_of
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from torch.utils.flop_counter import FlopCounterMode

from skae import VAE, AutoencoderTransformer, ConvAE, ConvNetwork, DenoisingAE, Masking
from skae.model.conv_network import DOWN, UP
from skae.model.convolutions import (
    Convolution,
    TransposedConvolution,
    first_positions,
    frame_of,
    halve,
    output_size,
    unpool,
)
from skae.training.device import matrix_precision

WAYS = [(d, u) for d, u in itertools.product(DOWN, UP) if u != "unpool" or d == "max"]
SHAPES = [(1,), (2,), (9,), (16,), (1, 1), (1, 7), (5, 5), (8, 8), (15, 13), (1, 6, 9), (3, 7, 4), (2, 1, 5)]
QUICK = {"max_iter": 2, "early_stopping": False, "random_state": 0}


def _pair(network, n_components=3, n_further=0):
    n = math.prod(network.image_shape)
    encoder = network.encoder(n + n_further, n_components)
    decoder = network.decoder(n_components, n, encoder)
    for part in (encoder, decoder):
        part.reset(generator())
    return encoder, decoder


def _images(n=60, shape=(6, 5)):
    return real(n, math.prod(shape)).reshape(n, *shape)


# Sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(2,), (3, 2), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_decoder_returns_to_the_size_of_the_image(shape, kernel_size, channels):
    padding, size = (kernel_size - 1) // 2, shape[-2:]
    for down, up in WAYS:
        network = ConvNetwork(shape, channels, kernel_size, down=down, up=up)
        d = list(size)
        for _ in channels:
            if any(kernel_size > length + 2 * padding for length in d):
                with pytest.raises(ValueError, match="larger than the padded image"):
                    network.check_parameters()
                break
            # d' = (d - f + 2p)/s + 1, written out.
            d = [math.floor((length - kernel_size + 2 * padding) / 2) + 1 for length in d]
        else:
            network.check_parameters()
            encoder, decoder = _pair(network)
            memory = []
            x = torch.randn(4, math.prod(shape), generator=generator())
            code = encoder(x, memory)
            assert encoder.dense.sizes[0] == channels[-1] * math.prod(d)
            assert code.shape == (4, 3)
            assert decoder(code).shape == decoder(code, memory).shape == x.shape


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 3, (2, 1)], ids=str)
@pytest.mark.parametrize("kernel_size", [2, 5, (3, 1)], ids=str)
@pytest.mark.parametrize("shape", [(11,), (12, 9), (2, 10, 13)], ids=str)
def test_strides_and_borders_of_any_size(shape, kernel_size, stride, padding):
    """What comes out of each convolution is as large as d' = ⌊(d − f + 2p)/s⌋ + 1 says, and the decoder returns."""
    kernel, step = np.broadcast_to(kernel_size, 2), np.broadcast_to(stride, 2)
    border = (kernel - 1) // 2 if padding == "same" else 0 * kernel
    for down, up in WAYS:
        network = ConvNetwork(shape, (2, 3), kernel_size, stride=stride, padding=padding, down=down, up=up)
        f, p, s = (each[-len(shape[-2:]) :] for each in (kernel, border, step))
        if any((np.array(shape[-2:]) - f + 2 * p) // s + 1 + 2 * p < f):
            with pytest.raises(ValueError, match="larger than the padded image"):
                network.check_parameters()
            continue
        network.check_parameters()
        encoder, decoder = _pair(network)
        sizes, size = [], np.array(shape[-2:])
        for convolution in encoder.convolutions:
            convolution.register_forward_hook(lambda _, __, out, to=sizes: to.append(out.shape[2:]))
        x = torch.randn(4, math.prod(shape), generator=generator())
        assert decoder(encoder(x)).shape == x.shape
        for found in sizes:
            assert tuple(found)[-len(size) :] == tuple((size - f + 2 * p) // (s if down == "stride" else 1) + 1)
            size = (size - f + 2 * p) // s + 1


def test_a_valid_convolution_whose_stride_is_its_kernel_sees_each_patch_once():
    network = ConvNetwork((4, 4), (1,), 2, stride=2, padding="valid", activation="identity")
    encoder, _ = _pair(network)
    x = torch.arange(16.0).reshape(1, 16)
    (convolution,) = encoder.convolutions
    patches = x.reshape(2, 2, 2, 2).permute(0, 2, 1, 3).reshape(4, 4)
    expected = patches @ convolution.weight.flatten() + convolution.bias
    torch.testing.assert_close(convolution(x.reshape(1, 1, 4, 4)).flatten(), expected)


def test_an_estimator_takes_stride_and_padding():
    images = load_digits().images[:100]
    ae = ConvAE(4, channels=(4,), kernel_size=(3, 2), stride=3, padding="valid", **QUICK).fit(images)
    assert ae.model_.encoder.network.dense.sizes[0] == 4 * 2 * 3
    assert ae.reconstruct(images).shape == images.shape


@pytest.mark.parametrize(("size", "kernel_size", "padding", "stride"), [(28, 5, 0, 1), (28, 3, 1, 2), (7, 2, 0, 3)])
def test_output_sizes_are_those_of_torch(size, kernel_size, padding, stride):
    image, kernel = torch.zeros(1, 1, size, size), torch.zeros(1, 1, kernel_size, kernel_size)
    made = torch.conv2d(image, kernel, None, stride, padding)
    assert output_size(size, kernel_size, padding, stride) == made.shape[-1]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_transposed_convolution_is_the_transpose(size, kernel_size, stride):
    """⟨C x, y⟩ = ⟨x, Cᵀ y⟩ with the same weights."""
    kernel, padding = 2 * (kernel_size,), 2 * ((kernel_size - 1) // 2,)
    forwards = Convolution(2, 3, kernel, padding, (stride, stride)).double()
    forwards.reset(generator())
    x = torch.randn(1, 2, *size, generator=generator()).double()
    made = forwards(x)
    back = TransposedConvolution(3, 2, kernel, padding, (stride, stride), made.shape[2:], size).double()
    back.weight.data = forwards.weight.data
    y = torch.randn(made.shape, generator=generator(1)).double()
    torch.testing.assert_close((made * y).sum(), (x * back(y)).sum())


@pytest.mark.parametrize(("down", "up"), WAYS)
@pytest.mark.parametrize("shape", [(9,), (7, 6), (3, 8, 8)], ids=str)
def test_products_are_counted(shape, down, up):
    network = ConvNetwork(shape, (4, 6), down=down, up=up, hidden_layer_sizes=(5,))
    encoder, decoder = _pair(network)
    n = math.prod(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(encoder(torch.zeros(1, n)))
    # Two operations a product; the code has 5 · 3 on either side.
    assert counter.get_total_flops() == 2 * (network.n_products(n) + 2 * 5 * 3)


# Pooling ---------------------------------------------------------------------------------------

IMAGE = torch.tensor([[1.0, 2, 5, 3], [4, 0, 1, 6], [7, 8, 2, 1], [3, 9, 4, 0]])


def test_pooling_and_unpooling_by_hand():
    pooled, positions = halve(IMAGE[None, None], "max", (2, 2))
    assert pooled[0, 0].tolist() == [[4, 6], [9, 4]]
    assert positions[0, 0].tolist() == [[4, 7], [13, 14]]
    back = unpool(torch.tensor([[[[10.0, 20], [30, 40]]]]), positions, (4, 4))
    assert back[0, 0].tolist() == [[0, 0, 0, 0], [10, 0, 0, 20], [0, 0, 0, 0], [0, 30, 40, 0]]
    assert halve(IMAGE[None, None], "average", (2, 2))[0][0, 0].tolist() == [[1.75, 3.75], [6.75, 1.75]]
    assert first_positions((2, 2), (4, 4), (2, 2)).tolist() == [[0, 2], [8, 10]]


def test_pooling_at_an_odd_edge_by_hand():
    cut = IMAGE[None, None, :3, :3]
    pooled, positions = halve(cut, "max", (2, 2))
    assert pooled[0, 0].tolist() == [[4, 5], [8, 2]]
    assert positions[0, 0].tolist() == [[3, 2], [7, 8]]
    assert halve(cut, "average", (2, 2))[0][0, 0].tolist() == [[1.75, 3.0], [7.5, 2.0]]


def _transparent(down, up):
    """A 4 x 4 network whose convolutions change nothing and whose code is the pooled image."""
    network = ConvNetwork((4, 4), (1,), 1, down=down, up=up, activation="identity")
    encoder, decoder = _pair(network, 4)
    with torch.no_grad():
        for part in (encoder, decoder):
            part.convolutions[0].weight.fill_(1)
            part.dense.layers[0].weight.copy_(torch.eye(4))
    return encoder, decoder


def test_unpooling_through_the_network_by_hand():
    encoder, decoder = _transparent("max", "unpool")
    memory = []
    code = encoder(IMAGE.reshape(1, 16), memory)
    assert code.tolist() == [[4, 6, 9, 4]]
    found = decoder(code, memory).reshape(4, 4).tolist()
    assert found == [[0, 0, 0, 0], [4, 0, 0, 6], [0, 0, 0, 0], [0, 9, 4, 0]]
    alone = decoder(code).reshape(4, 4).tolist()
    assert alone == [[4, 0, 6, 0], [0, 0, 0, 0], [9, 0, 4, 0], [0, 0, 0, 0]]


def test_several_codes_of_a_row_share_its_positions():
    encoder, decoder = _transparent("max", "unpool")
    memory, rows = [], torch.stack([IMAGE.reshape(16), IMAGE.T.reshape(16)])
    code = encoder(rows, memory)
    together = decoder(torch.cat([code, 2 * code]), memory)
    torch.testing.assert_close(together, torch.cat([decoder(code, memory), 2 * decoder(code, memory)]))


def test_upsampling_repeats_pixels():
    encoder, decoder = _transparent("average", "upsample")
    means = encoder(IMAGE.reshape(1, 16))
    expected = np.kron(means.detach().numpy().reshape(2, 2), np.ones((2, 2)))
    np.testing.assert_allclose(decoder(means).detach().numpy().reshape(4, 4), expected)


def test_rows_hold_images_in_c_order():
    """Strides without a kernel pick every second pixel of every second line."""
    network = ConvNetwork((2, 4, 6), (2,), 1, activation="identity")
    encoder, _ = _pair(network, 12)
    with torch.no_grad():
        encoder.convolutions[0].weight.copy_(torch.eye(2)[..., None, None])
        encoder.dense.layers[0].weight.copy_(torch.eye(12))
    image = np.arange(48.0, dtype=np.float32).reshape(2, 4, 6)
    picked = encoder(torch.tensor(image.reshape(1, 48))).detach().numpy()
    np.testing.assert_array_equal(picked.ravel(), image[:, ::2, ::2].ravel())


def test_reconstructions_do_not_depend_on_what_was_encoded_before():
    X = real(40, 16)
    ae = AutoencoderTransformer(3, network=ConvNetwork((4, 4), (4,), down="max", up="unpool"), init="random", **QUICK)
    codes = ae.fit(X).transform(X)
    alone = ae.inverse_transform(codes)
    ae.reconstruct(X[::-1])
    np.testing.assert_array_equal(ae.inverse_transform(codes), alone)
    assert not np.allclose(ae.reconstruct(X), alone)
    np.testing.assert_allclose(ae.reconstruct(X[:7]), ae.reconstruct(X)[:7], rtol=1e-10)


# In a fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("down", "up"), WAYS)
def test_the_first_loss_is_that_of_pca(down, up):
    X = _images(shape=(2, 5, 6))
    ae = ConvAE(3, down=down, up=up, channels=(4, 6), learning_rate=1e-30, batch_size=60, **QUICK).fit(X)
    rows = X.reshape(60, -1)
    pca = PCA(3).fit(rows)
    expected = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(1).mean()
    assert ((X - ae.reconstruct(X)) ** 2).sum((1, 2, 3)).mean() == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(np.abs(ae.transform(X)), np.abs(pca.transform(rows)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("init", ["pca", "random"])
@pytest.mark.parametrize(("down", "up"), WAYS)
def test_every_weight_moves(down, up, init):
    X = _images()
    options = {"down": down, "up": up, "init": init, "channels": (4, 6), "early_stopping": False, "random_state": 0}
    before, after = (state_of(ConvAE(2, max_iter=n, **options).fit(X)) for n in (1, 10))
    for name, values in before.items():
        if not any(constant in name for constant in ("scale", "anchor", "pace")):
            assert not np.array_equal(values, after[name]) or "encoder.linear" in name, name


def test_first_weights_keep_the_variance():
    """He's scale: Σ w² over a unit's inputs is 2, for a dense layer and both kinds of convolution."""
    for layer, share in (
        (Convolution(8, 400, (3, 3), (1, 1), (2, 2)), 1),
        (TransposedConvolution(8, 400, (3, 3), (1, 1), (2, 2), (4, 4), (8, 8)), 0.25),
    ):
        layer.reset(generator(), "relu")
        assert float(layer.weight.detach().square().sum()) / 400 * share == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("shape", [(6, 5), (1, 6, 5), (3, 2, 5)], ids=str)
def test_images_are_rows_in_c_order(shape):
    X = _images(shape=shape)
    rows, weight = X.reshape(60, 30), np.linspace(0, 1, 60)
    one = ConvAE(2, **QUICK).fit(X, sample_weight=weight)
    other = ConvAE(2, image_shape=shape, **QUICK).fit(rows, sample_weight=weight)
    assert_same_state(one, other)
    assert one.image_shape_ == other.image_shape_ == shape
    assert (one.row_shape_, other.row_shape_) == (shape, (30,))
    for seen in (X, rows):
        np.testing.assert_array_equal(one.transform(seen), other.transform(rows))
        np.testing.assert_array_equal(one.score_samples(seen), other.score_samples(rows))
        np.testing.assert_array_equal(one.reconstruct(seen), other.reconstruct(seen).reshape(X.shape))
        assert one.score(seen) == other.score(rows)
    codes = one.transform(X)
    assert one.inverse_transform(codes).shape == X.shape
    assert other.inverse_transform(codes).shape == rows.shape
    one.partial_fit(X[:30]).partial_fit(rows[30:])
    other.partial_fit(rows[:30]).partial_fit(X[30:])
    assert_same_state(one, other)
    first = ConvAE(2, **QUICK).partial_fit(X)
    assert first.reconstruct(X).shape == X.shape


def test_a_gray_image_is_the_same_without_its_channel():
    X = _images()
    ae = ConvAE(2, **QUICK).fit(X)
    np.testing.assert_array_equal(ae.transform(X[:, None]), ae.transform(X))
    assert ae.reconstruct(X[:, None]).shape == X.shape
    assert ConvAE(2, image_shape=(1, 6, 5), **QUICK).fit(X).reconstruct(X).shape == X.shape


@pytest.mark.parametrize(("n_features", "shape"), [(1, (1,)), (4, (2, 2)), (6, (6,)), (64, (8, 8)), (65, (65,))])
def test_rows_are_square_images_or_signals(n_features, shape):
    ae = ConvAE(1, **QUICK).fit(real(20, n_features))
    assert ae.image_shape_ == shape
    assert ae.reconstruct(real(3, n_features)).shape == (3, n_features)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (ConvAE(2, image_shape=(5, 5)), r"image_shape=\(5, 5\) has 25 numbers, but X has 30 features a row"),
        (ConvAE(2, image_shape=(5, 6)), r"image_shape=\(5, 6\), but X has images of shape \(6, 5\)"),
        (ConvAE(2, kernel_size=4, channels=(2, 2, 2, 2)), "kernel of 4 x 4 is larger than the padded image in conv"),
        (ConvAE(2, up="unpool"), "up='unpool' needs the positions of the maxima that down='max' finds"),
        (AutoencoderTransformer(2, network=ConvNetwork((5, 5))), "has 25 numbers, but the rows have 30 features"),
        (AutoencoderTransformer(2, network=ConvNetwork((7, 5))), "has 35 numbers, but the rows have 30 features"),
    ],
)
def test_errors_come_before_training(estimator, message):
    X = _images() if isinstance(estimator, ConvAE) else _images().reshape(60, 30)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X)
    assert not hasattr(estimator, "model_") and not hasattr(estimator, "image_shape_")


def test_other_images_than_those_of_the_fit_are_refused():
    ae = ConvAE(2, **QUICK).fit(_images())
    with pytest.raises(ValueError, match=r"X has images of shape \(5, 6\), but ConvAE was fitted to images of shape"):
        ae.transform(_images(shape=(5, 6)))
    with pytest.raises(ValueError, match="X has 36 features, but ConvAE is expecting 30"):
        ae.transform(real(3, 36))


@pytest.mark.parametrize("conditioning", [None, "noise_level", "mask"])
@pytest.mark.parametrize("init", ["pca", "random"])
def test_conditions(conditioning, init):
    X = real(80, 30)
    X[::3, 4] = np.nan
    corruption = "gaussian" if conditioning == "noise_level" else Masking(0.3)
    ae = DenoisingAE(
        2, network=ConvNetwork((6, 5), (4,)), conditioning=conditioning, corruption=corruption, init=init, **QUICK
    ).fit(X)
    encoder = ae.model_.encoder.network if init == "pca" else ae.model_.encoder
    assert encoder.convolutions[0].n_in == (2 if conditioning == "mask" else 1)
    assert encoder.dense.sizes[0] == 4 * 9 + (conditioning == "noise_level")
    assert np.isfinite(ae.reconstruct(X)).all()


def test_further_options():
    X = _images(80)
    X[::3, 0, 2] = np.nan
    ae = ConvAE("auto", down="max", up="unpool", corruption="gaussian", n_init=2, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(ae.reconstruct(X)).all()
    np.testing.assert_allclose(ae.transform(X), ae.transform(X.astype(np.float32)), rtol=1e-3, atol=1e-3)
    vae = VAE(2, network=ConvNetwork((6, 5), (4,), down="max", up="unpool"), n_importance_samples=3, **QUICK)
    assert vae.fit(X.reshape(80, 30)).sample(5, random_state=0).shape == (5, 30)


@pytest.mark.parametrize(("precision", "inside"), [("float32", "ieee"), ("tf32", "tf32")])
def test_convolutions_on_a_gpu_round_as_asked(precision, inside):
    backends, cudnn = (torch.backends.cuda.matmul, torch.backends.cudnn.conv), torch.backends.cudnn
    before = [backend.fp32_precision for backend in backends], cudnn.deterministic
    with matrix_precision(torch.device("cuda"), precision):
        assert [backend.fp32_precision for backend in backends] == [inside, inside]
        assert cudnn.deterministic
    assert before == ([backend.fp32_precision for backend in backends], cudnn.deterministic)


def test_a_changed_image_shape_cannot_go_on():
    X = real(60, 30)
    ae = ConvAE(2, image_shape=(6, 5), warm_start=True, **QUICK).fit(X)
    with pytest.raises(ValueError, match="The network's shape has changed since the last fit"):
        ae.set_params(image_shape=(30,)).fit(X)
    assert ae.image_shape_ == (6, 5)
    assert ae.transform(X.reshape(60, 6, 5)).shape == (60, 2)


def test_grid_search():
    X = real(60, 16)
    network = ConvNetwork((4, 4), (2,))
    search = GridSearchCV(
        AutoencoderTransformer(2, network=network, **QUICK), {"network__channels": [(2,), (3, 4)]}, cv=2
    ).fit(X)
    assert search.best_estimator_.network.channels in [(2,), (3, 4)]
    search = GridSearchCV(ConvAE(2, **QUICK), {"channels": [(2,), (3, 4)]}, cv=2).fit(X.reshape(60, 4, 4))
    assert search.best_estimator_.reconstruct(X).shape == (60, 4, 4)
    assert clone(network).get_params() == network.get_params()


def test_frames_of_signals_are_one_pixel_high():
    frame = frame_of((9,), (4, 8), (3, 3))
    assert (frame.full, frame.kernel, frame.stride) == ([(1, 9), (1, 5), (1, 3)], (1, 3), (1, 2))
    assert (frame.n_image, frame.n_last) == (9, 24)


# Quality ---------------------------------------------------------------------------------------


def _digits():
    return load_digits().images


def _crops():
    """Digits at twice their size, without the last line and the last three columns."""
    return np.kron(_digits(), np.ones((1, 2, 2)))[:, :15, :13]


@pytest.mark.parametrize(("images", "floors"), [(_digits, (0.8, 0.7)), (_crops, (0.8, 0.7))])
def test_held_out_error_is_below_that_of_pca(images, floors):
    X = np.random.default_rng(0).permutation(images())
    train, held = X[:1400], X[1400:]
    rows = held.reshape(len(held), -1)
    for n_components, floor in zip((2, 10), floors, strict=True):
        ae = ConvAE(n_components, max_iter=15, early_stopping=False, random_state=0).fit(train)
        pca = PCA(n_components).fit(train.reshape(len(train), -1))
        linear = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum()
        assert ((held - ae.reconstruct(held)) ** 2).sum() < floor * linear
