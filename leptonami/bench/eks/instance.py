"""Launching by RunInstances: a single instance that joins the cluster by its own user data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from leptonami.bench.eks import launching, requests
from leptonami.build.names import PREFIX
from leptonami.errors import Timeout

if TYPE_CHECKING:
    from leptonami.bench.eks.account import Account
    from leptonami.bench.eks.requests import Ami
    from leptonami.bench.experiment import Variant
    from leptonami.bench.marks import Mark
    from leptonami.bench.model import Trial
    from leptonami.runs import Journal
    from leptonami.target import Provenance

__all__ = ["Single"]

ENDS_S = 300


class Single:
    """Launches instances one by one. They carry the run's tags and the trial's number."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.launched: dict[int, str] = {}

    def prepare(self, variant: Variant, ami: Ami, journal: Journal) -> None:
        """Do nothing: there is nothing that lasts."""

    def ask(self, trial: Trial, variant: Variant, ami: Ami) -> launching.Asked:
        """Ask for the instance."""
        account = self.account
        request = requests.run_instances(
            account.names,
            account.eks,
            variant,
            ami,
            number=trial.number,
            instance_type=trial.instance_type,
            groups=account.cluster[1],
            user_data=account.user_data(ami, trial.instance_type, str(trial.number)),
        )
        target = account.target
        asked, answer = launching.ask(target, "ec2:RunInstances", target.client("ec2").run_instances, request)
        self.launched[trial.number] = str(answer["Instances"][0]["InstanceId"])
        return asked

    def instance(self, trial: Trial) -> str:
        """Give the instance's id, which the answer had."""
        return self.launched[trial.number]

    def marks(self, trial: Trial, instance: str, provenance: Provenance) -> tuple[Mark, ...]:  # noqa: ARG002
        """Give nothing: EC2 keeps no record of a launch beside the instance."""
        return ()

    def clean(self, trial: Trial) -> tuple[str, ...]:
        """Terminate the trial's instances."""
        target = self.account.target
        if ids := self.living(trial):
            target.call(target.client("ec2").terminate_instances, InstanceIds=ids)
            try:
                target.poll(partial(self.none_left, trial), what="the end of the trial's instance", timeout=ENDS_S)
            except Timeout:
                return tuple(self.living(trial))
        return ()

    def living(self, trial: Trial) -> list[str]:
        """Find the trial's instances by their tags: the answer to the launch may have been lost."""
        run = (f"tag:{PREFIX}run", self.account.setup.run)
        return self.account.living(run, (f"tag:{requests.TRIAL}", str(trial.number)))

    def none_left(self, trial: Trial) -> bool | None:
        """Tell whether none of the trial's instances lives."""
        return None if self.living(trial) else True

    def remove(self) -> None:
        """Do nothing: nothing lasts."""
