from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_ssl_pretrain.cli import demo, doctor


@pytest.mark.parametrize("task", demo.SUBJECTS)
def test_the_demonstration_cuts_real_images_without_overlap(here, task):
    config = demo.demo_config(task, here / "demo", 1.5)
    parts = {
        name: sorted((here / "demo" / f"{task}_images" / name / "x").iterdir())
        for name in ("train", "test")
    }
    assert parts["train"]
    assert parts["test"]
    whole = np.asarray(Image.open(demo.source(demo.SUBJECTS[task].file)))
    pixels = sum(np.asarray(Image.open(path)).size for paths in parts.values() for path in paths)
    rows, columns = demo.SUBJECTS[task].tiles
    assert pixels == whole[: len(whole) // rows * rows, : whole.shape[1] // columns * columns].size
    assert config.training.max_minutes == 1.5
    assert config.pretext.task == task


def test_a_missing_image_is_said(here, say, monkeypatch):
    monkeypatch.setitem(demo.SUBJECTS, "masking", demo.Subject("none.png", "nothing", (1, 2)))
    said = say("demo", "--task", "masking", "--result_dir", str(here / "demo"))
    assert (said.code, "demo: none.png: scikit-image comes without this image" in said.error) == (
        2,
        True,
    )
    assert not (here / "demo").exists()


def test_a_result_folder_that_cannot_be_written(here, say):
    (here / "file").write_text("")
    said = say("demo", "--result_dir", "file/demo")
    assert (said.code, "--result_dir: file/demo" in said.error) == (2, True)


def test_the_doctor_looks_at_everything(say):
    said = say("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(said.out)}
    assert said.code == (2 if any(finding["blocks"] for finding in findings.values()) else 0)
    assert {
        "python",
        "torch",
        "device cpu",
        "memory",
        "disk here",
        "napari",
        "Qt and display",
    } <= set(findings)
    assert all(finding["remedy"] for finding in findings.values() if finding["problem"])


def test_the_doctor_names_what_is_missing_and_the_remedy(say, monkeypatch):
    monkeypatch.setattr(doctor, "ENGINE_PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr(doctor, "_display", lambda: doctor.Finding("Qt and display", "works"))
    said = say("doctor")
    assert said.code == 2
    assert (
        "no-such-package: is not installed. Install it: pip install napari-ssl-pretrain" in said.out
    )


def test_all_is_well():
    assert doctor.conclusions([doctor.Finding("python", "3.11")])[-1] == "Nothing is wrong."
