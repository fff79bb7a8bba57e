"""Which report suits the standard output of this process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from napari_ssl_pretrain.cli import report as reports
from napari_ssl_pretrain.engine import world

if TYPE_CHECKING:
    from napari_ssl_pretrain.cli.report import Report


def make_report(*, as_json: bool) -> Report:
    """Return bars on a terminal, plain lines in a pipe, or JSON; only rank 0 speaks."""
    world.adopt_slurm()
    if world.rank() != 0:
        return reports.Silent()
    if as_json:
        return reports.JsonReport()
    if sys.stdout.isatty():
        from napari_ssl_pretrain.cli.bars import BarReport  # noqa: PLC0415 - rich only here

        return BarReport()
    return reports.PlainReport()


def make_progress() -> Report:
    """Return bars on a terminal, or plain lines, on the standard error: how far a command is."""
    if sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415 - rich only here

        from napari_ssl_pretrain.cli.bars import BarReport  # noqa: PLC0415

        return BarReport(Console(stderr=True, highlight=False, soft_wrap=True))
    return reports.PlainProgress()
