"""A comparison from its folder's checks to its report, watched by events; the last word always."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.links import refuse_links_in
from napari_ssl_pretrain.data.writers import CannotWrite, write_text
from napari_ssl_pretrain.engine.failures import explain, refuse, refuse_unwritable
from napari_ssl_pretrain.engine.report import Reporter
from napari_ssl_pretrain.errors import ConfigError, RunFailed, UserError
from napari_ssl_pretrain.spec import claim
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.study_dir import StudyDir
from napari_ssl_pretrain.spec.yaml_io import dump_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_ssl_pretrain.spec.transfer import TransferConfig

REPORT_FILES = (
    "report.html",
    "summary.json",
    "score_over_labels.png",
    "score_over_step.png",
    "scores.csv",
    "curve.csv",
    "events.jsonl",
    "transfer.yaml",
)
"""What a comparison leaves in its folder, the pictures apart."""

OTHER = "Choose another folder."
_GLOB = "*?["
MEMORY = "Out of memory. Use a smaller network, smaller images, or --device cpu."
DISK = "Free some space and begin again."


def run_transfer(
    config: TransferConfig,
    *,
    emit: Callable[[ev.AnyEvent], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Compare fine-tuning from scratch and from a checkpoint, and write the report.

    Parameters
    ----------
    config
        What to do.
    emit
        Called with every event.
    should_stop
        Asked at each step; True ends the comparison. A file named ``stop`` in the output folder
        does the same.
    overwrite
        Replace the report that is there.

    Returns
    -------
    dict or None
        The content of ``summary.json``. After a wish to stop it holds what was compared until
        then, with ``stopped`` set; None where that was nothing, and no report was written.

    Raises
    ------
    KeyboardInterrupt
        The user wishes to end at once; no report was written.
    UserError
        Something that the user can mend; nothing was trained.
    RunFailed
        Something went wrong while training.
    """
    place = StudyDir(Path(config.output).expanduser().absolute())
    check_output(config, place, overwrite=overwrite)
    with ExitStack() as ends:
        say = Reporter(emit)
        job = _Job(config, place, say, ends, overwrite=overwrite)
        return job.run(should_stop or (lambda: False))


class _Job:
    """A comparison under way: it opens its folder when the checks are passed."""

    def __init__(
        self,
        config: TransferConfig,
        place: StudyDir,
        say: Reporter,
        ends: ExitStack,
        *,
        overwrite: bool,
    ) -> None:
        self.config, self.place, self.say, self._ends = config, place, say, ends
        self._overwrite = overwrite
        self._open = False
        self._held: claim.Claim | None = None

    def run(self, should_stop: Callable[[], bool]) -> dict[str, Any] | None:
        """Check, train, report; the last event says how it ended.

        Returns the content of ``summary.json``; None where it was stopped before anything was
        compared.

        Raises
        ------
        KeyboardInterrupt
            The user wishes to end at once.
        UserError
            Something that the user can mend.
        RunFailed
            Anything else.
        """
        text = dump_yaml(self.config.model_dump(mode="json"))
        self.say(ev.ProcessStarted(pid=os.getpid(), host=socket.gethostname(), config=text))
        from napari_ssl_pretrain.engine.transfer.report import write_report  # noqa: PLC0415
        from napari_ssl_pretrain.engine.transfer.study import Stopped, transfer  # noqa: PLC0415

        state: ev.FinishState = "failed"
        reason: ev.FinishReason = "error"
        message = ""
        summary: dict[str, Any] | None = None
        try:
            result = transfer(
                self.config,
                emit=self._event,
                should_stop=lambda: should_stop() or self.place.stop_file.exists(),
            )
            self._claim()
            summary = write_report(result, self.place.results)
            state, reason, message = "finished", "done", summary["sentence"]
            if result.stopped:
                state, reason = "stopped", "stop"
                message = f"Stopped early; so far: {message}"
        except Stopped:
            state, reason, message = "stopped", "stop", "Stopped before the end: no report."
        except KeyboardInterrupt:
            state, reason, message = "stopped", "interrupt", "Interrupted: no report."
            raise
        except Exception as error:
            if isinstance(error, UserError) and not isinstance(error, CannotWrite):
                message = str(error)
                raise
            place = self.place.results
            message = explain(error, memory=MEMORY, where=place, disk=DISK)
            raise RunFailed(self.place.results, message.rstrip(".")) from error
        finally:
            if self._open:
                self._end(ev.RunFinished(state=state, reason=reason, message=message))
        return summary

    def _end(self, word: ev.RunFinished) -> None:
        """Say the last word, on a full disk as well."""
        if self._held:
            self._held.free_reserve()
        with suppress(OSError) if word.state == "failed" else nullcontext():
            self.say(word)

    def _event(self, event: ev.AnyEvent) -> None:
        """Pass an event on; the first one tells that the checks are passed."""
        self._claim()
        self.say(event)

    def _claim(self) -> None:
        """Make the folder, clear what an earlier report left, and begin to write there.

        Raises
        ------
        ConfigError
            The folder cannot be written.
        """
        if self._open:
            return
        results = self.place.results
        holding = claim.held(self.place, "output", self.config.output)
        self._held = self._ends.enter_context(holding)
        self._ends.callback(self.say.close)
        # another study may have begun and ended since it was looked for
        check_output(self.config, self.place, overwrite=self._overwrite)
        try:
            results.mkdir(parents=True, exist_ok=True)
            for name in (*REPORT_FILES, self.place.stop_file.name):
                (results / name).unlink(missing_ok=True)
            shutil.rmtree(self.place.pictures, ignore_errors=True)
            write_text(self.place.config, dump_yaml(self.config.model_dump(mode="json")))
            self.say.open(self.place.events, append=False)
        except OSError as error:
            refuse(error, "output", results)
        self._open = True


def check_output(config: TransferConfig, place: StudyDir, *, overwrite: bool) -> None:
    """Refuse a folder that holds images, another report, or cannot be written.

    Raises
    ------
    ConfigError
        Another folder is needed.
    """
    results = place.results
    for field, folder in _folders(config):
        inside = folder in results.resolve().parents
        if inside or folder == results.resolve():
            where = "inside the" if inside else "the"
            raise ConfigError(
                "output",
                f"is {where} folder of {field}, where nothing is written",
                value=config.output,
                remedy=OTHER,
            )
    held = [name for name in REPORT_FILES if (results / name).exists()]
    if held and not overwrite:
        raise ConfigError(
            "output",
            f"holds another report ({held[0]})",
            value=config.output,
            remedy="Choose another folder, or add --overwrite to replace it.",
        )
    refuse_links_in("output", results, [results])
    refuse_unwritable(results, "output", config.output)


def _folders(config: TransferConfig) -> Iterator[tuple[str, Path]]:
    """Return the folders that images are read from."""
    for field in ("images", "labels", "test_images", "test_labels"):
        given = getattr(config, field)
        if given is None:
            continue
        path = Path(given).expanduser()
        while any(c in path.name for c in _GLOB) and not path.exists():
            path = path.parent
        yield field, (path.parent if path.is_file() else path).resolve()
