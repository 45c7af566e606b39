"""Where to look: the regions that are named, or those of the runs that are known here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leptonami.errors import InputError
from leptonami.lifecycle.known import KnownRun
from leptonami.target import Target, check_region, connect

__all__ = ["open_where", "regions_of"]


def regions_of(known: Mapping[str, KnownRun]) -> tuple[str, ...]:
    """Name the regions of these runs, each once, the latest run's first."""
    return tuple(dict.fromkeys(each.region for each in reversed(list(known.values())) if each.region is not None))


def open_where(
    aws: str, *, profile: str | None, regions: Sequence[str], others: Iterable[str] = ()
) -> tuple[Target, tuple[str, ...]]:
    """Open the target, and say in which regions to look.

    Parameters
    ----------
    regions
        The regions that were asked for; nothing else counts then.
    others
        Where else there may be something; the environment's own region comes first.

    Raises
    ------
    InputError
        If a region is unknown, or there is none at all.
    CredentialsError
        If the profile does not exist.
    """
    asked, more = tuple(dict.fromkeys(regions)), tuple(dict.fromkeys(others))
    try:
        target = connect(aws, region=asked[0] if asked else None, profile=profile)
    except InputError as error:
        if asked or not more or error.message != "no region":
            raise
        target = connect(aws, region=more[0], profile=profile)
    places = asked or tuple(dict.fromkeys([target.region, *more]))
    try:
        for place in places:
            check_region(target.session, place)
    except BaseException:
        target.close()
        raise
    return target, places
