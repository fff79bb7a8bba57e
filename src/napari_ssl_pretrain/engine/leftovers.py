"""The folders of a run: begun anew, or gone on with after a process that was killed."""

from __future__ import annotations

import glob
import shutil
from typing import TYPE_CHECKING

from napari_ssl_pretrain.data.parts import clear_parts, remove

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.run_dir import RunDir


def make_folders(run: RunDir, task: str, *, overwrite: bool) -> None:
    """Make the folders of a run whose claim is held, and remove what does not belong there.

    Parameters
    ----------
    run
        The run.
    task
        The pretext task.
    overwrite
        Whether what an earlier run of this number left goes.

    Raises
    ------
    OSError
        They cannot be made.
    """
    if overwrite:
        clear_run(run)
    for folder in run.folders(task):
        folder.mkdir(parents=True, exist_ok=True)
    clear_torn(run)
    run.stop_file.unlink(missing_ok=True)


def clear_run(run: RunDir) -> None:
    """Remove what an earlier run of this number left.

    Raises
    ------
    OSError
        Something cannot be removed.
    """
    # whoever started this process writes to the first, this process holds the others
    kept = {run.console_log, run.lock, run.heartbeat, run.reserve}
    for path in [p for p in run.results.glob("*") if p not in kept]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (run.checkpoint("best"), run.checkpoint("last"), run.resolved_config):
        path.unlink(missing_ok=True)


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
