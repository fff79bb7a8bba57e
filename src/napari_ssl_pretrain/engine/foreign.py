"""What a file is that is no checkpoint of ours: told from its bytes, nothing is unpickled."""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 1 << 16
LONGEST_HEADER = 100_000_000
"""Bytes of the longest header that the safetensors format allows."""

LARGEST_PICKLE = 1 << 26
"""Bytes of the largest pickle in a torch file; it holds names and settings, no numbers."""

PLAIN = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")
"""All that plain weights ask Python for."""

MARKS: dict[str, tuple[bytes, ...]] = {
    "this program for nnU-Net": (b"network_weights", b"card_version"),
    "this program for BiaPy": (b"conv_blocks_context", b"card_version"),
    "nnU-Net": (b"network_weights", b"trainer_name"),
    "PyTorch Lightning": (b"pytorch-lightning_version",),
    "BiaPy": (b"biapy_version", b"model_build_kwargs"),
}
"""Words in the pickle of other programs' checkpoints."""


BEGINNINGS: dict[bytes, str] = {
    rb"\x08.\x12\x07pytorch": "is an ONNX file, which is to be run, not to be trained",
    rb"\x89HDF\r\n": "is an HDF5 file, such as Keras writes",
    rb"\x80": "is a Python pickle, which could run anything; only plain weights are read",
}
"""How files of other kinds begin."""


def kind_of(path: Path) -> str:
    """Return ``zip`` or ``safetensors``; else what is wrong with the file, as a sentence."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if zipfile.is_zipfile(path):
        return "zip"
    if _is_safetensors(head, path.stat().st_size):
        return "safetensors"
    for beginning, sentence in BEGINNINGS.items():
        if re.match(beginning, head, re.DOTALL):
            return sentence
    if _is_card(path, head):
        return "is the card of an export; the weights are in the file beside it"
    return "is no checkpoint"


def origin(path: Path) -> str | None:
    """Return the program whose words are in the pickle of a torch file, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            with archive.open(name) as file:
                words = file.read(1 << 24)
    except (OSError, StopIteration, zipfile.BadZipFile, NotImplementedError):
        return None
    return next((who for who, marks in MARKS.items() if all(m in words for m in marks)), None)


def odd(path: Path) -> str | None:
    """Return what makes a torch file more than plain weights, or None; nothing is unpickled.

    ``weights_only`` keeps code from running. This also keeps memory: that way of reading still
    makes some objects that can be as large as a file says, and takes compressed files, which grow.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if {p.filename for p in parts} & {"rdf.yaml", "bioimageio.yaml"}:
                return "is a bioimage.io package, which is to be run, not to be trained"
            if any(p.compress_type != zipfile.ZIP_STORED for p in parts):
                return "is compressed, which torch never does"
            if sum(p.file_size for p in parts) > path.stat().st_size:
                return "says that it holds more bytes than it has"
            pickles = [p for p in parts if p.filename.endswith("data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
                return "is no file of torch.save"
            return _foreign_name(archive.read(pickles[0]))
    except (OSError, ValueError, LookupError, zipfile.BadZipFile, NotImplementedError) as error:
        return f"is damaged ({error})"


def _foreign_name(data: bytes) -> str | None:
    """Return a sentence about the first thing that a pickle asks for and plain weights do not."""
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}:
            return "holds Python objects, which could run anything; only plain weights are read"
        if operation.name == "GLOBAL" and not PLAIN.fullmatch(str(argument)):
            name = ".".join(str(argument).split())[:80]
            return f"asks Python for {name}, which could run anything; only plain weights are read"
    return None


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= min(LONGEST_HEADER, size - 8)  # noqa: PLR2004


def _is_card(path: Path, head: bytes) -> bool:
    if not head.lstrip().startswith(b"{") or b"card_version" not in head:
        return False
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
