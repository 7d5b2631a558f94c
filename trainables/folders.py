"""Folders by local path or URI, and where a checkpoint's folder lies after a kill while it was replaced."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""How a URI begins."""


@functools.lru_cache(maxsize=16)
def file_system(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of an absolute path or a URI (s3://, gs://, and whatever fsspec knows), and the path within."""
    if not SCHEME.match(place):
        return fs.LocalFileSystem(), place
    try:
        return fs.FileSystem.from_uri(place)
    except (ValueError, pa.ArrowException):  # a scheme that Arrow does not know itself
        import fsspec

        store, path = fsspec.core.url_to_fs(place)
        return fs.PyFileSystem(fs.FSSpecHandler(store)), path


def shown(place: str) -> str:
    """The path or URI for people and logs: a key and secret in a URI (s3://key:secret@bucket) are left out."""
    return re.sub(r"://[^/@]*@", "://", place)


def old_name(folder: Path) -> Path:
    """The temporary name of the old checkpoint while the new one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def standing(folder: Path) -> Path:
    """The folder, or the old one under its temporary name where trainables.checkpoints.save_checkpoint is between its
    two renames, or was killed there. `folder` where neither exists."""
    for _ in range(2):  # the new one may have appeared while the second name was checked
        for place in (folder, old_name(folder)):
            if place.is_dir():
                return place
    return folder
