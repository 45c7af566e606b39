"""Measures engines against one another: each run in a process of its own, in turns, and every answer checked."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from logbench.engines import FLOORS
from logbench.question import Answer

__all__ = ["measure", "report"]

# Ratios are to the first of these that took part.
BASES = ("leptonami", "re")


def once(arguments: list[str]) -> tuple[float, float, int, str]:
    """Run a program; give wall and CPU time (s), the most memory (KiB), and what it printed."""
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, text


def measure(log: Path, names: list[str], *, rounds: int, program: Path, truth: Path | None = None) -> dict[str, Any]:
    """Let engines answer in turns.

    Parameters
    ----------
    names
        Of engines and floors.
    rounds
        How often each of them runs. Before the first round the log is read once, so that all find it in the cache.
    program
        `logs.py`, which runs one engine with `answer`.
    truth
        The right answers. Without them the first engine's answer is what the others are compared with.

    Returns
    -------
    dict
        `bytes`, and for each of `engines` its times (s, from the start of the process to its end), their median, CPU
        time (s), peak memory (MiB), speed (MB/s), ratio to the base, and what was wrong with its answer.
    """
    size = read(log)
    right = Answer.read(truth) if truth else None
    found: dict[str, dict[str, Any]] = {
        name: {"engine": name, "times": [], "answering": [], "cpu": [], "mib": [], "wrong": []} for name in names
    }
    for _ in range(rounds):
        for name in names:
            here = found[name]
            if name in FLOORS:
                arguments, kinds = FLOORS[name]
                wall, cpu, kib, text = once(["rg", *arguments, str(log)])
                if right is not None and int(text) != sum(right.kinds.get(kind, 0) for kind in kinds):
                    here["wrong"] = [f"counted {text.strip()}"]
            else:
                wall, cpu, _, text = once([sys.executable, str(program), "answer", name, str(log)])
                said = json.loads(text)
                # The kernel's figure for a child begins with what its parent had; this one does not.
                kib = said["kib"]
                here["answering"].append(round(said["seconds"], 3))
                answer = Answer.of(said["answer"])
                right = right or answer
                here["wrong"] = right.differences(answer)
            here["times"].append(round(wall, 3))
            here["cpu"].append(round(cpu, 3))
            here["mib"].append(round(kib / 1024, 1))
    base = next((name for name in BASES if name in found), names[0])
    for here in found.values():
        here["median"] = statistics.median(here["times"])
        here["cpu"] = statistics.median(here["cpu"])
        here["mib"] = max(here["mib"])
        here["mb_per_s"] = round(size / 1e6 / here["median"], 1)
    for here in found.values():
        here["ratio"] = round(here["median"] / found[base]["median"], 2)
    return {"log": log.name, "bytes": size, "rounds": rounds, "base": base, "engines": list(found.values())}


def read(log: Path) -> int:
    """Read a file so that it is in the cache; give its size."""
    size = 0
    with log.open("rb", buffering=0) as stream:
        while block := stream.read(1 << 20):
            size += len(block)
    return size


def report(result: dict[str, Any]) -> str:
    """Write the comparison for a reader."""
    lines = [
        f"{result['log']}: {result['bytes'] / 1e6:,.0f} MB, {result['rounds']} rounds, {os.cpu_count()} cores; "
        f"time / {result['base']}'s",
        f"{'engine':14} {'median s':>9} {'MB/s':>8} {'ratio':>6} {'CPU s':>7} {'peak MiB':>9}  all times",
    ]
    for each in result["engines"]:
        times = " ".join(f"{seconds:.2f}" for seconds in each["times"])
        lines.append(
            f"{each['engine']:14} {each['median']:9.2f} {each['mb_per_s']:8.0f} {each['ratio']:6.2f} "
            f"{each['cpu']:7.2f} {each['mib']:9.0f}  {times}"
        )
        lines += [f"    WRONG {what}" for what in each["wrong"]]
    return "\n".join(lines)
