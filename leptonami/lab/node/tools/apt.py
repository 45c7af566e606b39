"""Ubuntu's packages: apt, dpkg, and what their installation leaves on the disk."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH103, PTH108, PTH110, PTH112, PTH123, PTH207, PTH208

from __future__ import annotations

import json
import os
import re
import sys

from .core import (
    NVIDIA_KEY,
    PACKAGES,
    STATE,
    Failed,
    Refused,
    escaped,
    fault,
    flags,
    link,
    load,
    machine,
    module_path,
    out,
    packages,
    read,
    save,
    write,
)
from .gpu import running_kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LISTS = "/var/lib/apt/lists"


def archive() -> dict[str, Any]:
    """Give the packages that can be installed: those of the lists which `apt-get update` fetched."""
    known = load(f"{STATE}/archive.json", {})
    have = {name.removesuffix("_Packages") for name in os.listdir(LISTS)} if os.path.isdir(LISTS) else set()
    return {name: entry for name, entry in known.items() if entry["repository"] in have}


def _lock_held() -> bool:
    seconds = fault("apt_lock_seconds", 0)
    if not seconds:
        return False
    import time

    path = f"{STATE}/lock-since.json"
    since = load(path)
    if since is None:
        since = time.time()
        save(path, since)
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
                "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using"
                " it?",
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
                    f"W: GPG error: {address} InRelease: The following signatures couldn't be verified because the"
                    f" public key is not available: NO_PUBKEY {NVIDIA_KEY[-16:]}\n"
                    f"E: The repository '{address} InRelease' is not signed.",
                    100,
                )
        else:
            raise Failed(f"E: Failed to fetch {address}/InRelease  Could not resolve host (from {path})", 100)
        write(f"{LISTS}/{repository}_Packages", f"# the lab's list of {address}\n")
        out(f"Hit: {address} InRelease")
    out("Reading package lists...")


def _resolve(names: list[str], force_held: bool) -> dict[str, tuple[str | None, str]]:  # noqa: PLR0912
    """Give what an installation changes: for each package the version it has and the one it gets."""
    known, state = archive(), packages()
    installed = state["installed"]
    changes: dict[str, tuple[str | None, str]] = {}
    fixed: set[str] = set()
    queue = [(*name.partition("=")[::2], True) for name in names]
    while queue:
        name, version, asked = queue.pop(0)
        entry, exact = known.get(name), bool(version)
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
        if name in changes and changes[name][1] != version and not (exact and name not in fixed):
            raise Failed(f"E: Unable to correct problems: {name} is wanted as {changes[name][1]} and {version}", 100)
        if present != version:
            if name in state["held"] and not force_held:
                raise Failed("E: Held packages were changed and -y was used without --allow-change-held-packages.", 100)
            changes[name] = (present, version)
        if exact:
            # A version that somebody asked for wins over the newest, which nobody did.
            fixed.add(name)
        for need in entry.get("depends", {}).get(version, entry.get("depends", {}).get("*", [])):
            needed, _, bound = need.partition("=")
            if bound == "same":
                bound = version
            if not bound and (needed in installed or needed in changes):
                continue
            if bound and installed.get(needed) == bound:
                continue
            queue.append((needed, bound, False))
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
    save(PACKAGES, state)
    for name in order:
        _configure(name, changes[name][1])
    with open("/var/log/dpkg.log", "a") as log:
        log.writelines(f"status installed {name} {changes[name][1]}\n" for name in order)


def _write_module(kernel: str, version: str, opened: bool) -> None:
    module = {"version": version, "vermagic": f"{kernel} SMP mod_unload modversions"}
    module["license"] = "Dual MIT/GPL" if opened else "NVIDIA"
    if fault("module_vermagic"):
        module["vermagic"] = f"{fault('module_vermagic')} SMP mod_unload modversions"
    if fault("module_version"):
        module["version"] = fault("module_version")
    if fault("module_license"):
        module["license"] = fault("module_license")
    write(module_path(kernel), json.dumps(module))


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
                link(tool)
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
        save(PACKAGES, state)


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
    """Set, lift and show holds."""
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
            raise Failed(f"E: Can't select installed nor candidate version from package {name}", 100)  # noqa: S608
        if rest[0] == "hold" and name not in state["held"]:
            state["held"].append(name)
        elif rest[0] == "unhold" and name in state["held"]:
            state["held"].remove(name)
        out(f"{name} set on hold." if rest[0] == "hold" else f"Canceled hold on {name}.")
    save(PACKAGES, state)


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

        sys.stdout.write(escaped(re.sub(r"\$\{([^}]+)\}", value, form)))
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
