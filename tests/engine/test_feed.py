"""Batches do not depend on workers, ranks or time; losses, augmentation and random numbers."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from run_samples import write

from napari_ssl_pretrain.data.intensity import measure
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.patches import PatchSource
from napari_ssl_pretrain.data.regions import all_regions
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine.augment import flip_and_turn, turn_coins, turned
from napari_ssl_pretrain.engine.feed import (
    Feed,
    PatchSet,
    Purpose,
    training_batches,
    validation_batches,
)
from napari_ssl_pretrain.engine.losses import EPSILON, pixel_loss
from napari_ssl_pretrain.engine.random import TorchRandom, fold
from napari_ssl_pretrain.engine.validate import Validator
from napari_ssl_pretrain.pretext import Crappify, Masking

CPU = torch.device("cpu")
TASKS = {
    "crappify": Crappify(noise=0.2, axis_factors=(2.0, 2.0)),
    "masking": Masking(token_size=(4, 4)),
}


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """Return patches of two images whose stored copies are their negatives."""
    folder = tmp_path_factory.mktemp("feed")
    images, copies = [], []
    for name, seed, dtype in (("a", 1, "uint8"), ("b", 2, "uint16")):
        array = write(folder / "clean" / f"{name}.tif", "YX", (40, 30), dtype, seed)
        (folder / "copies").mkdir(exist_ok=True)
        write_array(folder / "copies" / f"{name}.tif", np.iinfo(dtype).max - array, "YX")
        images.append(open_image(folder / "clean" / f"{name}.tif"))
        copies.append(open_image(folder / "copies" / f"{name}.tif"))
    clean, worsened = (PatchSource(s, all_regions(s), (16, 16), 1.0) for s in (images, copies))
    return PatchSet(clean, worsened, [measure(image, "zscore") for image in images])


def batches(patches, task, *, workers=0, indices=range(4), steps=range(3), purpose=Purpose.PRETEXT):
    feed = Feed(TASKS[task], 7, CPU)
    hosts = training_batches(patches, 7, steps, indices, workers, augment=True)
    return [feed.to_device(host, purpose) for host in hosts]


def assert_equal(one, two, tolerance=0.0):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                torch.testing.assert_close(x, y, rtol=0, atol=tolerance)


@pytest.mark.parametrize("task", TASKS)
def test_batches_do_not_depend_on_workers_ranks_or_the_first_step(patches, task):
    fresh = replace(patches, worsened=None)
    one = batches(fresh, task)
    for workers in (1, 3):
        assert_equal(one, batches(fresh, task, workers=workers))
    ranks = [batches(fresh, task, indices=range(r, 4, 2)) for r in (0, 1)]
    joined = [
        tuple(
            None if x is None else torch.stack([x, y], dim=1).flatten(0, 1)
            for x, y in zip(a, b, strict=True)
        )
        for a, b in zip(*ranks, strict=True)
    ]
    # a processor may sum in another order in smaller products, of which the smooth guess is made
    assert_equal(one, joined, 1e-5 if task == "masking" else 0.0)
    assert_equal(one[2:], batches(fresh, task, steps=range(2, 3)))
    assert not torch.equal(one[0].input, one[1].input)


@pytest.mark.parametrize("task", TASKS)
def test_two_validations_agree_bit_by_bit(patches, task):
    fresh = replace(patches, worsened=None)
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    torch.nn.init.constant_(model.weight, 0.01)

    class Net(torch.nn.Module):
        def forward(self, images, _):
            return model(images)

    validators = [
        Validator(Feed(TASKS[task], 7, CPU), validation_batches(fresh, 7, 6, 4), "l1")
        for _ in range(2)
    ]
    results = [v(Net()) for v in (*validators, validators[0])]
    assert results[0] == results[1] == results[2]
    assert math.isfinite(results[0][0])
    other = Validator(Feed(TASKS[task], 8, CPU), validation_batches(fresh, 8, 6, 4), "l1")
    assert other(Net()) != results[0]


def test_validation_counts_each_patch_once(patches):
    fresh = replace(patches, worsened=None)

    class Zero(torch.nn.Module):
        def forward(self, images, _):
            return images * 0

    losses = []
    for size in (1, 4, 6):
        hosts = validation_batches(fresh, 7, 6, size)
        losses.append(Validator(Feed(TASKS["crappify"], 7, CPU), hosts, "mse")(Zero()))
    for loss, metrics in losses[1:]:
        assert loss == pytest.approx(losses[0][0], rel=1e-5)
        assert metrics == pytest.approx(losses[0][1], rel=1e-5)
    assert losses[0][1]["psnr"] == losses[0][1]["psnr_input"]
    assert math.isnan(Validator(Feed(TASKS["crappify"], 7, CPU), [], "mse")(Zero())[0])


def test_stored_copies_are_the_same_places_and_turned_alike(patches):
    hosts = list(training_batches(patches, 7, range(4), range(6), 0, augment=True))
    assert {i for host in hosts for i in host.images} == {0, 1}
    for host in hosts:
        top = np.array([255, 65535], np.float32)[list(host.images)].reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(host.worsened, top - host.clean)
        batch = Feed(TASKS["crappify"], 7, CPU).to_device(host, Purpose.PRETEXT)
        scale = torch.from_numpy(host.intensity.scale)[..., None, None]
        offset = torch.from_numpy(host.intensity.offset)[..., None, None]
        seen, wanted = (x * scale + offset for x in (batch.input, batch.target))
        torch.testing.assert_close(seen, torch.from_numpy(top) - wanted, rtol=1e-3, atol=0.05)
        assert torch.equal(batch.base, batch.input)


def test_fresh_copies_differ_from_step_to_step_and_fit_their_purpose(patches):
    fresh = replace(patches, worsened=None)
    noise = TASKS["crappify"].replace(axis_factors=(1.0, 1.0))
    host = next(training_batches(fresh, 7, range(1), range(2), 0, augment=False))
    made = [
        Feed(noise, seed, CPU).to_device(replace(host, step=step), purpose).input
        for seed, step, purpose in product((7, 8), (0, 1), (Purpose.PRETEXT, Purpose.VALIDATION))
    ]
    assert len({tuple(m.flatten()[:8].tolist()) for m in made}) == len(made)


# --- augmentation ---


@pytest.mark.parametrize("sides", [(6, 6), (4, 6), (3, 5, 5), (3, 4, 5)])
def test_augmentation_only_flips_and_swaps(sides):
    images = torch.arange(2 * math.prod(sides), dtype=torch.float32).reshape(1, 2, *sides)
    images = images.expand(64, *images.shape[1:])
    on_device = flip_and_turn(images, TorchRandom([(0, k) for k in range(64)], CPU))
    ndim = len(sides)
    flips = [axes for k in range(ndim + 1) for axes in _subsets(range(1, ndim + 1), k)]
    square = sides[-1] == sides[-2]
    allowed = {
        _key(v)
        for axes in flips
        for v in (images[0].flip(axes), images[0].flip(axes).transpose(-1, -2))
        if v.shape == images[0].shape
    }
    found = {_key(v) for v in on_device}
    coins = turn_coins((0, 1), range(200), ndim)
    rows = [turned(images[0].numpy(), row) for row in coins]
    assert {_key(torch.from_numpy(row.copy())) for row in rows} == allowed
    assert found <= allowed
    assert len(allowed) == 2**ndim * (2 if square else 1)
    assert len(found) > len(allowed) / 2


def _subsets(values, count):
    from itertools import combinations  # noqa: PLC0415

    return list(combinations(values, count))


def _key(image):
    return tuple(image.flatten().tolist())


# --- random numbers ---


def test_random_numbers_depend_on_their_own_key_alone():
    keys = [(1, 2, 3), (1, 2, 4), (2**62, 0, 0)]
    for draw in ("normal", "uniform"):
        together = getattr(TorchRandom(keys, CPU), draw)((3, 2, 5))
        assert together.dtype == torch.float32
        for k, key in enumerate(keys):
            assert torch.equal(getattr(TorchRandom([key], CPU), draw)((1, 2, 5))[0], together[k])
        assert len({float(v) for v in together.flatten()}) == together.numel()


def test_random_numbers_have_their_distributions():
    random = TorchRandom([(5,)], CPU)
    normal, uniform = random.normal((1, 40_000)), random.uniform((1, 40_000))
    assert abs(float(normal.mean())) < 0.02
    assert abs(float(normal.std()) - 1) < 0.02
    assert float(uniform.min()) >= 0
    assert float(uniform.max()) < 1
    assert abs(float(uniform.mean()) - 0.5) < 0.01


def test_keys_fold_to_different_seeds():
    keys = [(a, b, c) for a in range(4) for b in range(4) for c in range(20)]
    seeds = {fold(key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    TorchRandom([(1,)], CPU).normal((1, 3))
    assert torch.equal(torch.get_rng_state(), before)


# --- losses ---


@pytest.mark.parametrize("name", ["l1", "mse", "charbonnier"])
@pytest.mark.parametrize("scored", [False, True])
def test_losses_are_their_formulas(name, scored):
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=(3, 2, 4, 5)).astype(np.float32) for _ in range(2))
    counts = (rng.random((3, 1, 4, 5)) < 0.4).astype(np.float32) if scored else None
    d = (one - two).astype(np.float64)
    error = {
        "l1": np.abs(d),
        "mse": d**2,
        "charbonnier": np.sqrt(d**2 + EPSILON**2) - EPSILON,
    }[name]
    chosen = error if counts is None else error[np.broadcast_to(counts > 0, error.shape)]
    arrays = [None if a is None else torch.from_numpy(a) for a in (one, two, counts)]
    assert float(pixel_loss(name, *arrays)) == pytest.approx(chosen.mean(), rel=1e-5)


def test_loss_without_a_scored_pixel_is_zero_and_unknown_ones_are_refused():
    ones = torch.ones(1, 1, 2, 2)
    assert float(pixel_loss("mse", ones, ones * 3, ones * 0)) == 0
    with pytest.raises(ValueError, match="huber"):
        pixel_loss("huber", ones, ones, None)
