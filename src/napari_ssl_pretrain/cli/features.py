"""``features``: dense features of images, as colours and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.output import make_report
from napari_ssl_pretrain.cli.predict import check_paths

if TYPE_CHECKING:
    from argparse import Namespace


def command(args: Namespace) -> int:
    """Write the features of every image of the input into the output folder."""
    checkpoint, output = Path(args.checkpoint), Path(args.output)
    check_paths(checkpoint, args.input, output)
    report = make_report(as_json=args.json)
    if not args.json:
        report.note(f"Loading {checkpoint}")
    from napari_ssl_pretrain.engine.features import features  # noqa: PLC0415 - torch: 2 s

    try:
        written = features(
            checkpoint, args.input, output, point=args.point, device=args.device, emit=report
        )
    finally:
        report.close()
    if not args.json:
        report.note(f"Written: {text.count(len(written), 'file')} in {output}")
    return 0
