#!/usr/bin/env python3
"""Set up this checkout in a virtual environment of its own and use it. Needs Python and pip only.

    python3 dev.py demo     pretrain on two real images (about 5 minutes on two cores)
    python3 dev.py test     run the test suite, GUI tests included
    python3 dev.py check    style, types, import contracts, sizes
    python3 dev.py install  only set up

Words after the command go to the program (``demo --task masking``) or to pytest.
"""
# ruff: noqa: T201, S603

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
OLDEST = (3, 11)
NEWER_PYTHONS = ("python3.13", "python3.12", "python3.11")
MOST_WORKERS = 4

SCREEN_PACKAGES = (
    "xvfb",
    "xauth",
    "libegl1",
    "libgl1",
    "libgl1-mesa-dri",
    "libdbus-1-3",
    "libfontconfig1",
    "libglib2.0-0",
    "libxkbcommon-x11-0",
    "libxcb-cursor0",
    "libxcb-icccm4",
    "libxcb-image0",
    "libxcb-keysyms1",
    "libxcb-randr0",
    "libxcb-render-util0",
    "libxcb-shape0",
    "libxcb-xfixes0",
    "libxcb-xinerama0",
    "libxcb-xkb1",
)
"""Debian's packages for a virtual screen and for Qt on it."""


class SetupError(Exception):
    """Something that whoever runs this must do first."""


def main(words: list[str]) -> int:
    """Run one command and return its exit code."""
    command, rest = (words[0], words[1:]) if words else ("help", [])
    actions = {"demo": demo, "test": test, "check": check, "install": lambda _: install("all,test")}
    if command not in actions:
        print(__doc__)
        return 0 if command in {"help", "--help", "-h"} else 2
    try:
        return actions[command](rest) or 0
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(
            f"error: {' '.join(map(str, error.cmd))}: ended with code {error.returncode}.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130


def demo(words: list[str]) -> int:
    """Install the engine and run the demonstration."""
    install("")
    return run([PYTHON, "-m", "napari_ssl_pretrain", "demo", *words], check=False)


def test(words: list[str]) -> int:
    """Install everything and run the tests, on a virtual screen where there is one."""
    screen = virtual_screen()
    install("all,test")
    workers = str(min(os.cpu_count() or 1, MOST_WORKERS))
    beside = ["-n", workers, "--dist", "loadgroup"]  # "-n 0" in the words overrules it
    return run([*screen, PYTHON, "-m", "pytest", *beside, *words], check=False)


def check(_: list[str]) -> int:
    """Run every check that is no test, cheap ones first."""
    install("all,test")
    failed = 0
    for words in (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
        [PYTHON, ROOT / ".ci" / "limits.py"],
        ["npe2", "validate", "napari-ssl-pretrain"],
    ):
        failed |= run(
            [BIN / words[0], *words[1:]] if isinstance(words[0], str) else words, check=False
        )
    return 1 if failed else 0


def install(extras: str) -> None:
    """Make the virtual environment and install this checkout, unless that is done.

    Parameters
    ----------
    extras
        Optional dependencies, joined by commas.
    """
    make_venv()
    stamp = VENV / f"installed-{extras.replace(',', '-') or 'engine'}"
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
    state = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    if any(s.exists() and s.read_text() == state for s in (stamp, VENV / "installed-all-test")):
        return
    constraints = ["-c", ROOT / "constraints.txt"]
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    print(f"Setting up {VENV} (once; a few minutes) ...", flush=True)
    # torch first and alone: with everything else at once pip may look at other builds of it
    run([*pip, "--quiet", *constraints, "torch", "torchvision"])
    target = f"{ROOT}[{extras}]" if extras else str(ROOT)
    run([*pip, "--quiet", *constraints, "-e", target])
    stamp.write_text(state)


def make_venv() -> None:
    """Make the virtual environment; on Debian as root, install what that needs."""
    if PYTHON.exists():
        return
    python = suitable_python()
    probe = subprocess.run(
        [python, "-c", "import ensurepip, venv"], capture_output=True, check=False
    )
    if probe.returncode:
        need_packages(("python3-venv",))
    run([python, "-m", "venv", VENV])


def suitable_python() -> str:
    """Return a Python that is new enough.

    Raises
    ------
    SetupError
        There is none.
    """
    if sys.version_info >= OLDEST:
        return sys.executable
    found = next(filter(None, map(shutil.which, NEWER_PYTHONS)), None)
    if found is None:
        raise SetupError(
            f"python: {sys.version.split()[0]}: must be 3.11 or newer. Install a newer Python."
        )
    return found


def virtual_screen() -> list[str]:
    """Return the words that run a command on a virtual screen; none where it needs none.

    Raises
    ------
    SetupError
        There is neither a screen nor a virtual one.
    """
    if not sys.platform.startswith("linux"):
        return []
    if shutil.which("dpkg-query"):
        need_packages(SCREEN_PACKAGES)
    if shutil.which("xvfb-run"):
        return ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24"]
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return []
    raise SetupError(
        "xvfb-run: missing: the GUI tests need a screen. Install your distribution's Xvfb with "
        "xvfb-run, and Qt 6's libraries for X11 (libEGL, libGL, xcb-cursor, xkbcommon-x11)."
    )


def need_packages(names: tuple[str, ...]) -> None:
    """Install Debian's packages as root; elsewhere name what is missing.

    Raises
    ------
    SetupError
        Packages are missing and this user cannot install them.
    """
    missing = [name for name in names if not has_package(name)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        listed = " ".join(missing)
        raise SetupError(f"system packages: missing. Run: sudo apt-get install {listed}")
    print(f"Installing {', '.join(missing)} ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], env=environment)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=environment)


def has_package(name: str) -> bool:
    """Whether Debian's package manager has it installed."""
    if not shutil.which("dpkg-query"):
        return False
    # since 2024 some libraries carry t64 in their name, and answer to the old one too
    words = ["dpkg-query", "-W", "-f=${Status};", name, f"{name}t64"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return "install ok installed" in found.stdout


def run(words: list[object], *, check: bool = True, env: dict[str, str] | None = None) -> int:
    """Run a command from the project's folder and return its exit code."""
    return subprocess.run(list(map(str, words)), cwd=ROOT, check=check, env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
