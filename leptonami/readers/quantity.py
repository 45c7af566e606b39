"""Kubernetes quantities (`200m`, `16Gi`, `1e3`) and times, as numbers and datetimes; anything else is None.

The grammar is that of `k8s.io/apimachinery/pkg/api/resource/quantity.go`: a signed decimal number and one suffix, which
is binary (`Ki` to `Ei`), decimal (`n`, `u`, `m`, `k` to `E`) or an exponent (`e3`, `E3`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

__all__ = ["age_seconds", "parse_quantity", "parse_time"]

LONGEST = 40  # characters: no real quantity is longer, and Python's conversions are not linear in their length
QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})?", re.ASCII)
SUFFIXES = {
    "": Decimal(1),
    **{
        suffix: Decimal(1000) ** power
        for suffix, power in zip("numkMGTPE", (-3, -2, -1, 1, 2, 3, 4, 5, 6), strict=True)
    },
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
LARGEST_EXPONENT = 99  # an int64 with a suffix needs 36; beyond that nobody means it
AGE = re.compile(
    r"(?:([0-9]{1,6})y)?(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?", re.ASCII
)
AGE_UNITS = (365 * 86400, 86400, 3600, 60, 1)  # kubectl's HumanDuration counts a year as 365 days


def parse_quantity(value: object) -> Decimal | None:
    """Read a quantity, exactly.

    Parameters
    ----------
    value
        What stands in the object: text or a number.

    Returns
    -------
    Decimal or None
        Cores, bytes, pieces. A Decimal, so that ten times `200m` are 2 and not 1.9999999999999998, which matters when
        a sum is compared with a threshold. None if it is no quantity.

    >>> parse_quantity("16Gi")
    Decimal('17179869184')
    >>> parse_quantity("200m")
    Decimal('0.200')
    >>> parse_quantity("lots") is None
    True
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, int) and value.bit_length() > 128:
        return None
    written = value.strip() if isinstance(value, str) else str(value)
    match = QUANTITY.fullmatch(written) if len(written) <= LONGEST else None
    if match is None:
        return None
    number, suffix = match.group(1), match.group(2) or ""
    try:
        if suffix in SUFFIXES:
            return Decimal(number) * SUFFIXES[suffix]
        exponent = int(suffix[1:])
        return Decimal(number).scaleb(exponent) if abs(exponent) <= LARGEST_EXPONENT else None
    except (InvalidOperation, ValueError):
        return None


def parse_time(value: object) -> datetime | None:
    """Read an RFC 3339 time (`2026-11-23T16:34:59Z`), as all objects have them, in UTC; None if it is none.

    A time without a zone is taken for UTC, which is what the API server writes.
    """
    if not isinstance(value, str) or not 10 <= len(value) <= LONGEST:
        return None
    try:
        read = datetime.fromisoformat(value.strip())
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def age_seconds(value: str) -> int | None:
    """Read an age as kubectl prints it (`5m30s`, `2d3h`, `1y20d`), in seconds; None if it is none.

    >>> age_seconds("5m30s")
    330
    """
    match = AGE.fullmatch(value) if 0 < len(value) <= LONGEST else None
    if match is None:
        return None
    return sum(int(number) * unit for number, unit in zip(match.groups(), AGE_UNITS, strict=True) if number)
