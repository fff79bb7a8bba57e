"""The plots of a transfer study: score over labels as it comes in, the gain when all is done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_ssl_pretrain.gui.plot import furnish, paint_axes

COLORS = {"scratch": "#9aa7b8", "pretrained": "#6fb1fc", "frozen": "#ffb454", "shuffled": "#b794f4"}
SYMBOLS = {"scratch": "o", "pretrained": "s", "frozen": "t1", "shuffled": "x"}
APART = 0.16
"""How far the arms stand apart at one number of labels."""


class StudyPlot(QWidget):
    """A plot whose places along x are numbers of labels, equally far apart.

    Parameters
    ----------
    label
        What is shown along y.
    colors
        Colour of axes and legend, and of what is behind them.
    """

    def __init__(self, label: str, colors: tuple[str, str]) -> None:
        super().__init__()
        self.plot: Any = pg.PlotWidget(background=None, enableMenu=False)
        self._legend: Any = self.plot.addLegend(offset=(4, 1), colCount=3)
        furnish(self.plot, "labelled images", label)
        self._counts: list[str] = []
        self.set_colors(*colors)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)
        self.setMinimumHeight(140)

    def set_colors(self, color: str, background: str) -> None:
        """Write axes and legend in colours of the viewer's theme."""
        paint_axes(self.plot, self._legend, color, background)

    def clear(self) -> None:
        """Begin an empty plot."""
        self.plot.getPlotItem().clear()
        self._legend.clear()

    def set_places(self, names: list[str]) -> None:
        """Name the places along x."""
        self._counts = names
        ticks = [list(enumerate(names))]
        self.plot.getPlotItem().getAxis("bottom").setTicks(ticks)
        self.plot.setXRange(-0.4, len(names) - 0.6, padding=0)


class ScorePlot(StudyPlot):
    """IoU over the number of labels: a dot a fine-tuning, a line through their means."""

    def __init__(self, colors: tuple[str, str]) -> None:
        super().__init__("IoU on test images", colors)
        self.found: dict[tuple[str, int], dict[int, float]] = {}

    def clear(self) -> None:
        """Forget all scores."""
        super().clear()
        self.found = {}

    def add(self, arm: str, n_labels: int, seed: int, iou: float) -> None:
        """Add the score of one fine-tuning."""
        self.found.setdefault((arm, n_labels), {})[seed] = iou
        self.redraw()

    def redraw(self) -> None:
        """Draw all scores."""
        super().clear()
        counts = sorted({n for _, n in self.found})
        self.set_places([str(n) for n in counts])
        item = self.plot.getPlotItem()
        shown = [iou for scores in self.found.values() for iou in scores.values()]
        self.plot.setYRange(*roomy(shown), padding=0)
        for arm, color in COLORS.items():
            mine = [(x, self.found[arm, n]) for x, n in enumerate(counts) if (arm, n) in self.found]
            if not mine:
                continue
            means = [sum(scores.values()) / len(scores) for _, scores in mine]
            item.plot(
                [x for x, _ in mine],
                means,
                pen=pg.mkPen(color, width=2),
                symbol=SYMBOLS[arm],
                symbolSize=8,
                symbolBrush=color,
                symbolPen=None,
                name=arm,
            )
            faint = pg.mkColor(color)
            faint.setAlpha(110)
            dots = [(x, iou) for x, scores in mine for iou in scores.values()]
            item.plot(
                *zip(*dots, strict=True), pen=None, symbol="o", symbolSize=4, **_filled(faint)
            )


class GainPlot(StudyPlot):
    """The gain over scratch with its 95 % interval, in IoU points."""

    def __init__(self, colors: tuple[str, str]) -> None:
        super().__init__("gain, IoU points", colors)

    def show_gains(self, gains: list[dict[str, Any]]) -> None:
        """Draw the gains of ``summary.json``: one entry an arm, one row a number of labels."""
        self.clear()
        item = self.plot.getPlotItem()
        if not gains:
            return
        gains = [gain | {"rows": sorted(gain["rows"], key=_all_last)} for gain in gains]
        self.set_places([str(row["n_labels"]) for row in gains[0]["rows"]])
        item.addItem(pg.InfiniteLine(0, angle=0, pen=pg.mkPen("#888888", width=1)))
        for number, gain in enumerate(gains):
            shift = APART * (number - (len(gains) - 1) / 2)
            self._one(item, gain["arm"], gain["rows"], shift)

    def _one(self, item: Any, arm: str, rows: list[dict[str, Any]], shift: float) -> None:
        known = [(x + shift, row["iou"]) for x, row in enumerate(rows) if _number(row["iou"])]
        if not known:
            return
        color = COLORS.get(arm, "#6fb1fc")
        x = [place for place, _ in known]
        y, low, high = (
            [100 * _or_mean(iou, key) for _, iou in known] for key in ("mean", "low", "high")
        )
        bars = pg.ErrorBarItem(
            x=_array(x),
            y=_array(y),
            top=_array(high) - _array(y),
            bottom=_array(y) - _array(low),
            beam=0.08,
            pen=pg.mkPen(color, width=2),
        )
        item.addItem(bars)
        item.plot(x, y, pen=None, symbol=SYMBOLS.get(arm, "s"), symbolSize=8, **_filled(color))


def roomy(values: list[float]) -> tuple[float, float]:
    """Return the range to show: that of the values, with room for the legend above."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = max(high - low, 0.02)
    return low - 0.08 * span, high + 0.3 * span


def _all_last(row: dict[str, Any]) -> tuple[bool, Any]:
    return row["n_labels"] == "all", str(row["n_labels"]).zfill(9)


def _filled(color: Any) -> dict[str, Any]:
    return {"symbolBrush": color, "symbolPen": None}


def _number(interval: dict[str, Any]) -> bool:
    return interval.get("mean") is not None


def _or_mean(interval: dict[str, Any], key: str) -> float:
    value = interval.get(key)
    return float(interval["mean"] if value is None else value)


def _array(values: list[float]) -> np.ndarray:
    return np.array(values)
