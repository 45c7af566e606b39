"""The whole pipeline by `leptonami run`, against the same notebooks one after another by plain papermill.

    make setup
    .venv/bin/python benchmarks/pipeline.py [--rounds 5] [--jobs N] [--json]

Both get the same parameters and a new run each time, in turns, so that whatever else the machine does hits both. The
pipeline makes an HTML page of each notebook and an index besides; papermill makes none (`--no-html` takes that out).
A notebook's time within the pipeline is that of its execution, while another one may be running beside it; papermill's
is that of its whole process. Provenance: measured on this machine, on the embedded lab and recorded evidence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from leptonami.pipeline.definition import Pipeline, load
from leptonami.pipeline.execution import cores
from leptonami.runs import new_id

FILE = Path(__file__).parent.parent / "notebooks" / "pipeline.yaml"
BIN = Path(sys.executable).parent


def finish(command: list[str], cwd: Path | None = None) -> float:
    """Run a command to its end, which must be a good one; give its seconds."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def leptonami(file: Path, runs: Path, options: list[str]) -> dict[str, float]:
    """Run the pipeline; give the seconds of each notebook and of the whole."""
    run_id = new_id()
    command = [str(BIN / "leptonami"), "run", "--pipeline", str(file), "--runs", str(runs), "-p", f"run_id={run_id}"]
    whole = finish([*command, "-q", *options])
    record = json.loads((runs / run_id / "pipeline.json").read_text())
    return {each["name"]: each["seconds"] for each in record["notebooks"]} | {"whole": whole}


def papermill(pipeline: Pipeline, runs: Path) -> dict[str, float]:
    """Run the notebooks one after another by papermill's own command."""
    run_id = new_id()
    own: dict[str, Any] = {"run_id": run_id, "runs_folder": str(runs)}
    kept = runs / f"papermill-{run_id}"
    kept.mkdir(parents=True)
    took: dict[str, float] = {}
    for step in pipeline.steps:
        declared = {each.name for each in step.declared}
        values = {**step.values, **{name: value for name, value in own.items() if name in declared}}
        command = [str(BIN / "papermill"), str(step.source), str(kept / step.source.name), "-k", "python3"]
        given = ["-y", yaml.safe_dump(values)] if values else []
        took[step.name] = finish([*command, "--no-progress-bar", "--cwd", str(step.source.parent), *given])
    return took | {"whole": sum(took.values())}


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Give the median of each time."""
    return {name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, help="notebooks at a time; by default what leptonami takes")
    parser.add_argument("--no-html", action="store_true", help="make no pages, as papermill makes none")
    parser.add_argument("--pipeline", type=Path, default=FILE)
    parser.add_argument("--json", action="store_true", help="every time, as JSON")
    asked = parser.parse_args()
    pipeline = load(asked.pipeline)
    options = ["--no-html"] if asked.no_html else []
    options += ["--jobs", str(asked.jobs)] if asked.jobs else []
    times: dict[str, list[dict[str, float]]] = {"leptonami": [], "papermill": []}
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        # Whoever is first in a round changes from round to round; a round before them warms the disk's cache.
        leptonami(asked.pipeline, runs, options)
        for number in range(asked.rounds):
            for tool in ("leptonami", "papermill") if number % 2 else ("papermill", "leptonami"):
                took = leptonami(asked.pipeline, runs, options) if tool == "leptonami" else papermill(pipeline, runs)
                times[tool].append(took)
                print(f"round {number + 1}: {tool} {took['whole']:.1f} s", file=sys.stderr, flush=True)
    middle = {tool: medians(rounds) for tool, rounds in times.items()}
    ratio = round(middle["papermill"]["whole"] / middle["leptonami"]["whole"], 2)
    if asked.json:
        result = {"cores": cores(), "rounds": asked.rounds, "pages": not asked.no_html}
        print(json.dumps(result | {"medians": middle, "ratio": ratio, "times": times}, indent=2))
        return
    print(f"medians of {asked.rounds} rounds on {cores()} cores, in seconds")
    print(f"{'':24}{'leptonami':>10}{'papermill':>11}")
    for each in middle["leptonami"]:
        print(f"{each:24}{middle['leptonami'][each]:10.2f}{middle['papermill'][each]:11.2f}")
    print(f"papermill, one after another, takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
