"""The live loss plot: training and validation, thinned so that a week's history stays light."""

from __future__ import annotations

import math
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

MAX_POINTS = 1500
REDRAW_MS = 250
TRAIN_COLOR = "#6fb1fc"
VALIDATION_COLOR = "#ffb454"


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


def furnish(plot: Any, bottom: str, left: str) -> Any:
    """Name the axes of a plot, draw a grid, take its menu away; return what is drawn on."""
    item = plot.getPlotItem()
    # else the menu, which is never shown, outlives the dock as a window of its own
    item.ctrlMenu.setParent(plot, item.ctrlMenu.windowFlags())
    item.hideButtons()
    item.setMouseEnabled(x=False, y=False)
    item.layout.setContentsMargins(1, 1, 1, 5)  # else the name of the lower axis is cut
    for side, text in (("bottom", bottom), ("left", left)):
        axis = item.getAxis(side)
        axis.setLabel(text)
        axis.enableAutoSIPrefix(enable=False)
    item.showGrid(x=True, y=True, alpha=0.2)
    return item


def paint_axes(plot: Any, legend: Any, color: str, background: str) -> None:
    """Write axes and legend of a plot in colours of the viewer's theme."""
    behind = pg.mkColor(background)
    behind.setAlpha(200)
    legend.setBrush(pg.mkBrush(behind))
    for side in ("bottom", "left"):
        axis = plot.getPlotItem().getAxis(side)
        axis.setPen(color)
        axis.setTextPen(color)
    legend.setLabelTextColor(color)


class LossPlot(QWidget):
    """Loss over steps, redrawn a few times a second at most.

    Parameters
    ----------
    color, background
        Colour of axes and legend, and of what is behind them.
    """

    def __init__(self, color: str, background: str) -> None:
        super().__init__()
        self.train = Curve()
        self.validation = Curve()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW_MS)
        self._timer.timeout.connect(self.redraw)
        self._plot: Any = pg.PlotWidget(background=None, enableMenu=False)
        self._legend: Any = self._plot.addLegend(offset=(-8, 4))
        self._lines = self._furnish()
        self.set_colors(color, background)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self.setMinimumHeight(160)

    def _furnish(self) -> tuple[Any, Any]:
        item = furnish(self._plot, "step", "loss")
        train = item.plot(pen=pg.mkPen(TRAIN_COLOR, width=1.5), name="training")
        validation = item.plot(
            pen=pg.mkPen(VALIDATION_COLOR, width=2),
            symbol="o",
            symbolSize=5,
            symbolBrush=VALIDATION_COLOR,
            symbolPen=None,
            name="validation",
        )
        return train, validation

    def set_colors(self, color: str, background: str) -> None:
        """Write axes and legend in colours of the viewer's theme."""
        paint_axes(self._plot, self._legend, color, background)

    def clear(self) -> None:
        """Begin an empty plot."""
        self.train.clear()
        self.validation.clear()
        self.schedule()

    def add_train(self, step: int, loss: float) -> None:
        """Add the training loss of a step."""
        self.train.add(step, loss)
        self.schedule()

    def add_validation(self, step: int, loss: float) -> None:
        """Add the validation loss after a step."""
        self.validation.add(step, loss)
        self.schedule()

    def schedule(self) -> None:
        """Redraw soon, once for many points."""
        if not self._timer.isActive():
            self._timer.start()

    def redraw(self) -> None:
        """Draw what has come in."""
        for line, curve in zip(self._lines, (self.train, self.validation), strict=True):
            line.setData(curve.x, curve.y)
        low, high = visible_range([*self.train.y, *self.validation.y])
        if low < high:
            self._plot.setYRange(low, high, padding=0.05)


def visible_range(losses: list[float]) -> tuple[float, float]:
    """Return the range to show: the steep beginning may leave the top."""
    if not losses:
        return 0.0, 1.0
    ordered = sorted(losses)
    high = ordered[min(len(ordered) - 1, int(0.97 * len(ordered)))]
    low = ordered[0]
    return (low, high) if high > low else (low - 0.5 * abs(low) - 1e-9, low + 0.5 * abs(low) + 1e-9)
