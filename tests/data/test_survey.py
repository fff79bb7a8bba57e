"""What a folder comes to: which images, which not and why, which axes, channels and size."""

# ruff: noqa: TID251

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from image_samples import pixels, sample

from napari_ssl_pretrain.data import survey as survey_module
from napari_ssl_pretrain.data.opening import read_header
from napari_ssl_pretrain.data.survey import survey
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.config import DataConfig


def look(train, **options):
    return survey(DataConfig(train=train, **options))


def names(images):
    return [image.info.name for image in images]


def test_folder_of_planes(folder):
    place = folder(b10=sample("YX"), b9=sample("YX", "uint16", Y=5, X=7), a=sample("YX", "float32"))
    found = look(place)
    assert names(found.train) == ["a", "b9", "b10"]
    assert (found.ndim, found.in_channels, found.axes) == (2, 1, "YX")
    assert (found.validation, found.test, found.skipped, found.notes) == ((), (), (), ())
    assert [image.info.dtype for image in found.train] == ["float32", "uint16", "uint8"]
    summary = found.summary()
    assert summary.shapes == ((33, 47), (5, 7), (33, 47))
    assert (summary.ndim, summary.in_channels, summary.voxel_size) == (2, 1, None)


def test_ways_to_name_images(folder, tmp_path, monkeypatch):
    place = folder(a=sample("YX"), b=sample("YX"), c=sample("YX"))
    assert names(look(place / "b.tif").train) == ["b"]
    assert names(look(str(place / "[bc]*.tif")).train) == ["b", "c"]
    assert names(look([place / "c.tif", place / "a.tif", place]).train) == ["c", "a", "b"]
    monkeypatch.chdir(tmp_path)
    assert names(look("images").train) == ["a", "b", "c"]
    assert names(look("images/*.tif").train) == ["a", "b", "c"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names(look("~/images").train) == ["a", "b", "c"]


def test_file_whose_name_looks_like_a_glob(folder):
    place = folder(**{"a[1]": sample("YX"), "a1": sample("YX")})
    assert names(look(place / "a[1].tif").train) == ["a[1]"]


def test_clutter_is_ignored_and_strangers_are_named(folder):
    place = folder(a=sample("YX"))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.tif"):
        (place / name).write_bytes(b"clutter")
    (place / "inside").mkdir()
    tifffile.imwrite(place / "inside" / "z.tif", sample("YX"))
    (place / "notes.txt").write_text("hello")
    (place / "empty.tif").write_bytes(b"")
    found = look(place)
    assert names(found.train) == ["a"]
    assert {s.path.name: s.reason for s in found.skipped} == {
        "empty.tif": "is empty (0 bytes). Copy or export it again.",
        "notes.txt": "is a text file. Move it elsewhere.",
    }


def test_ome_zarr_folder_is_one_image_beside_files(folder):
    place = folder(a=sample("YX"))
    zarr.create_array(place / "b.zarr", shape=(9, 9), dtype="u1")[:] = 1
    assert names(look(place).train) == ["a", "b"]
    assert names(look(place / "b.zarr").train) == ["b"]


def test_names_stay_unique_on_any_file_system(folder):
    place = folder(a=sample("YX"), A=sample("YX"), b=sample("YX"))
    np.save(place / "a.npy", sample("YX"))
    other = place.parent / "other"
    other.mkdir()
    tifffile.imwrite(other / "a.tif", sample("YX"))
    found = names(look([place, other]).train)
    assert found == ["a_npy", "A_tif", "a_tif_2", "b", "a_tif_3"]
    assert len({n.casefold() for n in found}) == len(found)


@pytest.mark.parametrize(
    ("train", "text"),
    [
        ("nowhere", "data.train: {0}: does not exist. Give a folder, an image or a glob"),
        ("void", "data.train: {0}: holds no image. Put images there: TIFF, PNG"),
        ("images/*.png", "data.train: {0}: does not exist"),
        ("bad", "data.train: {0}: none of the 2 files there can be used; a.tif is empty (0 bytes)"),
        (
            "bad/a.tif",
            "data.train: {0}: the one file there cannot be used; a.tif is empty (0 bytes)",
        ),
    ],
)
def test_nothing_to_train_on(folder, train, text):
    root = folder(a=sample("YX")).parent
    (root / "void").mkdir()
    (root / "bad").mkdir()
    for name in ("a.tif", "b.tif"):
        (root / "bad" / name).write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        look(root / train)
    assert str(caught.value).startswith(text.format(root / train))
    assert "\n" not in str(caught.value)


def test_the_field_that_is_wrong_is_named(folder, tmp_path):
    place = folder(a=sample("YX"))
    for field in ("validation", "test"):
        with pytest.raises(ConfigError) as caught:
            look(place, **{field: tmp_path / "nowhere"})
        assert caught.value.subject == f"data.{field}"


def test_file_without_permission_is_skipped(folder, monkeypatch):
    place = folder(a=sample("YX"), b=sample("YX"))
    plain = Path.open

    def locked(self, *args, **options):
        if self.name == "a.tif":
            raise PermissionError(13, "Permission denied")
        return plain(self, *args, **options)

    monkeypatch.setattr(Path, "open", locked)
    assert [s.reason for s in look(place).skipped] == ["may not be read. Check its permissions."]


def test_minority_of_channels_is_skipped(folder):
    place = folder(a=sample("YX"), b=sample("YX"))
    tifffile.imwrite(place / "rgb.tif", sample("YXS"), photometric="rgb")
    found = look(place)
    assert (names(found.train), found.in_channels) == (["a", "b"], 1)
    assert found.skipped[0].reason == (
        "has 3 channels where most images have 1. Choose common ones with data.channels."
    )
    both = look(place, channels=(0,))
    assert (names(both.train), both.in_channels) == (["a", "b", "rgb"], 1)
    second = look(place, channels=(2, 1))
    assert (names(second.train), second.in_channels) == (["rgb"], 2)
    assert second.skipped[0].reason == "has no channel 2, only 1. Correct data.channels."


def test_channel_that_no_image_has(folder):
    place = folder(a=sample("YX"))
    tifffile.imwrite(place / "rgb.tif", sample("YXS"), photometric="rgb")
    with pytest.raises(ConfigError) as caught:
        look(place, channels=(7,))
    assert str(caught.value) == (
        "data.channels: [7]: must be channels that the images have; rgb.tif has channels 0 to 2. "
        "Correct the list; channels count from 0."
    )
    with pytest.raises(ConfigError, match="must name each channel once"):
        look(place, channels=(0, 0))


def test_dimensions_follow_the_images(folder):
    place = folder(v1=sample("ZYX"), v2=sample("ZYX", Z=9))
    found = look(place)
    assert (found.ndim, found.summary().shapes) == (3, ((6, 33, 47), (9, 33, 47)))
    planes = look(place, ndim=2)
    assert (planes.ndim, len(planes.summary().shapes)) == (2, 15)


def test_flat_images_among_volumes_are_skipped(folder):
    place = folder(v1=sample("ZYX"), v2=sample("ZYX"), flat=sample("YX"))
    found = look(place)
    assert (found.ndim, names(found.train)) == (3, ["v1", "v2"])
    assert found.skipped[0].reason.startswith("is flat, while volumes are trained on.")


def test_volume_among_flat_images_gives_its_planes(folder):
    found = look(folder(v=sample("ZYX"), a=sample("YX"), b=sample("YX")))
    assert found.ndim == 2
    assert [image.frames for image in found.train] == [1, 1, 6]


def test_ndim_3_on_flat_images(folder):
    with pytest.raises(ConfigError) as caught:
        look(folder(a=sample("YX")), ndim=3)
    assert str(caught.value) == (
        "data.ndim: 3: needs images with depth, but a.tif is flat (YX, 33 x 47). "
        "Set data.ndim to 2, or data.axes if its axes were misread."
    )


def test_time_is_no_depth(tmp_path):
    array = sample("TYX", T=12)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TYX"})
    found = look(tmp_path)
    assert (found.ndim, found.train[0].frames) == (2, 12)
    with pytest.raises(ConfigError, match=r"a.tif is flat"):
        look(tmp_path, ndim=3)


def test_axes_that_no_image_has(folder):
    with pytest.raises(ConfigError) as caught:
        look(folder(a=sample("YX"), b=sample("ZYX")), axes="TZCYX")
    assert str(caught.value) == (
        "data.axes: TZCYX: a.tif: names 5 axes, but there are 2 (33 x 47). "
        "Give the axes as stored, or auto."
    )


def test_axes_that_some_images_have(folder):
    found = look(folder(a=sample("YX"), b=sample("ZYX")), axes="ZYX")
    assert names(found.train) == ["b"]
    assert "names 3 axes, but there are 2" in found.skipped[0].reason


def test_assumptions_are_told_once_with_the_images(tmp_path):
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", sample("ZYX", Z=7))
    assert look(tmp_path).notes == (
        "0.npy, 1.npy, 2.npy and 2 more: axes not stored, ZYX assumed for 7 x 33 x 47 "
        "(set data.axes if that is wrong)",
    )


def test_voxel_size_and_differing_ones(tmp_path):
    for name, spacing in {"a": 1.0, "b": 2.0, "c": 2.04}.items():
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            sample("ZYX"),
            imagej=True,
            resolution=(2, 2),
            metadata={"axes": "ZYX", "spacing": spacing, "unit": "um"},
        )
    assert look(tmp_path / "[bc].tif").voxel_size == (2.0, 0.5, 0.5)
    assert look(tmp_path / "[bc].tif").notes == ()
    found = look(tmp_path)
    assert found.voxel_size == (1.0, 0.5, 0.5)
    assert found.notes[0].startswith("voxel proportions differ: a.tif 1 x 0.5 x 0.5, b.tif 2 x")
    assert found.summary().voxel_size == (1.0, 0.5, 0.5)


def test_sets_have_to_fit_the_training_images(folder, tmp_path):
    place = folder(a=sample("YX"), b=sample("YX"))
    other = tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "a.tif", sample("YX", "uint16"))
    tifffile.imwrite(other / "rgb.tif", sample("YXS"), photometric="rgb")
    found = look(place, validation=other, test=other / "a.tif")
    assert (names(found.validation), names(found.test)) == (["a"], ["a"])
    assert [s.path.name for s in found.skipped] == ["rgb.tif"]
    with pytest.raises(ConfigError, match=r"^data.test: .*rgb.tif has 3 channels where most"):
        look(place, test=other / "rgb.tif")


def test_images_named_twice_count_once(folder):
    place = folder(a=sample("YX"), b=sample("YX"))
    found = look([place, place / "a.tif", place / ".." / "images" / "b.tif"], test=place / "b.tif")
    assert names(found.train) == ["a", "b"]
    assert found.notes == ("b.tif: both in data.train and in data.test",)


def test_headers_only(folder, monkeypatch):
    place = folder(a=sample("YX"), v=sample("ZYX"))
    monkeypatch.setattr("napari_ssl_pretrain.data.images.Image.read", None)
    monkeypatch.setattr("napari_ssl_pretrain.data.tiff_pixels.TiffPixels.read", None)
    told = []
    found = survey(DataConfig(train=place), progress=lambda *counts: told.append(counts))
    assert len(found.train) == 2
    assert told == [(1, 2), (2, 2)]


def test_odd_pixels_are_no_matter_of_the_survey(folder):
    nan = np.full((9, 9), np.nan, np.float32)
    found = look(folder(nan=nan, flat=np.zeros((9, 9), np.uint8), one=pixels((1, 1))))
    assert (len(found.train), found.skipped) == (3, ())


@pytest.mark.parametrize("slow", [-1, 1e9])
def test_files_that_come_slowly_are_read_ahead_in_the_same_order(tmp_path, monkeypatch, slow):
    threads: set[str] = set()

    def spy(path, axes):
        threads.add(threading.current_thread().name[:7])
        return read_header(path, axes)

    monkeypatch.setattr(survey_module, "_SLOW", slow)
    monkeypatch.setattr(survey_module, "read_header", spy)
    for number in range(70):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.zeros((8, 8), np.uint8))
    assert names(look(str(tmp_path)).train) == [str(n) for n in range(70)]
    assert ("headers" in threads) == (slow < 0)
