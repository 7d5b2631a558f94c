"""Records for a server that does not answer: a folder each, sent in the order they were made when it answers again.

What a record means, and how it is sent twice without harm, is study.tracking.runs's; here are only files. A record is a
folder with record.json and the files that belong to it, made under another name and renamed, so that it is there whole
or not at all, whoever is killed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_REFUSED = "refused"
_began: dict[Path, int] = {}
_counter = count()

at_end: dict[Path, Callable[..., str | None]] = {}
"""By folder: what a command calls before it ends, with wait=True or False; gives the line to print, if any."""


@dataclass(frozen=True)
class Spool:
    """The records that wait for one server."""

    folder: Path

    def add(self, record: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        """Keep a record, with copies of its files."""
        # the counter orders what one process makes, even where the clock is set back meanwhile
        name = f"{self._start():020d}-{os.getpid():08d}-{next(_counter):08d}"
        half = self.folder / f".{name}"
        try:
            half.mkdir(parents=True)
            for file in files:
                shutil.copy(file, half / file.name)
            (half / "record.json").write_text(json.dumps({**record, "files": [file.name for file in files]}))
            half.rename(self.folder / name)
        except OSError:  # a full disk, most likely
            shutil.rmtree(half, ignore_errors=True)
            raise

    def _start(self) -> int:
        """Nanoseconds at which this process began to keep records here; later than all that wait from before, even
        where the clock was set back since: a run must not be closed before it is begun."""
        if self.folder not in _began:
            before = [int(place.name.split("-")[0]) for place in self.waiting()]
            _began[self.folder] = max([time.time_ns(), *(began + 1 for began in before)])
        return _began[self.folder]

    def waiting(self) -> list[Path]:
        """The records' folders, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(place for place in self.folder.iterdir() if place.name[0] != "." and place.name != _REFUSED)

    def send(self, deliver: Callable[[dict[str, Any], list[Path]], bool]) -> int:
        """Deliver what waits, in order; returns how many records that were.

        deliver gets a record and its files, and returns whether it was taken; one that was not is set aside under
        refused/, so that it never keeps the others from going. What deliver raises ends the sending: that record and
        those after it go on waiting. While another process sends, nothing is done here.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return self._send(deliver)
        except Timeout:
            return 0

    def _send(self, deliver: Callable[[dict[str, Any], list[Path]], bool]) -> int:
        sent = 0
        for place in self.waiting():
            if self._is_taken(place, deliver):
                done = place.rename(place.with_name(f".{place.name}"))
                shutil.rmtree(done)
            else:
                (self.folder / _REFUSED).mkdir(exist_ok=True)
                place.rename(self.folder / _REFUSED / place.name)
            sent += 1
        return sent

    def _is_taken(self, place: Path, deliver: Callable[[dict[str, Any], list[Path]], bool]) -> bool:
        try:
            record = json.loads((place / "record.json").read_text())
            files = [place / Path(name).name for name in record.pop("files")]
        except (ValueError, TypeError, AttributeError, KeyError, FileNotFoundError, RecursionError) as error:
            print(f"{place} cannot be read ({type(error).__name__}) and is set aside, unsent", file=sys.stderr)
            return False
        return deliver(record, files)


def settle(*, wait: bool) -> list[str]:
    """Before a command ends: send what waits. A line for each server that could not be told everything."""
    return [line for finish in at_end.values() if (line := finish(wait=wait)) is not None]
