"""One block's questions: which trial Optuna asks for next, which fold of it is trained next, and when a trial is over.

Nothing here depends on the clock, so that a rerun of the same command asks the same questions, however fast each
machine was:

- Trial n is asked when the trials up to n - lag are over, and the sampler knows those and no later one.
- A trial is trained fold by fold. After each fold but the last, the people tested so far are compared with the same
  people under its rivals (paired, Wilcoxon's signed-rank test); a trial that is worse is over, whatever its other
  folds, which may have been running side by side, would have given.
- Its rivals are the best complete trial that it knows and, after the first fold, the best first fold of the trials
  that were asked since: the peers that run side by side with it. A trial therefore meets rivals at any width.

Pure: no Ray, no file.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna

from search_spaces import Space
from study.sweep.finalists import finalists
from study.sweep.journal import Part, Tried, best, finals_folder, join
from study.sweep.options import Objective
from study.sweep.shares import Budget, choose_turn, could_be, spendings, turns
from trainables.config import TrialConfig
from trainables.costs import count_cost
from trainables.trial import hopeless

COSTS = {"mae+macs": "macs", "mae+parameters": "parameters", "mae+latency": "latency_ms"}
"""The field of Tried that holds an objective's cost."""

PEERS = 1.0
"""Level of the test against peers, as a share of --prune. Other levels were not measured."""

STARTUP = 8
"""Trials before the sampler draws from what it knows."""


def directions(objective: Objective) -> list[Literal["minimize", "maximize"]]:
    """MAE and, where the objective has one, a cost: both are minimised."""
    return ["minimize"] * (2 if objective in COSTS else 1)


@dataclass(frozen=True)
class Training:
    """One fold of a trial, to be trained now. rival: the halfway errors of the trial to beat, by person (years)."""

    number: int
    repeat: int
    fold: int
    config: TrialConfig
    params: Mapping[str, Any]
    rival: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, int]:
        """The trial, as (number, further seed)."""
        return self.number, self.repeat


@dataclass
class _Begun:
    """A trial that is not over. knew: trials that the sampler knew when it was asked. passed: folds that it passed."""

    config: TrialConfig
    params: Mapping[str, Any]
    rival: Tried | None = None
    knew: int = 0
    parts: dict[int, Part] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    passed: int = 0


class BlockSearch:
    """The trials of one block and its finalists' further seeds, in the order in which they are to be trained."""

    def __init__(
        self,
        space: Space,
        base: TrialConfig,
        journal: dict[int, Tried],
        *,
        trials: int,
        folds: int,
        lag: int,
        seed: int,
        pretrained: Mapping[str, str],
        prune: float = 0.0,
        ends: float | None = None,
        objective: Objective = "mae",
        finals: Sequence[Tried] = (),
        parts: Iterable[Part] = (),
        most: int = 0,
        seeds: int = 0,
        budget: Budget | None = None,
    ) -> None:
        """journal, finals, parts: what earlier runs of the command finished. lag: see the module. pretrained: weights
        of a backbone, in place of base.weights. ends: no trial is begun after this time.monotonic(). most, seeds: how
        many finalists, and how many further seeds of each."""
        self.space, self.base, self.trials, self.folds, self.lag = space, base, trials, folds, lag
        self.pretrained, self.prune, self.ends, self.objective = pretrained, prune, ends, objective
        self.journal, self.most, self.seeds, self.seed, self.budget = journal, most, seeds, seed, budget
        self.finals = {(tried.number, tried.repeat): tried for tried in finals}
        self.kept: dict[tuple[int, int], list[Part]] = {}
        for part in parts:
            key = (part.number, part.repeat)
            if key not in self.finals and (part.repeat or part.number not in journal):  # else a kill left its file
                self.kept.setdefault(key, []).append(part)
        self.asked: dict[int, tuple[optuna.Trial, TrialConfig]] = {}
        self.begun: dict[tuple[int, int], _Begun] = {}
        self.over: list[Tried] = []  # finished, and not yet taken by take_over
        self.told = 0
        self.ended = False  # whether `ends` kept a trial from being begun
        self._finals_begun = False
        # The sampler is seeded again for every trial (_ask): what it draws depends on the trials told, not on the past
        # of this process.
        self.study = optuna.create_study(directions=directions(objective), pruner=optuna.pruners.NopPruner())
        for point in space.first if budget is None else ():
            self.study.enqueue_trial(dict(point))

    # What to train next -----------------------------------------------------------------------------------------

    def next_fold(self) -> Training | None:
        """The next fold of a trial that passed all its tests so far."""
        for key, begun in sorted(self.begun.items()):
            fold = begun.passed
            if fold not in begun.running and fold not in begun.parts:
                return self._train(key, fold)
        return None

    def next_trial(self) -> Training | None:
        """The first fold of a trial that is yet to begin, if all that it must know is known."""
        while self._begin_trial() or self._begin_finals():
            if found := self.next_fold():  # none where the fold was there, from before a kill
                return found
        return None

    def side_fold(self) -> Training | None:
        """A later fold of a trial that passed its first one: it may turn out not to be needed."""
        for key, begun in sorted(self.begun.items(), key=lambda item: (-item[1].passed, item[0])):
            for fold in range(begun.passed + 1, self.folds if begun.passed else 0):
                if fold not in begun.running and fold not in begun.parts:
                    return self._train(key, fold)
        return None

    @property
    def running(self) -> int:
        """Folds that are being trained."""
        return sum(len(begun.running) for begun in self.begun.values())

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self._finals_begun and not self.begun

    @property
    def missing(self) -> int:
        """Trials and finalists' further seeds that are not over, at most."""
        finals = 0 if self._finals_begun else self.most * self.seeds
        seeds = sum(repeat > 0 for _, repeat in self.begun)
        trials = max(0, self.trials - len(self.journal))
        if self.budget is not None:
            spent, folds = sum(tried.seconds for tried in self.journal.values()), self.budget.folds.values()
            each = spent / len(self.journal) if self.journal else sum(folds) / len(folds)  # at first: a fold of each
            trials = min(trials, round(max(0.0, self.budget.seconds - spent) / max(each, 1e-9)))
        return finals + seeds + (0 if self.ended else trials)

    def is_over(self, key: tuple[int, int]) -> bool:
        """Whether a trial is over, so that a fold of it that still runs is for nothing."""
        return key not in self.begun

    def _train(self, key: tuple[int, int], fold: int) -> Training:
        begun = self.begun[key]
        begun.running.add(fold)
        rival = begun.rival.halfway if begun.rival and fold == 0 else {}
        return Training(*key, fold, begun.config, begun.params, dict(rival))

    # What came of it --------------------------------------------------------------------------------------------

    def receive(self, part: Part) -> None:
        """A fold has ended; take_over then gives the trials that are over by it."""
        begun = self.begun.get((part.number, part.repeat))
        if begun is None:  # its trial was over before
            return
        begun.running.discard(part.fold)
        begun.parts[part.fold] = part
        self._judge()

    def take_over(self) -> list[Tried]:
        """The trials that ended since the last call, in the order of their numbers."""
        over, self.over = self.over, []
        return over

    def _judge(self) -> None:
        """End every begun trial that is over, in order: a later one may have waited for an earlier one's first fold."""
        for key in sorted(self.begun):
            begun = self.begun[key]
            state = self._state(key, begun)
            if state is None:
                continue
            counted = [begun.parts[fold] for fold in range(begun.passed + 1)]  # others ran side by side, for nothing
            cost = count_cost(begun.config.backbone, begun.config.px, begun.config.ages)
            tried = join(counted, state, begun.params, parameters=cost.parameters, macs=cost.macs)
            del self.begun[key]
            self.over.append(tried)
            if key[1]:
                self.finals[key] = tried
            else:
                self.journal[key[0]] = tried

    def _state(self, key: tuple[int, int], begun: _Begun) -> str | None:
        """The state in which a trial is over; None while it goes on."""
        for fold in range(begun.passed, self.folds):
            part = begun.parts.get(fold)
            if part is None:
                return None
            if part.state != "complete":
                return part.state
            if fold + 1 == self.folds:
                return "complete"
            if not key[1]:
                peer = self._best_peer(key[0], begun) if fold == 0 else {}
                if peer is None:
                    return None
                seen = {who: mae for each in range(fold + 1) for who, mae in begun.parts[each].people.items()}
                rival = begun.rival.people if begun.rival else {}
                if hopeless(seen, rival, p=self.prune) or hopeless(seen, peer, p=PEERS * self.prune):
                    return "pruned"
            begun.passed = fold + 1
        raise AssertionError("a trial has a last fold")

    def _best_peer(self, number: int, begun: _Begun) -> Mapping[str, float] | None:
        """Errors of the best first fold among the trials asked after those that this one knows, and before it; {}
        without any, None while one of them is still in its first fold."""
        mine = begun.parts[0].people
        best_mae, best_people = float("inf"), dict[str, float]()
        for other in range(begun.knew, number):
            if other in self.journal:
                config, people = self.journal[other].config, self.journal[other].people
            elif (part := self.begun[other, 0].parts.get(0)) is not None:
                config, people = part.config, part.people
            else:
                return None
            common = [people[who] for who in mine if who in people]
            if common and self._comparable(begun.config, config) and np.mean(common) < best_mae:
                best_mae, best_people = float(np.mean(common)), dict(people)
        return best_people

    # What Optuna asks, and is told --------------------------------------------------------------------------------

    def _begin_trial(self) -> bool:
        """Begin the next trial, or pass over one that the journal has; False: not now, or no more."""
        number = len(self.asked)
        if number >= self.trials or self.ended or not self._tell_up_to(number - self.lag):
            return False
        late = self.ends is not None and time.monotonic() > self.ends
        if (late and number not in self.journal and (number, 0) not in self.kept) or not self._ask(number):
            self.ended = True
            return False
        if number in self.journal:  # finished before this command was killed
            self._compare(number)
            return True
        trial, config = self.asked[number]
        self._begin((number, 0), _Begun(config, dict(trial.params), self._rival(config), self.told))
        return True

    def _begin_finals(self) -> bool:
        """Once all trials are over: begin every finalist's further seeds that are missing."""
        if self._finals_begun or self.begun or (len(self.asked) < self.trials and not self.ended):
            return False
        self._finals_begun = True
        for tried in finalists(self.journal, self.most if self.seeds else 0):
            for repeat in range(1, self.seeds + 1):
                if (tried.number, repeat) not in self.finals:
                    config = tried.config.replace(seed=tried.config.seed + repeat)
                    self._begin((tried.number, repeat), _Begun(config, tried.params))
        return True

    def _begin(self, key: tuple[int, int], begun: _Begun) -> None:
        self.begun[key] = begun
        self._compare_parts(key, begun.config)
        begun.parts = {part.fold: part for part in self.kept.pop(key, [])}
        if begun.parts:
            self._judge()

    def replay(self) -> None:
        """Ask again what the journal holds, as far as that can be known before the trials that are missing have run.

        Raises ValueError where another question was asked then. For a search that is thrown away.
        """
        most = max([*self.journal, *(number for number, repeat in self.kept if not repeat)], default=-1)
        while (number := len(self.asked)) <= most and self._tell_up_to(number - self.lag):
            if not self._ask(number):
                return
            if number in self.journal:
                self._compare(number)
            self._compare_parts((number, 0), self.asked[number][1])

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

    def _compare_parts(self, key: tuple[int, int], config: TrialConfig) -> None:
        """Raise ValueError where a fold that was kept is of another config than the one asked here."""
        for part in self.kept.get(key, []):
            differ = _differences(part.config.flat(), config.flat())
            if differ:
                raise ValueError(
                    f"fold {part.fold} of trial {key[0]} is of another config than this sweep asks for "
                    f"({', '.join(differ[:4])}): begin a new sweep with another --name, or delete that trial's files "
                    "under folds/"
                )

    def _rival(self, config: TrialConfig) -> Tried | None:
        """The best of the trials told, whom a trial must not be worse than."""
        known = {number: self.journal[number] for number in range(self.told)}
        return best({n: tried for n, tried in known.items() if self._comparable(config, tried.config)})

    def _comparable(self, config: TrialConfig, other: TrialConfig) -> bool:
        """Whether `other` may be a rival: with a cost, it is one only where it costs no more."""
        if self.objective == "mae":
            return True
        if self.objective == "mae+latency":  # a clock: known for this very network alone, if it ran before
            return (config.backbone, config.px) == (other.backbone, other.px)
        mine, its = (count_cost(each.backbone, each.px, each.ages) for each in (config, other))
        cost = COSTS[self.objective]
        return bool(getattr(its, cost) <= getattr(mine, cost))

    def _tell_up_to(self, number: int) -> bool:
        """Tell Optuna, in order, every trial up to `number`; False where one of them is not over."""
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

    def _ask(self, number: int) -> bool:
        """Ask Optuna for a trial; False where the budget pays for no further one."""
        if self.budget is not None:
            network = self._turn(number, self.budget)
            if network is None:
                return False
            self._enqueue(network)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # multivariate, group
        warnings.filterwarnings("ignore", message=".*warn_independent_sampling", category=FutureWarning)
        self.study.sampler = self.sampler((self.seed * 100_003 + number) % 2**32)
        trial = self.study.ask()
        config = self.space.config(trial, self.base)
        if config.backbone in self.pretrained:
            config = config.replace(weights=self.pretrained[config.backbone])
        self.asked[number] = (trial, config)
        return True

    def _turn(self, number: int, budget: Budget) -> str | None:
        """The network of a trial: whose turn it is, or was where the journal has the trial or folds of it."""
        told = [self.journal[n] for n in range(self.told)]
        running = [config.backbone for n, (_, config) in self.asked.items() if n >= self.told]
        order = turns(told, running, budget, folds=self.folds, prune=self.prune, comparable=self._comparable)
        there = [self.journal[number]] if number in self.journal else self.kept.get((number, 0), [])
        if there and order:
            known = there[0].config.backbone
            return known if could_be(order, known) else order[0].network
        spent = sum(spendings(told, running, budget, folds=self.folds).values())
        return choose_turn(order, budget.at(number) - spent)

    def _enqueue(self, network: str) -> None:
        """Have the next trial be of this network: its first points, then what the sampler draws for it."""
        before = sum(config.backbone == network for _, config in self.asked.values())
        points = [point for point in self.space.first if point.get("backbone", self.base.backbone) == network]
        if before < len(points):
            self.study.enqueue_trial(dict(points[before]))
        elif self.space.backbones:
            self.study.enqueue_trial({"backbone": network})

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Who draws one trial."""
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, n_startup_trials=STARTUP, constant_liar=True,
            warn_independent_sampling=False,
        )  # fmt: skip


def check_block(search: BlockSearch, block: Path) -> None:
    """Raise ValueError where a block's files do not hold what the sweep asks for. search: over them, to be thrown
    away afterwards."""
    try:
        search.replay()
    except ValueError as error:
        raise ValueError(f"{block}: {error}") from error
    for (number, repeat), tried in sorted(search.finals.items()):
        first = search.journal.get(number)
        if first and tried.config != first.config.replace(seed=first.config.seed + repeat):
            raise ValueError(
                f"{finals_folder(block)} has seed {repeat} of trial {number} with another config than the journal: "
                "delete that file to run the seed again"
            )


def next_training(blocks: Sequence[BlockSearch]) -> tuple[int, Training] | None:
    """What a free place is given: the block's index, and one of its folds; None: nothing can be begun now.

    First what trials need that passed their tests; then a new trial, of the block that asked for the fewest; then
    folds side by side, which may turn out not to be needed, on places that would stand idle.
    """
    order = sorted(range(len(blocks)), key=lambda index: (len(blocks[index].asked), index))
    for ask in (BlockSearch.next_fold, BlockSearch.next_trial, BlockSearch.side_fold):
        for index in order:
            if found := ask(blocks[index]):
                return index, found
    return None


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted((there.keys() | now.keys()) - {"weights"})
    return [f"{n} {there.get(n)} there, {now.get(n)} now" for n in names if there.get(n) != now.get(n)]
