"""FG-NET: 1,002 photos of 82 people, aged 0 to 69 (and the synthetic people, whose files have the same names)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from study.files.storage import Folder
from study.landmarks.photos import Photo, Reason, Reject, photo_names

# 001A02.JPG, 001A43a.JPG: extension, A and shot letter may be in upper or lower case, even within one pair.
_NAME = re.compile(r"(?P<person>\d{3})A(?P<age>\d{2})(?P<shot>[A-Z]?)\.JPE?G", re.IGNORECASE)


def photos(root: Folder) -> Iterator[Photo | Reject]:
    """Every photo under root/images in name order; its points, if any, are points/<lower-cased stem>.pts.

    Raises FileNotFoundError without such a folder or photos, ValueError where no photo is named FG-NET's way.
    """
    folder = f"{root}/images"
    if not root.is_folder("images"):
        raise FileNotFoundError(f"FG-NET: no folder {folder}; --root is the folder that holds images/")
    names = photo_names(root.names("images"))
    if not names:
        raise FileNotFoundError(f"FG-NET: {folder} holds no photos; expected files such as 001A02.JPG")
    if not any(_NAME.fullmatch(name) for name in names):
        raise ValueError(
            f"FG-NET: none of the {len(names)} photos in {folder} is named <person>A<age>[shot].JPG, "
            f"such as 010A07b.JPG; the first is {names[0]!r}."
        )
    listed = {name.lower(): name for name in root.names("points")}
    for name in names:
        match = _NAME.fullmatch(name)
        path = f"images/{name}"
        if match is None:
            yield Reject(path, Reason.BAD_NAME, "expected <person>A<age>[shot].JPG, such as 010A07b.JPG")
            continue
        points = listed.get(f"{PurePosixPath(name).stem.lower()}.pts")
        yield Photo(path, int(match["age"]), match["person"], f"points/{points}" if points else "")
