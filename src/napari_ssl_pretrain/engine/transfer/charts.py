"""Charts of a comparison: score over labels, paired gain, score over steps; as PNG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.engine.figures import png
from napari_ssl_pretrain.engine.transfer.statistics import counts_of, mean_score, paired_gain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from napari_ssl_pretrain.engine.transfer.records import CurvePoint, Score

COLOURS = {
    "scratch": "#64748b",
    "pretrained": "#1f66b0",
    "frozen": "#d97b29",
    "shuffled": "#9f7aea",
}
MARKERS = {"scratch": "o", "pretrained": "s", "frozen": "^", "shuffled": "x"}
NAMES = {
    "scratch": "from scratch",
    "pretrained": "pretrained",
    "frozen": "frozen encoder",
    "shuffled": "weights shuffled",
}

_INK, _FAINT, _GRID = "#2d3748", "#a0aec0", "#e2e8f0"
_COLUMNS = 3
DPI = 150


def arms_of(found: Sequence[Score] | Sequence[CurvePoint]) -> list[str]:
    """Return the arms that were compared, in their usual order."""
    there = {one.arm for one in found}
    return [arm for arm in COLOURS if arm in there]


def labels_chart(scores: Sequence[Score]) -> bytes:
    """Draw the score of each arm, and the paired gain with its interval, over labels.

    Parameters
    ----------
    scores
        At least one.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, not needed before

    figure = Figure(figsize=(9.6, 3.9), dpi=DPI, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    counts = counts_of(scores)
    for arm in arms_of(scores):
        _arm_line(left, scores, arm, counts)
    _style(left, "IoU on the test images", "Labelled images", "IoU")
    _count_axis(left, counts)
    left.legend(frameon=False, fontsize=9, labelcolor=_INK)
    _gains(right, scores, counts)
    _style(right, "Gain over scratch, 95 % interval", "Labelled images", "IoU points")
    return png(figure)


def _arm_line(axes: Axes, scores: Sequence[Score], arm: str, counts: list[int]) -> None:
    """Draw the mean of an arm, and each seed's mean as a faint dot."""
    colour, marker = COLOURS[arm], MARKERS[arm]
    means = [mean_score(scores, arm, n) for n in counts]
    axes.plot(counts, means, color=colour, marker=marker, ms=6, lw=2, label=NAMES[arm], zorder=3)
    for seed in sorted({s.seed for s in scores}):
        mine = [s for s in scores if s.seed == seed]
        values = [mean_score(mine, arm, n) for n in counts]
        axes.plot(counts, values, ls="", marker=marker, ms=4, color=colour, alpha=0.35, mew=0)


def _gains(axes: Axes, scores: Sequence[Score], counts: list[int]) -> None:
    """Draw the paired gain of each arm at each number of labels, and over all."""
    axes.axhline(0, color=_INK, lw=1)
    arms = [arm for arm in arms_of(scores) if arm != "scratch"]
    wanted: list[int | None] = [*counts, *([None] if len(counts) > 1 else [])]
    for shift, arm in zip(_shifts(len(arms)), arms, strict=True):
        for place, n in enumerate(wanted):
            gain = paired_gain(scores, n, arm)
            if not math.isfinite(gain.mean):
                continue
            ends = [[gain.mean - gain.low], [gain.high - gain.mean]] if gain.known else None
            axes.errorbar(
                [place + shift],
                [100 * gain.mean],
                None if ends is None else [[100 * e[0]] for e in ends],
                fmt=MARKERS[arm],
                color=COLOURS[arm],
                ms=6,
                capsize=4,
                lw=1.8,
                label=NAMES[arm] if place == 0 else None,
            )
    if len(counts) > 1:
        axes.axvline(len(counts) - 0.5, color=_GRID, lw=1)
    axes.set_xticks(range(len(wanted)), ["all" if n is None else str(n) for n in wanted])
    axes.set_xlim(-0.6, len(wanted) - 0.4)
    if len(arms) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=_INK)


def _shifts(count: int) -> list[float]:
    return [0.0] if count == 1 else list(np.linspace(-0.12, 0.12, count))


def steps_chart(curve: Sequence[CurvePoint]) -> bytes:
    """Draw the score over training steps: one panel a number of labels, one faint line a seed.

    Parameters
    ----------
    curve
        At least one point.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, not needed before

    counts = sorted({point.n_labels for point in curve})
    columns = min(len(counts), _COLUMNS)
    rows = math.ceil(len(counts) / columns)
    size = (3.2 * columns if columns > 1 else 5.6, 3.3 * rows)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, n in zip(panels, counts, strict=False):
        for arm in arms_of(curve):
            _arm_curve(axes, [p for p in curve if p.arm == arm and p.n_labels == n], arm)
        first = axes is panels[0]
        title = f"{n} label{'s' * (n != 1)}"
        _style(axes, title, "Step", "IoU (validation part)" if first else "")
    for axes in panels[len(counts) :]:
        axes.set_visible(False)
    panels[0].legend(frameon=False, fontsize=9, labelcolor=_INK)
    return png(figure)


def _arm_curve(axes: Axes, points: Sequence[CurvePoint], arm: str) -> None:
    """Draw each seed of an arm faintly and their mean boldly."""
    by_seed: dict[int, dict[int, float]] = {}
    for point in points:
        by_seed.setdefault(point.seed, {})[point.step] = point.iou
    for line in by_seed.values():
        steps = sorted(line)
        axes.plot(steps, [line[s] for s in steps], color=COLOURS[arm], lw=0.9, alpha=0.35)
    steps = sorted({point.step for point in points})
    common = [
        s for s in steps if all(s in line for line in by_seed.values())
    ]  # a seed that was stopped early ends the mean
    means = [float(np.mean([line[s] for line in by_seed.values()])) for s in common]
    style: dict[str, Any] = {"marker": MARKERS[arm], "ms": 4} if len(common) <= 1 else {}
    axes.plot(common, means, color=COLOURS[arm], lw=2.2, label=NAMES[arm], **style)


def _count_axis(axes: Axes, counts: list[int]) -> None:
    """Put numbers of labels on a logarithmic axis, each where it was tried."""
    from matplotlib.ticker import NullFormatter, NullLocator  # noqa: PLC0415

    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if len(counts) == 1:
        axes.set_xlim(counts[0] / 2, counts[0] * 2)


def _style(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK, pad=8)
    axes.set_xlabel(x, color=_INK, fontsize=9.5)
    axes.set_ylabel(y, color=_INK, fontsize=9.5)
    axes.grid(visible=True, color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
