"""Which of several processes this is, from what torchrun or Slurm left in the environment."""

from __future__ import annotations

import os
import re

FIRST_PORT, PORTS = 20_000, 20_000
"""Slurm gives no port to meet at: jobs spread over these by their number."""


def adopt_slurm(environ: dict[str, str] | None = None) -> None:
    """Say what ``srun`` says in torchrun's words, so that one program understands both.

    Parameters
    ----------
    environ
        The variables to read and to add to; those of this process when None. Left alone where
        torchrun has set its own, and in a Slurm job that was not started by ``srun``.
    """
    env = os.environ if environ is None else environ
    tasks = env.get("SLURM_STEP_NUM_TASKS", "")
    known = "RANK" in env or "SLURM_PROCID" not in env
    if known or not tasks.isdecimal() or int(tasks) < 2:  # noqa: PLR2004
        return
    local = int(env.get("SLURM_LOCALID", "0"))
    visible = [name for name in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    env["RANK"], env["WORLD_SIZE"] = env["SLURM_PROCID"], tasks
    # with --gpus-per-task each process sees its own device alone
    env["LOCAL_RANK"] = "0" if len(visible) == 1 else str(local)
    here = re.match(r"\d+", env.get("SLURM_STEP_TASKS_PER_NODE", ""))
    env.setdefault("LOCAL_WORLD_SIZE", here[0] if here else tasks)
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    env.setdefault("MASTER_ADDR", first_node(nodes) or "127.0.0.1")
    job = int("".join(re.findall(r"\d", env.get("SLURM_JOB_ID", ""))) or 0)
    step = int("".join(re.findall(r"\d", env.get("SLURM_STEP_ID", ""))) or 0)
    env.setdefault("MASTER_PORT", str(FIRST_PORT + (7 * job + step) % PORTS))


def first_node(nodes: str) -> str:
    """Return the first name of a list as Slurm writes it, such as ``node[03-07,12],gpu1``."""
    found = re.match(r"([^\[,]+)(?:\[([^\]]+)\]([^,]*))?", nodes.strip())
    if found is None:
        return ""
    numbers = re.split(r"[-,]", found[2])[0] if found[2] else ""
    return found[1] + numbers + (found[3] or "")


def quiet_torch() -> None:
    """Keep torch's own words on broken connections off the terminal; call it before its import."""
    if size() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def rank() -> int:
    """Return the number of this process among those of its run; 0 when it is alone."""
    return _number("RANK", 0)


def size() -> int:
    """Return how many processes do this run together."""
    return max(1, _number("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def neighbours() -> int:
    """Return how many processes of the run share this machine, this one included."""
    return max(1, min(size(), _number("LOCAL_WORLD_SIZE", size())))


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else otherwise
