"""One run from its checks to its summary: the order of things, each done by its own module."""

from __future__ import annotations

import io
import math
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.writers import write_bytes, write_text
from napari_ssl_pretrain.engine import checks, states
from napari_ssl_pretrain.engine import feed as fd
from napari_ssl_pretrain.engine.backbones import BackboneSpec, backbone_spec
from napari_ssl_pretrain.engine.charts import draw_charts
from napari_ssl_pretrain.engine.failures import explain
from napari_ssl_pretrain.engine.hardware import GIB
from napari_ssl_pretrain.engine.leftovers import make_folders
from napari_ssl_pretrain.engine.logs import TensorBoardLog, TrainLog, write_summary
from napari_ssl_pretrain.engine.loop import Trainer
from napari_ssl_pretrain.engine.machine import Machine, peak_memory, process_start
from napari_ssl_pretrain.engine.model_plot import draw_model_plot
from napari_ssl_pretrain.engine.prepare import (
    ImageSet,
    Plan,
    custom_statistics,
    find_readable,
    make_plan,
    patch_sets,
    prepare_images,
)
from napari_ssl_pretrain.engine.state import EpochRow, TrainState
from napari_ssl_pretrain.engine.testing import PREVIEW_IMAGES, StopWished, Tester, is_previewed
from napari_ssl_pretrain.engine.validate import Validator
from napari_ssl_pretrain.errors import DataError, RunFailed
from napari_ssl_pretrain.spec import claim
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.engine.ranks import Ranks
    from napari_ssl_pretrain.engine.report import Reporter
    from napari_ssl_pretrain.spec.config import PretrainConfig
    from napari_ssl_pretrain.spec.run_dir import RunDir, Split

VALIDATION_PIXELS = 32 * 128**2
"""Pixels that a validation looks at, about 32 patches of 128²."""

SAVE_SECONDS = 5.0
PREVIEW_SECONDS = 15.0
"""Least time between two saves of the last state, and two looks at an image while it trains."""


class Session:
    """A run under way.

    Parameters
    ----------
    config
        What was asked.
    run
        Where everything goes.
    report
        Told of everything.
    ranks
        The other processes of the run.
    resume
        Whether to go on from the last checkpoint.
    """

    def __init__(
        self, config: PretrainConfig, run: RunDir, report: Reporter, ranks: Ranks, *, resume: bool
    ) -> None:
        self.config, self.run, self.report, self.resume = config, run, report, resume
        self.ranks = ranks
        self._seconds: dict[str, float] = {}
        self._began = time.monotonic()
        self._scores: dict[str, float] = {}
        self._trainer: Trainer | None = None
        self.plan: Plan
        self.spec: BackboneSpec
        self.state: TrainState
        self._resumed: dict[str, Any] | None = None
        self._start_weights: dict[str, Any] | None = None
        self._last_saved = self._last_preview = float("-inf")
        self._saved_plan = -1
        self.claim: claim.Claim | None = None

    def check(self) -> None:
        """Check configuration, images, machine and checkpoints; nothing is written.

        Raises
        ------
        ConfigError, DataError, CheckpointError
            What the user can mend.
        """
        self.plan = make_plan(self.config, self.report)
        found = self.plan.survey
        checks.refuse_own_results(found, self.run, self.config.result_dir)
        find_readable(found.train)
        self.spec = backbone_spec(self.plan.config, found.in_channels, found.voxel_size)
        training = self.plan.config.training
        self.state = TrainState(steps=training.epochs * training.steps_per_epoch)
        if self.resume:
            self._resumed = states.load_last(self.run, self.spec)
            if self._resumed:
                self.state = states.resumed_state(self._resumed, self.state.steps, training)
                for sentence in states.changes(self._resumed, self.plan.config):
                    self._warn(sentence)
        elif training.load_checkpoint:
            self._start_weights = states.load_start(training.load_checkpoint, self.run, self.spec)
        checks.agree(self.plan, self.state.step, self.ranks, self.report)

    @contextmanager
    def claimed(self, *, overwrite: bool) -> Iterator[None]:
        """Hold the run's folder: begun anew or gone on with, its log opened and closed."""
        if self.report.silent:
            self.ranks.wait_for("claimed")
            yield
            return
        with claim.held(self.run, value=self.run.run_id, say=self._warn) as self.claim:
            # another start may have begun and ended since it was looked for
            checks.refuse_existing(self.run, resume=self.resume, overwrite=overwrite)
            try:
                self._open(overwrite=overwrite)
                yield
            finally:
                self.report.close()

    def _open(self, *, overwrite: bool) -> None:
        """Make the folders and begin to say there what happens.

        Raises
        ------
        RunFailed
            The disk is full, or the folder closed.
        """
        try:
            make_folders(self.run, self.plan.config.pretext.task, overwrite=overwrite)
            self.report.open(self.run.events, append=self.resume)
        except OSError as error:
            disk, where = "Free some space and start again.", self.run.result_dir
            said = explain(error, memory="Out of memory.", where=where, disk=disk)
            raise RunFailed(self.run.run_name, said.rstrip(".")) from error

    def begin(self) -> None:
        """Write down what was asked; other processes wait for that."""
        if not self.report.silent:
            write_text(self.run.config, self.config.to_yaml())
            write_text(self.run.resolved_config, self.plan.config.to_yaml())
            self.ranks.tell("claimed")

    def _warn(self, sentence: str) -> None:
        self.report(ev.Warned(message=sentence))

    def train_and_test(self, should_stop: Callable[[], bool]) -> ev.FinishReason:
        """Do the work and return why training ended.

        Raises
        ------
        DataError
            No image could be read.
        RunFailed
            The training went wrong.
        """
        train, validation = self._prepare()
        machine = Machine(self.plan.config, self.spec, self._resumed, self._start_weights)
        if machine.load_report:
            self._warn(f"{self.config.training.load_checkpoint}: {machine.load_report}")
        feed = fd.Feed(self.plan.task, self.plan.config.training.seed, machine.device)
        learn, check = patch_sets(self.plan, train, validation)
        trainer = self._make_trainer(machine, feed, learn, check)
        tester = Tester(self.plan, self.run, self.report, machine, should_stop)
        shown = self._shown(train, validation)
        self._tell_start(machine)
        began = time.monotonic()
        reason = trainer.run(
            self.report,
            should_stop,
            lambda row, best: self._after_epoch(machine, tester, shown, row, best=best),
            lambda: self._after_step(machine),
        )
        self._seconds["train"] = time.monotonic() - began
        self._save(machine, "last")
        # without validation the last state is the best; one from before a resume is not
        if not (math.isfinite(self.state.best_score) and self.run.checkpoint("best").exists()):
            self._save(machine, "best")
        if self.report.silent:
            return reason
        self._draw(machine, tester, learn)
        return reason if reason == "stop" else self._tested(machine, tester, shown, reason)

    def _prepare(self) -> tuple[ImageSet, ImageSet | None]:
        began = time.monotonic()
        found = self.plan.survey
        custom = custom_statistics(self.plan)
        if custom is not None and not self.report.silent:
            self._save_statistics(*custom)
        self.plan = replace(self.plan, custom=custom)
        train = self._prepared(found.train, "train")
        if not train.clean:
            raise DataError(
                "data.train",
                "no image could be read",
                value=self.config.data.train[0],
                remedy="See the warnings above.",
            )
        validation = self._prepared(found.validation, "validation") if found.validation else None
        images = (*train.clean, *(validation.clean if validation else ()))
        self.ranks.compare("prepared", repr([image.info.name for image in images]))
        self._seconds["prepare"] = time.monotonic() - began
        return train, validation

    def _prepared(self, images: Sequence[Image], split: Split) -> ImageSet:
        return prepare_images(self.plan, images, split, self.run, self.report, self.ranks)

    def _save_statistics(self, mean: Any, std: Any) -> None:
        for path, value in ((self.run.normalization_mean, mean), (self.run.normalization_std, std)):
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(value), allow_pickle=False)
            write_bytes(path, buffer.getvalue())

    def _make_trainer(
        self, machine: Machine, feed: fd.Feed, learn: fd.PatchSet, check: fd.PatchSet | None
    ) -> Trainer:
        config = self.plan.config
        training = config.training
        batches = []
        if check is not None:
            count = max(4, min(256, VALIDATION_PIXELS // math.prod(config.data.patch_size)))
            batches = fd.validation_batches(check, training.seed, count, training.batch_size)
        validator = Validator(feed, batches, training.loss, self.ranks)
        self._trainer = Trainer(
            config,
            machine.accelerator,
            machine.wrapped,
            machine.optimizer,
            feed,
            learn,
            validator,
            self.state,
            self.ranks,
        )
        return self._trainer

    def _tell_start(self, machine: Machine) -> None:
        c = self.plan.config
        self.report(
            ev.RunStarted(
                task=c.pretext.task,
                backbone=c.backbone.name,
                parameters=machine.parameters,
                device=str(machine.device),
                precision=c.compute.precision,
                patch_size=c.data.patch_size,
                batch_size=c.training.batch_size,
                epochs=self.state.epochs(c.training.steps_per_epoch),
                steps_per_epoch=c.training.steps_per_epoch,
                steps=self.state.steps,
                step=self.state.step,
            )
        )

    def _after_epoch(
        self, machine: Machine, tester: Tester, shown: ImageSet, row: EpochRow, *, best: bool
    ) -> None:
        if self.report.silent:
            return
        if best:
            self._save(machine, "best")
        self._logs(row)
        if time.monotonic() - self._last_saved > SAVE_SECONDS:
            self._save(machine, "last")
        if time.monotonic() - self._last_preview > PREVIEW_SECONDS:
            tester.preview(shown, self.state.step)
            draw_charts(self.run, self.state.history)
            self._last_preview = time.monotonic()

    def _after_step(self, machine: Machine) -> None:
        # a plan made from max_minutes outlives a kill
        new_plan = self.state.planned and self.state.steps != self._saved_plan
        if new_plan or time.monotonic() - self._last_saved > 12 * SAVE_SECONDS:
            self._save(machine, "last")

    def _logs(self, row: EpochRow) -> None:
        TrainLog(self.run.train_log).write(self.state.history)
        if not hasattr(self, "_tensorboard"):
            self._tensorboard = TensorBoardLog(self.run.tensorboard, first_step=row.step)
        self._tensorboard.add(row)

    def _save(self, machine: Machine, which: Any) -> None:
        if self.report.silent:
            return
        if self.claim:
            self.claim.check()
        state = states.checkpoint_state(
            self.plan, self.spec, self.state, machine, resume=which == "last"
        )
        path = self.run.checkpoint(which)
        states.save(state, path)
        if which == "last":
            self._last_saved, self._saved_plan = time.monotonic(), self.state.steps
        self.report(ev.CheckpointSaved(which=which, path=str(path), step=self.state.step))

    def _draw(self, machine: Machine, tester: Tester, learn: fd.PatchSet) -> None:
        draw_charts(self.run, self.state.history)
        draw_model_plot(
            machine.model,
            (1, self.spec.in_channels, *self.plan.config.data.patch_size),
            self.run.model_plot,
        )
        tester.save_samples(learn)

    def _shown(self, train: ImageSet, validation: ImageSet | None) -> ImageSet:
        """Return the images that are looked at while it trains: the first of the test, if any."""
        if self.plan.survey.test and not self.report.silent:
            small = [image for image in self.plan.survey.test if is_previewed(image)]
            first = small[:PREVIEW_IMAGES]
            if not first:
                return ImageSet((), None, ())
            return self._prepared(first, "test")
        return validation or train

    def _tested(
        self, machine: Machine, tester: Tester, shown: ImageSet, reason: ev.FinishReason
    ) -> ev.FinishReason:
        try:
            self._test(machine, tester, shown)
        except StopWished:
            return "stop"
        return reason

    def _test(self, machine: Machine, tester: Tester, shown: ImageSet) -> None:
        began = time.monotonic()
        machine.load_best(self.run.checkpoint("best"))
        images = self.plan.survey.test
        if images:
            prepared = self._prepared(images, "test")
            self._scores = tester.test(prepared, self.state.step)
        else:
            tester.preview(shown, self.state.step)
        self._seconds["test"] = time.monotonic() - began

    @property
    def trained(self) -> bool:
        """Whether a step was done."""
        return self._trainer is not None and self._trainer.first_step_done is not None

    def epochs(self) -> tuple[int, int]:
        """Return epochs done and planned."""
        per_epoch = self.plan.config.training.steps_per_epoch
        planned = self.state.epochs(per_epoch)
        ended = self.state.step >= self.state.steps  # the last epoch may be short
        return planned if ended else self.state.step // per_epoch, planned

    def summarize(
        self, state: ev.FinishState, reason: ev.FinishReason, message: str
    ) -> dict[str, Any]:
        """Write and return what the run came to."""
        c, began = self.plan.config, process_start()
        first = self._trainer.first_step_done if self._trainer else None
        summary = {
            "state": state,
            "reason": reason,
            "message": message,
            "task": c.pretext.task,
            "epochs": self.epochs()[0],
            "steps": self.state.step,
            "steps_planned": self.state.steps,
            "parameters": self._parameters(),
            "device": c.compute.device,
            "precision": c.compute.precision,
            "backbone": c.backbone.name,
            "patch_size": list(c.data.patch_size),
            "batch_size": c.training.batch_size,
            "patches_per_second": self.state.patches_per_second,
            "seconds": {
                "start": first - began if first else None,
                **{name: self._seconds.get(name, 0.0) for name in ("prepare", "train", "test")},
                "total": time.time() - began,
            },
            "peak_memory_gb": peak_memory() / GIB,
            "best_validation_loss": self.state.best_score
            if math.isfinite(self.state.best_score)
            else None,
            "skipped_steps": self.state.skipped_steps,
            "test": self._scores,
        }
        if not self.report.silent:
            write_summary(self.run.summary, summary)
        return summary

    def _parameters(self) -> int:
        trainer = self._trainer
        return sum(p.numel() for p in trainer.model.parameters()) if trainer else 0
