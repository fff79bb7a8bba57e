"""Charts of a run as PNG, drawn anew each time and written whole; matplotlib, without a display."""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.writers import write_bytes
from napari_ssl_pretrain.engine.figures import png
from napari_ssl_pretrain.engine.logs import known, metric_names
from napari_ssl_pretrain.engine.model_plot import draw_model_plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from napari_ssl_pretrain.engine.state import EpochRow
    from napari_ssl_pretrain.spec.run_dir import RunDir

__all__ = ["best_epoch", "draw_charts", "draw_model_plot"]

TITLES = {
    "loss": "Loss",
    "psnr": "Peak signal-to-noise ratio (dB)",
    "psnr_input": "Peak signal-to-noise ratio of the worsened images (dB)",
    "ssim": "Structural similarity",
    "ssim_input": "Structural similarity of the worsened images",
    "mae": "Mean absolute error",
    "mse": "Mean squared error",
    "hidden_mse": "Mean squared error at hidden pixels",
    "hidden_mse_mean": "Mean squared error of the visible pixels' mean",
    "hidden_mse_inpaint": "Mean squared error of smooth inpainting",
}
REFERENCES = {
    "psnr": {"psnr_input": "worsened input"},
    "ssim": {"ssim_input": "worsened input"},
    "hidden_mse": {
        "hidden_mse_mean": "mean of the visible pixels",
        "hidden_mse_inpaint": "smooth inpainting",
    },
}
"""What a network has to beat, by metric; drawn as dashed lines into its chart."""

LOG_FROM = 20.0
"""Largest over smallest value from which on the axis is logarithmic."""

_TRAIN, _VALIDATION, _BEST, _INK, _FAINT = "#3b73b9", "#e07b39", "#2f855a", "#2d3748", "#a0aec0"
_FEW = 40
Line = tuple[str, str, str, list[float]]  # label, colour, style, values


def draw_charts(run: RunDir, history: Sequence[EpochRow]) -> None:
    """Draw the chart of the loss and one of each metric, over the epochs so far.

    Parameters
    ----------
    run
        Where to; ``<name>_<run_id>_loss.png`` and ``<name>_<run_id>_<metric>.png``.
    history
        The epochs; nothing is drawn when there are none.
    """
    if not history:
        return
    loss: list[Line] = [
        ("training", _TRAIN, "-", [row.train_loss for row in history]),
        ("validation", _VALIDATION, "-", [row.validation_loss for row in history]),
    ]
    _draw(run, "loss", loss, history)
    names = metric_names(history)
    for name in names:
        lines: list[Line] = [("validation", _VALIDATION, "-", _values(history, name))]
        for other, label in REFERENCES.get(name, {}).items():
            if other in names:
                lines.append((label, _FAINT, "--", _values(history, other)))
        _draw(run, name, lines, history)
    gc.collect()  # figures refer to themselves: they would pile up until much else is thrown away


def best_epoch(history: Sequence[EpochRow]) -> int | None:
    """Return the index of the epoch with the lowest validation loss; None if there is none."""
    validated = [k for k, row in enumerate(history) if known(row.validation_loss)]
    return min(validated, key=lambda k: history[k].validation_loss, default=None)


def _values(history: Sequence[EpochRow], name: str) -> list[float]:
    return [row.metrics.get(name, math.nan) for row in history]


def _draw(run: RunDir, metric: str, lines: Sequence[Line], history: Sequence[EpochRow]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow, not needed before

    figure = Figure(figsize=(7.2, 4.3), dpi=140, facecolor="white")
    axes = figure.add_axes((0.105, 0.135, 0.865, 0.755))
    epochs = [row.epoch for row in history]
    drawn: list[float] = []
    for label, colour, style, values in lines:
        drawn += _line(axes, epochs, values, {"label": label, "color": colour, "ls": style})
    _mark_best(axes, metric, lines, history)
    _decorate(axes, metric, epochs, drawn)
    figure.text(
        0.97,
        0.925,
        run.run_name,
        parse_math=False,
        ha="right",
        va="baseline",
        fontsize=9,
        color=_FAINT,
    )
    write_bytes(run.chart(metric), png(figure))


def _line(axes: Axes, epochs: list[int], values: list[float], style: dict[str, Any]) -> list[float]:
    """Draw one line with gaps where numbers are missing; return the numbers drawn."""
    shown = [v if known(v) else math.nan for v in values]
    numbers = [v for v in shown if known(v)]
    if not numbers:
        return []
    if style["ls"] == "--" and len(epochs) == 1:
        axes.axhline(numbers[0], linewidth=1.8, **style)
        return numbers
    dots = "o" if style["ls"] == "-" and len(epochs) <= _FEW else None
    axes.plot(epochs, shown, linewidth=1.8, marker=dots, markersize=3.5, **style)
    return numbers


def _mark_best(axes: Axes, metric: str, lines: Sequence[Line], history: Sequence[EpochRow]) -> None:
    """Mark the epoch whose weights are kept as the best, on the validation's line."""
    best = best_epoch(history)
    validation = next((values for label, *_, values in lines if label == "validation"), [])
    if best is None or not known(validation[best]):
        return
    epoch, value = history[best].epoch, validation[best]
    amount = f"{value:.2f} dB" if "psnr" in metric else f"{value:.4g}"
    axes.axvline(epoch, color=_BEST, linewidth=0.9, alpha=0.45, zorder=0)
    axes.plot(
        [epoch],
        [value],
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=_BEST,
        markeredgewidth=1.8,
        label=f"best epoch {epoch}: {amount}",
        zorder=5,
    )


def _decorate(axes: Axes, metric: str, epochs: list[int], drawn: list[float]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    axes.set_title(
        TITLES.get(metric, metric.replace("_", " ").capitalize()),
        loc="left",
        fontsize=12,
        color=_INK,
        pad=9,
    )
    axes.set_xlabel("Epoch", color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(set(epochs)) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    if drawn and min(drawn) > 0 and max(drawn) > LOG_FROM * min(drawn):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    if drawn:
        axes.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=9, labelcolor=_INK)
    else:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=_FAINT)
