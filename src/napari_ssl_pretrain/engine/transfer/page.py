"""The report's page: one HTML file that holds its pictures and asks nothing of the network."""

from __future__ import annotations

import base64
import time
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain import __version__
from napari_ssl_pretrain.engine.transfer.charts import DPI, NAMES
from napari_ssl_pretrain.engine.transfer.scores import TOLERANCE
from napari_ssl_pretrain.engine.transfer.statistics import points
from napari_ssl_pretrain.engine.transfer.style import CSS
from napari_ssl_pretrain.spec.transfer import CONTROL, RATES, SWEEP_SHARE, SWEPT_ARMS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_ssl_pretrain.engine.transfer.records import Picture, TransferResult

    Drawn = Sequence[tuple[Picture, dict[str, bytes]]]

METRIC_NAMES = {"iou": "IoU", "dice": "Dice", "boundary_f": "Boundary F"}
WORDS = {"helps": "It helps", "hurts": "It hurts", "no difference": "No difference seen"}
SCREEN_DPI = 105
KINDS = {"median": "Median case", "worst": "Worst case"}


def make_page(
    result: TransferResult,
    summary: Mapping[str, Any],
    figures: Mapping[str, bytes],
    shown: Drawn,
    colours: Sequence[tuple[int, int, int]],
) -> str:
    """Return the page.

    Parameters
    ----------
    result
        What was measured.
    summary
        What it comes to.
    figures
        The charts by file name.
    shown
        The pictures and their PNGs.
    colours
        Colours of the classes.
    """
    parts = [
        _stopped(summary),
        _verdict(summary),
        _compared(result, summary),
        _labels(summary, figures),
        _steps(figures),
        _pictures(shown, result.classes, colours),
        _rates(summary),
        _notes(result, summary),
    ]
    name = escape(PurePath(str(result.config.get("checkpoint", "checkpoint"))).name)
    when = time.strftime("%Y-%m-%d %H:%M")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Does pretraining help? {name}</title>\n<style>{CSS}</style>\n</head>\n"
        f'<body>\n<main>\n<header><p class="kicker">{name} &middot; {when}</p>'
        "<h1>Does pretraining help?</h1></header>\n"
        + "\n".join(filter(None, parts))
        + f"\n<footer>napari-ssl-pretrain {__version__}. The numbers are in scores.csv, curve.csv "
        "and summary.json beside this page.</footer>\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, body: str, extra: str = "") -> str:
    return f'<section class="{extra}"><h2>{title}</h2>\n{body}</section>'


def _stopped(summary: Mapping[str, Any]) -> str:
    """Return the line that a study which was ended early begins with."""
    if not summary["stopped"]:
        return ""
    tunings = summary["fine_tunings"]
    return (
        f'<p class="stopped"><b>Stopped early</b>, after {tunings["done"]} of '
        f"{_count(tunings['planned'], 'fine-tuning')}. All that follows is what there was by "
        "then.</p>"
    )


def _verdict(summary: Mapping[str, Any]) -> str:
    word = summary["verdict"]
    said = WORDS[word] if summary["gain"]["low"] is not None else "No verdict"
    tone = {"helps": "helps", "hurts": "hurts"}.get(word, "none")
    caution = f'<p class="caution">{escape(summary["caution"])}</p>' if summary["caution"] else ""
    cards = ""
    rows = _rows(summary, "pretrained")
    if rows:
        cards = "".join(
            f'<div class="card"><b>{_gain(rows[0][metric])}</b>'
            f"<span>{name} points{_between(rows[0][metric])}</span></div>"
            for metric, name in METRIC_NAMES.items()
        )
        cards = f'<div class="cards">{cards}</div>'
    return (
        f'<section class="verdict {tone}"><span class="word">{said}</span>'
        f'<p class="sentence">{escape(summary["sentence"])}</p>{caution}{cards}</section>'
    )


def _rows(summary: Mapping[str, Any], arm: str) -> list[dict[str, Any]]:
    """Return the gains of an arm: over all, then at each number of labels."""
    found: list[dict[str, Any]] = next((g["rows"] for g in summary["gains"] if g["arm"] == arm), [])
    return found


def _gain(interval: Mapping[str, Any]) -> str:
    return "&ndash;" if interval["mean"] is None else points(interval["mean"])


def _between(interval: Mapping[str, Any], lead: str = ", ") -> str:
    if interval["low"] is None or interval["high"] is None:
        return ""
    return f"{lead}{points(interval['low'])} to {points(interval['high'])}"


def _compared(result: TransferResult, summary: Mapping[str, Any]) -> str:
    card, config = result.checkpoint_card, result.config
    arms = ", ".join(NAMES[arm] for arm in NAMES if any(r["arm"] == arm for r in summary["scores"]))
    seeds, images = len(summary["seeds"]), len(summary["test_images"])
    blocks = summary["test_units"]
    units = f", scored in {_count(blocks, 'part')}" if blocks > images else ""
    rows = {
        "Question": "Does a network that starts from the checkpoint segment better than one that "
        "starts from random weights, when both learn from the same few labelled images?",
        "Checkpoint": escape(str(config.get("checkpoint", ""))),
        "Pretrained by": escape(_pretrained(card)),
        "Network": escape(_network(card)),
        "Arms": f"{arms}: same network, same labelled images, same order of the data, same budget",
        "Control": "The checkpoint's numbers shuffled within each tensor: weights of the same "
        "sizes that know nothing, trained as the pretrained are. What they gain as well is not "
        "knowledge." * any(row["arm"] == CONTROL for row in summary["scores"]),
        "Labelled images": f"{_joined(summary['n_labels'])} of "
        f"{escape(str(config.get('images', '')))}"
        + "; smaller sets are parts of larger ones"
        * (len(summary["n_labels"]) > 1),
        "Labels": escape(result.scheme_note),
        "Repetitions": _count(seeds, "seed")
        + ", each with its own choice of labelled images" * (seeds > 1),
        "Scored on": f"{_count(images, 'image')} that no network learnt from{units}; "
        "predicted as they lie and mirrored along y, x and both, the mean of the four",
        "Fine-tuning": f"{_count(result.steps, 'step')} each; the running mean of the states, "
        "of which later ones count more, is scored at the end, or earlier where the validation "
        "part says that it was clearly better",
        "Peak learning rates": ", ".join(
            f"{NAMES.get(arm, escape(arm))} {rate:g}" for arm, rate in result.learning_rates.items()
        ),
        "Took": _duration(result.seconds),
    }
    body = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows.items() if value)
    return _section("What was compared", f"<dl>{body}</dl>")


def _pretrained(card: Mapping[str, Any]) -> str:
    step = card.get("step")
    after = f", after {step} steps" if step is not None else ""
    return f"{card.get('task', 'unknown task')}{after}"


def _network(card: Mapping[str, Any]) -> str:
    size = card.get("parameters")
    if not isinstance(size, int | float):
        return str(card.get("backbone", "unknown"))
    words = f"{size / 1e6:.1f} million" if size >= 1e6 else f"{size / 1e3:.0f} thousand"  # noqa: PLR2004
    return f"{card.get('backbone', 'unknown')}, {words} parameters"


def _labels(summary: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    if not summary["scores"]:
        return _section("Score over number of labels", "<p>Nothing was scored.</p>")
    body = _chart(figures, "score_over_labels.png", "Score over number of labels")
    body += _score_table(summary)
    saved = "".join(f"<li>{escape(row['sentence'])}</li>" for row in summary["labels_saved"])
    doubt = " No gain was seen: these numbers may be chance." * (summary["verdict"] != "helps")
    if saved:
        body += (
            '<h3 style="margin-top:18px">Labels saved</h3>'
            f'<ul>{saved}</ul><p class="soft">How many labels scratch needs for the same IoU, '
            f"interpolated in the logarithm of their number.{doubt}</p>"
        )
    return _section("Score over number of labels", body)


def _score_table(summary: Mapping[str, Any]) -> str:
    """Return IoU of each arm and the paired gains, one row a number of labels."""
    arms = list(dict.fromkeys(row["arm"] for row in summary["scores"]))
    iou = {(row["arm"], row["n_labels"]): row["iou"] for row in summary["scores"]}
    gains = {arm: {r["n_labels"]: r for r in _rows(summary, arm)} for arm in arms}
    head = "<th>Labels</th>" + "".join(f"<th>IoU {NAMES[arm]}</th>" for arm in arms)
    head += "".join(f"<th>Gain, {name} points</th>" for name in METRIC_NAMES.values())
    if "frozen" in arms:
        head += "<th>Frozen: gain, IoU points</th>"
    lines = []
    for n in [*summary["n_labels"], "all"]:
        cells = "".join(f"<td>{_number(iou.get((arm, n)))}</td>" for arm in arms)
        cells += "".join(_gain_cell(gains.get("pretrained", {}).get(n), m) for m in METRIC_NAMES)
        if "frozen" in arms:
            cells += _gain_cell(gains["frozen"].get(n), "iou")
        if n == "all" and len(summary["n_labels"]) < 2:  # noqa: PLR2004
            continue
        first = "all" if n == "all" else n
        lines.append(f'<tr class="{"all" if n == "all" else ""}"><td>{first}</td>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _gain_cell(row: Mapping[str, Any] | None, metric: str) -> str:
    if row is None:
        return "<td>&ndash;</td>"
    return f"<td>{_gain(row[metric])}<small>{_between(row[metric], '')}</small></td>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _steps(figures: Mapping[str, bytes]) -> str:
    chart = _chart(figures, "score_over_step.png", "Score over training step")
    if not chart:
        return ""
    text = (
        '<p class="soft">On the part of the labelled images that is kept for validation. Thin '
        "lines are single seeds, thick ones their means.</p>"
    )
    return _section("Score during fine-tuning", chart + text)


def _chart(figures: Mapping[str, bytes], name: str, text: str) -> str:
    """Return a chart at the size that it was drawn for, smaller where the page is."""
    if name not in figures:
        return ""
    width = round(int.from_bytes(figures[name][16:20], "big") * SCREEN_DPI / DPI)
    style = f"width:{width}px"
    return f'<img class="chart" alt="{text}" style="{style}" src="{_inline(figures[name])}">'


def _inline(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def _pictures(shown: Drawn, classes: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> str:
    if not shown:
        return ""
    names = {"image": "image", "truth": "truth"} | NAMES
    if len({picture.image for picture, _ in shown}) == 1:
        shown = shown[:1]
    body = ""
    for picture, drawn in shown:
        cells = "".join(
            f'<figure><img alt="{names.get(key, key)}" src="{_inline(data)}">'
            f"<figcaption>{names.get(key, escape(key))}</figcaption></figure>"
            for key, data in drawn.items()
        )
        kind = "The test image" if len(shown) == 1 else KINDS[picture.kind]
        title = (
            f"{kind}: {escape(picture.image)}, "
            f"{_count(picture.n_labels, 'label')}, gain {points(picture.gain)} IoU points"
        )
        body += f'<h3>{title}</h3><div class="row">{cells}</div>'
    swatches = "".join(
        f'<span><i style="background:rgb{colours[k % len(colours)]}"></i>{escape(name)}</span>'
        for k, name in enumerate(classes)
    )
    lead = (
        '<p class="soft">By the gain of pretraining over scratch, of all test images at the '
        "largest number of labels, first seed; of volumes one plane.</p>"
    )
    return _section("Pictures", f'{lead}{body}<div class="key">{swatches}</div>', "long")


def _rates(summary: Mapping[str, Any]) -> str:
    """Return the table of the learning rates that were tried."""
    sweep = summary["sweep"]
    if not sweep:
        return ""
    keys = list(dict.fromkeys(key for row in sweep for key in row))
    head = "".join(f"<th>{escape(key)}</th>" for key in keys)
    lines = ""
    for row in sweep:
        chosen = row.get("rate") == summary["learning_rates"].get(row.get("arm"))
        cells = "".join(f"<td>{_cell(row.get(key))}</td>" for key in keys)
        lines += f'<tr class="{"chosen" if chosen else ""}">{cells}</tr>'
    text = (
        '<p class="soft">Scratch and pretrained were offered the same learning rates; each takes '
        "the one that did best on its validation part (bold). To save time this was done once: "
        f"in trainings of {100 * SWEEP_SHARE:.0f} % of the length, with the most labels, in the "
        "first repetition. A choice for each number of labels and repetition would take as long "
        f"as {len(SWEPT_ARMS) * len(RATES) * SWEEP_SHARE:.1f} more fine-tunings each time."
        + " For the same reason the other arms have no choice of their own: they take the rate of "
        "the pretrained network." * (len(summary["learning_rates"]) > len(SWEPT_ARMS)) + "</p>"
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return _section("How the learning rates were chosen", text + f'<div class="wide">{table}</div>')


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _notes(result: TransferResult, summary: Mapping[str, Any]) -> str:
    method = (
        "Intervals: 95 % bootstrap of the paired difference, drawing seeds and test images anew. "
        "IoU and Dice: means over classes, background left out. Boundary F: F1 score of contour "
        f"pixels within {TOLERANCE:g} pixels (Martin et al. 2004, Csurka et al. 2013)."
    )
    said = [result.scheme_note, *result.notes, summary["caution"], method]
    items = "".join(f"<li>{escape(note)}</li>" for note in dict.fromkeys(said) if note)
    return _section("Notes", f"<ul>{items}</ul>", "long")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _joined(counts: Sequence[int]) -> str:
    words = [str(n) for n in counts]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) or "none"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"
