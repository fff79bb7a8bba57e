"""Images through a trained network: restored (crappify), or masked and reconstructed (masking)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.data.intensity import ImageIntensity, measure
from napari_ssl_pretrain.engine.hardware import find_device, has_fast_bf16
from napari_ssl_pretrain.engine.infer import Restorer
from napari_ssl_pretrain.engine.inputs import (
    config_of,
    custom_statistics,
    open_inputs,
    output_folder,
)
from napari_ssl_pretrain.engine.load import load_network
from napari_ssl_pretrain.engine.machine import keep_freed_memory
from napari_ssl_pretrain.engine.making import ImageMaker
from napari_ssl_pretrain.errors import DataError
from napari_ssl_pretrain.pretext import Crappify
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.resolve import make_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ssl_pretrain.data.images import Image


def predict(
    checkpoint: Path,
    input: str | Sequence[str] | Path,  # noqa: A002 - the command's word
    output: Path,
    *,
    device: str = "auto",
    emit: Callable[[ev.AnyEvent], None] | None = None,
) -> list[Path]:
    """Restore, or mask and reconstruct, every image of a folder.

    Parameters
    ----------
    checkpoint
        A ``.pth`` of a run.
    input
        A folder, a file, a glob, or a list of these.
    output
        Folder of the results, made if missing; never that of the images.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    emit
        Called with events of the progress and of each image.

    Returns
    -------
    list of Path
        The files that were written: ``<image>.tif`` for crappify, the five kinds
        ``<image>_<kind>.tif`` for masking; ``.ome.zarr`` for large images, whose ``original``
        is not written again.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be loaded, or does not fit the images.
    ConfigError
        The device is not there, or the output is the folder of the images.
    DataError
        There is no image to predict.
    """
    say = emit or (lambda _: None)
    model, state = load_network(Path(checkpoint))
    config = config_of(state, Path(checkpoint))
    where = find_device(device, "--device")
    paths = [str(p) for p in ([input] if isinstance(input, str | Path) else input)]
    images = open_inputs(paths, config, state, Path(checkpoint), say)
    output = output_folder(Path(output), images)
    if where == "cpu":
        keep_freed_memory()
    precision = "bf16" if has_fast_bf16(where) else "fp32"
    voxel_size = tuple(state["voxel_size"]) if state["voxel_size"] else None
    task = make_task(config, voxel_size)
    restorer = Restorer(
        model.to(where), task, config.data.patch_size, batch_size=8, precision=precision
    )
    maker = ImageMaker(restorer, task, config.training.seed)
    custom = custom_statistics(state)
    return _all(maker, images, lambda i: measure(i, config.data.normalization, custom), output, say)


def _all(
    maker: ImageMaker,
    images: Sequence[Image],
    measured: Callable[[Image], ImageIntensity],
    output: Path,
    say: Callable[[ev.AnyEvent], None],
) -> list[Path]:
    written: list[Path] = []
    clock = _Clock(len(images), say)
    for number, image in enumerate(images):
        clock.tell(number, image.info.name)
        try:
            intensity = measured(image)
            saved = _one(maker, image, intensity, number, output, clock.within(number, image))
        except DataError as error:
            say(ev.Warned(message=f"{error.subject} is skipped: {error.rule}."))
            continue
        for event in saved:
            if event.path != event.source:  # a large original is not written again
                say(event)
                written.append(Path(event.path))
    clock.tell(len(images), "")
    return written


class _Clock:
    """Tells how far it is, and how long it may take."""

    def __init__(self, total: int, say: Callable[[ev.AnyEvent], None]) -> None:
        self._total, self._say = total, say
        self._began = self._told = time.monotonic()

    def tell(self, done: int, message: str, share: float = 0.0) -> None:
        part = (done + share) / max(1, self._total)
        left = (time.monotonic() - self._began) * (1 - part) / part if part > 0 else None
        self._say(
            ev.Progress(
                stage="predict", done=done, total=self._total, message=message, seconds_left=left
            )
        )

    def within(self, number: int, image: Image) -> Callable[[float], None]:
        """Return what is told the share of an image that is done."""

        def progress(share: float) -> None:
            if time.monotonic() - self._told > 1:
                self._told = time.monotonic()
                self.tell(number, f"{image.info.name} ({share:.1%})", share)

        return progress


def _one(
    maker: ImageMaker,
    image: Image,
    intensity: ImageIntensity,
    number: int,
    output: Path,
    progress: Callable[[float], None],
) -> list[ev.ImageSaved]:
    name = image.info.name
    if isinstance(maker.task, Crappify):
        path = output / f"{name}.tif"
        return maker.write_restored(image, image, intensity, path, progress=progress).events
    return maker.write_checks(
        image, intensity, number, lambda kind: output / f"{name}_{kind}.tif", progress=progress
    ).events
