"""PNG, JPEG, NPY, Zarr and OME-Zarr: pixels, axes, notes and what is refused."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import zarr
from image_samples import LENGTHS, as_frames, pixels, random_boxes, sample
from PIL import Image as Picture

from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.units import MICROMETRE
from napari_ssl_pretrain.errors import ConfigError, DataError

SCALE = {"T": 1.0, "C": 1.0, "Z": 2.0, "Y": 0.5, "X": 0.25}
TYPES = {"T": "time", "C": "channel"}


def same(image, frames):
    """Compare every frame, and boxes of it."""
    assert image.frames == len(frames)
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(image.read(number), frame)
        for box in random_boxes(image.spatial, 2, number):
            np.testing.assert_array_equal(image.read(number, box), frame[(slice(None), *box)])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png(tmp_path, dtype, samples):
    array = pixels((20, 30, samples), dtype) * (257 if dtype == "uint16" else 1)
    array = array.astype(dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array.squeeze()))
    image = open_image(tmp_path / "a.png")
    assert image.info.axes == ("YX" if samples == 1 else "YXS")
    assert image.info.dtype == dtype
    assert ("opacity" in image.info.note) == (samples in (2, 4))
    same(image, [array.transpose(2, 0, 1)])


@pytest.mark.parametrize("transparency", [None, 3])
def test_png_with_a_colour_table_is_read_as_colours(tmp_path, transparency):
    options = {} if transparency is None else {"transparency": transparency}
    picture = Picture.fromarray(pixels((20, 30, 3))).quantize(16)
    picture.save(tmp_path / "a.png", **options)
    image = open_image(tmp_path / "a.png")
    mode = "RGB" if transparency is None else "RGBA"
    same(image, [np.asarray(Picture.open(tmp_path / "a.png").convert(mode)).transpose(2, 0, 1)])
    assert "colour table, read as red, green and blue" in image.info.note


def test_png_of_one_bit(tmp_path):
    Picture.fromarray(sample("YX", bool)).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    same(image, [sample("YX", bool)[None].astype(np.uint8) * 255])
    assert image.info.note == "has 1 bit a pixel, read as 0 to 255"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("axes", ["YX", "YXS"])
def test_jpeg(tmp_path, axes, progressive):
    Picture.fromarray(sample(axes)).save(tmp_path / "a.jpg", progressive=progressive)
    array = np.asarray(Picture.open(tmp_path / "a.jpg"))
    image = open_image(tmp_path / "a.jpg")
    assert image.info.axes == axes
    same(image, as_frames(array, axes, 2))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float64", "bool", "float16"])
def test_npy(tmp_path, dtype, order):
    array = np.asarray(sample("ZYX", Z=20).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    image = open_image(tmp_path / "a.npy")
    assert "ZYX assumed for 20 x 33 x 47 (set data.axes" in image.info.note
    expected = array.astype("uint8") if dtype == "bool" else array
    same(image, as_frames(expected, "ZYX", 3))
    assert image.read(0).dtype.isnative
    given = open_image(tmp_path / "a.npy", axes="tyx")
    assert (given.info.axes, given.info.note, given.frames) == ("TYX", "", 20)


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (np.array([[{}, {}]], object), "holds object where"),
        (np.zeros((4, 4), complex), "holds complex128 where"),
        (np.zeros((4, 4), np.longdouble), "holds float128 where"),
        (np.zeros((4, 4), [("a", "u1")]), "holds void8 where"),
        (np.full((4, 4), "text"), "holds str128 where"),
        (np.zeros((4, 4), "M8[s]"), "holds datetime64[s] where"),
        (np.zeros((0, 4)), "has no pixels"),
        (np.zeros(4), "has 1 axes where an image has 2 to 5"),
        (np.zeros((1,) * 6), "has 6 axes where an image has 2 to 5"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_npy_of_no_image_is_refused(tmp_path, array, rule):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError) as caught:
        open_image(tmp_path / "a.npy")
    assert caught.value.rule.startswith(rule)
    assert caught.value.remedy


def save_ome_zarr(path, array, axes, version, *, scales=True):
    group = zarr.open_group(path, mode="w", zarr_format=version)
    chunks = [min(16, n) for n in array.shape]
    for level, data in enumerate((array, array[..., ::2, ::2])):
        group.create_array(str(level), shape=data.shape, chunks=chunks, dtype=data.dtype)[:] = data
    entries = [{"name": a.lower(), "type": TYPES.get(a, "space")} for a in axes]
    for entry in entries:
        if entry["type"] == "space":
            entry["unit"] = "micrometer"
    scale = [{"type": "scale", "scale": [SCALE[a] for a in axes]}] if scales else []
    sets = [{"path": "0", "coordinateTransformations": scale}, {"path": "1"}]
    whole = [{"type": "scale", "scale": [2.0] * len(axes)}] if scales == "both" else []
    multiscales = [{"axes": entries, "datasets": sets, "coordinateTransformations": whole}]
    if version == 2:
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["YX", "CYX", "ZYX", "CZYX", "TCZYX"])
def test_ome_zarr(tmp_path, axes, version):
    array = sample(axes, "uint16")
    image = open_image(save_ome_zarr(tmp_path / "a.ome.zarr", array, axes, version))
    assert image.info.name == "a"
    assert (image.info.axes, image.info.note) == (axes, "")
    assert image.info.pixel_size == {a: SCALE[a] for a in axes if a in "ZYX"}
    assert image.info.unit == MICROMETRE
    same(image, as_frames(array, axes, image.ndim))


def test_ome_zarr_scales_multiply_and_may_be_missing(tmp_path):
    path = save_ome_zarr(tmp_path / "a.zarr", sample("ZYX"), "ZYX", 3, scales="both")
    assert open_image(path).info.pixel_size == {"Z": 4.0, "Y": 1.0, "X": 0.5}
    path = save_ome_zarr(tmp_path / "b.zarr", sample("ZYX"), "ZYX", 3, scales=False)
    assert open_image(path).info.pixel_size == {"Z": 1.0, "Y": 1.0, "X": 1.0}


def test_ome_zarr_reads_only_the_chunks_of_a_box(tmp_path):
    array = sample("ZYX")
    path = save_ome_zarr(tmp_path / "a.ome.zarr", array, "ZYX", 2)
    (path / "0" / "0.2.2").write_bytes(b"no chunk")
    image = open_image(path)
    box = (slice(0, 6), slice(0, 16), slice(0, 32))
    np.testing.assert_array_equal(image.read(0, box), array[None, :, :16, :32])
    with pytest.raises(DataError, match=r"a.ome.zarr: cannot be decoded"):
        image.read(0)


@pytest.mark.parametrize("version", [2, 3])
def test_plain_zarr(tmp_path, version):
    array = sample("ZYX", "float32")
    names = ["z", "y", "x"] if version == 3 else None
    options = {"zarr_format": version, "dimension_names": names, "chunks": (4, 16, 16)}
    zarr.create_array(tmp_path / "a.zarr", shape=array.shape, dtype="f4", **options)[:] = array
    image = open_image(tmp_path / "a.zarr")
    assert image.info.axes == "ZYX"
    assert ("assumed" in image.info.note) == (version == 2)
    same(image, as_frames(array, "ZYX", 3))


def test_bioformats_layout_and_old_axes(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for number in "01":
        image = group.create_group(number)
        image.attrs["multiscales"] = [{"version": "0.2", "datasets": [{"path": "0"}]}]
        image.create_array("0", shape=(1, 2, 6, 9, 9), dtype="u1")[:] = 1 + int(number)
    image = open_image(tmp_path / "a.zarr")
    assert image.info.axes == "TCZYX"
    assert image.info.note == "holds several images, the first is used"
    assert np.unique(image.read(0)).tolist() == [1]


def test_zarr_of_no_image_is_refused(tmp_path):
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": []}
    many = zarr.open_group(tmp_path / "many.zarr", mode="w")
    for name in "ab":
        many.create_array(name, shape=(9, 9), dtype="u1")[:] = 1
    zarr.create_array(tmp_path / "bare.zarr", shape=(9, 9), dtype="u1")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    wrong = save_ome_zarr(tmp_path / "wrong.zarr", sample("ZYX"), "YX", 2)
    for path, rule in {
        "plate": "is a plate of many images",
        "many": "is a Zarr group of 2 arrays without OME-Zarr metadata",
        "bare": "has metadata but no pixels stored",
        "broken": "cannot be read",
        wrong.stem: "names the axes YX for an array of 3 axes",
    }.items():
        with pytest.raises(DataError) as caught:
            open_image(tmp_path / f"{path}.zarr")
        assert caught.value.rule.startswith(rule)


def test_a_name_that_says_another_format_is_noted(tmp_path):
    picture = Picture.fromarray(sample("YX"))
    picture.save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    image = open_image(tmp_path / "a.tif")
    assert image.info.note == "is a PNG file in spite of its name"
    same(image, [sample("YX")[None]])


def test_given_axes_have_to_fit(tmp_path):
    np.save(tmp_path / "a.npy", sample("ZYX"))
    with pytest.raises(ConfigError) as caught:
        open_image(tmp_path / "a.npy", axes="CZYX")
    assert caught.value.subject == "data.axes"
    assert "names 4 axes, but there are 3 (6 x 33 x 47)" in str(caught.value)
    Picture.fromarray(sample("YXS")).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", axes="YXC").info.axes == "YXC"
    with pytest.raises(ConfigError, match="calls the colour samples X"):
        open_image(tmp_path / "a.png", axes="ZYX")


def test_ndim_and_channels_have_to_fit(tmp_path):
    np.save(tmp_path / "a.npy", sample("CYX"))
    with pytest.raises(ConfigError, match=r"^data.ndim: 3: needs images with depth, but a.npy"):
        open_image(tmp_path / "a.npy", ndim=3)
    with pytest.raises(ConfigError, match=r"^data.channels: \[7\]: .* channels 0 to 1"):
        open_image(tmp_path / "a.npy", channels=(7,))
    one = open_image(tmp_path / "a.npy", channels=(1,))
    same(one, [sample("CYX")[1:]])
    both = open_image(tmp_path / "a.npy", channels=(1, 0))
    same(both, [sample("CYX")[::-1]])


@pytest.mark.parametrize(
    ("axes", "ndim", "frames"),
    [
        ("TZCYX", 3, 3),
        ("TZCYX", 2, 18),
        ("ZYX", 2, 6),
        ("TCYX", 2, 3),
        ("CZYX", 3, 1),
        ("ZTYX", 2, 18),
    ],
)
def test_time_is_looped_and_never_depth(tmp_path, axes, ndim, frames):
    array = sample(axes)
    np.save(tmp_path / "a.npy", array)
    image = open_image(tmp_path / "a.npy", axes=axes, ndim=ndim)
    assert image.frames == frames
    assert image.spatial == tuple(LENGTHS[a] for a in "ZYX"[-ndim:])
    if axes != "ZTYX":
        same(image, as_frames(array, axes, ndim))
    else:
        np.testing.assert_array_equal(image.read(4)[0], array[1, 1])
