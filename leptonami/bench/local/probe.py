"""What this machine is, and which local drivers it lets work. Nothing here names it: no host name, path or address."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from leptonami.bench.local import disks
from leptonami.bench.model import Probe, Value
from leptonami.errors import LeptonamiError

__all__ = ["capabilities", "cgroups", "machine", "probe"]

# linux/capability.h: bits of the effective set.
CAPABILITIES = {
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_MKNOD": 27,
}
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "busybox": "busybox-static",
    "mke2fs": "e2fsprogs",
    "curl": "curl",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "losetup": "mount",
}
CLONE_NEWNS = 0x00020000


def capabilities(status: str) -> frozenset[str]:
    """Give those of our capabilities that matter, from the text of /proc/self/status."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    bits = int(found[1], 16) if found else 0
    return frozenset(name for name, bit in CAPABILITIES.items() if bits >> bit & 1)


def cgroups(mounts: str) -> str:
    """Give the mode of the control groups, from the text of /proc/self/mounts: v1, v2, hybrid or none."""
    kinds = {fields[2] for line in mounts.splitlines() if len(fields := line.split()) > 2}
    v1, v2 = "cgroup" in kinds, "cgroup2" in kinds
    return "hybrid" if v1 and v2 else "v1" if v1 else "v2" if v2 else "none"


def _first(text: str, pattern: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _said(*command: str) -> str:
    try:
        return disks.run(*command, timeout=20)
    except LeptonamiError:
        return ""


def machine(folder: Path) -> Mapping[str, Value]:
    """Describe what numbers depend on; `folder` is where the disks will be."""
    memory = _first(Path("/proc/meminfo").read_text(), r"^MemTotal:\s+(\d+) kB")
    return {
        "processor": _first(Path("/proc/cpuinfo").read_text(), r"^(?:model name|Model)\s*:\s*(.+)$"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory) // 1024 if memory.isdigit() else 0,
        "kernel": platform.release(),
        "system": _first(Path("/etc/os-release").read_text(), r'^PRETTY_NAME="?([^"\n]+)'),
        "filesystem": disks.filesystem(folder),
        "cgroups": cgroups(Path("/proc/self/mounts").read_text()),
        "containerd": _first(_said("containerd", "--version"), r"\sv?(\d+\.\d+\.\d+\S*)"),
        "runc": _first(_said("runc", "--version"), r"version (\S+)"),
        "python": platform.python_version(),
    }


def probe(folder: Path, more: Mapping[str, str] | None = None) -> Probe:
    """Find out whether containers can be run in nodes of their own here.

    Parameters
    ----------
    folder
        Where the disks will be.
    more
        Further programs that a driver needs, with their Debian packages.
    """
    reasons = []
    have = capabilities(Path("/proc/self/status").read_text())
    if os.geteuid() != 0:
        reasons.append("only root can mount a node's disk: run it with sudo")
    # Docker's default set lacks it: containerd would start there, and fail at the first image that it unpacks.
    elif "CAP_SYS_ADMIN" not in have:
        reasons.append("CAP_SYS_ADMIN is missing, as in most containers: run it on the machine itself, or privileged")
    elif not _may_unshare():
        reasons.append("a mount namespace of one's own is refused: a seccomp or LSM profile forbids it")
    elif not Path("/dev/loop-control").exists():
        reasons.append("there is no /dev/loop-control: disks cannot be mounted (modprobe loop)")
    missing = {package: name for name, package in {**PROGRAMS, **(more or {})}.items() if shutil.which(name) is None}
    if missing:
        reasons.append(f"{', '.join(sorted(missing.values()))} missing: apt-get install {' '.join(sorted(missing))}")
    known = Path("/proc/filesystems").read_text().split()
    reasons += [
        f"the kernel does not know {kind} (modprobe {kind})" for kind in ("overlay", "ext4") if kind not in known
    ]
    facts = dict(machine(folder))
    if facts["cgroups"] == "none":
        reasons.append("no control groups are mounted: runc starts no container")
    possible = not reasons
    if possible and "CAP_SYS_RESOURCE" not in have:
        reasons.append("CAP_SYS_RESOURCE is missing: containers keep this process's oom_score_adj")
    return Probe(possible, tuple(reasons), facts)


def _may_unshare() -> bool:
    """Try it in a child: there is no way back from a namespace."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
