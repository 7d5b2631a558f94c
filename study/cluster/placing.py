"""How many pieces of work Ray can run side by side, and why none runs: every command asks before its work starts."""

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

from study.cluster import internals

EVERY = 30.0
"""Seconds between two lines that say what a command waits for."""

Machine = Mapping[str, float]
"""One machine's CPUs and GPUs, by Ray's names for them: CPU and GPU."""


@dataclass(frozen=True)
class Unit:
    """A piece of work that Ray places on one machine.

    what: its name in messages. options: the command's options for cpus and gpus. gpus: a share below 1, or whole GPUs.
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
        """How many run on a machine at once. A share of a GPU is of one GPU, never of two."""
        most = machine.get("CPU", 0.0) / self.cpus
        if self.gpus:
            whole = int(machine.get("GPU", 0.0) + 1e-6)
            most = min(most, whole * int(1 / self.gpus + 1e-6) if self.gpus < 1 else whole / self.gpus)
        return int(most + 1e-6)


def check_room(unit: Unit, *, together: int = 1, joined: bool, count: str | None = None) -> int:
    """How many of a unit run side by side when all machines are there. Raises ValueError where it can never run.

    together: how many must run at once. joined: whether others started the cluster. Such a cluster may get machines
    that nobody announced: where there is too little room, the command says so and waits, and 1 or what there is is
    returned. But where `count` names an option for the number to run side by side, the error asks for that option.
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
        raise ValueError(f"{line}, or, if more machines will join, give the number to run side by side: {count} N")
    print(f"Waiting for machines: {line}, unless such a machine will join", file=sys.stderr, flush=True)
    return max(1, most)


def side_by_side(unit: Unit) -> int:
    """How many of a unit run at once when the autoscaler has added all machines it may."""
    grown = sum(number * unit.fits(each) for number, each in coming())
    return max(grown, sum(unit.fits(each) for each in machines()))


def machines() -> list[Machine]:
    """The cluster's machines as they are now."""
    return [_machine(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def coming() -> list[tuple[int, Machine]]:
    """How many machines of each kind the cluster may have, and what each has; [] without an autoscaler.

    As the autoscaler reports or, on the head of a cluster that `ray up` made, as its config says.
    """
    groups = internals.node_groups()
    if not groups:
        return declared(Path.home() / "ray_bootstrap_config.yaml")
    return [(most if most >= 0 else sys.maxsize, _machine(resources)) for most, resources in groups]


def declared(file: Path) -> list[tuple[int, Machine]]:
    """How many workers of each kind a cluster's config allows, and what each has; [] where there is no such file."""
    if not file.is_file():
        return []
    config = yaml.safe_load(file.read_text()) or {}
    kinds = (config.get("available_node_types") or {}).values()
    most = int(config.get("max_workers", 0))
    return [(min(int(kind.get("max_workers", 0)), most), _machine(kind.get("resources") or {})) for kind in kinds]


def gpu_share(asked: float | None) -> float:
    """The share of a GPU that a training takes: as asked, else 0.25 where Ray has GPUs, else 0."""
    if asked is not None:
        return asked
    there = [*machines(), *(each for number, each in coming() if number)]
    return 0.25 if any(each.get("GPU", 0) for each in there) else 0.0


@contextmanager
def explaining(unit: Unit, running: Callable[[], int], *, joined: bool) -> Iterator[None]:
    """While the block lasts and none of its work runs, print every 30 s what the command waits for, and why.

    joined: whether others started the cluster; on a Ray of its own a command waits for nobody.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            try:
                why = None if running() else lacking(unit)
            except Exception:  # Ray is shutting down; others report that
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
    free = [_machine(each) for each in internals.free_resources()]
    if any(unit.fits(each) for each in free):
        return None
    there = machines()
    now = _describe(there, [])
    if not any(unit.fits(each) for each in there):
        return f"{now}; it goes on when a larger machine joins (or change {unit.options})"
    left = [_amount(each["CPU"], each["GPU"]) for each in free if each["CPU"] or each["GPU"]]
    rest = f" except {', '.join(left[:3])}" if left else ""
    return f"{now}, all in use by others{rest}; it goes on when they end"


class Running:
    """Counts how many of this command's tasks run now, without those of others: each task marks itself in the GCS.

    A task whose process died stays counted until it is run again.
    """

    def __init__(self) -> None:
        self.prefix = f"running-{uuid.uuid4().hex}-"

    def count(self) -> int:
        """How many run now."""
        return internals.count_marks(self.prefix)

    def of(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Returns what starts `function` as a Ray task with these options, counted while it runs."""

        # `function` travels once, not with every task. A lambda: a def of here would be wrapped by the checker of the
        # tests, which Ray cannot send.
        task = ray.remote(lambda name, *args: _counted(name, function, *args))
        task = task.options(name=function.__name__, **options)
        return lambda *args: task.remote(f"{self.prefix}{uuid.uuid4().hex}", *args)

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function`, counted while it runs, wherever it is called."""
        return partial(_counted, self.prefix, function)


def mark_running(name: str) -> None:
    """Count this process as running for the rest of its life. name: a Running's prefix and something unique."""
    internals.mark(name)


def _counted(name: str, function: Callable[..., Any], *args: Any) -> Any:
    if name.endswith("-"):
        name += uuid.uuid4().hex
    internals.mark(name)
    try:
        return function(*args)
    finally:
        internals.unmark(name)


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
    some = f"{gpus:g} GPU{'s' * (gpus > 1)}" if gpus else "no GPU"
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {some}"
