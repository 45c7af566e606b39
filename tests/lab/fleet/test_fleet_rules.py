"""The fleet's pure parts, held to published figures and to what must be true of any input."""

from __future__ import annotations

import base64
import re
from typing import Any, cast
from uuid import UUID

import pytest
from fleets import machine
from hypothesis import given
from hypothesis import strategies as st

from leptonami.errors import InputError
from leptonami.lab.fleet.api import Resource
from leptonami.lab.fleet.behaviours import Behaviours, Life, NodeFacts, commands
from leptonami.lab.fleet.carrier import LATER, SHARE, Carrier
from leptonami.lab.fleet.faults import FAULTS, of_group, parse
from leptonami.lab.fleet.gpu.operands import product
from leptonami.lab.fleet.images import Image, Root, Store, normal, root_of
from leptonami.lab.fleet.launch import luck, model
from leptonami.lab.fleet.lifecycle import retainted, tolerated
from leptonami.lab.fleet.loop import Agenda, Clock
from leptonami.lab.fleet.nodes import NOT_READY, UNREACHABLE, allocatable, capacity, identity, kubelet_version
from leptonami.lab.fleet.podstatus import MOST_LINES, Log, quality
from leptonami.lab.fleet.pulling import Puller
from leptonami.lab.fleet.recorder import Recorder
from leptonami.lab.fleet.userdata import Join, read
from leptonami.lab.fleet.wording import containers, go_duration, minor_of, pulled
from leptonami.lab.fleet.writes import Write, compose, merged

LEAVES = st.none() | st.integers(0, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2), max_size=2)
PATCHES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | LEAVES, max_size=3),
    max_leaves=8,
)


def without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: without_nulls(item) for key, item in value.items() if item is not None}


# --- writes -----------------------------------------------------------------------------------------------------------


@given(PATCHES, PATCHES, PATCHES)
def test_two_patches_made_one_do_what_both_did(obj: Any, first: Any, second: Any) -> None:
    obj = without_nulls(obj)
    together = compose(first, second)
    if together is not None:
        assert merged(obj, together) == merged(merged(obj, first), second)


def test_patches_that_no_patch_says_stay_two() -> None:
    assert compose({"a": None}, {"a": {"b": 1}}) is None
    assert compose({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("obj", "patch", "result"),
    [  # examples of RFC 7386
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_the_rfc(obj: Any, patch: Any, result: Any) -> None:
    assert merged(obj, patch) == result


def test_events_wait_for_other_writes_but_not_for_ever() -> None:
    resource = Resource("", "v1", "configmaps")
    first, event = (Write("create", resource, "default", name, "", {}) for name in ("first", "event"))
    carrier = Carrier(cast(Any, None), [])
    for _ in range(5):
        carrier.put(event, LATER)
    for _ in range(30):
        carrier.put(first)
    taken = []
    for _ in range(200):  # others are never short of something to write
        taken.append(carrier.take())
        carrier.put(first)
    assert [number for number, each in enumerate(taken) if each is event] == [9, 20, 31, 42, 53]
    # One that comes later waits no longer for that.
    carrier.put(event, LATER)
    assert event in [carrier.take() for _ in range(SHARE + 1)]


# --- nodes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "interfaces", "addresses", "pods", "cpu", "reserved"),
    [
        # eni-max-pods.txt and the reservations of bootstrap.sh, as kubectl shows them on EKS
        (2, 3, 10, 29, "1930m", 574),  # m5.large
        (4, 4, 15, 58, "3920m", 893),  # m5.xlarge
        (96, 15, 50, 737, "95690m", 8362),  # m5.24xlarge
    ],
)
def test_what_is_left_for_pods_is_what_eks_images_leave(
    cores: int, interfaces: int, addresses: int, pods: int, cpu: str, reserved: int
) -> None:
    kind = {
        "VCpuInfo": {"DefaultVCpus": cores},
        "MemoryInfo": {"SizeInMiB": cores * 4096},
        "NetworkInfo": {"MaximumNetworkInterfaces": interfaces, "Ipv4AddressesPerInterface": addresses},
    }
    new = machine(kind=kind)
    assert new.max_pods == pods
    has = capacity(new, pods)
    left = allocatable(has)
    assert left["cpu"] == cpu
    # 255 MiB and 11 for each pod, and 100 MiB before the kubelet evicts
    taken = int(has["memory"][:-2]) - int(left["memory"][:-2])
    assert taken == (reserved + 100) * 1024


def test_regions_come_from_zones() -> None:
    assert machine(zone="us-gov-west-1b").region == "us-gov-west-1"
    assert machine(zone="us-west-2-lax-1a").region == "us-west-2"


@pytest.mark.parametrize(
    ("family", "said", "shown"),
    [
        ("al2", "v1.29.15", r"v1\.29\.15-eks-[0-9a-f]{7}"),
        ("al2023", "v1.33.8", r"v1\.33\.8-eks-[0-9a-f]{7}"),
        ("bottlerocket", "v1.33.8-eks-99d6cc0", r"v1\.33\.8-eks-99d6cc0"),
        ("ubuntu", "v1.33.8", r"v1\.33\.8"),
        ("al2023", "", ""),
    ],
)
def test_kubelets_of_aws_say_the_commit_they_are_from(family: str, said: str, shown: str) -> None:
    found = {kubelet_version(Root(family=family, kubelet=said)) for _ in range(2)}
    assert len(found) == 1
    assert re.fullmatch(shown, found.pop())


@given(st.text())
def test_ids_look_like_those_of_ec2(machine: str) -> None:
    ids = identity(machine)
    assert ids == identity(machine) != identity(machine + "x")
    assert ids["systemUUID"].startswith("ec2") and str(UUID(ids["systemUUID"])) == ids["systemUUID"]
    assert ids["machineID"] == UUID(ids["systemUUID"]).hex
    assert UUID(ids["bootID"]).version == 4 and str(UUID(ids["bootID"])) == ids["bootID"]


@pytest.mark.parametrize(
    ("name", "mib", "expected"),
    [
        ("T4", 16384, "Tesla T4"),
        ("A10G", 22888, "NVIDIA A10G"),
        ("A100", 40960, "NVIDIA A100-SXM4-40GB"),
        ("A100", 81920, "NVIDIA A100-SXM4-80GB"),
        ("H100", 81920, "NVIDIA H100 80GB HBM3"),
    ],
)
def test_cards_have_the_names_that_the_driver_gives_them(name: str, mib: int, expected: str) -> None:
    assert product({"Name": name, "MemoryInfo": {"SizeInMiB": mib}}) == expected


def test_a_node_root_of_the_lab_is_read() -> None:
    facts = {
        "family": "ubuntu",
        "driver": {"version": "550.1", "library": "550.1", "open": False},
        "toolkit": None,
        "images": [{"names": ["a:1"], "size": 5, "pinned": True, "unpacked": False}],
        "something": "new",
    }
    root = root_of(facts)
    assert (root.driver, root.toolkit) == ("550.1", "")
    store = Store(root.images)
    assert store.find("a:1") is None  # fetched, not unpacked


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("a/b:1", "docker.io/a/b:1"),
        ("localhost/a", "localhost/a:latest"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
        ("nvcr.io/nvidia/driver@sha256:0", "nvcr.io/nvidia/driver@sha256:0"),
    ],
)
def test_images_have_full_names(short: str, full: str) -> None:
    assert normal(short) == full


def test_a_node_lists_its_fifty_largest_images() -> None:
    store = Store([Image((f"a:{size}",), size) for size in range(60)])
    listed = store.listed()
    assert [each["sizeBytes"] for each in listed] == list(range(59, 9, -1))
    assert store.add("b@sha256:1", 100, "sha256:1").names == ("docker.io/library/b@sha256:1",)


# --- user data --------------------------------------------------------------------------------------------------------

NODE_CONFIG = """apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {name: lab, apiServerEndpoint: https://1.2.3.4, certificateAuthority: Zm9v, cidr: 10.100.0.0/16}
  kubelet:
    config: {maxPods: 17, registerWithTaints: [{key: a, effect: NoExecute}]}
    flags: ["--node-labels=x=1,y=2", "--register-with-taints=b=c:NoSchedule"]
"""
MIME = (
    'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="B"\n\n--B\n'
    "Content-Type: text/x-shellscript\n\n#!/bin/bash\necho first\n\n--B\n"
    "Content-Type: application/node.eks.aws\n\n---\n" + NODE_CONFIG + "\n--B--\n"
)
TOML = """[settings.kubernetes]
cluster-name = "lab"
api-server = "https://1.2.3.4"
cluster-certificate = "Zm9v"
[settings.kubernetes.node-labels]
x = "1"
[settings.kubernetes.node-taints]
a = ["b:NoSchedule"]
"""


@pytest.mark.parametrize("text", [NODE_CONFIG, MIME])
def test_a_node_config_joins_al2023(text: str) -> None:
    found = read(text, "al2023", "lab", "https://1.2.3.4")
    taints = ({"key": "a", "effect": "NoExecute"}, {"key": "b", "value": "c", "effect": "NoSchedule"})
    assert found == Join("", {"x": "1", "y": "2"}, taints, 17)


@pytest.mark.parametrize(
    ("text", "family", "why"),
    [
        (NODE_CONFIG.replace("name: lab", "name: b"), "al2023", "it joins a cluster 'b', not 'lab'"),
        (NODE_CONFIG.replace("1.2.3.4", "4.3.2.1"), "al2023", "it joins https://4.3.2.1, which is not"),
        (NODE_CONFIG.replace("cidr", "cdir"), "al2023", "the NodeConfig lacks cluster.cidr"),
        (NODE_CONFIG, "ubuntu", "a NodeConfig is for nodeadm, which ubuntu has not"),
        ("#!/bin/bash\n/etc/eks/bootstrap.sh lab\n", "al2023", "bootstrap.sh has been removed from AL2023"),
        ("", "al2023", "the user data has not a NodeConfig"),
        ("#!/bin/bash\n# /etc/eks/bootstrap.sh lab\n", "al2", "the user data has not a call of"),
        ("/etc/eks/bootstrap.sh\n", "al2", "bootstrap.sh is called without a cluster's name"),
        ("/etc/eks/bootstrap.sh --use-max-pods false\n", "al2", "bootstrap.sh is called without a cluster's name"),
        ("/etc/eks/bootstrap.sh 'lab\n", "al2", "the call of bootstrap.sh cannot be read"),
        ("[settings", "bottlerocket", "the user data is not TOML"),
        (TOML.replace("api-server", "server"), "bottlerocket", "the settings lack kubernetes.api-server"),
    ],
)
def test_what_does_not_join_says_why(text: str, family: str, why: str) -> None:
    assert read(text, family, "lab", "https://1.2.3.4").why_not.startswith(why)


def test_bootstrap_is_read_with_its_variables_and_lines() -> None:
    text = (
        "#!/bin/bash\nset -ex\nCLUSTER=lab\nB64=Zm9v\n"
        'exec /etc/eks/bootstrap.sh "${CLUSTER}" --b64-cluster-ca $B64 --apiserver-endpoint https://1.2.3.4 \\\n'
        "  --use-max-pods false --kubelet-extra-args '--node-labels=x=1 --register-with-taints a=:NoSchedule'\n"
    )
    found = read(text, "ubuntu", "lab", "https://1.2.3.4")
    assert found == Join("", {"x": "1"}, ({"key": "a", "effect": "NoSchedule"},), 110)


def test_bottlerockets_settings_are_read() -> None:
    found = read(TOML, "bottlerocket", "lab", "https://1.2.3.4")
    assert found == Join("", {"x": "1"}, ({"key": "a", "value": "b", "effect": "NoSchedule"},), None)


@given(
    st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()),
    st.sampled_from(["al2", "al2023", "bottlerocket"]),
)
def test_no_user_data_is_too_odd(text: str, family: str) -> None:
    assert read(text, family, "lab").why_not


# --- pulls ------------------------------------------------------------------------------------------------------------


def run(serial: bool, pulls: list[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Pull images, as (asked at, seconds of work), on a clock that stands still in between."""
    agenda, ended = Agenda(), {}
    puller, now = Puller(agenda, serial), 0.0

    def ask(number: int, at: float, work: float) -> None:
        puller.pull(str(number), work, at, lambda took, waited: ended.update({str(number): (took, at + waited)}))

    for number, (at, work) in enumerate(pulls):
        agenda.at(at, lambda number=number, at=at, work=work: ask(number, at, work))  # type: ignore[misc]
    while (left := agenda.run(now)) is not None:
        now += left
    return ended


def test_serial_pulls_wait_for_each_other_and_parallel_ones_share() -> None:
    assert run(True, [(0, 10), (0, 5)]) == {"0": (10, 10), "1": (5, 15)}
    assert run(False, [(0, 10), (0, 5)]) == {"0": (15, 15), "1": (10, 10)}


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=6))
def test_a_node_is_never_idle_and_never_does_more_than_it_can(serial: bool, pulls: list[tuple[float, float]]) -> None:
    ended = run(serial, pulls)
    assert len(ended) == len(pulls)
    free = 0.0
    for at, work in sorted(pulls):
        free = max(free, at) + work
    # Whatever the order, the last pull ends when the work is done.
    assert max(end for _, end in ended.values()) == pytest.approx(free)
    for number, (at, work) in enumerate(pulls):
        took, end = ended[str(number)]
        assert took >= work - 1e-6
        assert end >= at + took - 1e-6


def test_who_asks_for_the_same_image_waits_for_the_same_pull() -> None:
    agenda, told = Agenda(), []
    puller = Puller(agenda, serial=False)
    puller.pull("a", 10, 0, lambda *took: told.append(took))
    puller.pull("a", 10, 4, lambda *took: told.append(took))
    agenda.run(10)
    assert told == [(10, 10), (6, 6)]


# --- times ------------------------------------------------------------------------------------------------------------


def test_every_figure_of_the_model_names_its_source() -> None:
    data = model().data
    figures = [*data["times"].values(), *data["waits"].values(), *data["rates"].values()]
    figures += [data[name] for name in ("expansion", "first-read", "serial", "sizes")]
    assert all(len(each["source"]) > 10 for each in figures)


def test_draws_lie_around_the_familys_median_and_can_be_had_again() -> None:
    draws = sorted(model().draw("boot", luck(7, str(number)), "al2") for number in range(999))
    assert draws[499] == pytest.approx(13.6, rel=0.03)
    assert draws == sorted(model().draw("boot", luck(7, str(number)), "al2") for number in range(999))
    assert model().draw("boot", luck(8, "1"), "al2") != model().draw("boot", luck(7, "1"), "al2")


def test_the_slowest_link_says_how_long_a_pull_takes() -> None:
    # containerd#13559: 2.7 GiB in 30 s, which gunzip says; on gp3 it is the disk.
    assert 2.7 * 2**30 / model().rate("gunzip") == pytest.approx(30, rel=0.01)
    assert model().pull(10**9) == pytest.approx(10**9 * 2.15 / 131e6)
    assert model().pull(10**9, slow=True) == pytest.approx(215)


def test_the_speed_divides_in_one_place_and_has_an_end_for_what_repeats() -> None:
    seconds = [0.0]
    clock = Clock(50, monotonic=lambda: seconds[0])
    seconds[0] = 2.0
    assert clock.now() == 100
    assert clock.wait(100) == 2
    assert clock.again(10) == 10
    assert Clock(1000).again(10) == 100
    assert Clock(float("inf")).wait(3600) < 0.01
    assert Clock(0).speed == Clock(float("inf")).speed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.313, "313ms"),
        (5.419, "5.419s"),
        (62.3, "1m2.3s"),
        (3600, "1h0m0s"),
        (59.9999, "1m0s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_kubelets_of_each_version_use_their_words() -> None:
    assert minor_of("v1.26.7-eks-1") == 26
    assert pulled("a", 1.5, 2, 7, 26) == 'Successfully pulled image "a" in 1.5s'
    assert pulled("a", 1.5, 2, 7, 29) == 'Successfully pulled image "a" in 1.5s (2s including waiting)'
    assert pulled("a", 1.5, 2, 7, 33).endswith("(2s including waiting). Image size: 7 bytes.")
    assert [containers("Created", "c", minor) for minor in (31, 32, 35)] == [
        "Created container c",
        "Created container: c",
        "Container created",
    ]


# --- small things -----------------------------------------------------------------------------------------------------


def test_faults_are_read_and_wrong_ones_refused() -> None:
    faults = parse([{"group": "gpu-*", "fault": "pull-denied"}, {"fault": "notready-flapping", "down": 5}])
    assert of_group(faults, "gpu-1") == {
        "pull-denied": {"image": "*"},
        "notready-flapping": {"up": 300.0, "down": 5},
    }
    assert set(of_group(faults, "cpu")) == {"notready-flapping"}
    wrong: list[Any] = [
        {},
        ["x"],
        [{"fault": "nothing"}],
        [{"fault": "never-joins", "up": 1}],
        [{"fault": "notready-flapping", "up": True}],
        [{"fault": "notready-flapping", "up": -1}],
        [{"fault": "slow-disk", "group": 5}],
    ]
    for each in wrong:
        with pytest.raises(InputError):
            parse(each)
    assert all(each.symptoms and each.source for each in FAULTS.values())


def test_events_that_repeat_are_counted_and_floods_are_stopped() -> None:
    recorder, pod = Recorder(), {"kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"}}

    def record(message: str) -> Any:
        return recorder.record(pod, "Normal", "Pulled", message, component="kubelet", host="h")

    verb, namespace, name, body = record("a")
    assert (verb, namespace, body["count"]) == ("create", "n", 1)
    assert record("a")[:3] == ("patch", "n", name)
    assert record("a")[3]["count"] == 3
    made = [record(str(number)) for number in range(30)]
    assert sum(each is None for each in made) == 8  # a bucket of 25


TAINTS = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from([NOT_READY, UNREACHABLE, "node.kubernetes.io/unschedulable", "dedicated"]),
            "effect": st.sampled_from(["NoSchedule", "NoExecute"]),
        }
    ),
    unique_by=lambda taint: (taint["key"], taint["effect"]),
)


@given(TAINTS, st.booleans(), st.sampled_from(["True", "False", "Unknown"]), st.booleans())
def test_taints_follow_the_node_and_two_controllers_do_not_fight(
    taints: Any, cordoned: bool, ready: str, ours: bool
) -> None:
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    node = {"spec": {"taints": taints, "unschedulable": cordoned}, "status": status}
    after = merged(node, retainted(node, "now", ours=ours) or {})
    assert retainted(after, "later", ours=ours) is None
    assert retainted(after, "later", ours=False) is None  # another one's fleet, or another controller
    held = {(each["key"], each["effect"]) for each in after["spec"].get("taints") or ()}
    assert (("node.kubernetes.io/unschedulable", "NoSchedule") in held) is cordoned
    for key, word in ((NOT_READY, "False"), (UNREACHABLE, "Unknown")):
        for effect in ("NoSchedule", "NoExecute"):
            before = {"key": key, "effect": effect} in taints
            assert ((key, effect) in held) is (ready == word if ours else before)
    assert {pair for pair in held if pair[0] == "dedicated"} == {
        (each["key"], each["effect"]) for each in taints if each["key"] == "dedicated"
    }


def test_how_long_a_pod_may_stay() -> None:
    taints = [{"key": "a", "effect": "NoExecute", "value": "1"}, {"key": "b", "effect": "NoExecute"}]
    every = {"operator": "Exists"}
    assert tolerated([], taints) == 0
    assert tolerated([every], taints) is None
    assert tolerated([{"key": "a", "value": "1"}], taints) == 0
    assert tolerated([{**every, "key": "a", "tolerationSeconds": 5}, {"key": "b"}], taints) == 5
    assert tolerated([{**every, "tolerationSeconds": -5}], taints) == 0


def test_a_log_keeps_its_last_lines() -> None:
    log = Log()
    log.add("t", ["one\ntwo"])
    assert log.lines == [("t", "one"), ("t", "two")]
    before = log.kept
    log.add("t", map(str, range(2 * MOST_LINES)))
    assert len(log.lines) == MOST_LINES
    assert log.kept[0] == MOST_LINES + 2
    # Who has looked just before sees the same lines at the same places.
    assert before[0] == 0 and before[1][:2] == [("t", "one"), ("t", "two")]
    assert before[1][MOST_LINES + 2 :] == log.lines


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({}, {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"}, "Burstable"),
    ],
)
def test_the_quality_of_service_has_a_class(requests: Any, limits: Any, expected: str) -> None:
    assert quality({"spec": {"containers": [{"resources": {"requests": requests, "limits": limits}}]}}) == expected


def life_of(container: Any, **spec: Any) -> Life:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "restartPolicy": "Always", **spec}}
    node = NodeFacts("n", "", Root(), lambda: None, dict, luck(1))
    return Life(pod, container, node, 0, 0.0)


@pytest.mark.parametrize(
    ("container", "policy", "steps"),
    [
        ({"image": "nginx", "command": ["serve", "--sleep", "5"]}, "Always", ["running"]),
        (
            {"image": "busybox", "command": ["/bin/sh", "-c", "echo 'a b' && sleep 2; exit 4"]},
            "Always",
            ["running", "running", 4],
        ),
        ({"image": "lab/job:1"}, "Never", [0]),
        ({"image": "lab/server:1"}, "Always", ["running"]),
        ({"image": "busybox", "command": ["sleep", "infinity"]}, "Never", ["running"]),
        ({"image": "busybox", "command": ["true"]}, "Never", ["running", 0]),
    ],
)
def test_containers_do_what_their_command_says(container: Any, policy: str, steps: list[Any]) -> None:
    container = {"name": "c", **container}
    life = life_of(container, restartPolicy=policy)
    for expected in steps:
        step = Behaviours().find(life.pod, container).outcome(life, 0.0)
        life.steps += 1
        assert (step.exit_code if step.state == "terminated" else step.state) == expected
    assert step.seconds is None or step.state == "terminated"


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=2))
def test_any_command_can_be_looked_at(command: list[str], args: list[str]) -> None:
    assert isinstance(commands({"command": command, "args": args}), list)
