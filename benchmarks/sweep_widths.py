"""Does study.sweep still search on a wide machine? A real sweep on a simulated one, of 8 or of 64 CPUs.

    python -m benchmarks.sweep_widths --width 64

Runs study.sweep's own code (command, plan, search, Ray Tune, journal, MLflow, finalists, best.json), on a Ray that is
told that it has so many CPUs. Only two things are replaced: the trainable, whose fold sleeps and whose error is a known
function of the config (error_of) with noise on each person and photo, and the measurement of what networks cost.
Nothing is pruned halfway through a fold: that look is in the trainable.

Prints the processes that trained folds, which trials a trial knows, how many were pruned, the folds trained (all, and
those that count), and how the trials after the space's first points differ from those that random search asks with the
same seeds: in the mean distance of their parameters, and in the mean of the known error. Then the wall time in folds,
next to what it would be if every place were busy all the time. Status 1 where no trial was pruned or where all are
random search's.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import tyro
from ray import tune

from benchmarks.sweep_search import RandomSearch, distance
from search_spaces import find_space
from study.cli.options import Joining, Training
from study.sweep import command, ray_tune
from study.sweep.journal import read_finals, read_journal
from study.sweep.options import Sweep
from study.sweep.search import STARTUP
from trainables.faces.table import load_faces


@dataclass(frozen=True)
class Options:
    """The machine, and the sweep."""

    width: int = 8
    """CPUs that Ray is told it has."""
    faces: Path = Path("runs/synthetic/people")
    space: str = "study"
    trials: int | None = None
    """Default: study.sweep's."""
    blocks: int = 4
    px: int = 64
    seconds: float = 2.0
    """What a fold sleeps on average; from half to one and a half of that, by trial and fold."""


def error_of(trial: Mapping[str, Any], networks: tuple[str, ...]) -> float:
    """The known error (years) of a config as JSON: 4 at its least. Networks differ by up to 1.5 years, both lambdas and
    the learning rate have a best value in the middle of their ranges."""
    loss, rate = trial["loss"], trial["learning_rate"]
    error = 4.0 + 1.5 * (networks.index(trial["backbone"]) * 7 % len(networks)) / len(networks)
    error += 0.8 * np.log10(rate / 7e-4) ** 2 + 3.0 * abs(trial["drop_path"] - 0.1)
    for weight, best in ((loss["mean_weight"], 0.3), (loss["variance_weight"], 0.02)):
        error += 0.5 * np.log10(weight / best) ** 2 if weight else 0.8
    return float(error)


def sleeping(
    point: Mapping[str, Any],
    *,
    folds: Mapping[str, Any],
    age: np.ndarray,
    person: np.ndarray,
    networks: tuple[str, ...],
    seconds: float,
    log: str,
    **unused: Any,
) -> None:
    """In place of trainables.trial.tune_trial, with its rows. It lies in this module, the main one, so that it travels
    to Ray's processes by value: they load no torch, and 64 of them fit into a small machine."""
    draw = np.random.default_rng([point["number"], point["fold"], point["repeat"], len(point["block"])])
    with open(log, "a") as file:  # one short line: appended whole
        file.write(f"{os.getpid()}\n")
    sleeps = seconds * draw.uniform(0.5, 1.5)
    _, rows = folds[point["block"]][point["fold"]]
    names, which = np.unique(person[rows], return_inverse=True)
    hard = np.random.default_rng(0).lognormal(0, 0.3, len(names))  # some people are hard for every network
    off = error_of(point["trial"], networks) * hard[which] * draw.lognormal(0, 0.5, len(rows))
    predicted = age[rows] + off * draw.choice([-1, 1], len(rows))
    error = np.abs(predicted - age[rows])
    people = {str(name): float(error[which == index].mean()) for index, name in enumerate(names)}
    half = {name: 1.3 * mae for name, mae in people.items()}
    row = {"validation_mae": float(error.mean()), "fold": point["fold"], "latency_ms": 1.0}
    time.sleep(sleeps / 2)
    tune.report({**row, "epoch": 1, "state": "running", "fold_seconds": sleeps / 2})
    time.sleep(sleeps / 2)
    tune.report(
        {
            **row,
            "epoch": 2,
            "state": "complete",
            "fold_seconds": sleeps,
            "mae": float(error.mean()),
            "people": people,
            "decoded": dict.fromkeys(("expectation", "median", "argmax"), people),
            "halfway": half,
            "predicted": dict(zip(rows.tolist(), predicted.tolist(), strict=True)),
        }
    )


def run_sweep(options: Options, place: Path) -> tuple[float, float, list[str]]:
    """The sweep, in a folder of its own: its wall seconds in training, the command's CPU seconds meanwhile, and the
    process of each fold."""
    faces = load_faces([options.faces], px=options.px)
    log = place / "folds.log"
    networks = find_space(options.space).backbones
    known = {"age": faces.age.astype(float), "person": faces.person.astype(str), "networks": networks}
    stand_in: Any = partial(sleeping, **known, seconds=options.seconds, log=str(log))
    tuning, whole = cast(Any, ray_tune), cast(Any, command)
    tuning.tune_trial, whole.measure = stand_in, lambda *args, **kept: {}
    walls: list[tuple[float, float]] = []
    run_blocks = command.run_blocks

    def timed(*args: Any) -> None:
        began, busy = time.monotonic(), time.process_time()
        run_blocks(*args)
        walls.append((time.monotonic() - began, time.process_time() - busy))

    whole.run_blocks = timed
    command.sweep(
        Sweep(
            training=Training(px=options.px), space=options.space, faces=(options.faces,), trials=options.trials,
            blocks=options.blocks, pretrained=place / "none", out=place / "sweeps", ray=Joining(cpus=options.width),
        )
    )  # fmt: skip
    return *walls[0], log.read_text().split()


@dataclass(frozen=True)
class Asked:
    """A finished sweep's trials. folds, seconds: of those that count. apart: how far each trial after the first points
    is from random search's of the same number and seed; errors, chance: the known error of both."""

    lag: int
    states: list[str]
    folds: int
    seconds: float
    apart: np.ndarray
    errors: np.ndarray
    chance: np.ndarray


def compare(options: Options, folder: Path) -> Asked:
    """The trials of a finished sweep next to random search's."""
    space = find_space(options.space)
    rows, states, folds, seconds = [], list[str](), 0, 0.0
    for block in sorted(place for place in folder.glob("block*") if place.is_dir()):
        journal = read_journal(block)
        base = journal[0].config
        random = RandomSearch(
            space, base, {}, trials=len(journal), folds=3, lag=10**6, seed=base.seed, pretrained={}, prune=0.0
        )
        for number, tried in sorted(journal.items()):
            random._ask(number)
            trial, config = random.asked[number]
            states.append(tried.state)
            if number >= max(STARTUP, len(space.first)):
                errors = [error_of(each, space.backbones) for each in (tried.trial, config.to_json())]
                rows.append([sum(distance(tried.params, trial.params)), *errors])
        for tried in [*journal.values(), *read_finals(block)]:
            folds, seconds = folds + len(tried.folds), seconds + tried.seconds
    lag = json.loads((folder / "sweep.json").read_text())["lag"]
    return Asked(lag, states, folds, seconds, *np.array(rows).T)


def main(options: Options) -> int:
    """The figures; status 1 where the sweep prunes nothing or asks what random search asks."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        # Else Ray starts a process of 200 MB for each of the CPUs that are not there, before one is needed
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        wall, busy, processes = run_sweep(options, place)
        asked = compare(options, place / "sweeps" / options.space)
    gain = asked.chance - asked.errors
    spread = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    took, least = (each / options.seconds for each in (wall, asked.seconds / options.width))
    differ = int((asked.apart > 0).sum())
    print(
        f"""
width {options.width}: {len(set(processes))} processes trained folds
each trial knows all before it but the last {asked.lag - 1}
pruned: {asked.states.count("pruned")} of {len(asked.states)} trials
folds: {len(processes)} trained, of which {asked.folds} count (finalists' seeds too)
after the first points: {differ} of {len(asked.apart)} trials are not random search's of the same seeds; mean distance \
{asked.apart.mean():.2f}
their known error: {asked.errors.mean():.2f}, of random search's {asked.chance.mean():.2f} \
(better by {gain.mean():.2f} ± {spread:.2f})
the command's own CPU time: {1000 * busy / len(processes):.0f} ms a fold
rounds: {took:.1f} folds long, {least:.1f} if all places were always busy"""
    )
    return 0 if "pruned" in asked.states and differ else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m benchmarks.sweep_widths", description=__doc__)))
