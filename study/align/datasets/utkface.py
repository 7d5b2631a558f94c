"""UTKFace: 23,708 aligned and cropped faces, aged 0 to 116, of unnamed people (and the in-the-wild parts)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from study.files.storage import Folder
from study.landmarks.photos import Photo, Reason, Reject, photo_names

# <age>_<gender>_<race>_<timestamp>.jpg.chip.jpg, and irregular names with a right age: gender or race missing or empty,
# a space before the extension, a missing dot, timestamps of other lengths; and the names that browsers and desktops
# give to copies: "... (1).jpg", "... - Copy.jpg". Where one of two codes is missing, nobody knows which: both are left.
_NAME = re.compile(
    r"(?P<age>\d{1,3})_(?:(?P<sex>[0-4]?)_(?P<race>[0-4]?)_|[0-4]?_)\d{4,}[ .\w()-]*\.(?:jpe?g|png)", re.IGNORECASE
)
_SEXES = {"0": "male", "1": "female"}
_RACES = {"0": "white", "1": "black", "2": "asian", "3": "indian", "4": "other"}
"""The dataset's own codes and words; "other" stands for Hispanic, Latino, Middle Eastern and others."""

_PARTS = ("part1", "part2", "part3")
"""Folders that the photos in the wild unpack to."""

MAX_AGE = 120


def photos(root: Folder) -> Iterator[Photo | Reject]:
    """Every photo directly in root, and in its folders part1 to part3, in name order; person is "".

    Raises FileNotFoundError without photos, ValueError where no photo is named UTKFace's way.
    """
    if not root.is_folder():
        raise FileNotFoundError(f"UTKFace: no folder {root}; --root is the folder that holds the photos")
    names = photo_names(root.names())
    names += [f"{part}/{name}" for part in _PARTS for name in photo_names(root.names(part))]
    expected = "<age>_<gender>_<race>_<timestamp>.jpg.chip.jpg"
    if not names:
        raise FileNotFoundError(
            f"UTKFace: {root} holds no photos, nor do {', '.join(_PARTS)} in it; expected files named {expected}"
        )
    if not any(_NAME.fullmatch(PurePosixPath(name).name) for name in names):
        raise ValueError(
            f"UTKFace: none of the {len(names)} photos in {root} is named {expected}; the first is {names[0]!r}."
        )
    for name in names:
        match = _NAME.fullmatch(PurePosixPath(name).name)
        if match is None:
            yield Reject(name, Reason.BAD_NAME, f"expected {expected}")
        elif int(match["age"]) > MAX_AGE:
            yield Reject(name, Reason.AGE_OUT_OF_RANGE, f"{match['age']} years, more than {MAX_AGE}")
        else:
            sex, race = _SEXES.get(match["sex"] or "", ""), _RACES.get(match["race"] or "", "")
            yield Photo(name, int(match["age"]), sex=sex, group=race)
