"""The command line ``napari-ssl-pretrain``; each command is a module that loads when used."""

from __future__ import annotations

import errno
import sys
import warnings
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING

from napari_ssl_pretrain.cli.parser import parse
from napari_ssl_pretrain.errors import RunFailed, UserError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

DONE, FAILED, MENDABLE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv
        The words after the program's name; those of the process when None.
    """
    code = _written(_main(list(sys.argv[1:] if argv is None else argv)))
    if "napari_ssl_pretrain.engine.ranks" in sys.modules:
        from napari_ssl_pretrain.engine.ranks import leave  # noqa: PLC0415 - imports torch

        leave(code)
    return code


def _main(words: list[str]) -> int:
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        return _command(parse([word for word in words if word != "--debug"]), debug=debug)
    except SystemExit as end:  # argparse after --help
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return DONE
    except UserError as error:
        return _say(error, FAILED if isinstance(error, RunFailed) else MENDABLE, debug=debug)
    except (Exception, RecursionError) as error:  # noqa: BLE001 - a user reads one line, not a traceback
        return _say(_unforeseen(error), FAILED, debug=debug, cause=error)


def _written(code: int) -> int:
    """Write what still waits to be printed; return the exit code that this leaves."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _forget_stdout()
        if not isinstance(error, BrokenPipeError):
            return _say(_unforeseen(error), code or FAILED, debug=False)
    return code


def _command(args: Namespace, *, debug: bool) -> int:
    module = import_module(f"napari_ssl_pretrain.cli.{args.module}")
    with nullcontext() if debug else _quiet_libraries():
        code: int = module.command(args)
        return code


def _forget_stdout() -> None:
    """Say no more: the reader (such as `head`) has gone, which is no error."""
    import os  # noqa: PLC0415

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep other packages' warnings off the terminal; ours are events."""
    import logging  # noqa: PLC0415 - 10 ms that --help does not need

    nowhere = logging.NullHandler()
    logging.getLogger().addHandler(nowhere)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(nowhere)


def _unforeseen(error: BaseException) -> UserError:
    if isinstance(error, OSError) and error.filename:
        reason = (error.strerror or "cannot be used").lower()
        return UserError(
            error.filename, reason, remedy="Check the path, its permissions and the free space."
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError("output", "the disk is full", remedy="Free some space.")
    text = " ".join(f"{type(error).__name__}: {error}".split())
    remedy = "This is a defect of the program: run again with --debug and report what it prints."
    return UserError("napari-ssl-pretrain", "failed unexpectedly", value=text[:300], remedy=remedy)


def _say(error: UserError, code: int, *, debug: bool, cause: BaseException | None = None) -> int:
    if debug:
        import traceback  # noqa: PLC0415

        traceback.print_exception(cause or error)
    from napari_ssl_pretrain.cli.text import plain  # noqa: PLC0415 - 10 ms that --help does not need

    with suppress(OSError):  # on a full disk the exit code has to do
        print(plain(f"error: {' '.join(str(error).split())}"), file=sys.stderr, flush=True)
    return code
