"""``doctor``: what is installed, what the machine offers, what is wrong and how to mend it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain import __version__

if TYPE_CHECKING:
    from argparse import Namespace

ENGINE_PACKAGES = (
    "torch",
    "accelerate",
    "monai",
    "dynamic-network-architectures",
    "tifffile",
    "imagecodecs",
    "zarr",
)
GUI_PACKAGES = ("napari", "magicgui", "qtpy", "superqt", "pyqtgraph")
BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
LOW_MEMORY_GB, LOW_DISK_GB = 2.0, 2.0
GIB = 2**30

QT_LIBRARIES = "libegl1 libgl1 libxcb-cursor0 libxkbcommon-x11-0 libdbus-1-3"
QT_PROBE = "from qtpy.QtWidgets import QApplication; QApplication([]); print('ok')"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        The thing.
    found
        What was found.
    problem
        What is wrong; empty where nothing is.
    remedy
        What to do about it.
    blocks
        Whether pretraining cannot work like this.
    """

    what: str
    found: str
    problem: str = ""
    remedy: str = ""
    blocks: bool = False


def command(args: Namespace) -> int:
    """Print the findings; exit with 2 when pretraining cannot work."""
    findings = examine()
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            print(f"{finding.what.ljust(width)}  {finding.found}")
        for line in conclusions(findings):
            print(line)
    return 2 if any(finding.blocks for finding in findings) else 0


def conclusions(findings: list[Finding]) -> list[str]:
    """Return what is wrong and the remedies, or that all is well."""
    wrong = [finding for finding in findings if finding.problem]
    if not wrong:
        return ["", "Nothing is wrong."]
    return ["", *(f"{f.what}: {f.problem}. {f.remedy}".rstrip() for f in wrong)]


def examine() -> list[Finding]:
    """Look at everything."""
    return [
        Finding("napari-ssl-pretrain", f"{__version__} in {Path(__file__).parents[1]}"),
        _python(),
        *(_package(name, needed=True) for name in ENGINE_PACKAGES),
        *_devices(),
        _memory(),
        _disk(),
        *(_package(name, needed=False) for name in GUI_PACKAGES),
        _binding(),
        _display(),
    ]


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", found)


def _package(name: str, *, needed: bool) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        if needed:
            remedy = "Install it: pip install napari-ssl-pretrain"
            return Finding(name, "missing", "is not installed", remedy, blocks=True)
        remedy = (
            "For the napari plugin: pip install 'napari-ssl-pretrain[all]'; training works without."
        )
        return Finding(name, "missing", "is not installed", remedy)


def _devices() -> list[Finding]:
    try:
        import torch  # noqa: PLC0415 - 2 s

        from napari_ssl_pretrain.engine import hardware  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001 - a broken installation fails in many ways
        text = " ".join(str(error).split())[:200]
        return [
            Finding(
                "devices",
                "unknown",
                f"torch cannot be loaded ({text})",
                "Reinstall torch.",
                blocks=True,
            )
        ]
    findings = []
    for device in hardware.available_devices():
        precision = (
            "bf16"
            if hardware.has_fast_bf16(device)
            else "fp16"
            if device.startswith("cuda")
            else "fp32"
        )
        name = torch.cuda.get_device_name(device) if device.startswith("cuda") else ""
        cores = f"{hardware.usable_cores()} cores" if device == "cpu" else name
        findings.append(
            Finding(f"device {device}", f"{cores}, auto precision {precision}".lstrip(", "))
        )
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        problem = f"there is an NVIDIA card, but torch {torch.__version__} cannot use it"
        findings.append(
            Finding(
                "cuda", "not usable", problem, "Install torch for CUDA, see https://pytorch.org."
            )
        )
    return findings


def _memory() -> Finding:
    import psutil  # noqa: PLC0415

    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} GB free of {memory.total / GIB:.1f} GB"
    if memory.available / GIB < LOW_MEMORY_GB:
        return Finding("memory", found, "little memory is free", "Close other programs.")
    return Finding("memory", found)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    if free < LOW_DISK_GB:
        return Finding(
            "disk here",
            f"{free:.1f} GB free",
            "little space is free",
            "Make room, or use another result_dir.",
        )
    return Finding("disk here", f"{free:.1f} GB free")


def _binding() -> Finding:
    found = []
    for name in BINDINGS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if found:
        return Finding("Qt binding", ", ".join(found))
    return Finding(
        "Qt binding", "missing", "napari needs one", "pip install PyQt6; training works without."
    )


def _display() -> Finding:
    """Start Qt in a process of its own: where a library is missing it aborts."""
    if not shutil.which(sys.executable) or _package("qtpy", needed=False).problem:
        return Finding("Qt and display", "not tried")
    words = [sys.executable, "-c", QT_PROBE]
    try:
        probe = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Finding(
            "Qt and display", "no answer", "Qt does not start within a minute", "Check the display."
        )
    if probe.stdout.strip() == "ok":
        where = (
            os.environ.get("QT_QPA_PLATFORM")
            or os.environ.get("WAYLAND_DISPLAY")
            or os.environ.get("DISPLAY")
        )
        return Finding("Qt and display", f"works ({where})" if where else "works")
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        remedy = "Start napari from a desktop, or with xvfb-run; training works without."
        return Finding("Qt and display", "none", "no display is set", remedy)
    reason = next((line for line in probe.stderr.splitlines() if line.strip()), "no reason given")
    remedy = f"On Debian and Ubuntu: apt install {QT_LIBRARIES}."
    return Finding(
        "Qt and display", "does not start", f"Qt does not start ({reason.strip()[:200]})", remedy
    )
