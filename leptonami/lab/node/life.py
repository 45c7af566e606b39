"""The life of a simulated machine: its disk is copied from an image, it boots, reboots, stops."""

from __future__ import annotations

import json
import shutil
import stat
import uuid
from pathlib import Path

from leptonami.lab.node import safely
from leptonami.lab.node.machine import Machine
from leptonami.lab.node.sandbox import run, sandbox

__all__ = ["copy", "first_boot", "reboot", "stop"]


def copy(source: Path, target: Path) -> None:
    """Copy a node root, as CreateImage, CopyImage and RunInstances do.

    What lives in memory on a real machine (`/run`) is left behind. Files are copied, not linked: a script that writes
    one in place must not change the image it came from.
    """

    def special(folder: str, names: list[str]) -> set[str]:
        here = Path(folder)
        if here in (source / "run", source / "lab/view"):
            return set(names)
        return {n for n in names if not _plain((here / n).lstat().st_mode)}

    shutil.copytree(source, target, symlinks=True, ignore=special)


def _plain(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def _identity(*parts: object) -> str:
    """Give a UUID that the same machine gets in each run of a seeded lab."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(str(part) for part in parts)))


def first_boot(machine: Machine) -> None:
    """Do what systemd, cloud-init and the SSM agent do when an instance starts for the first time.

    An empty machine id is filled; host keys are made anew, as cloud-init does for a new instance id. The rest leaves
    the traces that hygiene has to remove.
    """
    root, name = machine.root, machine.instance_id
    if not (safely.read(root, "etc/machine-id") or b"").strip():
        safely.write(root, "etc/machine-id", uuid.UUID(_identity("machine", name)).hex + "\n", mode=0o444)
    for kind in ("ecdsa", "ed25519", "rsa"):
        key = _identity("host key", name, kind)
        safely.write(root, f"etc/ssh/ssh_host_{kind}_key", f"lab host key, not a real one: {key}\n", mode=0o600)
        safely.write(root, f"etc/ssh/ssh_host_{kind}_key.pub", f"lab-{kind} {key}\n")
    home = "home/ubuntu" if (root / "home/ubuntu").is_dir() else "home/ec2-user"
    safely.write(root, f"{home}/.ssh/authorized_keys", f"lab-key {_identity('key', name)}\n", mode=0o600)
    safely.write(root, "root/.ssh/authorized_keys", "# cloud-init: log in as another user\n", mode=0o600)
    cloud = f"var/lib/cloud/instances/{name}"
    safely.write(root, f"{cloud}/user-data.txt", "")
    safely.write(root, f"{cloud}/sem/config_ssh", "done\n")
    safely.write(root, "var/lib/cloud/data/instance-id", f"{name}\n")
    safely.write(root, "var/lib/cloud/sem/config_scripts_per_once.once", "done\n")
    safely.write(root, "var/log/cloud-init.log", f"cloud-init: instance {name}\n")
    safely.write(root, "var/log/cloud-init-output.log", "Cloud-init finished\n")
    safely.write(root, "var/log/syslog", f"kernel: booted {name}\n")
    safely.write(root, "var/log/syslog.1", "kernel: an older boot\n")
    safely.write(root, "var/log/auth.log", "sshd: Server listening\n")
    safely.write(root, "var/log/wtmp", "boot\n")
    safely.write(root, "var/lib/systemd/random-seed", _identity("seed", name))
    safely.write(root, "var/lib/dhcp/dhclient.ens5.leases", f"lease {{ host {name} }}\n")
    registration = json.dumps({"ManagedInstanceID": name, "Region": machine.region})
    safely.write(root, "var/lib/amazon/ssm/registration", registration, mode=0o600)
    safely.write(root, f"var/lib/amazon/ssm/{name}/session/state.json", "{}")
    safely.write(root, "var/log/amazon/ssm/amazon-ssm-agent.log", f"INFO agent started on {name}\n")
    _new_boot(machine)


def _new_boot(machine: Machine) -> None:
    """Start anew: memory is empty, temporary files are gone, the boot has an id of its own."""
    root = machine.root
    safely.clear(root, "run")
    safely.clear(root, "tmp")
    (root / "tmp").chmod(0o1777)
    count = int((safely.read(root, "lab/boots") or b"0").decode()) + 1
    safely.write(root, "lab/boots", f"{count}\n")
    safely.write(root, "lab/boot_id", f"{_identity(machine.instance_id, 'boot', count)}\n")
    identity = (safely.read(root, "etc/machine-id") or b"").decode().strip()
    if identity:
        safely.write(root, f"var/log/journal/{identity}/system.journal", f"boot {count}\n")


def reboot(machine: Machine) -> None:
    """Restart the machine in order: services end, memory is lost, and the newest installed kernel runs."""
    stop(machine)
    _new_boot(machine)


def stop(machine: Machine) -> None:
    """Shut the machine down in order: services run what they declared for their end, then memory is lost.

    Where scripts cannot really run, only memory is lost: nothing was ever started there.
    """
    if sandbox()[0]:
        run(machine, "#!/bin/sh\nlab-shutdown\n", execution="")
    safely.clear(machine.root, "run")
