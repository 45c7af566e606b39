"""The order of the trials: interleaved blocks, shuffled with the experiment's seed.

A machine, a zone or a registry drifts: all trials of one variant after all of another would measure the drift. Each
block holds every variant once (with every image, instance type and bandwidth), in an order of its own, so that what
drifts slowly touches all alike. More trials are more blocks: those that there were keep their order and their numbers.
"""

from __future__ import annotations

import itertools
import random

from leptonami.bench.experiment import Experiment
from leptonami.bench.model import Trial

__all__ = ["order"]


def order(experiment: Experiment) -> tuple[Trial, ...]:
    """Give every trial, warm-up first, in the order in which they are to be run."""
    cells = list(
        itertools.product(
            [str(each.name) for each in experiment.variants],
            [str(each) for each in experiment.instance_types] or [""],
            [str(each.name) for each in experiment.images],
            # The driver eks has the network that it has.
            [0] if experiment.driver == "eks" else [int(each) for each in experiment.local.bandwidth_mbit],
        )
    )
    trials: list[Trial] = []
    for block in range(1, experiment.warmup + experiment.trials + 1):
        shuffled = list(cells)
        random.Random(f"{experiment.seed}:{block}").shuffle(shuffled)  # noqa: S311 - an order, no secret
        for variant, instance_type, image, bandwidth in shuffled:
            trials.append(
                Trial(
                    number=len(trials) + 1,
                    block=block,
                    variant=variant,
                    instance_type=instance_type,
                    image=image,
                    bandwidth_mbit=bandwidth,
                    warmup=block <= experiment.warmup,
                )
            )
    return tuple(trials)
