"""Who is tested and who trains: leave-one-person-out folds and person-disjoint splits. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from trainables.faces.index import FacesIndex
from trainables.faces.table import Faces


@dataclass(frozen=True)
class Fold:
    """Rows of a faces table: `test` are all faces of the tested people, `train` every face of the others."""

    name: str
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]


def lopo_folds(faces: Faces) -> list[Fold]:
    """One fold for each person, in name order. Raises ValueError where people are unknown or fewer than two."""
    people = _people(faces)
    names = np.array(people)
    return _trainable(
        [Fold(name, np.flatnonzero(faces.person != name), np.flatnonzero(faces.person == name)) for name in names]
    )


def person_folds(faces: Faces, *, folds: int, seed: int, rows: Int[np.ndarray, " rows"] | None = None) -> list[Fold]:
    """Folds whose test groups hold about the same number of photos; no person is on both sides.

    People are taken in a seeded order, each into the group with the fewest photos so far. With `rows`, only the people
    of those rows are trained or tested on.
    """
    among = np.ones(len(faces), bool) if rows is None else np.isin(np.arange(len(faces)), rows)
    people = [name for name in _people(faces) if (among & (faces.person == name)).any()]
    if not 2 <= folds <= len(people):
        raise ValueError(f"cannot cut {len(people)} people into {folds} folds: expected 2 to {len(people)}")
    order = np.random.default_rng(seed).permutation(len(people))
    count = {name: int((among & (faces.person == name)).sum()) for name in people}
    groups: list[list[str]] = [[] for _ in range(folds)]
    size = [0] * folds
    for index in order:
        least = size.index(min(size))
        groups[least].append(people[index])
        size[least] += count[people[index]]
    tests = [among & np.isin(faces.person, group) for group in groups]
    return _trainable(
        [Fold(f"{k + 1}of{folds}", np.flatnonzero(among & ~t), np.flatnonzero(t)) for k, t in enumerate(tests)]
    )


def dev_split(faces: Faces | FacesIndex, *, share: float, seed: int) -> Fold:
    """A dev set (`test`) of about `share` of the faces: whole people, or photo files where people are unknown.

    Whether a person is in the dev set depends on a hash of their name and the seed alone, so it stays the same when a
    table grows. Raises ValueError where there are too few.
    """
    if not 0 < share < 1:
        raise ValueError(f"the dev set's share lies in (0, 1), got {share}")
    keys = np.where(faces.person != "", faces.person, faces.content)
    chosen = {key: _hash(f"{seed}:{key}") < share for key in np.unique(keys)}
    test = np.array([chosen[key] for key in keys], bool)
    if test.all() or not test.any():
        raise ValueError(f"{len(chosen)} people or photos are too few for a dev set of {share:.0%}")
    return _trainable([Fold("dev", np.flatnonzero(~test), np.flatnonzero(test))])[0]


def _trainable(folds: list[Fold]) -> list[Fold]:
    """The folds. Raises ValueError where one has fewer than two faces to train on."""
    for fold in folds:
        if len(fold.train) < 2:
            raise ValueError(f"without {fold.name} there is {len(fold.train)} face to train on: expected 2 or more")
    return folds


def shared_content(faces: Faces) -> Iterator[tuple[str, str]]:
    """Pairs of photos with identical bytes under different people: a split by person would separate them."""
    first: dict[str, int] = {}
    for row, content in enumerate(faces.content):
        other = first.setdefault(str(content), row)
        if faces.person[other] != faces.person[row]:
            yield str(faces.photo[other]), str(faces.photo[row])


def _people(faces: Faces) -> list[str]:
    nameless = int((faces.person == "").sum())
    if nameless:
        raise ValueError(
            f"{nameless} of {len(faces)} faces name no person, so they cannot be left out by person; "
            "use a dataset with people, such as fgnet"
        )
    people = faces.people
    if len(people) < 2:
        raise ValueError(f"leaving one person out needs at least two people, got {len(people)}")
    pairs = list(shared_content(faces))
    if pairs:
        raise ValueError(f"two people have the same photo: {pairs[0][0]} and {pairs[0][1]}; align again")
    return people


def _hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
