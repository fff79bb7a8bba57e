import math

import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_ssl_pretrain.engine import metrics
from napari_ssl_pretrain.engine.inpaint import smooth_inpaint
from napari_ssl_pretrain.engine.metrics import (
    CRAPPIFY_COLUMNS,
    MASKING_COLUMNS,
    PSNR_CAP,
    crappify_scores,
    masking_scores,
    mean_scores,
    ssim,
)

RNG = np.random.default_rng(0)
IMAGES = {
    "uint8 plane": data.camera()[:90, :130][None],
    "uint16 channels": RNG.integers(0, 60000, (3, 40, 50)).astype(np.uint16),
    "float volume": RNG.normal(0, 40, (1, 12, 30, 40)).astype(np.float32),
    "flat volume": RNG.normal(9, 2, (2, 5, 30, 40)).astype(np.float32),
}


def worse(image, amount):
    noisy = image + RNG.normal(0, amount * float(image.max()), image.shape)
    return noisy.clip(image.min(), image.max()).round().astype(image.dtype)


@pytest.mark.parametrize("slab", [metrics.SLAB_PIXELS, 1, 2000])
@pytest.mark.parametrize("name", IMAGES)
def test_crappify_scores_equal_scikit_image(name, slab, monkeypatch):
    monkeypatch.setattr(metrics, "SLAB_PIXELS", slab)
    image = IMAGES[name]
    restored, worsened = worse(image, 0.05), worse(image, 0.2)
    scores = crappify_scores(image, restored, worsened)
    assert tuple(scores) == CRAPPIFY_COLUMNS
    extent = float(image.max()) - min(0.0, float(image.min()))
    window = min(7, 2 * ((min(image.shape[1:]) - 1) // 2) + 1)
    for column, other in (("", restored), ("_input", worsened)):
        a, b = image.astype(float), other.astype(float)
        assert scores["psnr" + column] == pytest.approx(
            peak_signal_noise_ratio(a, b, data_range=extent), abs=1e-6
        )
        similarity = structural_similarity(a, b, data_range=extent, channel_axis=0, win_size=window)
        assert scores["ssim" + column] == pytest.approx(similarity, abs=1e-6)
    difference = restored.astype(float) - image.astype(float)
    assert scores["mae"] == pytest.approx(np.abs(difference).mean())
    assert scores["mse"] == pytest.approx((difference**2).mean())


def test_integers_do_not_wrap():
    image = np.full((1, 16, 16), 250, np.uint8)
    scores = crappify_scores(image, image - 245, image)
    assert scores["mae"] == 245
    assert scores["psnr_input"] == PSNR_CAP


def test_frames_are_scored_together():
    frames = [IMAGES["uint16 channels"], IMAGES["uint16 channels"][:, ::-1] // 4]
    restored, worsened = ([worse(f, a) for f in frames] for a in (0.05, 0.2))
    scores = crappify_scores(frames, restored, worsened)
    stacked = crappify_scores(
        np.concatenate(frames), np.concatenate(restored), np.concatenate(worsened)
    )
    assert scores == pytest.approx(stacked)


@pytest.mark.parametrize("value", [0, 7, -3.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 9), (2, 2, 2), (1, 3, 3), (1, 2, 20, 20)])
def test_constant_and_tiny_images_have_finite_scores(shape, value):
    image = np.full(shape, value, np.float32)
    scores = crappify_scores(image, image, image + 1)
    assert all(math.isfinite(v) for v in scores.values())
    assert scores["psnr"] == PSNR_CAP
    assert scores["ssim"] == pytest.approx(1)
    hidden = np.zeros(shape[1:], bool)
    hidden[..., 0] = True
    assert masking_scores(image, image, hidden) == dict.fromkeys(MASKING_COLUMNS, 0)


def test_one_window_is_the_textbook_formula():
    a, b = RNG.random((1, 2, 2)), RNG.random((1, 2, 2))
    covariance = np.mean(a * b) - a.mean() * b.mean()
    flat, contrast = 0.01**2, 0.03**2
    expected = ((2 * a.mean() * b.mean() + flat) * (2 * covariance + contrast)) / (
        (a.mean() ** 2 + b.mean() ** 2 + flat) * (a.var() + b.var() + contrast)
    )
    assert ssim(a, b, 1.0) == pytest.approx(expected)


def test_short_axes_are_compared_plane_by_plane():
    a, b = RNG.random((1, 2, 20, 20)), RNG.random((1, 2, 20, 20))
    planes = [ssim(a[:, k], b[:, k], 1.0) for k in range(2)]
    assert ssim(a, b, 1.0) == pytest.approx(np.mean(planes))


def test_pixels_without_a_number_do_not_count():
    image = IMAGES["float volume"].copy()
    restored = worse(image, 0.05)
    clean = crappify_scores(image, restored, restored)
    image[0, 3, 4, 5] = np.nan
    image[0, 3, 4, 6] = -np.inf
    worsened = restored.copy()
    worsened[0, 3, 4, 5] = np.nan
    scores = crappify_scores(image, restored, worsened)
    assert scores["psnr"] == pytest.approx(clean["psnr"], abs=0.05)
    assert scores["psnr_input"] == pytest.approx(scores["psnr"], abs=0.05)
    hidden = RNG.random(image.shape[1:]) < 0.5
    assert all(math.isfinite(v) for v in masking_scores(image, restored, hidden).values())


def test_what_the_network_spoils_costs():
    image = IMAGES["float volume"] + 1000
    spoilt = image.copy()
    spoilt[0, 0] = np.nan
    scores = crappify_scores(image, spoilt, image)
    assert math.isfinite(scores["psnr"])
    assert scores["psnr"] < 20
    hidden = np.ones(image.shape[1:], bool)
    assert masking_scores(image, spoilt, hidden, image)["hidden_mse"] > 0.05


@pytest.mark.parametrize("name", IMAGES)
def test_masking_scores_equal_the_definition(name):
    image = IMAGES[name].astype(float) + 5
    hidden = np.repeat(RNG.random((*image.shape[1:-1], image.shape[-1] // 10)) < 0.75, 10, axis=-1)
    output = worse(IMAGES[name], 0.1).astype(float)
    inpainted = smooth_inpaint(image, hidden)
    axes = tuple(range(1, image.ndim))
    mean, deviation = image.mean(axes, keepdims=True), image.std(axes, keepdims=True)
    unit = (image - mean) / deviation
    seen = np.stack([np.full(c.shape, c[~hidden].mean()) for c in unit])
    expected = [
        np.mean(((guess - unit)[:, hidden]) ** 2)
        for guess in ((output - mean) / deviation, seen, (inpainted - mean) / deviation)
    ]
    scores = masking_scores(image, output, hidden, inpainted)
    assert tuple(scores) == MASKING_COLUMNS
    assert list(scores.values()) == pytest.approx(expected, rel=1e-6)
    assert masking_scores(image, output, hidden) == pytest.approx(scores, rel=1e-3)


def test_masking_scores_take_all_frames_together():
    frames = [np.full((1, 8, 8), 3, np.uint8), RNG.integers(0, 200, (1, 8, 8)).astype(np.uint8)]
    hidden = [RNG.random((8, 8)) < 0.5 for _ in frames]
    output = [f // 2 for f in frames]
    wide = masking_scores(
        np.concatenate(frames, -1), np.concatenate(output, -1), np.concatenate(hidden, -1)
    )
    scores = masking_scores(frames, output, hidden)
    for name in ("hidden_mse", "hidden_mse_mean"):
        assert scores[name] == pytest.approx(wide[name])


def test_mean_scores():
    assert mean_scores([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]) == {"a": 2.0, "b": 3.0}
    assert mean_scores([]) == {}
