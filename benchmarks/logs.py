"""leptonami against general engines on a large cluster-autoscaler log.

    .venv/bin/python benchmarks/logs.py generate --bytes 1G --nodes 400 --seed 1 /tmp/ca.log --truth /tmp/ca.json
    .venv/bin/python benchmarks/logs.py run /tmp/ca.log --truth /tmp/ca.json [--rounds 3] [--engines re,duckdb] [--json]

The log is synthetic: made from the recordings in `data/recorded/autoscaler`, many nodes, a realistic mix, and the right
answers are written down as it is made. The question is the same for all (`logbench/question.py`). Each engine runs in a
process of its own, in turns; what is reported is the median of the rounds, from the start of the process to its end,
and the most memory that it held.

Provenance: measured on this machine, on a synthetic log.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path

from logbench.engines import ENGINES, FLOORS
from logbench.rounds import measure, report

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
MOST_NODES = 10_000  # more lines than that in one loop would take longer than a second


def size(text: str) -> int:
    """Read a size: `100M` is 100 million bytes, `1Gi` is 2 to the 30th."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?)B?", text.upper())
    if found is None or found[2] == "I":
        raise argparse.ArgumentTypeError(f"not a size: {text}; write 100M, 1G or 512Mi")
    return int(float(found[1]) * UNITS[found[2]])


def fleet(text: str) -> int:
    """Read a number of nodes."""
    if not text.isdigit() or not 10 <= int(text) <= MOST_NODES:
        raise argparse.ArgumentTypeError(f"not between 10 and {MOST_NODES}: {text}")
    return int(text)


def generate(options: argparse.Namespace) -> int:
    """Make a log, and print the right answers in short."""
    from logbench.generator import Generator  # noqa: PLC0415 - the engines' processes must not pay for it

    began = time.perf_counter()
    generator = Generator(nodes=options.nodes, seed=options.seed, start=options.start)
    with options.out.open("wb") as stream:
        generator.write(options.bytes, stream.write)
    seconds = time.perf_counter() - began
    truth = generator.truth()
    if options.truth:
        options.truth.write_text(json.dumps(truth, indent=1) + "\n")
    short = {name: truth[name] for name in ("bytes", "lines", "loops", "scale_ups", "removed")}
    states: dict[str, int] = {}
    for state, _, _ in truth["nodes"].values():
        states[state] = states.get(state, 0) + 1
    print(json.dumps({**short, "nodes": states, "seconds": round(seconds, 2)}))
    return 0


def answer(options: argparse.Namespace) -> int:
    """Let one engine answer, in this process, and print what it says and the most memory that it held."""
    began = time.perf_counter()
    found = ENGINES[options.engine](options.log)
    seconds = time.perf_counter() - began
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    print(json.dumps({"seconds": seconds, "kib": int(peak[1]), "answer": found.as_dict()}))
    return 0


def run(options: argparse.Namespace) -> int:
    """Compare the engines, and fail if an answer is wrong."""
    result = measure(options.log, options.engines, rounds=options.rounds, truth=options.truth, program=Path(__file__))
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(report(result))
    return 1 if any(each["wrong"] for each in result["engines"]) else 0


def engines(text: str) -> list[str]:
    """Read names of engines."""
    names = text.split(",")
    if unknown := set(names) - set(ENGINES) - set(FLOORS):
        raise argparse.ArgumentTypeError(f"no engine: {', '.join(sorted(unknown))}; {', '.join([*ENGINES, *FLOORS])}")
    return names


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True)
    make = commands.add_parser("generate", help="make a log and the right answers about it")
    make.add_argument("out", type=Path, metavar="OUT")
    make.add_argument("--bytes", type=size, default=size("1G"), help="how large, to within a loop (100M, 1G, 512Mi)")
    make.add_argument("--nodes", type=fleet, default=400, help=f"10 to {MOST_NODES}")
    make.add_argument("--seed", type=int, default=1)
    make.add_argument("--start", type=datetime.fromisoformat, default=datetime(2026, 12, 31, 21), help="UTC")
    make.add_argument("--truth", type=Path, help="where to write the right answers (JSON)")
    make.set_defaults(run=generate)
    compare = commands.add_parser("run", help="compare the engines on a log")
    compare.add_argument("log", type=Path, metavar="LOG")
    compare.add_argument("--truth", type=Path, help="the right answers; without them the engines check one another")
    compare.add_argument("--rounds", type=int, default=3)
    everything = [*ENGINES, *(FLOORS if shutil.which("rg") else [])]
    compare.add_argument("--engines", type=engines, default=everything, help=",".join(everything))
    compare.add_argument("--json", action="store_true")
    compare.set_defaults(run=run)
    one = commands.add_parser("answer", help="let one engine answer; what `run` starts")
    one.add_argument("engine", choices=list(ENGINES))
    one.add_argument("log", type=Path, metavar="LOG")
    one.set_defaults(run=answer)
    return top


def main() -> int:
    """Run the command."""
    options = parser().parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
