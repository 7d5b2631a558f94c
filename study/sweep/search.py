"""The sweep's memory: Optuna's sampler behind Ray Tune's searcher, and a journal of finished trials on disk.

The journal (one JSON file a trial) is the source of truth: a killed sweep starts again with the finished trials told to
a fresh in-memory Optuna study in order, and the interrupted ones asked again with the same parameters. Nothing is
unpickled. Trial n knows the trials up to n - LAG and no later one, however fast they were: a rerun of the same command
asks the same questions, whatever the timing.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from ray.tune.search import Searcher

from search_spaces import Space
from study.files.seals import DIGEST, seal, unseal
from study.files.storage import write_whole
from study.sweep.journal import check_predicted, check_record
from trainables.config import TrialConfig
from trainables.costs import count_cost
from trainables.faces.table import Faces

Objective = Literal["mae", "mae+macs", "mae+parameters", "mae+latency"]
"""What the sampler is told: the MAE alone, or with it a cost, neither of which may then be bettered for nothing."""

COSTS = {"mae+macs": "macs", "mae+parameters": "parameters", "mae+latency": "latency_ms"}
"""The field of Tried that holds an objective's cost."""


def directions(objective: Objective) -> list[Literal["minimize", "maximize"]]:
    """MAE and, where the objective minds one, a cost: the less the better."""
    return ["minimize"] * (2 if objective in COSTS else 1)


@dataclass(frozen=True)
class Tried:
    """One finished trial. mae in years over the photos seen; people: each person's MAE; seconds in its process.

    halfway: MAE of the first fold's people after half of its epochs; a trial that was pruned there has no people yet.
    parameters and macs (a face's multiply-adds) are counted; latency_ms: a face's, alone, on the trial's device.
    repeat s > 0: a finalist again, with the config's seed + s (study.sweep.finalists).
    """

    number: int
    state: str
    trial: Mapping[str, Any]
    params: Mapping[str, Any]
    mae: float | None
    people: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)  # row of the faces table: years
    folds: Mapping[str, float] = field(default_factory=dict)  # fold: MAE of all folds so far
    seconds: float = 0.0
    why: str = ""
    parameters: int = 0
    macs: int = 0
    latency_ms: float = 0.0
    repeat: int = 0
    halfway: Mapping[str, float] = field(default_factory=dict)

    @property
    def config(self) -> TrialConfig:
        return TrialConfig.from_json(self.trial)


def write_tried(folder: Path, tried: Tried) -> None:
    """Into the journal, whole or not at all."""
    write_whole(folder / _file_name(tried), json.dumps(seal(asdict(tried)), sort_keys=True).encode())


def read_journal(folder: Path, faces: Faces | None = None) -> dict[int, Tried]:
    """Finished trials by number. Raises ValueError where a file is damaged or was changed by hand.

    faces: those the trials were scored on, to calculate each MAE again from what was predicted.
    """
    return {tried.number: tried for tried in (read_tried(file, faces) for file in sorted(folder.glob("*.json")))}


def read_tried(file: Path, faces: Faces | None = None) -> Tried:
    """One trial of a journal. Raises ValueError, naming file and field, where it is damaged or was changed."""
    try:
        record = json.loads(file.read_bytes())
        if not isinstance(record, dict):
            raise ValueError("expected a JSON object")
        told = {name: value for name, value in record.items() if name != DIGEST}
        check_record(told)
        tried = Tried(**told)
        if _file_name(tried) != file.name:
            raise ValueError(f"its number and repeat are those of {_file_name(tried)}")
        if faces is not None:
            check_predicted(asdict(tried), faces)
        unseal(record, where="it")  # last: the checks above can say which field
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no sound record of a trial: {error}; delete it to run that trial again") from error
    return tried


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted((there.keys() | now.keys()) - {"weights"})
    return [f"{n} {there.get(n)} there, {now.get(n)} now" for n in names if there.get(n) != now.get(n)]


def _file_name(tried: Tried) -> str:
    return f"{tried.number:05d}" + (f"-seed{tried.repeat}" if tried.repeat else "") + ".json"


def ranked(journal: Mapping[int, Tried]) -> list[Tried]:
    """The complete trials, that of the least MAE first; the earlier one of two equal."""
    complete = [t for t in journal.values() if t.state == "complete" and t.mae is not None and math.isfinite(t.mae)]
    return sorted(complete, key=lambda tried: (tried.mae, tried.number))


def best(journal: Mapping[int, Tried]) -> Tried | None:
    """The complete trial of the least MAE, if any is complete."""
    return next(iter(ranked(journal)), None)


class JournalSearch(Searcher):
    """Ray Tune's searcher over a space: asks Optuna, tells it what the journal holds."""

    def __init__(
        self, space: Space, base: TrialConfig, journal: dict[int, Tried], *, trials: int, lag: int, seed: int,
        pretrained: Mapping[str, str], ends: float | None = None, objective: Objective = "mae",
    ) -> None:  # fmt: skip
        """pretrained: the weights of a backbone, in place of base.weights. lag: see the module. ends: no trial is
        started after this time.monotonic()."""
        super().__init__(metric="validation_mae", mode="min")  # in every row; Tune asks for one
        self.space, self.base, self.trials, self.lag, self.pretrained = space, base, trials, lag, pretrained
        self.journal, self.ends, self.objective = journal, ends, objective
        self.numbers: dict[str, int] = {}
        self.asked: dict[int, tuple[optuna.Trial, TrialConfig]] = {}
        self.told = 0
        self.ended = False  # whether `ends` kept a trial from being started
        # The sampler is seeded anew for every trial (_ask): what it draws depends on the trials told, not on the past
        # of this process.
        self.study = optuna.create_study(directions=directions(objective), pruner=optuna.pruners.NopPruner())
        for point in space.first:
            self.study.enqueue_trial(dict(point))
        self.seed = seed

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config (a dict), Searcher.FINISHED, or None: not yet, an earlier trial must end first."""
        while (number := len(self.asked)) < self.trials:
            if self.ends is not None and time.monotonic() > self.ends and number not in self.journal:
                self.ended = True
                break
            if not self._tell_up_to(number - self.lag):
                return None
            self._ask(number)
            if number in self.journal:  # finished before this command was killed
                self._compare(number)
                continue
            self.numbers[trial_id] = number
            trial, config = self.asked[number]
            rival = self._rival(config)
            return {
                "trial": config.to_json(),
                "number": number,
                "params": dict(trial.params),
                "rival": {"people": dict(rival.people), "halfway": dict(rival.halfway)} if rival else None,
            }
        return Searcher.FINISHED

    def replay(self) -> None:
        """Ask again what the journal holds, as far as that can be known before the trials that are missing have run.

        Raises ValueError where another question was asked then. For a search that is thrown away.
        """
        most = max(self.journal, default=-1)
        while (number := len(self.asked)) <= most and self._tell_up_to(number - self.lag):
            self._ask(number)
            if number in self.journal:
                self._compare(number)

    def _compare(self, number: int) -> None:
        """Raise ValueError where the journal's trial is not the one asked here, before the sampler is told its MAE."""
        tried, (trial, config) = self.journal[number], self.asked[number]
        # what it starts from is compared by content, in sweep.json: a checkpoint's folder may have moved
        differ = _differences(tried.params, trial.params) or _differences(tried.config.flat(), config.flat())
        if differ:
            raise ValueError(
                f"trial {number} of the journal is not the one this sweep would ask for ({', '.join(differ[:4])}): the "
                "space, a range in it, Optuna or the file has changed since; go on with what the sweep began with, or "
                "begin a new one with another --name"
            )

    def _rival(self, config: TrialConfig) -> Tried | None:
        """The best of the trials told, whom a trial must not be worse than: with a cost, of those that cost no more."""
        told = {n: tried for n, tried in self.journal.items() if n < self.told}
        if self.objective == "mae":
            return best(told)
        if self.objective == "mae+latency":  # a clock: known for this very network alone, if it ran before
            same = (config.backbone, config.px)
            return best({n: t for n, t in told.items() if (t.config.backbone, t.config.px) == same})
        field = COSTS[self.objective]
        most = getattr(count_cost(config.backbone, config.px, config.ages), field)
        return best({n: tried for n, tried in told.items() if getattr(tried, field) <= most})

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Nothing: what ends a trial early is the trial's own paired test."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing: the sweep's callback writes the journal, which is read from here."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds it all, and a rerun reads that."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing; see save."""

    def _tell_up_to(self, number: int) -> bool:
        """Tell Optuna, in order, every trial up to `number`; False where one of them is still running."""
        while self.told <= number:
            tried = self.journal.get(self.told)
            if tried is None:
                return False
            trial, _ = self.asked[self.told]
            if tried.mae is None:
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            elif self.objective in COSTS:
                # Optuna prunes with one objective only: a pruned trial's MAE over fewer people stands for it
                self.study.tell(trial, [tried.mae, getattr(tried, COSTS[self.objective])])
            elif tried.state == "pruned":
                # its MAE is over fewer people; a pruned trial's last report is its value to TPE (step 0: halfway)
                trial.report(tried.mae, step=len(tried.folds))
                self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                self.study.tell(trial, tried.mae)
            self.told += 1
        return True

    def _ask(self, number: int) -> None:
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # multivariate, group
        warnings.filterwarnings("ignore", message=".*warn_independent_sampling", category=FutureWarning)
        self.study.sampler = self.sampler((self.seed * 100_003 + number) % 2**32)
        trial = self.study.ask()
        config = self.space.config(trial, self.base)
        if config.backbone in self.pretrained:
            config = config.replace(weights=self.pretrained[config.backbone])
        self.asked[number] = (trial, config)

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Who draws one trial."""
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, n_startup_trials=8, constant_liar=True,
            warn_independent_sampling=False,
        )  # fmt: skip
