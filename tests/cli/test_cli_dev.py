"""The script that sets up a checkout: what it says where it cannot go on."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dev(monkeypatch):
    """The script's functions, none of which runs a command."""
    found = runpy.run_path(str(ROOT / "dev.py"))
    commands = []
    space = found["main"].__globals__
    monkeypatch.setitem(
        space, "run", lambda words, **_: commands.append(list(map(str, words))) or 0
    )
    return SimpleNamespace(space=space, commands=commands, **found)


def test_missing_packages_are_named_with_the_command_that_installs_them(dev, monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setitem(dev.space, "has_package", lambda name: name not in {"xvfb", "libegl1"})
    assert dev.main(["test"]) == 2
    assert "Run: sudo apt-get install xvfb libegl1" in capsys.readouterr().err
    assert not dev.commands


def test_root_on_debian_installs_them(dev, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setitem(dev.space, "has_package", lambda _: False)
    dev.need_packages(("xvfb",))
    assert dev.commands[-1][:2] == ["apt-get", "install"]
    assert dev.commands[-1][-1] == "xvfb"


def test_without_a_screen_and_without_debian_it_says_what_is_missing(dev, monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert dev.main(["test"]) == 2
    assert capsys.readouterr().err.startswith("error: xvfb-run: missing: ")


def test_elsewhere_no_virtual_screen_is_needed(dev, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert dev.virtual_screen() == []


def test_an_old_python_is_refused_or_replaced(dev, monkeypatch, capsys):
    monkeypatch.setitem(dev.space, "OLDEST", (99, 0))
    monkeypatch.setitem(dev.space, "PYTHON", Path("nowhere"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert dev.main(["install"]) == 2
    assert "must be 3.11 or newer" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "python3.12" else None)
    assert dev.suitable_python() == "python3.12"


def test_unknown_words_show_the_help(dev, capsys):
    assert dev.main([]) == 0
    assert dev.main(["tset"]) == 2
    assert "python3 dev.py demo" in capsys.readouterr().out
