"""``demo``: the main job on two real images that scikit-image carries; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.cli import report as reports
from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.output import make_report
from napari_ssl_pretrain.cli.run import DONE, INTERRUPTED, run_dir, train
from napari_ssl_pretrain.errors import DataError
from napari_ssl_pretrain.spec.config import PretrainConfig

if TYPE_CHECKING:
    from argparse import Namespace

MINUTES = 2.0


@dataclass(frozen=True)
class Subject:
    """One demonstration.

    Attributes
    ----------
    file
        Name of the image in scikit-image.
    about
        What it shows.
    tiles
        Rows and columns that it is cut into; the last column is the test.
    """

    file: str
    about: str
    tiles: tuple[int, int]


SUBJECTS = {
    "crappify": Subject("ihc.png", "stained colon tissue, RGB", (2, 4)),
    "masking": Subject("ihc.png", "stained colon tissue, RGB", (2, 4)),
}


def command(args: Namespace) -> int:
    """Prepare the images, run the tasks and say what came of it."""
    began = time.monotonic()
    tasks = ("crappify", "masking") if args.task == "both" else (args.task,)
    folder, minutes = Path(args.result_dir).expanduser(), args.minutes or MINUTES
    told: list[str] = []
    code = DONE
    for number, task in enumerate(tasks, start=1):
        config = demo_config(task, folder, minutes)
        report = make_report(as_json=args.json)
        if not args.json:
            about = f"{SUBJECTS[task].file} of scikit-image ({SUBJECTS[task].about})"
            time_given = text.duration(60 * minutes)
            report.note(f"{number} of {len(tasks)}: {task} on {about}, {time_given} of training")
        summary, code = train(config, report, overwrite=True)
        told += conclusion(task, config, summary)
        if code == INTERRUPTED:
            break
    if not args.json:
        print("\n".join([*told, *next_steps(folder, time.monotonic() - began)]))
    return code


def demo_config(task: str, folder: Path, minutes: float) -> PretrainConfig:
    """Write the images of one task and return its configuration."""
    data = folder / f"{task}_images"
    write_tiles(SUBJECTS[task], data)
    return PretrainConfig.from_dict(
        {
            "name": f"demo_{task}",
            "result_dir": str(folder),
            "data": {"train": str(data / "train" / "x"), "test": str(data / "test" / "x")},
            "pretext": {"task": task},
            "training": {"max_minutes": minutes},
        }
    )


def write_tiles(subject: Subject, folder: Path) -> None:
    """Cut the image into ``train/x`` and ``test/x``, unlike parts of it.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    from PIL import Image  # noqa: PLC0415 - only here

    rows, columns = subject.tiles
    try:
        with Image.open(source(subject.file)) as image:
            width, height = image.width // columns, image.height // rows
            for row in range(rows):
                for column in range(columns):
                    part = "test" if column == columns - 1 else "train"
                    place = folder / part / "x"
                    place.mkdir(parents=True, exist_ok=True)
                    corner = (column * width, row * height)
                    box = (*corner, corner[0] + width, corner[1] + height)
                    image.crop(box).save(place / f"{Path(subject.file).stem}_{row}{column}.png")
    except OSError as error:
        rule = f"cannot be written ({error.strerror or error})"
        raise DataError(
            "--result_dir", rule, value=folder, remedy="Choose another folder."
        ) from None


def source(name: str) -> Path:
    """Return the path of an image that scikit-image carries.

    Raises
    ------
    DataError
        This scikit-image does not carry it.
    """
    found = importlib.util.find_spec("skimage")
    path = Path(found.origin).parent / "data" / name if found and found.origin else Path(name)
    if not path.is_file():
        remedy = "Install another version: pip install --force-reinstall scikit-image."
        raise DataError("demo", "scikit-image comes without this image", value=name, remedy=remedy)
    return path


def conclusion(task: str, config: PretrainConfig, summary: dict[str, Any]) -> list[str]:
    """Say what one task came to, in words and where to look."""
    run, test = run_dir(config), summary.get("test") or {}
    score = " ".join(reports.score_lines(summary)) or "stopped before the test"
    look = run.per_image if task == "crappify" else run.mae_checks
    lines = ["", f"{task}: {score}"]
    if test.get("hidden_mse", 0.0) > test.get("hidden_mse_inpaint", math.inf):
        lines.append(
            "  so short a training does not reach smooth interpolation: give it more --minutes"
        )
    return [*lines, f"  images {look}", f"  model  {run.checkpoint('best')}"]


def next_steps(folder: Path, seconds: float) -> list[str]:
    """Say how long it took and what to do next."""
    return [
        "",
        f"Took {text.duration(seconds)}; everything is in {folder}.",
        "Next: your own images:  napari-ssl-pretrain check YOUR_FOLDER",
        "      then              napari-ssl-pretrain new --guide -o my.yaml",
        "      or in napari      Plugins > SSL Pretrain > Pretrain",
    ]
