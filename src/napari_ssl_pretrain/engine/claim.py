"""A run's folder belongs to one start at a time."""

from __future__ import annotations

import glob
import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ssl_pretrain.spec.run_dir import RunDir

SECONDS = 2.0
"""How long a start waits for another one that is just ending."""


@contextmanager
def held(run: RunDir) -> Iterator[None]:
    """Hold a run's folder, on this machine and on others that see it.

    The system lets go of the lock when the process ends, however it ends. Where the file system
    knows no locks the run goes on without.

    Raises
    ------
    ConfigError
        Another process holds it.
    """
    run.results.mkdir(parents=True, exist_ok=True)
    logging.getLogger("filelock").setLevel(logging.ERROR)
    lock = FileLock(run.lock, thread_local=False)
    try:
        lock.acquire(timeout=SECONDS)
    except Timeout:
        raise ConfigError(
            "run_id",
            f"this run is under way already in {run.results}",
            value=run.run_id,
            remedy="Wait for its end or stop it, or take another --run_id. If it runs nowhere, "
            "delete the file .lock there.",
        ) from None
    except (NotImplementedError, OSError):
        pass
    try:
        yield
    finally:
        if lock.is_locked:  # what others hold stays
            with suppress(OSError):  # Windows keeps an open file
                run.lock.unlink()
        lock.release(force=True)


def clear_torn(run: RunDir) -> None:
    """Remove what an earlier process of this run was writing when it was killed."""
    for stale in run.checkpoints.glob(f".{glob.escape(run.run_name)}-checkpoint-*.tmp"):
        stale.unlink(missing_ok=True)
    for stale in run.results.rglob(".*.part"):
        stale.unlink(missing_ok=True)
