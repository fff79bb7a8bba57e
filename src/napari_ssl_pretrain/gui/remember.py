"""What the docks remember from one session to the next: form, run last watched, speeds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSettings

from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.study_dir import StudyDir

ORGANIZATION, APPLICATION = "napari", "napari-ssl-pretrain"


def _settings() -> QSettings:
    return QSettings(
        QSettings.Format.IniFormat, QSettings.Scope.UserScope, ORGANIZATION, APPLICATION
    )


def load(key: str) -> dict[str, Any]:
    """Return what was remembered; empty where nothing was, or nothing that can be read."""
    text = _settings().value(key, "{}")
    try:
        found = json.loads(str(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def save(key: str, fields: dict[str, Any]) -> None:
    """Remember."""
    _settings().setValue(key, json.dumps(fields))


def save_run(run: RunDir, *, watching: bool) -> None:
    """Remember the run last watched, and whether its end was seen."""
    fields = {"result_dir": str(run.result_dir), "name": run.name, "run_id": run.run_id}
    save("run", fields | {"watching": watching})


def load_run() -> tuple[RunDir | None, bool]:
    """Return the run last watched, and whether its end was not seen."""
    fields = load("run")
    try:
        run = RunDir(Path(fields["result_dir"]), str(fields["name"]), int(fields["run_id"]))
    except (KeyError, TypeError, ValueError):
        return None, False
    return run, bool(fields.get("watching"))


def save_study(study: StudyDir, *, watching: bool) -> None:
    """Remember the transfer study last watched, and whether its end was seen."""
    save("study", {"results": str(study.results), "watching": watching})


def load_study() -> tuple[StudyDir | None, bool]:
    """Return the transfer study last watched, and whether its end was not seen."""
    fields = load("study")
    place = fields.get("results")
    if not isinstance(place, str):
        return None, False
    return StudyDir(Path(place)), bool(fields.get("watching"))


def speed_key(backbone: str, size: str, device: str, patch_size: tuple[int, ...]) -> str:
    """Return under which name the speed of a network on a device is remembered."""
    return f"{backbone} {size} {device} {math.prod(patch_size)}"


def save_speed(key: str, patches_per_second: float) -> None:
    """Remember how fast a network learned here."""
    save("speeds", load("speeds") | {key: patches_per_second})


def load_speeds() -> dict[str, float]:
    """Return the speeds of earlier runs."""
    return {k: float(v) for k, v in load("speeds").items() if isinstance(v, int | float) and v > 0}
