"""The datasets that can be aligned: one module and one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from study.align.datasets import fgnet, imdbwiki, utkface
from study.files.storage import Folder
from study.landmarks.photos import Photo, Reject
from study.landmarks.search import Scheme


@dataclass(frozen=True)
class Dataset:
    """A dataset: how its photos are listed, and in which order its own 68 points come (None: it has none).

    builtin is the folder that comes with the project, for data drawn by the project itself.
    """

    name: str
    what: str
    photos: Callable[[Folder], Iterator[Photo | Reject]]
    points: Scheme | None = None
    builtin: Callable[[], Path] | None = None


def _people() -> Path:
    from study.align.datasets import built_in as demo

    return Path(demo.PEOPLE)


def _strangers() -> Path:
    from study.align.datasets import built_in as demo

    return Path(demo.STRANGERS)


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("fgnet", "FG-NET: 1,002 photos of 82 people", fgnet.photos, points="fgnet"),
        Dataset("utkface", "UTKFace: 23,708 cropped faces", utkface.photos),
        Dataset("imdb", "IMDB: 460,723 scraped photos", imdbwiki.imdb),
        Dataset("wiki", "WIKI: 62,328 scraped photos", imdbwiki.wiki),
        Dataset("people", "synthetic people, filed as FG-NET", fgnet.photos, points="ibug", builtin=_people),
        Dataset("strangers", "synthetic strangers, filed as UTKFace", utkface.photos, builtin=_strangers),
    )
}
