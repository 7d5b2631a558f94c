"""Companions: faces of other tables that train beside a fold's own in every training, and on whom nobody is tested.

Fine-tuned on a few hundred faces of mostly young people, a network may forget what it knew of the others. Faces of its
pretraining that it sees again shall prevent that (rehearsal; Robins, Connection Science 7, 1995).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int16

from trainables.faces.hashes import Hashes, stacked
from trainables.faces.table import Faces, decode_face, digest_row, face_hash, read_columns


@dataclass(frozen=True)
class Companions:
    """Faces in the order in which they are drawn: a training with `count` companions has the first `count`.

    encoded: each face as its table has it; age is in years; the other columns as in Faces.
    """

    encoded: tuple[bytes, ...]
    age: Int16[np.ndarray, " faces"]
    person: np.ndarray
    photo: np.ndarray
    content: np.ndarray
    face_hash: Hashes | None
    photo_hash: Hashes | None

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def datasets(self) -> list[str]:
        """Names of their datasets, sorted."""
        return sorted({str(photo).split("/")[0] for photo in self.photo})

    @property
    def digest(self) -> str:
        """16 hex digits of all that training sees of them, in their order."""
        digest = hashlib.sha256()
        for photo, person, age, face, content in zip(
            self.photo, self.person, self.age.tolist(), self.encoded, self.content, strict=True
        ):
            digest.update(digest_row(str(photo), str(person), age, hashlib.sha256(face).hexdigest(), str(content)))
        return digest.hexdigest()[:16]

    def first(self, count: int) -> Companions:
        """The first `count` of them."""
        looks = (None if hashes is None else hashes[:count] for hashes in (self.face_hash, self.photo_hash))
        columns = (self.age, self.person, self.photo, self.content)
        return Companions(self.encoded[:count], *(values[:count] for values in columns), *looks)

    def beside(self, faces: Faces) -> Faces:
        """The faces, then the companions, which fit() takes into every training (config.companions of them).

        No row of a fold is a companion: folds are cut from the faces without them.
        """
        px = faces.pixels.shape[1]
        pixels = np.stack([decode_face(face, px=px) for face in self.encoded])
        return Faces(
            pixels=np.concatenate([faces.pixels, pixels]),
            age=np.concatenate([faces.age, self.age]),
            person=np.concatenate([faces.person, self.person]),
            photo=np.concatenate([faces.photo, self.photo]),
            content=np.concatenate([faces.content, self.content]),
            digest=hashlib.sha256(f"{faces.digest} beside {self.digest}".encode()).hexdigest()[:16],
            coverage=faces.coverage,
            companions=len(self),
        )


def draw_companions(folders: Sequence[Path], *, most: int) -> Companions:
    """The first `most` companions of whole faces tables: every age of them is equally likely, as long as it has faces.

    The order depends on the photos' content and ages alone, so that fewer companions are the first of more.
    Raises ValueError where there are not so many faces.
    """
    ages, contents = [], []
    for row in read_columns(folders, ["age", "photo_sha256"]):
        ages.append(row["age"])
        contents.append(row["photo_sha256"])
    if len(ages) < most:
        raise ValueError(
            f"{most} companions are asked for, and {', '.join(map(str, folders))} has {len(ages)} faces: give fewer "
            "--companions, or more tables to --beside"
        )
    drawn = _order(np.array(ages, np.int64), contents)[:most]
    place = {int(row): number for number, row in enumerate(drawn)}
    found: dict[int, dict] = {}
    columns = ["dataset", "photo", "person", "age", "photo_sha256", "face", "face_hash", "photo_hash"]
    for index, row in enumerate(read_columns(folders, columns)):
        if index in place:
            found[place[index]] = row
    rows = [found[number] for number in range(most)]
    return Companions(
        tuple(row["face"] for row in rows),
        np.array([row["age"] for row in rows], np.int16),
        np.array([f"{row['dataset']}/{row['person']}" if row["person"] else "" for row in rows], np.str_),
        np.array([f"{row['dataset']}/{row['photo']}" for row in rows], np.str_),
        np.array([row["photo_sha256"] for row in rows], np.str_),
        stacked([row["face_hash"] or face_hash(row["face"]) for row in rows]),
        stacked([row["photo_hash"] for row in rows]),
    )


def _order(age: Int[np.ndarray, " faces"], content: Sequence[str]) -> Int[np.ndarray, " faces"]:
    """Rows in the order of a weighted draw without replacement, weights 1 / (faces of that age).

    Efraimidis and Spirakis, Information Processing Letters 97, 2006: the smallest -log(u) / weight come first, with u
    uniform; here u is of the photo's hash. Equal photos are drawn in the tables' order.
    """
    hashes = (int(hashlib.sha256(photo.encode()).hexdigest()[:13], 16) for photo in content)
    u = (np.fromiter(hashes, np.float64, len(content)) + 1) / (16**13 + 1)
    _, group, count = np.unique(age, return_inverse=True, return_counts=True)
    return np.argsort(-np.log(u) * count[group], kind="stable")
