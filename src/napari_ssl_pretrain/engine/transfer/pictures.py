"""The median and the worst test image of a study, side by side with their truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ssl_pretrain.engine.transfer.records import Picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_ssl_pretrain.engine.transfer.examples import Example
    from napari_ssl_pretrain.engine.transfer.records import Score

PERCENTILES = (0.5, 99.5)


def choose_pictures(
    scores: Sequence[Score],
    images: Mapping[str, Example],
    made: Mapping[tuple[str, str], np.ndarray],
    arms: Sequence[str],
    n_labels: int,
) -> tuple[Picture, ...]:
    """Return the images whose gain over scratch is the median one, and the worst.

    Parameters
    ----------
    scores
        Those of one repetition.
    images
        The first frame of each test image, by name.
    made
        The classes that each arm predicted there, by arm and name.
    arms, n_labels
        What was compared.
    """
    gains = {
        name: _mean(scores, "pretrained", name) - _mean(scores, "scratch", name) for name in images
    }
    order = sorted(gains, key=lambda name: gains[name])
    kinds: tuple[tuple[Literal["median", "worst"], str], ...] = (
        ("median", order[len(order) // 2]),
        ("worst", order[0]),
    )
    return tuple(
        Picture(kind, n_labels, name, gains[name], _planes(images[name], name, made, arms))
        for kind, name in kinds
    )


def _mean(scores: Sequence[Score], arm: str, image: str) -> float:
    return float(np.mean([s.iou for s in scores if s.arm == arm and s.image == image]))


def _planes(
    example: Example, name: str, made: Mapping[tuple[str, str], np.ndarray], arms: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the plane of a volume with most foreground, of the image, the truth and each arm."""
    truth, image = example.classes, example.image
    flat = (slice(None), slice(None))
    if truth.ndim > len(flat):
        z = int(np.argmax(np.count_nonzero(truth, axis=(1, 2))))
        flat = (z, *flat)  # type: ignore[assignment]
    planes = {"image": _gray(image[(slice(None), *flat)]), "truth": truth[flat]}
    return planes | {arm: made[arm, name][flat] for arm in arms if (arm, name) in made}


def _gray(image: np.ndarray) -> np.ndarray:
    """Return ``C y x`` as uint8: RGB for three channels, else the mean of the channels."""
    low, high = np.percentile(image, PERCENTILES)
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255
    shown = np.moveaxis(scaled, 0, -1) if len(image) == 3 else scaled.mean(axis=0)  # noqa: PLR2004
    plain: np.ndarray = shown.astype(np.uint8)
    return plain
