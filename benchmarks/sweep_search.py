"""Does the sweep find a good config sooner than random search in the same space?

    python -m benchmarks.sweep_search --seeds 5                                        # real trainings, both ways
    python -m benchmarks.sweep_search --seeds 100 --table runs/sweep_search/table.json # trained once, searched often

Both searches run without Ray, through the searcher and the scoring function of study.sweep. Compute is counted in
photos shown in training (epochs x photos of the folds that ran), not in seconds. Random search draws from the same
space, is given no point to begin with, and prunes nothing.

With --table, configs drawn at random from the space are trained once, each on every fold, and a search is answered
with the nearest of those (same choices, nearest numbers in the space's own scale): the trainings are real and the
searches replays, so that there can be many. A replay cannot find anything better than the best of the table.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import tyro
from matplotlib.figure import Figure

from search_spaces import find_space
from study.folds import Fold, person_folds
from study.sweep.search import JournalSearch, Tried, best
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.names import folder_name
from trainables.trial import HALFWAY, hopeless, people_mae, score_folds


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
    folds: int = 3
    trials: int = 24
    """Of random search; the sweep stops at the same compute."""
    seeds: int = 5
    prune: float = 0.1
    lag: int = 4
    """Trials that a trial's knowledge is behind: 4 is what two side by side have."""
    table: Path | None = None
    """Train the table into this file, or go on with it, and search in it."""
    points: int = 72
    """Configs of a table."""
    out: Path = Path("runs/sweep_search")
    """Folder for curves.json and curves.png."""


Rival = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Curve:
    """A search: after each of its trials, the photos shown so far and the least MAE (years) found so far."""

    photos: list[int]
    least: list[float]


class RandomSearch(JournalSearch):
    """The same questions, drawn uniformly."""

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(seed=seed)


class Bench:
    """The faces, their folds, and how a config is answered: by training, or from the table."""

    def __init__(self, options: Options) -> None:
        self.options, self.space = options, find_space(options.space)
        self.base = TrialConfig(px=options.px, epochs=options.epochs)
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

    def shown(self, folds: int) -> int:
        """Photos shown when so many folds are trained."""
        return self.options.epochs * sum(len(fold.train) for fold in self.folds[:folds])

    def train(self, config: TrialConfig, rival: Rival | None, prune: float) -> dict[str, Any]:
        """The last row of a real trial."""
        rows: list[dict[str, Any]] = []
        folds = [(fold.train, fold.test) for fold in self.folds]
        score_folds(config, self.faces, folds, rival=rival, prune_p=prune, report=rows.append)
        half = [row["validation_mae"] for row in rows if row["step"] == self.options.epochs // 2]
        return {**rows[-1], "halfway_mae": half[0] if half else None}

    def look_up(self, params: Mapping[str, Any], rival: Rival | None, prune: float) -> dict[str, Any]:
        """The last row of the nearest trial of the table, pruned where a real one would be."""
        row = min(self.table, key=lambda known: distance(params, known["params"]))["row"]
        if row["state"] == "diverged":
            return {**row, "fold": 0}
        if hopeless(row["halfway"], rival["halfway"] if rival else None, p=HALFWAY * prune):
            early = {"people": {}, "halfway": row["halfway"], "mae": row["halfway_mae"]}
            return {"state": "pruned", "fold": 0, "step": self.options.epochs // 2, **early}
        predicted = {int(face): years for face, years in row["predicted"].items()}
        for number in range(len(self.folds) - 1):
            seen = {int(face): predicted[int(face)] for fold in self.folds[: number + 1] for face in fold.test}
            people = people_mae(self.faces, seen)
            if hopeless(people, rival["people"] if rival else None, p=prune):
                error = [abs(years - self.faces.age[face]) for face, years in seen.items()]
                return {**row, "state": "pruned", "fold": number, "mae": float(np.mean(error)), "people": people}
        return row

    def search(self, kind: type[JournalSearch], *, seed: int, prune: float, photos: int) -> Curve:
        """One search from an empty journal until so many photos were shown."""
        journal: dict[int, Tried] = {}
        first = self.space.first if kind is JournalSearch else ()
        search = kind(
            replace(self.space, first=first), self.base, journal, trials=10**6, lag=self.options.lag, seed=seed,
            pretrained=self.pretrained,
        )  # fmt: skip
        curve, spent = Curve([], []), 0
        while spent < photos:
            point = search.suggest(str(len(journal)))
            config = TrialConfig.from_json(point["trial"])
            row = (
                self.look_up(point["params"], point["rival"], prune)
                if self.table
                else self.train(config, point["rival"], prune)
            )
            number = point["number"]
            whole = bool(row.get("people"))  # else it ended halfway through its first fold, or diverged
            folds = {str(fold): row["mae"] for fold in range(row["fold"] + whole)}
            journal[number] = Tried(
                number, row["state"], point["trial"], point["params"], row["mae"], row.get("people", {}), folds=folds,
                halfway=row.get("halfway", {}),
            )  # fmt: skip
            early = row["state"] == "pruned" and not whole
            epochs = self.options.epochs
            spent += self.shown(1) * (epochs // 2) // epochs if early else self.shown(row["fold"] + 1)
            leader = best(journal)
            curve.photos.append(spent)
            curve.least.append(leader.mae if leader and leader.mae is not None else float("inf"))
        return curve

    def fill_table(self, file: Path) -> None:
        """Train what the table still lacks, a file's worth a config, so that a kill costs one training."""
        if file.is_file():
            self.table = json.loads(file.read_text())
        search = RandomSearch(
            replace(self.space, first=()), self.base, {}, trials=10**6, lag=10**6, seed=12345,
            pretrained=self.pretrained,
        )  # fmt: skip
        for number in range(self.options.points):
            point = search.suggest(str(number))
            if number < len(self.table):
                continue
            began = time.monotonic()
            row = self.train(TrialConfig.from_json(point["trial"]), None, 0.0)
            self.table.append({"params": point["params"], "row": row})
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".tmp").write_text(json.dumps(self.table))
            file.with_suffix(".tmp").replace(file)
            took = time.monotonic() - began
            print(f"  table {number + 1}/{self.options.points}: MAE {row['mae']:.2f}, {took:.1f} s", flush=True)


def distance(params: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[int, float]:
    """How far two points are apart: choices that differ, then numbers, in factors of e (the weights are log-scaled)."""
    numbers = [name for name, value in params.items() if isinstance(value, float) and name in known]
    choices = [name for name, value in params.items() if not isinstance(value, float)]
    differ = sum(params[name] != known.get(name) for name in choices)
    return differ, float(np.sqrt(sum(np.log(params[name] / known[name]) ** 2 for name in numbers)))


def least_at(curve: Curve, photos: np.ndarray) -> np.ndarray:
    """The least MAE found by each amount of compute; NaN before the first complete trial."""
    at = np.searchsorted(curve.photos, photos, side="right") - 1
    found = np.where(at >= 0, np.array(curve.least)[np.maximum(at, 0)], np.inf)
    return np.where(np.isfinite(found), found, np.nan)


def reached(curve: Curve, value: float) -> float:
    """Photos shown until a value this low was found; infinity where it never was."""
    return next((float(p) for p, least in zip(curve.photos, curve.least, strict=True) if least <= value), np.inf)


def draw(curves: Mapping[str, Sequence[Curve]], budget: int, file: Path, title: str) -> None:
    """Mean and 95 % interval over seeds of the least MAE found, by compute."""
    figure = Figure(figsize=(7.5, 4.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    photos = np.linspace(0.04 * budget, budget, 200)
    for (name, each), colour in zip(curves.items(), ("#0072B2", "#D55E00"), strict=True):
        values = np.array([least_at(curve, photos) for curve in each])
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
        axes.plot(photos / budget, mean, color=colour, label=name)
        axes.fill_between(photos / budget, mean - 1.96 * spread, mean + 1.96 * spread, color=colour, alpha=0.18, lw=0)
    axes.set(
        xlabel="share of random search's compute (epochs x photos)", ylabel="least MAE so far (years)", xlim=(0, 1)
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title(title, fontsize=10, loc="left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def main(options: Options) -> int:
    """Both searches with every seed; status 1 where the sweep's mean curve takes more than half of chance's compute."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench = Bench(options)
    print(f"{len(bench.faces)} faces of {len(bench.faces.people)} people, {options.px} px", flush=True)
    if options.table:
        bench.fill_table(options.table)
    budget = options.trials * bench.shown(options.folds)
    kinds = {
        "the sweep: TPE and pruning": partial(bench.search, JournalSearch, prune=options.prune),
        "random search": partial(bench.search, RandomSearch, prune=0.0),
    }
    curves: dict[str, list[Curve]] = {name: [] for name in kinds}
    for seed in range(options.seeds):
        for name, search in kinds.items():
            curves[name].append(search(seed=seed, photos=budget))
        if not options.table:
            ends = ", ".join(f"{name} {each[-1].least[-1]:.2f}" for name, each in curves.items())
            print(f"  seed {seed}: {ends}", flush=True)
    ours, chance = curves.values()
    photos = np.linspace(0, budget, 1001)
    mean = np.array([least_at(curve, photos) for curve in ours]).mean(axis=0)
    goal = float(np.mean([least_at(curve, np.array([budget]))[0] for curve in chance]))
    under = np.flatnonzero(mean <= goal)
    share = float(photos[under[0]] / budget) if len(under) else float("inf")
    # seed by seed: what one user with one sweep sees
    pairs = [reached(a, b.least[-1]) / reached(b, b.least[-1]) for a, b in zip(ours, chance, strict=True)]
    by_seed = [reached(a, b.least[-1]) / budget for a, b in zip(ours, chance, strict=True)]
    trials = np.mean([len(curve.photos) for curve in ours])
    way = f"replayed over {len(bench.table)} real trials" if options.table else "real trainings"
    print(
        f"{options.seeds} seeds, {way}: random search of {options.trials} trials ends at MAE {goal:.3f} (mean); "
        f"the sweep's mean is there after {share:.2f} of that compute and ends at {mean[-1]:.3f} "
        f"({trials:.0f} trials)\n"
        f"seed by seed, the compute to random search's best value is {np.median(by_seed):.2f} of its whole "
        f"budget (median; reached in {np.isfinite(by_seed).sum()} of {options.seeds}), and "
        f"{np.median(pairs):.2f} of what random search itself took to find it"
    )
    file = options.out / "curves.png"
    draw(curves, budget, file, f"{options.space}, {len(bench.faces.people)} drawn people, {options.seeds} seeds, {way}")
    record = {name: [asdict(curve) for curve in each] for name, each in curves.items()}
    (options.out / "curves.json").write_text(json.dumps({"budget": budget, "curves": record}))
    print(f"Curves: {file}")
    return 0 if share <= 0.5 else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m benchmarks.sweep_search", description=__doc__)))
