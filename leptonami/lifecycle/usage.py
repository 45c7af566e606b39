"""Who uses an image: instances, launch templates, Auto Scaling groups, node groups, parameters. Reads only.

A service that does not answer is named with the reason, since "nobody uses it" would then be a guess.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leptonami.build.names import PREFIX
from leptonami.errors import CredentialsError, LeptonamiError
from leptonami.lifecycle.inventory import PAGE, listed
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

__all__ = ["SERVICES", "Usage", "Use", "find"]

# The services of a region that can tell who uses an image.
SERVICES = ("ec2", "autoscaling", "eks", "ssm")
RESOLVED = "resolve:ssm:"
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeLaunchTemplateVersions.html: 1 to 200 a page
TEMPLATE_PAGE = 200
# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_ParameterStringFilter.html: 50 values;
# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html: 10 names
PLANS, PARAMETERS = 50, 10


@dataclass(frozen=True)
class Use:
    """One user of an image.

    Attributes
    ----------
    kind
        `instance`, `launch template`, `launch configuration`, `Auto Scaling group`, `node group` or `parameter`.
    current
        It would start (or has started) something from the image as things are. False for an old version of a launch
        template that nothing names.
    """

    kind: str
    name: str
    current: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + ("" if self.current else " (old)")


@dataclass(frozen=True)
class Usage:
    """Who uses the images of a region.

    Attributes
    ----------
    users
        By image.
    unasked
        The services that did not answer, with the reason.
    skipped
        The services that were not asked because the caller said so.
    """

    users: Mapping[str, tuple[Use, ...]] = field(default_factory=dict)
    unasked: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def of(self, image: str) -> tuple[Use, ...]:
        """Give the users of an image."""
        return self.users.get(image, ())


@dataclass
class Version:
    """A version of a launch template: its image, and whether it is the default or the latest."""

    template: str
    name: str
    number: int
    image: str
    default: bool
    latest: bool


def find(
    target: Target,
    region: str,
    images: Collection[str],
    *,
    plans: Collection[str] = (),
    skip: Collection[str] = (),
) -> Usage:
    """Find the users of these images in their region.

    Parameters
    ----------
    plans
        The names of the images' plans: the parameters of these are looked at.
    skip
        Services of `SERVICES` that are not to be asked.

    Raises
    ------
    CredentialsError
        If there are no credentials at all. A service that they may not ask is told in `unasked`.
    """
    return _Search(target, region, set(images), plans, skip).run()


class _Search:
    """The search in one region."""

    def __init__(
        self, target: Target, region: str, images: set[str], plans: Collection[str], skip: Collection[str]
    ) -> None:
        self.target, self.region, self.images = target, region, images
        self.plans, self.skip = sorted(plans), skip
        self.users: dict[str, dict[Use, None]] = {}
        self.unasked: dict[str, str] = {}
        self.versions: list[Version] = []
        # What groups name of templates: (template's id or name, version).
        self.named: list[tuple[Use, str, str]] = []

    def run(self) -> Usage:
        """Ask each service, and put the answers together."""
        asked = {"ec2": self.ask_ec2, "ssm": self.ask_parameters, "autoscaling": self.ask_groups, "eks": self.ask_eks}
        for service, ask in asked.items():
            if service in self.skip:
                continue
            try:
                ask()
            except AwsError as error:
                what = "the lab does not have it" if error.code == "LabNotImplemented" else str(error)
                self.unasked[service] = what
            except CredentialsError as error:
                if "may not do this" not in error.message:
                    raise
                self.unasked[service] = f"the credentials may not ask ({error.resource})"
            except LeptonamiError as error:
                # A region may not have the service.
                self.unasked[service] = str(error)
        self.attribute()
        users = {image: tuple(sorted(found, key=str)) for image, found in self.users.items()}
        return Usage(users, self.unasked, tuple(name for name in SERVICES if name in self.skip))

    def note(self, image: str, use: Use) -> None:
        """Note a use of one of the images."""
        if image in self.images:
            self.users.setdefault(image, {})[use] = None

    # EC2 -------------------------------------------------------------------------------------------------------------

    def ask_ec2(self) -> None:
        """Ask for instances and launch templates."""
        ec2 = self.target.client("ec2", self.region)
        names = sorted(self.images)
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html: at most 200 values
        for start in range(0, len(names), 200):
            filters: list[FilterTypeDef] = [{"Name": "image-id", "Values": names[start : start + 200]}]
            paged: dict[str, Any] = {"Filters": filters, "PaginationConfig": {"PageSize": PAGE}}
            for reservation in listed(self.target, ec2, "describe_instances", "Reservations", **paged):
                for each in reservation["Instances"]:
                    if each["State"]["Name"] not in {"terminated", "shutting-down"}:
                        self.note(each["ImageId"], Use("instance", each["InstanceId"]))
        paged = {"PaginationConfig": {"PageSize": TEMPLATE_PAGE}}
        for template in listed(self.target, ec2, "describe_launch_templates", "LaunchTemplates", **paged):
            self.ask_template(ec2, template)

    def ask_template(self, ec2: Any, template: Mapping[str, Any]) -> None:
        """Ask for every version of a template: a group may name any of them."""
        request: dict[str, Any] = {
            "LaunchTemplateId": template["LaunchTemplateId"],
            "PaginationConfig": {"PageSize": TEMPLATE_PAGE},
        }
        found = listed(self.target, ec2, "describe_launch_template_versions", "LaunchTemplateVersions", **request)
        for each in found:
            self.versions.append(
                Version(
                    template=template["LaunchTemplateId"],
                    name=template["LaunchTemplateName"],
                    number=each["VersionNumber"],
                    image=each.get("LaunchTemplateData", {}).get("ImageId", ""),
                    default=bool(each.get("DefaultVersion")),
                    latest=each["VersionNumber"] == template.get("LatestVersionNumber"),
                )
            )

    # Parameters ------------------------------------------------------------------------------------------------------

    def ask_parameters(self) -> None:
        """Ask for the parameters of the plans (leptonami tags them), and for those that templates name."""
        ssm = self.target.client("ssm", self.region)
        names: list[str] = []
        for start in range(0, len(self.plans), PLANS):
            tagged = {"Key": f"tag:{PREFIX}plan", "Option": "Equals", "Values": self.plans[start : start + PLANS]}
            found = listed(self.target, ssm, "describe_parameters", "Parameters", ParameterFilters=[tagged])
            names += [each["Name"] for each in found]
        for start in range(0, len(names), PARAMETERS):
            for each in self.target.call(ssm.get_parameters, Names=names[start : start + PARAMETERS])["Parameters"]:
                # Each image has a parameter of its version for ever; it is `latest` that somebody starts from.
                current = each["Name"].endswith("/latest")
                self.note(each.get("Value", ""), Use("parameter", each["Name"], current))
        for version in self.versions:
            if not version.image.startswith(RESOLVED):
                continue
            name = version.image.removeprefix(RESOLVED)
            try:
                answer = self.target.call(ssm.get_parameter, Name=name)
            except AwsError as error:
                if error.code not in {"ParameterNotFound", "ParameterVersionNotFound", "ValidationException"}:
                    raise
                continue
            version.image = answer["Parameter"]["Value"]
            self.note(version.image, Use("parameter", name))

    # Groups ----------------------------------------------------------------------------------------------------------

    def ask_groups(self) -> None:
        """Ask for Auto Scaling groups: the templates they name, and launch configurations."""
        client = self.target.client("autoscaling", self.region)
        paged: dict[str, Any] = {"PaginationConfig": {"PageSize": 100}}
        by_configuration: dict[str, list[str]] = {}
        for group in listed(self.target, client, "describe_auto_scaling_groups", "AutoScalingGroups", **paged):
            use = Use("Auto Scaling group", group["AutoScalingGroupName"])
            for spec in specifications(group):
                self.name(use, spec)
            if configuration := group.get("LaunchConfigurationName"):
                by_configuration.setdefault(configuration, []).append(use.name)
        for each in listed(self.target, client, "describe_launch_configurations", "LaunchConfigurations", **paged):
            name = each["LaunchConfigurationName"]
            self.note(each["ImageId"], Use("launch configuration", name, current=name in by_configuration))
            for group_name in by_configuration.get(name, []):
                self.note(each["ImageId"], Use("Auto Scaling group", group_name))

    def ask_eks(self) -> None:
        """Ask for node groups with a launch template of their own."""
        client = self.target.client("eks", self.region)
        for cluster in listed(self.target, client, "list_clusters", "clusters"):
            for name in listed(self.target, client, "list_nodegroups", "nodegroups", clusterName=cluster):
                answer = self.target.call(client.describe_nodegroup, clusterName=cluster, nodegroupName=name)
                spec = answer["nodegroup"].get("launchTemplate")
                if spec:
                    upper = {"LaunchTemplateId": spec.get("id"), "LaunchTemplateName": spec.get("name")}
                    self.name(Use("node group", f"{cluster}/{name}"), {**upper, "Version": spec.get("version")})

    def name(self, use: Use, spec: Mapping[str, Any]) -> None:
        """Note which version of which template a group names; without a version it is the default one."""
        template = spec.get("LaunchTemplateId") or spec.get("LaunchTemplateName")
        if template:
            self.named.append((use, template, str(spec.get("Version") or "$Default")))

    def attribute(self) -> None:
        """Attribute the versions of templates to those who name them."""
        # Who cannot be asked may name any version.
        sure = not self.unasked.keys() & {"autoscaling", "eks"} and not set(self.skip) & {"autoscaling", "eks"}
        for version in self.versions:
            users = [
                use
                for use, template, wanted in self.named
                if template in {version.template, version.name} and names(wanted, version)
            ]
            for use in users:
                self.note(version.image, use)
            current = bool(users) or version.default or version.latest or not sure
            self.note(version.image, Use("launch template", f"{version.name}:{version.number}", current))


def names(wanted: str, version: Version) -> bool:
    """Tell whether `$Latest`, `$Default` or a number means this version."""
    return {"$Latest": version.latest, "$Default": version.default}.get(wanted, wanted == str(version.number))


def specifications(group: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Give every launch template that an Auto Scaling group names, those of a mixed-instances policy included."""
    if "LaunchTemplate" in group:
        yield group["LaunchTemplate"]
    template = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    if "LaunchTemplateSpecification" in template:
        yield template["LaunchTemplateSpecification"]
    for override in template.get("Overrides", []):
        if "LaunchTemplateSpecification" in override:
            yield override["LaunchTemplateSpecification"]
    # Each instance was launched from a version of its own, which a scale-in protection or a refresh may still need.
    for instance in group.get("Instances", []):
        if "LaunchTemplate" in instance:
            yield instance["LaunchTemplate"]
