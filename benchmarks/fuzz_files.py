"""Damage sound files of every kind at random, thousands of times, and read what is left.

Each damaged file has to end in a refusal or in an image. In a process of its own, so that a crash
of a decoder, a wait without end and memory without bounds are seen and counted. What was
truncated must be refused or read to the last pixel.

    python benchmarks/fuzz_files.py --rounds 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))

from awkward_damage import DAMAGES, harm, result
from awkward_others import OTHERS
from awkward_tiffs import TIFFS

SECONDS = 20
"""A file that takes longer hangs."""
MEGABYTES = 1500
"""A file that takes more memory than this swells."""

Job = tuple[str, str, int]


def main() -> int:
    """Damage and read; print the counts, and every failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="times for each file and damage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files whose names hold this")
    parser.add_argument("--show", action="store_true", help="print every outcome")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    table = {n: c for n, c in (TIFFS | OTHERS).items() if c.axes and given.only in n}
    jobs = [
        (name, damage, given.seed + number)
        for number in range(given.rounds)
        for name in table
        for damage in DAMAGES
    ]
    began = time.monotonic()
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    for job, kind, text in outcomes(jobs):
        counts[job[1], kind] += 1
        bad = kind not in {"refused", "same", "pixels", "shape"}
        if bad or (job[1] == "truncate" and kind in {"pixels", "shape"}):
            failures.append(f"{job}: {kind} {text}")
            print(failures[-1], flush=True)
        elif given.show:
            print(job, kind, text)
    print(f"{len(jobs)} damaged files of {len(table)} kinds in {time.monotonic() - began:.0f} s")
    kinds = sorted({kind for _, kind in counts})
    print("| damage | " + " | ".join(kinds) + " |")
    for damage in DAMAGES:
        print(f"| {damage} | " + " | ".join(str(counts[damage, k]) for k in kinds) + " |")
    print(f"{len(failures)} failures")
    return bool(failures)


def outcomes(jobs: list[Job]):
    """Do the jobs in a process, in another one after a crash; yield job, outcome and text."""
    context = multiprocessing.get_context("spawn")
    while jobs:
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, jobs), daemon=True)
        process.start()
        there.close()
        done = 0
        try:
            while done < len(jobs):
                if not here.poll(SECONDS * (1 if done else 6)):
                    yield jobs[done], "hangs", ""
                    done += 1
                    break
                yield jobs[done], *here.recv()
                done += 1
        except EOFError:
            process.join()
            yield jobs[done], "crash", f"exit code {process.exitcode}"
            done += 1
        process.kill()
        process.join()
        jobs = jobs[done:]


def work(pipe, jobs: list[Job]) -> None:
    """Do jobs one after the other."""
    warnings.simplefilter("ignore")
    table = TIFFS | OTHERS
    sound: dict[str, tuple[Path, np.ndarray]] = {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        for name, damage, seed in jobs:
            if name not in sound:
                path = Path(folder) / f"{len(sound)}" / name
                path.parent.mkdir()
                sound[name] = path, np.asarray(table[name].make(path))
            path, wanted = sound[name]
            hurt = path.parent / "hurt" / name
            hurt.parent.mkdir(exist_ok=True)
            for other in path.parent.glob("*_[12].tif"):  # the other parts of a set
                (hurt.parent / other.name).write_bytes(other.read_bytes())
            harm(path, hurt, damage, seed)
            try:
                found = result(hurt, table[name].axes, wanted)
                kind, text = found.kind, found.text
            except BaseException:  # noqa: BLE001 - whatever escapes is what is looked for
                kind, text = "escapes", traceback.format_exc(limit=-4)
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if now - peak > MEGABYTES << 10:
                kind, text = "swells", f"{(now - peak) >> 10} MB {text}"
            peak = max(peak, now)
            pipe.send((kind, text))


if __name__ == "__main__":
    sys.exit(main())
