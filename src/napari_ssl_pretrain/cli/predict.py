"""``predict``: restore or reconstruct images with a pretrained model."""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.output import make_report
from napari_ssl_pretrain.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from argparse import Namespace


def command(args: Namespace) -> int:
    """Write the results of every image of the input into the output folder."""
    checkpoint, output = Path(args.checkpoint), Path(args.output)
    check_paths(checkpoint, args.input, output)
    report = make_report(as_json=args.json)
    if not args.json:
        report.note(f"Loading {checkpoint}")
    from napari_ssl_pretrain.engine.predict import predict  # noqa: PLC0415 - torch: 2 s

    try:
        written = predict(checkpoint, args.input, output, device=args.device, emit=report)
    finally:
        report.close()
    if not args.json:
        report.note(f"Written: {text.count(len(written), 'file')} in {output}")
    return 0


def check_paths(checkpoint: Path, given: str, output: Path) -> None:
    """Refuse what would fail, or would write beside the images, before anything slow.

    Raises
    ------
    CheckpointError
        The checkpoint is not there.
    DataError
        The input is not there, or the output is its folder.
    """
    if not checkpoint.is_file():
        remedy = "Give a .pth file from the checkpoints folder of a run."
        raise CheckpointError("--checkpoint", "no such file", value=checkpoint, remedy=remedy)
    path = Path(given)
    if not path.exists() and not glob(given):  # noqa: PTH207 - the pattern may hold folders
        remedy = "Give an image, a folder of images, or a glob."
        raise DataError("--input", "does not exist", value=given, remedy=remedy)
    folder = path if path.is_dir() else path.parent
    if output.resolve() == folder.resolve():
        rule = "is the folder of the images, beside which nothing is written"
        raise DataError("--output", rule, value=output, remedy="Give another folder.")
    if output.exists() and not output.is_dir():
        raise DataError("--output", "is a file", value=output, remedy="Give a folder.")
