"""What a faces table says of itself: how each face was made, and align.json next to its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.files.storage import Folder
from trainables.fields import describe, read_fields

FILE = "align.json"
VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """All that decides the faces of one listing. Each Parquet file holds it as JSON in its metadata (ALIGNMENT_KEY).

    weights: the landmarker's digest. device and dtype: what it computed on and in. points: where five landmarks land,
    as shares (x, y) of the square. coverage: the square's side; 1 is the template's. size in pixels, quality of the
    JPEG. tries: of the landmarker's search, in order. shard: photos a file. version: of the code. What an earlier
    version did not write is empty.
    """

    dataset: str
    landmarker: str
    weights: str = ""
    device: str = ""
    dtype: str = ""
    template: str = ""
    points: tuple[tuple[float, ...], ...] = ()
    size: int = 0
    quality: int = 0
    tries: tuple[str, ...] = ()
    shard: int = 0
    version: str = ""
    coverage: float = 1.0

    def differences(self, now: Recipe) -> str:
        """What differs, in words: "size 100 there, 64 now"; "" where nothing does."""
        pairs = [(name, there, getattr(now, name)) for name, there in sorted(vars(self).items())]
        return ", ".join(f"{name} {there!r} there, {here!r} now" for name, there, here in pairs if there != here)

    @classmethod
    def from_json(cls, record: Any) -> Recipe:
        """What dataclasses.asdict and JSON made of one. Raises ValueError with the field that is missing or wrong."""
        if not isinstance(record, Mapping):
            raise ValueError(f"alignment is {describe(record)}, expected an object")
        for name in ("dataset", "landmarker"):
            if name not in record:
                raise ValueError(f"alignment.{name} is missing")
        values = {name: _tuples(value) for name, value in record.items()}
        return read_fields(cls, values, what="alignment", of="alignment.", elsewhere={})


@dataclass(frozen=True)
class TableRecord:
    """align.json of a faces table.

    complete: whether all its files are there; then `read` photos were listed, and counts has "aligned" and each reason
    for which photos were rejected. root: the folder of the photos. environment: versions that it was begun with. None:
    not written yet, or by an earlier version.
    """

    alignment: Recipe
    complete: bool = False
    root: str | None = None
    environment: Mapping[str, str] | None = None
    read: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    version: int = VERSION

    def write(self, out: Folder) -> None:
        """Write align.json, whole or not at all."""
        values = {**vars(self), "alignment": vars(self.alignment)}
        known = {name: value for name, value in values.items() if value is not None and value != {}}
        out.write(FILE, json.dumps(known, indent=2, sort_keys=True).encode())

    @classmethod
    def load(cls, out: Folder) -> TableRecord:
        """The record of the table at `out`. Raises FileNotFoundError, or ValueError, in one line that names file and
        field, where it is damaged or of a later version."""
        try:
            record = json.loads(out.read(FILE))
            if not isinstance(record, Mapping):
                raise ValueError(f"it is {describe(record)}, expected an object")
            if record.get("version", VERSION) != VERSION:
                raise ValueError(f"version is {describe(record['version'])}, expected {VERSION}")
            values = {**record, "alignment": Recipe.from_json(record.get("alignment"))}
            return read_fields(cls, values, what="it", elsewhere={})
        except ValueError as error:
            raise ValueError(
                f"{out}/{FILE} is damaged ({error}): delete it, and give --force or another --out"
            ) from None


def _tuples(value: Any) -> Any:
    """With tuples in the place of JSON's lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
