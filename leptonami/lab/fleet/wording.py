"""Events as kubelets of different versions word them."""

from __future__ import annotations

import re

__all__ = ["containers", "go_duration", "minor_of", "pulled"]

# Kubernetes minor versions from which on: kubernetes#111772, the image's size, and kubernetes#134043 (1.35).
WITH_WAITING, WITH_SIZE, WITH_COLON, WITHOUT_NAME = 27, 30, 32, 35


def minor_of(version: str) -> int:
    """Give the minor version of `v1.29.3-eks-...`; a late one if there is none."""
    found = re.match(r"v?1\.(\d+)", version)
    return int(found[1]) if found else WITH_COLON


def pulled(image: str, took: float, waited: float, size: int, minor: int) -> str:
    """Say that an image was pulled."""
    text = f'Successfully pulled image "{image}" in {go_duration(took)}'
    if minor >= WITH_WAITING:
        text += f" ({go_duration(waited)} including waiting)"
    return text + (f". Image size: {size} bytes." if minor >= WITH_SIZE else "")


def containers(what: str, name: str, minor: int) -> str:
    """Say that a container was created or started."""
    if minor >= WITHOUT_NAME:
        return f"Container {what.lower()}"
    return f"{what} container{':' if minor >= WITH_COLON and what == 'Created' else ''} {name}"


def go_duration(seconds: float) -> str:
    """Write a duration as Go prints it, in whole milliseconds.

    >>> go_duration(62.3), go_duration(0.313), go_duration(10)
    ('1m2.3s', '313ms', '10s')
    """
    whole = round(seconds * 1000)
    if whole < 1000:
        return f"{whole}ms" if whole else "0s"
    minutes, rest = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or hours else "") + text
