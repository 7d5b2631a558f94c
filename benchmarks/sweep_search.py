"""Does the sweep find a good config sooner than chance, and does it still on a wide machine?

    python -m benchmarks.sweep_search --table runs/sweep_search/table.json

Configs drawn at random from a space are trained once, each on every fold: the table. Searches are then replayed over
it with many seeds: a question is answered with the nearest config of the table (same choices, nearest numbers in the
space's own scale). The trainings are real, the searches replays: none can find anything better than the table's best.

For each width, a machine that trains so many folds side by side runs a whole sweep of several blocks at once, event by
event, through the code that study.sweep runs (study.sweep.search, without Ray). Next to it, on the same machine: random
search in the same space; the sweep without the space's first points, which are the papers' own and often good; and
Optuna's own TPESampler with its WilcoxonPruner or HyperbandPruner, told each result as soon as there is one, as Ray's
OptunaSearch does. These two are not reproducible on a real machine, since their questions depend on who was faster.

Compute is photos shown in training (epochs x photos), of folds under way and of folds trained for nothing too. A round
is the time of one fold's training.
"""

from __future__ import annotations

import heapq
import itertools
import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import tyro

from benchmarks.search_curves import Curve, draw, ends_at, first_under
from search_spaces import Space, find_space
from study.folds import Fold, person_folds
from study.sweep.journal import Part, Tried, best, join
from study.sweep.plan import side_by_side
from study.sweep.search import BlockSearch, Training, next_training
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.fitting import freeze
from trainables.frozen.cache import FeaturesCache, what_is_seen
from trainables.names import folder_name
from trainables.trial import HALFWAY, hopeless, people_mae, score_fold


@dataclass(frozen=True)
class Options:
    """The space, the faces, and the number of repetitions."""

    faces: tuple[Path, ...] = (Path("runs/synthetic/people"),)
    pretrained: Path = Path("runs/synthetic/pretrained")
    """Backbones found there start from their checkpoint."""
    space: str = "tour"
    people: int = 40
    """The first so many people."""
    px: int = 32
    epochs: int = 2
    frozen: int = 0
    """Early stages that stay as they were pretrained: a table in minutes rather than an hour."""
    folds: int = 3
    trials: int = 24
    """Of random search, in each block; a search stops at the same compute."""
    widths: tuple[int, ...] = (2, 8, 16, 64)
    """Folds side by side."""
    blocks: int = 4
    """Blocks of a sweep, which share the machine."""
    seeds: int = 100
    """Searches of each kind and width: seeds / blocks sweeps."""
    prune: float = 0.1
    table: Path = Path("runs/sweep_search/table.json")
    """The trained configs; those that are missing are trained first."""
    points: int = 72
    """Configs of the table."""
    out: Path = Path("runs/sweep_search")
    """Folder for the picture."""


warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # WilcoxonPruner


class RandomSearch(BlockSearch):
    """The same questions, drawn uniformly; nothing is pruned."""

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(seed=seed)


class WithoutFirstPoints(BlockSearch):
    """The sweep, whose first trials are drawn like random search's."""


class OptunasOwn(BlockSearch):
    """Optuna's sampler and pruner with their defaults, told all that is known at the moment; folds in order."""

    pruner: optuna.pruners.BasePruner

    def _tell_up_to(self, number: int) -> bool:
        self.study.pruner = self.pruner
        return len(self.begun) < self.lag

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return self.study.sampler if self.asked else optuna.samplers.TPESampler(seed=seed)

    def side_fold(self) -> Training | None:
        return None

    def _rival(self, config: TrialConfig) -> Tried | None:
        return None

    def _state(self, key: tuple[int, int], begun: Any) -> str | None:
        state, (trial, _) = None, self.asked[key[0]]
        part = begun.parts.get(begun.passed)
        if part is None:
            return None
        if part.state != "complete":
            state = part.state
        elif begun.passed + 1 == self.folds:
            state = "complete"
        else:
            self._report(trial, begun, part)
            state = "pruned" if trial.should_prune() else None
            begun.passed += state is None
        if state:
            self._tell(trial, state, self._mae(begun, begun.passed))
        return state

    def _report(self, trial: optuna.Trial, begun: Any, part: Part) -> None:
        """The MAE after each fold: a fold is the resource."""
        trial.report(self._mae(begun, part.fold), part.fold + 1)

    def _mae(self, begun: Any, fold: int) -> float:
        return join([begun.parts[f] for f in range(fold + 1)], "", {}, parameters=0, macs=0).mae or 0.0

    def _tell(self, trial: optuna.Trial, state: str, mae: float | None) -> None:
        if state == "complete":
            self.study.tell(trial, mae)
        else:  # a pruned trial's reports are its value
            states = {"pruned": optuna.trial.TrialState.PRUNED}
            self.study.tell(trial, state=states.get(state, optuna.trial.TrialState.FAIL))


class OptunasWilcoxon(OptunasOwn):
    """Reports each person's MAE, as WilcoxonPruner wants it: its steps are the people."""

    pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1)

    def _report(self, trial: optuna.Trial, begun: Any, part: Part) -> None:
        for who, mae in part.people.items():
            trial.report(mae, step=int.from_bytes(who.encode()[-6:], "big"))


class OptunasHyperband(OptunasOwn):
    """Successive halving over folds."""

    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=3)


class Bench:
    """The faces, their folds, and the table of trained configs."""

    def __init__(self, options: Options) -> None:
        self.options, self.space = options, find_space(options.space)
        self.base = TrialConfig(px=options.px, epochs=options.epochs, frozen=options.frozen, frozen_views=2)
        self.features = FeaturesCache()
        faces = load_faces(options.faces, px=options.px)
        chosen = np.flatnonzero(np.isin(faces.person, faces.people[: options.people]))
        self.faces: Faces = replace(
            faces,
            pixels=faces.pixels[chosen],
            age=faces.age[chosen],
            person=faces.person[chosen],
            photo=faces.photo[chosen],
            content=faces.content[chosen],
        )
        self.folds: list[Fold] = person_folds(self.faces, folds=options.folds, seed=0)
        places = {name: options.pretrained / folder_name(name) for name in self.space.backbones}
        self.pretrained = {name: str(place) for name, place in places.items() if place.is_dir()}
        self.table: list[dict[str, Any]] = []
        self.known: list[list[Part]] = []

    def shown(self, fold: int) -> int:
        """Photos shown in a fold's training."""
        return self.options.epochs * len(self.folds[fold].train)

    def search(self, kind: type[BlockSearch], *, seed: int, lag: int, prune: float, space: Space) -> BlockSearch:
        return kind(
            space, self.base, {}, trials=10**6, folds=len(self.folds), lag=lag, seed=seed,
            pretrained=self.pretrained, prune=prune,
        )  # fmt: skip

    def fill_table(self, file: Path) -> None:
        """Train what the table still lacks; a kill costs one config."""
        if file.is_file():
            self.table = json.loads(file.read_text())
        asking = self.search(RandomSearch, seed=12345, lag=10**6, prune=0.0, space=replace(self.space, first=()))
        for number in range(self.options.points):
            asking._ask(number)
            if number < len(self.table):
                continue
            began, (trial, config) = time.monotonic(), asking.asked[number]
            self.table.append({"params": trial.params, "folds": [self._train(config, fold) for fold in self.folds]})
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".tmp").write_text(json.dumps(self.table))
            file.with_suffix(".tmp").replace(file)
            took = time.monotonic() - began
            print(f"  table {number + 1}/{self.options.points}: {took:.1f} s", flush=True)
        self.known = [[self._part(fold, each) for fold, each in enumerate(row["folds"])] for row in self.table]

    def _train(self, config: TrialConfig, fold: Fold) -> dict[str, Any]:
        """What a fold's real training gave: its state, predicted ages, and the errors halfway."""
        rows: list[dict[str, Any]] = []
        source = self.features.get(what_is_seen(config), lambda: freeze(config, self.faces, None, "cpu"))
        score_fold(config, self.faces, fold.train, fold.test, source=source, report=rows.append)
        half = [row["validation_mae"] for row in rows if row["epoch"] == self.options.epochs // 2]
        kept = {name: rows[-1].get(name, {}) for name in ("state", "predicted", "halfway")}
        return {**kept, "halfway_mae": half[0] if half else None}

    def _part(self, fold: int, kept: Mapping[str, Any]) -> Part:
        if kept["state"] != "complete":
            return Part(0, 0, fold, kept["state"], {}, 100.0)
        predicted = {int(row): years for row, years in kept["predicted"].items()}
        mae = float(np.mean([abs(years - self.faces.age[row]) for row, years in predicted.items()]))
        years = {str(row): value for row, value in predicted.items()}
        people = people_mae(self.faces, predicted)
        return Part(0, 0, fold, "complete", {}, mae, people, years, halfway=kept["halfway"])

    def answer(self, training: Training, prune: float) -> tuple[Part, float]:
        """A fold's result, and the photos that it shows."""
        nearest = min(range(len(self.table)), key=lambda n: distance(training.params, self.table[n]["params"]))
        part = replace(
            self.known[nearest][training.fold], number=training.number, repeat=training.repeat,
            trial=training.config.to_json(),
        )  # fmt: skip
        shown = float(self.shown(training.fold))
        first = part.state == "complete" and training.fold == 0
        if first and hopeless(part.halfway, training.rival, p=HALFWAY * prune):
            halfway = self.table[nearest]["folds"][0]["halfway_mae"]
            share = (self.options.epochs // 2) / self.options.epochs
            return replace(part, state="pruned", mae=halfway, people={}, predicted={}), shown * share
        return part, shown

    def sweep(self, kind: type[BlockSearch], *, width: int, seed: int) -> list[Curve]:
        """A sweep of all blocks on a machine of this width, until each block has shown random search's photos."""
        options = self.options
        prune = 0.0 if kind is RandomSearch else options.prune
        space = self.space if kind is BlockSearch else replace(self.space, first=())
        lag = side_by_side(width, options.blocks, options.trials)
        if issubclass(kind, OptunasOwn):
            lag = max(1, width // options.blocks)
        blocks = [
            self.search(kind, seed=seed * options.blocks + block, lag=lag, prune=prune, space=space)
            for block in range(options.blocks)
        ]
        machine = Machine(width, budget=options.trials * sum(map(self.shown, range(options.folds))))
        while (place := machine.free(blocks)) is not None:
            index, training = place
            part, photos = self.answer(training, prune)
            machine.start(index, training, part, photos, rounds=photos / self.shown(0))
        return machine.curves(blocks)


class Machine:
    """Places that train side by side, in simulated time."""

    def __init__(self, width: int, *, budget: float) -> None:
        self.width, self.budget, self.now = width, budget, 0.0
        self.queue: list[tuple[float, int]] = []
        self.jobs: dict[int, tuple[int, Training, Part, float, float, float]] = {}  # block, ..., photos, began, ends
        self.count = itertools.count()
        self.spent: dict[int, float] = {}
        self.found: dict[int, Curve] = {}

    def free(self, blocks: Sequence[BlockSearch]) -> tuple[int, Training] | None:
        """The next training for a free place; time passes until there is one. None at the end."""
        while True:
            open_ = [index for index in range(len(blocks)) if self.used(index) < self.budget]
            if len(self.jobs) < self.width and open_:
                found = next_training([blocks[index] for index in open_])
                if found:
                    return open_[found[0]], found[1]
            if not self.jobs or not open_:
                return None
            self._pass(blocks)

    def start(self, index: int, training: Training, part: Part, photos: float, *, rounds: float) -> None:
        job = next(self.count)
        self.jobs[job] = (index, training, part, photos, self.now, self.now + rounds)
        heapq.heappush(self.queue, (self.now + rounds, job))

    def used(self, index: int) -> float:
        """Photos that a block has shown by now, those of its running folds so far too."""
        under_way = sum(
            photos * (self.now - began) / (ends - began)
            for block, _, _, photos, began, ends in self.jobs.values()
            if block == index
        )
        return self.spent.get(index, 0.0) + under_way

    def _pass(self, blocks: Sequence[BlockSearch]) -> None:
        """Until the next fold ends, and with it those of trials that are over by it."""
        self.now, job = heapq.heappop(self.queue)
        if job not in self.jobs:
            return
        index, _, part, photos, *_ = self.jobs.pop(job)
        self.spent[index] = self.spent.get(index, 0.0) + photos
        blocks[index].receive(part)
        blocks[index].take_over()
        for other, (block, training, _, shows, began, ends) in list(self.jobs.items()):
            if block == index and blocks[index].is_over(training.key):
                self.spent[index] += shows * (self.now - began) / (ends - began)
                del self.jobs[other]
        leader = best(blocks[index].journal)
        curve = self.found.setdefault(index, Curve())
        if leader and leader.mae is not None and (not curve.least or leader.mae < curve.least[-1]):
            curve.photos.append(self.used(index))
            curve.rounds.append(self.now)
            curve.least.append(leader.mae)

    def curves(self, blocks: Sequence[BlockSearch]) -> list[Curve]:
        for index, curve in self.found.items():
            curve.trials = len(blocks[index].journal)
        return list(self.found.values())


def distance(params: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[int, float]:
    """How far two points are apart: choices that differ, then numbers, in factors of e (the weights are log-scaled)."""
    numbers = [name for name, value in params.items() if isinstance(value, float) and name in known]
    choices = [name for name, value in params.items() if not isinstance(value, float)]
    differ = sum(params[name] != known.get(name) for name in choices)
    return differ, float(np.sqrt(sum(np.log(params[name] / known[name]) ** 2 for name in numbers)))


KINDS: dict[str, type[BlockSearch]] = {
    "the sweep": BlockSearch,
    "the sweep, no first points": WithoutFirstPoints,
    "Optuna's TPE, WilcoxonPruner": OptunasWilcoxon,
    "Optuna's TPE, HyperbandPruner": OptunasHyperband,
}


def main(options: Options) -> int:
    """The table of widths; status 1 where the sweep misses its bar: half of random search's compute, 3/4 beyond 16."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bench = Bench(options)
    print(f"{len(bench.faces)} faces of {len(bench.faces.people)} people, {options.px} px", flush=True)
    bench.fill_table(options.table)
    budget = options.trials * sum(map(bench.shown, range(options.folds)))
    sweeps = range(max(1, options.seeds // options.blocks))
    chance = [curve for seed in sweeps for curve in bench.sweep(RandomSearch, width=options.blocks, seed=seed)]
    goal = ends_at(chance, budget)
    count = len(chance)
    print(
        f"{count} searches of each kind, replayed over {len(bench.table)} trained configs; random search of "
        f"{options.trials} trials ends at MAE {goal:.3f} (mean)\n\n"
        f"{'width':>5}  {'search':<30} {'knows all but':>13}  {'compute to chance’s end':>24}  "
        f"{'rounds, of chance’s':>20}  {'ends at':>8}  trials",
        flush=True,
    )
    curves: dict[int, dict[str, list[Curve]]] = {}
    missed = False
    for width in options.widths:
        curves[width] = {}
        lag = side_by_side(width, options.blocks, options.trials)
        rounds = options.trials * options.folds * options.blocks / width
        for name, kind in KINDS.items():
            each = [curve for seed in sweeps for curve in bench.sweep(kind, width=width, seed=seed)]
            curves[width][name] = each
            share, low, high = (value / budget for value in first_under(each, goal, budget))
            took = first_under(each, goal, 2 * rounds, "rounds")[0] / rounds
            late = "the running" if issubclass(kind, OptunasOwn) else f"{lag - 1}"
            print(
                f"{width:>5}  {name:<30} {late:>13}  {share:>10.2f} ({low:.2f} to {high:.2f})  {took:>20.2f}  "
                f"{ends_at(each, budget):>8.3f}  {np.mean([curve.trials for curve in each]):.0f}",
                flush=True,
            )
            missed |= kind is BlockSearch and share > (0.5 if width <= 16 else 0.75)
    options.out.mkdir(parents=True, exist_ok=True)
    draw(curves, chance, budget, options.out / "widths.png", title=f"{options.space}, {count} searches a line")
    print(f"\nPicture: {options.out / 'widths.png'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m benchmarks.sweep_search", description=__doc__)))
