"""Renders the synthetic people: `python -m tools.built_in_people --out FOLDER`.

Needs the optional extra `demo` (`pip install -e .[demo]`). The same seed on the same versions gives the same bytes.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import tyro
from rich.progress import track

from tools.built_in_people import album, cast
from tools.built_in_people.photograph import folders, store


@dataclass(frozen=True)
class Config:
    """Which part of the two datasets is rendered, and where it is written."""

    out: Path  # the folder that gets people/ and strangers/
    people: int = 82  # the first so many of the 82 people, with all their photos
    strangers: int = 2000
    seed: int = 0
    workers: int = 1  # processes; the pictures are the same with any number


def main(config: Config) -> None:
    """Writes people/images, people/points and strangers under config.out; existing files are replaced."""
    sittings = [(sitting, album.PEOPLE) for sitting in cast.people(config.seed, config.people)]
    sittings += [(sitting, album.STRANGERS) for sitting in cast.strangers(config.seed, config.strangers)]
    for folder in folders(config.out):
        folder.mkdir(parents=True, exist_ok=True)
    jobs = [(sitting, frame, config.out, config.seed) for sitting, frame in sittings]
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        done = pool.map(store, jobs, chunksize=8)
        for _ in track(done, "synthetic people", total=len(jobs)):
            pass


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m tools.built_in_people", description=__doc__))
