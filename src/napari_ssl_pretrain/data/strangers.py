"""Files of other programs: called by their names, with the way to an image that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from napari_ssl_pretrain.data.header import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 512
"""Bytes by which a file is known."""

_SAVE = "Open it in Fiji or napari and save it as TIFF."
_EXPORT = "Export it as OME-TIFF with {} or Bio-Formats."
_UNPACK = "Unpack it."
_LEAVE = "Move it elsewhere."

_KINDS = {
    "czi": ("a CZI file of ZEN (Zeiss)", _EXPORT.format("ZEN")),
    "lif": ("a LIF file of LAS X (Leica)", _EXPORT.format("LAS X")),
    "nd2": ("an ND2 file of NIS-Elements (Nikon)", _EXPORT.format("NIS-Elements")),
    "olympus": ("a file of FluoView or cellSens (Olympus)", _EXPORT.format("that program")),
    "ims": ("an Imaris or other HDF5 file", "Export its image as OME-TIFF, or save it as NPY."),
    "dicom": ("a DICOM file", "Convert the series to TIFF with Fiji or dcm2niix and nibabel."),
    "nifti": ("a NIfTI file", "Save its array with nibabel and tifffile as TIFF."),
    "mrc": ("an MRC file", "Save it with mrcfile and tifffile as TIFF, or with IMOD's mrc2tif."),
    "nrrd": ("an NRRD or MetaImage file", _SAVE),
    "ics": ("an ICS or IDS file", _EXPORT.format("Huygens")),
    "dv": ("a DeltaVision file", _EXPORT.format("softWoRx")),
    "fits": ("a FITS file", _SAVE),
    "matlab": ("a MATLAB file", "Save its array as TIFF, in MATLAB with imwrite."),
    "bmp": ("a BMP picture", "Save it as PNG or TIFF."),
    "gif": ("a GIF picture", "Save it as PNG or TIFF, each frame alone."),
    "webp": ("a WebP picture", "Save it as PNG or TIFF."),
    "jp2": ("a JPEG 2000 picture", "Save it as PNG or TIFF."),
    "jxl": ("a JPEG XL picture", "Save it as PNG or TIFF."),
    "heic": ("a HEIC or AVIF picture", "Save it as PNG or TIFF."),
    "film": ("a film", "Save its frames as a TIFF stack, for instance with Fiji."),
    "npz": ("an archive of NPY arrays (NPZ)", "Save the array of the image with numpy.save."),
    "zarr-zip": ("a zipped Zarr", _UNPACK),
    "zip": ("a ZIP archive", _UNPACK),
    "packed": ("a compressed file", _UNPACK),
    "pdf": ("a PDF document", _LEAVE),
    "text": ("a text file", _LEAVE),
    "web": ("a web page, perhaps a failed download", "Download the image again."),
    "pointer": ("a placeholder of Git LFS", "Fetch the image itself with git lfs pull."),
}

_MAGIC = (
    (b"ZISRAWFILE", "czi"),
    (b"\x70\0\0\0", "lif"),
    (b"\xda\xce\xbe\x0a", "nd2"),
    (b"OLYMPUSRAWFORMAT", "olympus"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "olympus"),
    (b"SIS\0", "olympus"),
    (b"\x89HDF\r\n\x1a\n", "ims"),
    (b"NRRD0", "nrrd"),
    (b"ObjectType", "nrrd"),
    (b"\t\nics_version", "ics"),
    (b"\t\r\nics_version", "ics"),
    (b"SIMPLE  =", "fits"),
    (b"MATLAB ", "matlab"),
    (b"GIF8", "gif"),
    (b"\0\0\0\x0cjP  ", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"\x1aE\xdf\xa3", "film"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "packed"),
    (b"BZh", "packed"),
    (b"\xfd7zXZ\0", "packed"),
    (b"7z\xbc\xaf\x27\x1c", "packed"),
    (b"\x28\xb5\x2f\xfd", "packed"),
    (b"Rar!", "packed"),
    (b"%PDF", "pdf"),
    (b"version https://git-lfs", "pointer"),
    (b"BM", "bmp"),
)
_PLACES = ((128, b"DICM", "dicom"), (344, b"n+1\0", "nifti"), (344, b"ni1\0", "nifti"),
           (208, b"MAP ", "mrc"), (96, b"\xa0\xc0", "dv"), (96, b"\xc0\xa0", "dv"))  # fmt: skip
_BOXES = {b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"avif": "heic"}
_ENDINGS = {
    (".oif", ".vsi", ".ets", ".oir", ".oib", ".poir"): "olympus",
    (".ids", ".ics"): "ics",
    (".npz",): "npz",
    (".zarr.zip", ".ozx"): "zarr-zip",
    (".nii.gz", ".nii", ".img"): "nifti",
    (".mrc", ".rec", ".st", ".map"): "mrc",
    (".dcm",): "dicom",
    (".h5", ".hdf5", ".ims"): "ims",
    (".mhd", ".mha", ".nhdr", ".raw"): "nrrd",
    (".xml", ".json", ".yaml", ".yml", ".txt", ".csv", ".md", ".log"): "text",
}
_CLEAR = {"text", "web", "pointer", "packed", "zip"}
"""What a file named as an image may be instead without being called damaged."""


def refuse(path: Path, head: bytes, kinds: str, named: str) -> NoReturn:
    """Refuse a file that no reader here knows, by the name of what it is.

    Parameters
    ----------
    path
        The file.
    head
        Its first :data:`HEAD` bytes.
    kinds
        What can be read.
    named
        The kind of image that its name says; empty where it says none.

    Raises
    ------
    RefusedError
        Always.
    """
    kind = _by_content(head)
    if not named:
        kind = _by_name(path, kind) or kind
    if kind:
        what, remedy = _KINDS[kind]
        called = f", not a {named.upper()} file as its name says" if named else ""
        readable = "" if called or kind in _CLEAR else f", which is not read here ({kinds} are)"
        raise RefusedError(f"is {what}{called}{readable}", remedy)
    if named:
        raise RefusedError(
            f"is no {named.upper()} file, though its name says so", "Export it again, or remove it."
        )
    raise RefusedError(f"is none of {kinds}", "Convert it to TIFF, or move it elsewhere.")


def _by_name(path: Path, kind: str) -> str:
    """Return what the name says where it says more than the content does."""
    name = path.name.lower()
    if kind in ("", "zip", "packed", "text"):
        for endings, found in _ENDINGS.items():
            if name.endswith(endings):
                return found
    return ""


def _by_content(head: bytes) -> str:
    if head[:4] == b"RIFF":
        return "webp" if head[8:12] == b"WEBP" else "film"
    if head[4:8] == b"ftyp":
        return _BOXES.get(head[8:12], "film")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    for place, magic, kind in _PLACES:
        if head[place : place + len(magic)] == magic:
            return kind
    return _text(head)


def _text(head: bytes) -> str:
    """Return whether this is text, and of which sort."""
    try:
        text = head.decode("utf-8", "strict" if len(head) < HEAD else "ignore").strip().lower()
    except UnicodeDecodeError:
        return ""
    if not text or not all(letter.isprintable() or letter in "\t\r\n" for letter in text):
        return ""
    return "web" if text.startswith(("<!doctype html", "<html")) else "text"
