"""Files made to do harm: each builder returns bytes, or makes a folder."""

# ruff: noqa: TID251

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import tifffile
import torch

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 48)).astype(np.uint8)
HUGE = [10**7, 10**6]
"""Ten terabytes of bytes."""


class Removes:
    """Unpickling it removes a file."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return os.remove, (self.canary,)


class Swells:
    """Unpickling it takes three gigabytes, with names that ``weights_only`` allows."""

    def __reduce__(self):
        return bytearray, (3 << 30,)


def tiff(changed=None, **options):
    """A small TIFF, numbers of its first directory changed."""
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS, photometric="minisblack", **{"metadata": None} | options)
    data = bytearray(file.getvalue())
    count = struct.unpack("<H", data[8:10])[0]
    for entry in range(10, 10 + 12 * count, 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if tag in (changed or {}):
            struct.pack_into("<HII", data, entry + 2, 4, 1, changed[tag])
    return bytes(data)


def overlapping_directories():
    """A chain of directories four bytes apart, each of 60 000 entries."""
    data = bytearray(1_500_000)
    data[:8] = b"II*\x00" + struct.pack("<I", 8)
    for place in range(8, 80_000, 4):
        struct.pack_into("<H", data, place, 60_000)
        struct.pack_into("<I", data, place + 2 + 60_000 * 12, place + 4)
    return bytes(data)


def ome(planes=1, name=""):
    """An OME-TIFF that claims planes, or parts in other files."""
    uuid = f'<UUID FileName="{name}">urn:uuid:0</UUID>' if name else ""
    own = '<TiffData IFD="0"><UUID FileName="a.tif">urn:uuid:1</UUID></TiffData>' if name else ""
    return tiff(
        description='<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06" UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" '
        f'DimensionOrder="XYZCT" SizeX="48" SizeY="48" SizeZ="{planes}" SizeC="1" '
        f'SizeT="{planes}"><Channel ID="Channel:0" SamplesPerPixel="1"/>{own}'
        f'<TiffData IFD="0">{uuid}</TiffData></Pixels></Image></OME>'
    )


def xml_bomb():
    """Ten to the eleventh letters, by names of names."""
    names = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    start = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a0 "x">'
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return tiff(description=f'{start}{names}]><OME xmlns="{space}"><Image ID="&a11;"/></OME>')


def npy(dtype, shape, tail=bytes(64)):
    """An NPY file of any header."""
    head = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + tail


def saved(save, canary):
    """What numpy writes of an array of objects."""
    file = io.BytesIO()
    save(file, np.array([Removes(canary)], object))
    return file.getvalue()


def png(side):
    """A PNG of any size with a few bytes of pixels."""

    def chunk(name, content):
        checked = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checked

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def image_files(canary):
    """Image files that are refused by their headers, by name."""
    evil = pickle.dumps(Removes(canary))
    return {
        **{
            f"size-{kind}.tif": tiff({256: 2**31 - 1, 257: 2**31 - 1}, compression=kind)
            for kind in (None, "zlib", "zstd", "lzw")
        },
        "strip.tif": tiff({256: 100_000, 257: 10_000, 278: 10_000}, compression="zstd"),
        "tile.tif": tiff({322: 2**30, 323: 2**30}, compression="zstd", tile=(48, 48)),
        "overlap.tif": overlapping_directories(),
        "planes.tif": ome(10**9),
        "parts.tif": ome(1, "../outside.tif"),
        "entities.tif": xml_bomb(),
        "imagej.tif": tiff(description="ImageJ=1.11a\nimages=1000000000\nslices=1000000000\n"),
        "shaped.tif": tiff(description='{"shape": [1000000, 1000000, 48, 48]}'),
        "huge.npy": npy("|u1", tuple(HUGE)),
        "huger.npy": npy("|u1", (10**70, 10**60)),
        "negative.npy": npy("|u1", (-48, -48)),
        "text.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{",
        "nested.npy": npy("|u1", (1,)).replace(b"(1,)", b"(" * 80),
        "records.npy": npy(("|u1", (10**9, 10**9)), (1, 1)),
        "objects.npy": saved(np.save, canary),
        "claimed.npy": npy("|O", (1,), evil),
        "archive.npy": saved(np.savez, canary),
        "pickle.npy": evil,
        "pickle.tif": evil,
        "side.png": png(2**31 - 1),
        "ten.png": png(3_162_277),
        "image.zarr.zip": b"PK\x03\x04" + bytes(99),
    }


def zarr_folder(path, data=None, shape=(48, 48), chunks=(48, 48), **changed):
    """A Zarr array of format 2 with one chunk; returns the chunk's path."""
    path.mkdir()
    told = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "|u1"}
    told |= {"compressor": None, "filters": None, "order": "C", "fill_value": 0}
    (path / ".zarray").write_text(json.dumps(told | changed))
    if data is not None:
        (path / "0.0").write_bytes(data)
    return path / "0.0"


def zarr_group(path, level):
    """An OME-Zarr image whose finest level is elsewhere."""
    path.mkdir()
    axes = [{"name": a, "type": "space"} for a in "yx"]
    image = {"axes": axes, "datasets": [{"path": level, "coordinateTransformations": []}]}
    attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
    told = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (path / "zarr.json").write_text(json.dumps(told))


def special_images(folder, canary, outside):
    """Make the Zarr folders and the files that are none, in a folder."""
    evil = pickle.dumps(Removes(canary))
    zarr_folder(folder / "codec.zarr", evil, compressor={"id": "pickle"})
    zarr_folder(folder / "filter.zarr", evil, filters=[{"id": "zlib"}, {"id": "pickle"}])
    zarr_folder(folder / "object.zarr", evil, dtype="|O", filters=[{"id": "pickle"}])
    zarr_folder(folder / "tiny.zarr", b"a", HUGE, [1, 1])
    zarr_folder(folder / "huge.zarr", bytes(10**6), HUGE, [1000, 1000])
    zarr_folder(folder / "chunk.zarr", zlib.compress(bytes(64)), HUGE, HUGE)
    for name, level in (("up", "../../outside"), ("root", str(outside)), ("dots", "..")):
        zarr_group(folder / f"{name}.zarr", level)
    (folder / "nested.zarr").mkdir()
    (folder / "nested.zarr" / "zarr.json").write_text("[" * 200_000)
    os.mkfifo(folder / "pipe.tif")
    (folder / "device.tif").symlink_to("/dev/zero")
    (folder / "loop.tif").symlink_to("loop.tif")


def unreadable_images(folder):
    """Make images whose headers are good and whose pixels are a trap."""
    zarr_folder(folder / "outside.zarr").symlink_to("/etc/hostname")
    zarr_folder(folder / "endless.zarr").symlink_to("/dev/zero")
    os.mkfifo(zarr_folder(folder / "waits.zarr"))
    with zarr_folder(folder / "sparse.zarr").open("wb") as file:
        file.truncate(1 << 40)


def torch_file(value, **options):
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def checkpoint_files(good, canary):
    """Files that pose as checkpoints, made from the entries of a good one, by name."""
    evil, network = Removes(canary), good["backbone"]
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"]" * (64 << 20) + b".")

    def options(**changed):
        entry = {**network, "options": {**network["options"], **changed}}
        return torch_file({**good, "backbone": entry})

    data = {**good["config"]["data"], "patch_size": [10**6, 10**6]}
    claims = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    stretched = {k: torch.zeros(()).expand(v.shape) for k, v in good["model"].items()}
    return {
        "payload.pth": torch_file({**good, "extra": evil}),
        "model.pth": torch_file({"format_version": 1, "backbone": {}, "model": evil}),
        "legacy.pth": torch_file(evil, _use_new_zipfile_serialization=False),
        "bare.pth": pickle.dumps(evil),
        "text.pth": pickle.dumps(evil, 0),
        "posing.safetensors": pickle.dumps(evil),
        "both.pth": pickle.dumps(evil) + torch_file(good),
        "swells.pth": torch_file({**good, "extra": Swells()}),
        "bomb.pth": bomb.getvalue(),
        "stretched.pth": torch_file({**good, "model": stretched}),
        "wide.pth": options(features_per_stage=[4000, 4000]),
        "wider.pth": options(features_per_stage=[10**9, 10**9]),
        "deep.pth": options(blocks_per_stage=10**6),
        "class.pth": torch_file({**good, "backbone": {**network, "name": "os.system"}}),
        "patch.pth": torch_file({**good, "config": {**good["config"], "data": data}}),
        "leaves.pth": torch_file({**good, "config": {**good["config"], "name": "../../x"}}),
        "words.pth": torch_file({**good, "config": "x", "in_channels": "y"}),
        "header.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "claims.safetensors": struct.pack("<Q", len(claims)) + claims,
    }


def yaml_files(canary):
    """Configurations made to do harm, by name."""

    def bomb(first, more):
        return "".join([f"a0: &a0 {first}\n", *(f"a{i}: &a{i} {more(i)}\n" for i in range(1, 12))])

    rest = "\ndata: {train: images/good}\npretext: {task: crappify}\n"
    inner = ", ".join(f"&b{i} [{', '.join([f'*b{i - 1}'] * 10)}]" for i in range(1, 12))
    return {
        "apply": f"data: !!python/object/apply:os.remove ['{canary}']\n",
        "new": f"!!python/object/new:os.remove ['{canary}']\n",
        "module": "data: !!python/module:antigravity\n",
        "name": "name: !!python/name:os.system\n" + rest,
        "lists": bomb("[x, x]", lambda i: f"[{', '.join([f'*a{i - 1}'] * 10)}]"),
        "merges": bomb("{x: 1}", lambda i: f"{{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}"),
        "value": f"name: [&b0 [x, x], {inner}]\n" + rest,
        "itself": "data: &a [*a]\n",
        "nested": "data: " + "[" * 100_000,
        "block": "\n".join(" " * i + "a:" for i in range(2000)),
        "digits": "run_id: " + "9" * 5000 + rest,
        "hexadecimal": "run_id: 0x" + "f" * 50_000 + rest,
        "rate": "training: {learning_rate: 0x" + "f" * 2400 + "}" + rest,
        "side": f"data: {{train: images/good, patch_size: [{2**40}, 16]}}\n" + rest.split("\n")[2],
        "sixties": "run_id: " + ":".join(["1"] * 9000) + rest,
        "up": "name: ../../x" + rest,
        "absolute": "name: /tmp/x" + rest,
        "dots": "name: .." + rest,
        "nul": 'name: "a\\0b"' + rest,
        "escape": 'name: "\\e[31m"' + rest,
        "long": f"name: {'a' * 300}" + rest,
        "result": 'result_dir: "a\\0b"' + rest,
        "folder": 'data: {train: "a\\0b"}\npretext: {task: crappify}\n',
    }
