"""Cloud-init."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH108, PTH110, PTH112, PTH114

from __future__ import annotations

import os
import shutil
import sys

from .core import Failed, Refused, fault, flags, out, write


def cloud_init(arguments: list[str]) -> None:  # noqa: PLR0912 - what there is of it
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
                shutil.rmtree(path)
        if "--logs" in options:
            for name in ("cloud-init.log", "cloud-init-output.log"):
                if os.path.exists(f"/var/log/{name}"):
                    os.unlink(f"/var/log/{name}")
        if "--machine-id" in options:
            write("/etc/machine-id", "uninitialized\n")
    else:
        raise Refused
