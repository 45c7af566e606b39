"""Ages and amounts, short enough for a table."""

from __future__ import annotations

from datetime import datetime

__all__ = ["age", "usd"]


def age(since: datetime | None, now: datetime) -> str:
    """Say how long ago that was: `12 min`, `5 h`, `3 d`."""
    if since is None:
        return "?"
    seconds = (now - since).total_seconds()
    if seconds < 3600:
        return f"{max(seconds, 0) // 60:.0f} min"
    return f"{seconds // 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds // 86_400:.0f} d"


def usd(amount: float | None) -> str:
    """Write an amount of dollars: `0.31`; `?` where it cannot be told, nothing where there is nothing to pay."""
    if amount is None:
        return "?"
    if amount == 0:
        return ""
    return "<0.01" if amount < 0.01 else f"{amount:.2f}"
