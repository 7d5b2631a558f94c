"""What a sweep by cost was given to spend, run by run: a rerun with other --minutes keeps the turns of trials begun."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from study.files.seals import seal, unseal
from study.files.storage import write_json
from study.sweep.journal import parts_folder

BUDGETS_FILE = "budgets.json"
"""In the sweep's folder: for each block, [the first trial, seconds of compute] for each budget that it had."""

Earlier = tuple[tuple[int, float], ...]
"""Budgets that a block had before its present one: (the trials below this number, seconds), in order."""


def remember(folder: Path, blocks: Sequence[str], seconds: float) -> dict[str, Earlier]:
    """Each block's earlier budgets; where this one (seconds of a block) is another, it is written down first.

    A trial that has a file, or comes before one that has, was asked with the budget of its time. Only later ones are
    asked with the present one. Raises ValueError where the record was changed.
    """
    there = _read(folder / BUDGETS_FILE)
    now = {}
    for block in blocks:
        before = there.get(block, [])
        begun = _begun(folder / block)
        if not before or before[-1][1] != seconds:
            # a budget that no trial was begun with leaves no trace
            before = [*(each for each in before if each[0] < begun), (begun if before else 0, seconds)]
        now[block] = before
    if now != there:
        write_json(folder / BUDGETS_FILE, seal({block: [list(each) for each in now[block]] for block in blocks}))
    return {block: tuple((after[0], before[1]) for before, after in pairwise(each)) for block, each in now.items()}


def describe_change(folder: Path, seconds: float, *, blocks: int, places: int) -> str:
    """The line that says that the sweep goes on with another budget than it had last; "" where it does not. Before
    remember(). seconds: of a block now, of compute on `places` side by side."""
    last = [each[-1][1] for each in _read(folder / BUDGETS_FILE).values() if each]
    if not last or set(last) == {seconds}:
        return ""
    before, now = (each * blocks / places / 60 for each in (max(last), seconds))
    return f"  it had {before:.3g} min, now {now:.3g}: it goes on from what was done, with the same questions"


def _begun(block: Path) -> int:
    """One more than the highest number of a trial that has a file."""
    names = [file.name for folder in (block, parts_folder(block)) for file in folder.glob("*.json")]
    numbers = [found for name in names if (found := re.match(r"(\d+)(-fold\d+)?\.json$", name))]  # no further seeds
    return 1 + max((int(found[1]) for found in numbers), default=-1)


def _read(file: Path) -> Mapping[str, list[tuple[int, float]]]:
    if not file.is_file():
        return {}
    try:
        record = unseal(json.loads(file.read_bytes()), where="it")
        return {name: [(int(first), float(seconds)) for first, seconds in each] for name, each in record.items()}
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{file} is no sound record of budgets: {error}; put it back as it was, or begin a new sweep with another "
            "--name"
        ) from error
