"""One thread a process, for tests run beside others; which tests share a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

GUI = Path(__file__).parent / "gui"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests together, and all that share the screen, which begin first."""
    for item in items:
        on_screen = item.path.parent == GUI
        item.add_marker(pytest.mark.xdist_group("gui" if on_screen else str(item.path)))
    items.sort(key=lambda item: item.path.parent != GUI)
