"""The masked autoencoder: tokens, positions, and that nothing hidden reaches its output."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ssl_pretrain.engine.backbones import BackboneSpec, build_backbone
from napari_ssl_pretrain.engine.backbones.mae_vit import (
    from_tokens,
    sincos_positions,
    to_tokens,
)

small = st.integers(1, 4)


@given(
    grid_and_token=st.integers(2, 3).flatmap(
        lambda n: st.tuples(st.tuples(*[small] * n), st.tuples(*[small] * n))
    ),
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
)
def test_tokens_are_put_back_where_they_were(grid_and_token, batch, channels):
    grid, token = grid_and_token
    sides = [g * t for g, t in zip(grid, token, strict=True)]
    images = torch.arange(batch * channels * math.prod(sides)).reshape(batch, channels, *sides)
    tokens = to_tokens(images, token)
    assert tokens.shape == (batch, math.prod(grid), math.prod(token) * channels)
    # token k is the k-th box in C order
    index = np.unravel_index(math.prod(grid) - 1, grid)
    box = tuple(slice(i * t, (i + 1) * t) for i, t in zip(index, token, strict=True))
    assert set(tokens[0, -1].tolist()) == set(images[0][(slice(None), *box)].flatten().tolist())
    assert torch.equal(from_tokens(tokens, token, grid), images)


@pytest.mark.parametrize(("grid", "dim"), [((3, 5), 16), ((2, 3, 4), 20), ((7, 2), 18)])
def test_positions_are_those_of_the_formula(grid, dim):
    positions = sincos_positions(grid, dim)
    assert positions.shape == (math.prod(grid), dim)
    n = dim // (2 * len(grid))
    for number, place in enumerate(np.ndindex(*grid)):
        wanted = []
        for p in place:
            angles = [p / 10000 ** (k / n) for k in range(n)]
            wanted += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        wanted += [0.0] * (dim - len(wanted))
        np.testing.assert_allclose(positions[number].numpy(), wanted, atol=1e-6)
    assert len({tuple(p) for p in positions.tolist()}) == math.prod(grid)


def network(token, channels=1, seed=0):
    options = {
        "token_size": token,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "decoder_embed_dim": 12,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
    }
    spec = BackboneSpec("mae_vit", len(token), channels, channels, False, options)
    generator = torch.Generator().manual_seed(seed)
    model = build_backbone(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


CASES = [((4, 8), (16, 24), 2), ((2, 4, 4), (4, 8, 12), 1)]


def pixels_of(hidden, token):
    for axis, size in enumerate(token, start=1):
        hidden = hidden.repeat_interleave(size, axis)
    return hidden[:, None]


@pytest.mark.parametrize(("token", "sides", "channels"), CASES)
@torch.no_grad()
def test_hidden_pixels_never_reach_the_output(token, sides, channels):
    model = network(token, channels)
    images = torch.randn(3, channels, *sides)
    grid = [n // t for n, t in zip(sides, token, strict=True)]
    hidden = torch.rand(3, *grid) < 0.6  # not the same number in each sample
    spoilt = torch.where(pixels_of(hidden, token), torch.full_like(images, 1e6), images)
    assert torch.equal(model(images, hidden), model(spoilt, hidden))
    # and visible ones do, everywhere
    other = torch.where(pixels_of(hidden, token), images, images + 1)
    assert (model(images, hidden) - model(other, hidden)).abs().flatten(1).max(1).values.min() > 0


@pytest.mark.parametrize(("token", "sides", "channels"), CASES)
@torch.no_grad()
def test_samples_of_a_batch_do_not_know_each_other(token, sides, channels):
    model = network(token, channels)
    images = torch.randn(4, channels, *sides)
    grid = [n // t for n, t in zip(sides, token, strict=True)]
    hidden = torch.ones(4, math.prod(grid), dtype=torch.bool)
    for sample, visible in enumerate((1, 3, 5, math.prod(grid))):
        hidden[sample, torch.randperm(math.prod(grid))[:visible]] = False
    hidden = hidden.reshape(4, *grid)
    together = model(images, hidden)
    for k in range(4):
        alone = model(images[k : k + 1], hidden[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_sample_with_nothing_visible_is_finite():
    model = network((4, 8), 1)
    hidden = torch.ones(2, 4, 3, dtype=torch.bool)
    hidden[0, 0, 0] = False
    assert model(torch.randn(2, 1, 16, 24), hidden).isfinite().all()


@torch.no_grad()
def test_other_grids_than_those_of_the_training_work():
    model = network((4, 8), 1)
    for sides in ((8, 8), (32, 16), (4, 80)):
        images = torch.randn(1, 1, *sides)
        assert model(images).shape == images.shape
