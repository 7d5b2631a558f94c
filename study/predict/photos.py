"""The photos that a command line names: files, folders and URIs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pyarrow import fs

from study.files.storage import Folder, open_folder
from study.landmarks.photos import EXTENSIONS, PhotoError, Reason
from trainables.folders import SCHEME, file_system, shown


@dataclass(frozen=True)
class Named:
    """A photo: its folder, its path in it, and its name for people."""

    folder: Folder
    path: str
    name: str


def list_photos(places: Sequence[str]) -> list[Named]:
    """The photos at these places, in their order; those of a folder are sorted, without hidden files.

    A file that is named itself is a photo whatever its name. Raises FileNotFoundError for a place that does not exist,
    ValueError for a folder without photos.
    """
    found: list[Named] = []
    for place in places:
        text = place.removeprefix("file://")
        where = text.rstrip("/") if SCHEME.match(text) else os.path.abspath(os.path.expanduser(text))
        store, path = file_system(where)
        kind = store.get_file_info(path).type
        if kind == fs.FileType.NotFound:
            raise FileNotFoundError(f"no photo or folder at {shown(place)}")
        if kind != fs.FileType.Directory:
            parent, _, name = where.rpartition("/")
            found.append(Named(open_folder(parent or "/"), name, shown(text)))
            continue
        inner = store.get_file_info(fs.FileSelector(path, recursive=True))
        names = sorted(os.path.relpath(entry.path, path) for entry in inner if entry.type != fs.FileType.Directory)
        photos = [name for name in names if _is_photo(name)]
        if not photos:
            raise ValueError(f"no photo in {shown(place)}: expected files that end in {', '.join(EXTENSIONS)}")
        folder = open_folder(where)
        found += [Named(folder, name, f"{shown(text).rstrip('/')}/{name}") for name in photos]
    if not found:
        raise ValueError("no photos were given: name photos, folders or URIs")
    return list({photo.name: photo for photo in found}.values())  # each once


def read_photo(photo: Named) -> bytes | PhotoError:
    """A photo's bytes, or why they cannot be had."""
    try:
        local = photo.folder.local
        if local is not None and (local / photo.path).exists() and not (local / photo.path).is_file():
            return PhotoError(Reason.NOT_A_PHOTO, "not a regular file")  # reading a pipe could block for ever
        data = photo.folder.read(photo.path)
    except FileNotFoundError:
        return PhotoError(Reason.MISSING, "no such file")
    except OSError as error:
        return PhotoError(Reason.UNREADABLE, f"{type(error).__name__}: {error.strerror or error}")
    return data if data else PhotoError(Reason.EMPTY_FILE, "0 bytes")


def _is_photo(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and name.lower().endswith(EXTENSIONS)
