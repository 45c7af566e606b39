"""What the tests of the local drivers share."""

from __future__ import annotations

import os
from pathlib import Path

from leptonami.bench.local import containerd, disks
from leptonami.bench.local.driver import LocalDriver


def leftovers(driver: LocalDriver) -> list[str]:
    """Look for everything that a trial could leave, in other ways than the clean-up does."""
    found = [str(path) for path in (driver.folder / "trials").iterdir()]
    name = f"leptonami-{driver.setup.run}"
    # `glob` would fail at a group of somebody else's that goes while it looks.
    groups = os.walk("/sys/fs/cgroup")
    found += [f"{parent}/{each}" for parent, folders, _ in groups for each in folders if each.startswith(name)]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if "leptonami-node" in line]
    loops = disks.run("losetup", "--list", "--noheadings")
    found += [line for line in loops.splitlines() if str(driver.folder) in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            group = (process / "cgroup").read_text()
        except OSError:
            continue
        # A whole node's processes do not name the folder; they are in its control groups. Zombies have ended.
        if str(driver.folder) in command or (f"/{name}-" in group and containerd._began(int(process.name))):
            found += [command or group] if int(process.name) != os.getpid() else []
    return found
