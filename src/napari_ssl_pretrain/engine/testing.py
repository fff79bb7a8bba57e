"""The test: whole images through the network, written beside each other and scored as written."""

from __future__ import annotations

import csv
import io
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ssl_pretrain.data.intensity import finite
from napari_ssl_pretrain.data.writers import to_dtype, write_text
from napari_ssl_pretrain.engine import images as im
from napari_ssl_pretrain.engine.feed import Feed, Purpose, training_batches
from napari_ssl_pretrain.engine.infer import Restorer
from napari_ssl_pretrain.engine.metrics import crappify_scores, masking_scores, mean_scores
from napari_ssl_pretrain.errors import DataError
from napari_ssl_pretrain.pretext import Intensity, Masking, NumpyRandom
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.data.intensity import ImageIntensity
    from napari_ssl_pretrain.engine.feed import PatchSet
    from napari_ssl_pretrain.engine.machine import Machine
    from napari_ssl_pretrain.engine.prepare import ImageSet, Plan
    from napari_ssl_pretrain.engine.report import Reporter
    from napari_ssl_pretrain.pretext import Crappify
    from napari_ssl_pretrain.spec.run_dir import RunDir

Frames = list[np.ndarray]

SAMPLES = 10
"""Patches in ``aug``."""

PREVIEW_IMAGES = 2
PREVIEW_PIXELS = 2**21
"""How many images, and how many pixels of each at most, are looked at while training goes on."""


def hidden_tokens(task: Masking, grid: Sequence[int], key: Sequence[int]) -> np.ndarray:
    """Draw the hidden tokens of one frame from a key; the same at every call."""
    drawn: np.ndarray = task.draw_hidden(1, tuple(grid), NumpyRandom([key]))[0]
    return drawn


class ImageMaker:
    """Makes the images of a network: restored, or masked and reconstructed, and writes them.

    Parameters
    ----------
    restorer
        The network with its tiles.
    task
        The pretext task.
    seed
        Seed of the hidden parts.
    """

    def __init__(self, restorer: Restorer, task: Crappify | Masking, seed: int) -> None:
        self.restorer, self.task, self._seed = restorer, task, seed

    def restore(
        self,
        image: Image,
        intensity: ImageIntensity,
        progress: Callable[[float], None] | None = None,
    ) -> Frames:
        """Restore each frame of a worsened image, float32 in its units."""
        return [
            self.restorer(
                _read(image, f, intensity), intensity, progress=_within(progress, f, image.frames)
            )
            for f in range(image.frames)
        ]

    def reconstruct(
        self,
        image: Image,
        intensity: ImageIntensity,
        number: int,
        progress: Callable[[float], None] | None = None,
    ) -> tuple[Frames, Frames]:
        """Hide parts of each frame and reconstruct them: predictions and hidden pixels.

        Raises
        ------
        TypeError
            The task hides nothing.
        """
        if not isinstance(self.task, Masking):
            raise TypeError("only masking hides parts of images")
        predictions, hidden = [], []
        for f in range(image.frames):
            key = (self._seed, int(Purpose.TEST), number, f)
            tokens = hidden_tokens(self.task, self.restorer.token_grid(image.spatial), key)
            frame = _read(image, f, intensity)
            within = _within(progress, f, image.frames)
            predictions.append(self.restorer(frame, intensity, tokens, within))
            pixels = self.task.to_pixels(tokens[None])[0, 0]
            hidden.append(pixels[tuple(slice(0, n) for n in image.spatial)])
        return predictions, hidden


def _read(image: Image, frame: int, intensity: ImageIntensity) -> np.ndarray:
    return finite(image.read(frame), intensity.mean)


def _within(
    progress: Callable[[float], None] | None, frame: int, frames: int
) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress((frame + done / total) / frames)


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
    """

    def __init__(self, plan: Plan, run: RunDir, report: Reporter, machine: Machine) -> None:
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
            if image.frames * image.in_channels * math.prod(image.spatial) <= PREVIEW_PIXELS:
                self._write(maker, images, number, None)
                shown += 1

    def test(self, images: ImageSet, step: int) -> dict[str, float]:
        """Write and score every test image; return the mean of each score."""
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
        dtype, name, say = image.info.dtype, image.info.name, self._report
        if images.worsened is not None:
            copy = images.worsened[number]
            restored = [to_dtype(f, dtype) for f in maker.restore(copy, intensity, progress)]
            path = self._run.restored(name)
            say(im.save_image(path, restored, image, "restored", self.step))
            say(im.image_saved(copy.info.path, image, "worsened", self.step, image.info.axes))
            return lambda: crappify_scores(_frames(image), restored, _frames(copy))
        predictions, hidden = maker.reconstruct(image, intensity, number, progress)
        made = [to_dtype(f, dtype) for f in predictions]
        mean = intensity.mean
        for event in im.save_mae_checks(self._run, image, made, hidden, mean, self.step):
            say(event)
        im.save_image(self._run.restored(name), made, image, "reconstruction", self.step)
        return lambda: masking_scores(_frames(image), made, hidden)

    def save_samples(self, patches: PatchSet) -> None:
        """Write the first patches as the network is shown them, in the images' own units."""
        training, task = self._plan.config.training, self._plan.task
        if isinstance(task, Masking):
            task = task.replace(normalize_target=False)
        feed = Feed(task, training.seed, self._machine.device)
        host = next(iter(training_batches(patches, training.seed, range(1), range(SAMPLES), 0)))
        batch = feed.to_device(host, Purpose.PRETEXT, augment=training.augment)
        known = Intensity(*(torch.from_numpy(v).to(batch.input) for v in host.intensity))
        seen, wanted = (known.denormalize(x).cpu().numpy() for x in (batch.input, batch.target))
        events = im.save_samples(
            self._run, patches.clean.images, host.images, seen, wanted, self.step
        )
        for event in events:
            self._report(event)


def _frames(image: Image) -> Frames:
    return [image.read(f) for f in range(image.frames)]


def write_csv(path: Path, rows: Sequence[Mapping[str, float | str]]) -> None:
    """Write rows of equal keys as a CSV file, whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
