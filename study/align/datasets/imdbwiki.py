"""IMDB-WIKI: 460,723 + 62,328 = 523,051 scraped photos. The metadata of each part are one MATLAB struct."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import partial

import numpy as np

from study.align.datasets.matlab import read_struct
from study.files.storage import Folder
from study.landmarks.photos import Photo, Reason, Reject, climbs

MIN_FACE_SCORE = 1.0
MAX_AGE = 100
"""The usual filter: a face score of at least 1, no second face, 0 to 100 years. Unknown gender is kept."""

# IMDB: NN/nm<person>_rm<photo>_<birth>_<year>.jpg; WIKI: NN/<page id>_<birth>_<year>.jpg
_PERSON = {
    "imdb": re.compile(r"(?:.*/)?(?P<person>nm\d+)_rm\d+_[^/]*\.jpe?g", re.IGNORECASE),
    "wiki": re.compile(r"(?:.*/)?(?P<person>\d+)_[^/]*\.jpe?g", re.IGNORECASE),
}
_COLUMNS = ("dob", "photo_taken", "full_path", "face_score", "second_face_score")
_SEXES = {0.0: "female", 1.0: "male"}
"""The reverse of UTKFace's codes; NaN is unknown."""
_LAST_DAY = date.max.toordinal()


def photos(root: Folder, *, part: str) -> Iterator[Photo | Reject]:
    """Every row of <part>.mat ("imdb" or "wiki"), which lies in root, root/<part> or root/<part>_crop.

    The photos lie next to the .mat. For the age see `age_in`. Raises FileNotFoundError without the .mat, and ValueError
    where it is damaged or another file.
    """
    folders = ("", f"{part}/", f"{part}_crop/")
    folder = next((f for f in folders if root.has(f"{f}{part}.mat")), None)
    if folder is None:
        raise FileNotFoundError(
            f"IMDB-WIKI: no {part}.mat in {root}, {root}/{part} or {root}/{part}_crop; --root is the folder that "
            f"holds {part}.mat with the photos' folders 00 to 99"
        )
    where = f"{root}/{folder}{part}.mat"
    try:
        columns = read_struct(root.read(f"{folder}{part}.mat"), name=part, columns=(*_COLUMNS, "gender"))
    except ValueError as error:
        raise ValueError(f"IMDB-WIKI: {where}: {error}") from None
    missing = [name for name in _COLUMNS if name not in columns]
    lengths = {name: len(column) for name, column in columns.items()}
    if missing or len(set(lengths.values())) > 1:
        raise ValueError(f"IMDB-WIKI: {where} lacks {missing} or its columns differ in length: {lengths}")
    paths = columns["full_path"]
    columns.setdefault("gender", np.full(len(paths), np.nan))  # some filtered copies leave it out
    numbers = [column for name, column in columns.items() if name != "full_path"]
    if not isinstance(paths, list) or any(isinstance(column, list) for column in numbers):
        raise ValueError(f"IMDB-WIKI: {where}: full_path must be text and the other columns numbers")
    if not paths:
        raise ValueError(f"IMDB-WIKI: {where} has no rows")
    births, years, scores, second_scores, genders = (
        np.asarray(columns[name], dtype=np.float64).tolist()  # photo_taken is uint16: differences would wrap
        for name in ("dob", "photo_taken", "face_score", "second_face_score", "gender")
    )
    seen: set[str] = set()
    columns_by_row = zip(paths, births, years, scores, second_scores, genders, strict=True)
    for row, birth, year, score, second, gender in columns_by_row:
        path = f"{folder}{row}"
        if path in seen:
            yield Reject(path, Reason.DUPLICATE, "the metadata have two rows for this photo; the first counts")
            continue
        seen.add(path)
        sex = _SEXES.get(gender, "")
        yield _judge(path, row, birth=birth, year=year, score=score, second=second, sex=sex, part=part)


def _judge(
    path: str, row: str, *, birth: float, year: float, score: float, second: float, sex: str, part: str
) -> Photo | Reject:
    if climbs(row):
        return Reject(path, Reason.OUTSIDE_ROOT, f"full_path {row!r} is absolute or climbs")
    match = _PERSON[part].fullmatch(row)
    age = age_in(year, birth=birth)
    if match is None or age is None:
        return Reject(path, Reason.BAD_NAME, f"full_path {row!r}, dob {birth:g}, photo_taken {year:g}")
    if not 0 <= age <= MAX_AGE:
        return Reject(path, Reason.AGE_OUT_OF_RANGE, f"{age} years, outside 0 to {MAX_AGE}")
    if not np.isfinite(score):
        return Reject(path, Reason.NO_FACE_IN_METADATA, f"face_score {score:g}: the crop is the whole photo")
    if score < MIN_FACE_SCORE:
        return Reject(path, Reason.LOW_FACE_SCORE, f"face_score {score:.3g} < {MIN_FACE_SCORE:g}")
    if not np.isnan(second):  # NaN is good: there is no second face
        return Reject(path, Reason.SECOND_FACE, f"second_face_score {second:.3g}")
    return Photo(path, age, match["person"], sex=sex)


def age_in(year: float, *, birth: float) -> int | None:
    """Age in whole years in the middle of `year`, of a person born on the MATLAB datenum `birth`; None for no date.

    The date of birth is date.fromordinal(max(datenum - 366, 1)). The photo is assumed to be of the middle of the year:
    a person born in July or later is a year younger than the difference of the years.
    """
    if not (np.isfinite(year) and np.isfinite(birth)) or int(birth) - 366 > _LAST_DAY:
        return None
    born = date.fromordinal(max(int(birth) - 366, 1))
    return int(year) - born.year - (born.month >= 7)


imdb = partial(photos, part="imdb")
wiki = partial(photos, part="wiki")
