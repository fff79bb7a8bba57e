"""The report of a comparison: a page, charts, tables and numbers, written whole."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.writers import write_bytes, write_text
from napari_ssl_pretrain.engine.transfer import charts
from napari_ssl_pretrain.engine.transfer import statistics as stat
from napari_ssl_pretrain.engine.transfer.page import make_page
from napari_ssl_pretrain.engine.transfer.records import CurvePoint, Score
from napari_ssl_pretrain.engine.transfer.scores import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_ssl_pretrain.engine.transfer.records import Picture, TransferResult

PAGE, SUMMARY = "report.html", "summary.json"
LABELS_CHART, STEPS_CHART = "score_over_labels.png", "score_over_step.png"
SCORES, CURVE = "scores.csv", "curve.csv"
PICTURES = "pictures"
FILES = (PAGE, SUMMARY, LABELS_CHART, STEPS_CHART, SCORES, CURVE)
"""What a report consists of, the folder of pictures apart."""

CLASS_COLOURS = (
    (24, 28, 36), (76, 155, 232), (246, 173, 85), (104, 211, 145),
    (237, 100, 166), (159, 122, 234), (236, 201, 75), (79, 209, 197), (245, 101, 101),
)  # fmt: skip
"""Colours of the classes in pictures, the background first."""


def write_report(result: TransferResult, output: Path) -> dict[str, Any]:
    """Write the report into a folder and return what ``summary.json`` says.

    Parameters
    ----------
    result
        What was measured.
    output
        The folder; it is made.

    Raises
    ------
    ConfigError
        A file cannot be written.
    """
    summary = summarise(result)
    figures: dict[str, bytes] = {}
    if result.scores:
        figures[LABELS_CHART] = charts.labels_chart(result.scores)
    if result.curve:
        figures[STEPS_CHART] = charts.steps_chart(result.curve)
    shown = [(picture, _drawn(picture, result.classes)) for picture in result.pictures]
    for name, data in figures.items():
        write_bytes(output / name, data)
    for number, (picture, drawn) in enumerate(shown, start=1):
        for key, data in drawn.items():
            write_bytes(output / PICTURES / f"{number}_{picture.kind}_{key}.png", data)
    write_text(output / SCORES, _table(Score, result.scores))
    write_text(output / CURVE, _table(CurvePoint, result.curve))
    write_text(output / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_text(output / PAGE, make_page(result, summary, figures, shown, CLASS_COLOURS))
    return summary


def summarise(result: TransferResult) -> dict[str, Any]:
    """Return the verdict and every number behind it, in plain types; unknown numbers are None."""
    scores = result.scores
    answer = stat.verdict(scores)
    counts = stat.counts_of(scores)
    arms = charts.arms_of(scores)
    summary: dict[str, Any] = _plain(
        {
            "verdict": answer.word,
            "sentence": answer.sentence,
            "stopped": result.stopped,
            "fine_tunings": {"done": result.done, "planned": result.planned or result.done},
            "caution": answer.caution,
            "gain": dataclasses.asdict(answer.gain),
            "gain_over_control": dataclasses.asdict(answer.over_control),
            "results": [_result(scores, arms, n) for n in [*counts, None]],
            "gains": [_gains(scores, arm, counts) for arm in arms if arm != "scratch"],
            "scores": [
                {"arm": arm, "n_labels": n}
                | {metric: stat.mean_score(scores, arm, n, metric) for metric in METRICS}
                for arm in arms
                for n in counts
            ],
            "labels_saved": [
                dataclasses.asdict(saved) | {"sentence": saved.sentence}
                for saved in stat.labels_saved(scores)
            ],
            "n_labels": counts,
            "seeds": sorted({s.seed for s in scores}),
            "test_images": sorted({s.image for s in scores}),
            "test_units": len({s.unit for s in scores}),
            "classes": list(result.classes),
            "labels": result.scheme_note,
            "notes": list(result.notes),
            "checkpoint": result.checkpoint_card,
            "learning_rates": result.learning_rates,
            "sweep": list(result.sweep),
            "steps": result.steps,
            "seconds": result.seconds,
            "config": result.config,
        }
    )
    return summary


def _result(scores: Sequence[Score], arms: Sequence[str], n_labels: int | None) -> dict[str, Any]:
    """Return the mean scores of each arm and the gain in IoU; for None, over all label counts."""
    counts = stat.counts_of(scores) if n_labels is None else [n_labels]
    means = {
        arm: {
            metric: float(np.mean([stat.mean_score(scores, arm, n, metric) for n in counts]))
            for metric in METRICS
        }
        for arm in arms
    }
    gain = dataclasses.asdict(stat.paired_gain(scores, n_labels))
    return {"n_labels": "all" if n_labels is None else n_labels, "arms": means, "gain": gain}


def _gains(scores: Sequence[Score], arm: str, counts: list[int]) -> dict[str, Any]:
    """Return the paired gains of one arm: by metric, over all and at each number of labels."""
    wanted: list[int | None] = [None, *counts]
    return {
        "arm": arm,
        "over": "scratch",
        "rows": [
            {"n_labels": "all" if n is None else n}
            | {
                metric: dataclasses.asdict(stat.paired_gain(scores, n, arm, metric=metric))
                for metric in METRICS
            }
            for n in wanted
        ],
    }


def _plain(value: Any) -> Any:
    """Return plain types that JSON holds: numbers that are not finite become None."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def _table(kind: type[Score | CurvePoint], rows: Sequence[Score | CurvePoint]) -> str:
    """Return records as CSV."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(kind)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = dataclasses.asdict(row)
        writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in cells.items()})
    return text.getvalue()


def _drawn(picture: Picture, classes: Sequence[str]) -> dict[str, bytes]:
    """Return each picture of a case as PNG; classes in their colours."""
    from PIL import Image  # noqa: PLC0415 - only for pictures

    drawn = {}
    for key, array in picture.arrays.items():
        coloured = array if key == "image" or array.ndim > 2 else _coloured(array, len(classes))  # noqa: PLR2004
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(coloured)).save(buffer, "PNG", optimize=True)
        drawn[key] = buffer.getvalue()
    return drawn


def _coloured(shades: np.ndarray, count: int) -> np.ndarray:
    """Colour a picture of class numbers, or of shades of gray from 0 to 255 for them."""
    top = max(count - 1, 1)
    numbers = shades if shades.max(initial=0) <= top else np.rint(shades * (top / 255))
    palette = np.array(CLASS_COLOURS, np.uint8)
    return np.asarray(palette[numbers.astype(int) % len(palette)])
