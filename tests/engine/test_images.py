import numpy as np
import pytest

from napari_ssl_pretrain.data.intensity import measure
from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine.images import (
    AUG_SAMPLES,
    mae_check_frames,
    save_image,
    save_mae_checks,
    save_samples,
)
from napari_ssl_pretrain.spec.run_dir import CHECK_KINDS, RunDir

RNG = np.random.default_rng(0)

# axes, shape, dtype, ndim, channels
CASES = {
    "plane": ("YX", (20, 30), np.uint8, 2, "all"),
    "channels": ("CYX", (3, 20, 30), np.uint16, 2, "all"),
    "some channels": ("ZCYX", (5, 3, 20, 30), np.uint16, 3, (2, 0)),
    "rgb": ("YXS", (20, 30, 3), np.uint8, 2, "all"),
    "movie": ("TYX", (4, 20, 30), np.uint8, 2, "all"),
    "planes of a volume": ("ZYX", (4, 20, 30), np.int16, 2, "all"),
    "float volume": ("ZYX", (6, 20, 30), np.float32, 3, "all"),
}


def make(folder, case):
    axes, shape, dtype, ndim, channels = CASES[case]
    if np.dtype(dtype).kind == "f":
        array = RNG.normal(0, 50, shape).astype(dtype)
        array.flat[7] = np.nan
    else:
        array = RNG.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    path = folder / f"{case}.tif"
    write_array(path, array, axes, pixel_size={"Y": 0.5, "X": 0.5}, unit="micron")
    return open_image(path, ndim=ndim, channels=channels)


def read(path, image):
    return [
        f
        for saved in [open_image(path, ndim=image.ndim)]
        for f in map(saved.read, range(saved.frames))
    ]


def test_check_frames_of_a_small_image():
    source = np.array([[[10, 20], [30, 40]]], np.uint8)
    hidden = np.array([[True, False], [False, True]])
    frames = mae_check_frames(source, np.array([[[-3.0, 7], [8, 300]]]), hidden, np.array([24.6]))
    assert tuple(frames) == CHECK_KINDS
    assert frames["original"].tolist() == source.tolist()
    assert frames["masked"].tolist() == [[[25, 20], [30, 25]]]
    assert frames["reconstruction"].tolist() == [[[0, 7], [8, 255]]]
    assert frames["reconstruction_and_visible"].tolist() == [[[0, 20], [30, 255]]]
    assert frames["hidden"].tolist() == [[[1, 0], [0, 1]]]
    assert all(f.dtype == np.uint8 for f in frames.values())


@pytest.mark.parametrize("case", CASES)
def test_mae_checks_agree_pixel_by_pixel(tmp_path, case):
    image = make(tmp_path, case)
    run = RunDir(tmp_path / "out", "job")
    sources = [image.read(k) for k in range(image.frames)]
    hidden = [RNG.random(image.spatial) < 0.75 for _ in sources]
    predictions = [RNG.normal(100, 300, s.shape).astype(np.float32) for s in sources]
    mean = measure(image, "zscore").mean
    name = image.info.name
    events = save_mae_checks(
        lambda kind: run.mae_check(name, kind), image, predictions, hidden, mean, 12
    )
    assert [e.image_kind for e in events] == list(CHECK_KINDS)
    saved = {}
    for event in events:
        assert event.path == str(run.mae_check(image.info.name, event.image_kind))
        assert event.step == 12
        written = open_image(event.path, ndim=image.ndim)
        expected = np.uint8 if event.image_kind == "hidden" else image.info.dtype
        assert written.info.dtype == expected
        assert written.info.axes == image.info.axes == event.axes
        assert (written.frames, written.spatial) == (image.frames, image.spatial)
        assert written.in_channels == image.in_channels
        assert written.info.pixel_size == pytest.approx(image.info.pixel_size)
        saved[event.image_kind] = read(event.path, image)
    for k, source in enumerate(sources):
        covered = saved["hidden"][k] == 1
        assert (covered == hidden[k]).all()
        for kind in ("masked", "reconstruction_and_visible"):
            np.testing.assert_array_equal(saved[kind][k][~covered], source[~covered])
        np.testing.assert_array_equal(saved["original"][k], source)
        np.testing.assert_array_equal(
            saved["reconstruction_and_visible"][k][covered], saved["reconstruction"][k][covered]
        )
        for channel, at, level in zip(saved["masked"][k], covered, mean, strict=True):
            assert len(np.unique(channel[at])) == 1
            assert channel[at][0] == pytest.approx(level, abs=0.51)


def test_restored_images_are_rounded_and_clipped(tmp_path):
    image = make(tmp_path, "channels")
    result = RNG.normal(30000, 60000, (3, 20, 30)).astype(np.float32)
    event = save_image(tmp_path / "out" / "a.tif", [result], image, "restored", 3)
    [written] = read(event.path, image)
    np.testing.assert_array_equal(written, np.clip(np.rint(result), 0, 65535).astype(np.uint16))
    assert event.source == str(image.info.path)


@pytest.mark.parametrize("case", CASES)
def test_samples_are_small_images_of_the_same_kind(tmp_path, case):
    image = make(tmp_path, case)
    run = RunDir(tmp_path / "out", "job")
    shape = (image.in_channels, *(min(n, 8) for n in image.spatial))
    patches = [RNG.uniform(0, 200, shape) for _ in range(AUG_SAMPLES + 2)]
    numbers = [0] * len(patches)
    events = save_samples(run, [image], numbers, patches, patches, 1)
    assert len(events) == 2 * AUG_SAMPLES
    assert len(set(run.aug.iterdir())) == 2 * AUG_SAMPLES
    assert events[1].path == str(run.aug / f"00_{image.info.name}_target.tif")
    written = open_image(events[0].path, ndim=image.ndim)
    assert written.info.dtype == image.info.dtype
    assert written.info.axes == events[0].axes
    expected = patches[0].astype(np.float32)
    if image.info.dtype.kind != "f":
        expected = np.rint(patches[0])
    np.testing.assert_array_equal(written.read(0), expected)
