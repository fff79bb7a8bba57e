"""What a network makes of images: worked out box by box, written whole, read back to be scored.

Small images are held in memory and written as TIFF. Large ones (``data.boxes.is_large``) are
written by tile as OME-Zarr, and nothing of them is held but the boxes at work.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import OrderedDict
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_ssl_pretrain.data.boxes import is_large
from napari_ssl_pretrain.data.intensity import finite
from napari_ssl_pretrain.data.ome_zarr_writer import TiledWriter, by_tile
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.parts import part_of
from napari_ssl_pretrain.data.writers import cannot_write, to_dtype
from napari_ssl_pretrain.engine import images as im
from napari_ssl_pretrain.engine.feed import Purpose
from napari_ssl_pretrain.engine.infer import Source
from napari_ssl_pretrain.pretext import Masking, NumpyRandom
from napari_ssl_pretrain.spec.run_dir import CHECK_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_ssl_pretrain.data.boxes import Box
    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.data.intensity import ImageIntensity
    from napari_ssl_pretrain.engine.infer import Restorer
    from napari_ssl_pretrain.pretext import Crappify
    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.run_dir import CheckKind

    Reader = Callable[[int, Box | None], np.ndarray]
    Share = Callable[[float], None]

TOKENS_AT_ONCE = {2: (512, 512), 3: (64, 64, 64)}
"""The hidden tokens of a large frame are drawn in parts of this many."""

_PARTS_KEPT = 64


class Part(NamedTuple):
    """A box of what was made of a frame; ``hidden`` are the pixels that were hidden, if any."""

    frame: int
    box: Box
    made: np.ndarray
    hidden: np.ndarray | None


class Written(NamedTuple):
    """What was written of an image, and how its pixels are read again."""

    events: list[ev.ImageSaved]
    made: Reader
    hidden: Reader | None


class HiddenTokens:
    """The hidden tokens of a frame, drawn when they are asked for; the same at every call.

    Parameters
    ----------
    task
        Draws them.
    grid
        Tokens of the frame on each axis.
    key
        What they are a function of.
    whole
        Whether they are drawn at once, as those of small frames are.
    """

    def __init__(
        self, task: Masking, grid: Sequence[int], key: Sequence[int], *, whole: bool
    ) -> None:
        self._task, self._grid, self._key = task, tuple(grid), tuple(key)
        self._part = self._grid if whole else TOKENS_AT_ONCE[len(self._grid)]
        self._known: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._whole = whole

    def __call__(self, box: Box) -> np.ndarray:
        """Return a box of the token grid, True where hidden."""
        out = np.empty([b.stop - b.start for b in box], bool)
        ranges = [
            range(b.start // p, (b.stop - 1) // p + 1) for b, p in zip(box, self._part, strict=True)
        ]
        for shift in np.ndindex(*map(len, ranges)):
            index = tuple(r[s] for r, s in zip(ranges, shift, strict=True))
            first = [i * p for i, p in zip(index, self._part, strict=True)]
            tokens = self._drawn(index)
            source, target = [], []
            for b, f, n in zip(box, first, tokens.shape, strict=True):
                low, high = max(b.start, f), min(b.stop, f + n)
                source.append(slice(low - f, high - f))
                target.append(slice(low - b.start, high - b.start))
            out[tuple(target)] = tokens[tuple(source)]
        return out

    def pixels(self, box: Box) -> np.ndarray:
        """Return a box of the frame, True where it is hidden."""
        sizes = self._task.token_size
        tokens = self(
            tuple(
                slice(b.start // t, math.ceil(b.stop / t)) for b, t in zip(box, sizes, strict=True)
            )
        )
        wide = self._task.to_pixels(tokens[None])[0, 0]
        inside = tuple(
            slice(b.start % t, b.start % t + b.stop - b.start)
            for b, t in zip(box, sizes, strict=True)
        )
        return np.asarray(wide[inside])

    def _drawn(self, index: tuple[int, ...]) -> np.ndarray:
        if index not in self._known:
            size = tuple(
                min(p, g - i * p)
                for i, p, g in zip(index, self._part, self._grid, strict=True)
            )  # fmt: skip
            key = self._key if self._whole else (*self._key, *index)
            drawn = self._task.draw_hidden(1, size, NumpyRandom([key]))[0]
            self._known[index] = np.asarray(drawn)
            if len(self._known) > _PARTS_KEPT:
                self._known.popitem(last=False)
        return self._known[index]


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

    def parts(
        self,
        image: Image,
        intensity: ImageIntensity,
        number: int,
        progress: Share | None = None,
    ) -> Iterator[Part]:
        """Restore each frame of a worsened image, or hide parts of a clean one and reconstruct.

        The boxes cover each frame, float32 in the image's units.
        """
        for frame in range(image.frames):
            hidden = self._hidden(image, number, frame)
            source = Source((image.in_channels, *image.spatial), _pixels(image, frame, intensity))
            told = _within(progress, frame, image.frames)
            for box, made in self.restorer.stream(source, intensity, hidden, told):
                yield Part(frame, box, made, None if hidden is None else hidden.pixels(box))

    def _hidden(self, image: Image, number: int, frame: int) -> HiddenTokens | None:
        if not isinstance(self.task, Masking):
            return None
        key = (self._seed, int(Purpose.TEST), number, frame)
        grid = self.restorer.token_grid(image.spatial)
        return HiddenTokens(self.task, grid, key, whole=not is_large(image))

    def write_restored(
        self,
        image: Image,
        like: Image,
        intensity: ImageIntensity,
        path: Path,
        step: int = 0,
        progress: Share | None = None,
    ) -> Written:
        """Restore a worsened image and write it.

        Parameters
        ----------
        image
            The worsened image.
        like
            The image that it was made of: its axes and dtype are written, its name is told.
        intensity
            Normalisation.
        path
            Where to; large images are written as OME-Zarr of that name.
        step
            Training steps behind the network.
        progress
            Told the share that is done.
        """
        parts = self.parts(image, intensity, 0, progress)
        if is_large(like):
            place = by_tile(path)
            with TiledWriter(place, like, like.info.dtype) as out:
                for part in parts:
                    out.write(part.frame, part.box, part.made)
            event = im.image_saved(place, like, "restored", step, out.axes)
            return Written([event], _reread(place, like), None)
        frames, _ = _gathered(parts, like)
        event = im.save_image(path, frames, like, "restored", step)
        return Written([event], _held(frames), None)

    def write_checks(
        self,
        image: Image,
        intensity: ImageIntensity,
        number: int,
        path_of: Callable[[CheckKind], Path],
        step: int = 0,
        progress: Share | None = None,
    ) -> Written:
        """Mask and reconstruct an image and write the MAE checks.

        Of a large image the original is not written again: the event names the image itself.

        Parameters
        ----------
        image
            The clean image.
        intensity
            Normalisation.
        number
            Its number, on which depends what is hidden.
        path_of
            Where each kind is written; large images as OME-Zarr of that name.
        step
            Training steps behind the network.
        progress
            Told the share that is done.
        """
        parts = self.parts(image, intensity, number, progress)
        if is_large(image):
            return _tiled_checks(parts, image, intensity.mean, path_of, step)
        made, hidden = _gathered(parts, image)
        events = im.save_mae_checks(path_of, image, made, hidden, intensity.mean, step)
        return Written(events, _held(made), _held([h[None] for h in hidden]))


def _tiled_checks(
    parts: Iterator[Part],
    image: Image,
    mean: np.ndarray,
    path_of: Callable[[CheckKind], Path],
    step: int,
) -> Written:
    kinds = [kind for kind in CHECK_KINDS if kind != "original"]
    places = {kind: by_tile(path_of(kind)) for kind in kinds}
    with ExitStack() as stack:
        writers = {
            kind: stack.enter_context(
                TiledWriter(
                    place, image, np.dtype(np.uint8) if kind == "hidden" else image.info.dtype
                )
            )
            for kind, place in places.items()
        }
        for frame, box, made, hidden in parts:
            source = image.read(frame, box)
            checks = im.mae_check_frames(source, made, np.asarray(hidden), mean)
            for kind, writer in writers.items():
                writer.write(frame, box, checks[kind])
    axes = writers["hidden"].axes
    events = [im.image_saved(image.info.path, image, "original", step, image.info.axes)]
    events += [im.image_saved(place, image, kind, step, axes) for kind, place in places.items()]
    made_of, hidden_of = places["reconstruction"], places["hidden"]
    return Written(events, _reread(made_of, image), _reread(hidden_of, image))


def copy_result(source: Path, target: Path) -> None:
    """Give a written image a second name; chunks take no room twice where that is possible.

    Raises
    ------
    ConfigError
        It cannot be written.
    """
    part = part_of(target)
    try:
        try:
            if source.is_dir():
                shutil.copytree(source, part, copy_function=_link)
                shutil.rmtree(target, ignore_errors=True)
            else:
                shutil.copyfile(source, part)
            part.replace(target)
        finally:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
    except OSError as error:
        cannot_write(target, error)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _gathered(
    parts: Iterator[Part], image: Image
) -> tuple[list[np.ndarray], list[np.ndarray]]:  # fmt: skip
    """Put boxes together to frames in the dtype of an image, and to hidden pixels, if any."""
    shape, dtype = (image.in_channels, *image.spatial), image.info.dtype
    frames: list[np.ndarray] = []
    covers: list[np.ndarray] = []
    for frame, box, made, hidden in parts:
        if frame == len(frames):
            frames.append(np.empty(shape, dtype))
            covers += [] if hidden is None else [np.empty(image.spatial, bool)]
        frames[frame][(slice(None), *box)] = to_dtype(made, dtype)
        if hidden is not None:
            covers[frame][box] = hidden
    return frames, covers


def _pixels(image: Image, frame: int, intensity: ImageIntensity) -> Callable[[Box], np.ndarray]:
    return lambda box: finite(image.read(frame, box), intensity.mean)


def _held(frames: Sequence[np.ndarray]) -> Reader:
    return lambda frame, box: frames[frame] if box is None else frames[frame][:, *box]


def _reread(path: Path, image: Image) -> Reader:
    return open_image(path, ndim=3 if image.ndim == 3 else 2).read  # noqa: PLR2004


def _within(progress: Share | None, frame: int, frames: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress((frame + done / total) / frames)
