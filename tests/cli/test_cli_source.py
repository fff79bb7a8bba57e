from __future__ import annotations

from argparse import Namespace

import pytest
import yaml

from napari_ssl_pretrain.cli.source import load_config, put, read_setting

FIELDS = {
    "data": {"train": "images/train/x"},
    "pretext": {"task": "crappify"},
    "training": {"epochs": 9},
}


def load(config="c.yaml", **options):
    given = {"set": [], "name": None, "result_dir": None, "run_id": None} | options
    return load_config(Namespace(config=config, **given))


@pytest.fixture
def file(images):
    (images.parent / "c.yaml").write_text(yaml.safe_dump(FIELDS))
    return images.parent


@pytest.mark.usefixtures("file")
def test_options_win_over_the_file():
    config = load(
        set=["training.epochs=3", "name=set"], name="option", run_id="4", result_dir="r"
    ).config
    assert (config.training.epochs, config.name, config.run_id, config.result_dir) == (
        3,
        "option",
        4,
        "r",
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=3", 3),
        ("k=1e-4", 1e-4),
        ("k=null", None),
        ("k=", None),
        ("k=[64, 64]", [64, 64]),
        ("k=true", True),
        ("k=a=b", "a=b"),
        ("k=*.tif", "*.tif"),
        ("k=a/*.tif", "a/*.tif"),
        ("k=C:\\images", "C:\\images"),
    ],
)
def test_values_are_read_as_yaml(text, value):
    assert read_setting(text) == ("k", value)


def test_a_new_group_is_made_and_others_are_kept():
    fields = {"data": {"train": "x"}}
    put(fields, "data.ndim", 2)
    put(fields, "backbone.size", "tiny")
    assert fields == {"data": {"train": "x", "ndim": 2}, "backbone": {"size": "tiny"}}


def test_paths_are_found_from_here_first_then_beside_the_file(file, monkeypatch):
    elsewhere = file / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    loaded = load("../c.yaml")
    assert loaded.config.data.train == (str(file / "images/train/x"),)
    assert "data.train: taken from the folder of the configuration" in loaded.notes[0]
    (elsewhere / "images/train/x").mkdir(parents=True)
    loaded = load("../c.yaml")
    assert loaded.config.data.train == ("images/train/x",)
    assert not loaded.notes


def test_globs_and_lists_are_found_beside_the_file(file, monkeypatch):
    fields = {**FIELDS, "data": {"train": ["images/train/x/*.png", "images/test/x"]}}
    (file / "c.yaml").write_text(yaml.safe_dump(fields))
    elsewhere = file / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load("../c.yaml").config.data.train == (
        str(file / "images/train/x/*.png"),
        str(file / "images/test/x"),
    )


def test_a_path_that_is_nowhere_is_left_as_it_was_written(file, monkeypatch):
    (file / "c.yaml").write_text(yaml.safe_dump({**FIELDS, "data": {"train": "nowhere"}}))
    monkeypatch.chdir(file / "images")
    assert load("../c.yaml").config.data.train == ("nowhere",)


def test_a_biapy_file_is_translated_and_named_after_itself(file):
    theirs = {
        "PROBLEM": {"TYPE": "SELF_SUPERVISED"},
        "DATA": {"TRAIN": {"PATH": "images/train/x"}},
        "TRAIN": {"EPOCHS": 4},
    }
    (file / "theirs.yaml").write_text(yaml.safe_dump(theirs))
    loaded = load("theirs.yaml")
    assert (loaded.config.name, loaded.config.training.epochs) == ("theirs", 4)
    assert loaded.notes[0].startswith("BiaPy file, translated: ")
    assert load("theirs.yaml", name="mine").config.name == "mine"
