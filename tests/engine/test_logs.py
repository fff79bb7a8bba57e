import csv
import json
import math
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from napari_ssl_pretrain.engine.logs import TensorBoardLog, TrainLog, write_summary
from napari_ssl_pretrain.engine.state import EpochRow


def row(epoch, loss=0.5, **metrics):
    return EpochRow(epoch, 10 * epoch, loss, loss / 2, 1e-3, 2.5, 64.0, metrics)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_training_log_has_one_row_an_epoch(tmp_path):
    log = TrainLog(tmp_path / "logs" / "a_1_log.csv")
    log.write([row(1, psnr=20.0, mae=3.0)])
    log.write([row(1, psnr=20.0, mae=3.0), row(2, psnr=21.5, mae=2.0)])
    rows = read(tmp_path / "logs" / "a_1_log.csv")
    assert list(rows[0]) == [
        *("epoch", "step", "train_loss", "validation_loss", "psnr", "mae"),
        *("learning_rate", "seconds", "patches_per_second"),
    ]
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert float(rows[1]["psnr"]) == 21.5
    assert [p.name for p in (tmp_path / "logs").iterdir()] == ["a_1_log.csv"]


def test_training_log_of_a_resumed_run_has_no_row_twice(tmp_path):
    path = tmp_path / "log.csv"
    TrainLog(path).write([row(1), row(2), row(3)])
    TrainLog(path).write([row(1), row(2, 0.4)])
    assert [(r["epoch"], r["train_loss"]) for r in read(path)] == [("1", "0.5"), ("2", "0.4")]


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e30])
def test_numbers_that_do_not_exist_are_left_out(tmp_path, loss):
    TrainLog(tmp_path / "log.csv").write([row(1), row(2, loss, psnr=loss)])
    rows = read(tmp_path / "log.csv")
    assert rows[1]["train_loss"] == rows[1]["psnr"] == rows[0]["psnr"] == ""
    TensorBoardLog(tmp_path / "tb").add(row(2, loss, psnr=loss))
    assert set(scalars(tmp_path / "tb")) == {"learning_rate", "patches_per_second"}
    write_summary(tmp_path / "summary.json", {"a": loss, "b": {"c": [1.5, loss]}, "d": None})
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text) == {"a": None, "b": {"c": [1.5, None]}, "d": None}


def test_tensorboard_has_one_tag_a_metric_at_the_true_steps(tmp_path):
    log = TensorBoardLog(tmp_path)
    for epoch in (1, 2, 3):
        log.add(row(epoch, 1 / epoch, psnr=20.0 + epoch))
    found = scalars(tmp_path)
    assert set(found) == {
        *("loss/train", "loss/validation", "metrics/psnr", "learning_rate", "patches_per_second")
    }
    assert found["metrics/psnr"] == [(10, 21), (20, 22), (30, 23)]
    assert len(list(tmp_path.iterdir())) == 1


def test_tensorboard_forgets_what_a_resume_repeats(tmp_path):
    killed = TensorBoardLog(tmp_path)
    for epoch in (1, 2, 3):
        killed.add(row(epoch, psnr=1.0))
    resumed = TensorBoardLog(tmp_path, first_step=20)
    resumed.add(row(2, psnr=2.0))
    resumed.add(row(3, psnr=3.0))
    assert scalars(tmp_path)["metrics/psnr"] == [(10, 1), (20, 2), (30, 3)]


def test_nothing_is_made_before_the_first_number(tmp_path):
    TensorBoardLog(tmp_path / "tb")
    assert not (tmp_path / "tb").exists()


def test_importing_the_logs_is_light():
    code = (
        "import sys; from napari_ssl_pretrain.engine import logs, charts, images, metrics;"
        "print([m for m in ('torch', 'tensorboard', 'matplotlib', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
