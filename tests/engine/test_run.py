"""Whole runs: each task, 2D and 3D, one and two channels, every normalisation."""

# ruff: noqa: TID251

import csv
import math
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from run_samples import config, do, events, run_of, summary, tree, write
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.engine import session
from napari_ssl_pretrain.engine.checkpoint import KEYS

NORMALIZATIONS = ("zscore", "percentile", "minmax", "divide", "custom")
DTYPES = ("uint8", "uint16", "float32", "int16", "float64")
AXES = {(2, 1): "YX", (2, 2): "CYX", (3, 1): "ZYX", (3, 2): "ZCYX"}
SIDES = {"C": 2, "Z": 8, "Y": 21, "X": 26}
CASES = [
    SimpleNamespace(
        task=task, ndim=ndim, channels=channels, normalization=normalization, number=number
    )
    for number, (task, ndim, channels, normalization) in enumerate(
        product(("crappify", "masking"), (2, 3), (1, 2), NORMALIZATIONS)
    )
]


def case_id(case):
    return f"{case.task}-{case.ndim}d-{case.channels}c-{case.normalization}"


@pytest.fixture(scope="module", params=CASES, ids=case_id)
def whole(request, tmp_path_factory):
    """Return a run that was done, without its charts, which take most of the time."""
    case = request.param
    folder = tmp_path_factory.mktemp("run")
    axes, dtype = AXES[case.ndim, case.channels], DTYPES[case.number % 4]
    shape = tuple(SIDES[a] for a in axes)
    write(folder / "images" / "a.tif", axes, shape, dtype, 1)
    source = write(folder / "test" / "t.tif", axes, shape, dtype, 2)
    before = {part: tree(folder / part) for part in ("images", "test")}
    backbone = "mae_vit" if case.task == "masking" and case.number % 2 else "residual_unet"
    flat = case.ndim == 2
    asked = config(
        folder,
        case.task,
        backbone,
        data={"patch_size": [16, 16] if flat else [4, 16, 16], "normalization": case.normalization},
        pretext={"token_size": 4 if flat else [2, 4, 4]},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_charts", lambda *_: None)
        patch.setattr(session, "draw_model_plot", lambda *_: None)
        patch.setattr(session, "VALIDATION_PIXELS", 8 * 16**2)
        result, said = do(asked)
    return SimpleNamespace(
        case=case,
        folder=folder,
        before=before,
        asked=asked,
        run=run_of(asked),
        said=said,
        result=result,
        source=source,
        axes=axes,
        image=folder / "test" / "t.tif",
    )


def expected_files(case, name="job", run_id=1):
    """Return the names of section 3 of the interface, those of charts and logs apart."""
    run = f"{name}_{run_id}"
    files = {
        f"config_files/{name}.yaml",
        f"config_files/{run}_resolved.yaml",
        f"checkpoints/{run}-checkpoint-best.pth",
        f"checkpoints/{run}-checkpoint-last.pth",
        f"results/{run}/per_image/t.tif",
        f"results/{run}/train_logs/{run}_log.csv",
        *(f"results/{run}/{f}" for f in ("test_metrics.csv", "summary.json", "events.jsonl")),
        *(f"results/{run}/aug/{k:02}_a_{p}.tif" for k in range(10) for p in ("input", "target")),
    }
    if case.normalization == "custom":
        files |= {f"checkpoints/normalization_{n}_value.npy" for n in ("mean", "std")}
    if case.task == "crappify":
        copies = ("train/a.tif", "train/ssl_source.json", "test/t.tif", "test/ssl_source.json")
        return files | {f"results/{run}/ssl_source/{c}" for c in copies}
    kinds = ("original", "masked", "reconstruction", "reconstruction_and_visible", "hidden")
    return files | {f"results/{run}/MAE_checks/t_{kind}.tif" for kind in kinds}


def test_exactly_the_documented_files_are_left(whole):
    files = set(tree(whole.run.job))
    logs = {f for f in files if "/tensorboard/events.out.tfevents." in f}
    assert len(logs) == 1
    assert files - logs == expected_files(whole.case)
    assert set(whole.folder.iterdir()) == {whole.folder / n for n in ("images", "test", "results")}
    assert set((whole.folder / "results").iterdir()) == {whole.run.job}


def test_nothing_is_written_beside_the_images(whole):
    assert {part: tree(whole.folder / part) for part in whole.before} == whole.before


def test_events_begin_and_end_as_agreed(whole):
    written = events(whole.run)
    assert None not in written
    assert written == whole.said
    kinds = [e.kind for e in whole.said]
    assert kinds[0] == "process_started"
    assert kinds[-1] == "run_finished"
    for once in ("process_started", "data_checked", "run_started", "run_finished"):
        assert kinds.count(once) == 1
    assert kinds.index("data_checked") < kinds.index("run_started") < kinds.index("epoch_finished")
    last = whole.said[-1]
    assert (last.state, last.reason) == ("finished", "done")
    assert (last.epochs_done, last.epochs_planned) == (2, 2)
    for event in whole.said:
        if event.kind in {"image_saved", "checkpoint_saved"}:
            assert Path(event.path).is_file()
    epochs = [e for e in whole.said if e.kind == "epoch_finished"]
    assert [(e.epoch, e.step) for e in epochs] == [(1, 2), (2, 4)]


def test_summary_has_every_number(whole):
    found = summary(whole.run)
    assert found == {**whole.result.summary, "test": found["test"], "seconds": found["seconds"]}
    assert (found["state"], found["reason"], found["task"]) == ("finished", "done", whole.case.task)
    assert (found["epochs"], found["steps"]) == (2, 4)
    assert (found["device"], found["precision"], found["batch_size"]) == ("cpu", "fp32", 2)
    assert len(found["patch_size"]) == whole.case.ndim
    model = torch.load(whole.run.checkpoint("best"), weights_only=True)["model"]
    once = {v.untyped_storage().data_ptr(): v.numel() for v in model.values()}
    assert found["parameters"] == sum(once.values())
    for number in (
        found["patches_per_second"],
        found["peak_memory_gb"],
        *found["seconds"].values(),
    ):
        assert math.isfinite(number)
        assert number > 0
    assert set(found["seconds"]) == {"start", "prepare", "train", "test", "total"}


def test_checkpoints_hold_every_key(whole):
    best, last = (
        torch.load(whole.run.checkpoint(which), weights_only=True) for which in ("best", "last")
    )
    documented = {
        *("format_version", "model", "backbone", "task", "axes", "ndim", "in_channels"),
        *("normalization", "patch_size", "voxel_size", "config", "epoch", "step", "metrics"),
        "versions",
    }
    assert set(KEYS) == documented
    assert documented <= set(best)
    assert {*documented, "optimizer", "schedule", "scaler", "random", "best_score"} <= set(last)
    assert not {"optimizer", "state"} & set(best)
    assert best["in_channels"] == whole.case.channels
    assert best["ndim"] == whole.case.ndim
    assert last["step"] == 4
    spacing = (0.5, 0.25, 0.25)[-whole.case.ndim :]
    assert best["voxel_size"] == pytest.approx(spacing)


def images_left(whole):
    paths = [whole.run.restored("t")]
    if whole.case.task == "crappify":
        return [*paths, whole.run.ssl_source() / "test" / "t.tif"]
    return [*paths, *whole.run.mae_checks.iterdir()]


def test_images_keep_dtype_axes_shape_and_pixel_size(whole):
    source = open_image(whole.image).info
    assert source.pixel_size["X"] == pytest.approx(0.25)
    for path in images_left(whole):
        info = open_image(path).info
        wanted = np.uint8 if path.stem.endswith("_hidden") else source.dtype
        assert (info.axes, info.shape, info.dtype) == (source.axes, source.shape, wanted)
        assert info.pixel_size == pytest.approx(source.pixel_size)
        assert info.unit == source.unit


def row_of(whole):
    with whole.run.test_metrics.open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


def channels_first(whole, path):
    array = tifffile.imread(path)
    if whole.case.channels == 1:
        return array[None]
    return np.moveaxis(array, whole.axes.index("C"), 0)


def psnr_and_ssim(truth, other):
    span = float(truth.max()) - min(0.0, float(truth.min()))
    truth, other = truth.astype(float), other.astype(float)
    similar = [
        structural_similarity(a, b, data_range=span, win_size=7)
        for a, b in zip(truth, other, strict=True)
    ]
    return peak_signal_noise_ratio(truth, other, data_range=span), np.mean(similar)


def test_figures_equal_an_independent_computation(whole):
    row = row_of(whole)
    assert row.pop("image") == "t"
    found = {name: float(value) for name, value in row.items()}
    assert found == pytest.approx(summary(whole.run)["test"])
    truth = channels_first(whole, whole.image)
    made = channels_first(whole, whole.run.restored("t"))
    if whole.case.task == "crappify":
        worse = channels_first(whole, whole.run.ssl_source() / "test" / "t.tif")
        error = made.astype(float) - truth
        names = ("psnr", "ssim", "mae", "mse", "psnr_input", "ssim_input")
        after, before = psnr_and_ssim(truth, made), psnr_and_ssim(truth, worse)
        wanted = (*after, np.abs(error).mean(), (error**2).mean(), *before)
    else:
        hidden = channels_first(whole, whole.run.mae_check("t", "hidden")).astype(bool)
        axes = tuple(range(1, truth.ndim))
        mean, spread = (f(axis=axes, keepdims=True) for f in (truth.mean, truth.std))
        level = np.where(hidden, np.nan, truth.astype(float))
        level = np.nanmean(level, axis=axes, keepdims=True) + 0 * truth
        one = ((made - mean) / spread - (truth - mean) / spread)[hidden]
        two = ((level - truth) / spread)[hidden]
        names = ("hidden_mse", "hidden_mse_mean", "hidden_mse_inpaint")
        wanted = (np.mean(one**2), np.mean(two**2), found["hidden_mse_inpaint"])
        assert 0 < found["hidden_mse_inpaint"] < 10
    assert tuple(found) == names
    assert tuple(found.values()) == pytest.approx(wanted, rel=1e-3)


def test_visible_parts_are_the_sources_bit_by_bit(whole):
    if whole.case.task != "masking":
        return
    kinds = {
        k: tifffile.imread(p) for k, p in ((p.stem, p) for p in whole.run.mae_checks.iterdir())
    }
    hidden = kinds["t_hidden"].astype(bool)
    assert set(np.unique(kinds["t_hidden"])) == {0, 1}
    assert 0.6 < hidden.mean() < 0.9
    np.testing.assert_array_equal(kinds["t_original"], whole.source)
    for kind in ("t_masked", "t_reconstruction_and_visible"):
        np.testing.assert_array_equal(kinds[kind][~hidden], whole.source[~hidden])
    together, made = kinds["t_reconstruction_and_visible"], kinds["t_reconstruction"]
    np.testing.assert_array_equal(together[hidden], made[hidden])
    np.testing.assert_array_equal(tifffile.imread(whole.run.restored("t")), made)
    masked = np.moveaxis(kinds["t_masked"], whole.axes.find("C"), 0)
    for channel, cover in zip(
        masked.reshape(whole.case.channels, -1),
        np.moveaxis(hidden, whole.axes.find("C"), 0).reshape(whole.case.channels, -1),
        strict=True,
    ):
        assert len(np.unique(channel[cover])) == 1


def test_custom_statistics_are_those_of_the_training_set(whole):
    if whole.case.normalization != "custom":
        return
    train = channels_first(whole, whole.folder / "images" / "a.tif")
    flat = train.reshape(len(train), -1).astype(float)
    mean, std = (np.load(p) for p in (whole.run.normalization_mean, whole.run.normalization_std))
    np.testing.assert_allclose(mean, flat.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(std, flat.std(axis=1), rtol=1e-5)


@pytest.mark.usefixtures("quick")
def test_the_resolved_configuration_runs_again_to_the_same_weights(planes):
    asked = config(planes, "masking", training={"seed": 5})
    do(asked)
    run = run_of(asked)
    again = type(asked).from_yaml(run.resolved_config).replace(run_id=2)
    do(again)
    one, two = (
        torch.load(r.checkpoint("last"), weights_only=True)["model"] for r in (run, run_of(again))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert type(asked).from_yaml(run.config) == again.replace(run_id=2)


@pytest.mark.parametrize("task", ["crappify", "masking"])
def test_charts_and_validation_copies(planes, task):
    write(planes / "validation" / "v.tif", "YX", (20, 20), "uint8", 4)
    asked = config(planes, task, data={"validation": str(planes / "validation")})
    do(asked)
    run = run_of(asked)
    metrics = {
        "crappify": {"loss", "psnr", "psnr_input", "mae", "mse"},
        "masking": {"loss", "hidden_mse", "hidden_mse_mean"},
    }[task]
    names = {f"job_1_{m}.png" for m in metrics} | {"model_plot_job_1.png"}
    assert {p.name for p in run.charts.iterdir()} == names
    copies = {p.name for p in (run.ssl_source() / "validation").glob("*.tif")}
    assert copies == ({"v.tif"} if task == "crappify" else set())
    log = run.train_log.read_text().splitlines()
    assert len(log) == 3
    assert set(log[0].split(",")) >= metrics - {"loss"}
