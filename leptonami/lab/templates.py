"""Launch templates: what a launch takes from them, which moto leaves out, and a launch by a service of AWS itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import launch_templates

from leptonami.lab.wire import ApiError

__all__ = ["Templates", "find", "merged", "version_of"]

TEMPLATE_ID = re.compile(r"lt-[0-9a-f]{17}")
MOST_DELETED = 200


class LabTemplate(launch_templates.LaunchTemplate):
    """A template of which versions can be deleted: their numbers are not given again; moto would count what is left."""

    made = 0

    def create_version(self, data: dict[str, Any], description: str) -> Any:
        """Make a version with the next number."""
        version = super().create_version(data, description)
        self.made += 1
        version.number = self.made
        return version

    def get_version(self, num: Any) -> Any:
        """Find a version by its number, where moto takes its place for it."""
        return version_of(self, num)

    def default_version(self) -> Any:
        """Give the default version."""
        return next(each for each in self.versions if self.is_default(each))


launch_templates.LaunchTemplate = LabTemplate  # type: ignore[misc]


def find(backend: Any, given: Mapping[str, Any]) -> Any:
    """Find a template by `LaunchTemplateId` or `LaunchTemplateName`, one of them.

    Raises
    ------
    ApiError
        As EC2 words it.
    """
    name, id_ = given.get("LaunchTemplateName"), given.get("LaunchTemplateId")
    if bool(name) == bool(id_):
        raise ApiError("InvalidRequest", "Either the launch template ID or the launch template name must be specified.")
    if name and name not in backend.launch_template_name_to_ids:
        raise ApiError(
            "InvalidLaunchTemplateName.NotFoundException",
            "At least one of the launch templates specified in the request does not exist.",
        )
    if id_ and not TEMPLATE_ID.fullmatch(id_):
        raise ApiError("InvalidLaunchTemplateId.Malformed", f'Invalid id: "{id_}" (expecting "lt-...")')
    if id_ and id_ not in backend.launch_templates:
        raise ApiError(
            "InvalidLaunchTemplateId.NotFound",
            f"The specified launch template, with template ID {id_}, does not exist.",
        )
    return backend.launch_templates[id_ or backend.launch_template_name_to_ids[name]]


def version_of(template: Any, version: object) -> Any:
    """Give a version of a template: a number, `$Latest`, or `$Default`, which is also what nothing means."""
    wanted = str(version or "$Default")
    match wanted.lower():
        case "$latest":
            return template.latest_version()
        case "$default":
            return template.default_version()
    found = next((each for each in template.versions if str(each.number) == wanted), None)
    if found is None:
        raise ApiError(
            "InvalidLaunchTemplateId.VersionNotFound",
            f"Could not find the specified version {wanted} for the launch template with ID {template.id}.",
        )
    return found


def merged(data: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the parameters of a request over those of a template: one that the request names replaces the template's.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html: LaunchTemplate
    """
    given = {name: value for name, value in data.items() if value not in (None, "", [], {})}
    if "UserData" in given:
        given["UserData"] = text_of(given["UserData"])
    return {**given, **request}


def text_of(value: Any) -> str:
    """Give user data as the Base64 text that it is over the wire, in whichever form moto keeps it."""
    return str(value.as_bytes().decode() if hasattr(value, "as_bytes") else value)


class Templates:
    """Comes before moto's class for EC2."""

    def create_launch_template_version(self: Any) -> ActionResult:
        """Make a version, from `SourceVersion` if the request names one: what it gives anew replaces the old.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplateVersion.html
        """
        template = find(self.ec2_backend, self.params)
        data = self._get_param("LaunchTemplateData", {})
        if source := self._get_param("SourceVersion"):
            self.params["LaunchTemplateData"] = merged(version_of(template, source).data, data)
        answer: ActionResult = super().create_launch_template_version()  # type: ignore[misc]
        return answer

    def describe_launch_template_versions(self: Any) -> ActionResult:
        """Describe versions: 200 unless asked for fewer, where moto stops at 15."""
        self.params.setdefault("MaxResults", 200)
        named = self._get_param("LaunchTemplateId") or self._get_param("LaunchTemplateName")
        if named and not self._get_param("Versions"):
            # moto takes the bounds for places in its list.
            numbers = [each.number for each in find(self.ec2_backend, self.params).versions]
            low, high = int(self.params.pop("MinVersion", 1)), int(self.params.pop("MaxVersion", numbers[-1]))
            self.params["Versions"] = [str(each) for each in numbers if low <= each <= high]
        answer: ActionResult = super().describe_launch_template_versions()  # type: ignore[misc]
        return answer

    def describe_launch_templates(self: Any) -> ActionResult:
        """Describe templates: 200 unless asked for fewer; one that is not there is an error."""
        self.params.setdefault("MaxResults", 200)
        for key in ("LaunchTemplateId", "LaunchTemplateName"):
            for value in self._get_param(f"{key}s", []):
                find(self.ec2_backend, {key: value})
        answer: ActionResult = super().describe_launch_templates()  # type: ignore[misc]
        return answer

    def delete_launch_template_versions(self: Any) -> ActionResult:
        """Delete versions, each by itself: not the default one, and not one that is not there.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteLaunchTemplateVersions.html; the codes are
        those of API_ResponseError, the words are the lab's.
        """
        template, wanted = find(self.ec2_backend, self.params), self._get_param("Versions", [])
        if len(wanted) > MOST_DELETED or not all(each.isdecimal() for each in wanted):
            raise ApiError("InvalidParameterValue", f"Versions: up to {MOST_DELETED} numbers of versions.")
        self.error_on_dryrun()
        gone, kept = [], []
        for each in wanted:
            row = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": int(each)}
            version = next((one for one in template.versions if one.number == int(each)), None)
            if version is None:
                code, text = "launchTemplateVersionDoesNotExist", f"The launch template version {each} does not exist."
            elif template.is_default(version):
                code, text = "unexpectedError", f"The default version, {each}, of a launch template cannot be deleted."
            else:
                template.versions.remove(version)
                gone.append(row)
                continue
            kept.append({**row, "ResponseError": {"Code": code, "Message": text}})
        return ActionResult(
            {
                "SuccessfullyDeletedLaunchTemplateVersions": gone,
                "UnsuccessfullyDeletedLaunchTemplateVersions": kept,
            }
        )

    def delete_launch_template(self: Any) -> ActionResult:
        """Delete a template; one that is not there is an error that says so, where moto misses a parameter."""
        find(self.ec2_backend, self.params)
        answer: ActionResult = super().delete_launch_template()  # type: ignore[misc]
        return answer

    def from_template(self: Any) -> dict[str, str]:
        """Fill a launch's parameters from the template that it names, if it does; give the tags that AWS leaves."""
        given = self.params.pop("LaunchTemplate", None)
        if not given:
            return {}
        template = find(self.ec2_backend, given)
        version = version_of(template, given.get("Version"))
        self.params = merged(version.data, self.params)
        return {"aws:ec2launchtemplate:id": template.id, "aws:ec2launchtemplate:version": str(version.number)}
