"""`leptonami explain gpu-operator`: recordings, a must-gather, logs, a live cluster, and the driver image."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kubeserver import KubeServer, serving, status

from leptonami import datafiles
from leptonami.cli import cli, main
from leptonami.errors import InputError
from leptonami.explain import live
from leptonami.explain.gpuoperator import Driver, explain, labels_of, labels_of_os
from leptonami.kube import connect
from leptonami.readers.objects import Node
from leptonami.verdicts.operands import Health

RECORDED = datafiles.path("recorded")
FLEET = RECORDED / "autoscaler" / "broken-fleet"
LISTING = RECORDED / "original" / "gpu-operator-get-all.txt"
AUTOSCALER = RECORDED / "original" / "cluster-autoscaler.log"
# Synthetic, by the facts: what a device plugin writes that finds no GPU and waits for ever (known issue K16).
IDLE = (
    "I0624 10:01:18.799000       1 main.go:154] Starting FS watcher.\n"
    "I0624 10:01:18.799100       1 main.go:161] Starting OS watcher.\n"
    "I0624 10:01:18.799200       1 main.go:176] Starting Plugins.\n"
    "I0624 10:01:18.799300       1 main.go:234] Loading configuration.\n"
    "E0624 10:01:18.799400       1 factory.go:115] Incompatible platform detected\n"
    "I0624 10:01:18.800000       1 main.go:287] No devices found. Waiting indefinitely.\n"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["explain", "gpu-operator", *map(str, arguments)])


@dataclass
class Ended:
    exit_code: int
    stdout: str
    output: str


def piped(*arguments: object, input: bytes) -> Ended:
    """As a shell runs it: standard input of tests has no `peek`."""
    command = [sys.executable, "-m", "leptonami", "explain", "gpu-operator", "-", *map(str, arguments)]
    done = subprocess.run(command, input=input, capture_output=True, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err
    return Ended(done.returncode, out, out + err)


def words(text: str) -> str:
    return " ".join(text.split())


def leave(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["explain", "gpu-operator", *map(str, arguments)])
    told = capsys.readouterr()
    return caught.value.code, told.out, told.err


def test_the_original_listing_is_healthy_as_far_as_a_listing_tells() -> None:
    result = run(LISTING)
    told = words(result.stdout)
    assert result.exit_code == 0
    assert "Healthy as far as a listing can tell" in told and "4 validator pods Completed" in told
    assert "Provenance: recorded on 2023-06-24 (original)" in told


def test_the_original_device_plugin_alone() -> None:
    result = run(RECORDED / "original" / "device-plugin.log")
    told = words(result.stdout)
    assert result.exit_code == 0
    assert "registered nvidia.com/gpu with the kubelet (device-plugin.log, line 56)" in told
    assert "The driver is the host's own." in told


def test_a_device_plugin_that_waits_for_ever_is_wrong_though_it_runs() -> None:
    result = piped("--json", input=IDLE.encode())
    document = json.loads(result.stdout)
    assert (result.exit_code, document["wrong"]) == (3, True)
    assert document["device_plugin_logs"][0]["state"] == "idle"
    assert "waits for ever" in document["story"][0]


def test_a_broken_stack_names_the_first_link_and_ends_with_3() -> None:
    result = run(FLEET)
    told = words(result.stdout)
    assert result.exit_code == 3
    assert "Broken on 5 of 5 GPU nodes: the first link that is not whole is the driver" in told
    assert "What to do:" in told
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_autoscalers_status_beside_the_objects_tells_when_they_were_taken() -> None:
    # Without it, what has been Pending for half an hour would still count as starting.
    found = explain(str(RECORDED / "autoscaler" / "broken-toolkit"))
    assert found.verdict.state is Health.BROKEN
    assert "K33" in found.verdict.issues


def test_json_has_everything_and_no_key_with_a_space() -> None:
    document = json.loads(run(FLEET, "--json").stdout)
    assert {"provenance", "recording", "state", "nodes", "operands", "wrong", "operator_version"} <= set(document)

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from value
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from keys(each)

    assert not [each for each in keys(document) if " " in each]


def test_an_archive_is_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "must-gather.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("nodes.json", "pods.json", "daemonsets.json"):
            archive.add(FLEET / name, f"must-gather/{name}")
    found = explain(str(path), now=datetime(2026, 11, 23, 17, 5, tzinfo=UTC))
    assert (found.wrong, len(found.verdict.nodes), len(found.inputs)) == (True, 5, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_standard_input() -> None:
    nodes, pods = ((FLEET / name).read_bytes() for name in ("nodes.json", "pods.json"))
    document = json.loads(piped("--json", input=nodes + b"\n" + pods).stdout)
    assert len(document["nodes"]) == 5


@pytest.mark.parametrize(
    ("content", "says", "hint"),
    [
        (
            (RECORDED / "original" / "cluster-autoscaler.log").read_bytes(),
            "an autoscaler",
            "leptonami explain autoscaler",
        ),
        (b"Lorem ipsum\n", "some other text", "kubectl get pods"),
        (b'{"kind": "Service", "metadata": {"name": "x"}}', "Kubernetes objects", "kubectl get pods"),
    ],
)
def test_another_kind_of_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, says: str, hint: str
) -> None:
    (tmp_path / "x").write_bytes(content)
    code, out, err = leave(capsys, tmp_path / "x")
    assert (code, out) == (2, "")
    assert says in err and hint in err


def test_untrusted_names_cannot_drive_the_terminal() -> None:
    node = {
        "kind": "Node",
        "metadata": {"name": "n\x1b[2J\x07", "labels": {"nvidia.com/gpu.present": "true"}},
        "status": {"allocatable": {"nvidia.com/gpu": "1"}, "capacity": {"nvidia.com/gpu": "1"}},
    }
    result = piped(input=json.dumps(node).encode())
    assert "\x1b" not in result.output and "\x07" not in result.output


# --- the driver image -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("os", "code", "image", "exists"),
    [
        ("amzn2", 3, "nvcr.io/nvidia/driver:525.105.17-amzn2", "which does not exist"),
        ("ubuntu22.04", 0, "nvcr.io/nvidia/driver:525.105.17-ubuntu22.04", "which exists"),
        ("Ubuntu 22.04", 0, "nvcr.io/nvidia/driver:525.105.17-ubuntu22.04", "which exists"),
    ],
)
def test_the_driver_image_of_an_os_before_anything_is_installed(os: str, code: int, image: str, exists: str) -> None:
    result = run("--os", os, "--driver-version", "525.105.17")
    assert result.exit_code == code
    assert image in words(result.stdout) and exists in words(result.stdout)
    assert json.loads(run("--os", os, "--driver-version", "525.105.17", "--json").stdout)["image"] == image


@pytest.mark.parametrize("arguments", [["--os", "amzn2"], ["--os", "x", "--driver-version", "1"], []])
def test_what_the_prediction_needs(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = leave(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err


def node_of(os_image: str, **labels: str) -> Node:
    return Node.of({"metadata": {"name": "a", "labels": labels}, "status": {"nodeInfo": {"osImage": os_image}}}, "x")


@pytest.mark.parametrize(
    ("os_image", "family", "version"),
    [
        ("Amazon Linux 2", "amzn", "2"),
        ("Amazon Linux 2023.4.20240611", "amzn", "2023"),
        ("Ubuntu 22.04.3 LTS", "ubuntu", "22.04"),
        ("Bottlerocket OS 1.19.2 (aws-k8s-1.28-nvidia)", "bottlerocket", "1.19.2"),
        ("Red Hat Enterprise Linux 9.4 (Plow)", "rhel", "9.4"),
    ],
)
def test_without_node_feature_discovery_the_os_of_the_node_tells(os_image: str, family: str, version: str) -> None:
    assert labels_of(node_of(os_image)) == labels_of_os(f"{family}{version}")


def test_labels_hold_before_the_name_of_the_os_and_an_unknown_os_stays_unknown() -> None:
    labels = labels_of_os("ubuntu24.04")
    assert labels_of(node_of("Amazon Linux 2", **labels)) == labels
    assert labels_of(node_of("Plan 9")) == {}
    with pytest.raises(InputError, match="not an OS"):
        labels_of_os("amzn")


def test_the_driver_image_of_nodes(tmp_path: Path) -> None:
    nodes = [
        {"kind": "Node", "metadata": {"name": name}, "status": {"nodeInfo": {"osImage": image}}}
        for name, image in (("a", "Amazon Linux 2"), ("b", "Amazon Linux 2"), ("c", "Ubuntu 22.04.3 LTS"))
    ]
    (tmp_path / "nodes.json").write_text(json.dumps({"kind": "List", "items": nodes}))
    found = explain(str(tmp_path), driver=Driver("525.105.17"))
    assert [image.published for _, image in found.images] == [False, False, True]
    assert found.wrong
    result = run(tmp_path, "--driver-version", "525.105.17")
    assert result.exit_code == 3
    assert "2 nodes (a and others): the operator would ask for" in words(result.stdout)


# --- a live cluster ---------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubeServer]:
    with serving(tmp_path) as running:
        running.take(FLEET)
        pods = running.lists["/api/v1/pods"]
        plugin = next(each for each in pods if each["metadata"]["name"].startswith("nvidia-device-plugin-daemonset"))
        plugin["status"] = {**plugin["status"], "phase": "Running"}
        running.logs[f"/api/v1/namespaces/{plugin['metadata']['namespace']}/pods/{plugin['metadata']['name']}/log"] = (
            IDLE.encode()
        )
        yield running


def test_a_live_cluster_with_the_logs_of_its_device_plugins(server: KubeServer) -> None:
    with connect(kubeconfig=server.kubeconfig) as cluster:
        found = live.gpu_operator(cluster, now=datetime(2026, 11, 23, 17, 6, tzinfo=UTC))
    assert (found.provenance, found.name, found.wrong) == ("simulated", "test", True)
    assert [str(each.state) for each in found.plugins] == ["idle"]
    assert {verb for verb, _ in server.asked} == {"GET"}
    assert [path for _, path in server.asked if path.endswith("log?timestamps=true")]


def test_a_live_cluster_by_the_command(server: KubeServer) -> None:
    arguments = ["--kubeconfig", str(server.kubeconfig), "--json"]
    result = run(*arguments)
    document = json.loads(result.stdout)
    assert (result.exit_code, document["provenance"]) == (3, "simulated")


def test_a_log_that_is_refused_is_told(server: KubeServer) -> None:
    path = next(iter(server.logs))
    server.wrong[path] = lambda handler, query: status(handler, 403, "forbidden")
    with connect(kubeconfig=server.kubeconfig) as cluster:
        found = live.gpu_operator(cluster, now=datetime(2026, 11, 23, 17, 6, tzinfo=UTC))
    assert any("not allowed to get pods/log" in each for each in found.problems)


def test_device_plugins_on_nodes_that_offer_nothing_come_first() -> None:
    def pod(name: str, node: str, phase: str = "Running") -> dict[str, Any]:
        about = {"name": f"nvidia-device-plugin-{name}", "namespace": "gpu"}
        return {"metadata": about, "spec": {"nodeName": node}, "status": {"phase": phase}}

    nodes = [
        {"metadata": {"name": "well"}, "status": {"allocatable": {"nvidia.com/gpu": "4"}}},
        {"metadata": {"name": "bad"}, "status": {"allocatable": {"nvidia.com/gpu": "0", "cpu": "4"}}},
    ]
    pods = [pod("a", "well"), pod("b", "bad"), pod("c", "bad", "Pending"), {"metadata": None}]
    chosen = live.device_plugin_pods(pods, nodes, None)
    assert [live.name_of(each) for each in chosen] == ["nvidia-device-plugin-b", "nvidia-device-plugin-a"]
    assert live.device_plugin_pods(pods, nodes, "elsewhere") == []


def test_an_archive_on_standard_input() -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.add(LISTING, "listing.txt")
    assert piped(input=held.getvalue()).exit_code == 0


def test_nothing_on_standard_input() -> None:
    ended = piped(input=b"")
    assert (ended.exit_code, ended.stdout) == (2, "")
