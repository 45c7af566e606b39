"""How quick the lab's AWS is beside moto's own server, on which it stands: start until the first answer, and calls.

    python benchmarks/lab.py [--rounds 5]

Both are processes of their own on 127.0.0.1, one after the other in each round, asked by one boto3 client. moto's own
server does less: no faults, no policies, no snapshots that take their time. Medians, and the lab's as a ratio of
moto's. Measured, on the machine that runs this.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import EndpointConnectionError

from leptonami.lab import start

CALLS = 200


def asked(client: Any) -> float:
    """Give the milliseconds of a DescribeInstances, of many one after the other."""
    begun = time.perf_counter()
    for _ in range(CALLS):
        client.describe_instances()
    return (time.perf_counter() - begun) / CALLS * 1000


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    """Run moto's server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As the lab does: without moto's own 1,300 images, which take seconds.
    environment = {**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_DEFAULT_REGION": "us-west-2",
            }
        finally:
            process.terminate()


@contextmanager
def lab() -> Iterator[dict[str, str]]:
    """Run the lab."""
    with start(speed=1000) as running:
        yield running.environment


def measure(server: Any) -> tuple[float, float]:
    """Give the seconds until a server's first answer, and the milliseconds of a call."""
    begun = time.perf_counter()
    with server() as environment:
        os.environ.update(environment)
        client = boto3.Session().client("ec2", config=boto3.session.Config(retries={"total_max_attempts": 1}))
        while True:
            try:
                client.describe_instances()
                break
            except EndpointConnectionError:
                time.sleep(0.02)
        started = time.perf_counter() - begun
        found = started, asked(client)
        client.close()
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, {rounds} rounds")
    found: dict[str, list[tuple[float, float]]] = {"moto": [], "lab": []}
    for _ in range(rounds):
        for name, server in (("moto", moto), ("lab", lab)):
            found[name].append(measure(server))
    for number, what in enumerate(("seconds until the first answer", "milliseconds a DescribeInstances")):
        moto_s, lab_s = (statistics.median(each[number] for each in found[name]) for name in ("moto", "lab"))
        print(f"{what:<34} moto {moto_s:6.2f}  lab {lab_s:6.2f}  ratio {lab_s / moto_s:.2f}")


if __name__ == "__main__":
    main()
