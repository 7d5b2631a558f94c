"""Measures on the machines at hand what each network's training takes, as Ray tasks: a processor's or a GPU's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from study.cluster.placing import Unit
from study.sweep.timing import Timing, time_networks
from trainables.config import TrialConfig

SECONDS = 10.0
"""What all measurements together may take, each in its own process side by side with the other."""

PATIENCE = 120.0
"""Seconds to wait for the measurements on a cluster of others: where it is full the sweep begins without them."""

SIDES = 2
"""Processes that measure side by side, as trainings run: they share the machine's memory."""


def measure(configs: Sequence[TrialConfig], unit: Unit, *, device: str, places: int, joined: bool) -> dict[str, Timing]:
    """The times of as many of these networks as SECONDS allow, the first ones first; {} where no place was free.

    joined: whether others started the cluster; on a Ray of its own there is a place.
    """
    sides = max(1, min(places, SIDES, len(configs)))
    remote: Any = ray.remote
    task = remote(time_networks).options(num_cpus=unit.cpus, num_gpus=unit.gpus, max_retries=0)
    running = [
        task.remote(list(configs[side::sides]), device, threads=int(unit.cpus), seconds=SECONDS)
        for side in range(sides)
    ]
    done, late = ray.wait(running, num_returns=len(running), timeout=PATIENCE if joined else None)
    for each in late:
        ray.cancel(each, force=True)
    found: dict[str, Timing] = {}
    for each in done:
        try:
            found |= ray.get(each)
        except (ray.exceptions.RayError, RuntimeError) as error:  # memory, or a GPU that torch cannot use
            print(f"A measurement failed: {str(error).strip().splitlines()[-1][:200]}", flush=True)
    return found
