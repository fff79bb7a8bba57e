"""The report: whole, honest, and without a word to the network."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from napari_ssl_pretrain.engine.transfer import report as rep
from napari_ssl_pretrain.engine.transfer import statistics as stat
from napari_ssl_pretrain.engine.transfer.records import (
    CurvePoint,
    Picture,
    Score,
    TransferResult,
)

ARMS = ("scratch", "pretrained", "frozen")
HOSTILE = "<script>alert('x')</script>&\"ü"


def make(gain=0.04, arms=ARMS, counts=(2, 5), seeds=2, images=3, name="im"):
    """A result with every part, made by formula."""
    rng = np.random.default_rng(0)
    extra = {"scratch": 0.0, "pretrained": gain, "frozen": gain / 2}
    scores = [
        Score(arm, n, s, f"{name}{u}", f"{name}{u}", v, v + 0.1, v + 0.2)
        for arm in arms
        for n in counts
        for s in range(seeds)
        for u in range(images)
        for v in [0.5 + 0.02 * n + extra[arm] + float(rng.normal(0, 0.004))]
    ]
    curve = [
        CurvePoint(arm, n, s, step, 30, 0.3 + step / 100)
        for arm in arms
        for n in counts
        for s in range(seeds)
        for step in (10, 20, 30)
    ]
    planes = {"truth": np.eye(12, dtype=np.uint8)} | {
        arm: np.eye(12, dtype=np.uint8) * 255 for arm in arms
    }
    image = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
    pictures = [
        Picture(kind, counts[-1], f"{name}{k}", gain, {"image": image, **planes})
        for k, kind in enumerate(("median", "worst"))
    ]
    return TransferResult(
        config={"checkpoint": f"/runs/{name}.pth", "images": "/x", "minutes": 3.0},
        checkpoint_card={"task": "crappify", "backbone": "unet", "step": 9, "parameters": 1234567},
        scheme_note="The labels are two classes.",
        classes=("background", "foreground"),
        notes=(f"Something {name} to say.",),
        learning_rates=dict.fromkeys(arms, 1e-3),
        steps=30,
        seconds=61.0,
        scores=tuple(scores),
        curve=tuple(curve),
        pictures=tuple(pictures),
        sweep=({"arm": "scratch", "rate": 1e-3, "iou": 0.5},),
    )


class Page(HTMLParser):
    """Collects tags, and the text that a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text, self._style = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._style = tag == "style"
        self.addresses += [v for k, v in attrs if k in {"src", "href", "srcset", "data"}]

    def handle_endtag(self, tag):
        self._style = self._style and tag != "style"

    def handle_data(self, data):
        self.text += "" if self._style else data + " "


def strict(path):
    def refuse(word):
        raise ValueError(word)

    return json.loads(path.read_text(), parse_constant=refuse)


def test_all_is_there_and_whole(tmp_path):
    result = make()
    summary = rep.write_report(result, tmp_path / "out")
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {*rep.FILES, rep.PICTURES}
    assert len(list((out / "pictures").iterdir())) == 2 * 5
    assert strict(out / "summary.json") == summary
    for path in out.rglob("*.png"):
        Image.open(path).load()
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert len(rows) == len(result.scores)
    assert float(rows[0]["iou"]) == pytest.approx(result.scores[0].iou, abs=1e-6)
    assert len(list(csv.DictReader((out / "curve.csv").open()))) == len(result.curve)


def test_numbers_are_those_of_the_statistics(tmp_path):
    result = make()
    summary = rep.write_report(result, tmp_path)
    answer = stat.verdict(result.scores)
    assert (summary["verdict"], summary["sentence"]) == (answer.word, answer.sentence)
    rows = summary["gains"][0]["rows"]
    assert [row["n_labels"] for row in rows] == ["all", 2, 5]
    assert rows[2]["dice"] == dataclasses.asdict(stat.paired_gain(result.scores, 5, metric="dice"))
    assert summary["labels_saved"][0]["n_labels"] == 2


def test_results_are_easy_to_check(tmp_path):
    result = make()
    rep.write_report(result, tmp_path)
    summary = strict(tmp_path / "summary.json")
    assert [row["n_labels"] for row in summary["results"]] == [2, 5, "all"]
    for row in summary["results"]:
        assert set(row["arms"]) == set(ARMS)
        for arm, means in row["arms"].items():
            mine = [s for s in result.scores if s.arm == arm]
            mine = [s for s in mine if row["n_labels"] in {"all", s.n_labels}]
            for metric in ("iou", "dice", "boundary_f"):
                mean = np.mean([getattr(s, metric) for s in mine])
                assert means[metric] == pytest.approx(mean)
        gain = row["gain"]
        assert gain["low"] <= gain["mean"] <= gain["high"]
        assert (gain["seeds"], gain["units"], gain["images"]) == (2, 3, 3)
        difference = row["arms"]["pretrained"]["iou"] - row["arms"]["scratch"]["iou"]
        assert gain["mean"] == pytest.approx(difference)
    assert summary["results"][-1]["gain"] == summary["gain"]


@pytest.mark.parametrize("arms", [ARMS, ARMS[:2]])
def test_how_the_rates_were_chosen_is_said(tmp_path, arms):
    rep.write_report(make(arms=arms), tmp_path)
    text = " ".join(Page((tmp_path / "report.html").read_text()).text.split())
    assert "To save time this was done once: in trainings of 30 % of the length" in text
    assert "with the most labels, in the first repetition" in text
    assert ("they take the rate of the pretrained network" in text) is ("frozen" in arms)


def test_the_page_asks_nothing_of_the_network(tmp_path):
    rep.write_report(make(), tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"https?:|@import|url\(", text)


def test_the_page_says_what_matters(tmp_path):
    result = make()
    summary = rep.write_report(result, tmp_path)
    text = " ".join(Page((tmp_path / "report.html").read_text()).text.split())
    at = [text.index(words) for words in (summary["sentence"], "What was compared", "Pictures")]
    assert at == sorted(at)
    for words in (
        "95 % interval",
        summary["caution"],
        "crappify, after 9 steps",
        "unet, 1.2 million parameters",
        "same network, same labelled images, same order of the data, same budget",
        "30 steps each",
        *(saved["sentence"] for saved in summary["labels_saved"]),
        "Median case: im0, 5 labels, gain +4.0 IoU points",
        "Worst case",
        "Something im to say.",
        result.scheme_note,
        "frozen encoder 0.001",
    ):
        assert words in text, words


def test_names_cannot_write_into_the_page(tmp_path):
    rep.write_report(make(name=HOSTILE), tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert HOSTILE in page.text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"gain": 0.05}, "It helps"),
        ({"gain": -0.05}, "It hurts"),
        ({"gain": 0.0}, "No difference seen"),
        ({"gain": 0.1, "seeds": 1, "images": 1, "counts": (3,)}, "No verdict"),
        ({"arms": ("scratch", "pretrained")}, "It helps"),
    ],
)
def test_the_page_gives_the_verdict(tmp_path, change, word):
    rep.write_report(make(**change), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert f'<span class="word">{word}</span>' in text
    assert "nan" not in Page(text).text.lower().replace("frozen", "")


def test_nothing_measured_is_said(tmp_path):
    empty = dataclasses.replace(make(), scores=(), curve=(), pictures=(), sweep=())
    summary = rep.write_report(empty, tmp_path)
    assert summary["verdict"] == "no difference"
    assert "Nothing was scored" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "score_over_labels.png").exists()


def test_one_test_image_is_shown_once(tmp_path):
    result = make()
    only = tuple(dataclasses.replace(p, image="im0") for p in result.pictures)
    rep.write_report(dataclasses.replace(result, pictures=only), tmp_path)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "The test image: im0" in text
    assert "Worst case" not in text


def test_labels_saved_are_doubted_where_no_gain_was_seen(tmp_path):
    for gain, said in ((0.0, True), (0.05, False)):
        rep.write_report(make(gain), tmp_path)
        assert ("may be chance" in (tmp_path / "report.html").read_text()) is said


def test_classes_and_their_shades_have_the_same_colours():
    numbers = np.array([[0, 1, 2]], np.uint8)
    shades = np.array([[0, 127, 255]], np.uint8)
    expected = [list(map(list, rep.CLASS_COLOURS[:3]))]
    assert rep._coloured(numbers, 3).tolist() == expected
    assert rep._coloured(shades, 3).tolist() == expected


def test_gray_images_stay_gray():
    picture = Picture("worst", 2, "a", 0.0, {"image": np.full((4, 4), 99, np.uint8)})
    drawn = rep._drawn(picture, ("background", "foreground"))
    assert np.asarray(Image.open(io.BytesIO(drawn["image"]))).tolist() == [[99] * 4] * 4
