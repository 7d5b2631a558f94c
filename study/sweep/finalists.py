"""Reruns each block's best trials with new seeds, so that the winner is not one lucky run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from study.sweep.journal import Tried, best, ranked
from trainables.config import TrialConfig
from trainables.losses import Decoder


@dataclass(frozen=True)
class Winner:
    """The trial chosen, the MAE (years) by which it was, over how many seeds that is, and the decoder chosen too."""

    tried: Tried
    mae: float
    seeds: int
    decoder: Decoder

    @property
    def config(self) -> TrialConfig:
        """What LOPO runs."""
        return self.tried.config.replace(decoder=self.decoder)


def finalists(journal: Mapping[int, Tried], most: int) -> list[Tried]:
    """The best complete trials, the best first; none where fewer than two would have to be told apart."""
    complete = ranked(journal)
    return complete[:most] if min(most, len(complete)) > 1 else []


def decoder_maes(tried: Tried, photos: Mapping[str, int]) -> dict[Decoder, float]:
    """A complete trial's MAE (years, over photos) by decoder of the same distributions; by its config's own one alone
    where the record has no others. photos: how many each person has."""
    weights = {who: photos[who] for who in tried.people}
    found: dict[Decoder, float] = {}
    for name in get_args(Decoder):
        if people := tried.decoded.get(name):
            found[name] = sum(people[who] * weights[who] for who in people) / sum(weights.values())
    return found | ({tried.config.decoder: tried.mae} if tried.mae is not None else {})


def choose(
    journal: Mapping[int, Tried], finals: Sequence[Tried], *, most: int, seeds: int, photos: Mapping[str, int]
) -> Winner | None:
    """The finalist and decoder of the least mean MAE over its seeds (the first too); without finalists the best trial.

    Finalists are compared over equal seeds only. A seed that diverged counts with its 100 years. One that failed (its
    process died, it lacked memory) has no MAE: its finalist is left out while another has all of its seeds, and where
    none has, the first seed decides, which all have.
    """
    compared = finalists(journal, most if seeds else 0)
    sure: list[Winner] = []
    for tried in compared:
        again = [f for f in finals if f.number == tried.number and 1 <= f.repeat <= seeds and f.mae is not None]
        if len(again) == seeds:
            sure += _by_decoder([tried, *again], photos)
    alone = best(journal)
    found = sure or [each for tried in compared or ([alone] if alone else []) for each in _by_decoder([tried], photos)]
    # rounded, since argmax gives whole years and so equal means, whose last digit is chance
    return min(found, key=lambda choice: (round(choice.mae, 9), choice.tried.number), default=None)


def _by_decoder(seeds: Sequence[Tried], photos: Mapping[str, int]) -> list[Winner]:
    """A trial in several seeds, as it would be chosen with each decoder; of equal ones the config's own is first."""
    own = seeds[0].config.decoder
    each = [decoder_maes(tried, photos) for tried in seeds]
    names = sorted(set(each[0]).intersection(*each[1:]), key=lambda name: (name != own, name))
    return [Winner(seeds[0], float(np.mean([maes[name] for maes in each])), len(seeds), name) for name in names]
