from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.biapy_keys import AUTOMATIC
from napari_ssl_pretrain.spec.biapy_yaml import flatten, is_biapy, nested, translate
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.yaml_io import load_yaml

FOLDER = Path(__file__).parent / "biapy"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def minimal(**groups):
    return {"PROBLEM": {"TYPE": "SELF_SUPERVISED"}, "DATA": {"TRAIN": {"PATH": "x"}}, **groups}


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_translated_or_named_once(name):
    fields = load_yaml(FOLDER / name)
    result = translate(fields)
    told = [*result.translated, *result.automatic, *result.unused]
    in_notes = {key for key in flatten(fields) if any(key in note for note in result.notes)}
    assert len(told) == len(set(told))
    assert set(told) | in_notes == set(flatten(fields))
    PretrainConfig.from_dict({"name": "x"} | result.fields)


DEFAULTS = json.loads((FOLDER / "defaults_3.7.1.json").read_text())
"""All keys of BiaPy 3.7.1 with their defaults."""

HARMLESS = {
    "PROBLEM.PRINT_OLD_KEY_CHANGES",
    "DATA.TRAIN.IN_MEMORY",
    "DATA.VAL.IN_MEMORY",
    "DATA.VAL.FROM_TRAIN",
    "TEST.VERBOSE",
}
"""On in BiaPy; off, they ask for nothing that is not done here."""


def whole(task="crappify", ndim=2, **changed):
    """Return a file that sets every key of BiaPy."""
    changed |= {
        "PROBLEM.TYPE": "SELF_SUPERVISED",
        "PROBLEM.NDIM": f"{ndim}D",
        "PROBLEM.SELF_SUPERVISED.PRETEXT_TASK": task,
        "MODEL.ARCHITECTURE": "mae" if task == "masking" else "resunet",
        "DATA.PATCH_SIZE": str((*(32, 64, 64)[-ndim:], 1)),
        "TRAIN.ENABLE": True,
    }
    return nested(DEFAULTS | changed)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("task", ["crappify", "masking"])
def test_a_file_with_every_key_of_biapy_is_told_key_by_key(task, ndim):
    result = translate(whole(task, ndim))
    told = [*result.translated, *result.automatic, *result.unused]
    assert sorted(told) == sorted(DEFAULTS)
    text = " ".join(result.lines())
    assert [key for key in DEFAULTS if key not in text] == []
    config = PretrainConfig.from_dict({"name": "x"} | result.fields)
    assert (config.pretext.task, config.data.ndim) == (task, ndim)


def test_no_switch_of_biapy_is_thrown_in_vain():
    """A switch that is not as it is by default has a counterpart, is done anyway, or is named."""
    switches = {key: value for key, value in DEFAULTS.items() if isinstance(value, bool)}
    assert len(switches) > 100
    other = {key: not value for key, value in switches.items()}
    result = translate(whole(**{key: v for key, v in other.items() if key != "TRAIN.ENABLE"}))
    silent = {key for key in result.automatic if key in switches and key != "TRAIN.ENABLE"}
    turned_on = {key for key in silent if other[key]}
    turned_off = silent - turned_on
    assert turned_on <= AUTOMATIC
    relevant = {key for key in turned_off if not key.startswith(("PROBLEM.INST", "PROBLEM.DET"))}
    elsewhere = ("DATA.PREPROCESS.", "AUGMENTOR.CBLUR", "MODEL.RCAN", "TEST.MATCHING", "TEST.BY_")
    assert {key for key in relevant if not key.startswith(elsewhere)} <= HARMLESS


def test_a_2d_file():
    result = translate(load_yaml(FOLDER / "crappify_2d.yaml"))
    config = PretrainConfig.from_dict(result.fields)
    assert (config.data.ndim, config.data.patch_size, result.channels) == (2, (64, 64), 1)
    assert (config.data.train, config.data.test) == (("images/train/x",), ("images/test/x",))
    assert (config.data.validation_fraction, config.data.normalization) == (0.2, "divide")
    assert (config.pretext.task, config.pretext.noise, config.pretext.resizing_factor) == (
        "crappify",
        0.1,
        2,
    )
    assert (config.backbone.name, config.backbone.features_per_stage) == (
        "residual_unet",
        (16, 32, 64),
    )
    training = config.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 4, 1e-4)
    assert (training.patience, training.seed, training.loss) == (None, 7, "l1")
    assert config.compute.workers == "auto"
    assert "MODEL.ARCHITECTURE resunet++ is not here: residual_unet is the nearest." in result.notes
    assert "LOSS.TYPE SSIM: not here; the loss is l1." in result.notes
    assert set(result.unused) == {"DATA.TEST.PADDING", "AUGMENTOR.DA_PROB", "AUGMENTOR.HFLIP"}


def test_a_3d_file_with_old_keys():
    result = translate(load_yaml(FOLDER / "masking_3d_old.yaml"))
    config = PretrainConfig.from_dict(result.fields)
    assert (config.data.ndim, config.data.patch_size, result.channels) == (3, (16, 32, 32), 2)
    assert (config.data.validation, config.data.test) == (("volumes_val",), None)
    assert config.data.normalization == "custom"
    assert (config.pretext.token_size, config.pretext.mask_type, config.pretext.mask_ratio) == (
        8,
        "random",
        0.6,
    )
    assert (config.backbone.embed_dim, config.backbone.decoder_embed_dim) == (96, 64)
    assert (config.training.load_checkpoint, config.training.patience) == ("last", 20)
    assert "TRAIN.OPTIMIZER SGD: AdamW is used here." in result.notes
    assert any(
        "BiaPy would take" not in note and "TEST.ENABLE is off" in note for note in result.notes
    )


@pytest.mark.parametrize(
    ("groups", "key", "value"),
    [
        ({"MODEL": {"LOAD_CHECKPOINT": True}}, "load_checkpoint", "best"),
        (
            {"MODEL": {"LOAD_CHECKPOINT": True}, "PATHS": {"CHECKPOINT_FILE": "a.pth"}},
            "load_checkpoint",
            "a.pth",
        ),
        ({"TRAIN": {"PATIENCE": -1}}, "patience", None),
        ({"TRAIN": {"LR": ["1e-3"]}}, "learning_rate", 1e-3),
        ({"LOSS": {"TYPE": "MSE"}}, "loss", "mse"),
        ({"LOSS": {"TYPE": ["VGG"]}}, "loss", "auto"),
        ({"AUGMENTOR": {"ENABLE": False}}, "augment", False),
    ],
)
def test_single_training_keys(groups, key, value):
    config = PretrainConfig.from_dict(translate(minimal(**groups)).fields)
    assert getattr(config.training, key) == value


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ({"PERC_CLIP": {"ENABLE": True}}, "percentile"),
        ({"PERC_CLIP": True}, "percentile"),
        ({}, "zscore"),
    ],
)
def test_percentiles(clip, expected):
    fields = minimal(DATA={"TRAIN": {"PATH": "x"}, "NORMALIZATION": clip})
    assert PretrainConfig.from_dict(translate(fields).fields).data.normalization == expected


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({"PROBLEM": {"TYPE": "SEMANTIC_SEG"}}, "PROBLEM.TYPE"),
        ({"DATA": {}}, "PROBLEM.TYPE"),
        (minimal(TRAIN={"ENABLE": False}), "TRAIN.ENABLE"),
        (minimal(DATA={"PATCH_SIZE": "(1, 2)"}), "DATA.PATCH_SIZE"),
        (minimal(DATA={"NORMALIZATION": {"TYPE": "rank"}}), "DATA.NORMALIZATION.TYPE"),
        ({"PROBLEM": {"TYPE": "SELF_SUPERVISED", "NDIM": "4D"}}, "PROBLEM.NDIM"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(fields, subject):
    with pytest.raises(ConfigError) as caught:
        translate(fields)
    assert caught.value.subject == subject


def test_our_own_files_are_not_taken_for_theirs():
    assert not is_biapy({"name": "x", "data": {}, "pretext": {}})
    assert is_biapy({"SYSTEM": {}})
