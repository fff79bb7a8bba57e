"""``transfer``: bad input is named before any training; good input gives a report."""

from __future__ import annotations

import json
import shutil
import signal
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import yaml
from one_step import config, train_one_step
from PIL import Image

from napari_ssl_pretrain.cli import main
from napari_ssl_pretrain.engine.transfer import job, study
from napari_ssl_pretrain.errors import ConfigError, RunFailed
from napari_ssl_pretrain.spec import claim
from napari_ssl_pretrain.spec.events import parse_event
from napari_ssl_pretrain.spec.transfer import TransferConfig

CONFIG = config("x", patch_size=[32, 32])
FOLDERS = ["--images", "x", "--labels", "y", "--test_images", "tx", "--test_labels", "ty"]


def blobs(seed, size=40):
    """An image of smooth waves, and where they are high."""
    y, x = np.mgrid[:size, :size] / size
    rng = np.random.default_rng(seed)
    waves = sum(np.sin(6.3 * (rng.integers(1, 4) * a + rng.random())) for a in (y, x, x + y))
    image = np.clip(128 + 30 * waves + rng.normal(0, 3, (size, size)), 0, 255).astype(np.uint8)
    return image, (waves > 0).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Labelled images in x, y and tx, ty, and a checkpoint after one step."""
    place = tmp_path_factory.mktemp("trained")
    for number in range(6):
        image, label = blobs(number)
        folders = ("x", "y") if number < 4 else ("tx", "ty")
        for folder, array in zip(folders, (image, label), strict=True):
            (place / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(place / folder / f"im{number}.png")
    train_one_step(place, CONFIG)
    return place


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of these, as the working directory."""
    shutil.copytree(trained, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array) if path.suffix == ".npy" else Image.fromarray(array).save(path)


def words(*extra, folders=FOLDERS, checkpoint="best.pth", output="rep"):
    return ["transfer", "--checkpoint", checkpoint, *folders, "-o", output, *extra]


OPTIONS = {
    "no checkpoint": (words(checkpoint="no.pth"), "--checkpoint: no.pth: no such file"),
    "a folder for a checkpoint": (words(checkpoint="x"), "--checkpoint: x: no such file"),
    "no checkpoint at all": (words(checkpoint="c.yaml"), "c.yaml: "),
    "labels of nothing": (words("--n_labels", "0"), "--n_labels: 0: must be at least 1"),
    "labels of words": (words("--n_labels", "few"), "--n_labels: few: must be a whole number"),
    "labels of commas": (words("--n_labels", ","), "--n_labels: ,: needs at least 1"),
    "no seeds": (words("--seeds", "0"), "--seeds: 0: must be at least 1"),
    "too many seeds": (words("--seeds", "21"), "--seeds: 21: must be at most 20"),
    "no minutes": (words("--minutes", "0"), "--minutes: 0: must be greater than 0"),
    "endless": (words("--minutes", "inf"), "--minutes: inf: must be a finite number"),
    "unknown arm": (words("--arms", "scratch,best"), "--arms: best: must be 'scratch'"),
    "one arm": (words("--arms", "pretrained"), "must hold scratch and pretrained"),
    "axes": (words("--axes", "YQ"), "--axes: YQ: must name Y and X once each"),
    "axes of other images": (words("--axes", "TYX"), "--axes: TYX: im0.png: names 3 axes"),
    "device": (words("--device", "cuda:63"), "--device: cuda:63: is not on this machine"),
    "device of words": (words("--device", "gpu"), "--device: gpu: "),
    "no labels": (words(folders=["--images", "x"]), "--labels: is required"),
    "test images alone": (
        words(folders=[*FOLDERS[:4], "--test_images", "tx"]),
        "--test_labels: is required where --test_images is given",
    ),
    "test labels alone": (
        words(folders=[*FOLDERS[:4], "--test_labels", "ty"]),
        "--test_images: is required where --test_labels is given",
    ),
    "no folder": (words(folders=["--images", "nowhere", *FOLDERS[2:]]), "--images: nowhere: does"),
    "no test folder": (
        words(folders=[*FOLDERS[:5], "no", *FOLDERS[6:]]),
        "--test_images: no: does",
    ),
    "labels are the images": (
        words(folders=["--images", "x", "--labels", "x"]),
        "--labels: x: is the same as --images",
    ),
    "test images learnt from": (
        words(folders=[*FOLDERS[:4], "--test_images", "x", "--test_labels", "y"]),
        "--test_images: im0.png: is also in --images",
    ),
    "output among images": (words(output="x"), "--output: x: is the folder of images"),
    "output below labels": (words(output="y/rep"), "--output: y/rep: is inside the folder of lab"),
    "output is a file": (words(output="c.yaml"), "--output: c.yaml: "),
    "output below a file": (words(output="c.yaml/rep"), "c.yaml is a file, not a folder"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_wrong_option_is_named_and_nothing_is_left(place, say, everything, case):
    line, fragment = OPTIONS[case]
    before = everything(place)
    said = say(*line)
    assert (said.code, fragment in said.error) == (2, True), said.error
    assert everything(place) == before


@pytest.mark.parametrize("command", ["features", "predict"])
def test_a_wrong_device_is_named_by_its_option(place, say, everything, command):
    before = everything(place)
    line = [command, "--checkpoint", "best.pth", "--input", "x", "--output", "o"]
    said = say(*line, "--device", "cuda:63")
    assert (said.code, "error: --device: cuda:63: is not" in said.error) == (2, True), said.error
    assert everything(place) == before


def _other_shape(place):
    save(place / "y" / "im1.png", np.eye(33, dtype=np.uint8))


def _probabilities(place):
    (place / "y" / "im0.png").unlink()
    save(place / "y" / "im0.npy", np.full((40, 40), 0.5, np.float32))


def _only_background(place):
    for path in (place / "y").iterdir():
        save(path, np.zeros((40, 40), np.uint8))


def _only_background_in_test(place):
    for path in (place / "ty").iterdir():
        save(path, np.zeros((40, 40), np.uint8))


def _no_names_in_common(place):
    for path in list((place / "y").iterdir()):
        path.rename(path.with_name(f"other{path.name}"))


def _copied_into_test(place):
    shutil.copy(place / "x" / "im2.png", place / "tx" / "im4.png")


def _colour(place):
    for folder in ("x", "tx"):
        for path in (place / folder).iterdir():
            save(path, np.asarray(Image.open(path).convert("RGB")))


def _damaged(place):
    (place / "y" / "im3.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def _empty(place):
    shutil.rmtree(place / "y")
    (place / "y").mkdir()


IMAGES = {
    "other shape": (_other_shape, "im1.png: has the shape 33 x 33"),
    "probabilities": (_probabilities, "im0.npy: 0.5: a label image holds whole numbers"),
    "only background": (_only_background, "--labels: every pixel of all its label images is back"),
    "only background in test": (_only_background_in_test, "--test_labels: every pixel"),
    "no names in common": (_no_names_in_common, "im0.png needs one called im0"),
    "copied into test": (_copied_into_test, "im4.png: is also in --images (as im2.png)"),
    "other channels": (_colour, "best.pth: "),
    "damaged": (_damaged, "im3.png: "),
    "no labels": (_empty, "--labels: y: holds no image"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_wrong_images_are_named_and_nothing_is_left(place, say, everything, case):
    spoil, fragment = IMAGES[case]
    spoil(place)
    before = everything(place)
    said = say(*words())
    assert (said.code, fragment in said.error) == (2, True), said.error
    assert everything(place) == before


def test_one_image_cannot_be_held_back(place, say):
    for number in (1, 2, 3):
        (place / "x" / f"im{number}.png").unlink()
    said = say(*words(folders=FOLDERS[:4]))
    assert (said.code, "cannot be learnt from and scored on" in said.error) == (2, True)


SHORT = ["--minutes", "0.0001", "--seeds", "2", "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def compared(trained, tmp_path_factory):
    """A whole comparison with test images, its output and its report."""
    place = tmp_path_factory.mktemp("compared")
    shutil.copytree(trained, place / "w")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place / "w")
        (place / "w" / "y" / "im3.png").unlink()
        with redirect_stdout(StringIO()) as out:
            code = main(words("--n_labels", "1,9", *SHORT))
    assert code == 0, out.getvalue()
    return place / "w", out.getvalue()


def test_a_comparison_leaves_its_report(compared):
    place, out = compared
    report = place / "rep"
    names = {path.name for path in report.iterdir()}
    assert names == {*job.REPORT_FILES, "pictures"}
    summary = json.loads((report / "summary.json").read_text())
    assert summary["n_labels"] == [1, 3]
    assert summary["seeds"] == [0, 1]
    arms = {row["arm"] for row in summary["scores"]}
    assert arms - {"shuffled"} == {"scratch", "pretrained", "frozen"}
    assert ("shuffled" in arms) is (summary["gain"]["low"] > 0)
    assert summary["verdict"] in {"helps", "no difference", "hurts"}
    assert summary["sentence"] in " ".join(out.split())
    assert str(report / "report.html") in out


def test_what_was_handled_is_said(compared):
    _, out = compared
    text = " ".join(out.split())
    assert "im3.png: has no label image of the same name and is left out" in text
    assert "3 instead of 9 used" in text
    assert "The labels are two classes: 0 background, 1 foreground." in text


def test_events_tell_the_whole_story(compared):
    place, out = compared
    lines = (place / "rep" / "events.jsonl").read_text().splitlines()
    events = [parse_event(line) for line in lines]
    assert None not in events
    assert [events[0].kind, events[-1].kind] == ["process_started", "run_finished"]
    assert (events[-1].state, events[-1].reason) == ("finished", "done")
    assert events[-1].message in " ".join(out.split())
    summary = json.loads((place / "rep" / "summary.json").read_text())
    arms = {row["arm"] for row in summary["scores"]}
    assert sum(e.kind == "fine_tuned" for e in events) == 2 * 2 * len(arms)
    assert len(arms) >= 3
    assert any(e.kind == "progress" and e.stage == "transfer" for e in events)
    asked = TransferConfig(**yaml.safe_load((place / "rep" / "transfer.yaml").read_text()))
    assert asked == TransferConfig(**yaml.safe_load(events[0].config))
    assert asked.n_labels == (1, 9)


def test_another_report_is_not_replaced_unasked(compared, monkeypatch, say):
    place, _ = compared
    monkeypatch.chdir(place)
    before = (place / "rep" / "summary.json").read_bytes()
    said = say(*words())
    assert (said.code, "holds another report" in said.error) == (2, True)
    assert "--overwrite" in said.error
    assert (place / "rep" / "summary.json").read_bytes() == before


def config(**changes):
    fields = {
        "checkpoint": "best.pth",
        "images": "x",
        "labels": "y",
        "n_labels": (2,),
        "seeds": 1,
        "minutes": 1e-4,
        "output": "rep",
        "arms": ("scratch", "pretrained"),
        "device": "cpu",
        "precision": "fp32",
    }
    return TransferConfig(**fields | changes)


def test_a_file_named_stop_ends_it(place):
    events = []

    def watch(event):
        events.append(event)
        if event.kind == "warned":
            (place / "rep" / "stop").touch()

    assert job.run_transfer(config(), emit=watch) is None
    assert (events[-1].kind, events[-1].state, events[-1].reason) == (
        "run_finished",
        "stopped",
        "stop",
    )
    assert not (place / "rep" / "report.html").exists()


@pytest.fixture
def signalled(monkeypatch):
    """Return a function that has a signal sent after some fine-tunings."""

    def after(count, number):
        one, done = study.Runner._one, []

        def counted(runner, *args):
            one(runner, *args)
            done.append(args)
            if len(done) == count:
                signal.raise_signal(number)

        monkeypatch.setattr(study.Runner, "_one", counted)

    return after


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_study_that_is_stopped_says_so(place, say, signalled, number, code):
    signalled(2, number)
    said = say(*words("--n_labels", "1", "--arms", "scratch,pretrained", *SHORT))
    assert said.code == code
    summary = json.loads((place / "rep" / "summary.json").read_text())
    assert summary["stopped"]
    assert summary["fine_tunings"] == {"done": 2, "planned": 4}
    assert f"Stopped early; so far: {summary['sentence']}" in " ".join(said.out.split())
    assert " ".join(said.out.split()).endswith(summary["sentence"])
    page = (place / "rep" / "report.html").read_text()
    at = page.index("<b>Stopped early</b>, after 2 of 4 fine-tunings")
    assert page.index("<h1>") < at < page.index('class="sentence"')


def test_ctrl_c_at_the_very_end_stops_nothing(place, say, signalled):
    signalled(4, signal.SIGINT)
    assert say(*words("--n_labels", "1", "--arms", "scratch,pretrained", *SHORT)).code == 0
    assert not json.loads((place / "rep" / "summary.json").read_text())["stopped"]
    assert "Stopped early" not in (place / "rep" / "report.html").read_text()


def test_held_out_images_and_overwrite(place):
    (place / "rep" / "pictures").mkdir(parents=True)
    for name in ("summary.json", "stop", "mine.txt", "pictures/old.png"):
        (place / "rep" / name).write_text("old")
    summary = job.run_transfer(config(), overwrite=True)
    assert summary is not None
    assert len(summary["test_images"]) == 1
    assert any("1 of the 4 labelled images is held back" in note for note in summary["notes"])
    assert (place / "rep" / "mine.txt").read_text() == "old"
    assert not (place / "rep" / "pictures" / "old.png").exists()


def test_the_second_start_in_one_folder_is_refused(place, monkeypatch):
    monkeypatch.setattr(claim, "SECONDS", 0.05)
    refused = []

    def watch(event):
        if event.kind == "warned" and not refused:
            with pytest.raises(ConfigError, match=r"output: .* is under way already") as caught:
                job.run_transfer(config(), overwrite=True)
            refused.append(str(caught.value))
            (place / "rep" / "stop").touch()

    job.run_transfer(config(), emit=watch)
    assert len(refused) == 1
    said = [json.loads(line)["kind"] for line in (place / "rep" / "events.jsonl").open()]
    assert said.count("run_finished") == 1
    assert not {".lock", ".reserve", "heartbeat.json"} & {p.name for p in (place / "rep").iterdir()}


@pytest.mark.usefixtures("place")
def test_a_failure_on_the_way_is_the_last_word(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA out of memory. Tried to allocate\nmore")

    monkeypatch.setattr(study.Runner, "_one", fail)
    events = []
    with pytest.raises(RunFailed, match=r"Out of memory"):
        job.run_transfer(config(), emit=events.append)
    assert (events[-1].state, events[-1].reason) == ("failed", "error")
    assert "Out of memory" in events[-1].message


@pytest.mark.usefixtures("place")
def test_json_is_one_event_a_line(say):
    said = say(*words("--n_labels", "1", "--arms", "scratch,pretrained", *SHORT[:2], "--seeds", "1",
                      *SHORT[4:], "--json"))  # fmt: skip
    assert said.code == 0
    events = [parse_event(line) for line in said.out.splitlines()]
    assert None not in events
    assert events[-1].kind == "run_finished"
