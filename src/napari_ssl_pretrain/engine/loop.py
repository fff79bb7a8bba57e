"""The training loop: one for 2D and 3D, every task, one device and many."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch
from accelerate.optimizer import AcceleratedOptimizer

from napari_ssl_pretrain.engine import feed as fd
from napari_ssl_pretrain.engine.losses import pixel_loss
from napari_ssl_pretrain.engine.optim import learning_rate_at, learning_rate_of, set_learning_rate
from napari_ssl_pretrain.engine.ranks import ALONE, Ranks
from napari_ssl_pretrain.engine.state import EpochRow
from napari_ssl_pretrain.errors import RunFailed
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator

    from napari_ssl_pretrain.engine.report import Reporter
    from napari_ssl_pretrain.engine.state import TrainState
    from napari_ssl_pretrain.engine.validate import Validator
    from napari_ssl_pretrain.spec.resolve import ResolvedConfig

MAX_SKIPPED_IN_A_ROW = 20
PLAN_AFTER_STEPS = 8
PLAN_AFTER_SHARE = 0.04
REPLAN_EVERY = 25
OFF = 0.15
"""A plan is made anew when it would miss the wish by this share; looked at every so often."""

UNKNOWN = 10**9
"""Stands for a number of steps that ``max_minutes`` has not decided yet."""


class Trainer:
    """Runs steps until the plan is done, patience is out, or someone wishes to stop.

    Parameters
    ----------
    config
        Resolved configuration.
    accelerator
        Knows devices, precision and processes.
    model, optimizer
        As prepared by the accelerator.
    feed, patches
        Make batches.
    validator
        Scores the state of the network at each epoch's end.
    state
        Where the training stands; changed as it goes on.
    ranks
        The processes of the run, which share each batch.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a training
        self,
        config: ResolvedConfig,
        accelerator: Accelerator,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        feed: fd.Feed,
        patches: fd.PatchSet,
        validator: Validator,
        state: TrainState,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.config, self.accelerator, self.model, self.optimizer = (
            config,
            accelerator,
            model,
            optimizer,
        )
        self.feed, self.patches, self.validator, self.state = feed, patches, validator, state
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._skipped_in_a_row = 0
        self._began = self._waits_since = time.monotonic()
        self._elapsed_before = state.elapsed
        self._plan_is_kept = state.planned  # a resumed run ends as it was planned
        self._rates: list[float] = []
        self.first_step_done: float | None = None

    def run(
        self,
        report: Reporter,
        should_stop: Callable[[], bool],
        on_epoch: Callable[[EpochRow, bool], None],
        on_tick: Callable[[], None],
    ) -> ev.FinishReason:
        """Train from the state's step to its plan and say why it ended.

        Parameters
        ----------
        report
            Receives the events of steps and epochs.
        should_stop
            Asked after each step.
        on_epoch
            Called with the new row and whether it is the best, after each validation.
        on_tick
            Called after each step, to save the state now and then.

        Raises
        ------
        RunFailed
            The loss stays non-finite.
        """
        while self.state.step < self.state.steps:
            ended = self._run_planned(report, should_stop, on_epoch, on_tick)
            if ended is not None:
                return ended
        training = self.config.training
        cut = self.state.steps < training.epochs * training.steps_per_epoch
        return "time" if training.max_minutes and cut else "done"

    def _run_planned(
        self,
        report: Reporter,
        should_stop: Callable[[], bool],
        on_epoch: Callable[[EpochRow, bool], None],
        on_tick: Callable[[], None],
    ) -> ev.FinishReason | None:
        """Run the steps planned so far; None when the plan was done or has changed."""
        state, training = self.state, self.config.training
        plan = state.steps
        self._waits_since = time.monotonic()
        for host in fd.training_batches(
            self.patches,
            training.seed,
            range(state.step, plan),
            self.ranks.share(training.batch_size),
            self.config.compute.workers,
            augment=training.augment,
        ):
            stop = self._one_step(host, report, should_stop)
            if state.step % training.steps_per_epoch == 0 or state.step == state.steps:
                row, best = self._end_epoch(report)
                on_epoch(row, best)
                if training.patience and state.bad_epochs >= training.patience:
                    return "patience"
            on_tick()
            if stop or (self.ranks.size == 1 and should_stop()):
                return "stop"
            self._plan(report)
            if state.steps != plan:
                return None
            self._waits_since = time.monotonic()
        return None

    def _one_step(
        self, host: fd.HostBatch, report: Reporter, should_stop: Callable[[], bool]
    ) -> bool:
        """Take a step; return whether one of several processes wishes to stop."""
        training, state = self.config.training, self.state
        known = state.planned or training.max_minutes is None
        rate = learning_rate_at(
            state.step,
            state.steps if known else UNKNOWN,
            training.learning_rate,
            training.warmup_steps,
        )
        set_learning_rate(self.optimizer, rate)
        batch = self.feed.to_device(host, fd.Purpose.PRETEXT)
        if not self.model.training:  # it is a walk through all its modules
            self.model.train()
        prediction = batch.restored(self.model).float()
        loss = pixel_loss(training.loss, prediction, batch.target, batch.scored)
        # the mean over the processes of the gradients is then that of the whole batch
        share = len(host.indices) * self.ranks.size / training.batch_size
        self._backward(loss * share if self.ranks.size > 1 else loss)
        value, stop = self._told(float(loss.detach()), share, should_stop)
        self._update(value)
        state.step += 1
        state.patches += training.batch_size
        if math.isfinite(value):
            state.loss_sum += value
            state.loss_count += 1
        took = time.monotonic() - self._waits_since  # waiting for images is part of a step
        state.seconds += took
        state.epoch_seconds += took
        state.elapsed = self._elapsed_before + time.monotonic() - self._began
        if self.first_step_done is None:
            self.first_step_done = time.time()
        self._tell_step(value, rate, took, report)
        return stop

    def _told(
        self, value: float, share: float, should_stop: Callable[[], bool]
    ) -> tuple[float, bool]:
        """Return the loss of the whole batch, and whether one of several processes shall stop."""
        if self.ranks.size == 1:
            return value, False
        wishes = [value * share / self.ranks.size, float(should_stop())]
        value, stop = self.ranks.sum(wishes, self.accelerator.device)
        return value, stop > 0

    def _update(self, value: float) -> None:
        """Clip, check, and take the step unless loss or gradient is non-finite.

        Raises
        ------
        RunFailed
            That was so too often in a row.
        """
        norm = self._clip()
        scaled = self.accelerator.scaler is not None
        finite = math.isfinite(value) and (scaled or math.isfinite(norm))
        if finite:
            self._step()
            self._skipped_in_a_row = 0
        else:
            self.state.skipped_steps += 1
            self._skipped_in_a_row += 1
        self.optimizer.zero_grad(set_to_none=True)
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise RunFailed(
                "training.learning_rate",
                f"the loss was not finite for {MAX_SKIPPED_IN_A_ROW} steps in a row",
                value=self.config.training.learning_rate,
                remedy="Lower training.learning_rate, or set compute.precision to fp32.",
            )

    def _backward(self, loss: torch.Tensor) -> None:
        # accelerate's own looks for an optional package on the disk at every call
        scaler = self.accelerator.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()

    def _step(self) -> None:
        if self.accelerator.scaler is None and isinstance(self.optimizer, AcceleratedOptimizer):
            self.optimizer.optimizer.step()  # for the same reason
        else:
            self.optimizer.step()

    def _clip(self) -> float:
        """Return the length of the gradient, which is scaled only where it is too long."""
        self.accelerator.unscale_gradients()
        limit = self.config.training.gradient_clip or math.inf
        gradients = [p.grad for p in self._trained if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        length = float(norm)
        if length > limit:  # NaN is not, and such a step is never taken
            torch.nn.utils.clip_grads_with_norm_(self._trained, limit, norm)
        return length

    def _tell_step(self, value: float, rate: float, took: float, report: Reporter) -> None:
        state, training = self.state, self.config.training
        self._rates = [*self._rates[-49:], took]
        if self._skipped_in_a_row == 1:
            report(ev.Warned(message=f"Step {state.step} had a non-finite loss and was skipped."))
        if not (report.step_due() or state.step == state.steps) or not math.isfinite(value):
            return
        a_step = sum(self._rates) / len(self._rates)
        left = (state.steps - state.step) * (
            a_step + self.validator.seconds / training.steps_per_epoch
        )
        report(
            ev.StepFinished(
                step=state.step,
                steps=state.steps,
                epoch=(state.step - 1) // training.steps_per_epoch + 1,
                loss=value,
                learning_rate=rate,
                patches_per_second=training.batch_size / a_step,
                seconds_left=left,
            )
        )

    def _end_epoch(self, report: Reporter) -> tuple[EpochRow, bool]:
        state, training = self.state, self.config.training
        # a wrapped network talks to the other processes, which may have fewer batches
        loss, metrics = self.validator(self.accelerator.unwrap_model(self.model))
        mean = state.loss_sum / state.loss_count if state.loss_count else math.nan
        score = loss if math.isfinite(loss) else math.inf
        best = score < state.best_score
        state.best_score = min(score, state.best_score)
        # without validation there is nothing to lose patience about
        state.bad_epochs = 0 if best or not metrics else state.bad_epochs + 1
        row = EpochRow(
            epoch=math.ceil(state.step / training.steps_per_epoch),
            step=state.step,
            train_loss=_finite(mean),
            validation_loss=_finite(loss),
            learning_rate=learning_rate_of(self.optimizer),
            seconds=state.epoch_seconds,
            patches_per_second=state.loss_count
            * training.batch_size
            / max(1e-9, state.epoch_seconds),
            metrics={name: _finite(value) for name, value in metrics.items()},
        )
        state.history.append(row)
        state.loss_sum, state.loss_count, state.epoch_seconds = 0.0, 0, 0.0
        report(
            ev.EpochFinished(
                epoch=row.epoch,
                epochs=state.epochs(training.steps_per_epoch),
                step=row.step,
                train_loss=row.train_loss,
                validation_loss=row.validation_loss,
                metrics=row.metrics,
                learning_rate=row.learning_rate,
                best=best,
            )
        )
        return row, best

    def _plan(self, report: Reporter) -> None:
        """Turn ``max_minutes`` into steps when the speed is known, and anew when it changes."""
        minutes, state = self.config.training.max_minutes, self.state
        if minutes is None or self._plan_is_kept:
            return
        if state.planned and state.step % REPLAN_EVERY:
            return
        steps = self._agreed(self._wanted_steps(minutes * 60))
        most = self.config.training.epochs * self.config.training.steps_per_epoch
        steps = min(steps, most)
        if steps == 0 or (state.planned and steps == state.steps):
            return
        state.steps, state.planned = steps, True
        report(
            ev.StepsPlanned(
                steps=state.steps,
                epochs=state.epochs(self.config.training.steps_per_epoch),
                seconds_a_step=self._seconds_a_step(),
            )
        )

    def _wanted_steps(self, budget: float) -> int:
        """Return how many steps the budget's seconds allow; 0 to leave the plan as it is."""
        state, left = self.state, budget - self.state.elapsed
        if state.planned:
            off = abs(state.elapsed + self._rest(state.steps) - budget) > OFF * budget
            if not off or state.step >= state.steps:
                return 0
        else:
            steady = len(self._rates) >= PLAN_AFTER_STEPS
            if not steady or state.elapsed < PLAN_AFTER_SHARE * budget:
                return 0
            if not self.validator.seconds and self.ranks.size == 1:
                self.validator(self.model)
        return state.step + max(1, int(max(0.0, left) / self._seconds_a_step()))

    def _seconds_a_step(self) -> float:
        # the first steps pay for allocations and are no measure of the later ones
        steady = self._rates[3:] or self._rates
        validation = self.validator.seconds / self.config.training.steps_per_epoch
        return sum(steady) / len(steady) + validation

    def _rest(self, steps: int) -> float:
        return (steps - self.state.step) * self._seconds_a_step()

    def _agreed(self, number: int) -> int:
        """Return the first process's number in all of them; their clocks differ."""
        own = float(number if self.ranks.rank == 0 else 0)
        return int(self.ranks.sum([own], self.accelerator.device)[0])


def _finite(value: float) -> float:
    """Keep logs and JSON free of NaN: a non-finite loss is told as the largest number."""
    return value if math.isfinite(value) else 1e30
