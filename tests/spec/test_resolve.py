"""Resolving leaves no auto, fits networks and tokens, and is its own fixed point."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.pretext import Crappify, Masking
from napari_ssl_pretrain.spec import geometry
from napari_ssl_pretrain.spec.backbones import BACKBONES, check_backbone
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.resolve import ResolvedConfig, make_task, resolve, unused_keys
from napari_ssl_pretrain.spec.summary import DataSummary, Hardware
from napari_ssl_pretrain.spec.yaml_io import parse_yaml

CPU = Hardware("cpu", 2, 8.0)
GPU = Hardware("cuda:0", 16, 100.0, device_memory_gb=80.0, bf16=True)
OLD_GPU = Hardware("cuda:0", 16, 100.0, device_memory_gb=8.0, bf16=False)
PAIRS = [(row.name, task) for row in BACKBONES.values() for task in row.tasks]
OTHER = {"unet": ("embed_dim", "depth"), "mae": ("norm",), "monai": ("embed_dim", "norm")}


def asked(task="crappify", name="auto", **groups):
    fields = {"data": {"train": "x"}, "pretext": {"task": task}, "backbone": {"name": name}}
    for group, changes in groups.items():
        fields[group] = fields.get(group, {}) | changes
    return PretrainConfig.from_dict(fields)


@st.composite
def summaries(draw):
    ndim = draw(st.sampled_from((2, 3)))
    sides = st.tuples(*[st.integers(1, 900)] * ndim)
    spacing = st.tuples(*[st.sampled_from((0.1, 0.25, 0.5, 1.0, 3.0, 60.0))] * ndim)
    return DataSummary(
        ndim,
        draw(st.integers(1, 4)),
        tuple(draw(st.lists(sides, min_size=1, max_size=4))),
        draw(st.none() | spacing),
    )


def autos(fields, prefix=""):
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from autos(value, f"{prefix}{key}.")
        elif value == "auto":
            yield prefix + key


@given(
    summaries(),
    st.sampled_from([*PAIRS, ("auto", "crappify"), ("auto", "masking")]),
    st.sampled_from(("tiny", "small", "base", "large")),
    st.sampled_from((CPU, GPU, OLD_GPU)),
    st.sampled_from(("auto", 3, 25)),
)
def test_no_auto_is_left_and_the_result_is_a_configuration(summary, pair, size, hardware, token):
    name, task = pair
    config = asked(task, name, backbone={"size": size}, pretext={"token_size": token})
    found = resolve(config, summary, hardware)
    row = check_backbone(name, task)
    families = {"unet": {"features", "blocks", "norm"}, "mae": {"embed", "depth", "num", "decoder"}}
    own = families.get(row.family, set())
    left = {key for key in autos(found.model_dump()) if key not in {"pretext.ssl_source_dir"}}
    assert not {k for k in left if not k.startswith("backbone.")} - {"data.axes"}
    assert not {k for k in left if k.split(".")[1].split("_")[0] in own}
    assert found.backbone.name == row.name

    patch, tokens = found.data.patch_size, found.pretext.token_size
    assert len(patch) == len(tokens) == summary.ndim == found.data.ndim
    assert all(n >= 1 for n in (*patch, *tokens))
    if task == "masking":
        assert all(n % t == 0 for n, t in zip(patch, tokens, strict=True))
        assert math.prod(n // t for n, t in zip(patch, tokens, strict=True)) > 1
    if row.family == "unet":
        spacing = geometry.relative_spacing(summary.voxel_size, summary.ndim)
        assert len(geometry.unet_strides(patch, spacing, 6)) > 1
    steps = found.training.steps_per_epoch
    assert 50 <= steps <= 500
    assert found.training.warmup_steps <= steps * found.training.epochs
    assert 2 <= found.training.batch_size <= 64

    # the result is a valid configuration, its own fixed point, and survives YAML
    text = found.to_yaml()
    again = PretrainConfig.from_dict(parse_yaml(text, "r.yaml"))
    assert resolve(again, summary, hardware) == found
    assert ResolvedConfig(**parse_yaml(text, "r.yaml")) == found


def test_what_was_asked_for_is_kept():
    config = PretrainConfig.from_dict(
        {
            "data": {"train": "x", "patch_size": [40, 20], "axes": "YX"},
            "pretext": {"task": "masking", "token_size": [4, 5]},
            "backbone": {"name": "mae_vit", "embed_dim": 30, "num_heads": 5, "decoder_depth": 7},
            "training": {
                "epochs": 3,
                "steps_per_epoch": 4,
                "batch_size": 6,
                "learning_rate": 0.5,
                "weight_decay": 0.25,
                "warmup_steps": 2,
                "loss": "l1",
            },
            "compute": {"precision": "bf16", "workers": 0, "memory_gb": 3.0},
        }
    )
    found = resolve(config, DataSummary(2, 1, ((100, 100),)), CPU).to_dict()
    for group, fields in config.to_dict().items():
        if isinstance(fields, dict):
            for key, value in fields.items():
                assert value == "auto" or found[group][key] == value


def refused(config, summary=None, hardware=CPU):
    with pytest.raises(ConfigError) as caught:
        resolve(config, summary or DataSummary(2, 1, ((100, 100),)), hardware)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_wrong_ranks_and_tokens_are_refused_with_what_would_do():
    said = refused(asked(data={"patch_size": [8, 32, 32]}))
    assert said == "data.patch_size: [8, 32, 32]: needs 2 numbers for 2D images. Give [y, x]."
    said = refused(asked(data={"patch_size": [32, 32]}), DataSummary(3, 1, ((9, 40, 40),)))
    assert said.endswith("needs 3 numbers for 3D images. Give [z, y, x].")
    said = refused(asked("masking", pretext={"token_size": [2, 8, 8]}))
    assert said.startswith("pretext.token_size: [2, 8, 8]: needs 2 numbers")
    both = {"data": {"patch_size": [60, 33]}, "pretext": {"token_size": 8}}
    said = refused(asked("masking", **both))
    assert said.startswith("data.patch_size: [60, 33]: must be a multiple of the token [8, 8]")
    assert "Use [64, 32]" in said
    said = refused(asked("masking", data={"patch_size": [8, 8]}, pretext={"token_size": 8}))
    assert said.startswith("pretext.token_size: [8, 8]: leaves a patch of one token")
    assert "holds more than" in refused(asked(data={"patch_size": [100_000, 100_000]}))


@pytest.mark.parametrize(
    ("patch", "token", "near"),
    [([15, 15], None, [16, 16]), ([7, 1], None, [8, 8]), ([25, 25], 5, [30, 30])],
)
def test_a_patch_that_no_unet_can_halve_is_refused_with_one_that_it_can(patch, token, near):
    task = "masking" if token else "crappify"
    pretext = {"token_size": token} if token else {}
    said = refused(asked(task, "unet", data={"patch_size": patch}, pretext=pretext))
    assert said.startswith(f"data.patch_size: {patch}: needs an axis with an even number")
    assert f"Use {near}" in said
    summary = DataSummary(2, 1, ((100, 100),))
    resolve(asked(task, "unet", data={"patch_size": near}, pretext=pretext), summary, CPU)
    resolve(asked(task, "segresnet", data={"patch_size": patch}, pretext=pretext), summary, CPU)


def test_heads_must_divide_widths():
    said = refused(asked("masking", "mae_vit", backbone={"embed_dim": 100, "num_heads": 3}))
    assert said.startswith("backbone.embed_dim: 100: must be even and divisible by")
    assert "Use 102." in said
    said = refused(asked("masking", "mae_vit", backbone={"decoder_embed_dim": 15}))
    assert said.startswith("backbone.decoder_embed_dim: 15")


def test_networks_must_know_the_task():
    said = refused(asked("crappify", "mae_vit"))
    assert said.startswith("backbone.name: mae_vit: cannot learn crappify. For crappify: ")
    assert "mae_vit" not in said.partition("For crappify: ")[2]
    assert "mae_vit" in refused(asked("masking", "vit")).partition("For masking: ")[2]


def test_batches_are_shared_among_processes():
    three = Hardware("cuda:0", 16, 64.0, 12.0, bf16=True, processes=3)
    said = refused(asked(training={"batch_size": 2}), hardware=three)
    assert said.startswith("training.batch_size: 2: must hold a patch for each of the 3 processes.")
    planes = DataSummary(2, 1, ((500, 500),))
    alone = resolve(asked(), planes, Hardware("cuda:0", 16, 64.0, 12.0, bf16=True))
    # the data must not depend on the number of processes
    assert resolve(asked(), planes, three).training == alone.training


def test_precision_follows_the_device():
    summary = DataSummary(2, 1, ((100, 100),))
    for hardware, precision in ((CPU, "fp32"), (GPU, "bf16"), (OLD_GPU, "fp16")):
        found = resolve(asked(), summary, hardware)
        assert (found.compute.precision, found.compute.device) == (precision, hardware.device)


def test_with_minutes_the_time_alone_decides():
    config = asked(training={"max_minutes": 5})
    found = resolve(config, DataSummary(2, 1, ((100, 100),)), CPU)
    assert found.training.epochs * found.training.steps_per_epoch > 10**6


def test_the_task_is_made_from_the_numbers():
    summary = DataSummary(3, 1, ((20, 200, 200),), (4.0, 1.0, 1.0))
    found = resolve(asked(pretext={"noise": 0.3, "resizing_factor": 36}), summary, CPU)
    task = make_task(found, summary.voxel_size)
    assert task == Crappify(noise=0.3, axis_factors=(1.5, 6.0, 6.0))
    pretext = {"mask_ratio": 0.6, "mask_type": "block", "token_size": 4, "normalize_target": True}
    found = resolve(asked("masking", pretext=pretext), summary, CPU)
    assert make_task(found, summary.voxel_size) == Masking(**(pretext | {"token_size": (4, 4, 4)}))


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_settings_without_effect_are_named(name, task):
    assert unused_keys(asked(task, name)) == []
    other = {"pretext": {"mask_ratio": 0.5} if task == "crappify" else {"noise": 0.1}}
    (said,) = unused_keys(asked(task, name, **other))
    assert said == f"pretext.{next(iter(other['pretext']))} has no effect with task {task}."
    foreign = OTHER[BACKBONES[name].family]
    values = {"embed_dim": 8, "depth": 2, "norm": "none"}
    said = unused_keys(asked(task, name, backbone={k: values[k] for k in foreign}))
    assert sorted(said) == sorted(
        f"backbone.{k} has no effect with network {name}." for k in foreign
    )


# --- geometry ---


spacings = st.integers(2, 3).flatmap(
    lambda n: st.tuples(
        st.tuples(*[st.integers(1, 300)] * n),
        st.tuples(*[st.floats(1, 20)] * n).map(lambda s: tuple(v / min(s) for v in s)),
    )
)


@given(spacings, st.integers(1, 7))
def test_strides_divide_the_patch_and_keep_four_pixels(case, stages):
    patch, spacing = case
    strides = geometry.unet_strides(patch, spacing, stages)
    assert 1 <= len(strides) <= stages
    assert set(strides[0]) == {1}
    for axis, size in enumerate(patch):
        total = math.prod(s[axis] for s in strides)
        assert size % total == 0
        assert total == 1 or size // total >= 4
    assert all(max(s) == 2 for s in strides[1:])
    kernels = geometry.kernel_sizes(strides, spacing)
    assert len(kernels) == len(strides)
    assert all(set(k) <= {1, 3} and 3 in k for k in kernels)


def test_a_coarse_axis_is_halved_later():
    strides = geometry.unet_strides((16, 64, 64), (4.0, 1.0, 1.0), 5)
    assert strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    kernels = geometry.kernel_sizes(strides, (4.0, 1.0, 1.0))
    assert kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert geometry.unet_strides((64, 64), (1.0, 1.0), 3) == ((1, 1), (2, 2), (2, 2))


def test_factors_and_tokens_heed_the_spacing():
    assert geometry.crappify_factors(4, (1.0, 1.0)) == (2.0, 2.0)
    assert geometry.crappify_factors(9, (1.0, 1.0)) == (3.0, 3.0)
    assert geometry.crappify_factors(4, (5.0, 1.0, 1.0)) == (1.0, 2.0, 2.0)
    assert geometry.token_size((1.0, 1.0)) == (8, 8)
    assert geometry.token_size((4.0, 1.0, 1.0)) == (2, 8, 8)
    assert geometry.token_size((100.0, 1.0, 1.0)) == (1, 8, 8)
    assert geometry.relative_spacing(None, 3) == (1.0, 1.0, 1.0)
    assert geometry.relative_spacing((60.0, 20.0, 20.0), 3) == (3.0, 1.0, 1.0)


def test_a_patch_is_one_that_most_images_hold():
    shapes = ((40, 70), (200, 300), (200, 300), (200, 300), (200, 300))
    assert geometry.patch_size(shapes, (1.0, 1.0), (16, 16)) == (128, 128)
    assert geometry.patch_size(((40, 70),) * 3, (1.0, 1.0), (16, 16)) == (32, 64)
    assert geometry.patch_size(((5, 3),), (1.0, 1.0), (16, 16)) == (16, 16)
    assert geometry.patch_size(((5, 30),), (1.0, 1.0), (8, 8), (16, 16)) == (16, 24)
    for k, (z, y, x) in product((1.0, 4.0), [(64, 400, 400)]):
        patch = geometry.patch_size(((z, y, x),), (k, 1.0, 1.0), (4, 16, 16))
        sides = [n * s for n, s in zip(patch, (k, 1.0, 1.0), strict=True)]
        assert max(sides) / min(sides) < 1.3
