"""The kernel, its modules, the NVIDIA driver and toolkit, and the disk."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH207, PTH208

from __future__ import annotations

import os
import re

from .core import (
    STATE,
    Failed,
    Refused,
    fault,
    flags,
    load,
    machine,
    module_path,
    out,
    packages,
    read,
    save,
    version_key,
)


def running_kernel() -> str:
    """Give the kernel that runs since the last boot: the newest that was there then."""
    found: str | None = load("/run/lab/kernel.json")
    if found is None:
        found = _boot_kernel()
        save("/run/lab/kernel.json", found)
    return found


def _boot_kernel() -> str:
    base: str = load(f"{STATE}/versions.json", {}).get("kernel", "6.8.0-1021-aws")
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
    path = module_path(kernel)
    found: dict[str, str] | None = load(path)
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
    fields = {**module, "filename": module_path(kernel), "name": "nvidia"}
    field = (options.get("-F") or options.get("--field") or [""])[0]
    if field:
        out(fields.get(field, ""))
    else:
        out(*(f"{name + ':':<16}{value}" for name, value in sorted(fields.items())))


def _loaded() -> list[str]:
    found: list[str] = load("/run/lab/modules.json", ["ena", "nvme", "overlay"])
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
        save("/run/lab/modules.json", [*_loaded(), "nvidia"])
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
    """List loaded modules. On a machine with a GPU udev loads a module that fits at boot."""
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
    """Give the kernel's messages: the lab has none."""
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
    """Be the driver's own check: the module must load, and fit the library."""
    listing = arguments in (["-L"], ["--list-gpus"])
    options, rest = flags([] if listing else arguments, "--query-gpu --format", "")
    if rest or (options and (set(options) != {"--query-gpu", "--format"} or options["--format"] != ["csv,noheader"])):
        raise Refused
    installed = packages()["installed"]
    library = next((v for n, v in installed.items() if re.match(r"nvidia-(utils|driver)", n)), "").partition("-")[0]
    if _load_nvidia() is not None:
        if machine()["gpus"] == 0 and _module(running_kernel()):
            out("No devices were found")
            raise Failed("", 6)
        out(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest"
            " NVIDIA driver is installed and running."
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
    if listing:
        for number in range(count):
            out(f"GPU {number}: {name} (UUID: GPU-00000000-0000-4000-8000-{number:012d})")
        return
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
    """Give the toolkit's version."""
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
