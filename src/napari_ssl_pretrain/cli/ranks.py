"""One run on several graphics cards: a process for each, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from napari_ssl_pretrain.errors import ConfigError, RunFailed

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

SECONDS_TO_END = 20.0


def launch(args: Namespace, gpus: Sequence[int]) -> int:
    """Start the processes, pass Ctrl-C on to them and return the exit code of the run."""
    visible = visible_devices(gpus)
    return supervise([sys.executable, "-m", "napari_ssl_pretrain", *child_words(args)], visible)


def child_words(args: Namespace) -> list[str]:
    """Return the words of the command line that each process gets: all but ``--gpu``."""
    words = ["run", "--config", args.config]
    for name in ("result_dir", "name", "run_id"):
        if getattr(args, name) is not None:
            words += [f"--{name}", getattr(args, name)]
    for setting in args.set:
        words += ["--set", setting]
    return words + [f"--{name}" for name in ("resume", "overwrite", "json") if getattr(args, name)]


def visible_devices(gpus: Sequence[int]) -> list[str]:
    """Return how CUDA calls the devices with these numbers.

    Raises
    ------
    ConfigError
        There is no such device.
    """
    import torch  # noqa: PLC0415 - only to count

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = [gpu for gpu in gpus if gpu >= there]
    if missing:
        known = ", ".join(map(str, range(there)))
        remedy = (
            f"Known: {known}."
            if there
            else "No CUDA device is found; `napari-ssl-pretrain doctor` says why."
        )
        raise ConfigError("--gpu", "is not on this machine", value=missing[0], remedy=remedy)
    listed = [
        name.strip()
        for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if name.strip()
    ]
    return [listed[gpu] if listed else str(gpu) for gpu in gpus]


def supervise(command: Sequence[str], visible: Sequence[str]) -> int:
    """Run one process for each device until all have ended; the first that fails ends the others.

    Raises
    ------
    RunFailed
        A process died without a word of the first one.
    """
    port = _free_port()
    with tempfile.TemporaryFile() as said:
        processes = [_start(command, rank, visible, port, said) for rank in range(len(visible))]
        with _Forward(processes):
            failed = _wait(processes)
        code = processes[0].returncode
        if failed is not None and code <= 0:  # the first has not spoken for itself
            raise RunFailed(f"process {failed}", *_last_words(said, processes[failed].returncode))
    return code


def _start(
    command: Sequence[str], rank: int, visible: Sequence[str], port: int, said: object
) -> subprocess.Popen[bytes]:
    # each process sees its own device alone, so it is device 0 to all of them
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": visible[rank],
        "RANK": str(rank),
        "WORLD_SIZE": str(len(visible)),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": str(len(visible)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": said} if rank else {}
    return subprocess.Popen(command, env=environment, start_new_session=True, **quiet)  # type: ignore[call-overload,no-any-return]  # noqa: S603


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait for all; return the number of the process that failed first, or None."""
    while True:
        codes = [process.poll() for process in processes]
        failed = next((n for n, code in enumerate(codes) if code not in {None, 0, 130}), None)
        if failed is not None:
            _end(processes)
        if failed is not None or None not in codes:
            return failed
        time.sleep(0.1)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + SECONDS_TO_END
    for process in processes:
        if process.poll() is None:
            try:
                process.wait(max(0.1, deadline - SECONDS_TO_END / 2 - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Forward:
    """While open, signals go to every process instead of this one."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._pass_on)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _pass_on(self, number: int, _frame: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)


def _last_words(said: object, code: int) -> tuple[str]:
    said.seek(0)  # type: ignore[attr-defined]
    lines = said.read().decode("utf-8", "replace").splitlines()  # type: ignore[attr-defined]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors[-1] if errors else f"ended with code {code}",)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
