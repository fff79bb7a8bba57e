"""One thread, because the networks are tiny; no time limits, because machines are busy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from run_samples import write

from napari_ssl_pretrain.engine import session

settings.register_profile("engine", deadline=None)
settings.load_profile("engine")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def planes(tmp_path):
    """Return a folder with two training planes and a test plane, uint8."""
    write(tmp_path / "images" / "a.tif", "YX", (40, 32), "uint8", 1)
    write(tmp_path / "images" / "b.tif", "YX", (24, 36), "uint8", 2)
    write(tmp_path / "test" / "t.tif", "YX", (21, 34), "uint8", 3)
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Leave the charts out, which take most of a small run's time, and validate on little."""
    monkeypatch.setattr(session, "draw_charts", lambda *_: None)
    monkeypatch.setattr(session, "draw_model_plot", lambda *_: None)
    monkeypatch.setattr(session, "VALIDATION_PIXELS", 8 * 16**2)
