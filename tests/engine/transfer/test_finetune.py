"""Fine-tuning: every arm sees the same, waits where it should, and learns."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_ssl_pretrain.engine.backbones import BackboneSpec
from napari_ssl_pretrain.engine.transfer import finetune as ft
from napari_ssl_pretrain.engine.transfer.examples import Example, PatchDrawer, split_validation

SPATIAL = {2: (32, 32), 3: (8, 16, 16)}


def unet_spec(ndim, channels=1):
    stages = 3
    return BackboneSpec(
        "residual_unet",
        ndim,
        channels,
        channels,
        False,
        {
            "features_per_stage": (4, 8, 8),
            "blocks_per_stage": 1,
            "norm": "none",
            "strides": [[1] * ndim] + [[2] * ndim] * (stages - 1),
            "kernel_sizes": [[3] * ndim] * stages,
        },
    )


def mae_spec(ndim, channels=1):
    options = {
        "token_size": (4,) * ndim,
        "embed_dim": 12 * ndim,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "decoder_embed_dim": 12 * ndim,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
    }
    return BackboneSpec("mae_vit", ndim, channels, channels, False, options)


def setting(spec, classes=2):
    return ft.Setting(spec, classes, SPATIAL[spec.ndim], 2, torch.device("cpu"), None)


def examples(ndim, number=2, channels=1):
    """Bright blobs on noise: foreground is where the image is bright."""
    random = np.random.default_rng(3)
    found = []
    for k in range(number):
        spatial = tuple(n + 4 for n in SPATIAL[ndim])
        classes = np.zeros(spatial, np.uint8)
        classes[tuple(slice(2, n // 2 + 2) for n in spatial)] = 1
        image = random.normal(size=(channels, *spatial)) * 0.2 + 2.0 * classes - 0.5
        found.append(Example(f"image{k}", image.astype(np.float32), classes))
    return found


def drawer(ndim, seed=0, **kwargs):
    return PatchDrawer(examples(ndim, **kwargs), SPATIAL[ndim], 3, seed, torch.device("cpu"))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_a_function_of_seed_and_step(ndim, channels):
    one, other = drawer(ndim, channels=channels), drawer(ndim, channels=channels)
    other.batch(0)
    for a, b in zip(one.batch(5), other.batch(5), strict=True):
        assert torch.equal(a, b)
    images, classes = one.batch(5)
    assert images.shape == (3, channels, *SPATIAL[ndim])
    assert classes.shape == (3, *SPATIAL[ndim])
    assert classes.dtype == torch.int64
    assert not torch.equal(images, one.batch(6)[0])
    assert not torch.equal(images, drawer(ndim, seed=1, channels=channels).batch(5)[0])


def test_image_and_classes_are_turned_alike():
    images, classes = drawer(2).batch(0)
    bright = images[:, 0] > images[:, 0].mean(dim=(1, 2), keepdim=True)
    agree = (bright == (classes > 0)).float().mean()
    assert agree > 0.9


def test_one_patch_in_three_holds_foreground():
    spatial = (64, 64)
    classes = np.zeros(spatial, np.uint8)
    classes[0, 0] = 1
    rare = [Example("rare", np.zeros((1, *spatial), np.float32), classes)]
    drawn = PatchDrawer(rare, (8, 8), 3, 0, torch.device("cpu"))
    for step in range(5):
        assert drawn.batch(step)[1][0].any()


@pytest.mark.parametrize("ndim", [2, 3])
def test_validation_part_is_disjoint_and_complete(ndim):
    learn, check = split_validation(examples(ndim), 0.2)
    for whole, a, b in zip(examples(ndim), learn, check, strict=True):
        assert a.classes.size + b.classes.size == whole.classes.size
        assert a.classes.size > b.classes.size > 0
        assert not np.shares_memory(a.image, b.image) or True in (
            x != y for x, y in zip(a.classes.shape, b.classes.shape, strict=True)
        )


@given(
    arrays(np.uint8, (6, 7), elements=st.integers(0, 2)),
    arrays(np.uint8, (6, 7), elements=st.integers(0, 2)),
)
@settings(deadline=None, max_examples=50)
def test_mean_iou_is_its_formula(a, b):
    expected = []
    for k in (1, 2):
        union = ((a == k) | (b == k)).sum()
        if union:
            expected.append(((a == k) & (b == k)).sum() / union)
    assert ft.mean_iou(a, b, 3) == pytest.approx(np.mean(expected) if expected else 1.0)


def test_loss_of_a_sure_and_right_answer_is_nothing():
    classes = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    right = 50.0 * torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    assert ft.segmentation_loss(right, classes) < 1e-3
    assert ft.segmentation_loss(-right, classes) > 10


@pytest.mark.parametrize("make", [unet_spec, mae_spec])
@pytest.mark.parametrize("ndim", [2, 3])
def test_arms_begin_with_the_same_head_and_fresh_weights(make, ndim):
    spec = make(ndim)
    other = ft.start_network(setting(spec), "scratch", 9, {}, "other").state_dict()
    scratch = ft.start_network(setting(spec), "scratch", 5, {}, "none")
    tuned = ft.start_network(setting(spec), "pretrained", 5, other, "other")
    heads = scratch.head_prefixes()
    for name, value in tuned.state_dict().items():
        same = scratch.state_dict()[name] if name.startswith(heads) else other[name]
        assert torch.equal(value, same), name


def changed(model, before):
    return {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}


@pytest.mark.parametrize("make", [unet_spec, mae_spec])
def test_a_frozen_encoder_stays_and_a_pretrained_one_waits(make):
    spec = make(2)
    weights = ft.start_network(setting(spec), "scratch", 9, {}, "x").state_dict()
    for arm, steps, moves in (("frozen", 20, False), ("pretrained", 20, True)):
        model = ft.start_network(setting(spec), arm, 5, weights, "x")
        before = {n: v.clone() for n, v in model.state_dict().items()}
        early: list[set[str]] = []

        def tick(step, model=model, before=before, early=early):
            if step == 2:
                early.append(changed(model, before))

        ft.finetune(model, setting(spec), drawer(2), (), ft.Schedule(arm, steps, 1e-3), tick)
        encoder = model.encoder_prefixes()
        assert not any(name.startswith(encoder) for name in early[0])
        assert any(name.startswith(model.head_prefixes()) for name in early[0])
        late = any(name.startswith(encoder) for name in changed(model, before))
        assert late is moves


def test_layers_of_a_transformer_learn_the_slower_the_deeper():
    model = ft.start_network(setting(mae_spec(2)), "scratch", 1, {}, "x")
    groups = ft.make_groups(model, "pretrained")
    factor = {id(p): g["factor"] for g in groups for p in g["params"]}
    assert factor[id(model.decoder_head.weight)] == 1
    assert factor[id(model.blocks[1].qkv.weight)] == 1
    assert factor[id(model.blocks[0].qkv.weight)] == pytest.approx(ft.LAYER_DECAY)
    assert factor[id(model.token_embed.weight)] == pytest.approx(ft.LAYER_DECAY**2)
    assert {g["factor"] for g in ft.make_groups(model, "scratch")} == {1.0}


@pytest.mark.parametrize("ndim", [2, 3])
def test_tiles_give_what_one_pass_gives(ndim):
    spec = unet_spec(ndim)
    model = ft.start_network(setting(spec, 3), "scratch", 2, {}, "x").eval()
    image = np.random.default_rng(0).normal(size=(1, *SPATIAL[ndim])).astype(np.float32)
    whole = ft.predict_classes(model, setting(spec, 3), image)
    with torch.no_grad():
        once = model(torch.from_numpy(image)[None])[0].argmax(0).numpy()
    assert whole.shape == image.shape[1:]
    assert np.array_equal(whole, once)
    odd = image[(slice(None), *(slice(0, n - 3) for n in SPATIAL[ndim]))]
    assert ft.predict_classes(model, setting(spec, 3), odd).shape == odd.shape[1:]


@pytest.mark.parametrize("ndim", [2, 3])
def test_mirrors_give_the_mean_over_the_orientations(ndim):
    spec = unet_spec(ndim)
    model = ft.start_network(setting(spec, 3), "scratch", 2, {}, "x").eval()
    image = np.random.default_rng(0).normal(size=(1, *SPATIAL[ndim])).astype(np.float32)
    chance = np.zeros((3, *SPATIAL[ndim]))
    for steps in itertools.product((1, -1), repeat=2):
        turn = (..., *(slice(None, None, s) for s in steps))
        with torch.no_grad():
            logits = model(torch.from_numpy(image[turn].copy())[None])[0]
        chance += logits.softmax(0).numpy()[turn]
    found = ft.predict_classes(model, setting(spec, 3), image, mirrored=True)
    assert np.array_equal(found, chance.argmax(0))
    assert not np.array_equal(found, ft.predict_classes(model, setting(spec, 3), image))
    # whichever way an image lies, its pixels have the same classes
    other = ft.predict_classes(model, setting(spec, 3), image[..., ::-1].copy(), mirrored=True)
    assert np.array_equal(other[..., ::-1], found)


@pytest.mark.parametrize("ndim", [2, 3])
def test_it_learns_and_keeps_the_last_mean(ndim):
    spec = unet_spec(ndim)
    learn, check = split_validation(examples(ndim), 0.3)
    model = ft.start_network(setting(spec), "scratch", 2, {}, "x")
    source = PatchDrawer(learn, SPATIAL[ndim], 3, 0, torch.device("cpu"))
    seen = []
    tuned = ft.finetune(
        model, setting(spec), source, check, ft.Schedule("scratch", 60, 1e-2), seen.append
    )
    assert seen == list(range(1, 61))
    assert len(tuned.curve) == ft.EVALUATIONS
    assert tuned.kept == tuned.curve[-1][1]
    assert ft.validation_score(tuned.model, setting(spec), check) == pytest.approx(tuned.kept)
    whole = examples(ndim)[0]
    assert (
        ft.mean_iou(ft.predict_classes(tuned.model, setting(spec), whole.image), whole.classes, 2)
        > 0.9
    )


def test_the_mean_counts_each_state_by_its_step():
    spec, steps = unet_spec(2), 7
    model = ft.start_network(setting(spec), "scratch", 2, {}, "x")
    source = PatchDrawer(examples(2), SPATIAL[2], 3, 0, torch.device("cpu"))
    states = []

    def keep(_):
        states.append({name: w.clone().double() for name, w in model.state_dict().items()})

    tuned = ft.finetune(model, setting(spec), source, (), ft.Schedule("scratch", steps, 1e-2), keep)
    # what the recursion of polynomial-decay averaging comes to for a decay of 3
    shares = [4 * t * (t + 1) * (t + 2) / (7 * 8 * 9 * 10) for t in range(1, steps + 1)]
    assert sum(shares) == pytest.approx(1)
    for name, mean in tuned.model.state_dict().items():
        wanted = sum(share * state[name] for share, state in zip(shares, states, strict=True))
        assert torch.allclose(mean.double(), wanted, atol=1e-6)
    assert any(not torch.equal(w, tuned.model.state_dict()[n]) for n, w in model.named_parameters())


@pytest.mark.parametrize(("fall", "kept"), [(0.09, 10), (0.11, 4)])
def test_an_earlier_state_is_kept_only_where_it_was_clearly_better(monkeypatch, fall, kept):
    spec, steps = unet_spec(2), 10
    learn, check = split_validation(examples(2), 0.3)
    model = ft.start_network(setting(spec), "scratch", 2, {}, "x")
    source = PatchDrawer(learn, SPATIAL[2], 3, 0, torch.device("cpu"))
    states = []

    def score(model, *_):
        states.append({name: w.clone() for name, w in model.state_dict().items()})
        return 0.6 if len(states) == 4 else 0.6 - fall

    monkeypatch.setattr(ft, "validation_score", score)
    tuned = ft.finetune(
        model, setting(spec), source, check, ft.Schedule("scratch", steps, 1e-2), lambda _: None
    )
    assert len(states) == ft.EVALUATIONS == steps
    assert tuned.kept == tuned.curve[kept - 1][1]
    now = tuned.model.state_dict()
    assert all(torch.equal(w, now[name]) for name, w in states[kept - 1].items())
    other = states[3 if kept == steps else 9]
    assert not all(torch.equal(w, now[name]) for name, w in other.items())
