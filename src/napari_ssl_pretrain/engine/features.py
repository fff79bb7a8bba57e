"""Dense features of images from a trained network: by tiles with blended overlap, 2D and 3D."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.feature_map import to_rgb, write_about
from napari_ssl_pretrain.data.intensity import measure
from napari_ssl_pretrain.data.parts import part_of
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine.encoder import Encoder
from napari_ssl_pretrain.engine.hardware import find_device, has_fast_bf16
from napari_ssl_pretrain.engine.images import image_saved
from napari_ssl_pretrain.engine.inputs import (
    config_of,
    custom_statistics,
    open_inputs,
    output_folder,
)
from napari_ssl_pretrain.engine.load import load_network, spec_from
from napari_ssl_pretrain.errors import ConfigError, DataError
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_ssl_pretrain.data.feature_map import FeatureMap
    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.data.intensity import ImageIntensity, Normalization, Statistics

SECONDS_BETWEEN_EVENTS = 0.2


def features(
    checkpoint: Path,
    input: str | Sequence[str] | Path,  # noqa: A002 - the command's word
    output: Path,
    *,
    point: Sequence[int] | None = None,
    device: str = "auto",
    emit: Callable[[ev.AnyEvent], None] | None = None,
) -> list[Path]:
    """Write the features of every image.

    All images share one basis, so that the same colour means the same in each.

    Parameters
    ----------
    checkpoint
        A ``.pth`` of a run.
    input
        A folder, a file, a glob, or a list of these.
    output
        Folder of the results, made if missing; never that of the images.
    point
        A pixel ``(t) (z) y x``, counted from 0, to which similarity is written as well; without
        the axes that are looped over it lies in the first frame.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    emit
        Called with events of the progress and of each image.

    Returns
    -------
    list of Path
        The files that were written: of each image ``_features.tif`` (colours), ``_features.npy``
        and ``_features.json`` (numbers, and what they are), and ``_similarity.tif``.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be loaded, or does not fit the images.
    ConfigError
        The device is not there, the point lies outside, or the output is the images' folder.
    DataError
        There is no image to encode.
    """
    say = emit or (lambda _: None)
    checkpoint = Path(checkpoint)
    model, state = load_network(checkpoint)
    config = config_of(state, checkpoint)
    where = find_device(device, "--device")
    paths = [str(p) for p in ([input] if isinstance(input, str | Path) else input)]
    images = open_inputs(paths, config, state, checkpoint, say)
    places = [_whole_point(point, image) for image in images] if point is not None else []
    output = output_folder(Path(output), images)
    precision, spec = "bf16" if has_fast_bf16(where) else "fp32", spec_from(state, checkpoint)
    encoder = Encoder(model.to(where), spec, config.data.patch_size, precision=precision)
    known = _measured(images, config.data.normalization, custom_statistics(state), say)
    if not known:
        raise DataError("--input", "holds no image that can be read", value=paths[0])
    job = _Job(encoder, checkpoint, output, say)
    return job.all({images[n]: known[n] for n in known}, [places[n] for n in known if places])


def _measured(
    images: Sequence[Image],
    normalization: Normalization,
    custom: Statistics | None,
    say: Callable[[ev.AnyEvent], None],
) -> dict[int, ImageIntensity]:
    """Measure the images that can be read, by number; the others are named."""
    known = {}
    for number, image in enumerate(images):
        try:
            known[number] = measure(image, normalization, custom)
        except DataError as error:
            say(ev.Warned(message=f"{error.subject} is skipped: {error.rule}."))
    return known


def _whole_point(point: Sequence[int], image: Image) -> tuple[int, ...]:
    """Return a pixel on each axis of the image.

    Raises
    ------
    ConfigError
        It does not have the image's axes, or lies outside.
    """
    axes = image.frame_axes + image.spatial_axes
    shape = [image.info.length(a) for a in axes]
    missing = len(axes) - len(point)
    shown = ",".join(map(str, point))
    if missing not in {0, len(image.frame_axes)}:
        wanted = ",".join(image.spatial_axes.lower())
        raise ConfigError(
            "--point", f"must be {wanted} of {image.info.name}", value=shown, remedy="Correct it."
        )
    whole = (*(0,) * missing, *point)
    if any(p >= n for p, n in zip(whole, shape, strict=True)):
        size = " x ".join(map(str, shape))
        rule = f"lies outside {image.info.name}, which has {size} pixels ({axes})"
        raise ConfigError("--point", rule, value=shown, remedy="Pixels are counted from 0.")
    return whole


class _Job:
    """Encodes images one after the other and says how far it is."""

    def __init__(
        self,
        encoder: Encoder,
        checkpoint: Path,
        output: Path,
        say: Callable[[ev.AnyEvent], None],
    ) -> None:
        self._encoder, self._checkpoint = encoder, checkpoint
        self._output, self._say = output, say
        self._began = self._said = time.monotonic()
        self._done = self._total = 0
        self._name = ""

    def all(
        self, images: dict[Image, ImageIntensity], places: Sequence[tuple[int, ...]]
    ) -> list[Path]:
        """Fit the basis on all images, then write each."""
        every = list(images)
        self._total = sum(map(self._encoder.work, every)) + self._encoder.fit_work(every)
        self._name = every[0].info.name
        self._tell(0)
        self._encoder.fit(images, self._tell)
        written: list[Path] = []
        for number, image in enumerate(every):
            self._name = image.info.name
            try:
                written += self._one(image, images[image], places[number] if places else None)
            except DataError as error:
                self._say(ev.Warned(message=f"{error.subject} is skipped: {error.rule}."))
        self._tell(self._total - self._done, now=True)
        return written

    def _tell(self, more: int, *, now: bool = False) -> None:
        self._done += more
        moment = time.monotonic()
        if more and not now and moment - self._said < SECONDS_BETWEEN_EVENTS:
            return
        self._said = moment
        spent, remaining = moment - self._began, self._total - self._done
        self._say(
            ev.Progress(
                stage="features",
                done=self._done,
                total=self._total,
                message=self._name,
                seconds_left=spent / self._done * remaining if self._done else None,
            )
        )

    def _one(
        self, image: Image, intensity: ImageIntensity, point: tuple[int, ...] | None
    ) -> list[Path]:
        def named(end: str) -> Path:
            return self._output / f"{image.info.name}_{end}"

        numbers, about, colours = map(named, ("features.npy", "features.json", "features.tif"))
        with whole_file(numbers) as temporary:
            found = self._encoder.encode(image, intensity, disk_array(temporary), self._tell)
            found.features.flush()  # type: ignore[attr-defined]
        found = replace(found, about=_about(image, intensity, self._checkpoint))
        write_about(about, found)
        limits = self._encoder.basis.limits
        write_planes(
            colours, found, image, lambda p: to_rgb(found.enlarge(_three(found, p)), limits)
        )
        self._say(image_saved(colours, image, "features", 0, f"{found.axes}S"))
        if point is None:
            return [colours, numbers, about]
        vector, path = found.at(np.array([point]))[0], named("similarity.tif")
        write_planes(path, found, image, lambda p: found.likeness(p, vector))
        self._say(image_saved(path, image, "similarity", 0, found.axes))
        return [colours, numbers, about, path]


def _three(found: FeatureMap, place: tuple[int, ...]) -> np.ndarray:
    """Return the first three features of a plane; zeros where there are fewer."""
    plane = found.plane(place, slice(0, 3))
    return np.pad(plane, [(0, 3 - len(plane)), (0, 0), (0, 0)])


def _about(image: Image, intensity: ImageIntensity, checkpoint: Path) -> dict[str, Any]:
    info = image.info
    return {
        "image": info.name,
        "source": str(info.path.absolute()),
        "checkpoint": str(checkpoint.absolute()),
        "pixel_size": info.pixel_size,
        "unit": info.unit,
        "opened": {"axes": info.axes, "ndim": image.ndim, "channels": list(image.channels)},
        "intensity": {
            name: [float(v) for v in np.ravel(getattr(intensity, name))]
            for name in ("offset", "scale", "mean")
        },
    }


def disk_array(path: Path) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Return what makes a float16 array of a shape in a ``.npy`` file."""
    return lambda shape: np.lib.format.open_memmap(path, "w+", np.float16, shape)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Hand out a temporary name beside a file; it takes the file's name when all went well.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    temporary = part_of(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        rule = f"cannot be written ({error.strerror or error})"
        remedy = "Choose another folder, or free space there."
        raise ConfigError(path, rule, remedy=remedy) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_planes(
    path: Path,
    found: FeatureMap,
    image: Image,
    make: Callable[[tuple[int, ...]], np.ndarray],
) -> None:
    """Write an image made plane by plane, in the pixels and scale of its source.

    Parameters
    ----------
    path
        Where to.
    found, image
        The features and their image.
    make
        Returns a plane ``y x`` or ``y x 3`` at a place, see :meth:`FeatureMap.planes`.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    with TemporaryFile(dir=path.parent) as file:
        out: np.ndarray | None = None
        for place in found.planes():
            plane = make(place)
            if out is None:
                shape = (*found.shape[:-2], *plane.shape)
                out = np.memmap(file, plane.dtype, "w+", shape=shape)
            out[place] = plane
        assert out is not None  # noqa: S101 - every image has a plane
        axes = found.axes + "S" * (out.ndim - len(found.shape))
        write_array(path, out, axes, pixel_size=image.info.pixel_size, unit=image.info.unit)
