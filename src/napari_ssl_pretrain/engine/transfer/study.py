"""A transfer study from its checks to its findings: the same question, asked of every arm."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ssl_pretrain.engine.hardware import find_device, has_fast_bf16
from napari_ssl_pretrain.engine.inputs import custom_statistics
from napari_ssl_pretrain.engine.load import spec_from
from napari_ssl_pretrain.engine.transfer import finetune as ft
from napari_ssl_pretrain.engine.transfer.checks import Study, check
from napari_ssl_pretrain.engine.transfer.examples import (
    Example,
    PatchDrawer,
    fold_seed,
    load_examples,
    split_validation,
)
from napari_ssl_pretrain.engine.transfer.pictures import choose_pictures
from napari_ssl_pretrain.engine.transfer.records import CurvePoint, Score, TransferResult
from napari_ssl_pretrain.engine.transfer.scores import score_units
from napari_ssl_pretrain.engine.transfer.statistics import verdict
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.transfer import CONTROL, RATES, SWEEP_SHARE, SWEPT_ARMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ssl_pretrain.data.labels import LabelledImage
    from napari_ssl_pretrain.engine.transfer.records import Picture
    from napari_ssl_pretrain.spec.transfer import Arm, TransferConfig

VALIDATION_SHARE = 0.2
"""Part of each labelled image kept for validation, at the far end of its longest axis."""

FEWEST_UNITS = 4
"""With fewer test images than this, each is scored in blocks."""

TIMED_STEPS = 6
FEWEST_STEPS = 20


class Stopped(Exception):
    """The user asked to stop."""


def transfer(
    config: TransferConfig,
    *,
    emit: Callable[[ev.AnyEvent], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TransferResult:
    """Fine-tune from scratch and from the checkpoint on few labels, and score both.

    Parameters
    ----------
    config
        What is asked.
    emit
        Called with events of the progress.
    should_stop
        Asked at each step; True ends the study. What was compared until then is returned with
        ``stopped`` set, if every arm was scored at one number of labels at least.

    Raises
    ------
    CheckpointError, ConfigError, DataError
        What the user can mend; nothing was trained.
    Stopped
        ``should_stop`` said so before anything could be compared.
    """
    study = check(config)
    return Runner(study, emit or (lambda _: None), should_stop or (lambda: False)).run()


class Runner:
    """Does the work of a study.

    Parameters
    ----------
    study
        What is asked.
    say
        Told of the progress.
    should_stop
        Asked at each step.
    """

    def __init__(
        self, study: Study, say: Callable[[ev.AnyEvent], None], should_stop: Callable[[], bool]
    ) -> None:
        self.study, self._say, self._should_stop = study, say, should_stop
        config, data = study.config, study.pretraining.data
        device = find_device(config.device, "device")
        precision = config.precision
        if precision == "auto":
            precision = "bf16" if has_fast_bf16(device) else "fp32"
        self.setting = ft.Setting(
            spec_from(study.state, config.checkpoint),
            study.scheme.count,
            tuple(data.patch_size),
            study.pretraining.training.batch_size,
            torch.device(device),
            torch.bfloat16 if precision == "bf16" else None,
        )
        self._examples: dict[str, list[Example]] = {}
        self._scores: list[Score] = []
        self._curve: list[CurvePoint] = []
        self._rates: dict[str, float] = {}
        self._sweep: list[dict[str, Any]] = []
        self._predictions: dict[tuple[str, str], np.ndarray] = {}  # of first frames, for pictures
        self._done = self._total = 0
        self._began = self._last_said = time.monotonic()
        self._parameters = 0

    def run(self) -> TransferResult:
        """Run the study and return its findings."""
        study, config = self.study, self.study.config
        for sentence in (study.scheme.note, *study.notes):
            self._say(ev.Warned(message=sentence))
        for pair in study.test.images:
            self._read(pair)
        steps = self._plan()
        self._choose_rates(steps)
        stopped = not self._compare(steps)
        return TransferResult(
            config=config.model_dump(mode="json"),
            checkpoint_card=self._card(),
            scheme_note=study.scheme.note,
            classes=tuple(study.scheme.names),
            notes=study.notes,
            learning_rates=self._rates,
            sweep=tuple(self._sweep),
            steps=steps,
            seconds=time.monotonic() - self._began,
            scores=tuple(self._scores),
            curve=tuple(self._curve),
            pictures=self._pictures(),
            planned=config.seeds * len(study.n_labels) * len(config.arms),
            stopped=stopped,
        )

    def _compare(self, steps: int) -> bool:
        """Fine-tune every arm; return whether all was done before a wish to stop.

        Raises
        ------
        Stopped
            Nothing can be compared yet.
        """
        arms, done = self.study.config.arms, 0
        try:
            for seed, count in self._repetitions():
                for arm in arms:
                    if arm != CONTROL:
                        self._one(arm, count, seed, steps)
                done += 1
            if CONTROL in arms and verdict(self._scores).word == "helps":
                for seed, count in self._repetitions():
                    self._one(CONTROL, count, seed, steps)
            self._total = self._done  # the control may not have been needed
            self._say_progress("compared", 0)
        except Stopped:
            if not done:
                raise
            return False
        return True

    def _repetitions(self) -> list[tuple[int, int]]:
        """Return seed and number of labels of each repetition."""
        first, count = self.study.config.seed, self.study.config.seeds
        return [(seed, n) for seed in range(first, first + count) for n in self.study.n_labels]

    def _card(self) -> dict[str, Any]:
        state = self.study.state
        return {
            "task": state["task"],
            "backbone": state["backbone"]["name"],
            "step": state["step"],
            "parameters": self._parameters,
        }

    def _read(self, pair: LabelledImage) -> list[Example]:
        """Return an image's frames; each image is read once."""
        key = str(pair.image.info.path)
        if key not in self._examples:
            normalization = self.study.pretraining.data.normalization
            custom = custom_statistics(self.study.state)
            self._examples[key] = load_examples(pair, self.study.scheme, normalization, custom)
        return self._examples[key]

    def _subset(self, count: int, seed: int) -> list[Example]:
        """Return the frames of a repetition's first images: subsets of one order, so nested."""
        images = self.study.learn.images
        order = np.random.default_rng((fold_seed(seed), 1)).permutation(len(images))
        return [frame for k in order[:count] for frame in self._read(images[int(k)])]

    def _plan(self) -> int:
        """Time a few steps and return how many fit into a fine-tuning."""
        config, examples = self.study.config, self._subset(self.study.n_labels[-1], 0)
        learn, check = split_validation(examples, VALIDATION_SHARE)
        model = self._start("scratch", 0)
        self._parameters = sum(p.numel() for p in model.parameters())
        drawer = self._drawer(learn, 0)
        stamps: list[float] = []

        def stamp(_: int) -> None:
            self._heed()
            stamps.append(time.monotonic())

        ft.finetune(
            model, self.setting, drawer, (), ft.Schedule("scratch", TIMED_STEPS, 1e-4), stamp
        )
        began = time.monotonic()
        ft.validation_score(model, self.setting, check)
        looks = (time.monotonic() - began) * ft.EVALUATIONS
        step = float(np.median(np.diff(stamps[1:])))
        steps = max(FEWEST_STEPS, int((60 * config.minutes - looks) / step))
        trainings = config.seeds * len(self.study.n_labels) * len(config.arms)
        swept = len(SWEPT_ARMS) * len(RATES)
        self._total = trainings * steps + swept * max(FEWEST_STEPS, round(SWEEP_SHARE * steps))
        return steps

    def _choose_rates(self, steps: int) -> None:
        """Choose each arm's rate by short trainings; those not swept take the pretrained's."""
        short = max(FEWEST_STEPS, round(SWEEP_SHARE * steps))
        examples = self._subset(self.study.n_labels[-1], self.study.config.seed)
        learn, check = split_validation(examples, VALIDATION_SHARE)
        seed = self.study.config.seed
        for arm in SWEPT_ARMS:
            for rate in RATES:
                tuned = ft.finetune(
                    self._start(arm, seed),
                    self.setting,
                    self._drawer(learn, seed),
                    check,
                    ft.Schedule(arm, short, rate),
                    partial(self._tick, f"choosing the rate, {arm}"),
                )
                self._sweep.append({"arm": arm, "rate": rate, "iou": tuned.kept})
            mine = [row for row in self._sweep if row["arm"] == arm]
            self._rates[arm] = max(mine, key=lambda row: row["iou"])["rate"]
        for arm in self.study.config.arms:
            self._rates.setdefault(arm, self._rates["pretrained"])

    def _start(self, arm: Arm, seed: int) -> Any:
        return ft.start_network(
            self.setting,
            arm,
            fold_seed(seed, 2) % 2**31,
            self.study.state["model"],
            self.study.config.checkpoint,
        )

    def _drawer(self, examples: Sequence[Example], seed: int) -> PatchDrawer:
        setting = self.setting
        return PatchDrawer(examples, setting.tile, setting.batch_size, seed, setting.device)

    def _one(self, arm: Arm, count: int, seed: int, steps: int) -> None:
        """Fine-tune one arm once, and score it on all test images."""
        learn, check = split_validation(self._subset(count, seed), VALIDATION_SHARE)
        labels = "label" if count == 1 else "labels"
        what = f"{arm}, {count} {labels}, repetition {seed - self.study.config.seed + 1}"
        tuned = ft.finetune(
            self._start(arm, seed),
            self.setting,
            self._drawer(learn, seed),
            check,
            ft.Schedule(arm, steps, self._rates[arm]),
            partial(self._tick, what),
        )
        self._curve += [
            CurvePoint(arm, count, seed, step, steps, score) for step, score in tuned.curve
        ]
        scheme, few = self.study.scheme, self._frames() < FEWEST_UNITS
        found: list[Score] = []
        pictured = count == self.study.n_labels[-1] and seed == self.study.config.seed
        for pair in self.study.test.images:
            for number, frame in enumerate(self._read(pair)):
                made = ft.predict_classes(
                    tuned.model, self.setting, frame.image, mirrored=True, tick=self._heed
                )
                if pictured and number == 0:
                    self._predictions[arm, pair.name] = made
                for name, box in units(frame.classes.shape, few=few):
                    unit = " ".join(filter(None, (pair.name, f"[{number}]" * (number > 0), name)))
                    scores = score_units(made[box], frame.classes[box], scheme)
                    found.append(Score(arm, count, seed, pair.name, unit, **scores))
        self._scores += found
        mean = float(np.mean([score.iou for score in found]))
        self._say(ev.FineTuned(arm=arm, n_labels=count, seed=seed, iou=mean))

    def _frames(self) -> int:
        return sum(len(self._read(pair)) for pair in self.study.test.images)

    def _pictures(self) -> tuple[Picture, ...]:
        count, seed = self.study.n_labels[-1], self.study.config.seed
        mine = [s for s in self._scores if s.n_labels == count and s.seed == seed]
        shown = {pair.name: self._read(pair)[0] for pair in self.study.test.images}
        if not {"scratch", "pretrained"} <= {s.arm for s in mine}:
            return ()  # stopped before
        arms = [arm for arm in self.study.config.arms if arm != CONTROL]
        return choose_pictures(mine, shown, self._predictions, arms, count)

    def _heed(self) -> None:
        if self._should_stop():
            raise Stopped

    def _tick(self, what: str, _: int) -> None:
        self._heed()
        self._done += 1
        now = time.monotonic()
        if now - self._last_said < 1 and self._done < self._total:
            return
        self._last_said = now
        self._say_progress(what, (now - self._began) / self._done * (self._total - self._done))

    def _say_progress(self, what: str, left: float) -> None:
        self._say(
            ev.Progress(
                stage="transfer",
                done=self._done,
                total=self._total,
                message=what,
                seconds_left=left,
            )
        )


def units(shape: tuple[int, ...], *, few: bool) -> list[tuple[str, tuple[slice, ...]]]:
    """Return the parts of a frame that are scored, with a name: all of it, or four blocks."""
    if not few:
        return [("", (slice(None),) * len(shape))]
    axes = sorted(range(len(shape)), key=lambda k: -shape[k])[:2]
    found: list[tuple[str, tuple[slice, ...]]] = []
    for number in range(4):
        box = [slice(None)] * len(shape)
        for bit, axis in enumerate(axes):
            half = shape[axis] // 2
            box[axis] = slice(half, None) if number >> bit & 1 else slice(0, half)
        found.append((f"[block {number + 1}]", tuple(box)))
    return found
