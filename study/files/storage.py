"""Folders on a disk or in an object store: their files are listed, read, and written whole or not at all."""

from __future__ import annotations

import functools
import json
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Folder:
    """A folder, by its absolute local path or its URI (s3://, gs://, and others that fsspec knows).

    The paths that its methods take are relative, with / between folders. It can be pickled for Ray workers.
    follow_links: whether files outside the folder that a link in it names count as its own
    (study.align.ray_data.read_photo).
    """

    name: str
    follow_links: bool = False

    @property
    def local(self) -> Path | None:
        """The local path, or None for an object store."""
        return None if _SCHEME.match(self.name) else Path(self.name)

    def __str__(self) -> str:
        """The name for messages and logs, without the key and secret of a URI (s3://key:secret@bucket)."""
        return re.sub(r"://[^/@]*@", "://", self.name)

    def is_folder(self, path: str = "") -> bool:
        """Whether the folder, or the one at `path` inside it, exists."""
        store, base = _resolve(self.name)
        return store.get_file_info(_join(base, path)).type == fs.FileType.Directory

    def has(self, path: str) -> bool:
        """Whether a file exists."""
        store, base = _resolve(self.name)
        return store.get_file_info(_join(base, path)).type == fs.FileType.File

    def names(self, path: str = "") -> list[str]:
        """Sorted names of the files directly in the folder at `path`; [] where that does not exist."""
        if self.local is not None:
            inner = self.local / path
            return sorted(entry.name for entry in inner.iterdir() if not entry.is_dir()) if inner.is_dir() else []
        store, base = _resolve(self.name)
        listing = store.get_file_info(fs.FileSelector(_join(base, path), allow_not_found=True))
        return sorted(entry.base_name for entry in listing if entry.type == fs.FileType.File)

    def read(self, path: str) -> bytes:
        """A file's bytes. OSError (FileNotFoundError, PermissionError) where it cannot be read."""
        if self.local is not None:
            return (self.local / path).read_bytes()
        store, base = _resolve(self.name)
        with store.open_input_stream(_join(base, path)) as stream:
            return stream.read()

    def write(self, path: str, data: bytes) -> None:
        """Write a file atomically: a kill meanwhile leaves the old file or none, never half a file.

        A local file is written under a temporary name in .unfinished/ and renamed; an object in a store appears only
        when its upload is complete.
        """
        if self.local is None:
            store, base = _resolve(self.name)
            with store.open_output_stream(_join(base, path)) as stream:
                stream.write(data)
            return
        waiting = self.local / ".unfinished"
        waiting.mkdir(parents=True, exist_ok=True)
        write_whole(self.local / path, data, temporary=waiting / uuid.uuid4().hex)

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with its contents, if it exists."""
        store, base = _resolve(self.name)
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
    return Folder(text.rstrip("/") if _SCHEME.match(text) else os.path.abspath(Path(text).expanduser()))


def _join(base: str, path: str) -> str:
    return f"{base}/{path}" if path else base


@functools.lru_cache(maxsize=16)
def _resolve(name: str) -> tuple[fs.FileSystem, str]:
    if not _SCHEME.match(name):
        return fs.LocalFileSystem(), name
    try:
        return fs.FileSystem.from_uri(name)
    except (ValueError, pa.ArrowException):  # a scheme that only fsspec knows
        import fsspec

        store, path = fsspec.core.url_to_fs(name)
        return fs.PyFileSystem(fs.FSSpecHandler(store)), path
