"""What the docks remember from one session to the next: the form, and the run last watched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSettings

from napari_ssl_pretrain.spec.run_dir import RunDir

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
