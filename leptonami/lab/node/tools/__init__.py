"""The stand-ins: what `apt-get`, `snap`, `systemctl`, `ctr`, `nvidia-smi` and others are on a simulated machine.

They are run by leptonami's interpreter without site packages, and chosen by the name they were called under. Each
stand-in keeps its state in the node root, in the place where the real program keeps its own where that matters
(`/var/lib/containerd`, `/var/lib/apt/lists`, `/run`), so that a script which deletes or forgets something sees what it
would see on a real machine. What a stand-in does not do, it refuses with status 64 and says so: it never pretends.

Faults for tests come from `lab/faults.json` of the node root:

`apt_lock_seconds`, `pull_fails` (count), `tool_fails` ({tool: count, -1 for always}), `module_vermagic`,
`module_version`, `module_license`, `module_does_not_load`, `wrong_key`, `cloud_init` ("error", "degraded", "hangs"),
`snap_changes` (polls that find a change in progress), `gpus_lost` (count), `disk_used_gib`, `boots_old_kernel`,
`no_cri`.
"""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH110, PTH119, PTH123

from __future__ import annotations

import fcntl
import os
import sys

from .core import STATE, Failed, Refused, fault, spend

# Where each stand-in is: module and function. Only what is called is loaded.
TOOLS = {
    "apt-cache": "apt.apt_cache",
    "apt-get": "apt.apt_get",
    "apt-mark": "apt.apt_mark",
    "aws": "network.aws",
    "cloud-init": "cloudinit.cloud_init",
    "containerd": "containerd.containerd",
    "crictl": "containerd.crictl",
    "ctr": "containerd.ctr",
    "curl": "network.curl",
    "depmod": "gpu.depmod",
    "df": "disk.df",
    "dkms": "gpu.dkms",
    "dmesg": "gpu.dmesg",
    "dnf": "rpm.dnf",
    "dpkg": "apt.dpkg",
    "dpkg-query": "apt.dpkg_query",
    "fuser": "apt.fuser",
    "gpg": "network.gpg",
    "halt": "systemd.refuse",
    "journalctl": "systemd.journalctl",
    "kubelet": "containerd.kubelet",
    "lab-shutdown": "systemd.lab_shutdown",
    "lsmod": "gpu.lsmod",
    "modinfo": "gpu.modinfo",
    "modprobe": "gpu.modprobe",
    "nvidia-container-cli": "gpu.nvidia_container_cli",
    "nvidia-ctk": "gpu.nvidia_ctk",
    "nvidia-smi": "gpu.nvidia_smi",
    "poweroff": "systemd.refuse",
    "reboot": "systemd.refuse",
    "rpm": "rpm.rpm",
    "runc": "containerd.runc",
    "shutdown": "systemd.refuse",
    "snap": "snaps.snap",
    "systemctl": "systemd.systemctl",
    "uname": "gpu.uname",
    "update-initramfs": "apt.update_initramfs",
    "yum": "rpm.dnf",
}

# These change nothing, and may wait for one another in a pipe.
READERS = frozenset(["aws", "containerd", "curl", "df", "dmesg", "gpg", "kubelet", "nvidia-ctk", "runc"])


def main() -> None:
    """Be the program under whose name this was called."""
    name = os.path.basename(sys.argv[0])
    arguments = sys.argv[1:]
    status = 0
    struck = fault("tool_fails", {}).get(name, 0)
    # One at a time: scripts may run several in a pipe. A unit's program may call tools itself.
    lock = None
    if name not in READERS and "LEPTONAMI_LAB_LOCKED" not in os.environ:
        lock = open(f"{STATE}/lock", "a")  # noqa: SIM115
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ["LEPTONAMI_LAB_LOCKED"] = "1"
    try:
        if name not in TOOLS:
            raise Refused
        if not os.path.exists("/run/lab/kernel.json"):
            # What runs was chosen at boot: before anything that this tool may install.
            from .gpu import running_kernel

            running_kernel()
        if struck and spend(f"tool {name}", struck):
            raise Failed(f"{name}: failure switched on by a test", 1)
        module, _, function = TOOLS[name].partition(".")
        getattr(__import__(f"{__name__}.{module}", fromlist=["x"]), function)(arguments)
        sys.stdout.flush()
    except Refused:
        sys.stderr.write(f"leptonami lab: {name} does not do: {' '.join(arguments)}\n")
        status = 64
    except Failed as error:
        if str(error):
            sys.stderr.write(f"{error}\n")
        status = error.status
    except BrokenPipeError:
        status = 141
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = 141
    os._exit(status)
