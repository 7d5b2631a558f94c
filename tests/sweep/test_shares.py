"""Spending by cost: whose turn it is, who is given up, and that a rerun asks the same questions."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces import SPACES
from study.sweep.budgets import describe_change, remember
from study.sweep.journal import Part, Tried, read_journal, read_parts, write_part, write_tried
from study.sweep.search import BlockSearch, Training, next_training
from study.sweep.shares import Budget, Turn, choose_turn, could_be, given_up, tally, turns
from trainables.config import TrialConfig

pytestmark = pytest.mark.slow  # whole searches

FOLD = {"efficientnet_lite0": 1.0, "efficientnet_b0": 3.0, "resnet18": 10.0}
"""Seconds of a fold in the world of these tests."""

BETTER = {"efficientnet_lite0": 4.0, "efficientnet_b0": 4.0, "resnet18": 4.0}
BASE = TrialConfig(backbone="resnet18", px=32)
PEOPLE = [[f"p{fold}{i}" for i in range(8)] for fold in range(3)]


def searching(seconds: float, journal: dict[int, Tried] | None = None, *, earlier=(), **options) -> BlockSearch:
    usual = {"trials": 10**6, "folds": 3, "lag": 2, "seed": 0, "pretrained": {}, "prune": 0.1}
    journal = {} if journal is None else journal
    return BlockSearch(SPACES["small"], BASE, journal, **{**usual, **options}, budget=Budget(seconds, FOLD, earlier))


def answer(training: Training, world: dict[str, float]) -> Part:
    random = np.random.default_rng([training.number, training.fold])
    mae = world[training.config.backbone] + random.uniform(0, 0.02)
    people = {who: float(mae + random.uniform(-1, 1)) for who in PEOPLE[training.fold]}
    return Part(
        training.number, training.repeat, training.fold, "complete", training.config.to_json(),
        float(np.mean(list(people.values()))), people=people,
        predicted={str(100 * training.fold + i): 50.0 for i in range(8)}, seconds=FOLD[training.config.backbone],
    )  # fmt: skip


def run(search: BlockSearch, world: dict[str, float], *, places: int = 1, most: int = 10**6) -> list[Training]:
    asked, running = list[Training](), list[Training]()
    while len(search.journal) < most:
        while len(running) < places and (found := next_training([search])):
            running.append(found[1])
            asked.append(found[1])
        if not running:
            break
        search.receive(answer(running.pop(0), world))
        running = [each for each in running if not search.is_over(each.key)]
    return asked


def spent(search: BlockSearch) -> dict[str, float]:
    found = dict.fromkeys(FOLD, 0.0)
    for tried in search.journal.values():
        found[tried.config.backbone] += tried.seconds
    return found


def test_networks_that_are_as_good_get_the_same_compute_the_cheapest_first():
    search = searching(150.0, prune=0.0)
    run(search, BETTER)
    assert search.done
    first = [search.journal[number].config.backbone for number in range(2)]
    assert first == ["efficientnet_lite0", "efficientnet_b0"]
    shares = spent(search)
    assert sum(shares.values()) <= 150.0
    assert all(abs(share - 150 / 3) <= 3 * FOLD["resnet18"] for share in shares.values()), "by one trial at most"
    assert {each.fate for each in tally([search.journal], list(FOLD))} == {"fair"}


def test_what_is_left_is_known_before_the_first_trial_ends():
    mean = sum(FOLD.values()) / len(FOLD)
    assert searching(20 * mean, trials=10**6).missing == 20
    assert searching(20 * mean, trials=10**6, most=3, seeds=2).missing == 26


def test_a_network_that_is_clearly_worse_is_given_up_and_the_others_have_its_share():
    search = searching(150.0)
    run(search, {"efficientnet_lite0": 9.0, "efficientnet_b0": 4.0, "resnet18": 4.0})
    count = sum(tried.config.backbone == "efficientnet_lite0" for tried in search.journal.values())
    assert 3 <= count <= 8
    assert min(spent(search)[name] for name in ("efficientnet_b0", "resnet18")) > 40.0


def test_a_network_that_the_budget_cannot_pay_is_named_as_not_tried():
    search = searching(25.0, prune=0.0)
    run(search, BETTER)
    assert spent(search)["resnet18"] == 0.0
    by_name = {each.network: each for each in tally([search.journal], list(FOLD))}
    assert by_name["resnet18"].fate == "none"
    assert by_name["resnet18"].sentence == "resnet18: NOT TRIED"
    assert by_name["efficientnet_b0"].fate == "fair"


@pytest.mark.parametrize("places", [1, 4])
def test_a_rerun_and_one_with_more_time_ask_the_same_questions(places, tmp_path):
    world = {"efficientnet_lite0": 5.0, "efficientnet_b0": 4.0, "resnet18": 4.5}
    killed = searching(120.0)
    while len(killed.journal) < 7 or not read_parts(tmp_path):
        found = next_training([killed])
        assert found is not None
        write_part(tmp_path, part := answer(found[1], world))
        killed.receive(part)
        for tried in killed.take_over():
            write_tried(tmp_path, tried)
    whole = searching(120.0)
    run(whole, world)
    again = searching(120.0, read_journal(tmp_path), parts=read_parts(tmp_path))
    run(again, world, places=places)
    assert dict(sorted(again.journal.items())) == whole.journal
    done = searching(120.0, dict(again.journal))
    assert run(done, world) == []
    longer = searching(200.0, dict(whole.journal))
    longer.replay()
    longer = searching(200.0, dict(whole.journal))
    assert run(longer, world)
    assert {n: longer.journal[n] for n in whole.journal} == whole.journal


def test_more_time_after_a_kill_goes_on_from_what_was_done(tmp_path):
    """Near its end a sweep passes over a network that its budget does not pay for. A kill takes that very trial, not
    those asked after it, which knew the turn: another budget must not give the turn to another network."""
    world = {"efficientnet_lite0": 4.5, "efficientnet_b0": 4.5, "resnet18": 4.5}
    short, longer = (searching(seconds, prune=0.0, lag=4) for seconds in (40.0, 75.0))
    for search in (short, longer):
        run(search, world, places=4)
    lost = next(n for n in short.journal if short.journal[n].config.backbone != longer.journal[n].config.backbone)
    remember(tmp_path, ["all"], 40.0)
    begun = {number: tried for number, tried in short.journal.items() if number < lost + 4}
    for number in begun.keys() - {lost}:
        write_tried(tmp_path / "all", begun[number])
    with pytest.raises(ValueError, match="is not the one this sweep would ask for"):
        run(searching(75.0, read_journal(tmp_path / "all"), prune=0.0, lag=4), world)
    for seconds in (75.0, 75.0, 20.0):  # and a smaller one only ends sooner
        earlier = remember(tmp_path, ["all"], seconds)["all"]
        again = searching(seconds, read_journal(tmp_path / "all"), prune=0.0, lag=4, earlier=earlier)
        run(again, world, places=4)
        assert {number: again.journal[number] for number in begun} == begun
        assert (len(again.journal) > len(begun)) == (seconds > 40.0)
        assert sum(tried.seconds for tried in again.journal.values()) <= max(seconds, 40.0)


def test_a_budget_is_remembered_for_the_trials_that_were_begun_with_it(tmp_path):
    assert remember(tmp_path, ["a", "b"], 60.0) == {"a": (), "b": ()}
    assert remember(tmp_path, ["a", "b"], 30.0) == {"a": (), "b": ()}, "nothing was begun with the first"
    for block, name in (("a", "00003.json"), ("a/folds", "00005-fold0.json"), ("a/folds", "00007-seed1-fold0.json")):
        (tmp_path / block).mkdir(parents=True, exist_ok=True)
        (tmp_path / block / name).write_text("{}")
    assert describe_change(tmp_path, 30.0, blocks=2, places=1) == ""
    assert "it had 1 min, now 3" in describe_change(tmp_path, 90.0, blocks=2, places=1)
    for _ in range(2):
        assert remember(tmp_path, ["a", "b"], 90.0) == {"a": ((6, 30.0),), "b": ()}
    budget = Budget(90.0, FOLD, ((6, 30.0),))
    assert [budget.at(number) for number in (0, 5, 6, 100)] == [30.0, 30.0, 90.0, 90.0]
    file = tmp_path / "budgets.json"
    file.write_text(file.read_text().replace("30.0", "31.0"))
    with pytest.raises(ValueError, match="budgets.json is no sound record of budgets: .*another --name"):
        remember(tmp_path, ["a", "b"], 90.0)


def test_a_journal_with_a_network_out_of_its_turn_is_refused():
    search = searching(100.0, prune=0.0)
    run(search, BETTER)
    other = dict(search.journal)
    late = next(n for n, tried in other.items() if tried.config.backbone == "resnet18")
    other[0] = Tried(**{**vars(other[late]), "number": 0})
    with pytest.raises(ValueError, match="trial 0 of the journal is not the one .*backbone resnet18 there"):
        searching(100.0, other).replay()


def test_what_does_not_fit_is_passed_over_and_that_can_be_told_afterwards():
    order = [Turn("large", 9.0), Turn("middle", 5.0), Turn("small", 1.0)]
    assert [choose_turn(order, left) for left in (9.0, 6.0, 2.0, 0.5)] == ["large", "middle", "small", None]
    assert all(could_be(order, name) for name in ("large", "middle", "small"))
    assert not could_be([Turn("small", 1.0), Turn("large", 9.0)], "large"), "small would have fitted too"
    assert not could_be(order, "another")


def test_networks_that_only_fail_are_given_up():
    config = BASE.to_json()
    failed = [Tried(n, "failed", config, {}, None, seconds=1.0, why="no memory") for n in range(3)]
    assert not given_up(failed[:2], "resnet18", prune=0.1)
    assert given_up(failed, "resnet18", prune=0.1)
    order = turns(failed, [], Budget(100.0, FOLD), folds=3, prune=0.1)
    assert [turn.network for turn in order] == ["efficientnet_lite0", "efficientnet_b0"]
    (row,) = tally([dict(enumerate(failed))], ["resnet18"])
    assert row.sentence == "resnet18: NOT TRIED (no memory)"
