"""How aligning runs on Ray Data: photos are hashed in tasks, then turned into faces by actors with a landmark model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import ray.data

from study.align.actor import Align, add_hashes
from study.align.listing import HASHED
from study.align.options import Options
from study.align.plan import Plan
from study.align.shards import Shard, write_shard
from study.cli.progress import progress
from study.cluster.placing import Running, Unit, check_room, explaining
from study.files.storage import Folder
from study.landmarks.search import Runtime

READ_BATCH = 256
ALIGN_BATCH, ALIGN_BYTES = 64, 64_000_000
"""A task's photos, at most, and their files' bytes: enough to hide what a task costs, few enough for the memory."""

READER = Unit("task that reads photos", 1, 0, "--address")
"""What a task that hashes takes of the cluster. No option changes it."""


def configure() -> None:
    """Set Ray Data up for this pipeline: order kept, and no progress bars or logs besides our own."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def find_workers(options: Options) -> tuple[Unit, int]:
    """What an actor takes of the cluster, and how many run: --workers, or as many as there is room for.

    Raises ValueError where the cluster can never have the room.
    """
    unit = Unit("worker", options.cpus_per_worker, options.gpus_per_worker, "--cpus-per-worker and --gpus-per-worker")
    count = None if options.workers else "--workers"
    most = check_room(unit, together=max(options.workers, 1), joined=options.ray.joins, count=count)
    return unit, options.workers or most


def hash_photos(listing: pa.Table, root: Folder, *, joined: bool) -> pa.Table:
    """The listing as HASHED, sorted by name. joined: on a cluster that others started."""
    batches = [HASHED.empty_table()]
    blocks = [listing.slice(start, READ_BATCH) for start in range(0, listing.num_rows, READ_BATCH)]
    running = Running()
    with (
        explaining(READER, running.count, joined=joined),
        progress("reading", total=listing.num_rows, unit="photos") as bar,
    ):
        for batch in _hash_blocks(blocks, root, running) if blocks else ():
            batches.append(batch.select(HASHED.names).cast(HASHED))
            bar.update(batch.num_rows)
    return pa.concat_tables(batches).sort_by("photo")


def _hash_blocks(blocks: list[pa.Table], root: Folder, running: Running) -> Iterator[pa.Table]:
    rows = ray.data.from_arrow(blocks).map_batches(
        running.counted(partial(add_hashes, root=root)), batch_size=None, batch_format="pyarrow", num_cpus=1
    )
    yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")


def run_shards(shards: list[Shard], plan: Plan, unit: Unit, workers: int) -> None:
    """Align the photos of the shards, and write each shard when its last photo is through."""
    if not shards:
        return
    todo = pa.concat_tables(
        [
            shard.photos.append_column("shard", pa.array([number] * shard.photos.num_rows, pa.int32()))
            for number, shard in enumerate(shards)
        ]
    )
    number, waiting, running = 0, pa.table({}, schema=None), Running()
    with (
        explaining(unit, running.count, joined=plan.options.ray.joins),
        progress(f"aligning {plan.dataset.name}", total=todo.num_rows, unit="photos") as bar,
    ):
        for batch in align_photos(todo, plan, unit, workers, running):
            waiting = pa.concat_tables([waiting, batch]) if waiting.num_columns else batch
            bar.update(batch.num_rows)
            while number < len(shards) and waiting.num_rows >= shards[number].photos.num_rows:
                full = shards[number].photos.num_rows
                write_shard(plan.out, shards[number], waiting.slice(0, full), plan.recipe)
                number, waiting = number + 1, waiting.slice(full)


def align_photos(listing: pa.Table, plan: Plan, unit: Unit, workers: int, running: Running) -> Iterator[pa.Table]:
    """ALIGNED rows in batches, in the listing's order. The listing is a hashed one with a column `shard`."""
    options = plan.options
    rows = ray.data.from_arrow(cut_batches(listing)).map_batches(
        Align,
        fn_constructor_args=(plan.root, plan.recipe),
        fn_constructor_kwargs={
            "runtime": Runtime(options.device, threads=max(1, int(unit.cpus)), dtype=options.dtype),
            "scheme": plan.dataset.points or "ibug",
            "running": running.prefix,
        },
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=unit.cpus,
        num_gpus=unit.gpus or None,
    )
    yield from rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)


def cut_batches(listing: pa.Table) -> list[pa.Table]:
    """A hashed listing with a column `shard` in parts of at most ALIGN_BATCH photos and ALIGN_BYTES (or one photo).

    A part lies within a shard, so that a resumed run computes the same faces together as an undisturbed one.
    """
    parts, start, weight = [], 0, 0
    shards, sizes = listing["shard"].to_pylist(), listing["bytes"].to_pylist()
    for row, (shard, size) in enumerate(zip(shards, sizes, strict=True)):
        full = row - start == ALIGN_BATCH or weight + size > ALIGN_BYTES
        if row > start and (full or shard != shards[start]):
            parts.append(listing.slice(start, row - start))
            start, weight = row, 0
        weight += size
    return [*parts, listing.slice(start)] if listing.num_rows else []
