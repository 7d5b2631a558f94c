"""Photos of any data set, by a file of labels: python -m study.align table --root DIR --labels labels.csv."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from study.align.datasets.labels import Row, read_labels
from study.files.storage import Folder
from study.landmarks.photos import Photo, Reason, Reject, climbs
from study.plain import printable

MAX_AGE = 120

_SEXES = {"m": "male", "male": "male", "man": "male", "f": "female", "female": "female", "woman": "female"}
"""Words for a sex. Codes such as 0 and 1 are kept as they are: data sets use them either way round."""

_NOTHING = {"", "nan", "none", "null", "na", "n/a", "unknown", "?"}

_DATE = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?)?(?:[T ].*)?")


@dataclass(frozen=True)
class Source:
    """A file of labels. columns: its own names of labels.COLUMNS. splits: which to take; () takes all.

    parts: folders in the root in which photos are looked for, in this order.
    """

    file: str = ""
    columns: Mapping[str, str] | None = None
    splits: tuple[str, ...] = ()
    parts: tuple[str, ...] = ("",)


def photos(root: Folder, source: Source | None = None) -> Iterator[Photo | Reject]:
    """Every row of the labels, as a Photo or as a Reject with the row's place in the file.

    Of equal rows on a photo the first counts. Rows on one photo that contradict each other are all rejected. Raises
    FileNotFoundError or ValueError where the labels cannot be read (see read_labels), or have no row.
    """
    if source is None or not source.file:
        raise ValueError(f"the photos in {root} need a file that says their ages: --labels FILE")
    rows = list(read_labels(source.file, source.columns or {}))
    if not rows:
        raise ValueError(f"{source.file} has no rows")
    if source.splits and not any("split" in row.values for row in rows):
        raise ValueError(f"{source.file} has no column for split, which --splits asks for; see --columns")
    judged = [(row, _judge(root, row, source)) for row in rows]
    by_photo: dict[str, list[int]] = {}
    for number, (_, entry) in enumerate(judged):
        if isinstance(entry, Photo):
            by_photo.setdefault(entry.path, []).append(number)
    for number, (row, entry) in enumerate(judged):
        yield entry if isinstance(entry, Reject) else _once(entry, row, number, judged, by_photo[entry.path])


def _once(
    photo: Photo, row: Row, number: int, judged: Sequence[tuple[Row, Photo | Reject]], numbers: Sequence[int]
) -> Photo | Reject:
    """The photo; a Reject for a row that repeats or contradicts another one of the same photo."""
    others = {judged[i][0].place: judged[i][1] for i in numbers if i != number}
    ages = {place: entry.age for place, entry in others.items() if isinstance(entry, Photo)}
    if any(age != photo.age for age in ages.values()):
        told = ", ".join(f"{place} ({age})" for place, age in ages.items())
        return Reject(photo.path, Reason.CONFLICTING_AGES, f"{row.place} ({photo.age}) and {told} name this photo")
    if any(entry != photo for entry in others.values()):
        return Reject(photo.path, Reason.BAD_NAME, f"{row.place} and {', '.join(others)} differ in more than the age")
    if number != numbers[0]:
        return Reject(photo.path, Reason.DUPLICATE, f"{row.place} repeats {judged[numbers[0]][0].place}, which is kept")
    return photo


def _judge(root: Folder, row: Row, source: Source) -> Photo | Reject:
    values = row.values
    path = values["photo"].replace("\\", "/")  # Windows
    while path.startswith("./"):
        path = path[2:]

    def reject(reason: Reason, detail: str) -> Reject:
        return Reject(path or f"({row.place})", reason, f"{row.place}: {detail}")

    if row.wrong:
        return reject(Reason.BAD_NAME, row.wrong)
    if not path:
        return reject(Reason.BAD_NAME, "no photo")
    if climbs(path):
        return reject(Reason.OUTSIDE_ROOT, "an absolute or climbing path; expected one relative to --root")
    if source.splits and values["split"] not in source.splits:
        return reject(Reason.OTHER_SPLIT, f"split {printable(values['split'])!r}, asked for {', '.join(source.splits)}")
    age = _age(values)
    if age is None:
        told = {name: values[name] for name in ("age", "birth", "taken") if values.get(name)}
        shown = ", ".join(f"{name} {printable(value)!r}" for name, value in told.items()) or "none"
        return reject(Reason.BAD_NAME, f"no age in years: {shown}")
    if not 0 <= age <= MAX_AGE:
        return reject(Reason.AGE_OUT_OF_RANGE, f"{age} years, outside 0 to {MAX_AGE}")
    box = _box(values.get("box", ""))
    if box is None:
        told_box = printable(values["box"])
        return reject(Reason.BAD_NAME, f"box {told_box!r}, expected left top right bottom in pixels")
    if len(source.parts) > 1:
        path = next((f"{part}/{path}" for part in source.parts if root.has(f"{part}/{path}")), path)
    sex = _known(values.get("sex", ""))
    return Photo(
        path,
        age,
        person=_known(values.get("person", "")),
        sex=_SEXES.get(sex.casefold(), sex),
        group=_known(values.get("group", "")),
        box=box,
    )


def _known(text: str) -> str:
    return "" if text.casefold() in _NOTHING else text


def _age(values: Mapping[str, str]) -> int | None:
    """Completed years, from an age ("23", "23.5", "23,5") or from birth and taken; None where they say none."""
    text = _known(values.get("age", ""))
    if text:
        try:
            age = float(re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", text))
        except ValueError:
            return None
        return math.floor(age) if abs(age) < 10_000 else None
    born, taken = (_DATE.fullmatch(values.get(name, "")) for name in ("birth", "taken"))
    if born is None or taken is None:
        return None
    years = int(taken["year"]) - int(born["year"])
    # as in IMDB-WIKI: a photo of a year, and no more, is taken to be of its middle
    then = (int(taken["month"] or 7), int(taken["day"] or 1) if taken["month"] else 1)
    birthday = (int(born["month"]), int(born["day"] or 1)) if born["month"] else (1, 1)
    if taken["month"] is None:
        return years - (birthday >= (7, 1))
    return years - (birthday > then)


def _box(text: str) -> tuple[float, ...] | None:
    """Left, top, right, bottom; () where there is no box, None where it is none."""
    if not _known(text):
        return ()
    try:
        box = tuple(float(part) for part in re.split(r"[\s,;]+", text.strip("[]() ")))
    except ValueError:
        return None
    good = len(box) == 4 and all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]
    return box if good else None
