"""What a user can mend: exit 2, one line that names field, value, rule and remedy; nothing left."""

from __future__ import annotations

import pytest
import yaml

GOOD = {
    "name": "job",
    "result_dir": "out",
    "data": {"train": "images/train/x"},
    "pretext": {"task": "crappify"},
    "training": {"epochs": 1, "steps_per_epoch": 1},
}

FIELDS = {
    "missing folder": ({"data.train": "nowhere"}, "data.train: nowhere: does not exist"),
    "empty folder": ({"data.train": "empty"}, "data.train: empty: holds no image"),
    "no readable image": ({"data.train": "notes"}, "data.train: notes:"),
    "empty test folder": ({"data.test": "empty"}, "data.test: empty: holds no image"),
    "no data": ({"data": {}}, "data.train: is required"),
    "no task": ({"pretext": {}}, "pretext.task: is required"),
    "unknown key": (
        {"training.epoch": 3},
        "training.epoch: 3: is no known key. Did you mean training.epochs?",
    ),
    "key of another group": ({"epochs": 3}, "Did you mean training.epochs?"),
    "unknown task": (
        {"pretext.task": "rotation"},
        "pretext.task: rotation: must be 'crappify' or 'masking'",
    ),
    "noise": ({"pretext.noise": 3}, "pretext.noise: 3: must be at most 1"),
    "resizing": ({"pretext.resizing_factor": 0}, "pretext.resizing_factor: 0: must be at least 1"),
    "mask ratio": ({"pretext.mask_ratio": 1.0}, "pretext.mask_ratio: 1.0: must be less than 1"),
    "mask type": ({"pretext.mask_type": "rows"}, "pretext.mask_type: rows: must be"),
    "batch": ({"training.batch_size": 0}, "training.batch_size: 0: must be"),
    "patch of nothing": ({"data.patch_size": [0, 0]}, "data.patch_size: [0, 0]: must be"),
    "patch of wrong rank": (
        {"data.patch_size": [8, 8, 8]},
        "data.patch_size: [8, 8, 8]: needs 2 numbers",
    ),
    "patch is text": ({"data.patch_size": "big"}, "data.patch_size: big: must be"),
    "epochs": ({"training.epochs": "many"}, "training.epochs: many: must be"),
    "learning rate": ({"training.learning_rate": -1}, "training.learning_rate: -1: must be"),
    "minutes": ({"training.max_minutes": 0}, "training.max_minutes: 0: must be"),
    "axes of nothing": ({"data.axes": "QQ"}, "data.axes: QQ: must name Y and X"),
    "axes that do not fit": ({"data.axes": "ZYX"}, "data.axes: ZYX:"),
    "depth of flat images": ({"data.ndim": 3}, "data.ndim: 3:"),
    "ndim": ({"data.ndim": 4}, "data.ndim: 4: must be"),
    "channel": ({"data.channels": [7]}, "data.channels: [7]:"),
    "normalization": ({"data.normalization": "rank"}, "data.normalization: rank: must be"),
    "network": (
        {"backbone.name": "resnet"},
        "backbone.name: resnet: is no known network. For crappify:",
    ),
    "network of another task": (
        {"backbone.name": "mae_vit"},
        "backbone.name: mae_vit: cannot learn crappify",
    ),
    "device word": ({"compute.device": "gpu"}, "compute.device: gpu:"),
    "device missing": (
        {"compute.device": "cuda:63"},
        "compute.device: cuda:63: is not on this machine",
    ),
    "no checkpoint": ({"training.load_checkpoint": "notes/a.txt"}, "notes/a.txt"),
    "missing checkpoint": ({"training.load_checkpoint": "best"}, "best"),
    "result is a file": ({"result_dir": "notes/a.txt"}, "result_dir: "),
    "result below a file": ({"result_dir": "notes/a.txt/out"}, "result_dir: "),
    "name": ({"name": "a/b"}, "name: a/b: must be a plain folder name"),
    "run id": ({"run_id": 0}, "run_id: 0: must be"),
    "token": (
        {"pretext": {"task": "masking", "token_size": 7}, "data.patch_size": [32, 32]},
        "data.patch_size: [32, 32]: must be a multiple of the token [7, 7]",
    ),
}

FILES = {
    "broken": ("data: {train: [images\n", "is no valid YAML (line 2"),
    "twice": ("name: a\nname: b\n", "the key name stands twice"),
    "empty": ("", "must hold keys and values"),
    "list": ("- a\n- b\n", "must hold keys and values"),
    "bomb": ("a: &a [x, x]\nb: *a\ndata: {train: images}\n", "is no known key"),
    "python": ("data: !!python/object/apply:os.system [ls]\n", "is no valid YAML"),
    "BiaPy, other workflow": (
        "PROBLEM: {TYPE: DENOISING}\n",
        "PROBLEM.TYPE: DENOISING: only BiaPy's workflow",
    ),
    "BiaPy, patch": (
        'PROBLEM: {TYPE: SELF_SUPERVISED}\nDATA: {PATCH_SIZE: "(8, 8)"}\n',
        "DATA.PATCH_SIZE: [8, 8]: must be (y, x, channels)",
    ),
}


@pytest.fixture
def place(images):
    (images.parent / "empty").mkdir()
    (images.parent / "notes").mkdir()
    (images.parent / "notes" / "a.txt").write_text("no image, no checkpoint")
    return images.parent


def changed(changes):
    fields = yaml.safe_load(yaml.safe_dump(GOOD))
    for key, value in changes.items():
        *groups, last = key.split(".")
        here = fields
        for group in groups:
            here = here.setdefault(group, {})
        here[last] = value
    return fields


@pytest.mark.parametrize("case", FIELDS)
def test_a_wrong_field_is_named_and_nothing_is_left(place, say, everything, case):
    changes, fragment = FIELDS[case]
    (place / "c.yaml").write_text(yaml.safe_dump(changed(changes)))
    before = everything(place)
    said = say("run", "--config", "c.yaml")
    assert (said.code, fragment in said.error) == (2, True), said.error
    assert everything(place) == before


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_file_is_named_and_nothing_is_left(place, say, everything, case):
    text, fragment = FILES[case]
    (place / "c.yaml").write_text(text)
    before = everything(place)
    for command in ("run", "check"):
        said = say(command, "--config", "c.yaml")
        assert (said.code, fragment in said.error) == (2, True), said.error
    assert everything(place) == before


@pytest.mark.parametrize(
    ("config", "fragment"),
    [
        ("nowhere.yaml", "no such file"),
        ("images", "cannot be read"),
        ("images/train/x/im0.png", "cannot be read"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_configuration_that_is_no_file(say, config, fragment):
    assert fragment in say("run", "--config", config).error


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--gpu", "first"], "--gpu: first: must be different numbers"),
        (["--gpu", "0,0"], "--gpu: 0,0: must be different numbers"),
        (["--gpu", "63"], "cuda:63: is not on this machine"),
        (["--gpu", "62,63"], "--gpu: 62: is not on this machine"),
        (["--resume"], "run_id: 1: there is no run to resume"),
        (["--resume", "--overwrite"], "--resume: cannot go with --overwrite"),
        (["--run_id", "x"], "run_id: x: must be a whole number"),
        (["--run_id", "-1"], "run_id"),
        (["--set", "training.epochs=[1"], "--set training.epochs: is no valid YAML"),
        (["--set", "data.train.x=3"], "data.train.x: is no known key"),
        (["--set", "training=3"], "training: 3: must be a group of keys"),
    ],
)
def test_wrong_options_of_run(place, say, everything, words, fragment):
    (place / "c.yaml").write_text(yaml.safe_dump(GOOD))
    before = everything(place)
    said = say("run", "--config", "c.yaml", *words)
    assert (said.code, fragment in said.error) == (2, True), said.error
    assert everything(place) == before


def test_predict_refuses_before_anything_slow(place, say, everything):
    (place / "fake.pth").write_bytes(b"no checkpoint")
    images = str(place / "images" / "test" / "x")
    for words, fragment in (
        (
            ["--checkpoint", "none.pth", "--input", images, "--output", "o"],
            "--checkpoint: none.pth: no such file",
        ),
        (
            ["--checkpoint", "fake.pth", "--input", "none", "--output", "o"],
            "--input: none: does not exist",
        ),
        (
            ["--checkpoint", "fake.pth", "--input", images, "--output", images],
            "beside which nothing is written",
        ),
        (
            ["--checkpoint", "fake.pth", "--input", images, "--output", "fake.pth"],
            "--output: fake.pth: is a file",
        ),
        (["--checkpoint", "fake.pth", "--input", images, "--output", "o"], "fake.pth"),
    ):
        before = everything(place)
        said = say("predict", *words)
        assert (said.code, fragment in said.error) == (2, True), said.error
        assert everything(place) == before
