"""The picture of a network: its stages as boxes, with output shapes and parameters.

A network that halves its images and doubles them again is drawn as a U, each box at the height of
its resolution; any other in rows, one for the encoder and one for what follows.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from napari_ssl_pretrain.data.writers import write_bytes
from napari_ssl_pretrain.engine.figures import png
from napari_ssl_pretrain.engine.network_boxes import Box, levels, network_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import nn

_COLOURS = {
    "image": ("#f1f5f9", "#64748b"),
    "encoder": ("#dbeafe", "#3b73b9"),
    "decoder": ("#fde8d7", "#c2672a"),
    "head": ("#d9f2e3", "#2f855a"),
}
_INK, _FAINT = "#2d3748", "#7b8794"
_WIDTH, _HEIGHT, _GAP, _STEP, _FALL = 1.66, 0.86, 0.32, 1.05, 1.2
_MARGIN, _HEAD, _FOOT = 0.4, 0.75, 0.7
_A_ROW = 7
TIMES = "\N{MULTIPLICATION SIGN}"
Place = tuple[float, float]  # lower left corner in inches


def draw_model_plot(model: nn.Module, example_shape: Sequence[int], path: Path) -> None:
    """Draw a network; it is run once on zeros.

    Parameters
    ----------
    model
        The network; called as ``model(images)``.
    example_shape
        ``B C *spatial`` of a batch that it takes.
    path
        The PNG.
    """
    boxes = [Box("", "Input", tuple(example_shape[1:]), 0, "image")]
    boxes += network_boxes(model, example_shape)
    depth = levels(boxes, len(example_shape) - 2)
    if depth and _is_u(depth):
        boxes, depth = _decoder_merged(boxes, depth)
        places, skips = _places_of_u(depth), _skips(depth)
    else:
        places, skips = _places_in_rows(boxes), []
    parameters = sum(p.numel() for p in model.parameters())
    words = [
        type(getattr(model, "net", model)).__name__,
        f"{count(parameters)} parameters",
        f"input {size(boxes[0].shape)}",
    ]
    write_bytes(path, _picture(boxes, places, skips, "   ·   ".join(words)))


def count(number: int) -> str:
    """Write a number of parameters with its thousands or millions as a letter."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {letter}"
    return str(number)


def size(shape: tuple[int, ...]) -> str:
    """Write the shape of an image ``C *spatial``, or of tokens."""
    if len(shape) == 2:  # noqa: PLR2004 - tokens and their width
        return f"{shape[0]} tokens {TIMES} {shape[1]}"
    return f" {TIMES} ".join(map(str, shape)) or "?"


def _is_u(depth: Sequence[int]) -> bool:
    bottom = depth.index(max(depth))
    falls = all(a <= b for a, b in pairwise(depth[: bottom + 1]))
    rises = all(a >= b for a, b in pairwise(depth[bottom:]))
    return max(depth) > 0 and falls and rises


def _decoder_merged(boxes: Sequence[Box], depth: list[int]) -> tuple[list[Box], list[int]]:
    """Put what the decoder does at one resolution into one box."""
    merged, kept = list(boxes[:1]), depth[:1]
    for box, level in zip(boxes[1:], depth[1:], strict=True):
        last = merged[-1]
        if box.role == last.role == "decoder" and level == kept[-1]:
            kind = last.kind if box.kind in last.kind else f"{last.kind} + {box.kind.lower()}"
            parameters = last.parameters * last.times + box.parameters * box.times
            merged[-1] = replace(box, kind=kind, parameters=parameters, times=1)
        else:
            merged.append(box)
            kept.append(level)
    return merged, kept


def _places_of_u(depth: Sequence[int]) -> list[Place]:
    x, places = 0.0, []
    for k, level in enumerate(depth):
        if k:
            x += _WIDTH + _GAP if level == depth[k - 1] else _STEP
        places.append((x, -_FALL * level))
    return places


def _skips(depth: Sequence[int]) -> list[tuple[int, int]]:
    """Return the last box before and the first one after the bottom, level by level."""
    bottom = depth.index(max(depth))
    pairs = []
    for level in range(max(depth)):
        before = [k for k in range(bottom) if depth[k] == level]
        after = [k for k in range(bottom, len(depth)) if depth[k] == level]
        if before and after:
            pairs.append((before[-1], after[0]))
    return pairs


def _places_in_rows(boxes: Sequence[Box]) -> list[Place]:
    """Begin a row where the encoder ends, and where a row is full."""
    places: list[Place] = []
    column = row = 0
    for k, box in enumerate(boxes):
        turned = k > 0 and boxes[k - 1].role == "encoder" != box.role
        if turned or column == _A_ROW:
            column, row = 0, row + 1
        places.append((column * (_WIDTH + _GAP), -row * (_HEIGHT + 0.75)))
        column += 1
    return places


def _picture(
    boxes: Sequence[Box], places: Sequence[Place], skips: Sequence[tuple[int, int]], title: str
) -> bytes:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, not needed before

    left, low = min(x for x, _ in places) - _MARGIN, min(y for _, y in places) - _FOOT
    right = max(max(x for x, _ in places) + _WIDTH + _MARGIN, left + 8.0)
    high = max(y for _, y in places) + _HEIGHT + _HEAD
    figure = Figure(figsize=(right - left, high - low), dpi=140, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(low, high))
    axes.set_axis_off()
    axes.text(left + _MARGIN, high - 0.42, title, fontsize=11, color=_INK, fontweight="bold")
    _legend(axes, boxes, left + _MARGIN, low + 0.25)
    for box, place in zip(boxes, places, strict=True):
        _draw_box(axes, box, place)
    for start, end in pairwise(places):
        _connect(axes, start, end)
    for a, b in skips:
        y = places[a][1] + _HEIGHT / 2
        _arrow(axes, (places[a][0] + _WIDTH, y), (places[b][0], y), dashed=True)
    return png(figure)


def _legend(axes: Axes, boxes: Sequence[Box], x: float, y: float) -> None:
    roles = {box.role for box in boxes}
    for role in ("encoder", "decoder", "head"):
        if role in roles:
            axes.text(x, y, f"\N{BLACK SQUARE} {role}", color=_COLOURS[role][1], fontsize=9)
            x += 0.95


def _draw_box(axes: Axes, box: Box, place: Place) -> None:
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415

    x, y = place
    fill, edge = _COLOURS[box.role]
    for shift in (0.12, 0.06, 0) if box.times > 1 else (0,):
        axes.add_patch(
            FancyBboxPatch(
                (x + shift, y + shift),
                _WIDTH,
                _HEIGHT,
                facecolor=fill,
                edgecolor=edge,
                boxstyle="round,pad=0,rounding_size=0.08",
                linewidth=1.1,
                zorder=2,
            )
        )
    times = f"  {TIMES} {box.times}" if box.times > 1 else ""
    lines = [*_wrapped(box.kind + times), size(box.shape)]
    bold = len(lines) - 1
    if box.parameters:
        lines.append(f"{count(box.parameters)}{' each' if box.times > 1 else ''}")
    for k, line in enumerate(lines):
        top = y + _HEIGHT / 2 + 0.19 * ((len(lines) - 1) / 2 - k)
        style = {"fontweight": "bold"} if k < bold else {}
        colour = _FAINT if k > bold else _INK
        axes.text(
            x + _WIDTH / 2,
            top,
            line,
            ha="center",
            va="center",
            color=colour,
            fontsize=8,
            zorder=3,
            **style,  # type: ignore[arg-type]
        )


def _wrapped(kind: str) -> list[str]:
    """Break a long name in two at a plus."""
    head, plus, rest = kind.partition(" + ")
    return [f"{head} +", rest] if plus else [kind]


def _connect(axes: Axes, start: Place, end: Place) -> None:
    """Draw an arrow from box to box: straight where they face each other, else round a corner."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        height = y0 + _HEIGHT / 2
        _arrow(axes, (x0 + _WIDTH, height), (x1, height), dashed=False)
        return
    begins, stops = (y0, y1 + _HEIGHT) if y1 < y0 else (y0 + _HEIGHT, y1)
    if abs(x0 - x1) < _WIDTH:
        x = (x0 + x1 + _WIDTH) / 2
        _arrow(axes, (x, begins), (x, stops), dashed=False)
        return
    half, middle = _WIDTH / 2, (begins + stops) / 2
    line = [(x0 + half, begins), (x0 + half, middle), (x1 + half, middle)]
    axes.plot(*zip(*line, strict=True), color=_FAINT, linewidth=1.0, zorder=1)
    _arrow(axes, (x1 + half, middle), (x1 + half, stops), dashed=False)


def _arrow(axes: Axes, start: Place, end: Place, *, dashed: bool) -> None:
    axes.annotate(
        "",
        end,
        start,
        zorder=1,
        arrowprops={
            "arrowstyle": "-|>",
            "color": _FAINT,
            "linewidth": 1.0,
            "shrinkA": 1,
            "shrinkB": 1,
            "linestyle": "--" if dashed else "-",
        },
    )
