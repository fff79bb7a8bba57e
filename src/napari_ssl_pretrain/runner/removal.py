"""Removing one run: only what is its own, only in a folder that is known as a run's.

Links are never followed, a run under way is never touched, and what runs of a name share stays.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec import claim
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.run_record import RunReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WINDOWS = sys.platform == "win32"
BY_HAND = "Look at the folder, and delete it by hand if it shall go."


@dataclass(frozen=True)
class Removal:
    """What removing a run takes away.

    Attributes
    ----------
    run
        The run.
    paths
        Its files and its folder, the folder last.
    files, size
        How many files these are, and how many bytes.
    """

    run: RunDir
    paths: tuple[Path, ...]
    files: int
    size: int


def plan_removal(run: RunDir) -> Removal:
    """Find what a run has left; removes nothing.

    Raises
    ------
    ConfigError
        The folder is not known as a run's, or the run may be under way.
    """
    refuse_foreign(run)
    refuse_running(run)
    files = [
        (run.checkpoints, run.checkpoint("best")),
        (run.checkpoints, run.checkpoint("last")),
        (run.config_files, run.resolved_config),
    ]
    paths = [path for folder, path in files if _is_folder(folder) and _mode(path)]
    count, size = len(paths), sum(_size(path) for path in paths)
    inside, inside_size = _measured(run)
    return Removal(run, (*paths, run.results), count + inside, size + inside_size)


def remove(removal: Removal, trash: Callable[[Path], bool] | None = None) -> list[Path]:
    """Remove a run while nobody else can begin it; return what could not be put into the trash.

    Parameters
    ----------
    removal
        What :func:`plan_removal` found.
    trash
        Puts one file or folder into the trash and returns whether it could; without it,
        everything is deleted for good.

    Raises
    ------
    ConfigError
        The run is under way by now, or something cannot be deleted.
    """
    run = removal.run
    refuse_foreign(run)
    with claim.held(run, run.run_name, beat=False):
        now = plan_removal(run)
        # Windows moves and deletes no folder in which a file is open, such as the lock
        kept = (run.results,) if WINDOWS else ()
        left = _take_away([path for path in now.paths if path not in kept], run, trash)
    if left:
        return [*left, *kept]
    if trash is None:
        _delete_folder(run.results)
    elif left := _take_away(kept, run, trash):
        return left
    for folder in (run.results.parent, run.checkpoints, run.config_files, run.job):
        with suppress(OSError):
            folder.rmdir()  # only when empty
    return []


def refuse_foreign(run: RunDir) -> None:
    """Refuse what is not known as a run's folder.

    Raises
    ------
    ConfigError
        It is not, or a link stands in for one of its folders.
    """
    try:
        same = RunDir.from_results(run.results) == run
    except ValueError:
        same = False
    for folder in (run.job, run.results.parent, run.results):
        if not same or not _is_folder(folder):
            raise ConfigError(
                folder, "is no folder that a run made, or a link to one", remedy=BY_HAND
            )
    if not stat.S_ISREG(_mode(run.events)):
        raise ConfigError(run.events, "is no plain file", remedy=BY_HAND)


def refuse_running(run: RunDir) -> None:
    """Refuse a run that may be under way, and a folder whose events tell of no run.

    Raises
    ------
    ConfigError
        It may be, or they do not.
    """
    reader = RunReader(run)
    record = reader.read()
    if record.state == "unreadable":
        raise ConfigError(run.run_name, f"is not known as a run ({record.problem})", remedy=BY_HAND)
    if record.goes_on and not reader.doubtful:  # else whoever takes the claim makes sure
        where = f" on {record.status.host}" if record.status.host else ""
        raise ConfigError(
            run.run_name, f"is under way{where}", remedy="Stop it first, then delete it."
        )


def _measured(run: RunDir) -> tuple[int, int]:
    """Return number and bytes of the files in a run's folder.

    Raises
    ------
    ConfigError
        Another disk is mounted inside.
    """
    count = size = 0
    device = os.lstat(run.results).st_dev
    for folder, _, names in os.walk(run.results):  # links are not followed
        if os.lstat(folder).st_dev != device:
            raise ConfigError(folder, "lies on another disk than its run", remedy=BY_HAND)
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - may be many
            count += 1
    return count, size


def _take_away(
    paths: Sequence[Path], run: RunDir, trash: Callable[[Path], bool] | None
) -> list[Path]:
    """Delete files and what a run's folder holds, or put them into the trash; return the rest."""
    for number, path in enumerate(paths):
        if trash is None:
            _delete(path, run)
        elif not trash(path):
            return list(paths[number:])
    return []


def _delete(path: Path, run: RunDir) -> None:
    """Delete one file, or all in a run's folder; its events go last: they say whose folder it is.

    Raises
    ------
    ConfigError
        Something in it cannot be deleted.
    """
    try:
        if path != run.results:
            path.unlink(missing_ok=True)
            return
        for inside in sorted(path.iterdir(), key=lambda p: p == run.events):
            if _is_folder(inside):
                shutil.rmtree(inside)
            elif inside != run.lock:
                inside.unlink()
    except OSError as error:
        _stays(error, path)


def _delete_folder(path: Path) -> None:
    """Delete a folder that is empty but for what a lock leaves.

    Raises
    ------
    ConfigError
        It cannot be deleted.
    """
    try:
        path.rmdir()
    except OSError as error:
        _stays(error, path)


def _stays(error: OSError, path: Path) -> NoReturn:
    """Say what cannot be deleted.

    Raises
    ------
    ConfigError
        Always.
    """
    where = error.filename or path
    remedy = "The rest is still there; delete again when that is mended."
    raise ConfigError(
        where, f"cannot be deleted ({error.strerror or error})", remedy=remedy
    ) from None


def _mode(path: Path) -> int:
    """Return what something is, links not followed; 0 where there is nothing."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
