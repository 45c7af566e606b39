"""node-latency-for-k8s reads `/var/log/messages` of Amazon Linux 2; from the same lines come the same marks.

The events and the text that NLK finds them by: https://github.com/awslabs/node-latency-for-k8s,
`pkg/latency/latency.go`. The lines are our own. NLK adds the year of today; here it is told, or comes from what the
reader is given as a reference, also for a boot over New Year.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from leptonami.bench.eks import nodemarks
from leptonami.readers import journal

# NLK's event, its pattern, and our mark of it.
EVENTS = {
    "vm_initialized": (r"kernel: Linux version", "kernel"),
    "cloudinit_initial_start": (r"cloud-init: Cloud-init v.* running 'init'", "cloud-init"),
    "cloudinit_config_start": (r"cloud-init: Cloud-init v.* running 'modules:config'", "cloud-init-config"),
    "cloudinit_final_start": (r"cloud-init: Cloud-init v.* running 'modules:final'", "cloud-init-final"),
    "containerd_initialized": (r"Started containerd container runtime", "containerd"),
    "kubelet_initialized": (r"Started kubelet", "kubelet"),
    "kubelet_registered": (r"Successfully registered node", "registered"),
    "node_ready": (r'event="NodeReady"', "ready"),
}
LINES = """\
Dec 31 23:59:41 ip-10-0-1-16 kernel: Linux version 5.10.184-175.731.amzn2.x86_64 (mockbuild@host) (gcc10-gcc) #1 SMP
Dec 31 23:59:44 ip-10-0-1-16 cloud-init: Cloud-init v. 19.3-46.amzn2 running 'init-local' at Wed, 31 Dec 2025 23:59:44 +0000. Up 7.02 seconds.
Dec 31 23:59:46 ip-10-0-1-16 cloud-init: Cloud-init v. 19.3-46.amzn2 running 'init' at Wed, 31 Dec 2025 23:59:46 +0000. Up 9.11 seconds.
Dec 31 23:59:48 ip-10-0-1-16 cloud-init: Cloud-init v. 19.3-46.amzn2 running 'modules:config' at Wed, 31 Dec 2025 23:59:48 +0000. Up 11.4 seconds.
Dec 31 23:59:51 ip-10-0-1-16 cloud-init: Cloud-init v. 19.3-46.amzn2 running 'modules:final' at Wed, 31 Dec 2025 23:59:51 +0000. Up 14.2 seconds.
Dec 31 23:59:56 ip-10-0-1-16 systemd: Starting containerd container runtime...
Dec 31 23:59:57 ip-10-0-1-16 containerd: time="2025-12-31T23:59:57.120000000Z" level=info msg="containerd successfully booted in 0.051s"
Dec 31 23:59:57 ip-10-0-1-16 systemd: Started containerd container runtime.
Jan  1 00:00:02 ip-10-0-1-16 systemd: Starting Kubernetes Kubelet...
Jan  1 00:00:02 ip-10-0-1-16 systemd: Started Kubernetes Kubelet.
Jan  1 00:00:03 ip-10-0-1-16 kubelet: I0101 00:00:03.001000    3301 server.go:1206] "Started kubelet"
Jan  1 00:00:06 ip-10-0-1-16 kubelet: I0101 00:00:06.200000    3301 kubelet_node_status.go:75] "Successfully registered node" node="ip-10-0-1-16.ec2.internal"
Jan  1 00:00:17 ip-10-0-1-16 kubelet: I0101 00:00:17.700000    3301 event.go:294] "Event occurred" object="ip-10-0-1-16.ec2.internal" kind="Node" apiVersion="v1" type="Normal" reason="NodeReady" message="Node ip-10-0-1-16.ec2.internal status is now: NodeReady"
Jan  1 00:00:17 ip-10-0-1-16 kubelet: I0101 00:00:17.700000    3301 kubelet_node_status.go:590] "Recording event message for node" node="ip-10-0-1-16.ec2.internal" event="NodeReady"
"""  # noqa: E501 - as a log has them


def as_nlk(event: str) -> float:
    """Find an event as NLK does: the first line that fits, its time with a year, here the right one."""
    pattern, _ = EVENTS[event]
    line = next(each for each in LINES.splitlines() if re.search(pattern, each))
    year = 2025 if line.startswith("Dec") else 2026
    return datetime.strptime(f"{year} {line[:15]}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "told", [{"year": 2025}, {"reference": datetime(2026, 1, 2, tzinfo=UTC)}], ids=["year", "reference"]
)
def test_the_marks_are_those_of_nlk_to_the_second_also_over_new_year(told: dict[str, object]) -> None:
    read = journal.read([LINES.encode()], issues=(), zone=UTC, **told)  # type: ignore[arg-type]
    first: dict[str, float] = {}
    for each in nodemarks.from_journal(read):
        first[each.name] = min(each.at, first.get(each.name, each.at))
        assert each.clock == "node"
    differences = {event: first[name] - as_nlk(event) for event, (_, name) in EVENTS.items()}
    assert {event: abs(each) <= 1.0 for event, each in differences.items()} == dict.fromkeys(EVENTS, True), differences
