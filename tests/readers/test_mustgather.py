"""Must-gathers, descriptions, folders and archives. All synthetic, laid out as gpu-operator's must-gather.sh does."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import gpu_samples as make
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import documents
from leptonami.documents import load_bundle
from leptonami.errors import InputError, LeptonamiError
from leptonami.readers.describe import describe_objects
from leptonami.readers.gpuoperator import operator_state
from leptonami.readers.mustgather import read_evidence
from leptonami.readers.objects import Objects

NODE_DESCRIPTION = """Name:               gpu-a
Roles:              <none>
Labels:             feature.node.kubernetes.io/pci-10de.present=true
                    nvidia.com/gpu.deploy.driver=pre-installed
Annotations:        node.alpha.kubernetes.io/ttl: 0
CreationTimestamp:  Sat, 24 Jun 2023 09:50:00 +0000
Taints:             nvidia.com/gpu=true:NoSchedule
                    other:NoExecute
Unschedulable:      false
Conditions:
  Type             Status  LastHeartbeatTime                 LastTransitionTime                Reason                       Message
  ----             ------  -----------------                 ------------------                ------                       -------
  MemoryPressure   False   Sat, 24 Jun 2023 10:01:00 +0000   Sat, 24 Jun 2023 09:50:00 +0000   KubeletHasSufficientMemory   kubelet has memory
  Ready            True    Sat, 24 Jun 2023 10:01:00 +0000   Sat, 24 Jun 2023 09:50:00 +0000   KubeletReady                 kubelet is posting ready status
Capacity:
  cpu:                4
  nvidia.com/gpu:     2
Allocatable:
  cpu:                3920m
  nvidia.com/gpu:     1
System Info:
  Machine ID:                 ec2
  Kernel Version:             5.15.0-1036-aws
  OS Image:                   Ubuntu 20.04.6 LTS
  Container Runtime Version:  containerd://1.6.12
  Kubelet Version:            v1.26.4
ProviderID:                   aws:///us-east-1a/i-0123456789abcdef0
Non-terminated Pods:          (1 in total)
  Namespace    Name    CPU Requests
Events:
  Type     Reason    Age                 From     Message
  ----     ------    ----                ----     -------
  Warning  Rebooted  4m (x2 over 9m)     kubelet  Node gpu-a has been rebooted


Name:               gpu-b
Roles:              <none>
Labels:             feature.node.kubernetes.io/pci-10de.present=true
Capacity:
  cpu:                4
Events:              <none>
"""  # noqa: E501 - kubectl's layout
POD_DESCRIPTION = """Name:             nvidia-driver-daemonset-x
Namespace:        gpu-operator
Priority:         2000001000
Node:             gpu-a/192.0.2.1
Events:
  Type     Reason   Age                From     Message
  ----     ------   ----               ----     -------
  Normal   Pulling  5m                 kubelet  Pulling image "nvcr.io/nvidia/driver:525.105.17-amzn2"
  Warning  Failed   3m (x4 over 5m)    kubelet  Failed to pull image: nvcr.io/nvidia/driver:525.105.17-amzn2: not found
"""


def must_gather() -> dict[str, bytes]:
    pods = make.stack(without=["driver"])
    files: dict[str, str] = {
        "cluster_policy.yaml": yaml.safe_dump(make.policy()),
        "gpu_nodes.labels": "gpu-a\n- feature.node.kubernetes.io/pci-10de.present=true\n- old=label\n\n",
        "gpu_nodes.status": "NAME   STATUS   ROLES   AGE   VERSION\ngpu-a   Ready   <none>   5d   v1.26.4\n",
        "gpu_nodes.descr": NODE_DESCRIPTION,
        "gpu_operator_pod.status": "NAME  READY  STATUS  RESTARTS  AGE\ngpu-operator-1-a  1/1  Running  0  5d\n",
        "gpu_operator_pod.log": '{"level":"info","ts":1.5,"msg":"Reconciliate","kind":"ClusterPolicy"}\n',
        "gpu_operand_pods.status": "NAME   READY   STATUS   RESTARTS   AGE\n",
        "gpu_operand_pods.yaml": yaml.safe_dump({"kind": "List", "items": pods}),
        "gpu_operand_pod_nvidia-device-plugin-daemonset-gpu-a.log": "[pod/nvidia-device-plugin-daemonset-gpu-a/x] "
        "I0624 10:01:18.773686       1 main.go:381] No devices found. Waiting indefinitely.\n",
        "gpu_operand_pod_nvidia-device-plugin-daemonset-gpu-a.previous.log": "",
        "gpu_operand_pod_nvidia-driver-daemonset-x.descr": POD_DESCRIPTION,
        "gpu_operand_ds.yaml": yaml.safe_dump({"kind": "List", "items": [make.daemonset("driver", 0)]}),
        "gpu_operand_pod_images.txt": "\nnvidia-driver-daemonset-x:\tnvcr.io/nvidia/driver:525.105.17-amzn2 \n",
        "must-gather.log": "Using ARTIFACT_DIR=/tmp/x\n",
        "must-gather.stderr.log": "+ kubectl version\n",
    }
    return {name: text.encode() for name, text in files.items()}


def test_describe() -> None:
    found = Objects.of(("x", each) for each in describe_objects(NODE_DESCRIPTION))
    first, second = found.nodes
    assert first.labels["nvidia.com/gpu.deploy.driver"] == "pre-installed"
    assert [(each.key, each.value, each.effect) for each in first.taints] == [
        ("nvidia.com/gpu", "true", "NoSchedule"),
        ("other", "", "NoExecute"),
    ]
    assert (first.capacity["nvidia.com/gpu"], first.allocatable["nvidia.com/gpu"]) == (2, 1)
    assert first.ready is True
    assert next(each.message for each in first.conditions if each.type == "Ready") == "kubelet is posting ready status"
    assert (first.os_image, first.kubelet, first.runtime) == ("Ubuntu 20.04.6 LTS", "v1.26.4", "containerd://1.6.12")
    assert first.annotations == {"node.alpha.kubernetes.io/ttl": "0"}
    assert second.name == "gpu-b" and not second.allocatable
    (event,) = found.events
    assert (event.about_name, event.reason, event.count) == ("gpu-a", "Rebooted", 2)


def test_must_gather() -> None:
    evidence = read_evidence(must_gather(), root="mg")
    state = operator_state(evidence)
    assert not evidence.problems
    assert state.version is not None and state.version.number == (23, 3, 2)
    assert state.policy is not None and state.policy.state == "ready"
    # The description tells more of a node than the labels, and both stand for the same node.
    assert [each.name for each in state.nodes] == ["gpu-a", "gpu-b"]
    assert state.by_node["gpu-a"].node is not None and "old" not in state.by_node["gpu-a"].node.labels
    assert {each.operand.key for each in state.pods} >= {"device-plugin", "operator-validator", "gpu-operator"}
    assert [each.message for each in state.events_of("nvidia-driver-daemonset-x")][-1].endswith("amzn2: not found")
    (log,) = state.plugin_logs
    assert (log.pod, log.state.value) == ("nvidia-device-plugin-daemonset-gpu-a", "idle")
    assert log.proof is not None
    assert log.proof.source == "mg/gpu_operand_pod_nvidia-device-plugin-daemonset-gpu-a.log"


def test_must_gather_gave_up_and_no_policy() -> None:
    evidence = read_evidence(
        {
            "cluster_policy.missing": b"",
            "must-gather.log": b"Get the labels\nFATAL: could not find nodes with NVIDIA PCI labels\n",
        }
    )
    assert evidence.no_nfd_label is not None and evidence.no_nfd_label.place == "line 2"
    assert evidence.no_policy is not None


def test_newest_of_several() -> None:
    old = {f"a/nvidia-gpu-operator_20230623_1001/{name}": data for name, data in must_gather().items()}
    new = {
        "a/nvidia-gpu-operator_20230624_1001/gpu_operand_pods.yaml": yaml.safe_dump(
            make.pod("gpu-operator-1-z")
        ).encode()
    }
    evidence = read_evidence(old | new)
    assert [each.name for each in evidence.objects.pods] == ["gpu-operator-1-z"]
    assert "2 must-gathers" in evidence.problems[0]


def test_broken_document_does_not_hide_the_others() -> None:
    evidence = read_evidence(
        make.documents(make.node()) | {"pods.json": b'{"kind": "Pod", "metadata": ', "x.png": b"\0\1"}
    )
    assert [each.name for each in evidence.objects.nodes] == ["gpu-a"]
    assert len(evidence.problems) == 2


def test_nothing_in_it() -> None:
    with pytest.raises(InputError):
        read_evidence({"a": b"  \n"}, root="x")


def archive(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, kind in (("link", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE), ("dev", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            tar.addfile(member)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_archive_equals_folder(tmp_path: Path, mode: str) -> None:
    files = {f"nvidia-gpu-operator_20230624_1001/{name}": data for name, data in must_gather().items()}
    (tmp_path / "x.tar").write_bytes(archive(files | {"../out": b"x", "/abs": b"x"}, mode))
    packed = load_bundle(tmp_path / "x.tar")
    folder = tmp_path / "folder"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "link").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    plain = load_bundle(folder)
    assert packed.documents == plain.documents == files
    assert len(packed.skipped) == 5
    assert len(plain.skipped) == 2
    assert not (tmp_path / "out").exists()


def test_single_and_compressed_files(tmp_path: Path) -> None:
    import zstandard

    for name, data in {
        "a.json": b"{}",
        "b.json.gz": gzip.compress(b"{}") + gzip.compress(b"\n"),
        "c.json.zst": zstandard.compress(b"{}"),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert next(iter(load_bundle(tmp_path / name).documents.values())).startswith(b"{}")


def test_cut_off_archive_keeps_what_is_whole(tmp_path: Path) -> None:
    noise = os.urandom(100_000)
    (tmp_path / "x.tgz").write_bytes(archive({"first.json": b"{}", "noise": noise})[:50_000])
    bundle = load_bundle(tmp_path / "x.tgz")
    assert bundle.documents == {"first.json": b"{}"}
    assert any("cut off" in each for each in bundle.skipped), bundle.skipped


def test_bombs_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LARGEST", 1_000_000)
    monkeypatch.setattr(documents, "LARGEST_OF_ALL", 2_000_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(5_000_000)))
    with pytest.raises(InputError, match="larger than"):
        load_bundle(tmp_path / "x.gz")
    (tmp_path / "y.tgz").write_bytes(archive({"a": b"x", "big": bytes(1_500_000), "late": bytes(900_000), "b": b"y"}))
    bundle = load_bundle(tmp_path / "y.tgz")
    assert bundle.documents == {"a": b"x"}
    assert any("unpacks to more" in each for each in bundle.skipped)


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError):
            load_bundle(path)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*must_gather(), "x.json", "a/b/nodes.yaml"]),
        st.binary(max_size=120) | st.sampled_from([each[:400] for each in must_gather().values()]),
        min_size=1,
        max_size=5,
    )
)
def test_any_documents(files: dict[str, bytes]) -> None:
    try:
        operator_state(read_evidence(files, root="r"))
    except LeptonamiError as error:
        assert json.dumps(error.as_dict())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=700))
def test_any_file(data: bytes) -> None:
    found = documents.from_stream(io.BufferedReader(io.BytesIO(data)), "x")
    assert isinstance(found.documents, dict)
