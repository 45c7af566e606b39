"""What a node is asked over SSM after its launch: its clock, its journal and timings, and the first read of the layers.

The script answers in sections, so that what a node does not have leaves the others whole: on Bottlerocket SSM reaches
the control container, which has a clock and nothing else of this; a node of the lab has no journal. It changes nothing
on the node but a mount that it takes away again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leptonami.bench.eks import nodemarks
from leptonami.bench.marks import Mark
from leptonami.errors import LeptonamiError
from leptonami.readers import cloudinit, journal, kubeletmetrics, systemdanalyze
from leptonami.readers.journal_marks import Name

if TYPE_CHECKING:
    from leptonami.bench.model import Value
    from leptonami.target import Provenance

__all__ = ["SCRIPT", "FirstRead", "Told", "first_read_script", "read", "read_first"]

MARK = "LEPTONAMI-SECTION "
SCRIPT = f"""\
section() {{ printf '\\n{MARK}%s\\n' "$1"; }}
section clock; date +%s.%N
section systemd; systemd-analyze time 2>/dev/null
section cloud-init; cloud-init analyze dump 2>/dev/null
fields=MESSAGE,SYSLOG_IDENTIFIER,_HOSTNAME,_BOOT_ID,_COMM
journal() {{ journalctl -b -o json --no-pager "$@" 2>/dev/null; }}
# systemd has the option since 236; Amazon Linux 2 has 219.
section journal; journal --output-fields=$fields || journal
section end
exit 0
"""
# What the layers are read from: unpacked ones, or the compressed ones of a content store.
FOLDERS = {
    "unpacked": "io.containerd.snapshotter.v1.overlayfs/snapshots",
    "content": "io.containerd.content.v1.content/blobs",
}
VOLUME_ID = re.compile(r"vol-?([0-9a-f]{8,17})")


@dataclass(frozen=True)
class Told:
    """What a node told: marks, its clock (s since 1970; None if it did not say), and what it could not tell."""

    marks: tuple[Mark, ...] = ()
    clock: float | None = None
    silent: tuple[str, ...] = ()


@dataclass(frozen=True)
class FirstRead:
    """The first read: its marks, and size (MiB) and rate (MiB/s) as conditions, named as the local drivers' are."""

    marks: tuple[Mark, ...]
    conditions: dict[str, Value]


def sections(text: str) -> dict[str, str]:
    """Cut the script's answer into its sections."""
    found: dict[str, str] = {}
    for part in f"\n{text}".split(f"\n{MARK}")[1:]:
        name, _, body = part.partition("\n")
        found.setdefault(name.strip(), body)
    return found


def read(text: str, *, metrics: str, image: str, provenance: Provenance) -> Told:
    """Read what a node answered, and its kubelet's metrics. What it does not tell, or in no known way, is `silent`."""
    parts = sections(text)
    marks: list[Mark] = []
    silent: list[str] = []
    told = journal.read([parts.get("journal", "").encode()], source="journal", issues=())
    found = nodemarks.from_journal(told, image=image, provenance=provenance)
    marks += found
    if not found:
        silent.append("journal")
    try:
        stages = cloudinit.read(parts.get("cloud-init", ""), source="cloud-init analyze dump")
        marks += nodemarks.from_cloud_init(stages, provenance)
    except LeptonamiError:
        silent.append("cloud-init")
    timed = nodemarks.from_metrics(kubeletmetrics.read(metrics), provenance)
    marks += timed
    if not timed:
        silent.append("kubelet metrics")
    startup = systemdanalyze.read(parts.get("systemd", ""))
    ended = [each for each in told.marks if each.name is Name.STARTUP_FINISHED and each.at is not None]
    if startup is None:
        silent.append("systemd-analyze")
    elif ended and (at := ended[-1].at) is not None:
        marks += nodemarks.from_systemd(startup, at.timestamp(), provenance)
    stamp = parts.get("clock", "").strip()
    clock = float(stamp) if re.fullmatch(r"[0-9]{9,11}\.[0-9]{1,9}", stamp) else None
    if clock is None:
        silent.append("clock")
    return Told(tuple(marks), clock, tuple(silent))


def first_read_script(volume: str, prefetch: str) -> str:
    """Write the script that reads the layers once, on the second volume: what no container has read from.

    Parameters
    ----------
    volume
        The second volume's id; NVMe devices carry it as their serial number.
    prefetch
        `unpacked` or `content`: what is read.
    """
    found = VOLUME_ID.fullmatch(volume)
    if found is None:
        raise LeptonamiError(f"not the id of a volume: {volume!r}", resource="first read")
    return reading(f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol{found[1]}", FOLDERS[prefetch])


def reading(device: str, folder: str) -> str:
    """Write the script for a block device (a plain path) and a folder of containerd's."""
    # Without its journal's replay (norecovery): a volume from a snapshot must not be written to. XFS wants nouuid,
    # since the root file system has the same UUID.
    return f"""\
set -eu
disk=$(readlink -e {device}) || {{ echo 'the second volume is not there' >&2; exit 3; }}
root=$(lsblk -lnpbo SIZE,NAME "$disk" | sort -rn | while read -r _ part; do
  type=$(blkid -p -o value -s TYPE "$part" || true)
  case "$type" in ext4 | xfs) echo "$type $part"; break ;; esac
done)
[ -n "$root" ] || {{ echo 'no ext4 or xfs file system on the second volume' >&2; exit 3; }}
place=$(mktemp -d /run/leptonami-first-read.XXXXXX)
options=ro,norecovery; case "$root" in xfs*) options=$options,nouuid ;; esac
trap 'umount "$place" 2>/dev/null; rmdir "$place"' EXIT
mount -o "$options" "${{root#* }}" "$place"
layers=
for base in var/lib/containerd var/snap/containerd/common; do
  if [ -d "$place/$base/{folder}" ]; then layers="$place/$base/{folder}"; fi
done
[ -n "$layers" ] || {{ echo 'no layers of containerd on the second volume' >&2; exit 3; }}
begun=$(date +%s.%N)
bytes=$(tar -C "$layers" -cf - . | wc -c)
printf '{MARK}first-read\\n%s %s %s\\n' "$begun" "$(date +%s.%N)" "$bytes"
"""


def read_first(text: str, provenance: Provenance) -> FirstRead:
    """Read what the first read's script answered.

    Raises
    ------
    LeptonamiError
        If it did not read anything.
    """
    found = re.fullmatch(
        r"([0-9]{9,11}\.[0-9]{1,9}) ([0-9]{9,11}\.[0-9]{1,9}) ([0-9]{1,15})",
        sections(text).get("first-read", "").strip(),
    )
    if found is None:
        raise LeptonamiError("the first read gave no answer", resource="first read")
    begun, ended, size = float(found[1]), float(found[2]), int(found[3])
    seconds = max(ended - begun, 1e-9)
    return FirstRead(
        (
            Mark("first-read-begun", begun, "second volume", "node", 0.0, provenance),
            Mark("first-read", ended, "second volume", "node", 0.0, provenance),
        ),
        {
            "first read MiB": round(size / 2**20, 1),
            "first read MiB/s": round(size / 2**20 / seconds, 1),
            "first read of": "a second volume from the same snapshot, as it came",
        },
    )
