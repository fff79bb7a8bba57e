"""The live loss plot: training and validation, thinned so that a week's history stays light."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_ssl_pretrain.spec.curve import Curve

REDRAW_MS = 250
TRAIN_COLOR = "#6fb1fc"
VALIDATION_COLOR = "#ffb454"


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
    for side in ("bottom", "left"):
        axis = plot.getPlotItem().getAxis(side)
        axis.setPen(color)
        axis.setTextPen(color)
    if legend is not None:
        behind = pg.mkColor(background)
        behind.setAlpha(200)
        legend.setBrush(pg.mkBrush(behind))
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
