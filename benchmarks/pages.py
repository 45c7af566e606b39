"""How long the HTML pages take once what they show is there, and how large they are.

    .venv/bin/python benchmarks/pages.py [--rounds 5] [--json] [NOTEBOOK ...]

Without a name: every notebook of `notebooks/` with the outputs that are kept in it, every decision record of
`docs/records`, and the index of a run of those notebooks. Each page is laid out in a process of its own, so that the
first import is paid for as it is on the command line (`cold`; `cpu` is how much of it was work, on a machine that does
other things as well), and again in the same process (`warm`). Reported are the medians of the rounds.

The target: under 1.5 MB and under 2 s each. Provenance: measured on this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MAX_BYTES, MAX_SECONDS = 1_500_000, 2.0
INDEX = "index of a run"


def page_of(name: str) -> Callable[[Path], Path]:
    """Give what lays out a page; its imports count as its time."""
    if name == INDEX:
        return index
    path = Path(name)
    if path.suffix == ".json":
        return lambda out: record(path, out)
    return lambda out: notebook(path, out)


def notebook(path: Path, out: Path) -> Path:
    """Lay out a notebook."""
    from leptonami import html  # noqa: PLC0415 - its time is measured

    return html.render(path, out)


def record(path: Path, out: Path) -> Path:
    """Lay out a decision record, its figure included."""
    from leptonami import page  # noqa: PLC0415
    from leptonami.decide import madr, store  # noqa: PLC0415

    return page.put(madr.page(store.read(path)), out)


def index(out: Path) -> Path:
    """Lay out the index of a run of all notebooks."""
    from leptonami.pipeline import index as pages  # noqa: PLC0415
    from leptonami.pipeline.record import NotebookRecord, Record  # noqa: PLC0415

    started = "2026-01-01T00:00:00+00:00"
    done = [
        NotebookRecord(name=each.stem, title=each.stem, state="completed", started=started, seconds=1.0)
        for each in sorted((ROOT / "notebooks").glob("*.ipynb"))
    ]
    return pages.write(Record(run="a-run", state="completed", started=started, seconds=9.0, notebooks=done), out.parent)


def lay_out(name: str) -> dict[str, Any]:
    """Lay out a page twice in this process."""
    with tempfile.TemporaryDirectory() as folder:
        began, busy = time.perf_counter(), time.process_time()
        path = page_of(name)(Path(folder) / "page.html")
        cold, busy = time.perf_counter() - began, time.process_time() - busy
        began = time.perf_counter()
        page_of(name)(Path(folder) / "page.html")
        return {"cold": cold, "cpu": busy, "warm": time.perf_counter() - began, "bytes": path.stat().st_size}


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Lay out a page in several processes, and give the medians."""
    found = []
    for _ in range(rounds):
        command = [sys.executable, __file__, "--one", name]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{name}: {done.stderr[-2000:]}")
        found.append({**json.loads(done.stdout), "process": time.perf_counter() - began})
    seconds = {
        key: round(statistics.median(each[key] for each in found), 3) for key in ("process", "cold", "cpu", "warm")
    }
    size = found[0]["bytes"]
    fast, small = seconds["cold"] < MAX_SECONDS, size < MAX_BYTES
    return {"page": Path(name).name, **seconds, "bytes": size, "within": fast and small}


def main() -> int:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(description="How long pages take, and how large they are.")
    parser.add_argument("pages", nargs="*", metavar="NOTEBOOK", help="notebooks, or the .json of decision records")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(lay_out(options.one)))
        return 0
    kept = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *sorted((ROOT / "docs" / "records").glob("*.json"))]
    found = [measure(each, options.rounds) for each in options.pages or [*map(str, kept), INDEX]]
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"{'page':32} {'bytes':>9} {'process s':>10} {'cold s':>8} {'its CPU s':>10} {'warm s':>8}")
        for each in found:
            line = f"{each['page']:32} {each['bytes']:>9,} {each['process']:>10} {each['cold']:>8}"
            line += f" {each['cpu']:>10} {each['warm']:>8}"
            print(line + ("" if each["within"] else "  over the target"))
    return 0 if all(each["within"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
