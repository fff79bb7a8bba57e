"""The test: whole images through the network, written beside each other and scored as written."""

from __future__ import annotations

import csv
import io
import math
import time
from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_ssl_pretrain.data.boxes import is_large, spread
from napari_ssl_pretrain.data.ome_zarr_writer import by_tile
from napari_ssl_pretrain.data.writers import write_text
from napari_ssl_pretrain.engine import images as im
from napari_ssl_pretrain.engine.feed import Feed, Purpose, training_batches
from napari_ssl_pretrain.engine.infer import Restorer
from napari_ssl_pretrain.engine.making import ImageMaker, Written, copy_result
from napari_ssl_pretrain.engine.metrics import crappify_scores, masking_scores, mean_scores
from napari_ssl_pretrain.errors import DataError
from napari_ssl_pretrain.pretext import Intensity, Masking
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_ssl_pretrain.data.boxes import Box
    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.engine.feed import PatchSet
    from napari_ssl_pretrain.engine.machine import Machine
    from napari_ssl_pretrain.engine.prepare import ImageSet, Plan
    from napari_ssl_pretrain.engine.report import Reporter
    from napari_ssl_pretrain.spec.run_dir import RunDir

SAMPLES = 10
"""Patches in ``aug``."""

SCORED_VALUES = 1 << 26
SCORED_BOXES, SCORED_VOXELS = 16, 1 << 20
"""Images of more values are scored on so many boxes, of so many values each, spread over them."""

SCORED_TEXT = f"{SCORED_BOXES} boxes spread over it, for it is large"

PREVIEW_IMAGES = 2
PREVIEW_PIXELS = 2**21
"""How many images, and how many pixels of each at most, are looked at while training goes on."""


def is_previewed(image: Image) -> bool:
    """Return whether an image is small enough to be looked at while training goes on."""
    return image.frames * image.in_channels * math.prod(image.spatial) <= PREVIEW_PIXELS


class StopWished(Exception):
    """Somebody wishes to stop while images are tested."""


class Tester:
    """Writes and scores the images of a run.

    Parameters
    ----------
    plan
        The job.
    run
        Where images go.
    report
        Told of every image.
    machine
        Holds the network.
    should_stop
        Asked before each image, and once a second within a large one.
    """

    def __init__(
        self,
        plan: Plan,
        run: RunDir,
        report: Reporter,
        machine: Machine,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._should_stop = should_stop
        self._plan, self._run, self._report, self._machine = plan, run, report, machine
        self.step = 0

    def _maker(self) -> ImageMaker:
        config = self._plan.config
        restorer = Restorer(
            self._machine.model,
            self._plan.task,
            config.data.patch_size,
            batch_size=min(config.training.batch_size, 16),
            precision=config.compute.precision,
        )
        return ImageMaker(restorer, self._plan.task, config.training.seed)

    def preview(self, images: ImageSet, step: int) -> None:
        """Write what the network makes of the first few small images, for those who watch."""
        self.step = step
        maker, shown = self._maker(), 0
        for number, image in enumerate(images.clean):
            if shown >= PREVIEW_IMAGES:
                return
            if is_previewed(image):
                self._write(maker, images, number, None)
                shown += 1

    def test(self, images: ImageSet, step: int) -> dict[str, float]:
        """Write and score every test image; return the mean of each score.

        Raises
        ------
        StopWished
            Somebody wishes to stop.
        """
        self.step = step
        maker, began = self._maker(), time.monotonic()
        rows: list[dict[str, float]] = []
        names: list[str] = []
        total = len(images.clean)
        for number, image in enumerate(images.clean):
            self._tell(number, total, began, image.info.name)
            try:
                inner = self._inner(number, total, began, image.info.name)
                scores = self._write(maker, images, number, inner)()
            except DataError as error:
                self._report(ev.Warned(message=f"{image.info.path} is skipped: {error.rule}."))
                continue
            rows.append(scores)
            names.append(image.info.name)
        self._tell(total, total, began, "")
        if rows:
            table: list[dict[str, float | str]] = [
                {"image": name, **row} for name, row in zip(names, rows, strict=True)
            ]
            write_csv(self._run.test_metrics, table)
        return mean_scores(rows)

    def _inner(self, number: int, total: int, began: float, name: str) -> Callable[[float], None]:
        last = [began]

        def progress(share: float) -> None:
            if time.monotonic() - last[0] > 1:
                last[0] = time.monotonic()
                self._tell(number, total, began, f"{name} ({share:.0%})", share)

        return progress

    def _tell(self, done: int, total: int, began: float, message: str, share: float = 0.0) -> None:
        if done < total and self._should_stop():
            raise StopWished
        part = (done + share) / max(1, total)
        left = (time.monotonic() - began) * (1 - part) / part if part > 0 else None
        text = f"Testing {message}" if message else ""
        self._report(
            ev.Progress(stage="test", done=done, total=total, message=text, seconds_left=left)
        )

    def _write(
        self,
        maker: ImageMaker,
        images: ImageSet,
        number: int,
        progress: Callable[[float], None] | None,
    ) -> Callable[[], dict[str, float]]:
        """Write what the network makes of an image; the result scores it when called."""
        image, intensity = images.clean[number], images.intensities[number]
        name, step = image.info.name, self.step
        copy = images.worsened[number] if images.worsened is not None else None
        if copy is not None:
            path = self._run.restored(name)
            written = maker.write_restored(copy, image, intensity, path, step, progress)
            where = copy.info
            events = [im.image_saved(where.path, image, "worsened", step, where.axes)]
        else:
            places = partial(self._run.mae_check, name)
            written = maker.write_checks(image, intensity, number, places, step, progress)
            events = []
            self._second_name(image)
        for event in (*written.events, *events):
            self._report(event)
        return partial(self._score, image, copy, written)

    def _second_name(self, image: Image) -> None:
        """Put the reconstruction where test images are looked for, too."""
        made, path = (
            self._run.mae_check(image.info.name, "reconstruction"),
            self._run.restored(image.info.name),
        )
        if is_large(image):
            made, path = by_tile(made), by_tile(path)
        copy_result(made, path)

    def _score(self, image: Image, copy: Image | None, written: Written) -> dict[str, float]:
        """Score what was written, as it was written; parts of it where it is large."""
        boxes = scored_boxes(image)
        if boxes[0][1] is not None:
            self._report(ev.Warned(message=f"{image.info.path.name}: scored on {SCORED_TEXT}."))
        truth, made = ([read(*place) for place in boxes] for read in (image.read, written.made))
        if written.hidden is None and copy is not None:
            return crappify_scores(truth, made, [copy.read(*place) for place in boxes])
        hidden = written.hidden or image.read
        return masking_scores(truth, made, [hidden(*place)[0] != 0 for place in boxes])

    def save_samples(self, patches: PatchSet) -> None:
        """Write the first patches as the network is shown them, in the images' own units."""
        training, task = self._plan.config.training, self._plan.task
        if isinstance(task, Masking):
            task = task.replace(normalize_target=False)
        feed = Feed(task, training.seed, self._machine.device)
        asked = patches, training.seed, range(1), range(SAMPLES), 0
        host = next(training_batches(*asked, augment=training.augment))
        batch = feed.to_device(host, Purpose.PRETEXT)
        known = Intensity(*(torch.from_numpy(v).to(batch.input) for v in host.intensity))
        seen, wanted = (known.denormalize(x).cpu().numpy() for x in (batch.input, batch.target))
        events = im.save_samples(
            self._run, patches.clean.images, host.images, seen, wanted, self.step
        )
        for event in events:
            self._report(event)


def scored_boxes(image: Image) -> list[tuple[int, Box | None]]:
    """Return the frames of an image, or boxes spread over it where it is large."""
    if image.frames * image.in_channels * math.prod(image.spatial) <= SCORED_VALUES:
        return [(frame, None) for frame in range(image.frames)]
    side = round(SCORED_VOXELS ** (1 / image.ndim))
    return list(spread(image, SCORED_BOXES, SCORED_VOXELS, depth=side))


def write_csv(path: Path, rows: Sequence[Mapping[str, float | str]]) -> None:
    """Write rows of equal keys as a CSV file, whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
