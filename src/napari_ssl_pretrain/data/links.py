"""Links in a folder of results: what is written through them would land elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_ssl_pretrain.spec.run_dir import RunDir


def refuse_links(run: RunDir) -> None:
    """Refuse to write a run where links lead out of its result folder.

    Parameters
    ----------
    run
        The run; its result folder itself may be a link.

    Raises
    ------
    ConfigError
        One of its folders, or something in them, is a link to outside.
    """
    folders = (run.job, run.config_files, run.checkpoints, run.results.parent, run.results)
    refuse_links_in("result_dir", Path(run.result_dir), folders)


def refuse_links_in(field: str, root: Path, folders: Iterable[Path]) -> None:
    """Refuse folders that are, or hold, links to outside of another folder.

    Parameters
    ----------
    field
        What the user calls ``root``.
    root
        Where links may lead to.
    folders
        Folders in it; the contents of the last one are looked at to any depth.

    Raises
    ------
    ConfigError
        There is such a link.
    """
    inside = os.path.realpath(root)
    for path in _links(list(folders)):
        target = os.path.realpath(path)
        if os.path.commonpath([inside, target]) != inside:
            raise ConfigError(
                field,
                f"holds a link that leads out of it ({path} to {target}), and nothing is "
                "written there",
                value=root,
                remedy="Remove the link, or choose another folder.",
            )


def _links(folders: list[Path]) -> Iterator[Path]:
    """Return the links among folders and their files, and at any depth in the last folder."""
    for folder in folders:
        if folder.is_symlink():
            yield folder
        elif folder.is_dir():
            with os.scandir(folder) as entries:
                yield from (Path(e.path) for e in entries if e.is_symlink() and e.is_file())
    if not folders[-1].is_symlink():
        for place, names, files in os.walk(folders[-1]):
            found = (Path(place) / name for name in (*names, *files))
            yield from (path for path in found if path.is_symlink())
