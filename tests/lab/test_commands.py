"""`leptonami lab up` and `leptonami lab exec`, and other people's clients against them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab
LEPTONAMI = [sys.executable, "-m", "leptonami"]
LATE_S = 120.0  # on however busy a machine


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **more}
    return subprocess.run(
        [*LEPTONAMI, "lab", *arguments], capture_output=True, text=True, timeout=120, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("script", "wanted"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
)
def test_exec_ends_with_the_commands_code(script: str, wanted: int) -> None:
    assert run("exec", "--speed", "0", "--", "sh", "-c", script).returncode == wanted


def test_exec_gives_its_environment_and_hides_the_users() -> None:
    script = 'env; echo "CONFIG=$(tr -d "\n" < "$KUBECONFIG")"'
    words = ["exec", "--region", "eu-west-1", "--cluster", "--", "sh", "-c", script]
    done = run(*words, AWS_PROFILE="mine", AWS_SESSION_TOKEN="secret", OTHER="kept")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert (found["LEPTONAMI_LAB"], found["AWS_EC2_METADATA_DISABLED"], found["OTHER"]) == ("1", "true", "kept")
    assert "AWS_PROFILE" not in found and "AWS_SESSION_TOKEN" not in found
    assert json.loads(found["CONFIG"])["current-context"] == "leptonami"


def test_exec_says_what_cannot_be_run() -> None:
    done = run("exec", "--", "/no/such/program")
    assert done.returncode == 2 and "/no/such/program: cannot be run" in done.stderr
    assert "Traceback" not in done.stderr


def test_exec_passes_signals_on(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'exit 9' TERM; touch {ready}; while :; do sleep 0.05; done"
    process = subprocess.Popen([*LEPTONAMI, "lab", "exec", "--", "sh", "-c", script])
    try:
        end = time.monotonic() + LATE_S
        while not ready.exists():
            assert time.monotonic() < end
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LATE_S) == 9
    finally:
        process.kill()
        process.wait()


EARLY = """
import os, signal, subprocess, sys, time
from leptonami.cli import main
popen = subprocess.Popen

def early(command, *more, **known):
    process = popen(command, *more, **known)
    if command[0] == "sh":
        while not os.path.exists(sys.argv[-1]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
    return process

subprocess.Popen = early
ready = sys.argv[-1]
script = f"trap 'exit 9' TERM; touch {ready}; while :; do sleep 0.05; done"
sys.argv[1:] = ["lab", "exec", "--", "sh", "-c", script, ready]
main()
"""


def test_exec_passes_on_what_came_before_it_knew_of_the_command(tmp_path: Path) -> None:
    words = [sys.executable, "-c", EARLY, str(tmp_path / "ready")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LATE_S, check=False)
    assert done.returncode == 9, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_prints_what_to_paste_and_ends_on_a_signal(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*LEPTONAMI, "lab", "up", "--no-cluster", "--seed", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        exports = {}
        for line in process.stdout:
            found = re.fullmatch(r"export ([A-Z0-9_]+)=(\S+)\n", line)
            assert found, line
            exports[found[1]] = found[2]
            if found[1] == "LEPTONAMI_POLL":
                break
        with urllib.request.urlopen(f"{exports['AWS_ENDPOINT_URL']}/lab-api/state", timeout=LATE_S) as answer:
            assert json.load(answer)["instances"] == 0
        process.send_signal(number)
        rest, story = process.communicate(timeout=LATE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0 and rest == ""
    assert "Ctrl-C" in story and "Traceback" not in story


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_up_has_a_cluster_that_status_shows_and_down_ends() -> None:
    with subprocess.Popen(
        [*LEPTONAMI, "lab", "up", "--kubernetes", "1.32"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            exports: dict[str, str] = {}
            while "LEPTONAMI_POLL" not in exports:
                name, _, value = process.stdout.readline().removeprefix("export ").strip().partition("=")
                exports[name] = value
            kubeconfig = Path(exports["KUBECONFIG"])
            assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
            # Other labs may run on this machine: this one is known by its address.
            found = json.loads(run("status", "--json").stdout)
            (mine,) = [each for each in found if each["url"] == exports["AWS_ENDPOINT_URL"]]
            (cluster,) = mine["clusters"]
            assert (cluster["name"], cluster["version"], cluster["status"]) == ("leptonami", "1.32", "ACTIVE")
            assert mine["simulated"] and cluster["nodes"] == {"count": 0, "ready": 0}
            shown = run("status").stdout
            assert (
                mine["url"] in shown
                and "1 security group, 2 roles, 1 cluster\n" in shown
                and "cluster leptonami  1.32  ACTIVE  0 of 0 nodes ready" in shown
            )
            pid = str(mine["pid"])
            assert run("kubeconfig", "--pid", pid).stdout == f"{kubeconfig}\n"
            missing = run("kubeconfig", "--pid", pid, "--cluster", "none")
            assert missing.returncode == 2 and "clusters: leptonami" in missing.stderr
            done = run("down", "--pid", pid)
            assert done.returncode == 0 and "has ended" in done.stderr
            story = process.stderr.read()
            assert process.wait(LATE_S) == 0 and "everything in it is gone" in story and "Traceback" not in story
            assert not kubeconfig.exists() and not kubeconfig.parent.parent.parent.exists()
            assert gone(int(pid)) and (cluster["fleet"]["pid"] is None or gone(cluster["fleet"]["pid"]))
            again = run("down", "--pid", pid)
            assert again.returncode == 2 and f"no lab of yours has the process id {pid}" in again.stderr
        finally:
            process.kill()


def test_a_version_that_eks_does_not_have_is_refused_at_once() -> None:
    done = run("up", "--kubernetes", "1.99")
    assert done.returncode == 2 and "EKS has no version '1.99'" in done.stderr


def test_faults_come_from_a_file(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text('[{"kind": "throttle"}]')
    script = (
        "import os, urllib.request as u; print(u.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/lab-api/faults').read())"
    )
    done = run("exec", "--faults", str(faults), "--", sys.executable, "-c", script)
    assert '"kind": "throttle"' in done.stdout
    for text in ("{", '[{"kind": "x"}]', "7"):
        faults.write_text(text)
        done = run("exec", "--faults", str(faults), "--", "true")
        assert done.returncode == 2 and "error: " in done.stderr and "Traceback" not in done.stderr


def test_the_aws_cli_works(tmp_path: Path) -> None:
    aws = shutil.which("aws")
    if aws is None:
        pytest.skip("no aws CLI: apt-get install awscli")
    query = ["--owners", "099720109477", "--query", "length(Images)", "--output", "text"]
    # Not every version knows AWS_ENDPOINT_URL (2.13 does, Debian 12's 2.9 does not); all of them know the option.
    command = 'exec "$@" --endpoint-url "$AWS_ENDPOINT_URL"'
    words = ["sh", "-c", command, "aws", aws, "ec2", "describe-images", *query]
    done = run("exec", "--", *words, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_packer_builds_an_image(tmp_path: Path) -> None:
    packer = shutil.which("packer")
    if packer is None:
        pytest.skip("no packer: apt-get install packer")
    template = {
        "variables": {"endpoint": "{{env `AWS_ENDPOINT_URL`}}"},
        "builders": [
            {
                "type": "amazon-ebs",
                "region": "us-west-2",
                "communicator": "none",
                "custom_endpoint_ec2": "{{user `endpoint`}}",
                "skip_region_validation": True,
                "instance_type": "g4dn.xlarge",
                "ami_name": "by-packer",
                "source_ami_filter": {
                    "filters": {"name": "ubuntu-eks/k8s_1.33/images/*jammy*amd64*", "root-device-type": "ebs"},
                    "owners": ["099720109477"],
                    "most_recent": True,
                },
                "tags": {"made-by": "packer"},
            }
        ],
    }
    file = tmp_path / "build.json"
    file.write_text(json.dumps(template))
    done = run(
        "exec", "--speed", "0", "--", packer, "build", "-color=false", str(file),
        HOME=str(tmp_path), CHECKPOINT_DISABLE="1", AWS_POLL_DELAY_SECONDS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"us-west-2: ami-[0-9a-f]{17}", done.stdout)
