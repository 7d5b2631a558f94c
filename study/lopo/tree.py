"""The fold tree: all leave-one-person-out models for the cost of a few trainings instead of one each.

TreeCV (Joulani, György and Szepesvári, "Fast Cross-Validation for Incremental Learning", IJCAI 2015): a node holds out
some people. They are split into halves; each half gets a copy of the node's model, which continues training on the
other half's photos. A leaf holds out one person and has seen everyone else, most of them long ago: it approximates the
plain fold.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from study.folds import lopo_folds
from trainables.faces.table import Faces


@dataclass(frozen=True)
class Node:
    """One training of the tree: from the parent's weights, on the photos of its other half and some replayed ones.

    held: the people that no node up to here has seen. rows: the photos it trains on. parent: index in the list of
    nodes; None below the root. Only a leaf has test rows: those of its person.
    """

    name: str
    held: tuple[str, ...]
    rows: Int[np.ndarray, " rows"]
    parent: int | None
    depth: int
    test: Int[np.ndarray, " test"] | None


def fold_tree(faces: Faces, *, seed: int, replay: float, wanted: Collection[str] | None = None) -> list[Node]:
    """Every node, parents first; the leaves are the LOPO folds, or only those of the `wanted` people.

    People are halved in a seeded order, with about as many photos in each half. replay: how many photos seen before are
    shown again, as a share of the new ones; none of them is of a person held out here. What a node trains on does not
    depend on who is wanted.
    """
    if replay < 0:
        raise ValueError(f"replay is a share >= 0 of a node's new photos, got {replay}")
    names = [fold.name for fold in lopo_folds(faces)]  # refuses nameless faces and shared photos
    random = np.random.default_rng(seed)
    order = [names[index] for index in random.permutation(len(names))]
    rows_of = {name: np.flatnonzero(faces.person == name) for name in names}
    nodes: list[Node] = []

    def grow(held: list[str], parent: int | None, depth: int, name: str) -> None:
        left, right = _halves(held, rows_of)
        for side, (mine, other) in enumerate(((left, right), (right, left))):
            new = np.concatenate([rows_of[person] for person in other])
            before = np.flatnonzero(~np.isin(faces.person, held))
            again = random.permutation(before)[: round(replay * len(new))]
            test = rows_of[mine[0]] if len(mine) == 1 else None
            nodes.append(
                Node(f"{name}{side}", tuple(sorted(mine)), np.sort(np.concatenate([new, again])), parent, depth, test)
            )
            if len(mine) > 1:
                grow(mine, len(nodes) - 1, depth + 1, f"{name}{side}")

    grow(order, None, 0, "")
    return nodes if wanted is None else _only(nodes, set(wanted))


def _only(nodes: list[Node], wanted: set[str]) -> list[Node]:
    """The nodes on the way to a wanted leaf."""
    kept = [index for index, node in enumerate(nodes) if wanted & set(node.held)]
    place: dict[int | None, int | None] = {None: None} | {old: new for new, old in enumerate(kept)}
    return [replace(nodes[old], parent=place[nodes[old].parent]) for old in kept]


def lineage(nodes: list[Node], index: int) -> Int[np.ndarray, " rows"]:
    """Every row that the model of a node was trained on, from the root down, once each."""
    rows = [nodes[index].rows]
    parent = nodes[index].parent
    while parent is not None:
        rows.append(nodes[parent].rows)
        parent = nodes[parent].parent
    return np.unique(np.concatenate(rows))


def cost(nodes: list[Node], faces: Faces) -> float:
    """Photos shown in one pass over the tree, as a multiple of one epoch on all faces."""
    return sum(len(node.rows) for node in nodes) / len(faces)


def _halves(people: list[str], rows_of: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Split so that each half has about half of the photos, and at least one person."""
    photos = np.cumsum([len(rows_of[person]) for person in people])
    cut = int(np.argmin(np.abs(photos[:-1] - photos[-1] / 2))) + 1
    return people[:cut], people[cut:]
