"""Worsened copies: what they are, kept while true, remade when not, never beside the images."""

# ruff: noqa: TID251

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile
from image_samples import pixels, sample
from skimage.transform import resize

from napari_ssl_pretrain.data import ssl_source
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.ssl_source import RECORD, prepare_ssl_source
from napari_ssl_pretrain.data.survey import survey
from napari_ssl_pretrain.errors import ConfigError, DataError
from napari_ssl_pretrain.pretext import Crappify
from napari_ssl_pretrain.spec.config import DataConfig

TASK = Crappify(noise=0.2, axis_factors=(2.0, 2.0))


def images_of(place, **options):
    return survey(DataConfig(train=place, **options)).train


def stamps(paths):
    return [p.stat().st_mtime_ns for p in paths]


def test_copy_is_the_documented_arithmetic_rounded_once(folder, tmp_path):
    array = sample("YX")
    images = images_of(folder(a=array))
    (copy,) = prepare_ssl_source(images, Crappify(noise=0, axis_factors=(2, 2)), tmp_path / "s", 0)
    small = resize(
        array, (16, 23), order=1, mode="reflect", anti_aliasing=False, preserve_range=True
    )
    large = resize(
        small, array.shape, order=1, mode="reflect", anti_aliasing=False, preserve_range=True
    )
    assert copy == tmp_path / "s" / "a.tif"
    # a value that lies at a half may be rounded either way by float32 and float64
    assert np.abs(tifffile.imread(copy) - large).max() <= 0.5 + 1e-4


def test_noise_is_a_fraction_of_the_maximum_of_the_whole_image(tmp_path):
    array = np.full((4, 2, 100, 100), 100, np.float32)
    array[3, 1, 0, 0] = 200
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TCYX"})
    task = Crappify(noise=0.2, axis_factors=(1, 1))
    (copy,) = prepare_ssl_source(images_of(tmp_path / "a.tif"), task, tmp_path / "s", 0)
    noise = tifffile.imread(copy) - array
    assert noise[:3].std() == pytest.approx(40, rel=0.03)
    flat = [noise[t, c].ravel()[100:] for t in range(3) for c in range(2)]
    assert np.abs(np.corrcoef(flat) - np.eye(6)).max() < 0.05


@pytest.mark.parametrize(
    ("axes", "dtype", "ndim"),
    [
        ("CYX", "uint16", 2),
        ("ZYX", "uint8", 3),
        ("ZYX", "uint8", 2),
        ("TYX", "int16", 2),
        ("ZCYX", "float32", 3),
    ],
)
def test_copies_are_stored_as_their_sources(tmp_path, axes, dtype, ndim):
    place = tmp_path / "images"
    place.mkdir()
    tifffile.imwrite(
        place / "a.tif", sample(axes, dtype), photometric="minisblack", metadata={"axes": axes}
    )
    (image,) = images_of(place, ndim=ndim)
    task = Crappify(axis_factors=(1.5, 2, 2)[-ndim:])
    (copy,) = prepare_ssl_source([image], task, tmp_path / "s", 0)
    found = open_image(copy, ndim=ndim).info
    assert (found.axes, found.shape, found.dtype) == (axes, image.info.shape, dtype)
    assert not np.array_equal(tifffile.imread(copy), tifffile.imread(image.info.path))


def test_copies_are_deterministic_and_depend_on_seed_and_name(folder, tmp_path):
    place = folder(a=sample("YX"), b=sample("YX"))
    images = images_of(place)
    first = [p.read_bytes() for p in prepare_ssl_source(images, TASK, tmp_path / "1", 0)]
    again = [p.read_bytes() for p in prepare_ssl_source(images[::-1], TASK, tmp_path / "2", 0)]
    other = [p.read_bytes() for p in prepare_ssl_source(images, TASK, tmp_path / "3", 1)]
    assert first == again[::-1]
    assert first[0] != first[1]
    assert first[0] != other[0]


def test_true_copies_are_kept(folder, tmp_path):
    images = images_of(folder(a=sample("YX"), b=sample("YX")))
    told = []
    prepare_ssl_source(images, TASK, tmp_path / "s", 0, lambda *counts: told.append(counts))
    assert told == [(1, 2), (2, 2)]
    paths = prepare_ssl_source(images, TASK, tmp_path / "s", 0)
    before = stamps(paths)
    assert stamps(prepare_ssl_source(images, TASK, tmp_path / "s", 0)) == before


@pytest.mark.parametrize(
    ("task", "seed"),
    [
        (Crappify(noise=0.1, axis_factors=(2, 2)), 0),
        (Crappify(noise=0.2, axis_factors=(2, 3)), 0),
        (TASK, 1),
    ],
)
def test_copies_are_remade_when_a_parameter_differs(folder, tmp_path, task, seed):
    images = images_of(folder(a=sample("YX")))
    (copy,) = prepare_ssl_source(images, TASK, tmp_path / "s", 0)
    before = copy.read_bytes()
    prepare_ssl_source(images, task, tmp_path / "s", seed)
    assert copy.read_bytes() != before


def test_only_the_copy_of_a_changed_source_is_remade(folder, tmp_path):
    place = folder(a=sample("YX"), b=sample("YX"))
    paths = prepare_ssl_source(images_of(place), TASK, tmp_path / "s", 0)
    before = stamps(paths)
    os.utime(place / "b.tif", ns=(1, 1))
    after = stamps(prepare_ssl_source(images_of(place), TASK, tmp_path / "s", 0))
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_missing_and_left_over_copies(folder, tmp_path):
    place = folder(a=sample("YX"), b=sample("YX"))
    paths = prepare_ssl_source(images_of(place), TASK, tmp_path / "s", 0)
    (tmp_path / "s" / "mine.tif").write_bytes(b"not a copy")
    paths[0].unlink()
    (place / "b.tif").unlink()
    prepare_ssl_source(images_of(place), TASK, tmp_path / "s", 0)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["a.tif", "mine.tif", RECORD]


def test_damaged_record_only_costs_time(folder, tmp_path):
    images = images_of(folder(a=sample("YX")))
    (copy,) = prepare_ssl_source(images, TASK, tmp_path / "s", 0)
    for text in ("", "[]", "{", '{"copies": 3}'):
        (tmp_path / "s" / RECORD).write_text(text)
        prepare_ssl_source(images, TASK, tmp_path / "s", 0)
        record = json.loads((tmp_path / "s" / RECORD).read_text())
        assert record["task"] == {"task": "crappify", "noise": 0.2, "axis_factors": [2.0, 2.0]}
        assert record["copies"]["a.tif"]["size"] == images[0].info.path.stat().st_size
    assert copy.is_file()


def test_interrupted_preparation_keeps_what_is_done(folder, tmp_path):
    place = folder(a=sample("YX"), b=sample("YX"))
    images = images_of(place)
    data = (place / "b.tif").read_bytes()
    (place / "b.tif").write_bytes(b"")
    with pytest.raises(DataError, match=r"b.tif: is empty"):
        prepare_ssl_source(images, TASK, tmp_path / "s", 0)
    before = stamps([tmp_path / "s" / "a.tif"])
    (place / "b.tif").write_bytes(data)
    paths = prepare_ssl_source(images_of(place), TASK, tmp_path / "s", 0)
    assert stamps(paths)[:1] == before
    assert len(paths) == 2


def test_death_at_any_image_leaves_no_false_copy(folder, tmp_path, monkeypatch):
    """Other parameters, killed after the first image: what the record calls true is true."""
    images = images_of(folder(a=sample("YX"), b=sample("YX")))
    prepare_ssl_source(images, TASK, tmp_path / "s", 0)
    true = [p.read_bytes() for p in sorted((tmp_path / "s").glob("*.tif"))]

    def die(*_):
        monkeypatch.setattr(ssl_source._Record, "save", lambda _: None)
        raise KeyboardInterrupt

    monkeypatch.setattr(ssl_source._Record, "add", die)
    with pytest.raises(KeyboardInterrupt):
        prepare_ssl_source(images, TASK, tmp_path / "s", 1)
    monkeypatch.undo()
    paths = prepare_ssl_source(images, TASK, tmp_path / "s", 0)
    assert [p.read_bytes() for p in paths] == true


def test_images_are_never_written_beside(folder):
    place = folder(a=sample("YX"))
    before = (place / "a.tif").read_bytes()
    with pytest.raises(ConfigError, match=r"pretext.ssl_source_dir: .* must not be the folder of"):
        prepare_ssl_source(images_of(place), TASK, place / ".." / "images", 0)
    assert [p.name for p in place.iterdir()] == ["a.tif"]
    assert (place / "a.tif").read_bytes() == before


def test_pixels_that_are_not_finite_do_not_spread(folder, tmp_path):
    array = pixels((33, 47), "float32")
    array[4, 5] = np.nan
    images = images_of(folder(a=array, flat=np.zeros((9, 9), np.float32), one=pixels((1, 1))))
    for path in prepare_ssl_source(images, TASK, tmp_path / "s", 0):
        assert np.isfinite(tifffile.imread(path)).all()
