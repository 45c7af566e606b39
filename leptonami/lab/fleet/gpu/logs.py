"""The lines that containers of the GPU stack write: `logs.yaml`, with time and values filled in."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from leptonami import datafiles

__all__ = ["lines"]


@lru_cache(maxsize=1)
def templates() -> dict[str, str]:
    found: dict[str, str] = datafiles.parsed(Path(__file__).with_name("logs.yaml").read_text(encoding="utf-8"))
    return found


def lines(name: str, **values: Any) -> tuple[str, ...]:
    """Give some lines.

    Parameters
    ----------
    name
        Which ones: a key of `logs.yaml`.
    values
        What stands in them. The time is this machine's, as in every stamp of the fleet.
    """
    now = datetime.fromtimestamp(time.time(), UTC)
    filled = templates()[name].format(
        klog=f"{now:%m%d %H:%M:%S.%f}       1", rfc3339=f"{now:%Y-%m-%dT%H:%M:%SZ}", epoch=now.timestamp(), **values
    )
    return tuple(filled.removesuffix("\n").split("\n")) if filled else ()
