"""All-Age-Faces (AAF): 13,322 photos, mostly of Asian people, aged 2 to 80, each of another unnamed person.

Source: Cheng, Li, Wang, Yu and Wang, Tsinghua Science and Technology 24(3), 2019.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from study.align.datasets.names import read_names
from study.files.storage import Folder
from study.landmarks.photos import Photo, Reject, photo_names

# <serial>A<age>.jpg: 00000A02.jpg to 13321A38.jpg
_NAME = re.compile(r"(?P<serial>\d{5})A(?P<age>\d{2,3})\.(?:jpe?g|png)", re.IGNORECASE)

_PHOTOS = "original images"
"""The folder of the photos as they were taken; "aglined faces" (sic) beside it holds the authors' crops of the same."""

_PLACES = (f"All-Age-Faces Dataset/{_PHOTOS}", _PHOTOS)
"""Where the photos lie below the folder that an archive was unpacked to."""

_LAST_WOMAN = 7380
"""Serial numbers up to this one are of women, those above of men."""


def photos(root: Folder) -> Iterator[Photo | Reject]:
    """Every photo of the data set, in name order; person is "".

    root: the folder that was unpacked to, the data set's own, or "original images" itself.
    Raises FileNotFoundError without photos, ValueError where no photo is named AAF's way.
    """
    if not root.is_folder():
        raise FileNotFoundError(f"All-Age-Faces: no folder {root}; --root is the folder that holds {_PHOTOS!r}")
    names = [f"{place}/{name}" for place in _PLACES for name in photo_names(root.names(place))]
    names = names or photo_names(root.names())
    expected = "<serial, 5 digits>A<age>.jpg"
    if not names:
        raise FileNotFoundError(f"All-Age-Faces: no photos in {root} or in its {_PHOTOS!r}; expected {expected}")
    yield from read_names(names, _NAME, _photo, dataset="All-Age-Faces", root=root, expected=expected)


def _photo(name: str, age: int, match: re.Match[str]) -> Photo:
    return Photo(name, age, sex="female" if int(match["serial"]) <= _LAST_WOMAN else "male")
