"""Benchmarks of speed in their smallest form, and what they rely on."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


@pytest.mark.skipif(not BENCHMARKS.exists(), reason="only in a checkout")
def test_compiling_pays_back_when_its_steps_have_saved_its_cost(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("compile_pays_back")
    clock = SimpleNamespace(now=0.0, compiled=False)

    def bare(steps, network=None):
        clock.now += steps * (0.040 if network is None else 0.030)
        clock.now += 0.0 if network is None or clock.compiled else 20.0
        clock.compiled |= network is not None

    training = SimpleNamespace(epochs=20, steps_per_epoch=100)
    config = SimpleNamespace(training=training, compute=SimpleNamespace(precision="fp32"))
    bench = SimpleNamespace(bare=bare, machine=SimpleNamespace(model=None), config=config)
    monkeypatch.setattr(module.torch, "compile", lambda *_, **__: "compiled")
    monkeypatch.setattr(module, "processor", lambda: clock.now)
    args = SimpleNamespace(backend="inductor", pairs=3, steps=5)
    found = module.measure(bench, "2d_masking", args)
    assert found.compiling == pytest.approx(20)
    assert found.after == pytest.approx(2000)
    assert "| **2,000 steps** | 2000 |" in found.row()
    found.compiled = found.plain
    assert "**never**" in found.row()
