"""300 awkward files: each is read as another reader reads it, or named with rule and remedy."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from awkward_broken import BROKEN, FOREIGN
from awkward_damage import DAMAGES, harm, result
from awkward_files import tiff_bytes
from awkward_others import OTHERS
from awkward_tiffs import TIFFS
from image_samples import as_frames, random_boxes

from napari_ssl_pretrain.cli import main
from napari_ssl_pretrain.data.intensity import finite, measure
from napari_ssl_pretrain.data.labels import find_scheme, open_labelled, read_pair
from napari_ssl_pretrain.data.opening import image_name, open_image
from napari_ssl_pretrain.data.patches import PatchSource
from napari_ssl_pretrain.data.regions import all_regions
from napari_ssl_pretrain.errors import UserError

TABLE = TIFFS | OTHERS | FOREIGN | BROKEN
PATCHES = {2: (16, 16), 3: (4, 16, 16)}
SECONDS = 60
"""Of the processor: a file that swells or loops takes minutes, a slow computer a few seconds."""
CONFIG = {
    "name": "job",
    "result_dir": "out",
    "pretext": {"task": "crappify"},
    "backbone": {"size": "tiny", "features_per_stage": [4, 8], "blocks_per_stage": 1},
    "training": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2},
    "compute": {"device": "cpu", "precision": "fp32", "workers": 0},
}


@pytest.fixture
def say(capsys):
    """Run one command in this process; return its exit code, its output and its errors."""

    def run(*words):
        began = time.process_time()
        code = main(list(words))
        assert time.process_time() - began < SECONDS
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with an empty folder of images."""
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(train, **fields):
    """Write a configuration; return the words that name it."""
    data = {"train": str(train), **fields}
    Path("c.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data}))
    return "--config", "c.yaml"


def as_left(folder):
    """What is in a folder, and when it was written."""
    return {p: (p.lstat().st_mtime_ns, p.lstat().st_size) for p in folder.rglob("*")}


def learn(path):
    """Do what a run does with an image before the network sees it."""
    opened = open_image(path)
    intensity = measure(opened, "percentile")
    source = PatchSource([opened], all_regions([opened]), PATCHES[opened.ndim], 0.1)
    for number in range(2):
        patch = source.draw(0, 0, number).array
        assert patch.shape == (opened.in_channels, *PATCHES[opened.ndim])
        assert np.isfinite(finite(patch, intensity.mean)).all()
    assert np.isfinite([*intensity.offset, *intensity.scale]).all()
    assert (intensity.scale > 0).all()


def test_the_table_is_long():
    assert len(TABLE) == sum(map(len, (TIFFS, OTHERS, FOREIGN, BROKEN))) > 300
    assert sum(not case.axes for case in TABLE.values()) > 120


@pytest.mark.parametrize("name", [n for n, case in TABLE.items() if case.axes])
def test_it_is_read_as_another_reader_reads_it(tmp_path, name):
    case, path = TABLE[name], tmp_path / name
    wanted = np.asarray(case.make(path))
    before = as_left(tmp_path)
    opened = open_image(path)
    assert opened.info.axes == case.axes
    assert re.search(case.told, opened.info.note)
    frames = as_frames(
        wanted.astype(np.uint8) if wanted.dtype == bool else wanted, case.axes, opened.ndim
    )
    assert opened.frames == len(frames)
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(opened.read(number), frame)
        for box in random_boxes(opened.spatial, 2, number):
            np.testing.assert_array_equal(opened.read(number, box), frame[(slice(None), *box)])
    learn(path)
    assert as_left(tmp_path) == before


@pytest.mark.parametrize("name", [n for n, case in TABLE.items() if not case.axes])
def test_it_is_refused_with_rule_and_remedy(here, say, name):
    """In one sentence, by ``check`` or, where only decoding tells, by reading."""
    case, path = TABLE[name], here / "images" / name
    case.make(path)
    before = as_left(here / "images")
    code, out, err = say("check", *config(path))
    if code == 0:
        with pytest.raises(UserError) as caught:
            learn(path)
        err = f"error: {caught.value}"
        assert "cannot be decoded" in err
    assert len(err.strip().splitlines()) == 1, out
    assert name in err
    assert re.search(case.told, err)
    assert err.strip().endswith(".")
    assert err.count(". ") >= 1, "a remedy"
    assert not re.search(r"object has|attribute|subscript|index out|NoneType|\(0\)", err), err
    assert as_left(here / "images") == before


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_run_on_all_of_them(here, say, ndim):
    """Types, codecs and sizes mixed with what is broken: some are learnt from, the others named."""
    folder = here / "images"
    chosen = {n: c for n, c in TABLE.items() if ("Z" in c.axes) == (ndim > 2)}
    for name, case in chosen.items():
        case.make(folder / name)
    before = as_left(folder)
    code, _, err = say("run", *config(folder, ndim=ndim, patch_size=list(PATCHES[ndim])))
    assert code == 0, err
    assert as_left(folder) == before
    events = [
        json.loads(x) for x in next(Path("out").rglob("events.jsonl")).read_text().split("\n") if x
    ]
    checked = next(e for e in events if e["kind"] == "data_checked")
    told = [*checked["skipped"], *(e["message"] for e in events if e["kind"] == "warned")]
    named = {n for n in chosen if any(f"/{n}: " in t or f"/{n} is skipped: " in t for t in told)}
    assert not {n for n, case in chosen.items() if not case.axes} - named
    assert all(
        re.search(r"channel|flat", t)
        for t in told
        for n in chosen
        if chosen[n].axes and f"/{n}" in t
    )
    assert checked["train"] > 40
    checkpoint = str(next(Path("out").rglob("*-checkpoint-best.pth")))
    code, _, err = say("predict", "--checkpoint", checkpoint, "--input", "images", "--output", "o")
    assert code == 0, err
    undecoded = sum("cannot be decoded" in text for text in told)
    assert len(list(Path("o").iterdir())) == checked["train"] - undecoded
    assert as_left(folder) == before


def test_as_labels(tmp_path):
    """Every file as a label image: classes of each pixel, or one sentence about it."""
    kinds = Counter()
    for name, case in TABLE.items():
        folder = tmp_path / str(kinds.total())
        for part in ("x", "y"):
            (folder / part).mkdir(parents=True)
        case.make(folder / "y" / name)
        try:
            info = open_image(folder / "y" / name).info
            axes = "".join(a for a in info.axes if a not in "CS")
        except UserError:
            info, axes = None, "YX"
        plain = np.zeros([info.length(a) for a in axes] if info else (9, 9), np.uint8)
        stored = tiff_bytes(plain, metadata={"axes": axes})
        (folder / "x" / f"{image_name(Path(name))}.tif").write_bytes(stored)
        try:
            found = open_labelled(str(folder / "x"), str(folder / "y"))
            scheme = find_scheme([found])
            for pixels, classes in read_pair(found.images[0], scheme):
                assert pixels.shape[1:] == classes.shape
                assert classes.max() < scheme.count
            assert case.axes, name
            kinds["read"] += 1
        except UserError:
            kinds["refused"] += 1
    assert min(kinds.values()) > 90


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_at_random_is_refused_or_read(tmp_path, damage):
    """A short form of ``benchmarks/fuzz_files.py``; what is cut is never read otherwise."""
    sound = {n: case for n, case in (TIFFS | OTHERS).items() if case.axes and "set" not in n}
    (tmp_path / "hurt").mkdir()
    kinds = set()
    for number, (name, case) in enumerate(sound.items()):
        if damage != "truncate" and number % 5 != list(DAMAGES).index(damage):
            continue
        wanted = np.asarray(case.make(tmp_path / name))
        harm(tmp_path / name, tmp_path / "hurt" / name, damage, number)
        kinds.add(result(tmp_path / "hurt" / name, case.axes, wanted).kind)
    assert "refused" in kinds
    assert damage != "truncate" or kinds <= {"refused", "same"}
