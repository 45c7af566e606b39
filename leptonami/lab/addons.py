"""EKS's add-ons: kept, checked and described over the lab's time. Nothing is installed into the cluster by them.

The versions are one recent build of each for a Kubernetes version, of the kind that `aws eks describe-addon-versions`
showed in November 2025; they are made from it, and no promise.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from moto.core.responses import ActionResult
from moto.moto_api._internal import mock_random

from leptonami import catalog
from leptonami.lab.ekstate import Update, absent, invalid
from leptonami.lab.node.seeds import KUBELET
from leptonami.lab.wire import ApiError, page
from leptonami.lab.world import ACCOUNT

__all__ = ["AddonCalls"]

# Name, type, whether it needs permissions, and its version, the older one first.
ADDONS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "vpc-cni": ("networking", True, ("v1.19.6-eksbuild.7", "v1.20.4-eksbuild.1")),
    "coredns": ("networking", False, ("v1.11.4-eksbuild.24", "v1.12.4-eksbuild.1")),
    "kube-proxy": ("networking", False, ()),
    "eks-pod-identity-agent": ("security", False, ("v1.3.8-eksbuild.2", "v1.3.10-eksbuild.1")),
    "aws-ebs-csi-driver": ("storage", True, ("v1.51.1-eksbuild.1", "v1.53.0-eksbuild.1")),
    "metrics-server": ("observability", False, ("v0.7.2-eksbuild.4", "v0.8.0-eksbuild.3")),
    "eks-node-monitoring-agent": ("observability", False, ("v1.3.0-eksbuild.2", "v1.4.2-eksbuild.1")),
}


def versions_of(name: str, kubernetes: str) -> list[str]:
    """Give the versions of an add-on for a Kubernetes version, the newest (and default) first."""
    if name == "kube-proxy":
        patch = KUBELET.get(kubernetes, f"{kubernetes}.0")
        return [f"v{patch}-eksbuild.2", f"v{kubernetes}.0-eksbuild.2"]
    return list(reversed(ADDONS[name][2]))


class AddonCalls:
    """Comes into EKS's class."""

    def addon(self: Any, cluster: Any) -> dict[str, Any]:
        """Find the add-on that a request names."""
        found: dict[str, Any] | None = cluster.addons.get(self.params["addonName"])
        if found is None:
            raise absent(f"No addon: {self.params['addonName']} found in cluster: {cluster.name}")
        return found

    def _addon_version(self: Any, cluster: Any, name: str) -> str:
        if name not in ADDONS:
            raise invalid(f"Addon {name} specified is not supported in {cluster.version} kubernetes version")
        known = versions_of(name, cluster.version)
        wanted = self.params.get("addonVersion", known[0])
        if wanted not in known:
            raise invalid(f"Addon version specified is not supported: {wanted} (known here: {', '.join(known)})")
        return str(wanted)

    def create_addon(self: Any) -> ActionResult:
        """Make an add-on: creating for a while."""
        cluster, asked = self.active(), self.params
        if extra := {"podIdentityAssociations", "namespaceConfig"} & set(asked):
            raise NotImplementedError(f"CreateAddon with {', '.join(sorted(extra))}")
        name = asked["addonName"]
        version = self._addon_version(cluster, name)
        if name in cluster.addons:
            raise ApiError("ResourceInUseException", "Addon already exists.", 409)
        now = datetime.now(UTC)
        found = {
            "addonName": name,
            "clusterName": cluster.name,
            "status": "CREATING",
            "addonVersion": version,
            "health": {"issues": []},
            "addonArn": f"arn:aws:eks:{cluster.region}:{ACCOUNT}:addon/{cluster.name}/{name}/{mock_random.uuid4()}",
            "createdAt": now,
            "modifiedAt": now,
            "tags": asked.get("tags", {}),
            **{key: asked[key] for key in ("serviceAccountRoleArn", "configurationValues") if key in asked},
        }
        cluster.addons[name] = found
        self.world.later(self.world.times.addon, partial(found.__setitem__, "status", "ACTIVE"))
        return ActionResult({"addon": found})

    def describe_addon(self: Any) -> ActionResult:
        """Describe an add-on."""
        return ActionResult({"addon": self.addon(self.cluster())})

    def list_addons(self: Any) -> ActionResult:
        """Name the add-ons."""
        return ActionResult(page(self.params, "addons", sorted(self.cluster().addons)))

    def update_addon(self: Any) -> ActionResult:
        """Change an add-on's version or settings."""
        cluster = self.active()
        found = self.addon(cluster)
        if found["status"] != "ACTIVE":
            raise ApiError("ResourceInUseException", f"Addon {found['addonName']} is {found['status']}", 409)
        version = self._addon_version(cluster, found["addonName"]) if "addonVersion" in self.params else None
        new = {"addonVersion": version} if version else {}
        new |= {key: self.params[key] for key in ("serviceAccountRoleArn", "configurationValues") if key in self.params}
        update = Update(
            "AddonUpdate", {key[0].upper() + key[1:]: value for key, value in new.items()}, found["addonName"]
        )
        cluster.updates[update.id] = update
        found["status"] = "UPDATING"

        def updated() -> None:
            found.update(new, status="ACTIVE", modifiedAt=datetime.now(UTC))
            update.end()

        self.world.later(self.world.times.addon, updated)
        return ActionResult({"update": update.shown()})

    def delete_addon(self: Any) -> ActionResult:
        """Delete an add-on, over time."""
        cluster = self.cluster()
        found = self.addon(cluster)
        found["status"] = "DELETING"
        self.world.later(self.world.times.addon, partial(cluster.addons.pop, found["addonName"], None))
        return ActionResult({"addon": found})

    def describe_addon_versions(self: Any) -> ActionResult:
        """Give the versions of add-ons, with the Kubernetes versions that each is for."""
        wanted, kubernetes = self.params.get("addonName"), self.params.get("kubernetesVersion")
        if wanted and wanted not in ADDONS:
            raise absent(f"No addon: {wanted} found")
        rows = []
        for name, (kind, permissions, _) in ADDONS.items():
            if wanted not in (None, name) or kind not in (self.params.get("types") or [kind]):
                continue
            found: dict[str, list[dict[str, Any]]] = {}
            for each in reversed([*catalog.load().kubernetes]):
                for number, version in enumerate(versions_of(name, each)):
                    if kubernetes in (None, each):
                        compatible = {"clusterVersion": each, "platformVersions": ["*"], "defaultVersion": number == 0}
                        found.setdefault(version, []).append(compatible)
            versions = [
                {
                    "addonVersion": version,
                    "architecture": ["amd64", "arm64"],
                    "computeTypes": ["ec2"],
                    "compatibilities": compatibilities,
                    "requiresConfiguration": False,
                    "requiresIamPermissions": permissions,
                }
                for version, compatibilities in found.items()
            ]
            rows.append(
                {"addonName": name, "type": kind, "addonVersions": versions, "publisher": "eks", "owner": "aws"}
            )
        return ActionResult(page(self.params, "addons", rows))
