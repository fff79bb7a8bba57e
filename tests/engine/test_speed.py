"""Benchmarks of speed in their smallest form, and what they rely on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(not BENCHMARKS.exists(), reason="only in a checkout")
def test_utilisation_counts_the_operations_of_both_networks():
    command = [sys.executable, BENCHMARKS / "mfu.py", "--tiny", "--steps", "2", "--peak", "1e12"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    vit, unet = map(json.loads, done.stdout.splitlines())
    for found in (vit, unet):
        assert found["gigaflops_a_step"] > 0
        expected = found["gigaflops_a_step"] * 1e9 / found["seconds_a_step"] / 1e12
        assert found["mfu"] == pytest.approx(expected)
