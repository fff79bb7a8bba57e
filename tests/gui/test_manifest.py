"""What napari is told of the plugin."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
from npe2 import PluginManifest

import napari_ssl_pretrain
from napari_ssl_pretrain.gui import samples
from napari_ssl_pretrain.spec.curve import MAX_POINTS, Curve

MANIFEST = Path(napari_ssl_pretrain.__file__).parent / "napari.yaml"


def test_the_manifest_is_valid_and_all_it_names_is_there() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    contributions = manifest.contributions
    assert {w.display_name for w in contributions.widgets or []} >= {"Pretrain", "Runs", "Features"}
    for command in contributions.commands or []:
        module, _, name = str(command.python_name).partition(":")
        assert callable(getattr(import_module(module), name))


def test_samples_are_images_that_a_dependency_carries() -> None:
    (rgb, about, kind), *_ = samples.tissue()
    assert (rgb.shape, rgb.dtype, kind, about["rgb"]) == ((512, 512, 3), np.uint8, "image", True)
    (grey, about, _), *_ = samples.cell()
    assert (grey.ndim, about["name"]) == (2, "cell")


def test_a_curve_stays_light_and_keeps_its_shape() -> None:
    curve = Curve()
    for step in range(100_000):
        curve.add(step, 1 / (1 + step))
    assert len(curve.x) <= MAX_POINTS
    assert curve.x == sorted(curve.x)
    assert curve.x[-1] > 99_000
    assert curve.y[0] > curve.y[-1]


def test_a_resumed_curve_begins_where_it_was_saved() -> None:
    curve = Curve()
    for step in (1, 2, 3, 4, 3, 4, 5):
        curve.add(step, float(step))
    assert curve.x == [1, 2, 3, 4, 5]
    curve.add(6, float("nan"))
    assert curve.x == [1, 2, 3, 4, 5]
