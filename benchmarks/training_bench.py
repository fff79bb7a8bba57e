"""One job's training by our loop and by a bare one, for the benchmarks of speed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from biapy_settings import SETTINGS

from napari_ssl_pretrain.engine import feed as fd
from napari_ssl_pretrain.engine.backbones import backbone_spec
from napari_ssl_pretrain.engine.loop import Trainer
from napari_ssl_pretrain.engine.losses import pixel_loss
from napari_ssl_pretrain.engine.machine import Machine
from napari_ssl_pretrain.engine.prepare import make_plan, patch_sets, prepare_images
from napari_ssl_pretrain.engine.report import Reporter
from napari_ssl_pretrain.engine.state import TrainState
from napari_ssl_pretrain.engine.validate import Validator
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from napari_ssl_pretrain.engine.prepare import Plan
    from napari_ssl_pretrain.pretext import PretextBatch


def settings_parser(about: str | None) -> argparse.ArgumentParser:
    """Return a command line that says which settings are measured, on what data."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0] if about else None)
    parser.add_argument("--data", type=Path, nargs="+", help="folders of planes and volumes")
    parser.add_argument("--work", type=Path, help="folder that keeps the images that were cut")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="names, with commas")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser


class TrainingBench:
    """A job whose training can be measured, without validation and test.

    Parameters
    ----------
    fields
        Its configuration.
    work
        Folder for what the run writes.
    """

    def __init__(self, fields: dict[str, Any], work: Path) -> None:
        config = PretrainConfig(**fields)
        self.run = RunDir(work, config.name)
        for folder in self.run.folders(config.pretext.task):
            folder.mkdir(parents=True, exist_ok=True)
        self.report = Reporter(None)
        self.report.open(self.run.events, append=False)
        plan = make_plan(config, self.report)
        train = prepare_images(plan, plan.survey.train, "train", self.run, self.report)
        self.patches, _ = patch_sets(plan, train, None)
        self.config = plan.config
        spec = backbone_spec(plan.config, plan.survey.in_channels, plan.survey.voxel_size)
        self.machine = Machine(plan.config, spec, None, None)
        self.device = self.machine.device
        self.trainer = self._trainer(plan)
        self.batch = self._one_batch()

    def _trainer(self, plan: Plan) -> Trainer:
        training = plan.config.training
        self.feed = fd.Feed(plan.task, training.seed, self.device)
        self.state = TrainState(steps=0)
        return Trainer(
            plan.config,
            self.machine.accelerator,
            self.machine.wrapped,
            self.machine.optimizer,
            self.feed,
            self.patches,
            Validator(self.feed, [], training.loss),
            self.state,
        )

    def _one_batch(self) -> PretextBatch:
        training = self.config.training
        indices = range(training.batch_size)
        asked = self.patches, training.seed, range(1), indices, 0
        host = next(fd.training_batches(*asked, augment=False))
        return self.feed.to_device(host, fd.Purpose.PRETEXT)

    def ours(self, steps: int) -> None:
        """Train by our loop; no epoch ends within."""
        self.state.steps = self.state.step + steps
        self.trainer.run(self.report, self.run.stop_file.exists, lambda *_: None, lambda: None)

    def bare(self, steps: int, network: Any = None) -> None:
        """Train on the one batch: forward, loss, backward, step.

        Parameters
        ----------
        steps
            How many.
        network
            Stands for the network, such as its compiled form; None takes it as it is.
        """
        model, optimizer = self.machine.model.train(), self.machine.optimizer.optimizer
        model = model if network is None else network
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.compute.precision)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                prediction = self.batch.restored(model)
            loss = pixel_loss(
                self.config.training.loss,
                prediction.float(),
                self.batch.target,
                self.batch.scored,
            )
            loss.backward()
            optimizer.step()

    def wait(self) -> None:
        """Wait until the device has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """Close the run's log."""
        self.report.close()
