"""Stands in for a real run: says and writes what one does, in a second instead of minutes.

The name of the job says how it ends: ``crash…`` is killed, ``usage…`` is refused;
``slow…`` takes its time.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np

from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.data.writers import write_image
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

STEPS, PAUSE = 40, 0.03


class Fake:
    def __init__(self, config: PretrainConfig, *, resume: bool) -> None:
        self.config, self.resume = config, resume
        self.run = RunDir(Path(config.result_dir), config.name, config.run_id)
        self.step = 0

    def say(self, event: ev.AnyEvent) -> None:
        with self.run.events.open("a", encoding="utf-8") as file:
            file.write(event.to_line())

    def begin(self) -> None:
        for folder in self.run.folders(self.config.pretext.task):
            folder.mkdir(parents=True, exist_ok=True)
        self.run.stop_file.unlink(missing_ok=True)
        last = self.run.checkpoint("last")
        if self.resume:
            self.step = int(last.read_text())
        self.say(
            ev.ProcessStarted(
                pid=os.getpid(),
                host=socket.gethostname(),
                config=self.config.to_yaml(),
                resumed=self.resume,
            )
        )
        self.say(
            ev.RunStarted(
                task=self.config.pretext.task,
                backbone="unet",
                parameters=1000,
                device="cpu",
                precision="fp32",
                patch_size=(64, 64),
                batch_size=4,
                epochs=4,
                steps_per_epoch=10,
                steps=STEPS,
                step=self.step,
            )
        )

    def one_step(self) -> None:
        self.step += 1
        loss = 1 / self.step
        self.say(
            ev.StepFinished(
                step=self.step,
                steps=STEPS,
                epoch=self.step // 10,
                loss=loss,
                learning_rate=1e-3,
                patches_per_second=100.0,
                seconds_left=(STEPS - self.step) * PAUSE,
            )
        )
        if self.step % 10 == 0:
            self.epoch(loss)

    def epoch(self, loss: float) -> None:
        self.say(
            ev.EpochFinished(
                epoch=self.step // 10,
                epochs=4,
                step=self.step,
                train_loss=loss,
                validation_loss=loss * 1.1,
                metrics={},
                learning_rate=1e-3,
                best=True,
            )
        )
        for which in ("best", "last"):
            self.save(which)
        self.images()

    def save(self, which: str) -> None:
        path = self.run.checkpoint(which)
        path.write_text(str(self.step))
        self.say(ev.CheckpointSaved(which=which, path=str(path), step=self.step))

    def images(self) -> None:
        source = Path(self.config.data.train[0])
        files = sorted(source.glob("*.tif"))[:2] if source.is_dir() else [source]
        masking = self.config.pretext.task == "masking"
        kinds = ("original", "masked", "reconstruction") if masking else ("worsened", "restored")
        for file in files:
            image = open_image(file)
            frames = [image.read(f) for f in range(image.frames)]
            for kind in kinds:
                path = self.run.mae_check(image.info.name, kind)
                if kind == "restored":
                    path = self.run.restored(image.info.name)
                changed = [f if kind == "original" else f // 2 + self.step for f in frames]
                write_image(path, [np.asarray(f, image.info.dtype) for f in changed], image)
                self.say(
                    ev.ImageSaved(
                        image_kind=kind,
                        image=image.info.name,
                        path=str(path),
                        source=str(file),
                        axes=image.info.axes,
                        step=self.step,
                    )
                )

    def go(self) -> None:
        self.begin()
        while self.step < STEPS:
            time.sleep(5 * PAUSE if self.config.name.startswith("slow") else PAUSE)
            self.one_step()
            if self.config.name.startswith("crash") and self.step > 20:
                sys.stdout.write("Traceback: gone\n")
                os.kill(os.getpid(), signal.SIGKILL)
            if self.run.stop_file.exists():
                self.save("last")
                self.finish("stopped", "stop")
                return
        self.save("last")
        self.finish("finished", "done")

    def finish(self, state: str, reason: str) -> None:
        self.say(
            ev.RunFinished(
                state=state,
                reason=reason,
                message="Done.",
                epochs_done=self.step // 10,
                epochs_planned=4,
            )
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--config")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    config = PretrainConfig.from_yaml(args.config)
    if config.name.startswith("usage"):
        sys.stderr.write("error: compute.device: cuda: is not on this machine. Available: cpu.\n")
        return 2
    Fake(config, resume=args.resume).go()
    return 0


if __name__ == "__main__":
    sys.exit(main())
