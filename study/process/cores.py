"""How many cores this process may use: SLURM, taskset, Docker and cgroups may allow fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores(*, root: Path = Path("/")) -> int:
    """The cores of this process's affinity, or its cgroups' quota if that is less; at least 1. root: of /proc, /sys."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min([float(cores), *_quotas(root)])))


def _quotas(root: Path) -> list[float]:
    """The quotas, in cores, of this process's cgroup and its parents, in both versions of cgroups."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # in a container the group's files are at the mount itself, whatever path is listed
        place = mount / path.strip("/")
        while place != mount.parent:
            found.append(_quota(place))
            place = place.parent
    return [quota for quota in found if quota is not None]


def _quota(group: Path) -> float | None:
    """A group's quota in cores, or None."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        cores = float(quota) / float(period)
    except (OSError, ValueError):  # "max"
        return None
    return cores if cores > 0 else None
