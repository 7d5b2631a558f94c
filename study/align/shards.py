"""Shards of a faces table: planned from the photo list, written whole, and done only once.

OUT/align.json says with which options; OUT/faces/<shard>.parquet and OUT/rejects/<shard>.parquet are one
shard. A shard's name holds the fingerprint of the options and of its photos (names, ages, people, bytes),
so what is on disk under that name is what this run would write, whoever wrote it and whenever it was
killed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from study.artifacts.environments import differences
from study.files.storage import Folder
from study.landmarks.photos import Reject
from trainables.faces.table import ALIGNMENT_KEY, REJECTS_SCHEMA, SCHEMA, damaged

ABOUT = "align.json"


@dataclass(frozen=True)
class Shard:
    """Consecutive photos of the hashed listing, and the file name that says exactly which."""

    name: str
    photos: pa.Table


def claim(out: Folder, about: dict[str, Any], *, force: bool) -> None:
    """Make `out` this table's: a new folder, one of the same options, or, with force, emptied of another's.

    Raises ValueError where a table of other options, or anything else, lies there.
    """
    there = {path: len(out.names(path)) for path in ("faces", "rejects")}
    if not out.has(ABOUT):
        foreign = [path for path, files in there.items() if files]
        if foreign and not force:
            raise ValueError(
                f"{out}/{foreign[0]} holds files but there is no {out}/{ABOUT} that says how they were made; "
                "use another --out, or --force to delete them"
            )
    else:
        before = _read_about(out).get("alignment") or {}
        changed = sorted(key for key in before | about if before.get(key) != about.get(key))
        if not changed:
            return
        if not force:
            what = ", ".join(f"{key} {before.get(key)!r} there, {about.get(key)!r} now" for key in changed)
            raise ValueError(
                f"{out} holds a table made with other options ({what}); tables are never mixed: "
                "use another --out, or --force to delete that one"
            )
    _discard(out, there)
    out.write(ABOUT, _json({"alignment": about, "complete": False}))


def claim_source(out: Folder, root: str, listing: pa.Table, shards: list[Shard], *, force: bool) -> None:
    """Make `out` the table of the photos at `root`, which align.json remembers.

    Raises ValueError where `out` was made from another folder, and most of its faces are of photos that are not in
    this listing. Faces that go all the same (force, photos that were changed or removed) are counted in a line.
    """
    record, expected = _read_about(out), {shard.name for shard in shards}
    there: list[str] = []
    for name in out.names("faces"):
        if name not in expected:
            there += _column(out, f"faces/{name}", "photo_sha256")
    gone = len(set(there) - set(listing["sha256"].to_pylist()))
    if 2 * gone > len(there) and record.get("root") != root and not force:
        source = f", which was made from {record['root']}," if record.get("root") else ""
        raise ValueError(
            f"{out}{source} holds {gone} faces of photos that are not in {root}: use another --out, or --force to "
            "discard them"
        )
    if gone:
        print(f"Discarding {gone} faces in {out}: their photos are not in {root} as they were", flush=True)
    if "root" not in record or 2 * gone > len(there):  # a copy of the folder under another name leaves the record
        out.write(ABOUT, _json({**record, "root": root}))


def note_environment(out: Folder, now: Mapping[str, str]) -> None:
    """Keep in align.json with which versions the table was begun; a line where it goes on with others."""
    record = _read_about(out)
    then = record.get("environment", now)
    if not record.get("complete") and (told := differences(then, now)):
        print(f"This table goes on in another environment than it began in: {told}", flush=True)
    if record.get("environment") != then:
        out.write(ABOUT, _json({**record, "environment": dict(then)}))


def _discard(out: Folder, there: dict[str, int]) -> None:
    """Delete a table, and say what goes."""
    if any(there.values()):
        made = _read_about(out).get("counts", {}).get("aligned") if out.has(ABOUT) else None
        faces = f" ({made:,} faces)" if isinstance(made, int) else ""
        print(
            f"Discarding {there['faces']} files of {out}/faces{faces} and {there['rejects']} of {out}/rejects",
            flush=True,
        )
    for path in ("faces", "rejects", ABOUT):
        out.delete(path)


def _read_about(out: Folder) -> dict[str, Any]:
    """align.json. Raises ValueError where it is none."""
    try:
        record = json.loads(out.read(ABOUT))
        if not isinstance(record, dict) or not isinstance(record.get("alignment"), dict):
            raise ValueError("expected a JSON object with the alignment")
    except ValueError as error:
        raise ValueError(f"{out}/{ABOUT} is damaged ({error}): delete it, and give --force or another --out") from error
    return record


def plan_shards(listing: pa.Table, about: dict[str, Any], *, photos: int) -> list[Shard]:
    """The hashed listing cut into shards of so many photos, in order."""
    shards = []
    for number, start in enumerate(range(0, listing.num_rows, photos)):
        part = listing.slice(start, photos)
        key = hashlib.sha256(_json([about, part.to_pylist()])).hexdigest()[:16]
        shards.append(Shard(f"{number:05d}-{key}.parquet", part))
    return shards


def take_stock(out: Folder, shards: list[Shard], about: dict[str, Any], rejects: Iterable[Reject]) -> list[Shard]:
    """The shards still to do. Leftovers of killed runs and of photos that have changed since are deleted.

    The rejects that no shard knows of, those set aside before any photo was opened, are written too.
    """
    listed = pa.Table.from_pylist(
        [
            {"dataset": about["dataset"], "photo": r.path, "reason": r.reason.value, "detail": r.detail}
            for r in sorted(rejects, key=lambda reject: (reject.path, reject.reason, reject.detail))
        ],
        schema=REJECTS_SCHEMA,
    )
    key = hashlib.sha256(_json([about, listed.to_pylist()])).hexdigest()[:16]
    before = f"listing-{key}.parquet"
    expected = {shard.name for shard in shards}
    faces, aside = set(out.names("faces")), set(out.names("rejects"))
    done = expected & faces & aside
    if done != expected or before not in aside or (faces | aside) - expected - {before}:
        out.write(ABOUT, _json({**_source(out), "alignment": about, "complete": False}))
    for name in sorted(faces - done):
        out.delete(f"faces/{name}")
    for name in sorted(aside - done - {before}):
        out.delete(f"rejects/{name}")
    out.delete(".unfinished")
    if before not in aside:
        out.write(f"rejects/{before}", _parquet(listed, about))
    return [shard for shard in shards if shard.name not in done]


def write_shard(out: Folder, shard: Shard, aligned: pa.Table, about: dict[str, Any]) -> Counter[str]:
    """Write one shard from its ALIGNED rows; counts of "aligned" and of each reason.

    The rejects come first: a shard is done when both files are there, and a face with its photo's fate
    unknown is the lesser harm.
    """
    if aligned["photo"].to_pylist() != shard.photos["photo"].to_pylist():
        raise RuntimeError(f"shard {shard.name} got other photos than planned")  # a bug, so with its traceback
    failed = pa.compute.is_valid(aligned["reason"])
    rejects = aligned.filter(failed).select(REJECTS_SCHEMA.names).cast(REJECTS_SCHEMA)
    faces = aligned.filter(pa.compute.invert(failed)).select(SCHEMA.names).cast(SCHEMA)
    out.write(f"rejects/{shard.name}", _parquet(rejects, about))
    out.write(f"faces/{shard.name}", _parquet(faces, about))
    return Counter(rejects["reason"].to_pylist()) + Counter(aligned=faces.num_rows)


def finish(out: Folder, about: dict[str, Any], *, read: int) -> Counter[str]:
    """Mark the table complete; the closing count, "aligned" and each reason, from the files themselves."""
    counts: Counter[str] = Counter()
    for name in out.names("faces"):
        counts["aligned"] += len(_column(out, f"faces/{name}", "age"))
    for name in out.names("rejects"):
        counts.update(_column(out, f"rejects/{name}", "reason"))
    out.write(
        ABOUT,
        _json(
            {
                **_source(out),
                "alignment": about,
                "complete": True,
                "read": read,
                "counts": dict(sorted(counts.items())),
            }
        ),
    )
    return counts


def _column(out: Folder, file: str, name: str) -> list[Any]:
    """A column of a shard's file. Raises ValueError where the file is damaged."""
    try:
        table = pq.read_table(io.BytesIO(out.read(file)), columns=[name], page_checksum_verification=True)
        return table[name].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damaged(f"{out}/{file}", error) from error


def _source(out: Folder) -> dict[str, Any]:
    """What align.json says of where the table came from, to be written again."""
    return (
        {name: value for name, value in _read_about(out).items() if name in ("root", "environment")}
        if out.has(ABOUT)
        else {}
    )


def _parquet(table: pa.Table, about: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({ALIGNMENT_KEY: _json(about)}), sink, write_page_checksum=True)
    return sink.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=None if isinstance(value, list) else 2, sort_keys=True).encode()
