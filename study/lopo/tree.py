"""The fold tree: all leave-one-person-out models for the cost of a few trainings instead of one each.

TreeCV (Joulani, György and Szepesvári, "Fast Cross-Validation for Incremental Learning", IJCAI 2015): a node holds
some people out; it is cut in two, and each half's model is the node's own, trained on with the other half's photos. A
leaf holds out one person and has seen everybody else, most of them long ago: an approximation of the plain fold.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from study.folds import lopo_folds
from trainables.faces.table import Faces


@dataclass(frozen=True)
class Stage:
    """One training of the tree: from the parent's weights, on the photos of the parent's other half, and some replayed.

    held: the people that no stage up to here has seen. rows: what this stage trains on. parent: index in the list of
    stages, None below the root. A leaf has test rows, those of its one person.
    """

    name: str
    held: tuple[str, ...]
    rows: Int[np.ndarray, " rows"]
    parent: int | None
    depth: int
    test: Int[np.ndarray, " test"] | None


def fold_tree(faces: Faces, *, seed: int, replay: float, wanted: Collection[str] | None = None) -> list[Stage]:
    """Every stage, parents first; the leaves are the LOPO folds, or those of the `wanted` people alone.

    People are halved in a seeded order, about as many photos in each half. replay: photos from before, shown again
    beside the new ones, as a share of these; drawn from those that everyone held out below may see. What a stage
    trains on does not depend on who is wanted.
    """
    if replay < 0:
        raise ValueError(f"replay is a share >= 0 of a stage's new photos, got {replay}")
    names = [fold.name for fold in lopo_folds(faces)]  # refuses nameless faces and shared photos
    random = np.random.default_rng(seed)
    order = [names[index] for index in random.permutation(len(names))]
    rows_of = {name: np.flatnonzero(faces.person == name) for name in names}
    stages: list[Stage] = []

    def grow(held: list[str], parent: int | None, depth: int, name: str) -> None:
        left, right = _halves(held, rows_of)
        for side, (mine, other) in enumerate(((left, right), (right, left))):
            new = np.concatenate([rows_of[person] for person in other])
            before = np.flatnonzero(~np.isin(faces.person, held))
            again = random.permutation(before)[: round(replay * len(new))]
            test = rows_of[mine[0]] if len(mine) == 1 else None
            stages.append(
                Stage(f"{name}{side}", tuple(sorted(mine)), np.sort(np.concatenate([new, again])), parent, depth, test)
            )
            if len(mine) > 1:
                grow(mine, len(stages) - 1, depth + 1, f"{name}{side}")

    grow(order, None, 0, "")
    return stages if wanted is None else _only(stages, set(wanted))


def _only(stages: list[Stage], wanted: set[str]) -> list[Stage]:
    """The stages on the way to a wanted leaf."""
    kept = [index for index, stage in enumerate(stages) if wanted & set(stage.held)]
    place: dict[int | None, int | None] = {None: None} | {old: new for new, old in enumerate(kept)}
    return [replace(stages[old], parent=place[stages[old].parent]) for old in kept]


def lineage(stages: list[Stage], index: int) -> Int[np.ndarray, " rows"]:
    """Every row that the model of a stage was trained on, from the root down, once each."""
    rows = [stages[index].rows]
    parent = stages[index].parent
    while parent is not None:
        rows.append(stages[parent].rows)
        parent = stages[parent].parent
    return np.unique(np.concatenate(rows))


def cost(stages: list[Stage], faces: Faces) -> float:
    """Photos shown in one pass over the tree, as a multiple of one training on all faces."""
    return sum(len(stage.rows) for stage in stages) / len(faces)


def _halves(people: list[str], rows_of: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Cut where the photos are halved; at least one person on each side."""
    photos = np.cumsum([len(rows_of[person]) for person in people])
    cut = int(np.argmin(np.abs(photos[:-1] - photos[-1] / 2))) + 1
    return people[:cut], people[cut:]
