"""Systems Manager: Run Command that runs, agents that are online when they could be, parameters nobody can overwrite.

Each override has a contract test in `tests/lab/test_ssm.py` which names the documented behaviour it follows.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import ec2_backends
from moto.moto_api._internal import mock_random
from moto.ssm.responses import SimpleSystemManagerResponse

from leptonami.lab import agent
from leptonami.lab.agent import Invocation
from leptonami.lab.machines import Machines
from leptonami.lab.wire import ApiError, page
from leptonami.lab.world import World

__all__ = ["Command", "LabSSM"]

DOCUMENT, PLUGIN = "AWS-RunShellScript", "aws:runShellScript"
# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html
STDOUT_CHARACTERS, STDERR_CHARACTERS = 24_000, 8_000
# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_CommandPlugin.html
PLUGIN_CHARACTERS = 2_500
CUT, ERROR_CUT = "\n---Output truncated---", "\n---Error truncated----"
EXECUTION_DEFAULT_S, EXECUTION_MAX_S = 3_600, 172_800
DELIVERY_DEFAULT_S = 3_600


@dataclass
class Command:
    """What SendCommand asked for, and its invocation on each instance."""

    id: str
    region: str
    comment: str
    parameters: dict[str, list[str]]
    targets: list[dict[str, Any]]
    delivery_timeout: int
    requested: datetime = field(default_factory=lambda: datetime.now(UTC))
    invocations: dict[str, Invocation] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Give it as the API shows it."""
        each = list(self.invocations.values())
        if any(not one.over for one in each):
            cancelling = any(one.cancelled.is_set() for one in each)
            status = details = (
                "Cancelling" if cancelling else "Pending" if all(o.status == "Pending" for o in each) else "InProgress"
            )
        else:
            worst = next((one for one in each if one.status != "Success"), None)
            status, details = (worst.status, worst.details) if worst else ("Success", "Success")
        return {
            "CommandId": self.id,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "$DEFAULT",
            "Comment": self.comment,
            "Parameters": self.parameters,
            "InstanceIds": list(self.invocations),
            "Targets": self.targets,
            "RequestedDateTime": self.requested,
            "ExpiresAfter": self.requested,
            "Status": status,
            "StatusDetails": details,
            "TimeoutSeconds": self.delivery_timeout,
            "TargetCount": len(each),
            "CompletedCount": sum(one.over for one in each),
            "ErrorCount": sum(one.status in {"Failed", "TimedOut"} for one in each),
            "DeliveryTimedOutCount": sum(one.details == "DeliveryTimedOut" for one in each),
        }


class LabSSM(SimpleSystemManagerResponse):
    """Systems Manager with the lab's behaviour; everything else is moto's."""

    world: ClassVar[World]
    machines: ClassVar[Machines]
    commands: ClassVar[dict[str, Command]] = {}

    # Run Command ----------------------------------------------------------------------------------------------------

    def send_command(self) -> ActionResult:
        """Send a script to instances, each of which runs it in a thread of its own."""
        for name in ("OutputS3BucketName", "NotificationConfig", "AlarmConfiguration", "CloudWatchOutputConfig"):
            if self._get_param(name):
                raise NotImplementedError(f"SendCommand with {name}")
        if self._get_param("DocumentName") not in {DOCUMENT, f"arn:aws:ssm:{self.region}::document/{DOCUMENT}"}:
            raise ApiError("InvalidDocument", f"Document with name {self._get_param('DocumentName')} does not exist.")
        comment = self._get_param("Comment", "")
        if len(comment) > 100:
            raise ApiError(
                "ValidationException",
                f"1 validation error detected: Value '{comment}' at 'comment' failed to satisfy constraint: Member "
                "must have length less than or equal to 100",
            )
        delivery = int(self._get_param("TimeoutSeconds", DELIVERY_DEFAULT_S))
        if not 30 <= delivery <= 2_592_000:
            raise ApiError(
                "ValidationException", f"Value '{delivery}' at 'timeoutSeconds' is not between 30 and 2592000"
            )
        parameters = self._get_param("Parameters", {})
        script, execution = read_parameters(parameters)
        instances = self._targets()
        command = Command(
            str(mock_random.uuid4()), self.region, comment, parameters, self._get_param("Targets", []), delivery
        )
        self.commands[command.id] = command
        for instance in instances:
            invocation = Invocation(
                command=command.id,
                instance=instance,
                script=script,
                execution_timeout=execution,
                delivery_timeout=self.world.scaled(delivery),
                folder=self.machines.outputs(instance.id, command.id),
                known_at=self.world.clock() + self.world.times.register,
            )
            command.invocations[instance.id] = invocation
            threading.Thread(
                target=agent.execute, args=(self.world, self.machines, invocation), name=command.id, daemon=True
            ).start()
        return ActionResult({"Command": command.as_data()})

    def _targets(self) -> list[Any]:
        """Find the instances that a command is for; by id they must be registered, by tag those that are."""
        backend = ec2_backends[self.current_account][self.region]
        known = {each.id: each for each in backend.all_instances()}
        ids, targets = list(self._get_param("InstanceIds", [])), self._get_param("Targets", [])
        if not ids and not targets:
            raise ApiError("InvalidTarget", "The target is not valid: name InstanceIds or Targets.")
        found = []
        for target in targets:
            key, values = target["Key"], target["Values"]
            if key == "InstanceIds":
                ids += values
            elif key.startswith("tag:"):
                tag = key.removeprefix("tag:")
                for each in known.values():
                    tagged = any(own["key"] == tag and own["value"] in values for own in each.get_tags())
                    if tagged and agent.registered(self.world, each):
                        found.append(each)
            else:
                raise NotImplementedError(f"SendCommand with the target key {key}")
        bad = [each for each in ids if each not in known or not agent.registered(self.world, known[each])]
        if bad:
            raise ApiError(
                "InvalidInstanceId",
                f"Instances [[{', '.join(bad)}]] not in a valid state for account {self.current_account}",
            )
        return [*(known[each] for each in dict.fromkeys(ids)), *found]

    def _command(self) -> Command:
        name = self._get_param("CommandId", "")
        command = self.commands.get(name)
        if command is None or command.region != self.region:
            raise ApiError("InvalidCommandId", f"The command ID '{name}' does not exist.")
        return command

    def get_command_invocation(self) -> ActionResult:
        """Describe a command on an instance; its output is there when it has ended, and cut."""
        name = self._get_param("CommandId", "")
        invocation = (
            self.commands[name].invocations.get(self._get_param("InstanceId", "")) if name in self.commands else None
        )
        if invocation is None or self.world.clock() < invocation.known_at:
            raise ApiError("InvocationDoesNotExist", "An error occurred (InvocationDoesNotExist)")
        if self._get_param("PluginName", PLUGIN) != PLUGIN:
            raise ApiError("InvalidPluginName", "The plugin name isn't valid.")
        command = self.commands[name]
        return ActionResult(
            {
                "CommandId": name,
                "InstanceId": invocation.instance.id,
                "Comment": command.comment,
                "DocumentName": DOCUMENT,
                "DocumentVersion": "$DEFAULT",
                "PluginName": PLUGIN,
                "ResponseCode": invocation.code,
                **times(invocation),
                **state(invocation),
                "StandardOutputContent": cut(invocation.stdout, STDOUT_CHARACTERS) if invocation.over else "",
                "StandardErrorContent": cut(invocation.stderr, STDERR_CHARACTERS, ERROR_CUT) if invocation.over else "",
                "StandardOutputUrl": "",
                "StandardErrorUrl": "",
                "CloudWatchOutputConfig": {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": False},
            }
        )

    def list_command_invocations(self) -> ActionResult:
        """List invocations; with Details their plugin's output, cut to 2,500 characters."""
        chosen = [self._command()] if self._get_param("CommandId") else self._mine()
        instance, details = self._get_param("InstanceId"), bool(self._get_param("Details", False))
        wanted = {each["key"]: each["value"] for each in self._get_param("Filters", [])}
        rows = []
        for command in chosen:
            for invocation in command.invocations.values():
                if instance not in (None, invocation.instance.id) or self.world.clock() < invocation.known_at:
                    continue
                if wanted.get("Status", state(invocation)["Status"]) != state(invocation)["Status"]:
                    continue
                rows.append(row(command, invocation, details))
        return self._page("CommandInvocations", rows)

    def list_commands(self) -> ActionResult:
        """List commands, the newest first."""
        chosen = [self._command()] if self._get_param("CommandId") else self._mine()
        instance = self._get_param("InstanceId")
        return self._page(
            "Commands", [each.as_data() for each in chosen if instance is None or instance in each.invocations]
        )

    def _mine(self) -> list[Command]:
        return [each for each in reversed(self.commands.values()) if each.region == self.region]

    def _page(self, name: str, rows: list[dict[str, Any]]) -> ActionResult:
        asked = json.loads(self.body)
        return ActionResult(page(asked, name, rows, token="NextToken", most="MaxResults", size=50))  # noqa: S106

    def cancel_command(self) -> ActionResult:
        """Cancel: what has not begun never does, what runs is killed with all it started."""
        command = self._command()
        chosen = self._get_param("InstanceIds", []) or list(command.invocations)
        for name in chosen:
            if name not in command.invocations:
                raise ApiError("InvalidInstanceId", f"{name} is not a target of command {command.id}")
            command.invocations[name].cancelled.set()
        return EmptyResult()

    def describe_instance_information(self) -> ActionResult:
        """List the registered agents: online, or lost while their instance is stopped or rebooting."""
        wanted = {each["Key"]: each["Values"] for each in self._get_param("Filters", [])}
        wanted |= {each["key"]: each["valueSet"] for each in self._get_param("InstanceInformationFilterList", [])}
        if other := set(wanted) - {"InstanceIds", "PingStatus", "PlatformTypes"}:
            raise NotImplementedError(f"DescribeInstanceInformation with the filter {', '.join(sorted(other))}")
        rows = []
        for instance in ec2_backends[self.current_account][self.region].all_instances():
            if not agent.registered(self.world, instance):
                continue
            online = "Online" if agent.unreachable(self.world, instance) is None else "ConnectionLost"
            if instance.id not in wanted.get("InstanceIds", [instance.id]):
                continue
            if online not in wanted.get("PingStatus", [online]) or "Linux" not in wanted.get(
                "PlatformTypes", ["Linux"]
            ):
                continue
            rows.append(information(instance, online))
        return self._page("InstanceInformationList", rows)

    # Parameters -----------------------------------------------------------------------------------------------------

    def _refuse_public(self, names: list[str]) -> None:
        for name in names:
            if name.lower().startswith("/aws/"):
                raise ApiError("AccessDeniedException", f"No access to reserved parameter name: {name}.")

    def delete_parameter(self) -> ActionResult:
        """Delete one's own parameter, never a public one."""
        self._refuse_public([self._get_param("Name", "")])
        return super().delete_parameter()

    def delete_parameters(self) -> ActionResult:
        """Delete one's own parameters, never a public one."""
        self._refuse_public(self._get_param("Names", []))
        return super().delete_parameters()

    def label_parameter_version(self) -> ActionResult:
        """Label one's own parameter, never a public one."""
        self._refuse_public([self._get_param("Name", "")])
        return super().label_parameter_version()


def read_parameters(parameters: dict[str, list[str]]) -> tuple[str, float]:
    """Read the document's parameters: the script, and the seconds it may take."""
    if "workingDirectory" in parameters and parameters["workingDirectory"] != [""]:
        raise NotImplementedError("SendCommand with workingDirectory")
    if unknown := sorted(set(parameters) - {"commands", "executionTimeout", "workingDirectory"}):
        raise ApiError("InvalidParameters", f"Parameters {unknown} are not defined in document {DOCUMENT}.")
    if not parameters.get("commands"):
        raise ApiError("InvalidParameters", "Parameter commands is required.")
    given = parameters.get("executionTimeout", [str(EXECUTION_DEFAULT_S)])[0]
    if not given.isdigit() or not 1 <= int(given) <= EXECUTION_MAX_S:
        raise ApiError("InvalidParameters", f"executionTimeout is not a number from 1 to {EXECUTION_MAX_S}: {given}")
    return "\n".join(parameters["commands"]), float(given)


def cut(output: bytes, limit: int, mark: str = CUT) -> str:
    """Cut an output as the agent does."""
    text = output.decode(errors="replace")
    return text if len(text) <= limit else text[: limit - len(mark)] + mark


def state(invocation: Invocation) -> dict[str, str]:
    """Give an invocation's status; cancelling is what it is until the script is dead."""
    if invocation.cancelled.is_set() and not invocation.over:
        return {"Status": "Cancelling", "StatusDetails": "Cancelling"}
    return {"Status": invocation.status, "StatusDetails": invocation.details}


def times(invocation: Invocation) -> dict[str, str]:
    """Give when it ran; the API has strings here, empty before it began."""

    def write(value: datetime | None) -> str:
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" if value else ""

    begun, ended = invocation.started, invocation.ended
    took = f"PT{(ended - begun).total_seconds():.3f}S" if begun and ended else ""
    return {
        "ExecutionStartDateTime": write(begun),
        "ExecutionEndDateTime": write(ended if begun else None),
        "ExecutionElapsedTime": took,
    }


def row(command: Command, invocation: Invocation, details: bool) -> dict[str, Any]:
    """Give an invocation as ListCommandInvocations shows it."""
    plugin = {
        "Name": PLUGIN,
        **state(invocation),
        "ResponseCode": invocation.code,
        "Output": cut(output(invocation), PLUGIN_CHARACTERS) if invocation.over else "",
    }
    if invocation.started:
        plugin["ResponseStartDateTime"] = invocation.started
    if invocation.ended:
        plugin["ResponseFinishDateTime"] = invocation.ended
    return {
        "CommandId": command.id,
        "InstanceId": invocation.instance.id,
        "InstanceName": "",
        "Comment": command.comment,
        "DocumentName": DOCUMENT,
        "DocumentVersion": "$DEFAULT",
        "RequestedDateTime": command.requested,
        **state(invocation),
        "CommandPlugins": [plugin] if details else [],
    }


def output(invocation: Invocation) -> bytes:
    """Put both streams together as the console shows them."""
    if not invocation.stderr:
        return invocation.stdout
    return invocation.stdout + b"\n----------ERROR-------\n" + invocation.stderr


def information(instance: Any, online: str) -> dict[str, Any]:
    """Give an agent as DescribeInstanceInformation shows it."""
    image = instance.ec2_backend.amis.get(instance.image_id)
    release = image.lab_release if image is not None else None
    family = release.family if release else ""
    name = "Ubuntu" if family.startswith("ubuntu") else "Bottlerocket" if "bottlerocket" in family else "Amazon Linux"
    return {
        "InstanceId": instance.id,
        "PingStatus": online,
        "LastPingDateTime": datetime.now(UTC),
        "AgentVersion": "3.3.0.0",
        "IsLatestVersion": True,
        "PlatformType": "Linux",
        "PlatformName": name,
        "PlatformVersion": release.os if release else "",
        "ResourceType": "EC2Instance",
        "IPAddress": instance.private_ip,
        "ComputerName": instance.private_dns_name,
        "AssociationStatus": "Success",
    }
