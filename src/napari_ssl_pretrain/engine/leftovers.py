"""What a killed process left half written."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.run_dir import RunDir


def clear_torn(run: RunDir) -> None:
    """Remove what an earlier process of this run was writing when it was killed."""
    for stale in run.checkpoints.glob(f".{glob.escape(run.run_name)}-checkpoint-*.tmp"):
        stale.unlink(missing_ok=True)
    for stale in run.results.rglob(".*.part"):
        if not stale.name.startswith(f".{run.heartbeat.name}."):  # this process writes it
            stale.unlink(missing_ok=True)
