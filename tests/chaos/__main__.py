"""Inject each kind of fault into each stage, repeat the command until it ends with 0, and compare what it leaves.

    python -m tests.chaos                                         everything: an hour or two
    python -m tests.chaos --stages lopo --kinds disk network      some of it
    python -m tests.chaos --short                                 what the tests run

A stage first runs undisturbed, on generated faces (align: on the synthetic people) in a temporary folder. Then, for
each kind of fault, it runs in a new folder: the fault strikes at a random moment within the time of the undisturbed run
and, if it is one that lasts, goes on for --away seconds or until the command gives up. Then the command is typed again
until it ends with 0. A row says what that cost, and whether all is as in the undisturbed run: results (faces, weights,
trials and winner, predictions), MLflow's runs (each once and finished, with the same metrics), and no half-written file
after any command. Status 1 where anything differs.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tests.chaos.faults import KINDS, MOUNTED, WITH_SERVER, Tracking, applies
from tests.chaos.servers import postgres_programs, servers
from tests.chaos.suffering import HEADER, Ordeal, Undisturbed, print_table, suffer, undisturbed

SHORT = {"lopo": ("disk", "clock")}
"""The short form: faults that no other test injects, in the stage that starts fastest."""
_INSIDE = "CHAOS_MOUNTS"


@dataclass(frozen=True)
class Options:
    """Which faults, in which stages."""

    stages: tuple[Literal["align", "pretrain", "sweep", "lopo"], ...] = ("align", "pretrain", "sweep", "lopo")
    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of faults. A stage that has no actor, for example, is left out."""
    rounds: int = 1
    """How often each fault is injected."""
    away: float = 60.0
    """Duration in seconds of the faults that last: server, database, network, disk, store."""
    seed: int = 0
    """Of the random moments and victims."""
    short: bool = False
    """Only a full disk and a clock that jumps, for 5 s each, as in `make test`."""


def main(options: Options) -> int:
    """Inject all faults and print a table; status 1 where anything differs, 2 for an unknown kind."""
    if unknown := set(options.kinds) - set(KINDS):
        print(f"no fault {', '.join(sorted(unknown))}: expected some of {', '.join(KINDS)}", file=sys.stderr)
        return 2
    plan = [(stage, kind) for stage in options.stages for kind in _kinds(options, stage)]
    left_out = [(f"{stage} {kind}", why) for stage, kind in plan if (why := _missing(kind))]
    plan = [(stage, kind) for stage, kind in plan if not _missing(kind)]
    for what, why in left_out:
        print(f"left out: {what} ({why})")
    draw, rows = random.Random(options.seed), []
    print(f"seed {options.seed}; {len(plan) * options.rounds} faults\n{HEADER}", flush=True)
    with tempfile.TemporaryDirectory() as folder, _tracking([kind for _, kind in plan]) as tracking:
        expected: dict[tuple[str, bool], Undisturbed] = {}
        for number, (stage, kind) in enumerate(plan * options.rounds):
            server = tracking if kind in WITH_SERVER else None
            known = (stage, server is not None)
            if known not in expected:
                name = f"{stage}-undisturbed" + ("-with-server" if server else "")
                expected[known] = undisturbed(Path(folder) / name, stage, server)
                print(f"{name}: {expected[known].seconds:.0f} s", flush=True)
            away = min(options.away, 5.0) if options.short else options.away
            ordeal = Ordeal(stage, kind, away, expected[known], server, draw)
            row = suffer(Path(folder) / f"{stage}-{number}", ordeal)
            print(row.line, flush=True)
            rows.append(row)
    print_table(rows)
    return 0 if all(row.survived for row in rows) else 1


def _kinds(options: Options, stage: str) -> list[str]:
    if options.short:
        return list(SHORT.get(stage, ()))
    return [kind for kind in options.kinds if applies(kind, stage)]


def _missing(kind: str) -> str:
    """Why a fault cannot be injected on this machine; "" if it can."""
    if kind in WITH_SERVER and postgres_programs() is None:
        return "PostgreSQL is not installed: Debian's package postgresql"
    if kind in MOUNTED and _INSIDE not in os.environ:
        return "needs root and util-linux, to mount a disk of its own"
    return ""


@contextlib.contextmanager
def _tracking(kinds: list[str]) -> Iterator[Tracking | None]:
    """The servers, if a fault needs them."""
    if not WITH_SERVER.intersection(kinds):
        yield None
        return
    with servers(workers=1) as (postgres, mlflow):
        yield Tracking(postgres, mlflow)


def _own_mounts() -> None:
    """Restart in a mount namespace of its own, so that no mount outlives this process or is seen by others."""
    own = ["unshare", "--mount", "--propagation", "private"]
    with contextlib.suppress(FileNotFoundError):
        if os.geteuid() == 0 and subprocess.run([*own, "true"], capture_output=True).returncode == 0:
            os.environ[_INSIDE] = "yes"
            os.execvp(own[0], [*own, sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


if __name__ == "__main__":
    chosen = tyro.cli(Options, prog="python -m tests.chaos", description=__doc__)
    if _INSIDE not in os.environ:
        _own_mounts()
    begun = time.monotonic()
    status = main(chosen)
    print(f"{time.monotonic() - begun:.0f} s in all")
    sys.exit(status)
