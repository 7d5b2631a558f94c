"""Shards of a faces table: planned from the listing, written whole, and done only once.

OUT/faces/<shard>.parquet and OUT/rejects/<shard>.parquet are one shard. Its name holds the hash of the recipe and of
its photos (names, ages, people, bytes). So a file of that name is what this run would write, whoever wrote it, also
after a kill. OUT/align.json holds the recipe (study.artifacts.aligned).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from study.artifacts.aligned import FILE, Recipe, TableRecord
from study.artifacts.environments import differences
from study.files.storage import Folder
from study.landmarks.photos import Reject
from trainables.faces.table import ALIGNMENT_KEY, REJECTS_SCHEMA, SCHEMA, damaged


@dataclass(frozen=True)
class Shard:
    """Consecutive photos of the hashed listing. The file's name says which exactly."""

    name: str
    photos: pa.Table


def claim(out: Folder, recipe: Recipe, *, force: bool) -> None:
    """Make `out` the folder of this recipe's table; with force, a table of another recipe is deleted.

    Raises ValueError where a table of other options, or anything else, lies there.
    """
    there = {path: len(out.names(path)) for path in ("faces", "rejects")}
    if not out.has(FILE):
        foreign = [path for path, files in there.items() if files]
        if foreign and not force:
            raise ValueError(
                f"{out}/{foreign[0]} holds files but there is no {out}/{FILE} that says how they were made; "
                "use another --out, or --force to delete them"
            )
    else:
        changed = TableRecord.load(out).alignment.differences(recipe)
        if not changed:
            return
        if not force:
            raise ValueError(
                f"{out} holds a table made with other options ({changed}); tables are never mixed: "
                "use another --out, or --force to delete that one"
            )
    _discard(out, there)
    TableRecord(recipe).write(out)


def claim_source(out: Folder, root: str, listing: pa.Table, shards: list[Shard], *, force: bool) -> None:
    """Make `out` the table of the photos at `root`, and keep that in align.json.

    Raises ValueError where `out` was made from another folder, and most of its faces are of photos that are not in this
    listing. A line says how many faces are discarded otherwise (with force, or for photos that changed or are gone).
    """
    record, expected = TableRecord.load(out), {shard.name for shard in shards}
    there: list[str] = []
    for name in out.names("faces"):
        if name not in expected:
            there += _column(out, f"faces/{name}", "photo_sha256")
    gone = len(set(there) - set(listing["sha256"].to_pylist()))
    if 2 * gone > len(there) and record.root != root and not force:
        source = f", which was made from {record.root}," if record.root else ""
        raise ValueError(
            f"{out}{source} holds {gone} faces of photos that are not in {root}: use another --out, or --force to "
            "discard them"
        )
    if gone:
        print(f"Discarding {gone} faces in {out}: their photos are not in {root} as they were", flush=True)
    if record.root is None or 2 * gone > len(there):  # a copy of the folder under another name leaves the record
        replace(record, root=root).write(out)


def note_environment(out: Folder, now: Mapping[str, str]) -> None:
    """Keep in align.json with which versions the table was begun; print a line where it continues with others."""
    record = TableRecord.load(out)
    if record.environment is None:
        replace(record, environment=now).write(out)
    elif not record.complete and (changed := differences(record.environment, now)):
        print(f"This table was begun in another environment: {changed}", flush=True)


def _discard(out: Folder, there: dict[str, int]) -> None:
    """Delete a table, and print what is deleted."""
    if any(there.values()):
        made = TableRecord.load(out).counts.get("aligned") if out.has(FILE) else None
        faces = f" ({made:,} faces)" if made is not None else ""
        print(
            f"Discarding {there['faces']} files of {out}/faces{faces} and {there['rejects']} of {out}/rejects",
            flush=True,
        )
    for path in ("faces", "rejects", FILE):
        out.delete(path)


def plan_shards(listing: pa.Table, recipe: Recipe, there: Iterable[str] = ()) -> list[Shard]:
    """The hashed listing, sorted by name, cut into shards of recipe.shard photos in an order that says nothing of them.

    Names often begin with the age (UTKFace) or the person. A shard of one age would be trained on at once, since
    study.pretrain shuffles what lies near; so photos are ordered by the hash of their names. there: the files of an
    earlier run. A table that a version before this one began in the order of names goes on in it.
    """
    hashes = [hashlib.sha256(name.encode()).digest() for name in listing["photo"].to_pylist()]
    order = sorted(range(listing.num_rows), key=hashes.__getitem__)
    hashed = _cut(listing.take(pa.array(order, pa.int64())), recipe)
    if (there := set(there)) and there != {shard.name for shard in hashed}:
        by_name = _cut(listing, recipe)  # in a small table a shard of both orders may be the same one by chance
        if len(there & {shard.name for shard in by_name}) > len(there & {shard.name for shard in hashed}):
            return by_name
    return hashed


def _cut(listing: pa.Table, recipe: Recipe) -> list[Shard]:
    """The listing cut into shards, in order."""
    shards = []
    for number, start in enumerate(range(0, listing.num_rows, recipe.shard)):
        part = listing.slice(start, recipe.shard)
        key = hashlib.sha256(_json([asdict(recipe), part.to_pylist()])).hexdigest()[:16]
        shards.append(Shard(f"{number:05d}-{key}.parquet", part))
    return shards


def take_stock(out: Folder, shards: list[Shard], recipe: Recipe, rejects: Iterable[Reject]) -> list[Shard]:
    """The shards still to do. Files left by killed runs, and of photos that have changed since, are deleted.

    rejects: photos of no shard, which were set aside before. They get a file of their own.
    """
    listed = pa.Table.from_pylist(
        [
            {"dataset": recipe.dataset, "photo": r.path, "reason": r.reason.value, "detail": r.detail}
            for r in sorted(rejects, key=lambda reject: (reject.path, reject.reason, reject.detail))
        ],
        schema=REJECTS_SCHEMA,
    )
    key = hashlib.sha256(_json([asdict(recipe), listed.to_pylist()])).hexdigest()[:16]
    before = f"listing-{key}.parquet"
    expected = {shard.name for shard in shards}
    faces, aside = set(out.names("faces")), set(out.names("rejects"))
    done = expected & faces & aside
    if done != expected or before not in aside or (faces | aside) - expected - {before}:
        replace(TableRecord.load(out), complete=False, read=None, counts={}).write(out)
    for name in sorted(faces - done):
        out.delete(f"faces/{name}")
    for name in sorted(aside - done - {before}):
        out.delete(f"rejects/{name}")
    out.delete(".unfinished")
    if before not in aside:
        out.write(f"rejects/{before}", _parquet(listed, recipe))
    return [shard for shard in shards if shard.name not in done]


def write_shard(out: Folder, shard: Shard, aligned: pa.Table, recipe: Recipe) -> None:
    """Write one shard from its ALIGNED rows (study.align.actor). It is done when both its files are there."""
    if aligned["photo"].to_pylist() != shard.photos["photo"].to_pylist():
        raise RuntimeError(f"shard {shard.name} got other photos than planned")  # a bug, so with its traceback
    failed = pa.compute.is_valid(aligned["reason"])
    rejects = aligned.filter(failed).select(REJECTS_SCHEMA.names).cast(REJECTS_SCHEMA)
    faces = aligned.filter(pa.compute.invert(failed)).select(SCHEMA.names).cast(SCHEMA)
    out.write(f"rejects/{shard.name}", _parquet(rejects, recipe))
    out.write(f"faces/{shard.name}", _parquet(faces, recipe))


def finish(out: Folder, *, read: int) -> Counter[str]:
    """Mark the table complete; how many are "aligned", and rejected for each reason, counted from the files."""
    counts: Counter[str] = Counter()
    for name in out.names("faces"):
        counts["aligned"] += len(_column(out, f"faces/{name}", "age"))
    for name in out.names("rejects"):
        counts.update(_column(out, f"rejects/{name}", "reason"))
    replace(TableRecord.load(out), complete=True, read=read, counts=dict(counts)).write(out)
    return counts


def padded(out: Folder) -> list[float]:
    """Of each face of the table the share of its square that lies outside of its photo."""
    return [share for name in out.names("faces") for share in _column(out, f"faces/{name}", "padded")]


def _column(out: Folder, file: str, name: str) -> list[Any]:
    """A column of a shard's file. Raises ValueError where the file is damaged."""
    try:
        table = pq.read_table(io.BytesIO(out.read(file)), columns=[name], page_checksum_verification=True)
        return table[name].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damaged(f"{out}/{file}", error) from error


def _parquet(table: pa.Table, recipe: Recipe) -> bytes:
    sink = io.BytesIO()
    metadata = {ALIGNMENT_KEY: json.dumps(asdict(recipe), indent=2, sort_keys=True).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), sink, write_page_checksum=True)
    return sink.getvalue()


def _json(value: list[Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
