"""EC2's filters with several values: any of them is enough, where moto wants all of them from what has several.

Several values are joined with OR: `Filters=[{"Name": "tag-key", "Values": ["a", "b"]}]` finds what has one of the tags.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from moto.ec2 import utils

__all__ = ["install"]

_by_moto = utils.is_filter_matching


def matching(obj: Any, _filter: str, filter_value: Any) -> bool:
    """Tell whether a filter matches: what has several values, if one of them is one of those wanted."""
    value = obj.get_filter_value(_filter)
    if isinstance(value, (list, tuple, set)) and isinstance(filter_value, list):
        return any(fnmatchcase(str(each), pattern) for each in value for pattern in filter_value)
    return bool(_by_moto(obj, _filter, filter_value))


def install() -> None:
    """Put it into moto."""
    utils.is_filter_matching = matching
