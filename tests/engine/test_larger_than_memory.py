"""Images larger than memory: results by tile, the same as those of small images; bounded peaks."""

# ruff: noqa: TID251

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from run_samples import config, do, run_of, write

from napari_ssl_pretrain.data import boxes
from napari_ssl_pretrain.data.ome_zarr_writer import TiledWriter
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.engine import testing
from napari_ssl_pretrain.engine.making import HiddenTokens
from napari_ssl_pretrain.engine.predict import predict
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.pretext import Masking


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(boxes, "LARGE_BYTES", 100)
    monkeypatch.setattr(testing, "SCORED_VALUES", 100)


def pixels(path, ndim):
    image = open_image(path, ndim=ndim)
    return np.stack([image.read(frame) for frame in range(image.frames)])


@pytest.mark.parametrize(
    ("axes", "shape", "ndim"),
    [("ZYX", (6, 40, 50), 3), ("ZCYX", (3, 2, 40, 50), 2), ("CYX", (3, 40, 50), 2)],
)
def test_crappify_by_tile_is_crappify_at_once(tmp_path, monkeypatch, axes, shape, ndim):
    write(tmp_path / "images" / "a.tif", axes, shape, "uint16")
    data = {"ndim": ndim, "patch_size": [4, 16, 16][-ndim:]}
    asked = config(tmp_path, "crappify", data=data)
    do(asked)
    checkpoint = run_of(asked).checkpoint("best")
    (small,) = predict(checkpoint, tmp_path / "images", tmp_path / "small")
    monkeypatch.setattr(boxes, "LARGE_BYTES", 100)
    (large,) = predict(checkpoint, tmp_path / "images", tmp_path / "large")
    assert (small.name, large.name) == ("a.tif", "a.ome.zarr")
    np.testing.assert_array_equal(pixels(large, ndim), pixels(small, ndim))
    one, other = (open_image(path, ndim=ndim).info for path in (small, large))
    assert sorted(one.axes) == sorted(other.axes)
    assert (one.dtype, one.unit) == (other.dtype, other.unit)
    assert one.pixel_size == pytest.approx(other.pixel_size)
    assert [p.name for p in (tmp_path / "large").iterdir()] == ["a.ome.zarr"]


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("task", ["crappify", "masking"])
def test_a_run_with_large_test_images(tmp_path, task):
    write(tmp_path / "images" / "a.tif", "YX", (70, 80), "uint8")
    array = write(tmp_path / "test" / "t.tif", "YX", (60, 90), "uint8", seed=1)
    asked = config(tmp_path, task)
    result, said = do(asked)
    run = run_of(asked)
    assert result.summary["test"]
    assert all(np.isfinite(v) for v in result.summary["test"].values())
    assert any("scored on" in event.message for event in said if event.kind == "warned")
    saved = {e.image_kind: e.path for e in said if e.kind == "image_saved" and e.image == "t"}
    made = pixels(run.per_image / "t.ome.zarr", 2)
    assert made.shape == (1, 1, 60, 90)
    if task == "crappify":
        assert set(saved) == {"restored", "worsened"}
        assert not (run.ssl_source() / "train" / "a.ome.zarr").exists()  # worsened anew
        assert pixels(saved["worsened"], 2).std() > 0
        return
    assert saved["original"] == str(tmp_path / "test" / "t.tif")
    hidden = pixels(saved["hidden"], 2) == 1
    assert 0.6 < hidden.mean() < 0.9
    for kind in ("masked", "reconstruction_and_visible"):
        np.testing.assert_array_equal(pixels(saved[kind], 2)[~hidden], array[None, None][~hidden])
    np.testing.assert_array_equal(made, pixels(saved["reconstruction"], 2))


@pytest.mark.usefixtures("everything_is_large")
def test_stored_copies_of_large_images_are_trained_on(tmp_path):
    write(tmp_path / "images" / "a.tif", "YX", (70, 80), "uint8")
    asked = config(tmp_path, "crappify", pretext={"task": "crappify", "fresh": False})
    do(asked)
    copies = run_of(asked).ssl_source() / "train"
    assert sorted(p.name for p in copies.iterdir()) == ["a.ome.zarr", "ssl_source.json"]
    assert json.loads((copies / "ssl_source.json").read_text())["copies"].keys() == {"a.ome.zarr"}


def test_hidden_tokens_of_any_box_are_those_of_the_frame():
    task = Masking(token_size=(4, 4), mask_ratio=0.75)
    for whole in (True, False):
        tokens = HiddenTokens(task, (1100, 700), (1, 2), whole=whole)
        frame = tokens((slice(0, 1100), slice(0, 700)))
        assert frame.mean() == pytest.approx(0.75, abs=1e-3)
        box = (slice(500, 530), slice(505, 600))
        np.testing.assert_array_equal(tokens(box), frame[box])
        seen = tokens.pixels((slice(2001, 2119), slice(2022, 2399)))
        wide = np.kron(frame, np.ones((4, 4), bool))
        np.testing.assert_array_equal(seen, wide[2001:2119, 2022:2399])


def test_a_result_by_tile_is_whole_or_absent(tmp_path):
    write(tmp_path / "a.tif", "YX", (30, 40), "uint8")
    image = open_image(tmp_path / "a.tif")
    place, box = tmp_path / "out" / "a.ome.zarr", (slice(0, 30), slice(0, 40))

    def stop_half_way():
        with TiledWriter(place, image, np.dtype(np.uint8)) as out:
            out.write(0, box, image.read(0))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stop_half_way()
    assert list(place.parent.iterdir()) == []
    for value in (3, 4):  # the second takes the place of the first
        with TiledWriter(place, image, np.dtype(np.uint8)) as out:
            out.write(0, box, np.full((1, 30, 40), value))
        assert list(place.parent.iterdir()) == [place]
        assert np.unique(pixels(place, 2)).tolist() == [value]
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        TiledWriter(tmp_path / "file" / "a.ome.zarr", image, np.dtype(np.uint8)),
    ):
        pass


PEAKS = """
import sys
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.spec.config import PretrainConfig
for number, volume in enumerate(sys.argv[1:]):
    fields = {
        "name": f"job{number}", "result_dir": sys.argv[1] + "_results",
        "data": {"train": volume, "patch_size": [16, 32, 32]},
        "pretext": {"task": "masking", "token_size": 8},
        "backbone": {"name": "residual_unet", "features_per_stage": [4, 8]},
        "training": {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2},
        "compute": {"device": "cpu", "workers": 1, "precision": "fp32"},
    }
    print(pretrain(PretrainConfig.from_dict(fields)).summary["peak_memory_gb"])
"""


def test_peak_memory_does_not_grow_with_the_image(tmp_path):
    """Sparse volumes of 0.1 and 1.2 GB; the long form is benchmarks/memory_curve.py."""
    paths = []
    for depth in (24, 290):
        paths.append(tmp_path / str(depth) / "volume.tif")
        paths[-1].parent.mkdir()
        shape = (depth, 2048, 2048)
        tifffile.imwrite(
            paths[-1], shape=shape, dtype=np.uint8, bigtiff=True, metadata={"axes": "ZYX"}
        )
    words = [sys.executable, "-c", PEAKS, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    small, large = map(float, done.stdout.split())
    assert large < small + 0.3
