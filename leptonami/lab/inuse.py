"""EC2's refusals to delete what is in use, which moto deletes all the same."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult

from leptonami.lab.wire import ApiError

__all__ = ["InUse"]


class InUse:
    """Comes before moto's class for EC2."""

    def delete_network_interface(self: Any) -> ActionResult:
        """Delete an interface, unless it is attached.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html: InvalidNetworkInterface.InUse
        """
        interface = self.ec2_backend.enis.get(self._get_param("NetworkInterfaceId"))
        if interface is not None and interface.instance is not None and interface.instance.state != "terminated":
            raise ApiError(
                "InvalidNetworkInterface.InUse",
                f"Network interface '{interface.id}' is currently in use; it must be detached first.",
            )
        answer: ActionResult = super().delete_network_interface()  # type: ignore[misc]
        return answer
