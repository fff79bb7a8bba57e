import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data, draw
from skimage.restoration import inpaint_biharmonic

from napari_ssl_pretrain.engine import inpaint, multilevel
from napari_ssl_pretrain.engine.inpaint import smooth_inpaint


def hide_tokens(shape, token, ratio=0.75, seed=0):
    grid = [-(-n // t) for n, t in zip(shape, token, strict=True)]
    count = int(np.prod(grid))
    hidden = np.zeros(count, bool)
    hidden[np.random.default_rng(seed).permutation(count)[: round(count * ratio)]] = True
    hidden = hidden.reshape(grid)
    for axis, size in enumerate(token):
        hidden = hidden.repeat(size, axis)
    return hidden[tuple(slice(0, n) for n in shape)]


def hidden_mse(image, filled, hidden):
    return float(np.mean((filled[0] - image)[hidden] ** 2))


def test_visible_pixels_are_kept_and_hidden_ones_are_never_read():
    image = np.random.default_rng(1).normal(size=(2, 33, 47)).astype(np.float32)
    hidden = hide_tokens((33, 47), (8, 8))
    spoilt = np.where(hidden, 1e30, image)
    filled = smooth_inpaint(spoilt, hidden)
    np.testing.assert_array_equal(filled[:, ~hidden], image[:, ~hidden])
    np.testing.assert_allclose(filled, smooth_inpaint(image, hidden), atol=1e-5)
    assert filled.dtype == np.float32


@pytest.mark.parametrize("shape", [(40, 60), (9, 40, 30), (1, 30), (31, 1), (1, 24, 24)])
def test_a_constant_and_a_ramp_are_restored(shape):
    hidden = np.zeros(shape, bool)
    hidden[tuple(slice(n // 4, n // 4 + max(1, n // 3)) for n in shape)] = True
    filled = smooth_inpaint(np.full((1, *shape), 7, np.uint8), hidden)
    np.testing.assert_allclose(filled, 7, atol=1e-4)
    if min(shape) > 1:
        ramp = np.add.reduce(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float64)
        np.testing.assert_allclose(smooth_inpaint(ramp[None], hidden)[0], ramp, atol=0.05)


def test_minimises_its_energy():
    image = data.camera()[100:164, 100:164].astype(np.float64)
    hidden = hide_tokens(image.shape, (8, 8))
    best = smooth_inpaint(image[None], hidden)[0]
    unit = (image - image[~hidden].mean()) / image[~hidden].std()
    weights = inpaint._axis_weights(unit[None], ~hidden)

    def energy(x):
        bent = inpaint._Energy(weights, inpaint.TENSION).gradient(x[None].copy())[0]
        return float(np.sum(x * bent))

    rng = np.random.default_rng(0)
    for _ in range(5):
        other = best + rng.normal(size=best.shape) * hidden * 0.5
        assert energy(best) < energy(other)


@pytest.mark.parametrize("name", ["clock", "cell", "coins"])
def test_is_about_as_good_as_or_better_than_scikit_image_on_tokens(name):
    image = getattr(data, name)()[60:252, 60:252].astype(np.float64)
    hidden = hide_tokens(image.shape, (8, 8))
    ours = hidden_mse(image, smooth_inpaint(image[None], hidden), hidden)
    theirs = hidden_mse(image, inpaint_biharmonic(image, hidden)[None], hidden)
    assert ours <= 1.1 * theirs


def test_heeds_anisotropy_without_being_told(monkeypatch):
    planes = gaussian_filter(np.random.default_rng(0).normal(size=(10, 64, 64)), (0, 5, 5))
    hidden = hide_tokens(planes.shape, (2, 8, 8), 0.5)
    told = hidden_mse(planes, smooth_inpaint(planes[None], hidden), hidden)
    monkeypatch.setattr(inpaint, "_axis_weights", lambda *_: (1.0, 1.0, 1.0))
    assert told < 0.7 * hidden_mse(planes, smooth_inpaint(planes[None], hidden), hidden)


def test_non_finite_pixels_are_filled_and_disturb_nothing():
    image = data.camera()[:48, :48].astype(np.float32)[None].copy()
    image[0, 20, 20], image[0, 5, 9] = np.nan, np.inf
    filled = smooth_inpaint(image, np.zeros((48, 48), bool))
    assert np.isfinite(filled).all()
    assert abs(filled[0, 20, 20] - image[0, 20, 21]) < 30


def test_nothing_or_all_hidden():
    image = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    np.testing.assert_array_equal(smooth_inpaint(image, np.zeros((3, 4), bool)), image)
    np.testing.assert_array_equal(smooth_inpaint(image, np.ones((3, 4), bool)), 0)


def test_large_offsets_lose_no_precision():
    image = draw.disk((20, 20), 10, shape=(40, 40))
    field = np.zeros((40, 40))
    field[image] = 1.0
    hidden = hide_tokens(field.shape, (4, 4), 0.5)
    low = smooth_inpaint(field[None], hidden)
    high = smooth_inpaint(field[None] + 1e9, hidden) - 1e9
    np.testing.assert_allclose(low, high, atol=1e-4)


def test_large_images_are_filled_in_parts_without_a_seam(monkeypatch):
    image = data.cell()[100:400, :200].astype(np.float32)[None]
    hidden = hide_tokens(image.shape[1:], (8, 8))
    whole = smooth_inpaint(image, hidden)
    monkeypatch.setattr(inpaint, "LARGE", 2**15)
    parts = smooth_inpaint(image, hidden)
    assert parts.shape == whole.shape
    assert np.abs(parts - whole).mean() < 0.02 * image.std()


@pytest.mark.parametrize(
    ("shape", "axes"), [((7, 10), (0, 1)), ((5, 6, 9), (1, 2)), ((1, 4), (1,))]
)
def test_the_coarse_grids_add_up_to_a_symmetric_help(shape, axes):
    rng = np.random.default_rng(0)
    coarse_shape = [-(-n // 2) if k in axes else n for k, n in enumerate(shape)]
    fine = rng.normal(size=(2, *shape)).astype(np.float32)
    coarse = rng.normal(size=(2, *coarse_shape)).astype(np.float32)
    down, up = multilevel._restrict(fine, axes), multilevel._prolong(coarse, axes, shape)
    assert np.vdot(down, coarse) == pytest.approx(np.vdot(fine, up), rel=1e-4)


def test_a_search_of_few_steps_comes_as_close_as_one_of_many(monkeypatch):
    image = data.cell()[100:260, :192].astype(np.float64)
    hidden = hide_tokens(image.shape, (16, 16))
    soon = smooth_inpaint(image[None], hidden)
    monkeypatch.setattr(inpaint, "_TOLERANCE", 1e-8)
    exact = smooth_inpaint(image[None], hidden)
    assert np.abs(soon - exact).max() < 0.1 * image.std()
