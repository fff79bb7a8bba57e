"""Differences between arms where the seeds are blocks: every arm is trained once with each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t as student_t

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.engine.transfer.records import Score


def seed_means(scores: Sequence[Score], arms: Sequence[str]) -> np.ndarray:
    """Return mean scores, seeds by arms, over what every arm has; arms without scores left out."""
    by_arm = {
        arm: {(s.seed, s.n_labels, s.unit): s.iou for s in scores if s.arm == arm} for arm in arms
    }
    by_arm = {arm: found for arm, found in by_arm.items() if found}
    shared = set.intersection(*(set(found) for found in by_arm.values())) if by_arm else set()
    seeds = sorted({key[0] for key in shared})
    return np.array(
        [
            [np.mean([found[key] for key in shared if key[0] == seed]) for found in by_arm.values()]
            for seed in seeds
        ]
    )


def half_interval(means: np.ndarray, confidence: float) -> float:
    """Return half the confidence interval of the difference of two columns; rows are blocks.

    NaN where nothing is left to estimate chance from.
    """
    if means.ndim < 2 or min(means.shape) < 2:  # noqa: PLR2004 - rows and columns
        return math.nan
    seeds, arms = means.shape
    rest = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    free = (seeds - 1) * (arms - 1)
    deviation = math.sqrt(2 * float((rest**2).sum()) / free / seeds)
    return float(student_t.ppf((1 + confidence) / 2, free)) * deviation
