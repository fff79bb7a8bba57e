"""Files that change while they are in use: gone on with, or named; never a crash."""

import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tifffile
import zarr

from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.errors import DataError

BEFORE = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)


def put(path, array):
    """Write an image anew, in place."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".zarr":
        shutil.rmtree(path, ignore_errors=True)
        stored = zarr.create_array(str(path), shape=array.shape, chunks=(8, 8), dtype=array.dtype)
        stored[...] = array
    else:
        packed = "zlib" if "packed" in path.name else None
        tifffile.imwrite(path, array, compression=packed, rowsperstrip=5)  # noqa: TID251


@pytest.fixture(params=["a.npy", "a.tif", "a.packed.tif", "a.zarr"])
def path(request, tmp_path):
    place = tmp_path / request.param
    put(place, BEFORE)
    return place


def test_an_image_of_the_same_size_is_read_anew(path):
    image = open_image(path)
    assert (image.read(0)[0] == BEFORE).all()
    put(path, BEFORE[::-1] + 7)
    assert (image.read(0)[0] == BEFORE[::-1] + 7).all()
    assert (image.read(0, (slice(3, 9), slice(2, 4)))[0] == (BEFORE[::-1] + 7)[3:9, 2:4]).all()


@pytest.mark.parametrize(
    "after", [BEFORE[:9, :8], np.tile(BEFORE, (3, 2)), BEFORE.astype("float32")],
    ids=["small", "large", "type"],
)  # fmt: skip
def test_another_image_is_named(path, after):
    image = open_image(path)
    image.read(0)
    put(path, after)
    said = " x ".join(map(str, after.shape)) + f" {after.dtype}"
    rule = rf"has changed while it was in use: it was 30 x 40 uint16 and is {said}"
    with pytest.raises(DataError, match=rule):
        image.read(0)


def test_one_that_is_gone_is_named_and_used_again_when_it_is_back(path):
    image = open_image(path)
    aside = path.with_name("aside")
    path.rename(aside)
    with pytest.raises(DataError, match=r"is gone\. Put it back"):
        image.read(0)
    aside.rename(path)
    assert (image.read(0)[0] == BEFORE).all()


def test_what_is_no_image_any_more_is_named(path):
    image = open_image(path)
    if path.is_dir():
        shutil.rmtree(path)
    path.write_text("no image any more")
    with pytest.raises(DataError, match=str(path)):
        image.read(0)


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_what_was_read_outlives_its_file(tmp_path, name):
    put(tmp_path / name, np.ones((500, 500), np.float32))
    code = """
        import sys
        from napari_ssl_pretrain.data.opening import open_image
        held = open_image(sys.argv[1]).read(0)
        open(sys.argv[1], "wb").close()
        assert held.sum() == 250_000
    """
    words = [sys.executable, "-c", textwrap.dedent(code), tmp_path / name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
