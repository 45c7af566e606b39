"""The account and the cluster that an experiment launches in, as far as both ways of launching need to know them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from leptonami import catalog
from leptonami.bench.eks import requests
from leptonami.build.names import PREFIX, Names
from leptonami.errors import InputError
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from leptonami.bench.experiment import Eks, Variant
    from leptonami.bench.model import Setup

__all__ = ["LIVING", "Account"]

LIVING = ["pending", "running", "stopping", "stopped"]


class Account:
    """Reads; it changes nothing."""

    def __init__(self, setup: Setup, eks: Eks, target: Target) -> None:
        self.setup = setup
        self.eks = eks
        self.target = target
        self.amis: dict[str, requests.Ami] = {}
        self.described: dict[str, list[Any]] = {}

    @cached_property
    def names(self) -> Names:
        """Names, tags and client tokens of the run."""
        return Names(self.setup.run, str(self.setup.experiment.name), self.target.identity().name)

    @cached_property
    def cluster(self) -> tuple[catalog.ClusterInfo, tuple[str, ...]]:
        """What a node has to know to join, and its security groups: by default the cluster's."""
        found: Any = self.target.call(self.target.client("eks").describe_cluster, name=self.eks.cluster)["cluster"]
        network = found.get("kubernetesNetworkConfig") or {}
        config = found.get("resourcesVpcConfig") or {}
        info = catalog.ClusterInfo(
            name=found["name"],
            endpoint=found["endpoint"],
            ca=found["certificateAuthority"]["data"],
            service_cidr=network.get("serviceIpv4Cidr") or network.get("serviceIpv6Cidr") or "",
        )
        group = config.get("clusterSecurityGroupId")
        groups = tuple(str(each) for each in self.eks.security_groups) or ((group,) if group else ())
        return info.checked(), groups

    @cached_property
    def zone(self) -> str:
        """The zone of the subnet that trials are launched in."""
        found: Any = self.target.call(self.target.client("ec2").describe_subnets, SubnetIds=[str(self.eks.subnets[0])])
        return str(found["Subnets"][0]["AvailabilityZone"])

    def ami(self, variant: Variant) -> requests.Ami:
        """Describe a variant's image, once."""
        if variant.name not in self.amis:
            found: Any = self.target.call(self.target.client("ec2").describe_images, ImageIds=[str(variant.ami)])
            if not found["Images"]:
                raise InputError("there is no such image", resource=f"variant {variant.name}: {variant.ami}")
            image = found["Images"][0]
            root = image["RootDeviceName"]
            disk: Any = next((each["Ebs"] for each in image["BlockDeviceMappings"] if each["DeviceName"] == root), {})
            self.amis[variant.name] = requests.Ami(
                id=image["ImageId"],
                name=image.get("Name", ""),
                architecture=image["Architecture"],
                root_device=root,
                snapshot=disk.get("SnapshotId", ""),
                size_gib=int(disk.get("VolumeSize", 0)),
                tags={each["Key"]: each["Value"] for each in image.get("Tags", [])},
            )
        return self.amis[variant.name]

    def gpus(self, instance_type: str) -> list[Any]:
        """Give an instance type's kinds of GPU as EC2 describes them, asked once."""
        if instance_type not in self.described:
            named: Any = [instance_type]
            found: Any = self.target.call(self.target.client("ec2").describe_instance_types, InstanceTypes=named)
            self.described[instance_type] = found["InstanceTypes"][0].get("GpuInfo", {}).get("Gpus", [])
        return self.described[instance_type]

    def accelerators(self, instance_type: str) -> int:
        """Count an instance type's GPUs."""
        return sum(each.get("Count", 0) for each in self.gpus(instance_type))

    def accelerator(self, instance_type: str) -> str:
        """Name an instance type's GPUs, such as `1 NVIDIA A10G`; `none` without one."""
        named = (
            f"{each.get('Count')} {each.get('Manufacturer')} {each.get('Name')}" for each in self.gpus(instance_type)
        )
        return " and ".join(named) or "none"

    def user_data(self, ami: requests.Ami, instance_type: str, label: str) -> str:
        """Write the user data with which an instance joins; its node has the label `leptonami.dev/trial`."""
        release = requests.release_of(ami, catalog.load(), region=self.target.region)
        gpu = self.accelerators(instance_type) > 0 and (release.gpu or release.family == "ubuntu-eks")
        argument = f"--node-labels={PREFIX[:-1]}.dev/trial={label}"
        return catalog.user_data(release, cluster=self.cluster[0], gpu=gpu, kubelet_args=(argument,))

    def describe(self, instance: str) -> Any:
        """Describe an instance; an empty one while EC2 does not know it yet."""
        try:
            found: Any = self.target.call(self.target.client("ec2").describe_instances, InstanceIds=[instance])
        except AwsError as error:
            if error.code != "InvalidInstanceID.NotFound":
                raise
            return {}
        return next((each for one in found["Reservations"] for each in one["Instances"]), {})

    def living(self, *filters: tuple[str, str]) -> list[str]:
        """Name the instances with these filters that are not gone, nor about to be."""
        wanted: Any = [{"Name": name, "Values": [value]} for name, value in filters]
        wanted.append({"Name": "instance-state-name", "Values": LIVING})
        found: Any = self.target.call(self.target.client("ec2").describe_instances, Filters=wanted)
        return [each["InstanceId"] for one in found["Reservations"] for each in one["Instances"]]
