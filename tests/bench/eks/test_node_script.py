"""The node's script in a real bash, among a node's tools: all that they tell becomes marks; what is missing is said.

The tools answer what `tests/readers/samples` has (synthetic).
"""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from leptonami.bench.eks import node

SAMPLES = Path(__file__).parents[2] / "readers" / "samples"
AL2_LINE = re.compile(r"(\w{3} \d{2} [\d:]{8}) (\S+) ([^\s:\[]+)(?:\[\d+\])?: (.*)")
# systemd 219 does not know --output-fields, and says so as any of getopt's programs.
OLD = """\
for each in "$@"; do
  case "$each" in --output-fields*) echo "journalctl: unrecognized option '$each'" >&2; exit 1 ;; esac
done
"""
STARTUP = "Startup finished in 512ms (kernel) + 1.511s (initrd) + 33.190s (userspace) = 35.213s."
METRICS = """\
kubelet_node_startup_pre_kubelet_duration_seconds 21.5
kubelet_node_startup_pre_registration_duration_seconds 1.5
kubelet_node_startup_registration_duration_seconds 0.4
kubelet_node_startup_post_registration_duration_seconds 9.1
process_start_time_seconds 1738468078.5
"""


def al2023() -> str:
    return (SAMPLES / "journal-al2023.json").read_text(encoding="utf-8")


def al2() -> str:
    """Give the lines of Amazon Linux 2 as its journalctl writes them with `-o json`."""
    found = []
    for line in (SAMPLES / "journal-al2-messages.log").read_text(encoding="utf-8").splitlines():
        if parts := AL2_LINE.fullmatch(line):
            at = datetime.strptime(f"2023 {parts[1]}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC).timestamp()
            fields = {"__REALTIME_TIMESTAMP": f"{at * 1e6:.0f}", "_BOOT_ID": "3" * 32, "_HOSTNAME": parts[2]}
            found.append(json.dumps(fields | {"SYSLOG_IDENTIFIER": parts[3], "MESSAGE": parts[4]}))
    return "\n".join(found) + "\n"


def told(folder: Path, tools: dict[str, str]) -> str:
    """Run the script with these tools; `cat` and `date` are the machine's."""
    for name in ("date", "cat"):
        (folder / name).symlink_to(Path("/usr/bin") / name)
    for name, body in tools.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}", encoding="utf-8")
        (folder / name).chmod(0o755)
    found = subprocess.run(
        ["/bin/bash", "-c", node.SCRIPT], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize(("journal", "old"), [(al2023(), ""), (al2(), OLD)], ids=["al2023", "al2"])
def test_journal_systemd_cloud_init_and_kubelet_all_give_marks(tmp_path: Path, journal: str, old: str) -> None:
    stages = ("init-local", "init-network", "modules-config", "modules-final")
    dump = [{"event_type": "start", "name": name, "timestamp": 1738468064.0 + at} for at, name in enumerate(stages)]
    for name, content in (("journal", journal), ("dump", json.dumps(dump))):
        (tmp_path / name).write_text(content, encoding="utf-8")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    tools = {
        "journalctl": f"{old}cat {tmp_path}/journal",
        "systemd-analyze": f'[ "$1" = time ] && echo "{STARTUP}"',
        "cloud-init": f'[ "$1 $2" = "analyze dump" ] && cat {tmp_path}/dump',
    }
    answer = told(bin_folder, tools)
    read = node.read(answer, metrics=METRICS, image="", provenance="simulated")
    assert read.silent == ()
    assert read.clock is not None
    sources: dict[str, set[str]] = {}
    for each in read.marks:
        assert each.clock == "node"
        sources.setdefault(each.source, set()).add(each.name)
    assert sources["journal"] >= {"kernel", "containerd", "kubelet", "registered", "ready"}
    assert sources["cloud-init analyze"] == {"cloud-init-local", "cloud-init", "cloud-init-config", "cloud-init-final"}
    assert sources["kubelet metrics"] == {"kernel", "kubelet", "registered", "ready"}
    assert sources["systemd-analyze"] == {"kernel"}


def test_a_container_with_a_clock_alone_tells_the_time_and_what_is_missing(tmp_path: Path) -> None:
    """As on Bottlerocket, whose control container has none of the tools."""
    read = node.read(told(tmp_path, {}), metrics=METRICS, image="", provenance="simulated")
    assert read.clock is not None
    assert read.silent == ("journal", "cloud-init", "systemd-analyze")
    assert {each.source for each in read.marks} == {"kubelet metrics"}
