"""TIFF files of every sort."""

# ruff: noqa: TID251

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import tifffile
from awkward_files import Awkward, image, lossy, packed, page, stk, tif, written
from image_samples import pixels

DTYPES = [
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", ">u2", ">i4", ">f4", ">f8"),
]


def of_dtypes():
    """Every type of number."""
    table = {
        f"dtype-{d.strip('>')}{'-big' * (d[0] == '>')}.tif": tif(image("YX", d)) for d in DTYPES
    }
    for name, kind in (("complex64", "complex64"), ("complex128", "complex128")):
        table[f"{name}.tif"] = tif(image("YX", kind), told="holds complex")
    table |= {n: Awkward(a.make, "" if "complex" in n else "YX", a.told) for n, a in table.items()}
    return table


def of_contents():
    """Numbers that spoil statistics."""
    nan, some = image("YX", "float32"), image("YX", "float32")
    nan[:] = np.nan
    some[3:9, 4:9], some[20, 5], some[21, 5] = np.nan, np.inf, -np.inf
    arrays = {
        "nan-all": nan,
        "nan-some": some,
        "inf-all": np.full((40, 50), np.inf, "float32"),
        "zeros": np.zeros((40, 50), np.uint8),
        "constant": np.full((40, 50), -7, np.int16),
        "saturated": np.full((40, 50), 65535, np.uint16),
        "largest-float32": image("YX", "float32") * np.float32(2e36),
        "largest-float64": image("YX", "float64") * 1e305,
        "tiny-float64": image("YX", "float64") * 1e-310,
        "largest-uint64": np.full((40, 50), 2**64 - 1, np.uint64) - image("YX", "uint64"),
        "one-pixel-bright": np.eye(1, 2000, dtype=np.uint16).reshape(40, 50) * 65535,
        "negative-zero": np.full((40, 50), -0.0, np.float32),
    }
    return {f"content-{n}.tif": tif(a, "YX") for n, a in arrays.items()}


def of_axes():
    """Every order of axes, as tifffile, ImageJ and OME write them."""
    table = {}
    for axes in ("YX", "CYX", "ZYX", "TYX", "ZCYX", "CZYX", "TCYX", "TZYX", "TZCYX", "TCZYX"):
        table[f"axes-{axes}.tif"] = tif(image(axes), axes)
        table[f"axes-{axes}.ome.tif"] = tif(image(axes), axes, ome=True)
    for axes in ("YX", "ZYX", "CYX", "TYX", "ZCYX", "TZYX", "TCYX", "TZCYX"):
        table[f"imagej-{axes}.tif"] = tif(image(axes), axes, imagej=True)
    rgb = {"photometric": "rgb"}
    table |= {
        "axes-YXS.tif": tif(image("YXS"), "YXS", **rgb),
        "axes-SYX.tif": tif(image("SYX"), "SYX", planarconfig="separate", **rgb),
        "axes-ZYXS.tif": tif(image("ZYXS"), "ZYXS", **rgb),
        "imagej-TZYXS.tif": tif(image("TZYXS"), "TZYXS", imagej=True, **rgb),
        "unnamed-pages.tif": tif(image("ZYX"), stored="ZYX", metadata=None, told="assumed"),
        "unnamed-few.tif": tif(image("CYX"), stored="CYX", metadata=None, told="assumed"),
        "unnamed-4.tif": tif(image("ZCYX"), stored="ZYX", metadata=None, told="assumed"),
        "axes-PYX.tif": tif(image("ZYX"), "PYX", stored="", told="cannot be used"),
        "axes-HYX.tif": tif(image("ZYX"), "HYX", stored="", told="cannot be used"),
    }
    flat = image("ZCYX").reshape(-1, 40, 50)
    table["unnamed-4.tif"] = tif(flat, stored="ZYX", metadata=None, told="assumed")
    for name in ("axes-PYX.tif", "axes-HYX.tif"):
        table[name] = Awkward(table[name].make, "", table[name].told)
    return table


def of_codecs():
    """Every compression, predictor and layout."""
    plain, deep, colour = image("ZYX"), image("ZYX", "uint16"), image("YXS")
    table = {
        f"codec-{c}.tif": tif(deep, "ZYX", compression=c)
        for c in ("lzw", "zlib", "deflate", "zstd", "packbits", "lzma", "jpeg2000", "jpegxl", "png")
    }
    table |= {
        "codec-lerc.tif": tif(image("ZYX", "float32"), "ZYX", compression="lerc"),
        "codec-lerc-zstd.tif": tif(
            image("YX", "float32"),
            "YX",
            compression="lerc",
            compressionargs={"compression": "zstd"},
        ),
        "codec-jpeg.tif": lossy(plain, "ZYX", compression="jpeg", photometric="minisblack"),
        "codec-jpeg-rgb.tif": lossy(colour, "YXS", compression="jpeg", photometric="rgb"),
        "codec-jpeg-ycbcr.tif": lossy(
            image("YXS", Y=64, X=64), "YXS", compression="jpeg", tile=(32, 32), photometric="rgb"
        ),
        "codec-webp.tif": lossy(colour, "YXS", compression="webp", photometric="rgb"),
        "codec-jpeg2000-lossy.tif": lossy(
            deep,
            "ZYX",
            compression="jpeg2000",
            compressionargs={"level": 40},
            photometric="minisblack",
        ),
        "codec-jpegxr.tif": lossy(colour, "YXS", compression="jpegxr", photometric="rgb"),
    }
    for predictor, kind in ((2, "uint16"), (2, ">u2"), (3, "float32"), (3, "float64")):
        name = f"predictor-{predictor}-{np.dtype(kind).str.strip('<|').replace('>', 'big-')}.tif"
        options = {"compression": "zlib", "predictor": predictor}
        table[name] = tif(image("YX", kind), "YX", **options)
    lines = {"rowsperstrip": 7}
    layouts = {
        "strips": lines,
        "strips-lzw": lines | {"compression": "lzw"},
        "one-row-strips": {"rowsperstrip": 1, "compression": "zlib"},
        "tiles": {"tile": (16, 32)},
        "tiles-larger": {"tile": (64, 64), "compression": "zstd"},
        "bigtiff": {"bigtiff": True},
        "bigtiff-tiles": {"bigtiff": True, "tile": (16, 16), "compression": "zlib"},
        "bigtiff-big-endian": {"bigtiff": True, "byteorder": ">", "compression": "lzw"},
        "lsb-first": {"extratags": [(266, 3, 1, 2, True)]},
    }
    table |= {f"layout-{n}.tif": tif(plain, "ZYX", **o) for n, o in layouts.items()}
    del table["layout-lsb-first.tif"]
    table["layout-planar-tiles.tif"] = tif(
        image("SYX"), "SYX", photometric="rgb", planarconfig="separate", tile=(16, 16)
    )
    return table


def of_shapes():
    """Images of unlikely sizes; a hidden axis of one is no axis."""
    shapes = {
        "1x1": (1, 1), "1xN": (1, 300), "Nx1": (300, 1), "2x2": (2, 2), "long": (3, 20_000),
        "tall": (9000, 2), "thin-z": (2, 40, 50), "deep": (300, 3, 4), "flat-deep": (64, 1, 1),
    }  # fmt: skip
    table = {
        f"shape-{n}.tif": tif(pixels(s, "uint16"), "ZYX"[-len(s) :]) for n, s in shapes.items()
    }
    table["shape-z-of-one.tif"] = tif(image("ZYX", Z=1), "ZYX")
    table["shape-no-rows.npy"] = Awkward(
        lambda p: np.save(p, np.zeros((0, 9), np.uint8)), told="has no pixels"
    )
    return table


def of_samples():
    """Bits, colours and opacity of all sorts."""
    four, twelve = image("YX") % 16, image("YX", "uint16") % 4096
    two, bits = image("YX") % 4, image("YX", bool)
    table = np.arange(768, dtype=np.uint16).reshape(3, 256)
    fax = imagecodecs.packbits_encode(np.packbits(bits, axis=1).tobytes())
    colour, high = {"photometric": "rgb"}, image("YX", "uint16").tobytes()
    opaque = image("YXS", S=4)
    return {
        "bits-1.tif": written(page(40, 50, 1, packed(bits.astype(int), 1)), bits, "YX", "1 bit"),
        "bits-1-white.tif": written(
            page(40, 50, 1, packed(bits.astype(int), 1), photometric=0), bits, "YX", "1 bit"
        ),
        "bits-1-packbits.tif": written(
            page(40, 50, 1, fax, more=[(259, 3, [32773])]), bits, "YX", "1 bit"
        ),
        "bits-2.tif": written(page(40, 50, 2, packed(two, 2)), two, "YX"),
        "bits-4.tif": written(page(40, 50, 4, packed(four, 4)), four, "YX"),
        "bits-12.tif": written(page(40, 50, 12, packed(twelve, 12)), twelve, "YX"),
        "bits-565.tif": Awkward(
            lambda p: (
                p.write_bytes(page(40, 50, [5, 6, 5], high, photometric=2, samples=3)),
                tifffile.imread(p),
            )[1],
            "YXS",
        ),
        "white-is-zero.tif": tif(image("YX"), "YX", photometric="miniswhite"),
        "palette.tif": tif(
            image("YX"), "YX", photometric="palette", colormap=table, told="colour table"
        ),
        "cmyk.tif": tif(opaque, "YXS", photometric="separated"),
        "rgba.tif": tif(opaque, "YXS", extrasamples=["unassalpha"], told="opacity", **colour),
        "rgba-16.tif": tif(opaque.astype("u2"), "YXS", extrasamples=["assocalpha"], **colour),
        "grey-alpha.tif": tif(image("YXS", S=2), "YXS", extrasamples=["unassalpha"]),
        "five-samples.tif": tif(image("YXS", S=5), "YXS", planarconfig="contig"),
        "lab.tif": tif(image("YXS"), "YXS", photometric="cielab"),
    }


def pyramid(path):
    """Levels in SubIFDs, as OME asks for."""
    array = image("CYX", Y=64, X=64)
    with tifffile.TiffWriter(path) as out:
        options = {"tile": (16, 16), "photometric": "minisblack"}
        out.write(array, subifds=2, metadata={"axes": "CYX"}, **options)
        out.write(array[:, ::2, ::2], subfiletype=1, **options)
        out.write(array[:, ::4, ::4], subfiletype=1, **options)
    return array


def unlike_pages(path):
    """A thumbnail after the image."""
    with tifffile.TiffWriter(path) as out:
        out.write(image("YX", "uint16"), metadata=None)
        out.write(image("YX", Y=9, X=9), metadata=None)
    return image("YX", "uint16")


def ome_set(path, *, complete):
    """Three planes in three files, of which the last may be missing."""
    uuid = "urn:uuid:00000000-0000-0000-0000-00000000000"
    array = image("ZYX", Z=3)
    names = [path.name, *(f"{path.stem}_{z}.tif" for z in (1, 2))]
    parts = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{n}">{uuid}{z}</UUID>'
        "</TiffData>"
        for z, n in enumerate(names)
    )
    for z in range(3 if complete else 2):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid}{z}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" '
            'DimensionOrder="XYZCT" SizeX="50" SizeY="40" SizeZ="3" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0" SamplesPerPixel="1"/>{parts}</Pixels></Image></OME>'
        )
        options = {"photometric": "minisblack", "metadata": None, "description": xml}
        tifffile.imwrite(path.with_name(names[z]), array[z], **options)
    return array if complete else None


def changed_xml(path, *changes, axes="ZYX"):
    """An OME-TIFF whose description says something else than its pages."""
    file = io.BytesIO()
    options = {"photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(file, image(axes), ome=True, metadata={"axes": axes}, **options)
    data = file.getvalue()
    for old, new in changes:
        assert len(old) == len(new)
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return image(axes)


def lsm(path):
    """A stack of LSM 510: each plane has a thumbnail of its own behind it."""
    kinds = tifffile.TIFF.CZ_LSMINFO
    values = {
        "MagicNumber": 0x0400494C, "StructureSize": 500, "DimensionX": 50, "DimensionY": 40,
        "DimensionZ": 6, "DimensionChannels": 1, "DimensionTime": 1, "DataType": 1,
        "VoxelSizeX": 1e-7, "VoxelSizeY": 1e-7, "VoxelSizeZ": 3e-7, "ThumbnailX": 8,
    }  # fmt: skip
    codes = {"i4": "i", "u4": "I", "f8": "d", "u2": "H", "i2": "h"}
    info = b"".join(struct.pack("<" + codes[k], values.get(n, 0)) for n, k in kinds if k in codes)
    array = image("ZYX")
    with tifffile.TiffWriter(path, byteorder="<") as out:
        for number, plane in enumerate(array):
            tags = [(34412, 1, len(info), info, True)] * (number == 0)
            out.write(plane, metadata=None, extratags=tags, software=False)
            out.write(plane[:8, :8].copy(), metadata=None, subfiletype=1, software=False)
    return array


def cut_file(_, path):
    """Lose the last third."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def of_makers():
    """What instruments and other programs write."""
    volume = image("ZYX")
    geo = {"extratags": [(42113, 2, 4, "255\0", True)]}
    both = image("CYX")
    return {
        "pyramid.ome.tif": Awkward(pyramid, "CYX"),
        "unlike-pages.tif": Awkward(unlike_pages, "YX", "2 series"),
        "set.ome.tif": Awkward(lambda p: ome_set(p, complete=True), "ZYX"),
        "set-lacks-a-part.ome.tif": Awkward(
            lambda p: ome_set(p, complete=False), "", "some are missing"
        ),
        "metamorph.stk": written(stk(6, volume.tobytes()), volume, "ZYX"),
        "metamorph-cut.stk": written(stk(6, volume.tobytes()[:9999]), told="is truncated"),
        "geo.tif": tif(image("YX"), "YX", **geo),
        "imagej-ranges.tif": tif(
            both, "CYX", imagej=True, metadata={"axes": "CYX", "Ranges": (0.0, 9.0, 0.0, 9.0)}
        ),
        "ome-more-planes.ome.tif": Awkward(
            lambda p: changed_xml(p, (b'SizeZ="6"', b'SizeZ="9"')), "", "lacks planes|planes"
        ),
        "ome-fewer-planes.ome.tif": Awkward(
            lambda p: changed_xml(p, (b'SizeZ="6"', b'SizeZ="3"'))[:3], "ZYX"
        ),
        "ome-broken-xml.ome.tif": Awkward(
            lambda p: changed_xml(p, (b"</OME>", b"</OMX>")), "ZYX", "assumed"
        ),
        "ome-other-size.ome.tif": Awkward(
            lambda p: changed_xml(p, (b'SizeX="50"', b'SizeX="99"')), "ZYX", "assumed"
        ),
        "lsm.lsm": Awkward(lsm, "ZYX"),
        "lsm-cut.lsm": Awkward(lambda p: cut_file(lsm(p), p), "", "truncated"),
    }


TIFFS = {
    **of_dtypes(),
    **of_contents(),
    **of_axes(),
    **of_codecs(),
    **of_shapes(),
    **of_samples(),
    **of_makers(),
}
