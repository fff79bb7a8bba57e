"""Stands in for a real transfer study: says and writes what one does, in a second.

The folder's name says how it goes: ``usage…`` is refused, ``crash…`` is killed, ``slow…`` takes
its time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from napari_ssl_pretrain.data.writers import write_text
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.study_dir import StudyDir
from napari_ssl_pretrain.spec.transfer import TransferConfig
from napari_ssl_pretrain.spec.yaml_io import dump_yaml

GAIN = {"scratch": 0.0, "pretrained": 0.06, "frozen": 0.03, "shuffled": 0.01}
SENTENCE = "Pretraining helps: +6.0 IoU points (95 % interval +4.0 to +8.0) over 2 seeds."


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}


class Fake:
    def __init__(self, config: TransferConfig) -> None:
        self.config = config
        self.study = StudyDir(Path(config.output))
        self.done = 0

    def say(self, event: ev.AnyEvent) -> None:
        with self.study.events.open("a", encoding="utf-8") as file:
            file.write(event.to_line())

    def go(self) -> None:
        self.study.results.mkdir(parents=True, exist_ok=True)
        self.study.stop_file.unlink(missing_ok=True)
        text = dump_yaml(self.config.model_dump(mode="json"))
        self.say(ev.ProcessStarted(pid=os.getpid(), host=socket.gethostname(), config=text))
        self.say(ev.Warned(message="The labels are two classes: background and foreground."))
        for seed in range(self.config.seeds):
            for n in self.config.n_labels:
                for arm in self.config.arms:
                    if not self.tune(arm, n, seed):
                        self.stop()
                        return
        self.report()
        self.finish("finished", "done", SENTENCE)

    def tune(self, arm: str, n: int, seed: int) -> bool:
        name = self.study.run_name
        time.sleep(0.4 if name.startswith("slow") else 0.03)
        if name.startswith("crash") and seed:
            sys.stdout.write("Traceback: gone\n")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        self.done += 1
        total = self.config.fine_tunings
        message = f"{arm}, {n} labels, repetition {seed + 1}"
        left = 0.05 * (total - self.done)
        self.say(
            ev.Progress(
                stage="transfer", done=self.done, total=total, message=message, seconds_left=left
            )
        )
        iou = 0.6 + 0.01 * n + 0.004 * seed + GAIN[arm]
        self.say(ev.FineTuned(arm=arm, n_labels=n, seed=seed, iou=iou))
        return not self.study.stop_file.exists()

    def stop(self) -> None:
        message = "Stopped before the end: no report."
        if self.done >= len(self.config.arms):
            self.report()
            message = f"Stopped early; so far: {SENTENCE}"
        self.finish("stopped", "stop", message)

    def report(self) -> None:
        config = self.config
        gains = [
            {
                "arm": arm,
                "rows": [{"n_labels": n, "iou": interval(GAIN[arm])} for n in config.n_labels],
            }
            for arm in config.arms
            if arm != "scratch"
        ]
        summary = {
            "verdict": "helps",
            "sentence": SENTENCE,
            "caution": "Two seeds tell little.",
            "gains": gains,
            "scores": [
                {"arm": a, "n_labels": n, "iou": 0.6 + GAIN[a]}
                for a in config.arms
                for n in config.n_labels
            ],
            "labels_saved": [{"sentence": "With 2 labels it saves about 3 of 5 labels."}],
        }
        self.study.pictures.mkdir()
        for number, kind in enumerate(("median", "worst"), start=1):
            for shown in ("image", "truth", "scratch", "pretrained"):
                shape = (12, 16) if shown == "image" else (12, 16, 3)
                picture = np.full(shape, 40 * number, np.uint8)
                iio.imwrite(self.study.pictures / f"{number}_{kind}_{shown}.png", picture)
        write_text(self.study.report, "<html>report</html>")
        write_text(self.study.summary, json.dumps(summary))

    def finish(self, state: str, reason: str, message: str) -> None:
        self.say(ev.RunFinished(state=state, reason=reason, message=message))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--json", action="store_true")
    for name in TransferConfig.model_fields:
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    given = {k: v for k, v in vars(args).items() if k in TransferConfig.model_fields and v}
    config = TransferConfig(**given)
    if Path(config.output).name.startswith("usage"):
        sys.stderr.write("error: --labels: /x: a.tif has no label. Add it.\n")
        return 2
    Fake(config).go()
    return 0


if __name__ == "__main__":
    sys.exit(main())
