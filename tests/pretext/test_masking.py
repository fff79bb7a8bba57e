"""*masking* hides exactly the ratio, never reads what it hides, and is new at every draw."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ssl_pretrain.pretext import Intensity, Masking, NumpyRandom, smooth
from napari_ssl_pretrain.pretext.smooth import (
    cubic_matrix,
    fill_mean,
    fill_smooth,
    gaussian_matrices,
    token_blurs,
)

TYPES = ("random", "grid", "block")


def unit(batch: int, channels: int) -> Intensity:
    return Intensity(
        np.zeros((batch, channels), np.float32),
        np.ones((batch, channels), np.float32),
        np.zeros(batch, np.float32),
        np.ones(batch, np.float32),
    )


@settings(deadline=None, max_examples=60)
@given(
    mask_type=st.sampled_from(TYPES),
    ratio=st.floats(0.05, 0.95),
    grid=st.one_of(
        st.tuples(st.integers(1, 12), st.integers(2, 12)),
        st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(2, 6)),
    ),
    seed=st.integers(0, 99),
)
def test_the_realised_ratio_is_exact(mask_type, ratio, grid, seed):
    task = Masking(mask_ratio=ratio, mask_type=mask_type, token_size=(4,) * len(grid))
    hidden = task.draw_hidden(3, grid, NumpyRandom([(seed, k) for k in range(3)]))
    total = math.prod(grid)
    visible = min(max(1, int(total * (1 - ratio))), total - 1)
    assert hidden.shape == (3, *grid)
    assert (hidden.reshape(3, -1).sum(axis=1) == total - visible).all()


@pytest.mark.parametrize("mask_type", TYPES)
def test_every_token_is_hidden_now_and_seen_then(mask_type):
    task = Masking(mask_type=mask_type, token_size=(8, 8))
    hidden = task.draw_hidden(200, (8, 8), NumpyRandom([(0, k) for k in range(200)]))
    share = hidden.mean(axis=0)
    assert share.min() > 0.5
    assert share.max() < 0.95
    assert not (hidden[0] == hidden[1]).all()


def test_grid_is_a_regular_pattern():
    task = Masking(mask_type="grid", mask_ratio=0.75, token_size=(8, 8))
    visible = ~task.draw_hidden(1, (16, 16), NumpyRandom([(0,)]))[0]
    np.testing.assert_array_equal(visible[:8, :8], visible[8:, 8:])
    assert (visible.reshape(4, 4, 4, 4).sum(axis=(1, 3)) == 4).all()


def test_blocks_hide_together():
    def neighbours(kind: str) -> float:
        task = Masking(mask_type=kind, mask_ratio=0.5, token_size=(8, 8))
        hidden = task.draw_hidden(50, (16, 16), NumpyRandom([(k,) for k in range(50)]))
        return float((hidden[:, :, 1:] == hidden[:, :, :-1]).mean())

    assert neighbours("random") == pytest.approx(0.5, abs=0.05)
    assert neighbours("block") > 0.75


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("normalize_target", [False, True])
def test_hidden_pixels_are_never_read(ndim, channels, normalize_target):
    spatial = (4, 16, 16)[-ndim:]
    token = (2, 4, 4)[-ndim:]
    task = Masking(token_size=token, normalize_target=normalize_target)
    images = np.random.default_rng(0).random((2, channels, *spatial), np.float32)
    hidden = task.draw_hidden(2, task.token_grid(spatial), NumpyRandom([(0,), (1,)]))
    pixels = task.to_pixels(hidden)
    other = np.where(pixels, 1e3, images).astype(np.float32)
    batch, changed = (task.hide(x, unit(2, channels), hidden) for x in (images, other))
    np.testing.assert_array_equal(batch.input, changed.input)
    np.testing.assert_array_equal(batch.base, changed.base)
    np.testing.assert_array_equal(batch.scored, pixels)
    seen = np.broadcast_to(~pixels, images.shape)
    np.testing.assert_array_equal(batch.input[seen], images[seen])


def test_numpy_and_torch_agree():
    task = Masking(token_size=(4, 4), normalize_target=True)
    images = np.random.default_rng(0).random((2, 2, 16, 16), np.float32)
    hidden = task.draw_hidden(2, (4, 4), NumpyRandom([(0,), (1,)]))
    ours = task.hide(images, unit(2, 2), hidden)
    known = Intensity(*map(torch.from_numpy, unit(2, 2)))
    theirs = task.hide(torch.from_numpy(images), known, torch.from_numpy(hidden))
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=2e-5)


def test_standardized_tokens_equal_the_formula():
    task = Masking(token_size=(2, 4), normalize_target=True)
    images = np.random.default_rng(0).random((1, 1, 4, 8), np.float32)
    ours = task.standardize_tokens(images)
    token = images[0, 0, 2:4, 4:8]
    expected = (token - token.mean()) / np.sqrt(token.var() + 1e-6)
    np.testing.assert_allclose(ours[0, 0, 2:4, 4:8], expected, rtol=1e-4, atol=1e-5)


def test_fill_mean_is_the_mean_of_the_visible_pixels():
    images = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    hidden = (np.random.default_rng(1).random((2, 1, 8, 8)) < 0.6).astype(np.float32)
    filled = fill_mean(images, hidden)
    where = hidden[1, 0] > 0
    np.testing.assert_allclose(filled[1, 2][where], images[1, 2][~where].mean(), rtol=1e-5)


def test_fill_smooth_is_better_than_the_mean_on_a_smooth_image():
    y, x = np.mgrid[:64, :64] / 20
    images = (np.sin(y) * np.cos(x)).astype(np.float32)[None, None]
    task = Masking(token_size=(4, 4))
    hidden = task.to_pixels(task.draw_hidden(1, (16, 16), NumpyRandom([(0,)]))).astype(np.float32)

    def error(filled: np.ndarray) -> float:
        return float((((filled - images) * hidden) ** 2).sum())

    filled = fill_smooth(images * (1 - hidden), hidden, (4, 4))
    assert error(filled) < 0.1 * error(fill_mean(images, hidden))


@pytest.mark.parametrize("token", [(8, 8), (16, 16), (12, 16), (2, 8, 8)])
def test_cells_stand_in_for_pixels(token):
    """Interpolated on cells of a few pixels it is nearly as good, on noisy waves too."""
    spatial = (8, 96, 96)[-len(token) :]
    axes = np.indices(spatial).astype(np.float32)
    waves = sum(np.sin(a / (5 + 2 * k) + k) for k, a in enumerate(axes))
    noise = np.random.default_rng(0).normal(0, 0.1, spatial)
    images = (waves + noise).astype(np.float32)[None, None]
    task = Masking(token_size=token)
    drawn = task.draw_hidden(1, task.token_grid(spatial), NumpyRandom([(0,)]))
    hidden = task.to_pixels(drawn).astype(np.float32)

    def error(cells: int) -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(smooth, "CELLS", cells)
            filled = fill_smooth(images * (1 - hidden), hidden, token)
        return float((((filled - images) * hidden) ** 2).sum())

    assert error(smooth.CELLS) < 1.1 * error(max(token))


def test_no_blur_has_numbers_too_small_for_full_speed():
    """Below the smallest normal number, products of blurs included, processors are slow."""
    token = 8
    for size in (16, 32, 128):
        widths = tuple(scale * token for scale in smooth.SCALES)
        matrices = (gaussian_matrices(size, widths), token_blurs(size, token, widths))
        for matrix in matrices:
            smallest = matrix[matrix > 0].min()
            assert float(smallest) ** 3 > np.finfo(np.float32).tiny
            assert (matrix.sum(axis=2) > 0).all()


def test_lines_are_enlarged_without_loss():
    for cells, step in ((4, 2), (5, 3), (8, 4)):
        line = (np.arange(cells) + 0.5) * step - 0.5
        found = cubic_matrix(cells * step, step) @ line
        np.testing.assert_allclose(found, np.arange(cells * step), atol=1e-4)


@pytest.mark.parametrize("xp", [np, torch])
def test_a_network_sees_dim_and_bright_patches_alike(xp):
    """The shown image is free of the patch's brightness, and what it says is scaled back."""
    task = Masking(token_size=(8, 8))
    random = np.random.default_rng(0)
    image = random.normal(size=(1, 1, 32, 32)).astype(np.float32) * 3
    both = np.concatenate([image, 20 * image + 7])
    hidden = np.repeat(task.draw_hidden(1, (4, 4), NumpyRandom([(1,)])), 2, axis=0)
    known = unit(2, 1)
    if xp is torch:
        both, hidden = torch.from_numpy(both), torch.from_numpy(hidden)
        known = Intensity(*(torch.from_numpy(v) for v in known))
    batch = task.hide(both, known, hidden)
    shown = []

    def network(images, _):
        shown.append(np.asarray(images))
        return images * 0 + 1

    made = np.asarray(batch.restored(network) - batch.base)
    np.testing.assert_allclose(shown[0][0], shown[0][1], atol=5e-3)
    np.testing.assert_allclose(made[1] / made[0], 20, rtol=5e-3)
    visible = ~np.asarray(task.to_pixels(hidden))[0, 0]
    np.testing.assert_allclose(made[1].mean(), np.asarray(both)[1, 0][visible].std(), rtol=1e-3)
