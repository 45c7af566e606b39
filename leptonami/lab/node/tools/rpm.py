"""Amazon Linux's packages: rpm, dnf and yum."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH107, PTH112, PTH208

from __future__ import annotations

import os
import re
import shutil
import sys

from .core import PACKAGES, STATE, Failed, Refused, escaped, flags, load, machine, out, packages, save


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

        sys.stdout.write(escaped(re.sub(r"%\{([^}]+)\}", value, form)))


def dnf(arguments: list[str]) -> None:
    """Dnf and yum: clean all, install of what the lab's archive has."""
    options, rest = flags(arguments, "", "-q -y --quiet --assumeyes")
    del options
    if rest == ["clean", "all"]:
        for folder in ("/var/cache/dnf", "/var/cache/yum"):
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                path = f"{folder}/{name}"
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        return
    if not rest or rest[0] != "install":
        raise Refused
    known, state = load(f"{STATE}/archive.json", {}), packages()
    for name in rest[1:]:
        match = next((n for n in known if name == n or name in [f"{n}-{v}" for v in known[n]["versions"]]), None)
        if match is None:
            raise Failed(f"No match for argument: {name}\nError: Unable to find a match: {name}")
        version = name.removeprefix(match + "-") if name != match else known[match]["versions"][-1]
        state["installed"][match] = version
        out(f"Installed: {match}-{version}")
    save(PACKAGES, state)
