"""Folders as people leave them: every file in them is learnt from, named, or no image."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
import yaml
import zarr
from awkward_files import image, tiff_bytes

from napari_ssl_pretrain.cli import main
from napari_ssl_pretrain.data.discovery import find_images
from napari_ssl_pretrain.errors import ConfigError

CONFIG = {
    "pretext": {"task": "crappify"},
    "backbone": {"size": "tiny", "features_per_stage": [4, 8], "blocks_per_stage": 1},
    "compute": {"device": "cpu", "precision": "fp32"},
}
FLAT = tiff_bytes(image("YX"))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Make files by path below ``images``; return the folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()

    def make(*names, data=FLAT):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    return make


@pytest.fixture
def check(capsys):
    """Check a configuration; return what is trained on, what is skipped, and the error."""

    def run(train="images", **fields):
        data = {"train": str(train), **fields}
        Path("c.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data}))
        code = main(["check", "--config", "c.yaml", "--json"])
        said = capsys.readouterr()
        if code:
            assert len(said.err.strip().splitlines()) == 1
            return [], {}, said.err
        found = json.loads(said.out)
        skipped = {Path(row["path"]).name: row["reason"] for row in found["skipped"]}
        return [Path(row["path"]).name for row in found["images"]], skipped, ""

    return run


def test_clutter_is_passed_over(tree, check):
    tree("a.tif")
    tree(".DS_Store", "._a.tif", "Thumbs.db", "desktop.ini", ".hidden/b.tif", data=b"clutter")
    assert check() == (["a.tif"], {}, "")


def test_what_is_no_image_is_named(tree, check):
    folder = tree("a.tif")
    tree("notes.txt", "x.czi", "empty.tif", data=b"")
    for name in ("x.tif", "lost.zarr", "labels", "masks"):
        (folder / name).mkdir()
    shutil.copy(folder / "a.tif", folder / "labels" / "a.tif")
    read, skipped, _ = check()
    assert read == ["a.tif"]
    assert set(skipped) == {"notes.txt", "x.czi", "empty.tif", "x.tif", "lost.zarr"}
    assert "without the metadata of Zarr" in skipped["lost.zarr"]


def test_images_only_in_folders_inside(tree, check):
    tree("sub/deep/a.tif", "sub/b.tif")
    _, _, error = check()
    assert "holds no image. Folders inside are not searched: give images/sub" in error
    assert "images/**/*.tif" in error
    assert check("images/**/*.tif")[0] == ["b.tif", "a.tif"]
    assert check("images/**")[0] == ["b.tif", "a.tif"]


@pytest.mark.parametrize("names", [(), (".DS_Store",), ("notes.txt",), ("empty.tif", "x.nd2")])
def test_nothing_to_train_on(tree, check, names):
    tree(*names, data=b"\1\2")
    _, _, error = check()
    assert error.startswith("error: data.train: images: ")
    assert "file" in error or "holds no image. Put images there" in error


def test_names_of_all_sorts(tree, check):
    names = [
        *("a b.tif", "a[1].tif", "-a.tif", "a'b\"c.tif", "A.TIF", "b.tif", "new\nline.tif"),
        *(unicodedata.normalize(form, "é.tif") for form in ("NFC", "NFD")),
        *("x" * 251 + ".tif", "...tif", "%41.tif", "no ending", "a.b.c.tif", "中文.tif", "~"),
    ]
    tree(*names)
    names.remove("...tif")  # hidden, as all that begins with a dot
    read, skipped, _ = check()
    assert (sorted(read), skipped) == (sorted(names), {})
    for name in names:
        assert [p.name for p in find_images("data.train", [f"images/{name}"])] == [name]


def test_same_stem_twice_keeps_both(tree, check):
    tree("a.tif", "a.tiff", "A.tif", "a")
    assert len(check()[0]) == 4


def test_links(tree, check):
    folder = tree("a.tif", "sub/b.tif")
    for name, target in {
        "again.tif": "a.tif",
        "b.tif": "sub/b.tif",
        "gone.tif": "nowhere.tif",
        "circle.tif": "circle.tif",
        "up": "..",
        "folder.tif": "sub",
    }.items():
        (folder / name).symlink_to(target)
    read, skipped, _ = check()
    assert sorted(read) == ["a.tif", "b.tif"]
    assert set(skipped) <= {"gone.tif", "circle.tif", "folder.tif"}
    assert {"gone.tif", "folder.tif"} <= set(skipped)
    assert sorted(set(check("images/**/*.tif")[0])) == ["a.tif", "b.tif"]


def test_mixed_images(tree, check):
    """Volumes among flat images, colours among grey ones, all types of numbers."""
    tree("grey.tif", "more.tif", "other.tif")
    tree("deep.tif", data=tiff_bytes(image("YX", "float32")))
    tree("colour.tif", data=tiff_bytes(image("YXS"), photometric="rgb"))
    tree("volume.tif", data=tiff_bytes(image("ZYX"), metadata={"axes": "ZYX"}))
    read, skipped, _ = check()
    assert sorted(read) == ["deep.tif", "grey.tif", "more.tif", "other.tif", "volume.tif"]
    assert "has 3 channels where most images have 1" in skipped["colour.tif"]
    read, skipped, _ = check(ndim=3)
    assert read == ["volume.tif"]
    assert all("flat" in skipped[n] for n in ("grey.tif", "deep.tif", "colour.tif"))


def plate(path):
    """A plate of one well with two fields."""
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs["plate"] = {"wells": [{"path": "A/1"}], "rows": [], "columns": []}
    well = root.create_group("A").create_group("1")
    well.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
    for name in "01":
        field = well.create_group(name)
        axes = [{"name": a, "type": "space"} for a in "yx"]
        field.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
        field.create_array("0", shape=(40, 50), dtype="u1")[:] = image("YX")


def test_a_plate_is_named_and_its_images_can_be(tree, check):
    plate(tree() / "plate.zarr")
    assert "is a plate of many images. Name one of them, such as" in check()[2]
    assert "is a well of a plate" in check("images/plate.zarr/A/1")[2]
    assert check("images/plate.zarr/A/1/0")[0] == ["0"]
    assert check("images/plate.zarr/*/*/*")[0] == ["0", "1"]
    tree("a.tif")
    assert check("images/**")[0] == ["a.tif"]


def test_a_crowd_of_strangers_is_quick(tree):
    """The search for images inside ends at the first one."""
    folder = tree(*(f"{n % 50}/{n}.tif" for n in range(2000)), data=b"")
    with pytest.raises(ConfigError, match="Folders inside are not searched"):
        find_images("data.train", [str(folder)])


def test_a_folder_that_may_not_be_read(tree, check):
    folder = tree("a.tif")
    folder.chmod(0)
    try:
        if os.access(folder, os.R_OK):
            pytest.skip("this user may read everything")
        assert "cannot be read (Permission denied)" in check()[2]
    finally:
        folder.chmod(0o755)
