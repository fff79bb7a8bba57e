"""Folders of small images."""

# ruff: noqa: TID251

from __future__ import annotations

import pytest
import tifffile
from hypothesis import settings

# a busy machine may take its time over a single example
settings.register_profile("images", deadline=None)
settings.load_profile("images")


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes plain TIFFs into a folder of their own."""
    place = tmp_path / "images"
    place.mkdir()

    def write(**arrays):
        for name, array in arrays.items():
            axes = {2: "YX", 3: "ZYX", 4: "ZCYX"}[array.ndim]
            tifffile.imwrite(
                place / f"{name}.tif", array, photometric="minisblack", metadata={"axes": axes}
            )
        return place

    return write
