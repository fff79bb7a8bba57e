"""Encoding an open layer: a child process, for torch never enters the viewer's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.feature_map import FeatureMap, read_map
from napari_ssl_pretrain.data.similarity import Similarity
from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.errors import CheckpointError, UserError
from napari_ssl_pretrain.gui.layer_source import layer_file
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.results import stored_array
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_ssl_pretrain.gui.layer_source import LayerSource

COMMAND = (*runner.COMMAND, "features")
MOST_CHECKPOINTS = 12
SMALL = 1 << 28
"""Features of fewer bytes are read into memory."""


@dataclass(frozen=True)
class Request:
    """What to encode.

    Attributes
    ----------
    source
        The layer.
    checkpoint
        The network.
    folder
        Where results go; a fresh one, see :func:`fresh_folder`.
    """

    source: LayerSource
    checkpoint: str
    folder: Path


@dataclass(frozen=True)
class Encoded:
    """An encoded layer.

    Attributes
    ----------
    layer
        Its name.
    map
        Its features.
    similarity
        What compares them with a point.
    colours
        ``… y x 3``, with the axes of the map.
    axes
        A letter for each axis of the layer, without colours.
    folder
        Where the files are.
    """

    layer: str
    map: FeatureMap
    similarity: Similarity
    colours: Any
    axes: str
    folder: Path


class Child:
    """A process that another thread may end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self.stopped = False

    def start(self, words: Sequence[str], errors: Any) -> subprocess.Popen[str]:
        """Start it; one that was ended before it began ends at once."""
        hidden: dict[str, Any] = {}
        if sys.platform == "win32":
            hidden = {"creationflags": subprocess.CREATE_NO_WINDOW}
        with self._lock:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                [*words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=dict(os.environ, PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8"),
                **hidden,
            )
            if self.stopped:
                self._process.kill()
            return self._process

    def stop(self) -> None:
        """End the process."""
        with self._lock:
            self.stopped = True
            if self._process is not None:
                self._process.kill()


def encode(
    request: Request, child: Child, command: Sequence[str] = COMMAND
) -> Generator[ev.Progress, None, Encoded | Problem | None]:
    """Encode a layer and read the result; None where it was stopped. A generator for a worker."""
    try:
        axes = request.source.axes()
        found: Path | Problem | None = None
        for number, path in enumerate(_inputs(request)):
            found = yield from _run(request, path, child, command)
            refused = isinstance(found, Problem)
            if not (refused and number == 0 and path == request.source.file):
                break  # else the file holds more than the layer, which may be what fits
        if isinstance(found, Problem) or found is None:
            return found
        return _read(found, request, axes.removesuffix("S") if request.source.rgb else axes)
    except UserError as error:
        return Problem(error)


def _inputs(request: Request) -> Generator[str, None, None]:
    """Yield what may be encoded: the layer's file where it holds the layer, then its pixels."""
    source = request.source
    if source.file and _lies_on(source):
        yield source.file
        if open_image(source.file).info.shape == source.shape:
            return
    path = layer_file(request.folder, "input", source.name)
    source.save(path)
    yield str(path)


def _lies_on(source: LayerSource) -> bool:
    """Whether the file has the pixels of the layer, channels aside."""
    try:
        info = open_image(source.file).info
    except UserError:
        return False
    kept = [n for a, n in zip(info.axes, info.shape, strict=True) if a not in "CS"]
    axes = source.axes()
    mine = [n for a, n in zip(axes, source.shape, strict=True) if a not in "CS"]
    return kept == mine


def _run(
    request: Request, path: str, child: Child, command: Sequence[str]
) -> Generator[ev.Progress, None, Path | Problem | None]:
    """Run the process and yield its progress; return the JSON of the features."""
    output = request.folder / "features"
    words = [*command, "--checkpoint", request.checkpoint, "--input", path]
    words += ["--output", str(output), "--json"]
    log = request.folder / "errors.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    said = ""
    with log.open("w") as errors:
        process = child.start(words, errors)
        try:
            for line in process.stdout or ():
                event = ev.parse_event(line)
                if isinstance(event, ev.Progress):
                    yield event
                elif isinstance(event, ev.Warned):
                    said = event.message
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
    if child.stopped:
        return None
    found = sorted(output.glob("*_features.json"))
    if process.returncode == 0 and found:
        return found[0]
    reason = runner.last_error(log) or said or f"the process ended with {process.returncode}"
    return Problem(_said(reason))


def _said(reason: str) -> UserError:
    """Return an error of the process as it said it."""
    return UserError("", reason.rstrip("."))


def _read(about: Path, request: Request, axes: str) -> Encoded:
    small = about.with_suffix(".npy").stat().st_size < SMALL
    found = read_map(about, None if small else "r")
    if found.shape != tuple(
        n for a, n in zip(axes, request.source.shape, strict=False) if a != "C"
    ):
        raise CheckpointError(
            request.source.name, "has other axes than its file", remedy="Open the image again."
        )
    colours, _ = stored_array(open_image(about.with_suffix(".tif"), f"{found.axes}S"))
    return Encoded(request.source.name, found, Similarity(found), colours, axes, request.folder)


def to_axes(array: Any, axes: str, wanted: str, lengths: Sequence[int]) -> Any:
    """Bring an array to the axes of a layer; it is the same along those that it lacks.

    Parameters
    ----------
    array
        Its first axes are ``axes``; more may follow.
    axes, wanted
        Letters that it has and shall have.
    lengths
        Length of each wanted axis, for those that it lacks.
    """
    order = [axes.index(a) for a in wanted if a in axes]
    array = array.transpose([*order, *range(len(axes), array.ndim)])
    rest = array.shape[len(axes) :]
    kept = iter(array.shape[: len(axes)])
    known = [next(kept) if a in axes else 0 for a in wanted]
    thin = array.reshape(*(n or 1 for n in known), *rest)
    full = [n or length for n, length in zip(known, lengths, strict=True)]
    broadcast = getattr(thin, "map_blocks", None) and _dask_broadcast()
    return (broadcast or np.broadcast_to)(thin, (*full, *rest))


def _dask_broadcast() -> Any:
    import dask.array as da  # noqa: PLC0415 - only where a volume is read lazily

    return da.broadcast_to


@cache
def _work_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ssl_pretrain_features_", ignore_cleanup_errors=True)


def fresh_folder() -> Path:
    """Return an empty folder that lasts as long as this process."""
    return Path(tempfile.mkdtemp(dir=_work_folder().name))


def discard(folder: Path) -> None:
    """Remove a folder of features that nothing shows any more."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder, ignore_errors=True)


def known_checkpoints(roots: Sequence[Path]) -> list[tuple[str, str]]:
    """Return the best checkpoints of the runs under some folders, newest first, with names."""
    found: dict[str, str] = {}
    for root in dict.fromkeys(roots):
        for run in reversed(RunDir.find(root)):
            path = run.checkpoint("best")
            if path.is_file():
                found.setdefault(str(path), run.run_name)
    return [(name, path) for path, name in found.items()][:MOST_CHECKPOINTS]
