"""What a killed process left half written."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

from napari_ssl_pretrain.data.parts import clear_parts, remove

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.run_dir import RunDir


def clear_torn(run: RunDir) -> None:
    """Remove what an earlier process of this run was writing when it was killed."""
    for stale in run.checkpoints.glob(f".{glob.escape(run.run_name)}-checkpoint-*.tmp"):
        remove(stale)
    for folder in (run.checkpoints, run.config_files):  # what other runs are writing there stays
        clear_parts(folder)
    for pattern in (".*.part", ".*.old"):
        for stale in list(run.results.rglob(pattern)):
            if not stale.name.startswith(f".{run.heartbeat.name}."):  # this process writes it
                remove(stale)
