"""The folder of a dataset's photos; several folders, as archives of several parts unpack to, are one dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from study.files.storage import Folder, open_folder
from study.landmarks.photos import Photo, Reject

Parser = Callable[[Folder], Iterator[Photo | Reject]]


def common_root(folders: Sequence[Folder]) -> tuple[Folder, tuple[str, ...]]:
    """The folder that holds all of these, and the path of each in it; one folder is its own, at "".

    Raises ValueError for folders that lie in different stores, and for one that lies in another.
    """
    if len(folders) == 1:
        return folders[0], ("",)
    # what follows the ? of a URI says how its store is reached
    names, ways = zip(
        *(folder.name.split("?", 1) if "?" in folder.name else (folder.name, "") for folder in folders), strict=True
    )
    split = [name.split("/") for name in names]
    common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, zip(*split, strict=False))]
    schemes = {bool(folder.local) for folder in folders}
    if len(schemes) > 1 or len(set(ways)) > 1 or (not folders[0].local and len(common) < 4):  # s3, "", bucket, folder
        raise ValueError(f"--root: {', '.join(names)} lie in different stores; align them one by one")
    parts = tuple("/".join(each[len(common) :]) for each in split)
    for i, part in enumerate(parts):
        inside = [other for j, other in enumerate(parts) if j != i and (other == part or other.startswith(f"{part}/"))]
        if inside or not part:
            raise ValueError(f"--root: {names[i]} holds another of the folders, or is given twice")
    return open_folder(("/".join(common) or "/") + (f"?{ways[0]}" if ways[0] else "")), parts


def inner(root: Folder, part: str) -> Folder:
    """The folder at this path in a root."""
    if not part:
        return root
    name, mark, way = root.name.partition("?")
    return replace(root, name=f"{name.rstrip('/')}/{part}{mark}{way}")


def in_parts(photos: Parser, parts: Sequence[str]) -> Parser:
    """A parser of a common root that reads each of the parts as `photos` reads a root of its own."""

    def listed(root: Folder) -> Iterator[Photo | Reject]:
        for part in parts:
            for entry in photos(inner(root, part)):
                if isinstance(entry, Photo) and entry.points:
                    entry = replace(entry, points=f"{part}/{entry.points}")
                yield replace(entry, path=f"{part}/{entry.path}")

    return photos if parts == ("",) else listed
