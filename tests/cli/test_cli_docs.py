from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml

from napari_ssl_pretrain.cli.parser import parse
from napari_ssl_pretrain.spec.config import PretrainConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)


def blocks(page, *languages):
    """The code blocks of a page in some languages; an empty name is a block without one."""
    parts = re.findall(
        r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [body for language, body in parts if language in languages]


def test_the_page_of_keys_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs" / "make_configuration.py"))["page"]()
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == page, "run: python docs/make_configuration.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_are_ones_that_exist(page):
    for block in re.findall(
        r"```(?:bash|sh)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    ):
        for line in block.splitlines():
            if line.startswith("napari-ssl-pretrain ") and "COMMAND" not in line:
                parse(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_yaml_in_the_pages_is_valid(page):
    for block in blocks(page, "yaml"):
        PretrainConfig.from_dict(yaml.safe_load(block))


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name
)
def test_examples_are_valid(example):
    assert PretrainConfig.from_yaml(example).name == example.stem
