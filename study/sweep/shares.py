"""Whose turn it is where a sweep spends by cost: every network has an equal share of the compute. Pure.

Networks differ in cost by a factor of 100, so a number of trials is no budget. The next trial is of the network that
would have spent least by the end of it, so that the cheapest come first and an expensive one has its first trial when
the others have spent what one fold of it costs. A network that was clearly worse than the leader in its trials
(at least LEAST) is given up, and the others share what it would have spent.

The order of turns does not depend on the budget, which only passes over what it does not pay for: a sweep that is given
more time goes on with the same questions. Trials that were begun before keep the budget of their time, so that one that
a kill took is asked again as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from study.artifacts.choice import Fate, NetworkTried
from study.sweep.journal import Tried, ranked
from trainables.config import TrialConfig
from trainables.trial import hopeless

LEAST = 3
"""Trials of a network before it may be given up, as many as --trials has for each by default."""

SCORED = ("complete", "pruned")


@dataclass(frozen=True)
class Budget:
    """What the trials of a block may cost: seconds of compute. folds: of one fold's training, by network. earlier: what
    the block had in earlier runs of the command (study.sweep.budgets): (the trials below this number, seconds)."""

    seconds: float
    folds: Mapping[str, float]
    earlier: tuple[tuple[int, float], ...] = ()

    def at(self, number: int) -> float:
        """Seconds of compute that the block had when this trial was asked for."""
        return next((seconds for below, seconds in self.earlier if number < below), self.seconds)


@dataclass(frozen=True)
class Turn:
    """A network that may be next. cost: seconds that its next trial is expected to take."""

    network: str
    cost: float


def turns(
    told: Sequence[Tried],
    running: Sequence[str],
    budget: Budget,
    *,
    folds: int,
    prune: float,
    comparable: Callable[[TrialConfig, TrialConfig], bool] = lambda mine, its: True,
) -> list[Turn]:
    """The networks that are not given up, in the order of their turns. told: trials that are over and known. running:
    networks of those that are not. comparable: whether a trial of the second config may be the first one's rival."""
    spent = spendings(told, running, budget, folds=folds)
    found = []
    for network, fold in budget.folds.items():
        if not given_up(told, network, prune=prune, comparable=comparable):
            begins = network not in running and not any(network_of(tried) == network for tried in told)
            cost = expected(told, network, budget, folds=folds)
            # the first trial may end after one fold
            found.append((spent[network] + (fold if begins else cost), fold, network, cost))
    return [Turn(network, cost) for _, _, network, cost in sorted(found)]


def expected(told: Sequence[Tried], network: str, budget: Budget, *, folds: int) -> float:
    """Seconds of a network's next trial: the mean of those known, else as estimated for all folds."""
    known = [tried.seconds for tried in told if network_of(tried) == network and tried.state in SCORED]
    return sum(known) / len(known) if known else folds * budget.folds[network]


def network_of(tried: Tried) -> str:
    """A trial's network, without reading its whole config."""
    return str(tried.trial["backbone"])


def spendings(told: Sequence[Tried], running: Sequence[str], budget: Budget, *, folds: int) -> dict[str, float]:
    """Seconds by network: of the trials known, and as expected of those running."""
    return {
        network: sum(tried.seconds for tried in told if network_of(tried) == network)
        + running.count(network) * expected(told, network, budget, folds=folds)
        for network in budget.folds
    }


def choose_turn(order: Sequence[Turn], left: float) -> str | None:
    """The first network whose trial the rest of the budget pays for; None: the budget is used."""
    return next((turn.network for turn in order if turn.cost <= left), None)


def could_be(order: Sequence[Turn], network: str) -> bool:
    """Whether it was this network's turn with some budget: all before it cost more."""
    place = next((index for index, turn in enumerate(order) if turn.network == network), None)
    return place is not None and all(turn.cost > order[place].cost for turn in order[:place])


def given_up(
    told: Sequence[Tried],
    network: str,
    *,
    prune: float,
    comparable: Callable[[TrialConfig, TrialConfig], bool] = lambda mine, its: True,
) -> bool:
    """Whether LEAST trials or more show the network worse than the leader, in each by the paired test on the same
    people, or gave nothing at all."""
    mine = [tried for tried in told if network_of(tried) == network]
    if len(mine) < LEAST:
        return False
    leaders = ranked({other.number: other for other in told if network_of(other) != network})
    for tried in mine:
        if tried.state not in SCORED:
            continue
        config = tried.config
        leader = next((other for other in leaders if comparable(config, other.config)), None)
        seen = tried.people or tried.halfway
        against = (leader.people if tried.people else leader.halfway) if leader else {}
        if not hopeless(seen, against, p=prune):
            return False
    return True


def tally(journals: Sequence[Mapping[int, Tried]], networks: Sequence[str]) -> tuple[NetworkTried, ...]:
    """For each network what it got in all blocks, and whether that was a fair trial in each of them."""
    found = []
    for network in networks:
        mine = [[t for t in journal.values() if network_of(t) == network] for journal in journals]
        every = [tried for block in mine for tried in block]
        scored = [tried for tried in every if tried.state in SCORED]
        fates = [_fate(block, journal, len(networks)) for block, journal in zip(mine, journals, strict=True)]
        fate: Fate = "none" if not scored else "fair" if set(fates) == {"fair"} else "short"
        complete = [tried.mae for tried in every if tried.state == "complete" and tried.mae is not None]
        found.append(
            NetworkTried(
                network,
                fate,
                len(scored),
                sum(len(tried.folds) for tried in scored),
                sum(tried.seconds for tried in every) / 60,
                min(complete, default=None),
                next((tried.why for tried in every if tried.why and not scored), ""),
            )
        )
    return tuple(found)


def _fate(mine: Sequence[Tried], journal: Mapping[int, Tried], networks: int) -> Fate:
    """fair: LEAST trials, or as many as an equal share of the block's compute pays for."""
    scored = sum(tried.state in SCORED for tried in mine)
    share = sum(tried.seconds for tried in journal.values()) / networks
    if not scored:
        return "none"
    spent = sum(tried.seconds for tried in mine)
    return "fair" if scored >= LEAST or spent + spent / len(mine) > share else "short"
