"""The stand-ins: what `apt-get`, `snap`, `systemctl`, `ctr`, `nvidia-smi` and others are on a simulated machine.

One file, run by leptonami's interpreter without site packages, which chooses by the name it was called under. Each
stand-in keeps its state in the node root, in the place where the real program keeps its own where that matters
(`/var/lib/containerd`, `/var/lib/apt/lists`, `/run`), so that a script which deletes or forgets something sees what it
would see on a real machine. What a stand-in does not do, it refuses with status 64 and says so: it never pretends.

Faults for tests come from `lab/faults.json` of the node root:

`apt_lock_seconds`, `pull_fails` (count), `tool_fails` ({tool: count, -1 for always}), `module_vermagic`,
`module_version`, `module_license`, `module_does_not_load`, `wrong_key`, `cloud_init` ("error", "degraded", "hangs"),
`snap_changes` (polls that find a change in progress), `gpus_lost` (count), `disk_used_gib`, `boots_old_kernel`,
`no_cri`.
"""

# pathlib, dataclasses, argparse and typing would cost 5 to 20 ms at every call of every tool.
# ruff: noqa: PTH101, PTH102, PTH107, PTH108, PTH110, PTH112, PTH113, PTH114, PTH115, PTH118, PTH119, PTH120, PTH123
# ruff: noqa: PTH202, PTH204, PTH207, PTH208, PTH211, S605, PLR0911, PLR0912, T201

from __future__ import annotations

import fcntl
import json
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

STATE = "/lab/state"
CONTAINERD = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.json"
LISTS = "/var/lib/apt/lists"
SOCKET = "/run/containerd/containerd.sock"
# The fingerprint of the key with which NVIDIA signs its repository, as its installation guide gives it.
NVIDIA_KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
BASE_USED_MIB = 4096


class Refused(Exception):
    """The stand-in does not do what it was asked for."""


class Failed(Exception):
    """The real program would fail here: its message and its status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


# --- state ----------------------------------------------------------------------------------------------------------


def _load(path: str, default: Any = None) -> Any:
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return default


def _save(path: str, value: Any) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w") as file:
        json.dump(value, file, indent=1, sort_keys=True)
    os.replace(draft, path)  # noqa: PTH105


def machine() -> dict[str, Any]:
    """What the machine is."""
    found: dict[str, Any] = _load("/lab/machine.json")
    return found


def fault(name: str, default: Any = None) -> Any:
    """Give a fault that a test switched on."""
    return _load("/lab/faults.json", {}).get(name, default)


def spend(name: str, count: int) -> bool:
    """Tell whether a fault that holds `count` times (-1: always) strikes now, and count it."""
    if count < 0:
        return True
    path = f"{STATE}/spent.json"
    spent = _load(path, {})
    if spent.get(name, 0) >= count:
        return False
    spent[name] = spent.get(name, 0) + 1
    _save(path, spent)
    return True


def read(path: str) -> str:
    """Give a file's text, nothing if it is not there."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def write(path: str, text: str) -> None:
    """Write a file, making its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def out(*lines: str) -> None:
    """Print lines."""
    for line in lines:
        sys.stdout.write(line + "\n")


def flags(arguments: list[str], valued: str, plain: str) -> tuple[dict[str, list[str]], list[str]]:
    """Take options apart: those with a value, those without; an unknown one is refused. Gives options and the rest."""
    takes, bare = set(valued.split()), set(plain.split())
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            rest += queue
            break
        if word.startswith("--") and equals and name in takes:
            found.setdefault(name, []).append(value)
        elif word in takes:
            if not queue:
                raise Refused
            found.setdefault(word, []).append(queue.pop(0))
        elif word in bare:
            found.setdefault(word, []).append("")
        elif re.fullmatch(r"-[A-Za-z]{2,}", word):
            # -fsS, or -Pk: single letters together; one with a value must come last.
            queue = ["-" + letter for letter in word[1:]] + queue
        elif word.startswith("-") and word != "-":
            raise Refused
        else:
            rest.append(word)
    return found, rest


# --- packages of Ubuntu ---------------------------------------------------------------------------------------------

PACKAGES = f"{STATE}/packages.json"


def packages() -> dict[str, Any]:
    """Installed packages and holds."""
    found: dict[str, Any] = _load(PACKAGES, {"installed": {}, "held": []})
    return found


def archive() -> dict[str, Any]:
    """Packages that can be installed: those of the lists which `apt-get update` fetched."""
    known = _load(f"{STATE}/archive.json", {})
    have = {name.removesuffix("_Packages") for name in os.listdir(LISTS)} if os.path.isdir(LISTS) else set()
    return {name: entry for name, entry in known.items() if entry["repository"] in have}


def version_key(version: str) -> list[Any]:
    """Order versions much as dpkg does: numbers as numbers, ~ before everything."""
    return [
        (2, int(part), "") if part.isdigit() else (0, 0, part) if part == "~" else (1, 0, part)
        for part in re.findall(r"\d+|~|[^\d~]+", version)
    ]


def _lock_held() -> bool:
    seconds = fault("apt_lock_seconds", 0)
    if not seconds:
        return False
    import time

    path = f"{STATE}/lock-since.json"
    since = _load(path)
    if since is None:
        since = time.time()
        _save(path, since)
    return bool(time.time() - since < seconds)


def _wait_lock(options: dict[str, list[str]]) -> None:
    import time

    limit = 0.0
    for option in options.get("-o", []):
        if option.startswith("DPkg::Lock::Timeout="):
            limit = float(option.partition("=")[2])
    start = time.time()
    while _lock_held():
        if time.time() - start >= limit:
            raise Failed(
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4242 (unattended-upgr)\n"
                "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
                100,
            )
        time.sleep(0.1)


APT_VALUED = "-o"
APT_PLAIN = "-q -qq -y -s --yes --assume-yes --quiet --simulate --dry-run --no-install-recommends"
APT_PLAIN += " --allow-change-held-packages --allow-downgrades --purge"


def apt_get(arguments: list[str]) -> None:
    """Apt: update, install, remove, purge, clean."""
    options, rest = flags(arguments, APT_VALUED, APT_PLAIN)
    if not rest:
        raise Refused
    command, names = rest[0], rest[1:]
    if command in ("clean", "autoclean"):
        for name in os.listdir("/var/cache/apt/archives") if os.path.isdir("/var/cache/apt/archives") else []:
            if name.endswith(".deb"):
                os.unlink(f"/var/cache/apt/archives/{name}")
        return
    _wait_lock(options)
    simulate = any(each in options for each in ("-s", "--simulate", "--dry-run"))
    if command == "update" and not names:
        _apt_update()
    elif command == "install":
        _apt_install(names, simulate, "--allow-change-held-packages" in options)
    elif command in ("remove", "purge"):
        _apt_remove(names, simulate)
    else:
        raise Refused


def _sources() -> Iterator[tuple[str, str, str]]:
    """Give each source of one-line files: options, address, file."""
    import glob

    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*.list"))]:
        for line in read(path).splitlines():
            match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)", line)
            if match:
                yield match[1] or "", match[2], path
    for path in sorted(glob.glob("/etc/apt/sources.list.d/*.sources")):
        for address in re.findall(r"(?m)^URIs:\s*(\S+)", read(path)):
            yield "", address, path


def _apt_update() -> None:
    os.makedirs(LISTS, exist_ok=True)
    for options, address, path in _sources():
        if "ubuntu.com" in address:
            repository = "ubuntu"
        elif "libnvidia-container" in address or address.startswith("file:"):
            repository = "nvidia"
            keyring = re.search(r"signed-by=(\S+)", options)
            if keyring is None or NVIDIA_KEY not in read(keyring[1]):
                raise Failed(
                    f"W: GPG error: {address} InRelease: The following signatures couldn't be verified because the public"
                    f" key is not available: NO_PUBKEY {NVIDIA_KEY[-16:]}\nE: The repository '{address} InRelease' is"
                    " not signed.",
                    100,
                )
        else:
            raise Failed(f"E: Failed to fetch {address}/InRelease  Could not resolve host (from {path})", 100)
        write(f"{LISTS}/{repository}_Packages", f"# the lab's list of {address}\n")
        out(f"Hit: {address} InRelease")
    out("Reading package lists...")


def _resolve(names: list[str], force_held: bool) -> dict[str, tuple[str | None, str]]:
    """Give what an installation changes: for each package the version it has and the one it gets."""
    known, state = archive(), packages()
    installed = state["installed"]
    changes: dict[str, tuple[str | None, str]] = {}
    queue = [(*name.partition("=")[::2], True) for name in names]
    while queue:
        name, version, asked = queue.pop(0)
        entry = known.get(name)
        present = installed.get(name)
        if entry is None:
            if present and not version:
                continue
            raise Failed(f"E: Unable to locate package {name}", 100)
        if not version:
            if name in changes or (present and not asked):
                continue
            version = present if present else entry["versions"][-1]
        if version not in entry["versions"] and version != present:
            raise Failed(f"E: Version '{version}' for '{name}' was not found", 100)
        if name in changes and changes[name][1] != version:
            raise Failed(f"E: Unable to correct problems: {name} is wanted as {changes[name][1]} and {version}", 100)
        if present != version:
            if name in state["held"] and not force_held:
                raise Failed("E: Held packages were changed and -y was used without --allow-change-held-packages.", 100)
            changes[name] = (present, version)
        for need in entry.get("depends", {}).get(version, entry.get("depends", {}).get("*", [])):
            needed, _, exact = need.partition("=")
            if exact == "same":
                exact = version
            if not exact and (needed in installed or needed in changes):
                continue
            if exact and installed.get(needed) == exact:
                continue
            queue.append((needed, exact, False))
    return changes


def _apt_install(names: list[str], simulate: bool, force_held: bool) -> None:
    out("Reading package lists...", "Building dependency tree...")
    changes = _resolve(names, force_held)
    # The archive comes in any order; a module is built when its headers and its sources are there.
    order = sorted(changes, key=lambda name: (name.startswith("nvidia-dkms"), name))
    for name in order:
        had, gets = changes[name]
        before = f" [{had}]" if had else ""
        out(
            f"Inst {name}{before} ({gets} lab [{machine()['architecture']}])"
            if simulate
            else f"Setting up {name} ({gets})"
        )
    if simulate:
        out(*(f"Conf {name} ({changes[name][1]} lab)" for name in order))
        return
    state = packages()
    for name in order:
        state["installed"][name] = changes[name][1]
    _save(PACKAGES, state)
    for name in order:
        _configure(name, changes[name][1])
    with open("/var/log/dpkg.log", "a") as log:
        log.writelines(f"status installed {name} {changes[name][1]}\n" for name in order)


def _link(tool: str) -> None:
    if not os.path.lexists(f"/lab/bin/{tool}"):
        os.symlink("/lab/tool", f"/lab/bin/{tool}")


def _module_path(kernel: str) -> str:
    return f"/lib/modules/{kernel}/kernel/drivers/video/nvidia/nvidia.ko"


def _write_module(kernel: str, version: str, opened: bool) -> None:
    module = {"version": version, "vermagic": f"{kernel} SMP mod_unload modversions"}
    module["license"] = "Dual MIT/GPL" if opened else "NVIDIA"
    if fault("module_vermagic"):
        module["vermagic"] = f"{fault('module_vermagic')} SMP mod_unload modversions"
    if fault("module_version"):
        module["version"] = fault("module_version")
    if fault("module_license"):
        module["license"] = fault("module_license")
    write(_module_path(kernel), json.dumps(module))


TOOLS_OF = {
    "nvidia-utils-": ("nvidia-smi",),
    "nvidia-container-toolkit-base": ("nvidia-ctk", "nvidia-container-runtime"),
    "libnvidia-container-tools": ("nvidia-container-cli",),
    "nvidia-dkms-": ("dkms",),
}


def _configure(name: str, version: str) -> None:
    """Do on the disk what a package's files and scripts do, as far as anybody looks."""
    for prefix, tools in TOOLS_OF.items():
        if name.startswith(prefix):
            for tool in tools:
                _link(tool)
    kernel = name.removeprefix("linux-image-")
    if name.startswith("linux-image-") and kernel[0].isdigit():
        write(f"/boot/vmlinuz-{kernel}", "lab kernel\n")
        write(f"/lib/modules/{kernel}/modules.dep", "")
    match = re.fullmatch(r"linux-modules-nvidia-(\d+)(-server)?(-open)?-(\d.*)", name)
    if match:
        driver = archive()[name]["driver"]
        _write_module(match[4], driver, bool(match[3]))
    if name.startswith("nvidia-dkms-"):
        kernel = running_kernel()
        if f"linux-headers-{kernel}" not in packages()["installed"]:
            raise Failed(
                f"Error! Your kernel headers for kernel {kernel} cannot be found at /lib/modules/{kernel}/build.\n"
                f"dpkg: error processing package {name} (--configure)",
                100,
            )
        upstream = version.partition("-")[0]
        _write_module(kernel, upstream, name.endswith("-open"))
        write(f"/var/lib/dkms/nvidia/{upstream}/{kernel}/x86_64/log/make.log", "lab: built\n")


def _apt_remove(names: list[str], simulate: bool) -> None:
    state = packages()
    for name in names:
        if name not in state["installed"]:
            out(f"Package '{name}' is not installed, so not removed")
            continue
        out(f"Remv {name} [{state['installed'][name]}]" if simulate else f"Removing {name}")
        if simulate:
            continue
        del state["installed"][name]
        for prefix, tools in TOOLS_OF.items():
            if name.startswith(prefix):
                for tool in tools:
                    if os.path.lexists(f"/lab/bin/{tool}"):
                        os.unlink(f"/lab/bin/{tool}")
    if not simulate:
        _save(PACKAGES, state)


def apt_cache(arguments: list[str]) -> None:
    """Apt's queries: madison, policy, search --names-only."""
    options, rest = flags(arguments, "", "--names-only -n -q")
    known = archive()
    if len(rest) == 2 and rest[0] == "madison":
        for version in reversed(known.get(rest[1], {"versions": []})["versions"]):
            out(f" {rest[1]} | {version} | lab {known[rest[1]]['repository']} {machine()['architecture']} Packages")
    elif len(rest) == 2 and rest[0] == "policy":
        present = packages()["installed"].get(rest[1])
        if rest[1] in known or present:
            candidate = present or known[rest[1]]["versions"][-1]
            out(f"{rest[1]}:", f"  Installed: {present or '(none)'}", f"  Candidate: {candidate}")
    elif len(rest) == 2 and rest[0] == "search" and options:
        for name in sorted(known):
            if re.search(rest[1], name):
                out(f"{name} - package of the lab's archive")
    else:
        raise Refused


def apt_mark(arguments: list[str]) -> None:
    """Holds."""
    options, rest = flags(arguments, "", "-q -qq")
    del options
    if not rest or rest[0] not in ("hold", "unhold", "showhold"):
        raise Refused
    state = packages()
    if rest[0] == "showhold":
        out(*sorted(state["held"]))
        return
    for name in rest[1:]:
        if name not in state["installed"]:
            raise Failed(f"E: Can't select installed nor candidate version from package {name}", 100)
        if rest[0] == "hold" and name not in state["held"]:
            state["held"].append(name)
        elif rest[0] == "unhold" and name in state["held"]:
            state["held"].remove(name)
        out(f"{name} set on hold." if rest[0] == "hold" else f"Canceled hold on {name}.")
    _save(PACKAGES, state)


def _escaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")


def dpkg_query(arguments: list[str]) -> None:
    """Query installed packages: -W with a format."""
    options, names = flags(arguments, "-f --showformat", "-W --show")
    if "-W" not in options and "--show" not in options:
        raise Refused
    form = (options.get("-f") or options.get("--showformat") or ["${Package}\\t${Version}\\n"])[0]
    state = packages()
    missing = [name for name in names if name not in state["installed"]]
    for name in sorted(state["installed"]):
        if names and name not in names:
            continue
        values = {
            "Package": name,
            "binary:Package": name,
            "Version": state["installed"][name],
            "Architecture": machine()["architecture"],
            "db:Status-Abbrev": "hi " if name in state["held"] else "ii ",
            "Status": "hold ok installed" if name in state["held"] else "install ok installed",
        }

        def value(match: re.Match[str], values: dict[str, str] = values) -> str:
            if match[1] not in values:
                raise Refused
            return values[match[1]]

        sys.stdout.write(_escaped(re.sub(r"\$\{([^}]+)\}", value, form)))
    if missing:
        raise Failed(f"dpkg-query: no packages found matching {missing[0]}")


def dpkg(arguments: list[str]) -> None:
    """Dpkg: --configure -a, --audit, --print-architecture, -s."""
    if arguments == ["--configure", "-a"]:
        _wait_lock({})
        if os.path.exists(f"{STATE}/half-installed"):
            os.unlink(f"{STATE}/half-installed")
    elif arguments in (["--audit"], ["-C"]):
        sys.stdout.write(read(f"{STATE}/half-installed"))
    elif arguments == ["--print-architecture"]:
        out(machine()["architecture"])
    elif len(arguments) == 2 and arguments[0] in ("-s", "--status"):
        version = packages()["installed"].get(arguments[1])
        if version is None:
            raise Failed(f"dpkg-query: package '{arguments[1]}' is not installed and no information is available")
        out(f"Package: {arguments[1]}", "Status: install ok installed", f"Version: {version}")
    else:
        raise Refused


def fuser(arguments: list[str]) -> None:
    """Tell whether somebody has a file open: of the lab's files only apt's locks ever are."""
    options, names = flags(arguments, "", "-s -v")
    del options
    if any("lock" in name for name in names) and _lock_held():
        out(" 4242")
        return
    raise Failed("", 1)


def update_initramfs(arguments: list[str]) -> None:
    """Write the kernel's first file system anew."""
    options, rest = flags(arguments, "-k", "-u -c")
    if rest or "-k" not in options:
        raise Refused
    write(
        f"/boot/initrd.img-{options['-k'][0]}", "lab initrd: " + ",".join(sorted(os.listdir("/etc/modprobe.d"))) + "\n"
    )


# --- packages of Amazon Linux ---------------------------------------------------------------------------------------


def rpm(arguments: list[str]) -> None:
    """Query packages: -qa and -q, with --qf."""
    options, names = flags(arguments, "--qf --queryformat", "-q -a")
    form = (options.get("--qf") or options.get("--queryformat") or ["%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n"])[0]
    if "-q" not in options or ("-a" in options) == bool(names):
        raise Refused
    installed = packages()["installed"]
    for name in names or sorted(installed):
        if name not in installed:
            out(f"package {name} is not installed")
            raise Failed("", 1)
        version, _, release = installed[name].partition("-")
        arch = {"amd64": "x86_64", "arm64": "aarch64"}[machine()["architecture"]]
        values = {"NAME": name, "VERSION": version, "RELEASE": release, "ARCH": arch}

        def value(match: re.Match[str], values: dict[str, str] = values) -> str:
            if match[1] not in values:
                raise Refused
            return values[match[1]]

        sys.stdout.write(_escaped(re.sub(r"%\{([^}]+)\}", value, form)))


def dnf(arguments: list[str]) -> None:
    """Dnf and yum: clean all, install of what the lab's archive has."""
    options, rest = flags(arguments, "", "-q -y --quiet --assumeyes")
    del options
    if rest == ["clean", "all"]:
        for folder in ("/var/cache/dnf", "/var/cache/yum"):
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                os.system(f"rm -rf -- '{folder}/{name}'")
        return
    if not rest or rest[0] != "install":
        raise Refused
    known, state = _load(f"{STATE}/archive.json", {}), packages()
    for name in rest[1:]:
        match = next((n for n in known if name == n or name in [f"{n}-{v}" for v in known[n]["versions"]]), None)
        if match is None:
            raise Failed(f"No match for argument: {name}\nError: Unable to find a match: {name}")
        version = name.removeprefix(match + "-") if name != match else known[match]["versions"][-1]
        state["installed"][match] = version
        out(f"Installed: {match}-{version}")
    _save(PACKAGES, state)


# --- snaps ----------------------------------------------------------------------------------------------------------

SNAPS = "/var/lib/snapd/state.json"


def _snaps() -> dict[str, Any]:
    found: dict[str, Any] = _load(SNAPS, {"snaps": {}, "hold": None, "held": []})
    return found


def snap(arguments: list[str]) -> None:
    """Snaps: list, changes, refresh --hold and --unhold, get and set of the refresh hold, services."""
    state = _snaps()
    if not arguments:
        raise Refused
    command, rest = arguments[0], arguments[1:]
    if command == "list":
        if rest and rest[0] not in state["snaps"]:
            raise Failed("error: no matching snaps installed")
        out("Name Version Rev Tracking Publisher Notes")
        for name, entry in sorted(state["snaps"].items()):
            if rest and name not in rest:
                continue
            notes = [
                note for note, on in (("held", state["hold"] or name in state["held"]), (entry["notes"], True)) if on
            ]
            out(
                f"{name} {entry['version']} {entry['revision']} {entry['channel']} {entry['publisher']} "
                + (",".join(note for note in notes if note != "-") or "-")
            )
    elif command == "changes" and not rest:
        out("ID   Status  Spawn               Ready               Summary")
        out("1    Done    2026-11-01T00:00Z   2026-11-01T00:00Z   Initialize system state")
        if fault("snap_changes") and spend("snap_changes", fault("snap_changes")):
            out('2    Doing   2026-11-01T00:01Z   -                   Auto-refresh snap "amazon-ssm-agent"')
    elif command == "refresh" and len(rest) >= 1 and rest[0] in ("--hold", "--unhold"):
        if rest[1:]:
            for name in rest[1:]:
                if name not in state["snaps"]:
                    raise Failed(f'error: snap "{name}" is not installed')
            held = set(state["held"])
            state["held"] = sorted(held | set(rest[1:]) if rest[0] == "--hold" else held - set(rest[1:]))
        else:
            state["hold"] = "forever" if rest[0] == "--hold" else None
        out("General refreshes of all snaps held indefinitely" if rest[0] == "--hold" else "Removed auto-refresh hold")
        _save(SNAPS, state)
    elif command == "get" and rest == ["system", "refresh.hold"]:
        if not state["hold"]:
            raise Failed('error: snap "core" has no "refresh.hold" configuration option')
        out(state["hold"])
    elif command == "set" and len(rest) == 2 and rest[0] == "system" and rest[1].startswith("refresh.hold="):
        state["hold"] = rest[1].partition("=")[2] or None
        _save(SNAPS, state)
    elif command in ("start", "stop", "restart") and rest:
        names = [f"snap.{name}.daemon.service" for name in rest if not name.startswith("-")]
        for name in names:
            _unit_action(command, name)
    elif command == "version":
        out("snap    2.66", "snapd   2.66", "series  16")
    else:
        raise Refused


# --- systemd --------------------------------------------------------------------------------------------------------

UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")
ACTIVE = "/run/lab/units.json"


def _unit_name(name: str) -> str:
    return name if re.search(r"\.(service|timer|target|socket|mount)$", name) else f"{name}.service"


def _builtin() -> dict[str, Any]:
    """Units of the base image's packages: whether they are enabled, and start at boot."""
    found: dict[str, Any] = _load(f"{STATE}/units.json", {})
    return found


def _unit_text(name: str) -> str | None:
    """Give a unit's files with its drop-ins; None if there is no such unit."""
    text = None
    for folder in UNIT_FOLDERS:
        if os.path.isfile(f"{folder}/{name}"):
            text = read(f"{folder}/{name}")
    if text is None:
        if name not in _builtin():
            return None
        text = f"# /usr/lib/systemd/system/{name}\n[Unit]\nDescription={name} of the base image\n"
    for folder in UNIT_FOLDERS:
        place = f"{folder}/{name}.d"
        for part in sorted(os.listdir(place)) if os.path.isdir(place) else []:
            if part.endswith(".conf"):
                text += f"\n# {place}/{part}\n" + read(f"{place}/{part}")
    return text


def _values(text: str, key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", text)


def _masked(name: str) -> bool:
    return any(os.path.islink(f"{f}/{name}") and os.readlink(f"{f}/{name}") == "/dev/null" for f in UNIT_FOLDERS)


def _enabled(name: str) -> bool:
    text = _unit_text(name) or ""
    wants = [f"/etc/systemd/system/{target}.wants/{name}" for target in " ".join(_values(text, "WantedBy")).split()]
    default = _builtin().get(name, {}).get("enabled", False)
    changed = _load(f"{STATE}/enabled.json", {}).get(name)
    return bool(default if changed is None else changed) or any(os.path.lexists(path) for path in wants)


def _active() -> dict[str, Any]:
    """Give which units are active in this boot; what runs at boot is so from the beginning."""
    found: dict[str, Any] | None = _load(ACTIVE)
    if found is None:
        found = {name: "active" for name, unit in _builtin().items() if unit.get("boot") and _enabled(name)}
        _save(ACTIVE, found)
        if found.get("containerd.service"):
            _cri_rebuild()
    return found


def _set_active(name: str, state: str | None) -> None:
    active = _active()
    if state is None:
        active.pop(name, None)
    else:
        active[name] = state
    _save(ACTIVE, active)


def _boot_pending(name: str) -> None:
    """Run a unit that is enabled and would have run at boot, if nobody has asked for it yet."""
    text = _unit_text(name)
    if text is not None and name not in _builtin() and _enabled(name) and name not in _active():
        _start(name)


def _commands(text: str, key: str) -> int:
    import subprocess

    environment = dict(os.environ)
    for assignment in _values(text, "Environment"):
        variable, _, value = assignment.strip('"').partition("=")
        environment[variable] = value
    for command in _values(text, key):
        done = subprocess.run(
            ["/bin/sh", "-c", command.lstrip("-@+!")],  # noqa: S603
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        os.makedirs("/var/log/journal", exist_ok=True)
        with open("/var/log/journal/lab.txt", "a") as journal:
            journal.write(done.stdout + done.stderr)
        if done.returncode != 0 and not command.startswith("-"):
            return done.returncode
    return 0


def _start(name: str) -> bool:
    text = _unit_text(name)
    if text is None:
        raise Failed(f"Failed to start {name}: Unit {name} not found.", 5)
    if _masked(name):
        raise Failed(f"Failed to start {name}: Unit {name} is masked.")
    if _active().get(name) == "active":
        return True
    for need in " ".join(_values(text, "Requires")).split():
        _boot_pending(need)
        if _active().get(need) != "active" and not _start(need):
            raise Failed(f"A dependency job for {name} failed. See 'journalctl -xe' for details.")
    if _commands(text, "ExecStart") != 0:
        _set_active(name, "failed")
        return False
    _set_active(name, "active")
    if name == "containerd.service":
        write(SOCKET, "")
        _cri_rebuild()
    return True


def _stop(name: str) -> None:
    text = _unit_text(name)
    if text is None:
        raise Failed(f"Failed to stop {name}: Unit {name} not loaded.", 5)
    if _active().get(name) == "active":
        _commands(text, "ExecStop")
    _set_active(name, None)
    if name == "containerd.service" and os.path.exists(SOCKET):
        os.unlink(SOCKET)


def _unit_action(action: str, name: str) -> None:
    name = _unit_name(name)
    if action in ("stop", "restart", "try-restart"):
        if action == "try-restart" and _active().get(name) != "active":
            return
        _stop(name)
    if action in ("start", "restart", "try-restart") and not _start(name):
        raise Failed(
            f"Job for {name} failed because the control process exited with error code.\n"
            f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.'
        )


def systemctl(arguments: list[str]) -> None:
    """Systemd: states, start and stop, enable, mask, cat."""
    options, rest = flags(arguments, "", "-q --quiet --now --runtime --no-pager --no-reload")
    if not rest:
        raise Refused
    command, names = rest[0], [_unit_name(name) for name in rest[1:]]
    if command in ("daemon-reload", "reset-failed"):
        return
    if not names:
        raise Refused
    if command in ("start", "stop", "restart", "try-restart"):
        for name in names:
            _unit_action(command, name)
    elif command == "is-active":
        states = []
        for name in names:
            _boot_pending(name)
            states.append(_active().get(name, "inactive"))
        if "-q" not in options and "--quiet" not in options:
            out(*states)
        if "active" not in states:
            raise Failed("", 3)
    elif command == "is-failed":
        states = [_active().get(name, "inactive") for name in names]
        out(*states)
        if "failed" not in states:
            raise Failed("", 1)
    elif command == "is-enabled":
        for name in names:
            if _unit_text(name) is None:
                raise Failed(f"Failed to get unit file state for {name}: No such file or directory")
            state = "masked" if _masked(name) else "enabled" if _enabled(name) else "disabled"
            if "-q" not in options and "--quiet" not in options:
                out(state)
            if state != "enabled":
                raise Failed("", 1)
    elif command == "cat":
        for name in names:
            text = _unit_text(name)
            if text is None:
                raise Failed(f"No files found for {name}.")
            out(text.rstrip("\n"))
    elif command in ("enable", "disable", "mask", "unmask"):
        for name in names:
            _change_unit(command, name, options)
    else:
        raise Refused


def _change_unit(command: str, name: str, options: dict[str, list[str]]) -> None:
    if _unit_text(name) is None and command != "unmask":
        raise Failed(f"Failed to {command} unit: Unit file {name} does not exist.")
    folder = "/run/systemd/system" if "--runtime" in options else "/etc/systemd/system"
    if command == "mask":
        os.makedirs(folder, exist_ok=True)
        if not os.path.lexists(f"{folder}/{name}"):
            os.symlink("/dev/null", f"{folder}/{name}")
    elif command == "unmask":
        for place in UNIT_FOLDERS:
            if os.path.islink(f"{place}/{name}"):
                os.unlink(f"{place}/{name}")
    else:
        changed = _load(f"{STATE}/enabled.json", {})
        targets = " ".join(_values(_unit_text(name) or "", "WantedBy")).split()
        for target in targets:
            path = f"/etc/systemd/system/{target}.wants/{name}"
            if command == "enable" and not os.path.lexists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.symlink(f"/etc/systemd/system/{name}", path)
            elif command == "disable" and os.path.lexists(path):
                os.unlink(path)
        if not targets:
            changed[name] = command == "enable"
            _save(f"{STATE}/enabled.json", changed)
        if "--now" in options:
            _unit_action("start" if command == "enable" else "stop", name)


def journalctl(arguments: list[str]) -> None:
    """Rotate and empty the journal."""
    options, rest = flags(arguments, "--vacuum-time --vacuum-size", "--rotate --flush --sync")
    if rest or not options:
        raise Refused
    if "--vacuum-time" in options or "--vacuum-size" in options:
        for folder, _, names in os.walk("/var/log/journal"):
            for name in names:
                os.unlink(f"{folder}/{name}")


def lab_shutdown(arguments: list[str]) -> None:
    """For the lab itself: what happens when the machine stops. Units of this boot run their ExecStop."""
    del arguments
    for name in reversed(sorted(_active())):
        if _active().get(name) == "active":
            _stop(name)


# --- cloud-init -----------------------------------------------------------------------------------------------------


def cloud_init(arguments: list[str]) -> None:
    """cloud-init: status and clean."""
    options, rest = flags(arguments, "", "--wait --long --logs --seed --machine-id")
    if rest == ["status"]:
        state = fault("cloud_init", "done")
        if state == "hangs":
            import time

            out("status: running")
            sys.stdout.flush()
            time.sleep(3600 if "--wait" in options else 0)
            return
        if not os.path.isdir("/var/lib/cloud/instances"):
            out("status: not run")
            return
        out(f"status: {'error' if state == 'error' else 'done'}")
        if "--long" in options:
            out(f"detail: lab, {state}")
        if state == "error":
            raise Failed("", 1)
        if state == "degraded":
            raise Failed("", 2)
    elif rest == ["clean"]:
        for name in ("instance", "instances", "data", "sem"):
            path = f"/var/lib/cloud/{name}"
            if os.path.islink(path):
                os.unlink(path)
            elif os.path.isdir(path):
                os.system(f"rm -rf -- {path}")
        if "--logs" in options:
            for name in ("cloud-init.log", "cloud-init-output.log"):
                if os.path.exists(f"/var/log/{name}"):
                    os.unlink(f"/var/log/{name}")
        if "--machine-id" in options:
            write("/etc/machine-id", "uninitialized\n")
    else:
        raise Refused


# --- containerd -----------------------------------------------------------------------------------------------------


def _containerd_version() -> str:
    return str(_load(f"{STATE}/versions.json", {}).get("containerd", "1.7.24"))


def _pins_honoured() -> bool:
    """Containerd before 1.7 does not hand the label on (seen with 1.6.20)."""
    return version_key(_containerd_version()) >= version_key("1.7.0")


def _images() -> dict[str, Any]:
    found: dict[str, Any] = _load(CONTAINERD, {})
    return found


def _cri_rebuild() -> None:
    """CRI reads what containerd has when it starts; labels that come later it does not see (containerd 9381, 9785)."""
    pinned = {}
    for ref, image in _images().items():
        pinned[ref] = image["labels"].get("io.cri-containerd.pinned") == "pinned" and _pins_honoured()
    _save("/run/containerd/lab-cri.json", pinned)


def _containerd_needed(tool: str) -> None:
    if _active().get("containerd.service") != "active":
        raise Failed(
            f'{tool}: failed to dial "{SOCKET}": connection error: desc = "transport: error while dialing:'
            f' dial unix {SOCKET}: connect: no such file or directory"'
        )


def digest(ref: str, architecture: str) -> str:
    """The digest under which the lab's registry serves a reference: the one in it, or one computed from it."""
    import hashlib

    if "@" in ref:
        return ref.partition("@")[2]
    return "sha256:" + hashlib.sha256(f"{ref} {architecture}".encode()).hexdigest()


def _size_mib(ref: str) -> int:
    import hashlib

    return 20 + int(hashlib.sha256(ref.encode()).hexdigest()[:4], 16) % 300


def ctr(arguments: list[str]) -> None:
    """containerd's own client: version, and images pull, ls, check, label, tag, rm."""
    namespace = "default"
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        if rest[0] in ("-n", "--namespace") and len(rest) > 1:
            namespace = rest[1]
            rest = rest[2:]
        elif rest[0].startswith("--namespace="):
            namespace = rest.pop(0).partition("=")[2]
        else:
            raise Refused
    if rest == ["version"]:
        _containerd_needed("ctr")
        out("Client:", f"  Version:  {_containerd_version()}", "Server:", f"  Version:  {_containerd_version()}")
        return
    if len(rest) < 2 or rest[0] not in ("images", "image", "i") or namespace != "k8s.io":
        raise Refused
    _containerd_needed("ctr")
    command, rest = rest[1], rest[2:]
    if command == "pull":
        _pull(rest)
    elif command in ("ls", "list", "check"):
        _list_images(command, rest)
    elif command == "label":
        images = _images()
        if not rest or rest[0] not in images:
            raise Failed(f"ctr: image {json.dumps(rest[0] if rest else '')}: not found")
        for label in rest[1:]:
            name, _, value = label.partition("=")
            images[rest[0]]["labels"][name] = value
            if not value:
                del images[rest[0]]["labels"][name]
        _save(CONTAINERD, images)
        out(rest[0])
    elif command == "tag":
        options, names = flags(rest, "", "--force")
        images = _images()
        if len(names) < 2 or names[0] not in images:
            raise Failed(f"ctr: image {json.dumps(names[0] if names else '')}: not found")
        for name in names[1:]:
            if name in images and not options:
                raise Failed(f"ctr: image {json.dumps(name)}: already exists")
            images[name] = {**images[names[0]], "labels": {}}
            out(name)
        _save(CONTAINERD, images)
    elif command in ("rm", "remove", "delete"):
        images = _images()
        for name in rest:
            if images.pop(name, None) is None:
                raise Failed(f"ctr: image {json.dumps(name)}: not found")
            out(name)
        _save(CONTAINERD, images)
    else:
        raise Refused


ECR = re.compile(r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.")


def ecr_token(region: str) -> str:
    """The password that the lab's ECR hands out on this machine."""
    import hashlib

    return "lab" + hashlib.sha256(f"ecr {region} {machine()['instance_id']}".encode()).hexdigest()


def _pull(arguments: list[str]) -> None:
    options, names = flags(arguments, "--platform --label --user -u --hosts-dir --snapshotter", "--local -q")
    if len(names) != 1:
        raise Refused
    ref = names[0]
    if fault("pull_fails") and spend("pull", fault("pull_fails")):
        raise Failed(f'ctr: failed to copy: httpReadSeeker: failed open: unexpected status code for "{ref}": 503')
    registry = ref.partition("/")[0]
    private = ECR.match(ref)
    if private:
        import base64

        login = "AWS:" + ecr_token(private[1])
        given = (options.get("--user") or options.get("-u") or [""])[0]
        hosts = read(f"{options['--hosts-dir'][0]}/{registry}/hosts.toml") if "--hosts-dir" in options else ""
        if given != login and f"Basic {base64.b64encode(login.encode()).decode()}" not in hosts:
            raise Failed(
                f'ctr: failed to resolve reference "{ref}": pull access denied, repository does not exist or may require'
                " authorization: authorization failed: no basic auth credentials"
            )
    name, _, tag = ref.partition("@")[0].rpartition(":")
    if not re.fullmatch(r"[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?", ref):
        raise Failed(f'ctr: failed to parse reference "{ref}": invalid reference format')
    if "does-not-exist" in (name or ref) or tag == "missing":
        raise Failed(f'ctr: failed to resolve reference "{ref}": {ref}: not found')
    here = machine()["architecture"]
    wanted = (options.get("--platform") or [f"linux/{here}"])[0].removeprefix("linux/")
    offered = [each for each in ("amd64", "arm64") if f"-{'arm64' if each == 'amd64' else 'amd64'}-only" not in ref]
    images = _images()
    images[ref] = {
        "digest": digest(ref, wanted),
        "labels": dict(label.partition("=")[::2] for label in options.get("--label", [])),
        "platforms": [f"linux/{each}" for each in offered],
        # Content of a platform that is not there is "complete" without a snapshot.
        "unpacked": wanted in offered,
        "mib": _size_mib(ref),
    }
    _save(CONTAINERD, images)
    out(f"{ref}: resolved", "done")


def _list_images(command: str, arguments: list[str]) -> None:
    options, filters = flags(arguments, "", "-q --quiet")
    images = _images()
    wanted = set()
    for each in filters:
        if not each.startswith("name=="):
            raise Refused
        wanted.add(each.removeprefix("name=="))
    chosen = {ref: image for ref, image in sorted(images.items()) if not wanted or ref in wanted}
    if options:
        out(*chosen)
        return
    kind = "application/vnd.oci.image.index.v1+json"
    if command == "check":
        out("REF TYPE DIGEST STATUS SIZE UNPACKED")
        for ref, image in chosen.items():
            size = f"{image['mib']}.0 MiB/{image['mib']}.0 MiB"
            out(f"{ref} {kind} {image['digest']} complete (4/4) {size} {'true' if image['unpacked'] else 'false'}")
        return
    out("REF TYPE DIGEST SIZE PLATFORMS LABELS")
    for ref, image in chosen.items():
        labels = ",".join(f"{name}={value}" for name, value in sorted(image["labels"].items())) or "-"
        platforms = ",".join(image["platforms"])
        out(f"{ref} {kind} {image['digest']} {image['mib']}.0 MiB {platforms} {labels}")


def containerd(arguments: list[str]) -> None:
    """The daemon's command: --version, and config dump, which really reads the file."""
    if arguments == ["--version"]:
        out(f"containerd github.com/containerd/containerd {_containerd_version()} lab")
        return
    options, rest = flags(arguments, "-c --config", "")
    if rest != ["config", "dump"]:
        raise Refused
    import tomllib

    path = (options.get("-c") or options.get("--config") or ["/etc/containerd/config.toml"])[0]
    try:
        with open(path, "rb") as file:
            value = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Failed(f"containerd: failed to load TOML: {path}: {error}") from error
    out(json.dumps(value, indent=1))


def runc(arguments: list[str]) -> None:
    """Its version."""
    if arguments != ["--version"]:
        raise Refused
    out(f"runc version {_load(f'{STATE}/versions.json', {}).get('runc', '1.1.12')}", "spec: 1.2.0")


def _cri() -> list[dict[str, Any]]:
    if fault("no_cri"):
        raise Failed("rpc error: code = Unimplemented desc = unknown service runtime.v1.ImageService")
    pinned = _load("/run/containerd/lab-cri.json", {})
    found = []
    for ref, image in sorted(_images().items()):
        if image["labels"].get("io.cri-containerd.image") != "managed":
            continue
        repository = ref.partition("@")[0].rpartition(":")[0] if "@" not in ref else ref.partition("@")[0]
        found.append(
            {
                "id": image["digest"],
                "repoTags": [ref] if "@" not in ref else [],
                "repoDigests": [f"{repository}@{image['digest']}"],
                "size": str(image["mib"] << 20),
                "pinned": bool(pinned.get(ref)),
            }
        )
    return found


def crictl(arguments: list[str]) -> None:
    """CRI's client: images and inspecti, as JSON."""
    valued = "--runtime-endpoint --image-endpoint -r -i --timeout -t -o --output"
    options, rest = flags(arguments, valued, "")
    output = (options.get("-o") or options.get("--output") or [""])[0]
    _containerd_needed("crictl")
    if rest == ["images"] and output == "json":
        out(json.dumps({"images": _cri()}, indent=2))
    elif len(rest) == 2 and rest[0] == "inspecti" and output in ("", "json"):
        for image in _cri():
            if rest[1] in (*image["repoTags"], *image["repoDigests"], image["id"]):
                out(json.dumps({"status": image}, indent=2))
                return
        raise Failed(f'no such image "{rest[1]}" present')
    else:
        raise Refused


def kubelet(arguments: list[str]) -> None:
    """Its version."""
    if arguments != ["--version"]:
        raise Refused
    out(f"Kubernetes v{_load(f'{STATE}/versions.json', {})['kubelet']}")


# --- kernel and GPU -------------------------------------------------------------------------------------------------


def running_kernel() -> str:
    """The kernel that runs since the last boot: the newest that was there then."""
    found: str | None = _load("/run/lab/kernel.json")
    if found is None:
        found = _boot_kernel()
        _save("/run/lab/kernel.json", found)
    return found


def _boot_kernel() -> str:
    base: str = _load(f"{STATE}/versions.json", {}).get("kernel", "6.8.0-1021-aws")
    if fault("boots_old_kernel"):
        return base
    there = [name.removeprefix("vmlinuz-") for name in os.listdir("/boot") if name.startswith("vmlinuz-")]
    return max(there, key=version_key) if there else base


def uname(arguments: list[str]) -> None:
    """Kernel and architecture of the machine."""
    options, rest = flags(arguments, "", "-a -s -n -r -v -m -p -i -o --kernel-release --machine --all")
    if rest:
        raise Refused
    arch = {"amd64": "x86_64", "arm64": "aarch64"}[machine()["architecture"]]
    host = read("/etc/hostname").strip() or "localhost"
    values = {"-s": "Linux", "-n": host, "-r": running_kernel(), "-v": "#1 SMP leptonami lab", "-m": arch}
    values |= {"-p": arch, "-i": arch, "-o": "GNU/Linux"}
    names = {"--kernel-release": "-r", "--machine": "-m", "--all": "-a"}
    asked = {names.get(option, option) for option in options} or {"-s"}
    out(" ".join(value for option, value in values.items() if option in asked or "-a" in asked))


def _module(kernel: str) -> dict[str, str] | None:
    path = _module_path(kernel)
    found: dict[str, str] | None = _load(path)
    return found


def modinfo(arguments: list[str]) -> None:
    """Describe the nvidia module of a kernel."""
    options, rest = flags(arguments, "-k -F --field", "")
    if len(rest) != 1:
        raise Refused
    kernel = (options.get("-k") or [running_kernel()])[0]
    module = _module(kernel) if rest[0] == "nvidia" else None
    if module is None:
        raise Failed(f"modinfo: ERROR: Module {rest[0]} not found.")
    fields = {**module, "filename": _module_path(kernel), "name": "nvidia"}
    field = (options.get("-F") or options.get("--field") or [""])[0]
    if field:
        out(fields.get(field, ""))
    else:
        out(*(f"{name + ':':<16}{value}" for name, value in sorted(fields.items())))


def _loaded() -> list[str]:
    found: list[str] = _load("/run/lab/modules.json", ["ena", "nvme", "overlay"])
    return found


def _load_nvidia() -> str | None:
    """Load the module as the kernel would; give what is wrong."""
    module = _module(running_kernel())
    if module is None:
        return f"modprobe: FATAL: Module nvidia not found in directory /lib/modules/{running_kernel()}"
    if module["vermagic"].split()[0] != running_kernel():
        return "modprobe: ERROR: could not insert 'nvidia': Exec format error"
    if machine()["gpus"] == 0 or fault("module_does_not_load"):
        return "modprobe: ERROR: could not insert 'nvidia': No such device"
    if "nvidia" not in _loaded():
        _save("/run/lab/modules.json", [*_loaded(), "nvidia"])
    return None


def modprobe(arguments: list[str]) -> None:
    """Load a module."""
    options, rest = flags(arguments, "", "-q --quiet -r")
    if len(rest) != 1 or "-r" in options:
        raise Refused
    if rest[0] in _loaded():
        return
    problem = _load_nvidia() if rest[0] == "nvidia" else f"modprobe: FATAL: Module {rest[0]} not found"
    if problem:
        raise Failed(problem)


def lsmod(arguments: list[str]) -> None:
    """Loaded modules. On a machine with a GPU udev loads a module that fits at boot."""
    if arguments:
        raise Refused
    if machine()["gpus"]:
        _load_nvidia()
    out("Module                  Size  Used by", *(f"{name:<19} 16384  0" for name in _loaded()))


def depmod(arguments: list[str]) -> None:
    """Write module dependencies: nothing depends on them here."""
    _, rest = flags(arguments, "", "-a -A")
    if len(rest) > 1:
        raise Refused


def dmesg(arguments: list[str]) -> None:
    """The kernel's messages: the lab has none."""
    if arguments:
        raise Refused


def dkms(arguments: list[str]) -> None:
    """State of built modules."""
    if arguments != ["status"]:
        raise Refused
    import glob

    arch = {"amd64": "x86_64", "arm64": "aarch64"}[machine()["architecture"]]
    for path in sorted(glob.glob("/var/lib/dkms/nvidia/*/*")):
        version, kernel = path.split("/")[-2:]
        out(f"nvidia/{version}, {kernel}, {arch}: installed")


def nvidia_smi(arguments: list[str]) -> None:
    """The driver's own check: the module must load, and fit the library."""
    installed = packages()["installed"]
    library = next((v for n, v in installed.items() if re.match(r"nvidia-(utils|driver)", n)), "").partition("-")[0]
    if _load_nvidia() is not None:
        if machine()["gpus"] == 0 and _module(running_kernel()):
            out("No devices were found")
            raise Failed("", 6)
        out(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA"
            " driver is installed and running."
        )
        raise Failed("", 9)
    module = _module(running_kernel()) or {}
    if module.get("version") != library:
        out("Failed to initialize NVML: Driver/library version mismatch", f"NVML library version: {library}")
        raise Failed("", 18)
    count = machine()["gpus"] - int(fault("gpus_lost", 0))
    if count <= 0:
        out("No devices were found")
        raise Failed("", 6)
    name = machine()["gpu_name"] or "NVIDIA GPU"
    if arguments in (["-L"], ["--list-gpus"]):
        for number in range(count):
            out(f"GPU {number}: {name} (UUID: GPU-00000000-0000-4000-8000-{number:012d})")
        return
    options, rest = flags(arguments, "--query-gpu --format", "")
    if rest or (options and (set(options) != {"--query-gpu", "--format"} or options["--format"] != ["csv,noheader"])):
        raise Refused
    if not options:
        out(f"NVIDIA-SMI {library}   Driver Version: {library}", *(f"|   {n}  {name}" for n in range(count)))
        return
    for number in range(count):
        values = {"driver_version": library, "name": name, "index": str(number)}
        fields = options["--query-gpu"][0].split(",")
        if any(field not in values for field in fields):
            raise Refused
        out(", ".join(values[field] for field in fields))


def nvidia_ctk(arguments: list[str]) -> None:
    """The toolkit's command: its version."""
    if arguments != ["--version"]:
        raise Refused
    out(f"NVIDIA Container Toolkit CLI version {_toolkit_version()}", "commit: lab")


def _toolkit_version() -> str:
    version = packages()["installed"].get("nvidia-container-toolkit-base") or packages()["installed"].get(
        "nvidia-container-toolkit", ""
    )
    return str(version).partition("-")[0]


def nvidia_container_cli(arguments: list[str]) -> None:
    """libnvidia-container's command: its version."""
    if arguments != ["--version"]:
        raise Refused
    out(f"cli-version: {_toolkit_version()}", f"lib-version: {_toolkit_version()}")


def df(arguments: list[str]) -> None:
    """Room on the root volume: its size, what the base image takes, and the images that were pulled."""
    options, paths = flags(arguments, "", "-P -k -m -h --portability")
    if "-h" in options:
        raise Refused
    # ctr's images: compressed layers and what comes out of them (three times as much).
    used = BASE_USED_MIB + sum(image["mib"] * 4 for image in _images().values()) + int(fault("disk_used_gib", 0)) * 1024
    total = machine()["root_gib"] * 1024
    unit, name = (1, "1M-blocks") if "-m" in options else (1024, "1024-blocks")
    out(f"Filesystem     {name}      Used Available Capacity Mounted on")
    for path in paths or ["/"]:
        if not os.path.exists(path):
            raise Failed(f"df: {path}: No such file or directory")
        free = max(0, total - used)
        out(f"/dev/root {total * unit} {used * unit} {free * unit} {100 * used // total}% /")


# --- network and AWS ------------------------------------------------------------------------------------------------


def _credentials() -> dict[str, str]:
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIALABLABLABLABLAB0",
        "SecretAccessKey": "lab-secret-lab-secret-lab-secret-lab0000",
        "Token": "lab-session-token",
        "Expiration": "2099-01-01T00:00:00Z",
    }


def _metadata(path: str) -> str | None:
    """Instance metadata, the part of it that scripts ask for."""
    facts = machine()
    arch = {"amd64": "x86_64", "arm64": "arm64"}[facts["architecture"]]
    document = {
        "accountId": facts["account"],
        "architecture": arch,
        "availabilityZone": facts["availability_zone"],
        "imageId": facts["image_id"],
        "instanceId": facts["instance_id"],
        "instanceType": facts["instance_type"],
        "region": facts["region"],
    }
    values = {
        "meta-data/instance-id": facts["instance_id"],
        "meta-data/instance-type": facts["instance_type"],
        "meta-data/ami-id": facts["image_id"],
        "meta-data/placement/region": facts["region"],
        "meta-data/placement/availability-zone": facts["availability_zone"],
        "meta-data/services/domain": "amazonaws.com",
        "dynamic/instance-identity/document": json.dumps(document, indent=1),
    }
    if facts.get("instance_profile"):
        values["meta-data/iam/security-credentials"] = facts["instance_profile"]
        values[f"meta-data/iam/security-credentials/{facts['instance_profile']}"] = json.dumps(_credentials())
    return values.get(path.strip("/"))


def _varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _grpc_images() -> bytes:
    """CRI's ListImages answer (k8s.io/cri-api, api.proto): Image with id, repo_tags, repo_digests, size, pinned."""
    message = b""
    for image in _cri():
        body = _field(1, image["id"].encode())
        body += b"".join(_field(2, tag.encode()) for tag in image["repoTags"])
        body += b"".join(_field(3, name.encode()) for name in image["repoDigests"])
        body += _varint(4 << 3) + _varint(int(image["size"]))
        if image["pinned"]:
            body += _varint(8 << 3) + _varint(1)
        message += _field(1, body)
    return b"\0" + len(message).to_bytes(4, "big") + message


CURL_VALUED = "-o --output -X --request -H --header --max-time -m --connect-timeout --proto --retry --retry-delay -K"
CURL_VALUED += " --config --unix-socket --data-binary --data -d"
CURL_PLAIN = "-f -s -S -L --fail --silent --show-error --location --http2-prior-knowledge --compressed"


def curl(arguments: list[str]) -> None:
    """Fetch what exists in the lab: instance metadata, ECR's API, NVIDIA's key, CRI's socket, files. Nothing else does."""
    options, urls = flags(arguments, CURL_VALUED, CURL_PLAIN)
    headers = [h for name in ("-H", "--header") for h in options.get(name, [])]
    body = (options.get("--data-binary") or options.get("--data") or options.get("-d") or [""])[0]
    for config in [*options.get("-K", []), *options.get("--config", [])]:
        text = sys.stdin.read() if config == "-" else read(config)
        for line in text.splitlines():
            key, _, value = (part.strip() for part in line.partition("="))
            value = json.loads(value) if value.startswith('"') else value
            if key == "header":
                headers.append(value)
            elif key == "url":
                urls.append(value)
            elif key == "data":
                body = value
            else:
                raise Refused
    if len(urls) != 1:
        raise Refused
    given = {name.strip().lower(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    method = (options.get("-X") or options.get("--request") or ["GET"])[0]
    socket = (options.get("--unix-socket") or [""])[0]
    answer = _fetch(method, urls[0], given, body, socket)
    target = (options.get("-o") or options.get("--output") or ["-"])[0]
    if target == "-":
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    else:
        with open(target, "wb") as file:
            file.write(answer)


def _fetch(method: str, url: str, headers: dict[str, str], body: str, socket: str) -> bytes:
    if socket:
        if socket != SOCKET or not url.endswith("/runtime.v1.ImageService/ListImages"):
            raise Refused
        _containerd_needed("curl")
        if body == "@-" and sys.stdin.buffer.read() != b"\0\0\0\0\0":
            raise Refused
        return _grpc_images()
    if url.startswith("file://"):
        try:
            with open(url.removeprefix("file://"), "rb") as file:
                return file.read()
        except OSError as error:
            raise Failed(f"curl: (37) Couldn't open file {url}", 37) from error
    host, _, path = re.sub(r"^[a-z]+://", "", url).partition("/")
    if host == "169.254.169.254":
        if method == "PUT" and path == "latest/api/token":
            return b"lab-imds-token"
        if headers.get("x-aws-ec2-metadata-token") != "lab-imds-token":
            raise Failed("curl: (22) The requested URL returned error: 401", 22)
        value = _metadata(path.removeprefix("latest/"))
        if value is None:
            raise Failed("curl: (22) The requested URL returned error: 404", 22)
        return value.encode()
    match = re.fullmatch(r"api\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?", host)
    if match:
        import base64

        signed = headers.get("authorization", "")
        scope = f"/{match[1]}/ecr/aws4_request"
        if not signed.startswith("AWS4-HMAC-SHA256 Credential=ASIALAB") or scope not in signed:
            raise Failed("curl: (22) The requested URL returned error: 403", 22)
        token = base64.b64encode(f"AWS:{ecr_token(match[1])}".encode()).decode()
        return json.dumps({"authorizationData": [{"authorizationToken": token}]}).encode()
    if host == "nvidia.github.io" and path.endswith("gpgkey"):
        fingerprint = "0" * 40 if fault("wrong_key") else NVIDIA_KEY
        text = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\nlab-fingerprint: {fingerprint}\n"
        return (text + "-----END PGP PUBLIC KEY BLOCK-----\n").encode()
    raise Failed(f"curl: (6) Could not resolve host: {host}", 6)


def gpg(arguments: list[str]) -> None:
    """Show a key's fingerprint, and write it as a keyring. The lab's keys name their fingerprint in plain text."""
    plain = "--batch --no-options --show-keys --with-colons --yes --dearmor --quiet"
    options, rest = flags(arguments, "--homedir -o --output", plain)
    if len(rest) != 1:
        raise Refused
    found = re.findall(r"lab-fingerprint: ([0-9A-F]{40})", read(rest[0]))
    if "--show-keys" in options:
        if not found:
            raise Failed("gpg: no valid OpenPGP data found.", 2)
        for fingerprint in found:
            out(f"pub:-:4096:1:{fingerprint[-16:]}:1505775600:::-:::scSC::::::23::0:", f"fpr:::::::::{fingerprint}:")
            out("uid:-::::1505775600::0::lab stand-in of a key::::::::::0:")
    elif "--dearmor" in options:
        if not found:
            raise Failed("gpg: no valid OpenPGP data found.", 2)
        write((options.get("-o") or options.get("--output") or ["/dev/stdout"])[0], read(rest[0]))
    else:
        raise Refused


def aws(arguments: list[str]) -> None:
    """The AWS CLI: ecr get-login-password."""
    options, rest = flags(arguments, "--region --output", "")
    if rest != ["ecr", "get-login-password"]:
        raise Refused
    if not machine().get("instance_profile"):
        raise Failed('Unable to locate credentials. You can configure credentials by running "aws configure".', 253)
    out(ecr_token((options.get("--region") or [machine()["region"]])[0]))


def refuse(arguments: list[str]) -> None:
    """Programs that would end the machine."""
    del arguments
    raise Failed("leptonami lab: a step asks for a reboot by ending with status 194", 64)


TOOLS: dict[str, Callable[[list[str]], None]] = {
    "apt-cache": apt_cache,
    "apt-get": apt_get,
    "apt-mark": apt_mark,
    "aws": aws,
    "cloud-init": cloud_init,
    "containerd": containerd,
    "crictl": crictl,
    "ctr": ctr,
    "curl": curl,
    "depmod": depmod,
    "df": df,
    "dkms": dkms,
    "dmesg": dmesg,
    "dnf": dnf,
    "dpkg": dpkg,
    "dpkg-query": dpkg_query,
    "fuser": fuser,
    "gpg": gpg,
    "halt": refuse,
    "journalctl": journalctl,
    "kubelet": kubelet,
    "lab-shutdown": lab_shutdown,
    "lsmod": lsmod,
    "modinfo": modinfo,
    "modprobe": modprobe,
    "nvidia-container-cli": nvidia_container_cli,
    "nvidia-ctk": nvidia_ctk,
    "nvidia-smi": nvidia_smi,
    "poweroff": refuse,
    "reboot": refuse,
    "rpm": rpm,
    "runc": runc,
    "shutdown": refuse,
    "snap": snap,
    "systemctl": systemctl,
    "uname": uname,
    "update-initramfs": update_initramfs,
    "yum": dnf,
}


# These change nothing, and may wait for one another in a pipe.
READERS = frozenset("aws containerd curl df dmesg gpg kubelet nvidia-ctk runc".split())


def main() -> None:
    """Be the program under whose name this was called."""
    name = os.path.basename(sys.argv[0])
    arguments = sys.argv[1:]
    status = 0
    tool = TOOLS.get(name)
    struck = fault("tool_fails", {}).get(name, 0)
    # One at a time: scripts may run several in a pipe. A unit's program may call tools itself.
    lock = None
    if name not in READERS and "LEPTONAMI_LAB_LOCKED" not in os.environ:
        lock = open(f"{STATE}/lock", "a")  # noqa: SIM115
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ["LEPTONAMI_LAB_LOCKED"] = "1"
    try:
        if tool is None:
            raise Refused
        if struck and spend(f"tool {name}", struck):
            raise Failed(f"{name}: failure switched on by a test", 1)
        tool(arguments)
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
