"""Kill a stage at random moments, type the same command again, and compare its results with an undisturbed run's.

    python -m tests.chaos.kills --stage lopo --kills 20
    python -m tests.chaos.kills --stage sweep --kills 20
    python -m tests.chaos.kills --stage pretrain --kills 20
    python -m tests.chaos.kills --stage align --kills 20 --root FGNET

It runs on generated faces in a temporary folder, or (align) on the synthetic people or FG-NET. The victim of SIGKILL
is random: the driver, one of Ray's busy processes, the stage's actor or feeder, the raylet, the head. A command that
survives is waited for; one that fails is typed again; one whose raylet or head was killed must end by itself within a
minute. When it has ended with 0, its results are compared, and it starts again in another folder until there were
enough kills. Prints each kill, how many finished units (shards, epochs, trials, folds) were done again, and whether the
results and MLflow's runs are those of the undisturbed run; status 1 where they are not.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from tests.chaos.stages import STAGES, Stage, prepare, read_log, read_runs, start, store_of
from tests.chaos.victims import strike

PATIENCE = 60.0
"""Seconds in which a command must end whose driver, raylet or head was killed."""


@dataclass(frozen=True)
class Options:
    """What is killed and how often."""

    stage: Literal["align", "pretrain", "sweep", "lopo"] = "lopo"
    kills: int = 20
    kinds: tuple[str, ...] = ()
    """Victims: driver, worker (any busy Ray process), raylet, head; with align, pretrain and sweep also actor, with
    pretrain also feeder. Default: all that the stage has."""
    seed: int = 0
    root: Path | None = None
    """With --stage align: FG-NET's folder, instead of the synthetic people."""

    @property
    def words(self) -> tuple[str, ...]:
        """The command's options."""
        usual = STAGES[self.stage].words
        if self.root is None:
            return usual
        assert self.stage == "align", "--root belongs to --stage align"
        return ("fgnet", "--root", str(self.root.absolute()), *usual[1:])


@dataclass
class Tally:
    """What happened to one stage: kills by kind, commands typed, commands that hung, finished units done again."""

    kills: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    hung: int = 0
    again: int = 0


def ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The command's exit status after at most so many seconds; None if it still runs."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def units_again(stage: Stage, place: Path, before: dict[str, object]) -> int:
    """How many units were finished before and have been done again since."""
    now = stage.units(place)
    return sum(now.get(name) != mark for name, mark in before.items())


def kill_until_done(place: Path, options: Options, draw: random.Random, took: float, tally: Tally) -> bool:
    """Kill the command and type it again until it ends with 0; False if it never does."""
    stage = STAGES[options.stage]
    kinds = options.kinds or tuple(stage.victims)
    for _ in range(4 * options.kills + 10):
        units = stage.units(place)
        process = start(place, options.stage, options.words)
        tally.commands += 1
        while process.poll() is None and tally.kills.total() < options.kills:
            wait, who = draw.uniform(1, max(6.0, 0.8 * took)), draw.choice(kinds)
            if ended(process, wait) is not None or not strike(process, stage.victims[who], draw):
                continue
            tally.kills[who] += 1
            at = time.monotonic()
            tally.again, units = tally.again + units_again(stage, place, units), stage.units(place)
            after = f"  kill {tally.kills.total()}: {who} after {wait:.1f} s, {len(units)} units done"
            if who in ("driver", "raylet", "head"):
                if ended(process, PATIENCE) is None:
                    process.kill()
                    tally.hung += 1
                    after += f"; the command did not end within {PATIENCE:.0f} s"
                after += f"; it ended with {process.wait()} {time.monotonic() - at:.1f} s later"
            print(after, flush=True)
        status = process.wait()
        tally.again += units_again(stage, place, units)
        if status == 0:
            return True
    print(read_log(place)[-3000:])
    return False


def main(options: Options) -> int:
    """The undisturbed run, then killed ones, each compared with it; status 1 where one differs."""
    draw, tally, stage = random.Random(options.seed), Tally(), STAGES[options.stage]
    if unknown := set(options.kinds) - set(stage.victims):
        print(f"{options.stage} has no {', '.join(sorted(unknown))}: expected some of {', '.join(stage.victims)}")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        place = prepare(Path(folder) / "undisturbed")
        began = time.monotonic()
        assert start(place, options.stage, options.words).wait() == 0, read_log(place)
        took = time.monotonic() - began
        result, runs = stage.result(place), read_runs(store_of(place))
        print(f"{options.stage}: undisturbed {took:.0f} s, {len(runs.keys)} runs; seed {options.seed}", flush=True)
        began, tables, right = time.monotonic(), 0, True
        while right and tally.kills.total() < options.kills:
            place = prepare(Path(folder) / f"killed{tables}")
            if not kill_until_done(place, options, draw, took, tally):
                return 1
            tables += 1
            found = read_runs(store_of(place))
            same, equal = stage.result(place) == result, found == runs and set(found.keys.values()) == {1}
            print(f"result {tables}: the same {same}; MLflow's runs the same, finished, once each: {equal}", flush=True)
            if not equal:
                lost, more = runs.keys - found.keys, found.keys - runs.keys
                print(f"  lost {dict(lost)}, too many {dict(more)}, unfinished {dict(found.unfinished)}")
            right = same and equal
        spent = time.monotonic() - began
    who = ", ".join(f"{kind} {count}" for kind, count in tally.kills.items())
    print(
        f"{tally.kills.total()} kills ({who}) in {tally.commands} commands and {tables} results: {spent:.0f} s, "
        f"{spent - tables * took:.0f} s more than undisturbed; finished units done again: {tally.again}; commands that "
        f"hung: {tally.hung}"
    )
    return 0 if right and not tally.hung else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m tests.chaos.kills", description=__doc__)))
