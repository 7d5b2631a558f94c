"""Records for a server that does not answer: one folder each, sent in order when it answers again.

Here are only files and no MLflow: what a record means is study.tracking.records's. A record is a folder with
record.json and its artifacts, written under a temporary name and renamed, so that a kill leaves it whole or absent.
"""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_DIGITS = 20
"""Of the number with which a record's name begins."""

at_end: dict[Path, Callable[..., str | None]] = {}
"""By folder: what a command calls before it ends, with wait=True or False; returns the line to print, if any."""


@dataclass(frozen=True)
class Spool:
    """The records that wait for one server."""

    folder: Path

    def add(self, record: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Keep a record, with copies of its files. Raises OSError, and leaves nothing, on a full disk."""
        # numbered after all that wait, not by time: the clock may be set back
        number = max((int(place.name[:_DIGITS]) for place in self.waiting()), default=0) + 1
        name = f"{number:0{_DIGITS}d}-{uuid.uuid4().hex}"
        half = self.folder / f".{name}"
        try:
            half.mkdir(parents=True)
            for file in files:
                shutil.copy(file, half / file.name)
            (half / "record.json").write_text(json.dumps({**record, "files": [file.name for file in files]}))
            half.rename(self.folder / name)
        except OSError:
            shutil.rmtree(half, ignore_errors=True)
            raise

    def waiting(self) -> list[Path]:
        """The records' folders, in the order in which they were added."""
        return sorted(self.folder.glob("[0-9]" * _DIGITS + "-*"))

    def send(self, deliver: Callable[[dict[str, Any], list[Path]], bool]) -> int:
        """Deliver the waiting records in order; returns how many. While another process sends, does nothing.

        deliver gets a record and its files. Where it returns False, the record is moved to refused/, so that it does
        not hold up the others. Where it raises, that record and those after it go on waiting.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                places = self.waiting()
                for place in places:
                    if self._is_taken(place, deliver):
                        shutil.rmtree(place.rename(place.with_name(f".{place.name}")))
                    else:
                        (self.folder / "refused").mkdir(exist_ok=True)
                        place.rename(self.folder / "refused" / place.name)
                return len(places)
        except Timeout:
            return 0

    def _is_taken(self, place: Path, deliver: Callable[[dict[str, Any], list[Path]], bool]) -> bool:
        try:
            record = json.loads((place / "record.json").read_text())
            files = [place / Path(name).name for name in record.pop("files")]
        except (ValueError, TypeError, AttributeError, KeyError, FileNotFoundError, RecursionError) as error:
            print(f"{place} cannot be read ({type(error).__name__}) and is set aside, unsent", file=sys.stderr)
            return False
        return deliver(record, files)


def settle(*, wait: bool) -> list[str]:
    """Before a command ends: send the waiting records. A line for each server that could not take all of them."""
    return [line for finish in at_end.values() if (line := finish(wait=wait)) is not None]
