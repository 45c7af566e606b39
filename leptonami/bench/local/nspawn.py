"""The driver `nspawn`: a whole node from a Debian root file system, with systemd, cloud-init and containerd.

The root file system is made once by mmdebstrap (a minute or two, and the only time that a network is needed) and kept
in `$XDG_CACHE_HOME/leptonami`. A bake is real provisioning: the node is booted, the product's pre-fetch step runs on it
under systemd, it is sealed as for an image, and powered off. What the node's journal says becomes marks.

It shares this machine's kernel, clock and network; it has no udev, no networkd and no sshd, which would touch them.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from leptonami.bench.local import containerd, disks, probe
from leptonami.bench.local.cri import POLL
from leptonami.bench.local.driver import LocalDriver
from leptonami.bench.model import Mark, Probe
from leptonami.errors import BuildError, Timeout
from leptonami.readers import journal
from leptonami.readers.journal_marks import Name

if TYPE_CHECKING:
    from leptonami.bench.model import Driver, Setup

__all__ = ["NspawnDriver", "NspawnNode", "open_driver"]

SUITE = "trixie"
"""Debian 13: containerd 1.7.24, whose CRI shows pins, which that of Debian 12 does not."""
PACKAGES = "systemd-sysv dbus containerd runc cloud-init python3 iproute2 curl ca-certificates procps"
DISK_MIB = 16 * 1024
CERTS = "/etc/containerd/certs.d"
USER_DATA = """#cloud-config
runcmd:
  - [touch, /run/leptonami-user-data]
"""
CLOUD = """datasource_list: [NoCloud]
network: {config: disabled}
resize_rootfs: false
growpart: {mode: "off"}
ssh_genkeytypes: []
ssh_deletekeys: false
"""
# They would configure the network and the devices of this machine.
MASKED = (
    *("systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service"),
    *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-resolved.service", "systemd-timesyncd.service"),
    *("ssh.service", "ssh.socket", "console-getty.service", "apt-daily.timer", "apt-daily-upgrade.timer"),
)
UNPACK = 'set -eu\nmount -o loop "$1" /mnt\ntar -C /mnt -xf "$2"\ncp -a "$3/." /mnt/\numount /mnt\n'
SEAL = "set -eu\ncloud-init clean --logs\n: >/etc/machine-id\nrm -f /var/lib/systemd/random-seed /etc/ssh/ssh_host_*\n"
MARKS = {
    Name.CLOUD_INIT_LOCAL: "cloud-init-local",
    Name.CLOUD_INIT: "cloud-init",
    Name.CLOUD_INIT_CONFIG: "cloud-init-config",
    Name.CLOUD_INIT_FINAL: "cloud-init-final",
}


def cached() -> Path:
    """Give where the disk with the root file system is kept; it need not be there yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "leptonami" / "nspawn" / f"{SUITE}-1.ext4"


def base() -> Path:
    """Give the disk with the root file system, made when it is first needed.

    Raises
    ------
    BuildError
        If mmdebstrap failed; without a network it does.
    """
    disk = cached()
    folder = disk.parent
    if disk.exists():
        return disk
    folder.mkdir(parents=True, exist_ok=True)
    archive, part = folder / f"{SUITE}.tar", folder / f"{disk.name}.part"
    if not archive.exists():
        new = archive.with_name("part.tar")
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale")]
        include = f"--include={PACKAGES.replace(' ', ',')}"
        options = ("--quiet", "--mode=root", "--variant=minbase", include, *left_out)
        disks.run("mmdebstrap", *options, SUITE, new, timeout=1800)
        new.rename(archive)
    with tempfile.TemporaryDirectory() as made:
        files = Path(made)
        (files / "etc/cloud/cloud.cfg.d").mkdir(parents=True)
        (files / "etc/cloud/cloud.cfg.d/99-leptonami.cfg").write_text(CLOUD)
        (files / "etc/fstab").write_text("")
        (files / "etc/hostname").write_text("node\n")
        for place in ("etc/systemd/system", "etc/containerd/certs.d", "var/lib/cloud/seed/nocloud"):
            (files / place).mkdir(parents=True)
        (files / "etc/containerd/config.toml").write_text("")
        for unit in MASKED:
            (files / "etc/systemd/system" / unit).symlink_to("/dev/null")
        files.chmod(0o755)
        disks.create(part, DISK_MIB)
        disks.run("unshare", "--mount", "sh", "-c", UNPACK, "sh", part, archive, files)
    part.rename(disk)
    archive.unlink()
    return disk


class NspawnNode(containerd.Node):
    """A node that is booted by systemd-nspawn. `leader` is its systemd."""

    init = "nspawn-init.sh"
    leader = 0

    @classmethod
    def prepare(cls, files: Path, name: str) -> None:
        """Write its user data and containerd's configuration."""
        (files / "seed").mkdir()
        (files / "seed" / "user-data").write_text(USER_DATA)
        (files / "seed" / "meta-data").write_text(f"instance-id: {name}\n")
        # With hybrid groups nspawn gives the node version 2 without controllers, and runc could set no limit.
        whole = probe.cgroups(Path("/proc/self/mounts").read_text()) == "v2"
        (files / "containerd.toml").write_text(containerd.config((1, 7, 0), CERTS, cgroups=whole))

    def settle(self, deadline: float) -> None:
        """Wait until systemd runs in it."""
        while True:
            self.leader = next((pid for pid in _descendants(self.pid) if _is_systemd(pid)), 0)
            if self.leader:
                return
            if self.process.poll() is not None:
                raise BuildError(f"the node ended: {self.said()}", resource=self.name)
            if time.monotonic() > deadline:
                raise Timeout("systemd was not started", resource=self.name)
            time.sleep(POLL)

    @property
    def root(self) -> Path:
        """Its root folder, as this machine sees it."""
        return Path(f"/proc/{self.leader}/root")

    def script(self, text: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a shell script on the node, under its own systemd."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.enter(self.leader, text, timeout, PATH=path, LEPTONAMI_HOSTS_DIR=CERTS)

    def marks(self, deadline: float) -> tuple[Mark, ...]:
        """Wait until cloud-init has done its work, and give its stages from the node's journal."""
        left = max(1.0, deadline - time.monotonic())
        done = self.script("cloud-init status --wait >/dev/null; ls /run/leptonami-user-data >&2", left)
        if done.returncode:
            raise BuildError(f"the user data did not run: {done.stderr[-300:]}", resource="cloud-init")
        said = self.script("journalctl --output=json --no-pager --boot", left).stdout
        found = journal.read([said.encode()], source="journal", issues=())
        return tuple(
            Mark(MARKS[each.name], each.at.timestamp(), "journal", "host", each.resolution, detail=each.detail)
            for each in found.marks
            if each.name in MARKS and each.at is not None
        )

    def end(self, timeout: float = 60) -> None:
        """Seal it as an image is sealed, and power it off."""
        done = self.script(SEAL, timeout)
        if done.returncode:
            raise BuildError(f"it cannot be sealed: {done.stderr[-300:]}", resource=self.name)
        self.script("systemctl poweroff --no-block", timeout)
        super().end(timeout)


def _is_systemd(pid: int) -> bool:
    """Tell whether a process is the first one of its namespace, and systemd already."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return status.startswith("Name:\tsystemd\n") and re.search(r"^NSpid:.*\t1$", status, re.MULTILINE) is not None


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


class NspawnDriver(LocalDriver):
    """Whole nodes. Its bakes are disks with a root file system; everything else is as with `process`."""

    name = "nspawn"
    node = NspawnNode
    programs = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "tar": "tar"}  # noqa: RUF012

    def probe(self) -> Probe:
        """Find out whether it can work here."""
        found = super().probe()
        # The node brings a containerd and a runc of its own; each trial's conditions have the version.
        machine = {name: value for name, value in found.machine.items() if name not in {"containerd", "runc"}}
        if machine["cgroups"] == "v1":
            why = "the node's systemd needs control groups of version 2, and here is only version 1"
            return Probe(False, (*found.reasons, why), machine)
        return Probe(found.possible, found.reasons, machine)

    def base_disk(self, path: Path, mib: int) -> None:
        """Copy the root file system's disk."""
        if mib > DISK_MIB - 2048:
            raise BuildError(f"an image that needs {mib} MiB does not fit on the node's disk", resource=path.name)
        disks.copy(base(), path)


def open_driver(setup: Setup) -> Driver:
    """Open the driver.

    Raises
    ------
    InputError
        If the experiment has what it cannot do.
    """
    return NspawnDriver(setup)
