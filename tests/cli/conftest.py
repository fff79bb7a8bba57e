from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_ssl_pretrain.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def blobs(seed: int, size: int = 48) -> np.ndarray:
    """A smooth random image, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = sum(
        np.sin(6.3 * (rng.integers(1, 4) * y + rng.integers(1, 4) * x) + rng.random())
        for _ in range(4)
    )
    return np.clip(128 + 25 * waves + rng.normal(0, 3, (size, size)), 0, 255).astype(np.uint8)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def images(here: Path) -> Path:
    """Three small flat images in ``images/train/x`` and one in ``images/test/x``."""
    for number in range(4):
        folder = here / "images" / ("test" if number == 3 else "train") / "x"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blobs(number)).save(folder / f"im{number}.png")
    return here / "images"


class Said:
    """What one command came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        """The one error line; fails when there is more, or less, or a traceback."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]):
    """Run one command in this process."""

    def run(*words: str) -> Said:
        code = main(list(words))
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def everything():
    """What is in a folder, by relative path."""

    def listed(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*")}

    return listed
