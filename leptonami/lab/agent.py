"""The SSM agent on the lab's instances: whether it can be reached, and running what it is sent.

Scripts really run, in the node root of their instance. Their time limits are real seconds; what the lab merely
simulates (delivery, registration, reboots) follows its speed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leptonami.lab import node
from leptonami.lab.iam import agent_may_work
from leptonami.lab.machines import Machines
from leptonami.lab.world import World

__all__ = ["Invocation", "execute", "unreachable"]

# https://docs.aws.amazon.com/systems-manager/latest/userguide/send-commands-reboot.html
REBOOT_CODE = 194
KILLED_CODE = 137
# The agent's default CommandRetryLimit: https://github.com/aws/amazon-ssm-agent#runtime-configuration
RUN_LIMIT = 15
LOOK_EVERY_S = 0.02
FINAL = frozenset({"Success", "Failed", "TimedOut", "Cancelled"})


@dataclass
class Invocation:
    """A command on one instance.

    Attributes
    ----------
    status, details
        As in the API; `details` is what has no spaces there (`DeliveryTimedOut`).
    code
        The script's exit code; -1 while there is none.
    known_at
        When GetCommandInvocation begins to know it.
    """

    command: str
    instance: Any
    script: str
    execution_timeout: float
    delivery_timeout: float
    folder: Path
    known_at: float
    status: str = "Pending"
    details: str = "Pending"
    code: int = -1
    started: datetime | None = None
    ended: datetime | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def over(self) -> bool:
        """Tell whether it has reached a final state."""
        return self.status in FINAL

    def end(self, status: str, details: str | None = None, code: int | None = None) -> None:
        """Reach a final state; for those who hold the lab's lock, as an answer is to show all of it or nothing."""
        self.code = self.code if code is None else code
        self.ended = datetime.now(UTC)
        self.details = details or status
        self.status = status


def unreachable(world: World, instance: Any) -> str | None:
    """Say why an instance's agent cannot be reached; None if it can."""
    if instance.state != "running":
        return f"the instance is {instance.state}"
    if getattr(instance, "lab_offline", False):
        return "a fault keeps its agent offline"
    since = getattr(instance, "lab_running_since", None)
    if since is None or world.clock() < since + world.times.online:
        return "its agent is starting"
    profile = instance.iam_instance_profile
    if not profile or not agent_may_work(profile["Arn"]):
        return "its role does not allow the agent's actions"
    return None if has_way_out(instance) else "its subnet has no way to Systems Manager"


def registered(world: World, instance: Any) -> bool:
    """Tell whether an agent has been reachable before: it stays registered while its instance is stopped."""
    if unreachable(world, instance) is None:
        instance.lab_registered = True
    return getattr(instance, "lab_registered", False) and instance.state not in {"shutting-down", "terminated"}


def has_way_out(instance: Any) -> bool:
    """Tell whether packets of an instance reach SSM: by NAT, by a public address, or by the three VPC endpoints."""
    ec2 = instance.ec2_backend
    interfaces = list(instance.nics.values())
    if not any(open_for_https(group) for interface in interfaces for group in interface.group_set):
        return False
    endpoints = {
        each.service_name.rpartition(".")[2]
        for each in ec2.vpc_end_points.values()
        if each.vpc_id == instance.vpc_id and each.vpc_endpoint_type.lower() == "interface"
    }
    if endpoints >= {"ssm", "ssmmessages", "ec2messages"}:
        return True
    tables = [table for table in ec2.route_tables.values() if table.vpc_id == instance.vpc_id]
    own = [table for table in tables if instance.subnet_id in table._associations.values()]
    for table in own or [each for each in tables if each.main_association_id]:
        for route in table.routes:
            if route.destination_cidr_block == "0.0.0.0/0":
                if route.nat_gateway or route.transit_gateway:
                    return True
                if route.gateway and instance.public_ip:
                    return True
    return False


def open_for_https(group: Any) -> bool:
    """Tell whether a security group lets port 443 out."""
    for rule in group.egress_rules:
        protocol, low, high = str(rule.ip_protocol), rule.from_port, rule.to_port
        if protocol == "-1" or (protocol in {"tcp", "6"} and int(low or 0) <= 443 <= int(high or 65535)):
            return True
    return False


def execute(world: World, machines: Machines, invocation: Invocation) -> None:
    """Deliver a command and run it to its end. Called in a thread of its own."""
    if not delivered(world, invocation):
        return
    with world.lock:
        invocation.status = invocation.details = "InProgress"
        invocation.started = datetime.now(UTC)
    if machines.recorded:
        (invocation.folder / "script.sh").write_text(invocation.script)
        with world.lock:
            invocation.stdout = f"leptonami lab: recorded, not run: {machines.recorded}\n".encode()
            # It has not run, and -1 is what the API has for that.
            invocation.end("Failed", "LabRecordedNotRun")
        return
    try:
        run(world, machines, invocation)
    except Exception as problem:  # a thread has nobody to raise to: whatever it is must show in the invocation
        with world.lock:
            invocation.stderr += f"leptonami lab: {type(problem).__name__}: {problem}\n".encode()
            invocation.end("Failed", "LabInternalError")


def delivered(world: World, invocation: Invocation) -> bool:
    """Wait until the agent takes the command; end the invocation if it never does."""
    deadline = world.clock() + invocation.delivery_timeout
    while True:
        with world.lock:
            world.advance()
            if invocation.instance.state in {"shutting-down", "terminated"}:
                invocation.end("Failed", "Undeliverable")
                return False
            if unreachable(world, invocation.instance) is None:
                return True
        if invocation.cancelled.wait(LOOK_EVERY_S):
            with world.lock:
                invocation.end("Cancelled")
            return False
        if world.clock() >= deadline:
            with world.lock:
                invocation.end("TimedOut", "DeliveryTimedOut")
            return False


def run(world: World, machines: Machines, invocation: Invocation) -> None:
    """Run the script: again after each reboot that it asks for, and again if the machine went away under it.

    An agent that starts finds what it had in work and begins it anew, up to its CommandRetryLimit.
    """
    instance = invocation.instance
    deadline = world.clock() + invocation.execution_timeout
    code: int | None = None
    for attempt in range(1, RUN_LIMIT + 1):
        code = once(world, invocation, attempt, deadline)
        if code == REBOOT_CODE:
            with world.lock:
                machines.reboot(instance)
            instance.lab_work.join()
        elif code is not None:
            break
        if not back(world, invocation, deadline):
            break
    with world.lock:
        if invocation.cancelled.is_set():
            invocation.end("Cancelled", code=KILLED_CODE)
        elif code is None or code == REBOOT_CODE:
            invocation.end("TimedOut", "ExecutionTimedOut", code=KILLED_CODE)
        else:
            if code:
                # The agent's own last line in such a case.
                invocation.stderr += f"failed to run commands: exit status {code}".encode()
            invocation.end("Success" if code == 0 else "Failed", code=code)


def once(world: World, invocation: Invocation, attempt: int, deadline: float) -> int | None:
    """Run the script once; None if it was killed: by its deadline, a cancellation, or its machine's going away."""
    instance, boot = invocation.instance, invocation.instance.lab_boot
    out, err = invocation.folder / f"stdout.{attempt}", invocation.folder / f"stderr.{attempt}"
    before = world.clock()
    execution = node.start(
        instance.lab_machine, invocation.script, stdout=out, stderr=err, execution=invocation.command
    )
    deadline += world.clock() - before  # the machine's view was built meanwhile, which no real machine needs
    code: int | None = None
    while code is None and world.clock() < deadline and not invocation.cancelled.is_set():
        code = execution.wait(LOOK_EVERY_S)
        with world.lock:
            world.advance()
        if instance.state != "running" or instance.lab_boot != boot:
            code = None
            break
    execution.cancel()
    if out.exists():
        more, complaint = execution.output()
        invocation.stdout += more
        invocation.stderr += complaint
    return code


def back(world: World, invocation: Invocation, deadline: float) -> bool:
    """Wait until the agent answers again; nobody else tells Systems Manager that a machine has gone."""
    while world.clock() < deadline and not invocation.cancelled.is_set():
        with world.lock:
            world.advance()
            if unreachable(world, invocation.instance) is None:
                return True
        invocation.cancelled.wait(LOOK_EVERY_S)
    return False
