"""The first process of a simulated machine: it builds the machine's view of the world, then runs one script in it.

Started by `sandbox.start` under `unshare` (own user, mount, process, network, host-name and IPC namespaces) with
leptonami's own interpreter as `python -I -S enter.py SPEC`, where SPEC is JSON. It may import nothing but the standard
library. The script comes in on standard input, so that nothing on the host ever writes inside the node root: a
symbolic link that an earlier script planted there leads nowhere but into the node root itself.

What the script sees: the folders in `NODE_DIRS` are the node root's; the programs and libraries of the host are there
read-only; `/dev`, `/proc` and `/sys` are small and our own; there is no network. It is root in its namespace, but
without the capabilities that could undo any of this.
"""

# pathlib would cost 5 ms at every start of a script.
# ruff: noqa: PTH101, PTH102, PTH103, PTH106, PTH108, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys

# Folders in which provisioning scripts write; everything else of the machine is the host's, read-only.
NODE_DIRS = (
    "boot",
    "etc",
    "home",
    "mnt",
    "opt",
    "root",
    "run",
    "snap",
    "srv",
    "tmp",
    "usr/local",
    "usr/lib/modules",
    "var",
)
# Parts of the host's /etc that its programs need to start (awk is a link into /etc/alternatives on Debian).
HOST_ETC = ("alternatives", "ld.so.cache")
PROGRAMS = ("bin", "sbin", "usr/bin", "usr/sbin")
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
# Kernel settings are not namespaced: root on the host would be root here too (proc(5), sysctl).
READ_ONLY_PROC = ("bus", "fs", "irq", "sys", "sysrq-trigger")
HIDDEN_PROC = ("kcore", "keys", "kallsyms", "timer_list")
# chown, dac_override, dac_read_search, fowner, fsetid, kill, setgid, setuid (capabilities(7)).
KEPT_CAPABILITIES = frozenset(range(8))

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 1024, 2048, 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
OPTIONS = {
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
}

# What statvfs(3) says, and the flag of mount(2) for it.
STATES = {2: MS_NOSUID, 4: MS_NODEV, 8: MS_NOEXEC, 1024: MS_NOATIME, 2048: MS_NODIRATIME, 4096: MS_RELATIME}

libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", str(arguments[:2]))


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    _call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )


def _mounts_below(path: str) -> list[tuple[str, int]]:
    """Give the mounts at and below a path with the flags that a remount has to repeat (they may be locked)."""
    found = []
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            fields = line.split()
            point = fields[4].replace("\\040", " ")
            if point == path or point.startswith(path + "/"):
                found.append((point, sum(OPTIONS.get(option, 0) for option in fields[5].split(","))))
    return found


def _bind(source: str, target: str, *, read_only: bool) -> None:
    _mount(source, target, None, MS_BIND | MS_REC)
    if not read_only:
        return
    if any(point.startswith(source.rstrip("/") + "/") for point in _host_mounts()):
        below = _mounts_below(target)
    else:
        # The usual case, without reading the table of mounts again for each of a hundred folders.
        state = os.statvfs(target).f_flag
        below = [(target, sum(flag for bit, flag in STATES.items() if state & bit))]
    for point, flags in below:
        _mount("none", point, None, MS_BIND | MS_REMOUNT | MS_RDONLY | flags)


_points: list[str] = []


def _host_mounts() -> list[str]:
    """Give where something was mounted before the view was built."""
    if not _points:
        _points.extend(point for point, _ in _mounts_below(""))
    return _points


def _put(path: str, content: str | bytes, mode: int = 0o644) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    os.chmod(path, mode)


def _host_tree(new: str, path: str, own: set[str], hidden: set[str]) -> None:
    """Show a host folder read-only, but leave room in it for the node root's folders (`own`, relative to the root)."""
    target = f"{new}/{path}"
    if path in PROGRAMS:
        _programs(new, path, hidden)
        return
    inside = {name[len(path) + 1 :] for name in own if name.startswith(path + "/")}
    if not inside:
        os.makedirs(target, exist_ok=True)
        _bind(f"/{path}", target, read_only=True)
        return
    os.makedirs(target, exist_ok=True)
    heads = {name.split("/")[0] for name in inside} | {
        name.split("/")[1] for name in PROGRAMS if path == "usr" and "/" in name
    }
    heads = {head for head in heads if not os.path.islink(f"/{path}/{head}")}
    for entry in os.scandir(f"/{path}"):
        place = f"{target}/{entry.name}"
        if entry.name in heads:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.is_dir():
            os.mkdir(place)
            _bind(entry.path, place, read_only=True)
        else:
            _put(place, b"")
            _bind(entry.path, place, read_only=True)
    for head in sorted(heads):
        if f"{path}/{head}" in own:
            os.makedirs(f"{target}/{head}", exist_ok=True)
        else:
            _host_tree(new, f"{path}/{head}", own, hidden)


def _programs(new: str, path: str, hidden: set[str]) -> None:
    """Show a folder of the host's programs as links, without those of which the lab has stand-ins.

    Which stand-ins there are depends on the machine's family and on what has been installed: a script on Amazon Linux
    must not find the host's apt-get, nor one on Ubuntu an nvidia-smi that nobody installed.
    """
    place = f"/lab/host/{path}"
    os.makedirs(new + place)
    _bind(f"/{path}", new + place, read_only=True)
    os.makedirs(f"{new}/{path}", exist_ok=True)
    for name in os.listdir(f"/{path}"):
        if name not in hidden:
            os.symlink(f"{place}/{name}", f"{new}/{path}/{name}")
    for name in os.listdir(f"{new}/lab/bin"):
        if name in hidden:
            os.symlink("/lab/tool", f"{new}/{path}/{name}")


def _devices(new: str) -> None:
    os.mkdir(f"{new}/dev")
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            _put(f"{new}/dev/{name}", b"")
            _bind(f"/dev/{name}", f"{new}/dev/{name}", read_only=False)
    os.mkdir(f"{new}/dev/shm")  # noqa: S108
    _mount("tmpfs", f"{new}/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")  # noqa: S108
    for name, goal in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(goal, f"{new}/dev/{name}")


def _system(new: str, machine: dict[str, object]) -> None:
    """Make the little of /sys that scripts look at: the PCI devices, where a GPU shows itself without any driver."""
    devices = f"{new}/sys/bus/pci/devices"
    os.makedirs(devices)
    # An ENA adapter (Amazon, Ethernet), then NVIDIA 3D controllers, as on g and p instances.
    listed = [("0x1d0f", "0x020000", "0xec20")]
    listed += [("0x10de", "0x030200", "0x1eb8")] * int(str(machine["gpus"]))
    for number, (vendor, kind, device) in enumerate(listed):
        place = f"{devices}/0000:00:{5 + number:02x}.0"
        os.mkdir(place)
        for name, value in (("vendor", vendor), ("class", kind), ("device", device)):
            _put(f"{place}/{name}", value + "\n")
    os.makedirs(f"{new}/sys/class/dmi/id")
    _put(f"{new}/sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    _put(f"{new}/sys/class/dmi/id/board_asset_tag", f"{machine['instance_id']}\n")


def _process_view(new: str, boot_id: str) -> None:
    os.mkdir(f"{new}/proc")
    _mount("proc", f"{new}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _put(f"{new}/lab/boot_id", boot_id + "\n")
    for name in READ_ONLY_PROC:
        place = f"{new}/proc/{name}"
        if os.path.exists(place):
            _bind(place, place, read_only=True)
    for name in HIDDEN_PROC:
        if os.path.exists(f"{new}/proc/{name}"):
            _bind(f"{new}/dev/null", f"{new}/proc/{name}", read_only=False)
    # A script that asked for a reboot recognises it by this file; the host's would never change.
    _bind(f"{new}/lab/boot_id", f"{new}/proc/sys/kernel/random/boot_id", read_only=True)


def build(spec: dict[str, object]) -> None:
    """Build the machine's file tree and move into it. Nothing of the host's stays reachable but what is shown."""
    root = str(spec["root"])
    machine = spec["machine"]
    assert isinstance(machine, dict)  # noqa: S101
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    new = f"{root}/lab/view"
    _mount("tmpfs", new, "tmpfs", MS_NOSUID, "mode=755")
    os.mkdir(f"{new}/lab")
    for name, source, read_only in (
        ("python", str(spec["python"]), True),
        ("code", str(spec["code"]), True),
        ("state", f"{root}/lab/state", False),
        ("bin", f"{root}/lab/bin", False),
    ):
        os.mkdir(f"{new}/lab/{name}")
        _bind(source, f"{new}/lab/{name}", read_only=read_only)
    _put(f"{new}/lab/machine.json", json.dumps(machine))
    _put(f"{new}/lab/faults.json", json.dumps(spec["faults"]))
    os.symlink(f"/lab/python/{spec['interpreter']}", f"{new}/lab/python3")
    shebang = f"#!/lab/python/{spec['interpreter']} -IS\n"
    _put(
        f"{new}/lab/tool", shebang + "import sys; sys.path.insert(0, '/lab/code'); import tools; tools.main()\n", 0o755
    )
    stand_ins = spec["stand_ins"]
    assert isinstance(stand_ins, list)  # noqa: S101
    hidden = set(stand_ins)
    own = set(NODE_DIRS)
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32", "usr"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{new}/{name}")
        elif os.path.isdir(f"/{name}"):
            _host_tree(new, name, own, hidden)
    for name in NODE_DIRS:
        os.makedirs(f"{new}/{name}", exist_ok=True)
        _bind(f"{root}/{name}", f"{new}/{name}", read_only=False)
    if not os.path.exists(f"{new}/lib/modules"):
        os.symlink("/usr/lib/modules", f"{new}/lib/modules")
    for name in HOST_ETC:
        if os.path.exists(f"/etc/{name}") and os.path.exists(f"{new}/etc/{name}"):
            _bind(f"/etc/{name}", f"{new}/etc/{name}", read_only=True)
    _devices(new)
    _system(new, machine)
    _process_view(new, str(spec["boot_id"]))
    os.mkdir(f"{new}/old")
    os.chdir(new)
    _call("pivot_root", b".", b"old")
    os.chdir("/")
    _call("umount2", b"/old", MNT_DETACH)
    os.rmdir("/old")
    # The view itself is not the machine's to change: no new top-level folders.
    _mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)


def _confine() -> None:
    for capability in range(64):
        if capability not in KEPT_CAPABILITIES:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _place(spec: dict[str, object], script: bytes) -> str:
    """Put the script where the SSM agent's document worker puts it."""
    machine = spec["machine"]
    assert isinstance(machine, dict)  # noqa: S101
    if not spec["execution"]:
        _put("/run/lab-script.sh", script, 0o700)
        return "/run/lab-script.sh"
    folder = (
        f"/var/lib/amazon/ssm/{machine['instance_id']}/document/orchestration/{spec['execution']}"
        "/awsrunShellScript/0.awsrunShellScript"
    )
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = f"{folder}/_script.sh"
    if os.path.lexists(path):
        os.unlink(path)
    _put(path, script, 0o700)
    return path


def main() -> int:
    """Build the view, run the script, wait for it; give its exit status as a shell would."""
    spec = json.loads(sys.argv[1])
    lifeline, begins = int(spec["lifeline"]), int(spec["begins"])
    script = sys.stdin.buffer.read()
    build(spec)
    path = _place(spec, script)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    _confine()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(lifeline)
        environment = {
            "PATH": "/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin",
            "LANG": "C.UTF-8",
            "AWS_SSM_INSTANCE_ID": str(spec["machine"]["instance_id"]),
            "AWS_SSM_REGION_NAME": str(spec["machine"]["region"]),
        }
        os.chdir(os.path.dirname(path))
        os.write(begins, b"!")
        os.close(begins)
        os.execve("/bin/sh", ["sh", "-c", path], environment)  # noqa: S606
    # When whoever started the machine dies, its end of the lifeline closes, and everything here goes with it.
    poller = select.poll()
    done = os.pidfd_open(child)
    poller.register(done, select.POLLIN)
    poller.register(lifeline, select.POLLHUP)
    ready = {descriptor for descriptor, _ in poller.poll()}
    if done not in ready:
        return 128 + signal.SIGKILL
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        result = main()
    except OSError as error:
        sys.stderr.write(f"leptonami lab: cannot build the machine: {error}\n")
        result = 125
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result)
