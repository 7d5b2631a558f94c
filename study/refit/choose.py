"""Which block's winner becomes the model. Pure; reads only what the sweep recorded, never an error of LOPO.

A sealed sweep's blocks chose on different people, so that their errors are not comparable as they are: one half may
have more children, whose ages are easier to tell. Each winner's MAE, corrected for being the lowest of many
(study.sweep.optimism; as claimed, if not all could be corrected), is therefore divided by the MAE of a constant guess,
the median age, on the same people. The lowest ratio wins; of equal ones the first block's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from study.artifacts.best import Best
from study.artifacts.model import Candidate, Chosen
from trainables.faces.table import Faces

RULE = (
    "of the blocks' winners the one with the lowest ratio of its own MAE in the sweep, {which}, to the MAE of a "
    "constant guess on the same people; no LOPO error was read"
)
ONLY = "the only winner of its sweep"
BY_HAND = "given by hand: nothing was chosen by this command"


def choose_winner(best: Best, faces: Faces) -> Chosen:
    """The chosen block and what it was compared with. faces: the table that the sweep chose on."""
    if len(best.blocks) == 1:
        return Chosen(ONLY, best.sweep, best.blocks[0].name)
    corrected = {each.block: each.corrected for each in best.choice.blocks}
    sound = all(math.isfinite(corrected.get(block.name, math.nan)) for block in best.blocks)
    candidates = []
    for block in best.blocks:
        others = ~np.isin(faces.person, block.people)
        constant = constant_error(faces.age[others].tolist())
        mae = corrected[block.name] if sound else block.mae
        candidates.append(Candidate(block.name, block.number, block.config.backbone, mae, constant, mae / constant))
    winner = min(candidates, key=lambda each: each.ratio)
    which = "corrected for being the lowest of many" if sound else "as claimed"
    return Chosen(RULE.format(which=which), best.sweep, winner.block, tuple(candidates))


def constant_error(ages: Sequence[int]) -> float:
    """The mean absolute error (years) of guessing the median age of these faces."""
    return float(np.abs(np.array(ages) - np.median(ages)).mean())
