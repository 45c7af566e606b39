"""From a base image to a machine and back: seeding a node root, copying it, first boot, reboot, stop."""

from __future__ import annotations

import shutil
import stat
import uuid
from pathlib import Path

from leptonami.lab.node import safely
from leptonami.lab.node.machine import Machine
from leptonami.lab.node.sandbox import layout

__all__ = ["copy", "first_boot", "reboot", "seed", "stop"]


def seed(root: Path, *, family: str, os: str, kubernetes: str, architecture: str, image_name: str) -> None:
    """Make the node root of a base AMI, believable for its family.

    Parameters
    ----------
    root
        A folder that does not exist yet, or is empty.
    family, os, kubernetes, architecture
        As in the catalog.
    image_name
        Name of the AMI; kept on the machine as the family does it.
    """
    layout(root)
    safely.write(root, "etc/os-release", f'ID={family}\nVERSION_ID="{os}"\n')
    safely.write(root, "etc/leptonami-lab-base", f"{image_name} {kubernetes} {architecture}\n")


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


def first_boot(machine: Machine) -> None:
    """Do what cloud-init and the SSM agent do when an instance starts for the first time."""
    safely.write(machine.root, "etc/machine-id", uuid.uuid5(uuid.NAMESPACE_OID, machine.instance_id).hex + "\n")
    _new_boot(machine)


def _new_boot(machine: Machine) -> None:
    safely.clear(machine.root, "run")
    safely.clear(machine.root, "tmp")
    count = int((safely.read(machine.root, "lab/boots") or b"0").decode()) + 1
    safely.write(machine.root, "lab/boots", f"{count}\n")
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{machine.instance_id} boot {count}")
    safely.write(machine.root, "lab/boot_id", f"{identity}\n")


def reboot(machine: Machine) -> None:
    """Restart the machine: memory is lost, the newest installed kernel runs."""
    _new_boot(machine)


def stop(machine: Machine) -> None:
    """Shut the machine down in order: services run what they declared for their end."""
    safely.clear(machine.root, "run")
