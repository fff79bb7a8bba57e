from __future__ import annotations

import pytest
import yaml

from napari_ssl_pretrain.cli.parser import TEMPLATES
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.config_errors import all_keys


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_loads_to_what_its_name_says(say, template):
    assert (
        say("new", "--template", template, "-o", "c.yaml", "--train", "a", "--test", "b").code == 0
    )
    config = PretrainConfig.from_yaml("c.yaml")
    dims, task = template.split("-")
    assert (config.data.ndim, config.pretext.task) == (int(dims[0]), task)
    assert (config.data.train, config.data.test) == (("a",), ("b",))
    plain = PretrainConfig.from_dict(
        {
            "name": config.name,
            "data": {"train": "a", "test": "b", "ndim": config.data.ndim},
            "pretext": {"task": task},
        }
    )
    assert config == plain


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_key_of_the_task_is_there_under_a_comment(here, say, template):
    say("new", "--template", template, "-o", "c.yaml")
    lines = (here / "c.yaml").read_text().splitlines()
    keys = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert all(lines[lines.index(key) - 1].lstrip().startswith("#") for key in keys)
    fields = yaml.safe_load("\n".join(lines))
    written = set(fields) | {
        f"{g}.{k}" for g, inner in fields.items() if isinstance(inner, dict) for k in inner
    }
    missing = set(all_keys(PretrainConfig)) - written
    other = "masking" if "crappify" in template else "crappify"
    pretext = PretrainConfig.model_fields["pretext"].annotation.model_fields
    assert missing == {
        f"pretext.{name}"
        for name, field in pretext.items()
        if field.description.startswith(f"{other}: ") and not field.is_required()
    }


def test_a_file_is_never_overwritten(here, say):
    (here / "c.yaml").write_text("mine")
    said = say("new", "--template", "2d-masking", "-o", "c.yaml")
    assert (said.code, "--output: c.yaml: exists already" in said.error) == (2, True)
    assert (here / "c.yaml").read_text() == "mine"


@pytest.mark.usefixtures("here")
def test_a_missing_folder_is_said(say):
    said = say("new", "--template", "2d-masking", "-o", "nowhere/c.yaml")
    assert "is in a folder that does not exist" in said.error


def answers(monkeypatch, *given):
    """Answer the questions in turn, then hang up; returns the questions that were asked."""
    left, asked = list(given), []

    def answer(question):
        asked.append(question)
        if not left:
            raise EOFError
        return left.pop(0)

    monkeypatch.setattr("builtins.input", answer)
    return asked


@pytest.mark.usefixtures("images")
def test_the_guide_asks_and_writes(say, monkeypatch):
    asked = answers(monkeypatch, "images/train/x", "", "2", "images/test/x", "mine", "1.5")
    said = say("new", "--guide", "-o", "c.yaml")
    assert said.code == 0, said.err
    assert len(asked) == 6
    assert "3 images, 2D, axes YX, 1 channel" in said.out
    config = PretrainConfig.from_yaml("c.yaml")
    assert config.data.train == ("images/train/x",)
    assert config.data.test == ("images/test/x",)
    assert (config.data.ndim, config.pretext.task, config.name) == (2, "masking", "mine")
    assert config.training.max_minutes == 1.5


@pytest.mark.usefixtures("images")
def test_the_guide_asks_again_after_a_wrong_answer(say, monkeypatch):
    wrong_and_right = (
        "",
        "nowhere",
        "images/train/x",
        "3D",
        "2",
        "x",
        "1",
        "nowhere",
        "",
        "a/b",
        "ok",
        "soon",
        "",
    )
    asked = answers(monkeypatch, *wrong_and_right)
    said = say("new", "--guide", "-o", "c.yaml")
    assert said.code == 0, said.err
    assert len(asked) == len(wrong_and_right)
    config = PretrainConfig.from_yaml("c.yaml")
    assert (config.data.ndim, config.pretext.task, config.name) == (2, "crappify", "ok")
    assert config.data.test is None
    assert config.training.max_minutes is None


def test_the_guide_without_anybody_to_answer(here, say, monkeypatch):
    answers(monkeypatch)
    said = say("new", "--guide", "-o", "c.yaml")
    assert (said.code, "--guide: needs answers" in said.error) == (2, True)
    assert not (here / "c.yaml").exists()


@pytest.mark.usefixtures("images")
def test_the_guide_does_not_ask_what_options_say(say, monkeypatch):
    asked = answers(monkeypatch, "", "")
    said = say(
        "new", "--guide", "-o", "c.yaml", "--template", "2d-masking",
        "--train", "images/train/x", "--test", "images/test/x",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert len(asked) == 2
    assert PretrainConfig.from_yaml("c.yaml").name == "my_2d_masking"
