"""How well a segmentation fits the truth: overlap of classes, and how near their contours lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from napari_ssl_pretrain.data.label_scheme import LabelScheme

TOLERANCE = 2.0
"""Pixels that a contour may lie beside the true one."""

METRICS = ("iou", "dice", "boundary_f")


def score_units(
    predicted: np.ndarray, truth: np.ndarray, scheme: LabelScheme | None = None
) -> dict[str, float]:
    """Score one segmentation.

    IoU and Dice are means over the classes, background left out, that the truth or the
    segmentation holds; both are 1 where neither holds any. The boundary F-score is that of
    :func:`boundary_f` for all that is not background; for instances learnt as foreground and
    boundary it is that of the foreground alone, so that objects grown together cost.

    Parameters
    ----------
    predicted, truth
        Class of each pixel, ``*spatial``.
    scheme
        What the classes are; None for plain classes.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"segmentation of {predicted.shape} for a truth of {truth.shape}")
    classes = max(int(predicted.max(initial=0)), int(truth.max(initial=0))) + 1
    joint = np.ravel_multi_index((truth.ravel(), predicted.ravel()), (classes, classes))
    table = np.bincount(joint, minlength=classes**2).reshape(classes, classes)
    both = np.diag(table)[1:]
    sizes = table.sum(0)[1:] + table.sum(1)[1:]
    present = sizes > 0
    both, sizes = both[present], sizes[present]
    return {
        "iou": float(np.mean(both / (sizes - both))) if len(both) else 1.0,
        "dice": float(np.mean(2 * both / sizes)) if len(both) else 1.0,
        "boundary_f": boundary_f(_foreground(predicted, scheme), _foreground(truth, scheme)),
    }


def _foreground(classes: np.ndarray, scheme: LabelScheme | None) -> np.ndarray:
    """Return the pixels whose contour is scored."""
    one = scheme is not None and scheme.kind == "instances" and not scheme.dense
    return np.asarray(classes == 1 if one else classes > 0)


def boundary_f(predicted: np.ndarray, truth: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Return the boundary F-score of a foreground.

    With P the share of the predicted contour that lies within the tolerance of the true one, and
    R the share of the true contour within the tolerance of the predicted one, it is
    ``2 P R / (P + R)`` (Martin, Fowlkes and Malik, IEEE TPAMI 26, 2004; for segmentation Csurka,
    Larlus and Perronnin, BMVC 2013). It is 1 where neither has a contour, 0 where only one has.

    Parameters
    ----------
    predicted, truth
        Boolean, ``*spatial``.
    tolerance
        Pixels (Euclidean).
    """
    found, wanted = contour(predicted), contour(truth)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision = _near(found, wanted, tolerance)
    recall = _near(wanted, found, tolerance)
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def contour(foreground: np.ndarray) -> np.ndarray:
    """Return the pixels of a foreground that touch the background by a side.

    The edge of the image is no contour: what lies beyond it is unknown.
    """
    inner = ndimage.binary_erosion(foreground, border_value=1)
    return np.asarray(foreground & ~inner)


def _near(pixels: np.ndarray, others: np.ndarray, tolerance: float) -> float:
    """Return the share of pixels that have another within the tolerance."""
    distance = ndimage.distance_transform_edt(~others)
    return float(np.mean(distance[pixels] <= tolerance))
