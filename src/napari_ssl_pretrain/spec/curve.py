"""Curves of bounded length, and how one looks in a line of text."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_POINTS = 1500
BLOCKS = "▁▂▃▄▅▆▇█"


class Curve:
    """A growing curve of bounded length: when full, neighbours are averaged.

    Parameters
    ----------
    limit
        Largest number of points kept.
    """

    def __init__(self, limit: int = MAX_POINTS) -> None:
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.x: list[float] = []
        self.y: list[float] = []
        self._every = 1
        self._waiting: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Take in a point; what is not finite is left out, and a curve that goes back is cut."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        while self.x and self.x[-1] >= x:  # a resume repeats what was not saved
            self.x.pop()
            self.y.pop()
        self._waiting = [*(p for p in self._waiting if p[0] < x), (x, y)]
        if len(self._waiting) >= self._every:
            self._flush()
        if len(self.x) >= self.limit:
            self.x = [(a + b) / 2 for a, b in zip(self.x[::2], self.x[1::2], strict=False)]
            self.y = [(a + b) / 2 for a, b in zip(self.y[::2], self.y[1::2], strict=False)]
            self._every *= 2

    def _flush(self) -> None:
        count = len(self._waiting)
        self.x.append(self._waiting[-1][0])
        self.y.append(sum(y for _, y in self._waiting) / count)
        self._waiting = []


def squeezed(values: Sequence[float], count: int) -> list[float]:
    """Return at most ``count`` means of neighbours."""
    if len(values) <= count:
        return list(values)
    edges = [k * len(values) // count for k in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Return a curve as blocks of different heights, the lowest value as the lowest block."""
    shown = squeezed([v for v in values if math.isfinite(v)], width)
    if len(shown) < 2:  # noqa: PLR2004 - one point is no curve
        return ""
    low, high = min(shown), max(shown)
    if not 0 < high - low < math.inf:
        return BLOCKS[0] * len(shown)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * ((v - low) / (high - low)))] for v in shown)
