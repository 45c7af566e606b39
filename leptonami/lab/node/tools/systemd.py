"""Units: those of the base image, and files that scripts write, whose commands really run."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH103, PTH108, PTH110, PTH112, PTH113, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import os
import re

from .core import SOCKET, STATE, Failed, Refused, flags, load, out, read, save, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")
ACTIVE = "/run/lab/units.json"


def _unit_name(name: str) -> str:
    return name if re.search(r"\.(service|timer|target|socket|mount)$", name) else f"{name}.service"


def _builtin() -> dict[str, Any]:
    """Units of the base image's packages: whether they are enabled, and start at boot."""
    found: dict[str, Any] = load(f"{STATE}/units.json", {})
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
    changed = load(f"{STATE}/enabled.json", {}).get(name)
    return bool(default if changed is None else changed) or any(os.path.lexists(path) for path in wants)


def active_units() -> dict[str, Any]:
    """Give which units are active in this boot; what runs at boot is so from the beginning."""
    found: dict[str, Any] | None = load(ACTIVE)
    if found is None:
        found = {name: "active" for name, unit in _builtin().items() if unit.get("boot") and _enabled(name)}
        save(ACTIVE, found)
        if found.get("containerd.service"):
            from .containerd import cri_rebuild

            cri_rebuild()
    return found


def _set_active(name: str, state: str | None) -> None:
    active = active_units()
    if state is None:
        active.pop(name, None)
    else:
        active[name] = state
    save(ACTIVE, active)


def _boot_pending(name: str) -> None:
    """Run a unit that is enabled and would have run at boot, if nobody has asked for it yet."""
    text = _unit_text(name)
    if text is not None and name not in _builtin() and _enabled(name) and name not in active_units():
        _start(name)


def _commands(text: str, key: str) -> int:
    import subprocess

    environment = dict(os.environ)
    for assignment in _values(text, "Environment"):
        variable, _, value = assignment.strip('"').partition("=")
        environment[variable] = value
    for command in _values(text, key):
        done = subprocess.run(
            ["/bin/sh", "-c", command.lstrip("-@+!")],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.stdout or done.stderr:
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
    if active_units().get(name) == "active":
        return True
    for need in " ".join(_values(text, "Requires")).split():
        _boot_pending(need)
        if active_units().get(need) != "active" and not _start(need):
            raise Failed(f"A dependency job for {name} failed. See 'journalctl -xe' for details.")
    if _commands(text, "ExecStart") != 0:
        _set_active(name, "failed")
        return False
    _set_active(name, "active")
    if name == "containerd.service":
        write(SOCKET, "")
        from .containerd import cri_rebuild

        cri_rebuild()
    return True


def _stop(name: str) -> None:
    text = _unit_text(name)
    if text is None:
        raise Failed(f"Failed to stop {name}: Unit {name} not loaded.", 5)
    if active_units().get(name) == "active":
        _commands(text, "ExecStop")
        # What services of the base image write when they end: the agent's log, the saved random seed.
        for path, line in _builtin().get(name, {}).get("writes", {}).items():
            write(path, line)
    _set_active(name, None)
    if name == "containerd.service" and os.path.exists(SOCKET):
        os.unlink(SOCKET)


def unit_action(action: str, name: str) -> None:
    """Start, stop or restart a unit."""
    name = _unit_name(name)
    if action in ("stop", "restart", "try-restart"):
        if action == "try-restart" and active_units().get(name) != "active":
            return
        _stop(name)
    if action in ("start", "restart", "try-restart") and not _start(name):
        raise Failed(
            f"Job for {name} failed because the control process exited with error code.\n"
            f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.'
        )


def systemctl(arguments: list[str]) -> None:  # noqa: PLR0912 - one branch a command
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
            unit_action(command, name)
    elif command == "is-active":
        states = []
        for name in names:
            _boot_pending(name)
            states.append(active_units().get(name, "inactive"))
        if "-q" not in options and "--quiet" not in options:
            out(*states)
        if "active" not in states:
            raise Failed("", 3)
    elif command == "is-failed":
        states = [active_units().get(name, "inactive") for name in names]
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
        changed = load(f"{STATE}/enabled.json", {})
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
            save(f"{STATE}/enabled.json", changed)
        if "--now" in options:
            unit_action("start" if command == "enable" else "stop", name)


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
    """For the lab itself: what happens when the machine stops. A unit stops after those that it is `Before`."""
    del arguments
    waiting = {name for name, state in active_units().items() if state == "active"}
    while waiting:
        before = {name: set(" ".join(_values(_unit_text(name) or "", "Before")).split()) for name in waiting}
        free = [name for name in sorted(waiting) if not before[name] & (waiting - {name})]
        for name in free or sorted(waiting):
            _stop(name)
            waiting.discard(name)


def refuse(arguments: list[str]) -> None:
    """Programs that would end the machine."""
    del arguments
    raise Failed("leptonami lab: a step asks for a reboot by ending with status 194", 64)
