"""Every path of a transfer study, named once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ssl_pretrain.spec.job_dir import JobDir

if TYPE_CHECKING:
    from pathlib import Path

BACKGROUND = (24, 28, 36)
"""Colour of the background class in the pictures of cases."""


@dataclass(frozen=True)
class StudyDir(JobDir):
    """The files of a transfer study, all in one folder.

    Parameters
    ----------
    results
        The folder.
    """

    results: Path

    @property
    def run_name(self) -> str:
        """Name of the folder."""
        return self.results.name

    @property
    def config(self) -> Path:
        """What was asked."""
        return self.results / "transfer.yaml"

    @property
    def report(self) -> Path:
        """The report, one page that needs no network."""
        return self.results / "report.html"

    @property
    def chart(self) -> Path:
        """Score over the number of labels."""
        return self.results / "score_over_labels.png"

    @property
    def summary(self) -> Path:
        """What was found, as JSON."""
        return self.results / "summary.json"

    @property
    def pictures(self) -> Path:
        """Folder of the median and the worst case."""
        return self.results / "pictures"

    def empty_folders(self) -> tuple[Path, ...]:
        """Return the folders that are made for a study alone, innermost first."""
        return (self.results,)
