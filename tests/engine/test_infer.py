"""Tiles blend to what the whole frame gives, for any shape; hidden pixels stay unseen."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ssl_pretrain.data.intensity import measure_array
from napari_ssl_pretrain.data.writers import to_dtype
from napari_ssl_pretrain.engine import slabs
from napari_ssl_pretrain.engine.infer import Restorer, Source
from napari_ssl_pretrain.pretext import Crappify, Masking


class Net(torch.nn.Module):
    """Adds ``gain`` times its input."""

    def __init__(self, gain=0.0):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.tiles = 0

    def forward(self, images, _):
        self.tiles += len(images)
        return images * self.gain


def restorer(task, tile, gain=0.0, batch_size=3):
    return Restorer(Net(gain), task, tile, batch_size=batch_size, precision="fp32")


sizes = st.integers(1, 40)
shapes = st.one_of(
    st.tuples(sizes, sizes), st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))
)
FACTORS = (1.0, 2.0, 1.5)


@given(shapes, st.integers(1, 2), st.sampled_from(FACTORS), st.data())
def test_a_perfect_network_returns_the_frame_and_tiles_leave_no_seam(shape, channels, factor, data):
    tile = tuple(data.draw(st.integers(2, 16)) for _ in shape)
    rng = np.random.default_rng(math.prod(shape))
    frame = rng.integers(0, 256, (channels, *shape), dtype=np.uint8)
    intensity = measure_array(frame, "zscore")
    task = Crappify(axis_factors=(factor,) * len(shape))
    out = restorer(task, tile)(frame, intensity)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(to_dtype(out, frame.dtype), frame)
    # a network without neighbourhood gives the same with tiles and without
    offset, scale = (v.reshape(-1, *(1,) * len(shape)) for v in (intensity.offset, intensity.scale))
    whole = ((frame - offset) / scale * 1.5) * scale + offset
    np.testing.assert_allclose(
        restorer(task, tile, 0.5)(frame, intensity), whole, atol=1e-2, rtol=1e-4
    )


def hidden_pixels(tokens, token, shape):
    pixels = np.kron(tokens, np.ones(token)).astype(bool)
    return pixels[tuple(slice(n) for n in shape)]


@given(shapes, st.data())
def test_visible_parts_are_the_frame_and_hidden_ones_are_never_seen(shape, data):
    token = tuple(data.draw(st.integers(1, 4)) for _ in shape)
    tile = tuple(t * data.draw(st.integers(1, 4)) for t in token)
    task = Masking(token_size=token)
    made = restorer(task, tile)
    rng = np.random.default_rng(math.prod(shape))
    frame = rng.normal(100, 20, (2, *shape)).astype(np.float32)
    intensity = measure_array(frame, "zscore")
    tokens = rng.random(made.token_grid(shape)) < 0.6
    hidden = hidden_pixels(tokens, token, shape)
    out = made(frame, intensity, tokens)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[:, ~hidden], frame[:, ~hidden], rtol=1e-4)
    spoilt = np.where(hidden, np.float32(1e6), frame)
    np.testing.assert_array_equal(made(spoilt, intensity, tokens), out)


def test_a_tile_of_one_token_along_an_axis():
    """Tiles that overlapped by half a token once showed hidden pixels to the network."""
    task = Masking(token_size=(16, 16))
    made = restorer(task, (16, 32))
    frame = np.random.default_rng(0).random((1, 48, 64), dtype=np.float32)
    intensity = measure_array(frame, "zscore")
    tokens = np.random.default_rng(1).random((3, 4)) < 0.6
    hidden = hidden_pixels(tokens, (16, 16), (48, 64))
    out = made(frame, intensity, tokens)
    np.testing.assert_array_equal(out, made(np.where(hidden, 9, frame), intensity, tokens))


def test_what_the_network_hides_is_what_was_asked_for():
    seen = []

    class Spy(Net):
        def forward(self, images, hidden):
            seen.extend(hidden.numpy())
            return super().forward(images, hidden)

    task = Masking(token_size=(4, 4))
    made = Restorer(Spy(), task, (8, 8), batch_size=2, precision="fp32")
    tokens = np.zeros((2, 3), bool)
    tokens[0, 1] = True
    frame = np.ones((1, 8, 12), np.float32)
    made(frame, measure_array(frame, "zscore"), tokens)
    assert [h.tolist() for h in seen] == [tokens[:, :2].tolist(), tokens[:, 1:].tolist()]


def test_normalised_targets_do_not_change_the_units_of_images():
    frame = np.random.default_rng(0).normal(50, 9, (1, 16, 16)).astype(np.float32)
    intensity = measure_array(frame, "zscore")
    tokens = np.eye(4, dtype=bool)
    both = [
        restorer(Masking(token_size=(4, 4), normalize_target=n), (8, 8))(frame, intensity, tokens)
        for n in (False, True)
    ]
    np.testing.assert_array_equal(*both)


def test_progress_counts_every_tile():
    told = []
    made = restorer(Crappify(axis_factors=(1.0, 1.0)), (8, 8), batch_size=4)
    frame = np.ones((1, 20, 20), np.float32)
    made(frame, measure_array(frame, "zscore"), None, lambda *words: told.append(words))
    total = told[-1][1]
    assert told[-1] == (total, total)
    assert made._model.tiles == total
    assert [t[0] for t in told] == sorted({t[0] for t in told})


def test_masking_needs_to_be_told_what_is_hidden():
    frame = np.ones((1, 8, 8), np.float32)
    with pytest.raises(ValueError, match="hidden tokens"):
        restorer(Masking(token_size=(4, 4)), (8, 8))(frame, measure_array(frame, "zscore"))


@given(shapes, st.data())
def test_any_number_of_columns_and_slabs_gives_the_same(shape, data):
    """What is put together in the least memory is what is put together at once."""
    tile = tuple(data.draw(st.integers(2, 9)) for _ in shape)
    made = restorer(Crappify(axis_factors=(1.0,) * len(shape)), tile, 0.5)
    frame = np.random.default_rng(math.prod(shape)).normal(0, 9, (2, *shape)).astype(np.float32)
    intensity = measure_array(frame, "zscore")
    whole = made(frame, intensity)
    align = tuple(data.draw(st.integers(1, 9)) for _ in shape)
    read = []

    def pixels(box):
        read.append(math.prod(b.stop - b.start for b in box))
        return frame[(slice(None), *box)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "SLAB_BYTES", data.draw(st.integers(1, 1 << 16)))
        patch.setattr(slabs, "ALIGN", {len(shape): align})
        seen, out = np.zeros(shape, int), np.zeros_like(frame)
        for box, block in made.stream(Source(frame.shape, pixels), intensity):
            seen[box] += 1
            out[(slice(None), *box)] = block
    assert (seen == 1).all()
    np.testing.assert_allclose(out, whole, atol=1e-4, rtol=1e-4)


def test_slabs_of_a_huge_volume_are_bounded():
    layout = slabs.Layout((3420,) * 3, (3420,) * 3, (64,) * 3, (16,) * 3, (1,) * 3, 1)
    area = next(iter(layout.slabs()))
    assert math.prod(b.stop - b.start for b in area.box) * 4 < 2 * slabs.SLAB_BYTES
    ideal = math.prod(map(len, layout.starts))
    assert ideal <= layout.count < 1.3 * ideal
