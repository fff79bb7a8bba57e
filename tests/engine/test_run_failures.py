"""Runs that fail or are refused say why, and leave nothing half done."""

from pathlib import Path

import numpy as np
import pytest
import torch
from run_samples import (
    config,
    do,
    events,
    last_state,
    raising,
    run_of,
    smooth,
    stop_after,
    summary,
    tree,
    write,
)

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine import feed, loop, session, states
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.errors import CheckpointError, ConfigError, DataError, RunFailed

pytestmark = pytest.mark.usefixtures("quick")


def assert_failed(asked, text):
    last = events(run_of(asked))[-1]
    assert (last.kind, last.state, last.reason) == ("run_finished", "failed", "error")
    assert text in last.message
    assert summary(run_of(asked))["state"] == "failed"


def test_out_of_memory_names_the_knobs(planes, monkeypatch):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB\nmore")
    monkeypatch.setattr(feed.Feed, "to_device", raising(error))
    asked = config(planes, "masking")
    with pytest.raises(RunFailed) as caught:
        do(asked)
    for knob in ("training.batch_size 2", "data.patch_size [16, 16]", "backbone.size", "on cpu"):
        assert knob in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_failed(asked, "training.batch_size 2")


def test_a_full_disk_is_said_though_the_summary_cannot_be_written(planes, monkeypatch):
    full = OSError(28, "No space left on device", "/disk/x.pth")
    monkeypatch.setattr(states, "save", raising(full))
    monkeypatch.setattr(session, "write_summary", raising(full))
    asked = config(planes, "masking")
    with pytest.raises(RunFailed, match=r"disk is full \(/disk/x.pth\)"):
        do(asked)
    last = events(run_of(asked))[-1]
    assert (last.kind, last.state) == ("run_finished", "failed")


def test_interrupted_runs_say_so(planes):
    asked = config(planes, "masking")
    with pytest.raises(KeyboardInterrupt):
        do(asked, should_stop=raising(KeyboardInterrupt()))
    last = events(run_of(asked))[-1]
    assert (last.state, last.reason) == ("stopped", "interrupt")


def nonfinite_at(steps, monkeypatch):
    real, count = loop.pixel_loss, iter(range(1, 10**6))

    def loss(*words):
        return real(*words) * (float("nan") if next(count) in steps else 1.0)

    monkeypatch.setattr(loop, "pixel_loss", loss)


def test_a_nonfinite_loss_is_skipped_and_said(planes, monkeypatch):
    nonfinite_at({2}, monkeypatch)
    asked = config(planes, "masking")
    result, said = do(asked)
    assert result.summary["skipped_steps"] == 1
    assert [e.message for e in said if e.kind == "warned" and "non-finite" in e.message] == [
        "Step 2 had a non-finite loss and was skipped."
    ]
    assert all(v.isfinite().all() for v in last_state(asked)["model"].values())
    assert np.isfinite([e.train_loss for e in said if e.kind == "epoch_finished"]).all()


def test_a_loss_that_stays_nonfinite_ends_the_run(planes, monkeypatch):
    nonfinite_at(range(3, 1000), monkeypatch)
    asked = config(planes, "masking", training={"epochs": 50})
    with pytest.raises(RunFailed, match=r"learning_rate.*not finite.*Lower"):
        do(asked)
    assert_failed(asked, "training.learning_rate")


def test_a_nonfinite_validation_is_survived(planes, monkeypatch):
    bad = (float("nan"), {"hidden_mse": float("nan"), "hidden_mse_mean": float("inf")})
    monkeypatch.setattr(session.Validator, "__call__", lambda *_: bad)
    asked = config(planes, "masking")
    result, _ = do(asked)
    assert None not in events(run_of(asked))
    assert result.summary["state"] == "finished"
    assert "nan" not in run_of(asked).train_log.read_text()


@pytest.mark.parametrize("task", ["crappify", "masking"])
def test_odd_images_never_give_a_nonfinite_loss(tmp_path, task):
    spoilt = smooth((20, 20), 0).astype("float32")
    spoilt[3, 4], spoilt[0, 0] = np.nan, np.inf
    arrays = {
        "nan": spoilt,
        "constant": np.full((20, 20), 7, "float32"),
        "pixel": np.ones((1, 1), "float32"),
        "bright": smooth((20, 20), 1) * 1e30,
        "nothing": np.full((17, 17), np.nan, "float32"),
    }
    for name, array in arrays.items():
        for folder in ("images", "test"):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_array(tmp_path / folder / f"{name}.tif", array, "YX")
    asked = config(tmp_path, task, training={"epochs": 3, "steps_per_epoch": 4})
    result, _ = do(asked)
    assert result.summary["skipped_steps"] == 0
    assert result.summary["state"] == "finished"
    assert all(np.isfinite(v) for v in result.summary["test"].values())
    assert len(run_of(asked).test_metrics.read_text().splitlines()) == 6


# --- bad input ---


def bad(**groups):
    return groups


BAD = {
    "no folder": (bad(data={"train": "no/such"}), "data.train"),
    "rank": (bad(data={"patch_size": [8, 16, 16]}), r"data.patch_size: \[8, 16, 16\]"),
    "token": (bad(pretext={"token_size": 5}), r"data.patch_size: \[16, 16\]: must be a multiple"),
    "one token": (bad(pretext={"token_size": 16}), "pretext.token_size"),
    "token rank": (bad(pretext={"token_size": [2, 4, 4]}), "pretext.token_size"),
    "odd": (bad(pretext={"token_size": 5}, data={"patch_size": [15, 15]}), "data.patch_size"),
    "flat": (bad(data={"ndim": 3, "patch_size": "auto"}), "ndim"),
    "channel": (bad(data={"channels": [7]}), "7"),
    "axes": (bad(data={"axes": "ZCYX"}), "axes"),
    "device": (bad(compute={"device": "cuda:99"}), "compute.device: cuda:99"),
    "fp16": (bad(compute={"precision": "fp16"}), "compute.precision: fp16"),
    "network": (bad(network={"name": "resnet"}), "backbone.name: resnet: is no known network"),
    "start": (bad(training={"load_checkpoint": "no.pth"}), "no.pth: no such file"),
    "start by name": (bad(training={"load_checkpoint": "best"}), "load_checkpoint: best"),
    "heads": (
        bad(network={"name": "mae_vit", "embed_dim": 15, "num_heads": 3}),
        "backbone.embed_dim: 15",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_written(planes, case, monkeypatch):
    monkeypatch.chdir(planes)
    groups, text = BAD[case]
    before = tree(planes)
    said = []
    with pytest.raises((ConfigError, DataError, CheckpointError), match=text) as caught:
        pretrain(config(planes, "masking", **groups), emit=said.append)
    assert "\n" not in str(caught.value)
    assert tree(planes) == before
    assert {p.name for p in planes.iterdir()} == {"images", "test"}
    assert "run_started" not in {e.kind for e in said}


def test_crappify_refuses_what_it_cannot_use(planes):
    with pytest.raises(ConfigError, match=r"backbone.name: mae_vit: cannot learn crappify"):
        do(config(planes, "crappify", "mae_vit"))
    copies = planes / "mine"
    write(copies / "train" / "a.tif", "YX", (20, 20), "uint8")
    asked = config(
        planes,
        "crappify",
        data={"train": str(copies / "train")},
        pretext={"ssl_source_dir": str(copies)},
    )
    with pytest.raises(ConfigError, match="ssl_source_dir"):
        do(asked)
    assert not (planes / "results").exists()


def test_a_file_is_no_result_folder(planes):
    (planes / "results").write_text("mine")
    with pytest.raises(ConfigError, match=r"result_dir.*is a file"):
        do(config(planes, "masking"))
    assert (planes / "results").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resume": True}, "no run to resume"),
        ({"resume": True, "overwrite": True}, "cannot go with"),
    ],
)
def test_impossible_wishes(planes, options, text):
    with pytest.raises(ConfigError, match=text):
        do(config(planes, "masking"), **options)
    assert not (planes / "results").exists()


def test_a_corrupt_file_is_skipped_by_name(planes):
    good = (planes / "images" / "a.tif").read_bytes()
    (planes / "images" / "torn.tif").write_bytes(good[: len(good) // 2])
    (planes / "images" / "text.tif").write_text("no image")
    result, said = do(config(planes, "masking"))
    told = " ".join([*(e.message for e in said if e.kind == "warned"), *checked(said).skipped])
    assert "torn.tif" in told
    assert "text.tif" in told
    assert result.summary["state"] == "finished"


def checked(said):
    (event,) = (e for e in said if e.kind == "data_checked")
    return event


# --- starting from other weights ---


def test_weights_to_start_from_by_name_and_by_path(planes):
    asked = config(planes, "masking")
    do(asked)
    trained = last_state(asked, "best")["model"]
    path = run_of(asked).checkpoint("best")
    for number, start in enumerate(("best", "last", str(path)), start=2):
        again = asked.replace(
            run_id=number, training=asked.training.replace(load_checkpoint=start, epochs=1)
        )
        _, said = do(again, should_stop=stop_after(1))
        (report,) = (e.message for e in said if e.kind == "warned" and "loaded" in e.message)
        assert report == f"{start}: 100% of the network loaded"
    fresh = config(planes, "masking", run_id=9)
    do(fresh, should_stop=stop_after(1))
    near, far = (
        sum(float((last_state(c)["model"][n] - v).square().sum()) for n, v in trained.items())
        for c in (again, fresh)
    )
    assert near < far


def test_weights_that_do_not_fit_are_refused(planes):
    asked = config(planes, "masking")
    do(asked)
    other = config(
        planes,
        "masking",
        "mae_vit",
        run_id=2,
        training={"load_checkpoint": str(run_of(asked).checkpoint("best"))},
    )
    with pytest.raises(CheckpointError, match=r"fits only 0% of the network"):
        do(other)
    assert not run_of(other).results.exists()
    assert Path(run_of(asked).checkpoint("best")).exists()


def test_images_that_cannot_be_decoded_are_refused_before_anything_is_written(planes, monkeypatch):
    asked = config(planes, "crappify")
    broken = DataError("a.tif", "cannot be decoded", remedy="Export the image again.")
    monkeypatch.setattr("napari_ssl_pretrain.data.images.Image.read", raising(broken))
    before = tree(planes)
    with pytest.raises(DataError, match=r"no image can be read; a\.tif cannot be decoded"):
        do(asked)
    assert tree(planes) == before
