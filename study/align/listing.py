"""The photos of a dataset: listed by its parser before any is opened, and without repeated ones once all are hashed."""

from __future__ import annotations

import os
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from study.align.datasets import DATASETS, Dataset
from study.files.storage import Folder
from study.landmarks.photos import Photo, Reason, Reject

LISTING = pa.schema(
    [
        ("photo", pa.string()),
        ("person", pa.string()),
        ("age", pa.int16()),
        ("points", pa.string()),
        ("sex", pa.string()),
        ("group", pa.string()),
        ("box", pa.list_(pa.float32())),
    ]
)
"""What a parser knows of each photo before it is opened: a row for each."""

FATE = pa.schema([("reason", pa.string()), ("detail", pa.string())])
"""Why a photo failed; both null where it did not."""

HASHED = pa.schema([*LISTING, ("sha256", pa.string()), ("bytes", pa.int64()), *FATE])
"""A listing whose photos were opened: the file's hash and size, null where it could not be read."""


def list_photos(dataset: Dataset, root: Folder) -> tuple[pa.Table, list[Reject]]:
    """The dataset's photos as a LISTING sorted by name, and those that its parser rejects."""
    parts: list[pa.Table] = [LISTING.empty_table()]
    rejects: list[Reject] = []
    try:
        # in parts: half a million Python objects at once would stay in the driver's memory for the whole run
        found = iter(dataset.photos(root))
        while entries := list(islice(found, 4096)):
            entries = [_in_utf8(entry) for entry in entries]
            photos = [entry for entry in entries if isinstance(entry, Photo)]
            rejects += [entry for entry in entries if isinstance(entry, Reject)]
            rows = [{"photo": photo.path} | {n: getattr(photo, n) for n in LISTING.names[1:]} for photo in photos]
            parts.append(pa.Table.from_pylist(rows, schema=LISTING))
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{error}{_looks_like(root, dataset)}") from None
    return pa.concat_tables(parts).sort_by("photo"), sorted(rejects, key=lambda reject: reject.path)


def _in_utf8(entry: Photo | Reject) -> Photo | Reject:
    """The entry; where its path is no UTF-8, as on old disks, a Reject: neither Arrow nor Parquet can hold it."""
    try:
        entry.path.encode()
        return entry
    except UnicodeEncodeError:
        shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
        return Reject(shown, Reason.BAD_NAME, "its name is no UTF-8: rename it, such as with convmv")


def _looks_like(root: Folder, dataset: Dataset) -> str:
    """A hint where the folder is laid out as another dataset."""
    for other in DATASETS.values():
        if other.photos is not dataset.photos:
            try:
                next(iter(other.photos(root)))
            except (ValueError, FileNotFoundError, StopIteration):
                continue
            return f" It looks like {other.name}: python -m study.align {other.name}"
    return ""


def keep_first(hashed: pa.Table) -> tuple[pa.Table, list[Reject]]:
    """Of a HASHED table of the whole dataset the photos that can be read, each content once; and the others as rejects.

    Of photos with identical bytes and one age the first by name is kept. Where their ages differ, nobody knows the
    right one, and all are rejected.
    """
    counts = pc.value_counts(hashed["sha256"].drop_null())
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    # only these become Python objects: nearly all of half a million photos are readable and unique
    suspects = pc.or_(pc.is_null(hashed["sha256"]), pc.is_in(hashed["sha256"], value_set=repeated))
    keep = pc.invert(suspects).to_numpy(zero_copy_only=False).copy()
    rejects: list[Reject] = []
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, row in zip(np.flatnonzero(~keep).tolist(), hashed.filter(suspects).to_pylist(), strict=True):
        if row["sha256"] is None:
            rejects.append(Reject(row["photo"], Reason(row["reason"]), row["detail"]))
        else:
            groups.setdefault(row["sha256"], []).append((number, row))
    for group in groups.values():
        first, *rest = (row["photo"] for _, row in group)
        if len({row["age"] for _, row in group}) > 1:
            for number, row in group:
                others = ", ".join(f"{other['photo']} ({other['age']})" for at, other in group if at != number)
                rejects.append(Reject(row["photo"], Reason.CONFLICTING_AGES, f"same bytes as {others}"))
            continue
        keep[group[0][0]] = True
        for name in rest:
            rejects.append(Reject(name, Reason.DUPLICATE, f"same bytes and age as {first}, which is kept"))
    return hashed.filter(pa.array(keep)).select(HASHED.names[:-2]), rejects
