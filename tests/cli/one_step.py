"""A checkpoint after one step of a tiny network, for tests that only need one."""

import shutil

import pytest
import yaml

from napari_ssl_pretrain.cli import main


def config(train, patch_size=(16, 16)):
    """Return the configuration of one step on a folder of images."""
    return {
        "name": "job",
        "result_dir": "out",
        "data": {"train": train, "patch_size": list(patch_size)},
        "pretext": {"task": "crappify"},
        "backbone": {"size": "tiny", "features_per_stage": [4, 8], "blocks_per_stage": 1},
        "training": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2},
        "compute": {"device": "cpu", "precision": "fp32", "workers": 0},
    }


def train_one_step(place, fields):
    """Leave ``c.yaml`` and ``best.pth`` in a folder of images."""
    (place / "c.yaml").write_text(yaml.safe_dump(fields))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["run", "--config", "c.yaml"]) == 0
    shutil.move(place / "out/job/checkpoints/job_1-checkpoint-best.pth", place / "best.pth")
    shutil.rmtree(place / "out")
