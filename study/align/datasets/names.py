"""Photos of a dataset whose file names tell the age."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from study.files.storage import Folder
from study.landmarks.photos import Photo, Reason, Reject

MAX_AGE = 120


def read_names(
    names: Sequence[str],
    pattern: re.Pattern[str],
    photo_of: Callable[[str, int, re.Match[str]], Photo],
    *,
    dataset: str,
    root: Folder,
    expected: str,
) -> Iterator[Photo | Reject]:
    """Each photo, or why it is none, in order.

    pattern: of a file name, with a group `age`. photo_of: (name, age in years, match) to a photo. dataset, root: for
    messages. expected: the form of the names, in words. Raises ValueError if none has it.
    """
    found = [pattern.fullmatch(PurePosixPath(name).name) for name in names]
    if not any(found):
        raise ValueError(
            f"{dataset}: none of the {len(names)} photos in {root} is named {expected}; the first is {names[0]!r}."
        )
    for name, match in zip(names, found, strict=True):
        if match is None:
            yield Reject(name, Reason.BAD_NAME, f"expected {expected}")
        elif (age := int(match["age"])) > MAX_AGE:
            yield Reject(name, Reason.AGE_OUT_OF_RANGE, f"{age} years, more than {MAX_AGE}")
        else:
            yield photo_of(name, age, match)
