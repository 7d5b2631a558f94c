"""A block's search: what is asked depends on numbers alone, whatever ran side by side, ended first, or was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import optuna
import pytest

from search_spaces import SPACES
from study.sweep.journal import Part, Tried, read_journal, read_parts, write_part, write_tried
from study.sweep.optuna_storage import Mirror, sync_mirror
from study.sweep.plan import side_by_side
from study.sweep.search import COSTS, BlockSearch, Training, next_training
from trainables.config import TrialConfig
from trainables.costs import count_cost

pytestmark = pytest.mark.slow  # whole searches

BASE = TrialConfig(backbone="resnet18", px=32)
PEOPLE = [[f"p{fold}{i}" for i in range(8)] for fold in range(3)]
"""Who is tested in each of three folds."""

Answer = Callable[[Training], Part]


def searching(journal: dict[int, Tried] | None = None, **options) -> BlockSearch:
    usual = {"trials": 14, "folds": 3, "lag": 2, "seed": 0, "pretrained": {}, "prune": 0.1}
    return BlockSearch(SPACES["small"], BASE, {} if journal is None else journal, **{**usual, **options})


def part_of(training: Training, mae: float, *, state: str = "complete") -> Part:
    """A fold that ended with about this MAE for each of its people."""
    rows = {str(100 * training.fold + i): 50.0 for i in range(8)}
    random = np.random.default_rng([training.number, training.fold])
    people = {who: float(mae + random.uniform(0, 0.01)) for who in PEOPLE[training.fold]}
    whole, first = state == "complete", training.fold == 0
    return Part(
        training.number, training.repeat, training.fold, state, training.config.to_json(),
        None if state == "failed" else float(np.mean(list(people.values()))),
        people=people if whole else {}, predicted=rows if whole else {}, halfway=people if first else {},
        latency_ms=float(random.uniform(1, 9)) if first else 0.0,
    )  # fmt: skip


def by_rate(training: Training) -> Part:
    """A world in which the learning rate decides, a little of everything else, and trial 2 fails."""
    if training.number == 2 and training.fold == 1:
        return part_of(training, 9.0, state="failed")
    off = abs(np.log(training.config.learning_rate / 1.5e-3))
    return part_of(training, 5 + off + 0.3 * training.fold)


def run(search: BlockSearch, answer: Answer = by_rate, *, places: int = 1, seed: int = 0) -> list[Training]:
    """All that is trained on so many places, where folds end in an order that `seed` draws."""
    random, running, asked = np.random.default_rng(seed), list[Training](), list[Training]()
    while True:
        while len(running) < places and (found := next_training([search])):
            running.append(found[1])
            asked.append(found[1])
        if not running:
            assert search.done
            return asked
        search.receive(answer(running.pop(int(random.integers(len(running))))))
        running = [each for each in running if not search.is_over(each.key)]


def test_the_outcome_is_the_same_whatever_ran_side_by_side_and_ended_first():
    """Trials, values, pruning and finalists: for one place and for many, in any order."""
    alone = searching(lag=3, most=3, seeds=2)
    order = run(alone)
    states = {tried.state for tried in alone.journal.values()}
    assert states == {"complete", "pruned", "failed"}
    assert len(alone.finals) == 6
    one_by_one = [(training.key, training.fold) for training in order]
    assert len(set(one_by_one)) == len(one_by_one)
    for places, seed in ((2, 0), (5, 1), (9, 2), (40, 3)):
        other = searching(lag=3, most=3, seeds=2)
        run(other, places=places, seed=seed)
        assert dict(sorted(other.journal.items())) == alone.journal
        assert other.finals == alone.finals


def test_a_trial_knows_nothing_of_those_that_ended_less_than_a_lag_before():
    """However fast they were and however good: neither the sampler nor the rival to be pruned against."""
    whole = searching(lag=3, trials=12)
    run(whole)

    def asked(number: int, mae: float) -> Training:
        """The question of trial 12, with lag 3, where trial `number` had that MAE: it may know trials 0 to 9."""
        people = {who: mae for fold in PEOPLE for who in fold}
        journal = dict(whole.journal)
        journal[number] = replace(
            journal[number], state="complete", mae=mae, people=people, folds={"2": mae}, halfway=people
        )
        found = next_training([searching(journal, lag=3, trials=13)])
        assert found is not None
        assert found[1].number == 12
        return found[1]

    for later in (10, 11):
        assert asked(later, 0.1) == asked(later, 50.0)
    # and the test can fail: what trial 9 scored is known
    good, bad = asked(9, 0.1), asked(9, 50.0)
    assert set(good.rival.values()) == {0.1}
    assert bad.rival != good.rival
    assert bad.params != good.params
    # a search that waits for trial 9 asks nothing further before it is over
    waiting = searching({n: t for n, t in whole.journal.items() if n != 9}, lag=3, trials=13)
    first = next_training([waiting])
    assert first is not None
    assert (first[1].number, next_training([waiting])) == (9, None)


def first_folds(search: BlockSearch, count: int) -> list[Training]:
    """The first folds of so many trials, side by side."""
    found = [search.next_trial() for _ in range(count)]
    return [each for each in found if each]


def test_peers_that_run_side_by_side_are_rivals_after_the_first_fold():
    """At a width where no trial knows any other, the worse ones still end after a third of their trainings."""
    search = searching(lag=14)
    trainings = first_folds(search, 14)
    assert [each.number for each in trainings] == list(range(14))
    for each in trainings:
        search.receive(part_of(each, 4.0 if each.number == 3 else 6.0))
    over = search.take_over()
    assert [tried.number for tried in over] == list(range(4, 14)), "0 to 2 were asked before the best one"
    assert {(tried.state, *tried.folds) for tried in over} == {("pruned", "0")}


def test_a_peer_asked_later_is_no_rival():
    search = searching(lag=14)
    one, two, three = first_folds(search, 3)
    search.receive(part_of(three, 1.0))
    search.receive(part_of(two, 5.0))
    assert search.begun[1, 0].passed == 0, "trial 1 waits for trial 0's first fold"
    search.receive(part_of(one, 6.0))
    assert {key[0]: begun.passed for key, begun in search.begun.items()} == {0: 1, 1: 1, 2: 1}
    assert search.take_over() == []


def test_folds_that_ran_for_nothing_do_not_count():
    """A trial that is pruned by its first fold is the same trial, whether or not its other folds ran side by side."""
    search = searching(lag=14)
    good, bad = first_folds(search, 2)
    search.receive(part_of(good, 4.0))
    sides = [search.next_fold(), search.side_fold()]
    assert [(each.number, each.fold) for each in sides if each] == [(0, 1), (0, 2)]
    early = search._train((1, 0), 1)
    search.receive(part_of(early, 1.0))
    assert search.take_over() == []
    search.receive(part_of(bad, 6.0))
    (over,) = search.take_over()
    assert (over.number, over.state, list(over.folds)) == (1, "pruned", ["0"])
    assert set(over.people) == set(PEOPLE[0])
    assert over.mae == pytest.approx(6.0, abs=0.01)
    search.receive(part_of(replace(early, fold=2), 1.0))  # what arrives late is of no use
    assert search.take_over() == []


@pytest.mark.parametrize("objective", ["mae", *COSTS])
def test_a_search_that_is_killed_asks_the_same_questions_again(objective, tmp_path):
    """For every objective, the clock's too: what was measured once is read from the journal."""
    whole = searching(objective=objective, most=2, seeds=1)
    run(whole, places=2)
    killed = searching(objective=objective, most=2, seeds=1)
    while len(killed.journal) < 6 or not read_parts(tmp_path):  # then a kill, in the middle of a trial
        found = next_training([killed])
        assert found is not None
        write_part(tmp_path, part := by_rate(found[1]))
        killed.receive(part)
        for tried in killed.take_over():
            write_tried(tmp_path, tried)
    journal, parts = read_journal(tmp_path), read_parts(tmp_path)
    again = searching(journal, objective=objective, parts=parts, most=2, seeds=1)
    asked = run(again, places=3, seed=5)
    done = {(part.number, part.fold) for part in parts} | {(n, f) for n in read_journal(tmp_path) for f in range(3)}
    assert not done & {(each.number, each.fold) for each in asked if not each.repeat}
    assert dict(sorted(again.journal.items())) == dict(sorted(whole.journal.items()))
    assert again.finals == whole.finals
    for tried in again.journal.values():
        write_tried(tmp_path, tried)
    mirror = Mirror(tmp_path, "all", SPACES["small"], BASE, objective)
    assert sync_mirror(mirror, whole.journal, runs={}) == 14
    assert sync_mirror(mirror, whole.journal, runs={}) == 0
    rows = optuna.load_study(study_name=mirror.study, storage=f"sqlite:///{mirror.file}").trials
    first = whole.journal[0]
    assert rows[0].values == [first.mae, *([getattr(first, COSTS[objective])] if objective in COSTS else [])]
    assert rows[2].state == optuna.trial.TrialState.FAIL


def test_a_cheap_trial_is_not_pruned_for_being_worse_than_an_expensive_one():
    """With a cost as an objective; SPACES["small"] begins with Lite0, B0 and ResNet-18."""
    order = ["efficientnet_lite0", "efficientnet_b0", "resnet18"]
    macs = {name: count_cost(name, 32, 101).macs for name in order}
    assert macs["efficientnet_lite0"] < macs["efficientnet_b0"] < macs["resnet18"]

    def states(objective: str, maes: list[float]) -> list[str]:
        search = searching(trials=3, lag=1, objective=objective)
        run(search, lambda training: part_of(training, maes[training.number]))
        assert [search.journal[n].config.backbone for n in range(3)] == order
        return [search.journal[n].state for n in range(3)]

    assert states("mae", [2.0, 3.0, 4.0]) == ["complete", "pruned", "pruned"]
    assert states("mae+macs", [2.0, 3.0, 4.0]) == ["complete", "pruned", "pruned"], "dearer and worse"
    reverse = searching(trials=3, lag=1, objective="mae+macs")
    assert reverse._comparable(BASE, BASE.replace(backbone="efficientnet_lite0"))
    assert not reverse._comparable(BASE.replace(backbone="efficientnet_lite0"), BASE)


def test_the_sampler_holds_a_trial_that_ended_halfway_for_worse_than_one_that_got_further():
    def answer(training: Training) -> Part:
        if training.number == 0:
            return replace(part_of(training, 4.0, state="pruned"), mae=4.0)
        return part_of(training, 9.0, state="complete" if training.fold == 0 else "pruned")

    search = searching(trials=3, lag=1)
    run(search, answer)
    assert [dict(trial.intermediate_values).keys() for trial in search.study.trials[:2]] == [{0}, {1}]


def test_widths_leave_most_trials_someone_to_learn_from():
    for trials in (12, 50, 200):
        for places in (1, 2, 8, 64, 256):
            width = side_by_side(places, 4, trials)
            assert 6 * width <= max(trials, 6)
            assert width == 1 or 4 * width < places + 4, "no more than there is room for"
    assert side_by_side(2, 4, 12) == 1
    assert side_by_side(64, 4, 12, forced=True) == 16


@pytest.mark.parametrize("places", [1, 8, 64])
def test_a_wide_machine_still_searches(places):
    """Four blocks at once: later trials are not random search's, and some are pruned."""
    trials = 18
    blocks = [searching(trials=trials, lag=side_by_side(places, 4, trials), seed=seed) for seed in range(4)]
    running: list[tuple[int, Training]] = []
    while True:
        while len(running) < places and (found := next_training(blocks)):
            running.append(found)
        if not running:
            break
        index, training = running.pop(0)
        blocks[index].receive(by_rate(training))
        running = [(other, each) for other, each in running if not blocks[other].is_over(each.key)]

    class Random(BlockSearch):
        def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
            return optuna.samplers.RandomSampler(seed=seed)

    for seed, block in enumerate(blocks):
        chance = Random(
            SPACES["small"], BASE, {}, trials=trials, folds=3, lag=trials, seed=seed, pretrained={}, prune=0.0
        )  # fmt: skip
        run(chance)
        ours, theirs = (
            [json.dumps(dict(each.journal[n].params), sort_keys=True) for n in range(12, trials)]
            for each in (block, chance)
        )
        assert set(ours).isdisjoint(theirs)
        assert sum(tried.state == "pruned" for tried in block.journal.values()) >= 4
