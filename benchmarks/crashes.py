"""Kill a build right before and right after each of its AWS calls, resume it, and look at what is left.

    make setup && apt-get install packer
    .venv/bin/python benchmarks/crashes.py                       # every point of leptonami: killed, then resumed
    .venv/bin/python benchmarks/crashes.py --sweep               # killed, then swept and not resumed
    .venv/bin/python benchmarks/crashes.py --tool packer         # the same points of Debian's packer: what it leaves
    .venv/bin/python benchmarks/crashes.py --points 3,17         # some points only
    .venv/bin/python benchmarks/crashes.py --publish             # of a build that publishes its image at its end

A small proxy stands between the tool and the lab. It counts the requests, and at the chosen one kills the tool with
SIGKILL: `before` the request is passed on, or `after` it has taken effect and before its answer comes back. The tool
knows nothing of it.

Provenance: measured on this machine, against a simulated AWS.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packer import base_image, packer_template

from leptonami.lab import Lab, start
from leptonami.runs import Journal

MOMENTS = ("before", "after")
PLAN = """\
schema: 1
name: crash
family: ubuntu-eks
os: "22.04"
kubernetes: "1.34"
architecture: amd64
region: us-west-2
builder: {instance_types: [m5.large]}
root_volume: {size_gib: 30}
steps: [settle, versions, hygiene]
image: {name: "crash-{run}"}
"""
# A build that publishes its image at its end: a copy, and parameters in both regions.
PUBLISH = """\
publish: {regions: [us-east-1], ssm_parameter: /crash, deprecate_after: 90d}
"""
MADE = {"images": 1, "snapshots": 1}
# The state names parameters by their names, which are the same in both regions.
PUBLISHED = {"images": 2, "snapshots": 2, "parameters": 1}
# What differs between any two runs, and so between a resumed and an undisturbed one.
VARYING = {"run", "started", "updated", "seconds", "stages", "calls", "removed", "tools", "built_at", "run_id"}
# A warning counts the days that are left: an undisturbed build before midnight and one resumed after it differ there.
DAYS = re.compile(r"in \d+ days")
IDS = re.compile(r"(ami|i|snap|sg|subnet|vol|eni)-[0-9a-f]{8,17}|\d{8}-\d{6}-[0-9a-f]{6}|[0-9a-f]{32,64}")


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the lab, and kills a process at the chosen one."""

    daemon_threads = True

    def __init__(self, lab: Lab) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lab = urlsplit(lab.url).netloc
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.arm(0, "before")

    def arm(self, point: int | tuple[str, int], moment: str) -> None:
        """Choose the request: its number from 1 on (0 for none), or an operation and which one of its kind."""
        self.point, self.moment, self.count, self.victim, self.struck = point, moment, 0, 0, ""
        self.seen: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a killed tool does not read its answer."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Pass a request on, with the blow before or after it."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.count += 1
            name = operation(self.headers, body)
            self.server.seen.append(name)
            mine = self.server.point in {self.server.count, (name, self.server.seen.count(name))}
        if mine and self.server.moment == "before":
            self.strike(name)
            return
        connection = http.client.HTTPConnection(self.server.lab, timeout=60)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            # A fault of the lab: its connection broke, and so does the tool's.
            self.close_connection = True
            if mine:
                self.strike(name)
            return
        finally:
            connection.close()
        if mine:
            self.strike(name)
            return
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in {"transfer-encoding", "content-length", "connection", "date", "server"}:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def strike(self, name: str) -> None:
        """Kill the tool with everything that it started."""
        self.server.struck = name
        os.killpg(self.server.victim, signal.SIGKILL)
        self.close_connection = True


def operation(headers: Any, body: bytes) -> str:
    """Name the operation of a request."""
    if target := headers.get("X-Amz-Target"):
        return str(target).rpartition(".")[2]
    found = re.search(rb"Action=(\w+)", body)
    return found[1].decode() if found else "?"


@dataclass
class Trial:
    """One crash: where, what the tool left, and what came of resuming or sweeping."""

    tool: str
    point: int | tuple[str, int]
    moment: str
    operation: str
    left: dict[str, int]
    after: dict[str, int] = field(default_factory=dict)
    verdict: str = ""
    detail: str = ""


class Harness:
    """A lab, the proxy before it, and a folder to work in."""

    def __init__(self, lab: Lab, proxy: Proxy, folder: Path) -> None:
        self.lab, self.proxy, self.folder = lab, proxy, folder
        self.environment = {**os.environ, **lab.environment, "AWS_ENDPOINT_URL": proxy.url}
        self.plan = folder / "crash.yaml"
        self.plan.write_text(PLAN)
        self.wanted = MADE
        self.number = 0

    def publishing(self) -> None:
        """Let builds publish. `latest` is there after the first of them; each has the parameters of its version."""
        self.plan.write_text(PLAN + PUBLISH)
        self.wanted = PUBLISHED

    def state(self) -> dict[str, set[str]]:
        """Name everything that is in the account."""
        found: dict[str, list[str]] = self.lab.state(ids=True)
        return {kind: set(ids) for kind, ids in found.items()}

    def more(self, before: dict[str, set[str]]) -> dict[str, int]:
        """Count what has come since."""
        now = self.state()
        return {kind: len(now[kind] - before[kind]) for kind in now if now[kind] - before[kind]}

    def start(self, command: list[str]) -> tuple[int, str]:
        """Run the tool in a process group of its own; gives its exit code and what it said."""
        process = subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.proxy.victim = process.pid
        out, _ = process.communicate(timeout=600)
        return process.returncode, out

    def leptonami(self, *arguments: str) -> tuple[int, str]:
        """Run leptonami."""
        return self.start([sys.executable, "-m", "leptonami", *arguments])

    def build(self, run: str, *, resume: bool = False) -> tuple[int, str]:
        """Build, or go on."""
        return self.leptonami("build", str(self.plan), "--quiet", "--resume" if resume else "--run", run)

    def run_id(self) -> str:
        """Give a new run id."""
        self.number += 1
        return f"20261123-220000-{self.number:06x}"

    def manifest(self, run: str) -> Any:
        """Read a run's manifest, without what differs between any two runs."""
        return without_varying(json.loads((self.folder / "runs" / run / "manifest.json").read_text()))

    def undisturbed(self) -> tuple[list[str], Any]:
        """Build once in peace: the operations in order, and the manifest."""
        self.proxy.arm(0, "before")
        run = self.run_id()
        code, said = self.build(run)
        if code != 0:
            sys.exit(f"the undisturbed build failed:\n{said}")
        return list(self.proxy.seen), self.manifest(run)

    def resume_trial(self, point: int | tuple[str, int], moment: str, wanted: Any) -> Trial:
        """Kill a build at a point, resume it, and compare with an undisturbed one."""
        before, run = self.state(), self.run_id()
        trial, killed = self.kill(point, moment, before, run)
        if not killed:
            return trial
        begun = (self.folder / "runs" / run / "journal.jsonl").exists()
        self.proxy.arm(0, "before")
        code, said = self.build(run, resume=begun)
        trial.after = self.more(before)
        problems = []
        if code != 0:
            problems.append(f"exit code {code}: {said.strip().splitlines()[-1] if said.strip() else ''}")
        if trial.after != self.wanted:
            problems.append(f"left {trial.after}")
        if not problems and self.manifest(run) != wanted:
            problems.append(f"another manifest: {', '.join(difference(self.manifest(run), wanted))}")
        trial.verdict, trial.detail = ("resumed" if not problems else "WRONG"), "; ".join(problems)
        return trial

    def sweep_trial(self, point: int | tuple[str, int], moment: str) -> Trial:
        """Kill a build at a point, sweep, and see that the account is as it was."""
        before, run = self.state(), self.run_id()
        trial, killed = self.kill(point, moment, before, run)
        if not killed:
            return trial
        self.proxy.arm(0, "before")
        code, said = self.leptonami("sweep", "--yes", "--json", "--region", "us-west-2")
        trial.after = self.more(before)
        # A finished image is what the build was for: a sweep never takes one.
        finished = trial.after == {"images": 1, "snapshots": 1} and self.finished(run)
        clean = code == 0 and (not trial.after or finished)
        trial.verdict = "WRONG" if not clean else "swept, finished image kept" if finished else "swept"
        trial.detail = "" if clean else f"exit code {code}, left {trial.after}: {said.strip()[-300:]}"
        return trial

    def finished(self, run: str) -> bool:
        """Tell whether a run had finished its image before it was killed."""
        entries = Journal(self.folder / "runs" / run / "journal.jsonl").read()
        return any(each.get("event") == "done" and each.get("action") == "ec2.ModifyImageAttribute" for each in entries)

    def kill(
        self, point: int | tuple[str, int], moment: str, before: dict[str, set[str]], run: str
    ) -> tuple[Trial, bool]:
        """Kill a build at a point; False if it had ended before it came there."""
        self.proxy.arm(point, moment)
        self.build(run)
        trial = Trial("leptonami", point, moment, self.proxy.struck, self.more(before))
        if not self.proxy.struck:
            trial.verdict = "not reached"
        return trial, bool(self.proxy.struck)

    def packer_trial(self, point: int | tuple[str, int], moment: str) -> Trial:
        """Kill packer at a point, and see what it leaves. It cannot go on, and it has no sweep."""
        before = self.state()
        self.number += 1
        template = self.folder / f"packer-{self.number}.json"
        content = packer_template(self.lab, base_image(self.lab), self.number)
        content["builders"][0]["custom_endpoint_ec2"] = self.proxy.url
        template.write_text(json.dumps(content))
        self.environment |= {"AWS_POLL_DELAY_SECONDS": "1", "CHECKPOINT_DISABLE": "1"}
        self.proxy.arm(point, moment)
        self.start(["packer", "build", str(template)])
        left = self.more(before)
        verdict = "left behind" if left else "nothing left"
        if left == MADE and self.proxy.struck == "DeleteKeyPair":
            verdict = "nothing left but the finished image"
        elif not self.proxy.struck:
            verdict = "not reached"
        return Trial("packer", point, moment, self.proxy.struck, left, left, verdict)


def named(seen: list[str], number: int) -> tuple[str, int]:
    """Name a call of the undisturbed build by its operation and which one of its kind it was.

    A trial may ask once more or once less whether something is done; the number of every later call moves then, and
    the last ones would be missed.
    """
    name = seen[number - 1]
    return name, seen[:number].count(name)


def without_varying(value: Any) -> Any:
    """Take out of a manifest what differs between any two runs."""
    if isinstance(value, dict):
        return {key: without_varying(each) for key, each in value.items() if key not in VARYING}
    if isinstance(value, list):
        return [without_varying(each) for each in value]
    return DAYS.sub("in <n> days", IDS.sub("<id>", value)) if isinstance(value, str) else value


def difference(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Name the places where two manifests differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(set(one) | set(other)):
            yield from difference(one.get(key), other.get(key), f"{where}.{key}".strip("."))
    elif one != other:
        yield f"{where} ({str(one)[:60]} / {str(other)[:60]})"


@contextmanager
def harness(seed: int | None = None) -> Iterator[Harness]:
    """Start a lab without delays, the proxy, and a folder."""
    with tempfile.TemporaryDirectory() as name, start(speed=float("inf"), seed=seed) as lab:
        proxy = Proxy(lab)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield Harness(lab, proxy, Path(name))
        finally:
            proxy.shutdown()
            proxy.server_close()


def main() -> None:
    """Try the points, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", choices=("leptonami", "packer"), default="leptonami")
    parser.add_argument("--sweep", action="store_true", help="sweep instead of resuming")
    parser.add_argument("--publish", action="store_true", help="the build publishes too: a copy, parameters")
    parser.add_argument("--points", help="numbers of calls, with commas")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.tool == "packer" and shutil.which("packer") is None:
        sys.exit("packer is missing: apt-get install packer")
    trials: list[Trial] = []
    with harness() as tried:
        wanted: Any = None
        if options.publish:
            tried.publishing()
        if options.tool == "leptonami":
            seen, wanted = tried.undisturbed()
        else:
            tried.packer_trial(0, "before")
            seen = list(tried.proxy.seen)
        numbers = [int(each) for each in options.points.split(",")] if options.points else range(1, len(seen) + 1)
        for number in numbers:
            point = named(seen, number)
            for moment in MOMENTS:
                if options.tool == "packer":
                    trial = tried.packer_trial(point, moment)
                elif options.sweep:
                    trial = tried.sweep_trial(point, moment)
                else:
                    trial = tried.resume_trial(point, moment, wanted)
                trials.append(trial)
                left = ", ".join(f"{number} {kind}" for kind, number in trial.left.items()) or "nothing"
                if not options.json:
                    print(
                        f"{number:4} {moment:6} {point[0]:32} left {left:60} {trial.verdict} {trial.detail}",
                        flush=True,
                    )
    verdicts = {each.verdict: sum(other.verdict == each.verdict for other in trials) for each in trials}
    if options.json:
        print(json.dumps({"verdicts": verdicts, "trials": [asdict(each) for each in trials]}, indent=2))
    else:
        print(", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items())))
    sys.exit(1 if "WRONG" in verdicts else 0)


if __name__ == "__main__":
    main()
