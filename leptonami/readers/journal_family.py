"""Which operating system a node's journal comes from, told by the journal itself."""

from __future__ import annotations

from leptonami.readers.journal_marks import Family

__all__ = ["STRONGEST", "family_of"]

STRONGEST = 3
WELCOME = (
    ("Welcome to Amazon Linux 2023", Family.AL2023),
    ("Welcome to Amazon Linux 2!", Family.AL2),
    ("Welcome to Ubuntu ", Family.UBUNTU),
    ("Welcome to Bottlerocket", Family.BOTTLEROCKET),
)
KERNELS = (
    (".amzn2023.", Family.AL2023),
    (".amzn2.", Family.AL2),
    ("bottlerocket", Family.BOTTLEROCKET),
    ("(Ubuntu ", Family.UBUNTU),
)
CLOUD_INITS = ((".amzn2 ", Family.AL2), (".amzn2.", Family.AL2), ("ubuntu", Family.UBUNTU))
PROGRAMS = {
    "kubelet-eks.daemon": Family.UBUNTU,
    "host-containers": Family.BOTTLEROCKET,
    "nodeadm": Family.AL2023,
    "snapd": Family.UBUNTU,
    "thar-be-settings": Family.BOTTLEROCKET,
    "early-boot-config": Family.BOTTLEROCKET,
    "storewolf": Family.BOTTLEROCKET,
    "sundog": Family.BOTTLEROCKET,
    "pluto": Family.BOTTLEROCKET,
}


def family_of(name: str, identifier: str, message: str) -> tuple[Family, int]:
    """Tell what a message says about the operating system, and how sure: 3 by its name, 2 its kernel, 1 a program.

    Parameters
    ----------
    name, identifier
        The program that wrote the message (`journal_marks.program`), and its identifier as it stands.
    message
        The message.
    """
    if name == "systemd" and message.startswith("Welcome to "):
        return next(((family, STRONGEST) for text, family in WELCOME if message.startswith(text)), (Family.UNKNOWN, 0))
    if name == "kernel" and message.startswith("Linux version "):
        start = message[:400]
        return next(((family, 2) for text, family in KERNELS if text in start), (Family.UNKNOWN, 0))
    if name == "cloud-init" and message.startswith("Cloud-init v"):
        start = message[:80]
        return next(((family, 2) for text, family in CLOUD_INITS if text in start), (Family.UNKNOWN, 0))
    family = PROGRAMS.get("host-containers" if name.startswith("host-containers@") else identifier)
    family = family or PROGRAMS.get(name)
    return (family, 1) if family else (Family.UNKNOWN, 0)
