"""Whether Ray can ever place a piece of work, and how many side by side: asked by every command before work starts."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.state import available_resources_per_node, state, total_resources_per_node
from ray.experimental import internal_kv

EVERY = 30.0
"""Seconds between two lines on what is waited for."""

_SPACE = b"age-study"
Machine = Mapping[str, float]
"""What one machine has, by Ray's names: CPU and GPU."""


@dataclass(frozen=True)
class Unit:
    """A piece of work that Ray places on one machine.

    what: its name in messages. options: those that say what it takes. gpus: a share below 1, or whole GPUs.
    """

    what: str
    cpus: int | float
    gpus: int | float
    options: str

    def __post_init__(self) -> None:
        if not self.cpus > 0 or not self.gpus >= 0 or (self.gpus > 1 and self.gpus % 1):
            raise ValueError(
                f"{self.options}: a {self.what} takes some CPUs, and a share of a GPU or whole GPUs, got "
                f"{self.cpus:g} and {self.gpus:g}"
            )

    def __str__(self) -> str:
        return _amount(self.cpus, self.gpus)

    def fits(self, machine: Machine) -> int:
        """How many a machine holds at once. A share of a GPU lies on one GPU, never on two."""
        most = machine.get("CPU", 0.0) / self.cpus
        if self.gpus:
            whole = int(machine.get("GPU", 0.0) + 1e-6)
            most = min(most, whole * int(1 / self.gpus + 1e-6) if self.gpus < 1 else whole / self.gpus)
        return int(most + 1e-6)


def check_room(unit: Unit, *, together: int = 1, joined: bool, count: str | None = None) -> int:
    """How many of a unit run side by side, when all machines are there. Raises ValueError where it can never run.

    together: how many must run at once. joined: a cluster that others started. Where its machines may still come, for
    nobody knows which, the work goes on and waits (1 is returned, or what there is); but with `count`, the option that
    says how many are to run side by side, that one is asked for.
    """
    most = side_by_side(unit)
    if most >= together:
        return most
    now, grown = machines(), coming()
    asked = f"{together} x {unit}" if together > 1 else str(unit)
    line = f"no room for a {unit.what} of {asked}: {_describe(now, grown)}; change {unit.options}"
    if not joined or grown:
        raise ValueError(line)
    if count:
        raise ValueError(f"{line}, or, where machines are still to come, say how many run side by side: {count} N")
    print(f"Waiting for machines: {line}, where none of that kind is still to come", file=sys.stderr, flush=True)
    return max(1, most)


def side_by_side(unit: Unit) -> int:
    """How many of a unit the cluster holds at once, when all machines that may come are there."""
    grown = sum(number * unit.fits(each) for number, each in coming())
    return max(grown, sum(unit.fits(each) for each in machines()))


def machines() -> list[Machine]:
    """The cluster's machines as they are now."""
    return [_machine(each) for each in total_resources_per_node().values()]


def coming() -> list[tuple[int, Machine]]:
    """The kinds of machines that a growing cluster may have, and how many of each; [] where it does not grow by itself.

    As the autoscaler reported or, on the head of a cluster that `ray up` made, as its config declares.
    """
    config = state.get_cluster_config()
    if config is not None and config.node_group_configs:
        many = sys.maxsize  # -1 stands for any number
        kinds = config.node_group_configs
        return [(kind.max_count if kind.max_count >= 0 else many, _machine(kind.resources)) for kind in kinds]
    return declared(Path.home() / "ray_bootstrap_config.yaml")


def declared(file: Path) -> list[tuple[int, Machine]]:
    """The workers that a cluster config allows: how many, and what each has; [] where there is no such file."""
    if not file.is_file():
        return []
    config = yaml.safe_load(file.read_text()) or {}
    kinds = (config.get("available_node_types") or {}).values()
    most = int(config.get("max_workers", 0))
    return [(min(int(kind.get("max_workers", 0)), most), _machine(kind.get("resources") or {})) for kind in kinds]


def gpu_share(asked: float | None) -> float:
    """The share of a GPU that a training takes: as asked, else a quarter where Ray has GPUs, else none."""
    if asked is not None:
        return asked
    there = [*machines(), *(each for number, each in coming() if number)]
    return 0.25 if any(each.get("GPU", 0) for each in there) else 0.0


@contextmanager
def explaining(unit: Unit, running: Callable[[], int], *, joined: bool) -> Iterator[None]:
    """While the block lasts and nothing of it runs, a line every 30 s on what is waited for, and why.

    joined: a cluster that others started; on one of this command's own there is nobody to wait for.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            try:
                why = None if running() else lacking(unit)
            except Exception:  # Ray is going down, which is told elsewhere
                continue
            if why and not over.is_set():
                print(f"Waiting for room for a {unit.what} ({unit}): {why}", file=sys.stderr, flush=True)

    if joined:
        threading.Thread(target=look, daemon=True, name="explaining").start()
    try:
        yield
    finally:
        over.set()


def lacking(unit: Unit) -> str | None:
    """Why no unit can start at this moment; None where one can."""
    free = [_machine(each) for each in available_resources_per_node().values()]
    if any(unit.fits(each) for each in free):
        return None
    there = machines()
    told = _describe(there, [])
    if not any(unit.fits(each) for each in there):
        return f"{told}; it goes on when a machine with more joins (or change {unit.options})"
    left = [_amount(each["CPU"], each["GPU"]) for each in free if each["CPU"] or each["GPU"]]
    return f"{told}, all taken by others{' but ' + ', '.join(left[:3]) if left else ''}; it goes on when they end"


class Running:
    """How much of this command's work runs at this moment, as it says itself: what others run is not counted.

    What died with its process is counted until it is run again.
    """

    def __init__(self) -> None:
        self.prefix = f"running-{uuid.uuid4().hex}-"

    def count(self) -> int:
        return len(internal_kv._internal_kv_list(self.prefix, namespace=_SPACE))

    def of(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """A function that starts `function` as a Ray task with these options, and counts it while it runs."""
        task = ray.remote(_counted).options(name=function.__name__, **options)
        return lambda *args: task.remote(f"{self.prefix}{uuid.uuid4().hex}", function, *args)

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is counted while it runs, wherever it is called."""
        return partial(_counted, self.prefix, function)


def mark_running(name: str) -> None:
    """Count this process as running, under a Running's prefix and what tells it from others."""
    internal_kv._internal_kv_put(name, b"", namespace=_SPACE)


def _counted(name: str, function: Callable[..., Any], *args: Any) -> Any:
    if name.endswith("-"):
        name += uuid.uuid4().hex
    mark_running(name)
    try:
        return function(*args)
    finally:
        internal_kv._internal_kv_del(name, namespace=_SPACE)


def _machine(resources: Mapping[str, Any]) -> Machine:
    return {name: float(resources.get(name, 0)) for name in ("CPU", "GPU")}


def _describe(now: Sequence[Machine], grown: Sequence[tuple[int, Machine]]) -> str:
    """ "Ray has 2 machines, the largest with 8 CPUs and 1 GPU"."""
    kinds = [each for number, each in grown if number] or now
    cpus, gpus = (max((each.get(name, 0.0) for each in kinds), default=0.0) for name in ("CPU", "GPU"))
    if grown:
        return f"the largest machine that may come has {_amount(cpus, gpus)}"
    if len(now) == 1:
        return f"Ray has {_amount(cpus, gpus)}"
    return f"Ray has {len(now)} machines with at most {_amount(cpus, gpus)} each"


def _amount(cpus: int | float, gpus: int | float) -> str:
    """ "2 CPUs and no GPU"."""
    told = f"{gpus:g} GPU{'s' * (gpus > 1)}" if gpus else "no GPU"
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {told}"
