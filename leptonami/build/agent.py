"""Waiting for an instance's SSM agent: nothing can be run on it before that has told Systems Manager of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from leptonami.target import Target

__all__ = ["wait_online"]


def wait_online(
    target: Target,
    instance: str,
    *,
    timeout: float,
    hint: str,
    look: Callable[[], None] = lambda: None,
    tick: Callable[[float], None] | None = None,
) -> str:
    """Wait until the agent answers; give its version.

    Parameters
    ----------
    timeout
        Seconds.
    hint
        What usually keeps this agent from it.
    look
        Called each time that it does not answer yet; raises if it never will, since the instance does not run.
    tick
        Told how long it has been waited for (s).

    Raises
    ------
    Timeout
        If it never answers.
    """
    wanted: Any = [{"Key": "InstanceIds", "Values": [instance]}]

    def check() -> str | None:
        found: Any = target.call(target.client("ssm").describe_instance_information, Filters=wanted)
        for each in found["InstanceInformationList"][:1]:
            if each.get("PingStatus") == "Online":
                return str(each.get("AgentVersion", "unknown"))
        look()
        return None

    return target.poll(check, what=f"the SSM agent of {instance} to come online", timeout=timeout, tick=tick, hint=hint)
