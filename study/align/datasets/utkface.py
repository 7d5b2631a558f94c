"""UTKFace: 23,708 aligned and cropped faces, aged 0 to 116, of unnamed people (and the in-the-wild parts)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from study.align.datasets.names import read_names
from study.files.storage import Folder
from study.landmarks.photos import Photo, Reject, photo_names

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
    yield from read_names(names, _NAME, _photo, dataset="UTKFace", root=root, expected=expected)


def _photo(name: str, age: int, match: re.Match[str]) -> Photo:
    return Photo(name, age, sex=_SEXES.get(match["sex"] or "", ""), group=_RACES.get(match["race"] or "", ""))
