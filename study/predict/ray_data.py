"""Many photos on Ray Data: actors with a model each read, align and judge batches of photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pyarrow as pa
import ray
import ray.data

from study.cli.progress import progress
from study.cluster.placing import Unit, check_room
from study.cluster.start import start_ray
from study.files.storage import Folder
from study.model.ages import AgeModel
from study.model.rows import COLUMNS, FaceAge
from study.predict.output import as_table
from study.predict.photos import Named
from study.predict.run import predict_named

BATCH = 64
"""Photos of a task."""


class Judge:
    """Actor with a model: names of photos in, rows out. The photos themselves never pass through Ray."""

    def __init__(self, files: Mapping[str, bytes], where: str) -> None:
        self.model = AgeModel(files, where=where)

    def __call__(self, batch: pa.Table) -> pa.Table:
        photos = [Named(Folder(row["folder"]), row["path"], row["name"]) for row in batch.to_pylist()]
        return as_table(predict_named(self.model, photos))


def predict_many(
    photos: Sequence[Named], files: Mapping[str, bytes], *, where: str, address: str | None, workers: int | None
) -> list[FaceAge]:
    """The rows of all photos, in their order. files: of the model, which every node gets through Ray."""
    start_ray(address=address, quiet_core=True)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    unit = Unit("worker", 1, 0, "--workers")
    most = check_room(unit, together=workers or 1, joined=address is not None)
    named = pa.table(
        {
            "folder": [photo.folder.name for photo in photos],
            "path": [photo.path for photo in photos],
            "name": [photo.name for photo in photos],
        }
    )
    blocks = [named.slice(start, BATCH) for start in range(0, len(photos), BATCH)]
    rows = ray.data.from_arrow(blocks).map_batches(
        Judge,
        fn_constructor_args=(dict(files), where),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(workers or most, len(blocks))),
        num_cpus=1,
    )
    found: list[FaceAge] = []
    with progress("predicting", total=len(photos), unit="photos") as bar:
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
            table = cast(pa.Table, batch)
            part = [FaceAge(**{name: row[name] for name in COLUMNS}) for row in table.to_pylist()]
            bar.update(len({row.photo for row in part}))
            found += part
    return found
