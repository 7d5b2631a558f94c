"""The datasets that can be aligned: one module and one line for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from study.align.datasets import aaf, fgnet, imdbwiki, table, utkface
from study.align.datasets.built_in import PEOPLE, STRANGERS
from study.files.storage import Folder
from study.landmarks.photos import Photo, Reject
from study.landmarks.search import Scheme


@dataclass(frozen=True)
class Dataset:
    """A dataset: how its photos are listed, and the order of its own 68 points (None: it has none).

    builtin: the folder of the synthetic data that come with the project.
    """

    name: str
    what: str
    photos: Callable[[Folder], Iterator[Photo | Reject]]
    points: Scheme | None = None
    builtin: Path | None = None


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("fgnet", "FG-NET: 1,002 photos of 82 people", fgnet.photos, points="fgnet"),
        Dataset("utkface", "UTKFace: 23,708 cropped faces", utkface.photos),
        Dataset("aaf", "All-Age-Faces: 13,322 photos, each of another person", aaf.photos),
        Dataset("imdb", "IMDB: 460,723 scraped photos", imdbwiki.imdb),
        Dataset("wiki", "WIKI: 62,328 scraped photos", imdbwiki.wiki),
        Dataset("table", "your photos: any data set, by a file of labels", table.photos),
        Dataset("people", "synthetic people, with FG-NET's file names", fgnet.photos, points="ibug", builtin=PEOPLE),
        Dataset("strangers", "synthetic strangers, with UTKFace's file names", utkface.photos, builtin=STRANGERS),
    )
}
