"""Images that a run leaves: samples of what the network is shown, MAE checks, restored images.

All are in the units, dtype and axes of their source, so that a visible pixel of a MAE check is the
source's pixel, bit by bit. A file that cannot be written is a ``ConfigError``, a source that can no
longer be decoded a ``DataError``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ssl_pretrain.data.writers import to_dtype, write_array, write_image
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.run_dir import CHECK_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.spec.run_dir import CheckKind, RunDir

AUG_SAMPLES = 10
"""How many samples of what the network is shown a run leaves."""


WRITERS = 2
"""Images that are written at a time, each of which is in memory once more meanwhile."""


def mae_check_frames(
    source: np.ndarray, prediction: np.ndarray, hidden: np.ndarray, mean: np.ndarray
) -> dict[CheckKind, np.ndarray]:
    """Return the five kinds of MAE check of one frame, each of the source's shape.

    Parameters
    ----------
    source
        ``C *spatial`` as it is in the file.
    prediction
        The network's image everywhere, ``C *spatial`` in the source's units; rounded and clipped
        to the source's dtype here.
    hidden
        ``*spatial`` boolean, True where the network could not see.
    mean
        Mean of the whole image, ``C``.

    Returns
    -------
    All in the source's dtype, but ``hidden``, which is uint8: 1 where hidden.
    """
    made = to_dtype(np.asarray(prediction), source.dtype)
    return {kind: _mae_check(kind, source, made, hidden, mean) for kind in CHECK_KINDS}


def _mae_check(
    kind: CheckKind, source: np.ndarray, made: np.ndarray, hidden: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Return one kind of MAE check of a frame; ``made`` is of the source's dtype."""
    if kind == "original":
        return source
    if kind == "reconstruction":
        return made
    covered = np.broadcast_to(np.asarray(hidden, bool), source.shape)
    if kind == "hidden":
        return covered.astype(np.uint8)
    if kind == "reconstruction_and_visible":
        return np.where(covered, made, source)
    level = to_dtype(np.asarray(mean, np.float64), source.dtype)
    return np.where(covered, level.reshape((-1,) + (1,) * hidden.ndim), source)


def save_mae_checks(
    path_of: Callable[[CheckKind], Path],
    image: Image,
    predictions: Sequence[np.ndarray],
    hidden: Sequence[np.ndarray],
    mean: np.ndarray,
    step: int,
) -> list[ev.ImageSaved]:
    """Write the five MAE checks of one image.

    Parameters
    ----------
    path_of
        Where each kind goes.
    image
        The source.
    predictions
        The network's image of each frame, ``C *spatial`` in the source's units.
    hidden
        What was hidden of each frame, ``*spatial`` boolean.
    mean
        Mean of the whole image, ``C``.
    step
        Training steps behind the network.
    """
    dtype = image.info.dtype
    made = [to_dtype(np.asarray(p), dtype) for p in predictions]

    def save(kind: CheckKind) -> ev.ImageSaved:
        frames = (
            _mae_check(kind, image.read(k), made[k], hidden[k], mean) for k in range(image.frames)
        )
        return save_image(path_of(kind), frames, image, kind, step)

    # compression leaves other threads alone
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="writer") as pool:
        return list(pool.map(save, CHECK_KINDS))


def save_image(
    path: Path, frames: Iterable[np.ndarray], image: Image, kind: ev.ImageKind, step: int
) -> ev.ImageSaved:
    """Write an image like its source and return the event that says so.

    Parameters
    ----------
    path
        Where to.
    frames
        ``C *spatial`` in the source's units; rounded and clipped to its dtype.
    image
        The source.
    kind
        What it shows; ``hidden`` is written as uint8.
    step
        Training steps behind it.
    """
    dtype = np.dtype(np.uint8) if kind == "hidden" else image.info.dtype
    write_image(path, frames, image, dtype=dtype)
    return image_saved(path, image, kind, step, image.info.axes)


def save_samples(
    run: RunDir,
    images: Sequence[Image],
    numbers: Sequence[int],
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    step: int,
) -> list[ev.ImageSaved]:
    """Write ``aug/<sample>_<image>_{input,target}.tif``: what the network is shown and asked for.

    Parameters
    ----------
    run
        Where to.
    images
        The training images.
    numbers
        Which of them each sample was cut from.
    inputs, targets
        Patches ``C *spatial`` in the images' units; rounded and clipped to their dtypes.
    step
        The step that they are of.
    """
    saved = []
    for k, number in enumerate(numbers[:AUG_SAMPLES]):
        image = images[number]
        parts: tuple[tuple[Literal["input", "target"], np.ndarray], ...] = (
            ("input", inputs[k]),
            ("target", targets[k]),
        )
        for part, patch in parts:
            path = run.aug / f"{k:02d}_{image.info.name}_{part}.tif"
            saved.append(_save_patch(path, patch, image, step))
    return saved


def _save_patch(path: Path, patch: np.ndarray, image: Image, step: int) -> ev.ImageSaved:
    """Write a patch ``C *spatial`` with the order of axes that its source has."""
    info = image.info
    channel = "S" if "S" in info.axes and "C" not in info.axes else "C"
    axes = channel + image.spatial_axes
    kept = [
        a for a, n in zip(axes, patch.shape, strict=True) if n > 1 or a in "YX" or a in info.axes
    ]
    order = sorted(kept, key=info.axes.find)
    array = to_dtype(np.asarray(patch), info.dtype)
    array = array.reshape([n for a, n in zip(axes, patch.shape, strict=True) if a in kept])
    array = array.transpose([kept.index(a) for a in order])
    write_array(path, array, "".join(order), pixel_size=info.pixel_size, unit=info.unit)
    return image_saved(path, image, "aug", step, "".join(order))


def image_saved(
    path: Path, image: Image, kind: ev.ImageKind, step: int, axes: str
) -> ev.ImageSaved:
    """Return the event that says that an image was written."""
    return ev.ImageSaved(
        image_kind=kind,
        image=image.info.name,
        path=str(path),
        source=str(image.info.path),
        axes=axes,
        step=step,
    )
