"""Several processes: started as torch.distributed needs, ended together, heard when they fail."""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import Namespace

import pytest

from napari_ssl_pretrain.cli import ranks
from napari_ssl_pretrain.errors import RunFailed

TELL = """
import os, pathlib
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES")
pathlib.Path(os.environ["RANK"]).write_text(" ".join(os.environ[name] for name in names))
"""
FAIL = """
import os, sys, time
if os.environ["RANK"] == "1":
    sys.exit("error: data.train: x: broke on the second. Mend it.")
time.sleep(60)
"""
FAIL_FIRST = """
import os, sys, time
sys.exit(2) if os.environ["RANK"] == "0" else time.sleep(60)
"""
SUPERVISE_UNTIL_INTERRUPT = """
import sys
from napari_ssl_pretrain.cli import ranks
child = '''
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
print("ready", flush=True)
time.sleep(60)
'''
sys.exit(ranks.supervise([sys.executable, "-c", child], ["0", "1"]))
"""


def supervise(code, visible=("4", "7")):
    return ranks.supervise([sys.executable, "-c", code], visible)


def test_each_process_sees_its_own_device(here):
    assert supervise(TELL) == 0
    assert (here / "0").read_text() == "0 2 0 127.0.0.1 4"
    assert (here / "1").read_text() == "1 2 0 127.0.0.1 7"


def test_when_one_fails_all_end_and_its_words_are_passed_on(monkeypatch):
    monkeypatch.setattr(ranks, "SECONDS_TO_END", 0.4)
    began = time.monotonic()
    with pytest.raises(RunFailed, match="broke on the second"):
        supervise(FAIL)
    assert time.monotonic() - began < 20


def test_the_first_speaks_for_itself(monkeypatch):
    monkeypatch.setattr(ranks, "SECONDS_TO_END", 0.4)
    assert supervise(FAIL_FIRST) == 2


def test_when_all_fail_the_first_speaks_for_them():
    assert supervise("import sys; sys.exit(1)") == 1


def test_ctrl_c_reaches_every_process():
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE_UNTIL_INTERRUPT], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(2)
    assert process.wait(20) == 130


def test_the_words_of_each_process():
    args = Namespace(
        config="c.yaml", result_dir=None, name="n", run_id="2", set=["a=1", "b=2"], resume=True,
        overwrite=False, json=False, gpu="0,1",
    )  # fmt: skip
    expected = [
        "run",
        "--config",
        "c.yaml",
        "--name",
        "n",
        "--run_id",
        "2",
        "--set",
        "a=1",
        "--set",
        "b=2",
    ]
    assert ranks.child_words(args) == [*expected, "--resume"]
