"""Folders on a disk or in an object store: their files are listed, read, and written whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from trainables.folders import SCHEME, file_system, shown


@dataclass(frozen=True)
class Folder:
    """A folder, by its absolute local path or its URI (s3://, gs://, and others that fsspec knows).

    Paths given to its methods are relative, with / between folders. It travels to Ray workers as it is.
    follow_links: whether what a link names outside the folder counts as the folder's (study.align.actor.read_photo).
    """

    name: str
    follow_links: bool = False

    @property
    def local(self) -> Path | None:
        """The local path, or None for an object store."""
        return None if SCHEME.match(self.name) else Path(self.name)

    def __str__(self) -> str:
        """The name for people and logs: a key and secret in a URI (s3://key:secret@bucket) are left out."""
        return shown(self.name)

    def is_folder(self, path: str = "") -> bool:
        """Whether the folder, or one inside it, is there."""
        store, base = file_system(self.name)
        return store.get_file_info(_join(base, path)).type == fs.FileType.Directory

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        store, base = file_system(self.name)
        return store.get_file_info(_join(base, path)).type == fs.FileType.File

    def names(self, path: str = "") -> list[str]:
        """Sorted names of the files directly in the folder at `path`; [] where that does not exist."""
        if self.local is not None:
            inner = self.local / path
            return sorted(entry.name for entry in inner.iterdir() if not entry.is_dir()) if inner.is_dir() else []
        store, base = file_system(self.name)
        listing = store.get_file_info(fs.FileSelector(_join(base, path), allow_not_found=True))
        return sorted(entry.base_name for entry in listing if entry.type == fs.FileType.File)

    def read(self, path: str) -> bytes:
        """A file's bytes. OSError (FileNotFoundError, PermissionError) where it cannot be read."""
        if self.local is not None:
            return (self.local / path).read_bytes()
        store, base = file_system(self.name)
        with store.open_input_stream(_join(base, path)) as stream:
            return stream.read()

    def write(self, path: str, data: bytes) -> None:
        """Write a file atomically: a kill meanwhile leaves the old file or none, never half a file.

        A local file is written under a temporary name in .unfinished/ and renamed; an object in a store appears only
        when its upload is complete.
        """
        if self.local is None:
            store, base = file_system(self.name)
            with store.open_output_stream(_join(base, path)) as stream:
                stream.write(data)
            return
        waiting = self.local / ".unfinished"
        waiting.mkdir(parents=True, exist_ok=True)
        write_whole(self.local / path, data, temporary=waiting / uuid.uuid4().hex)

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing where it is not there."""
        store, base = file_system(self.name)
        where = _join(base, path)
        kind = store.get_file_info(where).type
        if kind == fs.FileType.Directory:
            store.delete_dir(where)
        elif kind == fs.FileType.File:
            store.delete_file(where)


def write_whole(file: Path, data: bytes, *, temporary: Path | None = None) -> None:
    """Write a local file atomically: under a temporary name (by default hidden, in the same folder), then renamed.

    Raises OSError, for example on a full disk, and then leaves the old file and nothing else.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as half:
            half.write(data)
            half.flush()
            os.fsync(half.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(file: Path, record: object) -> None:
    """Write a record as indented JSON, atomically."""
    write_whole(file, (json.dumps(record, indent=2, sort_keys=True) + "\n").encode())


def open_folder(place: str | Path) -> Folder:
    """A Folder by its URI or local path, made absolute: a Ray worker's working directory is Ray's.

    Raises ValueError where the name is not UTF-8.
    """
    text = str(place)
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        raise ValueError(f"the folder {shown} has a name that is no UTF-8: rename it, e.g. with convmv") from None
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    return Folder(text.rstrip("/") if SCHEME.match(text) else os.path.abspath(Path(text).expanduser()))


def _join(base: str, path: str) -> str:
    return f"{base}/{path}" if path else base
