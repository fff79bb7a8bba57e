"""*crappify* equals the documented arithmetic, computed independently with scikit-image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from napari_ssl_pretrain.pretext import Crappify, Intensity, NumpyRandom


class NoNoise:
    """A source of zeros."""

    def normal(self, shape):
        return np.zeros(shape, np.float32)

    uniform = normal


def intensity(images: np.ndarray) -> Intensity:
    axes = tuple(range(1, images.ndim))
    channels = images.shape[:2]
    return Intensity(
        np.full(channels, 3.0, np.float32),
        np.full(channels, 2.0, np.float32),
        np.minimum(0, images.min(axis=axes)).astype(np.float32),
        images.max(axis=axes).astype(np.float32),
    )


def down_and_up(image: np.ndarray, factor: float) -> np.ndarray:
    options = {"order": 1, "mode": "reflect", "anti_aliasing": False, "preserve_range": True}
    small = [max(1, int(n / factor)) for n in image.shape]
    return resize(resize(image, small, **options), image.shape, **options)


@settings(deadline=None, max_examples=25)
@given(
    shape=st.one_of(
        st.tuples(st.integers(2, 40), st.integers(2, 40)),
        st.tuples(st.integers(2, 9), st.integers(2, 20), st.integers(2, 20)),
    ),
    factor=st.floats(1, 4),
    seed=st.integers(0, 99),
)
def test_resampling_equals_scikit_image(shape, factor, seed):
    image = np.random.default_rng(seed).random(shape, np.float32)
    task = Crappify(noise=0, axis_factors=(factor,) * len(shape))
    ours = task.resample(image[None, None])[0, 0]
    np.testing.assert_allclose(ours, down_and_up(image, factor), atol=2e-6)


def test_noise_has_the_documented_deviation_and_is_clipped_to_the_image():
    images = np.full((1, 1, 200, 200), 50, np.float32)
    images[..., 0, 0] = 100
    task = Crappify(noise=0.1, axis_factors=(1.0, 1.0))
    worse = task.worsen(images, intensity(images), NumpyRandom([(1, 2)]))
    assert (worse - images)[..., 1:, :].std() == pytest.approx(0.1 * 100, rel=0.03)
    loud = Crappify(noise=1.0, axis_factors=(1.0, 1.0))
    worse = loud.worsen(images, intensity(images), NumpyRandom([(1, 2)]))
    assert worse.min() == 0
    assert worse.max() == 100


def test_negative_values_are_not_cut_off():
    images = np.linspace(-5, 5, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    task = Crappify(noise=0.5, axis_factors=(1.0, 1.0))
    worse = task.worsen(images, intensity(images), NumpyRandom([(0,)]))
    assert worse.min() >= -5
    assert (worse < 0).any()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_numpy_and_torch_agree(ndim, channels):
    shape = (2, channels, *(6, 12, 14)[-ndim:])
    images = np.random.default_rng(0).random(shape, np.float32)
    task = Crappify(noise=0, axis_factors=(1.5,) * ndim)
    ours = task.make_batch(images, intensity(images), NoNoise())
    theirs = task.make_batch(
        torch.from_numpy(images), Intensity(*map(torch.from_numpy, intensity(images))), NoNoise()
    )
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-6)
    assert ours.scored is None
    assert ours.hidden is None


def test_a_perfect_network_returns_the_original():
    images = np.random.default_rng(0).random((2, 2, 16, 16), np.float32) * 90
    known = intensity(images)
    batch = Crappify(noise=0.3, axis_factors=(2.0, 2.0)).make_batch(
        images, known, NumpyRandom([(0,), (1,)])
    )
    residual = batch.target - batch.base
    np.testing.assert_allclose(known.denormalize(batch.base + residual), images, rtol=1e-4)


def test_the_input_is_left_alone():
    images = np.random.default_rng(0).random((1, 1, 16, 16), np.float32)
    before = images.copy()
    Crappify(noise=0.3, axis_factors=(2.0, 2.0)).make_batch(
        images, intensity(images), NumpyRandom([(0,)])
    )
    np.testing.assert_array_equal(images, before)


def test_a_sample_depends_on_its_own_key_alone():
    images = np.random.default_rng(0).random((3, 1, 16, 16), np.float32)
    task = Crappify(noise=0.3, axis_factors=(2.0, 2.0))
    known = intensity(images)
    together = task.worsen(images, known, NumpyRandom([(7, k) for k in range(3)]))
    alone = task.worsen(images[1:2], Intensity(*(v[1:2] for v in known)), NumpyRandom([(7, 1)]))
    np.testing.assert_array_equal(together[1:2], alone)
