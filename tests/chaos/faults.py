"""The kinds of faults: how each is injected into a command and ended, and what it needs.

None touches anything but the command, its folder and the servers started for it. Two need a mount of their own, and so
root: python -m tests.chaos then runs in its own mount namespace.
"""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cable import Cable
from tests.chaos.servers import Mlflow, Postgres
from tests.chaos.stages import ROOT, STAGES
from tests.chaos.victims import strike

WITH_SERVER = {"server", "database", "network"}
MOUNTED = {"disk", "store"}
KINDS = {
    "driver": "SIGKILL to the command itself",
    "worker": "SIGKILL to one of its busy Ray processes",
    "actor": "SIGKILL to the stage's own actor: align's landmarker, pretraining's trainer, the sweep's trial",
    "feeder": "SIGKILL to the task that feeds pretraining",
    "raylet": "SIGKILL to the raylet, with its object store",
    "head": "SIGKILL to Ray's head (GCS)",
    "store": "the object store's /dev/shm is full",
    "server": "SIGKILL to the MLflow server, started again later",
    "database": "SIGKILL to PostgreSQL, started again later",
    "network": "the connection to the MLflow server is cut, and restored later",
    "disk": "the disk of the working folder is full",
    "clock": "the clock jumps ahead by hours or days, and later back to before the start",
}
QUIET = (*WITH_SERVER, "disk", "clock")
"""Faults that a command must report in one line, without a traceback."""


@dataclass(frozen=True)
class Fault:
    """strike: inject it into a command; False where the victim does not exist (yet). mend: end it, if it is one that
    lasts. environment: of the command."""

    strike: Callable[[subprocess.Popen], bool]
    mend: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tracking:
    """The tracking server, for faults that need one."""

    postgres: Postgres
    mlflow: Mlflow


def applies(kind: str, stage: str) -> bool:
    """Whether a stage has the fault's victim: LOPO has no actors, and only pretraining has a feeder."""
    return kind in STAGES[stage].victims or kind not in ("actor", "feeder")


@contextmanager
def made(kind: str, stage: str, place: Path, tracking: Tracking | None, draw: random.Random) -> Iterator[Fault]:
    """The fault, prepared for a command in that folder; all that it needed is removed afterwards."""
    victims = STAGES[stage].victims
    if kind in victims:
        yield Fault(lambda process: strike(process, victims[kind], draw))
    elif kind == "clock":
        yield _clock(place, draw)
    elif kind == "disk":
        yield Fault(lambda process: _fill(place, draw), lambda: _empty(place))
    elif kind == "store":
        with _mounted(Path("/dev/shm"), megabytes=320):
            yield Fault(lambda process: _fill(Path("/dev/shm"), draw), lambda: _empty(Path("/dev/shm")))
    else:
        assert tracking is not None
        yield from _away(kind, tracking)


def _away(kind: str, tracking: Tracking) -> Iterator[Fault]:
    """The server, its database, or the network between."""
    postgres, mlflow, key = tracking.postgres, tracking.mlflow, tracking.mlflow.key()
    if kind == "server":
        yield Fault(_done(mlflow.kill), mlflow.start, key)
    elif kind == "database":
        yield Fault(_done(postgres.kill), postgres.start, key)
    else:
        with contextlib.closing(Cable(mlflow.port)) as cable:
            yield Fault(_done(cable.cut), cable.mend, key | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{cable.port}"})


def _done(act: Callable[[], None]) -> Callable[[subprocess.Popen], bool]:
    def strikes(process: subprocess.Popen) -> bool:
        act()
        return True

    return strikes


def _clock(place: Path, draw: random.Random) -> Fault:
    """A clock that jumps ahead and, when the fault ends, back to before the start."""
    file = place / "clock"
    file.write_bytes(struct.pack("d", 0.0))

    def jump(seconds: float) -> None:
        with file.open("r+b") as clock:
            clock.write(struct.pack("d", seconds))

    ahead, behind = draw.uniform(3600, 30 * 86400), draw.uniform(60, 86400)
    environment = {"PYTHONPATH": f"{ROOT / 'tests' / 'chaos' / 'clock'}:{ROOT}", "CHAOS_CLOCK": str(file)}
    return Fault(_done(lambda: jump(ahead)), lambda: jump(-behind), environment)


@contextmanager
def _mounted(place: Path, *, megabytes: int) -> Iterator[None]:
    """A small file system mounted over a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def small_disk(place: Path) -> object:
    """A context in which the folder is a disk of its own, large enough for an undisturbed run (pretraining: 218 MB)."""
    place.mkdir()
    return _mounted(place, megabytes=320)


def _fill(place: Path, draw: random.Random) -> bool:
    """Leave at most some kilobytes, a random number of them, so that not always the same write fails first."""
    with (place / ".filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)) == size:
                    pass
        filler.truncate(max(0, filler.tell() - 4096 * draw.randrange(0, 9)))
    return True


def _empty(place: Path) -> None:
    (place / ".filler").unlink(missing_ok=True)
