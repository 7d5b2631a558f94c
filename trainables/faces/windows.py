"""The order in which a table's faces are streamed: a pure function of the seed and the epoch. No file is read here.

Reading single faces at random from half a million in Parquet is slow, so the shuffle is local: the row groups (256
photos each, as study.align writes them) are shuffled and concatenated, then cut into windows of a few thousand faces,
and the faces of each window are shuffled. Photos of one row group are therefore spread over a window and not over the
whole epoch. Each epoch combines other row groups.

Where the photos of a row group are alike, so are those of a window, and training follows the window that it is in.
Batch norm's running statistics do so most: they are those of an epoch's last batches. Pretrained on UTKFace in the
order of its names, which begin with the age, networks took faces for 4 to 6 years older than they are. So study.align
writes photos in an order that says nothing of them, and usual_window makes windows larger where a table is not so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32, Int64

from trainables.faces.batches import count_steps, faces_in
from trainables.faces.index import FacesIndex

USUAL, MOST = 4096, 65536
"""Faces per window: usually, and at most where a table needs more (1.3 GB of encoded faces of 20 kB)."""

APART = 1.0
"""By how much the mean age of windows may differ (years, one standard deviation). Random photos: 0.3 at 4,096 faces."""


@dataclass(frozen=True)
class Window:
    """Steps `first` to `first + len(bounds) - 2` of an epoch, and their faces in order: face i is row[i] of group[i].

    Step k of the window has the faces bounds[k] to bounds[k + 1].
    """

    epoch: int
    first: int
    bounds: Int64[np.ndarray, " steps_and_1"]
    group: Int32[np.ndarray, " faces"]
    row: Int32[np.ndarray, " faces"]


@dataclass(frozen=True)
class Windows:
    """Some faces of an index, cut into global batches for each epoch. row is sorted by group: group g has the rows
    row[offset[g]] to row[offset[g + 1]]."""

    row: Int32[np.ndarray, " faces"]
    offset: Int64[np.ndarray, " groups_and_1"]
    batch: int
    faces: int  # per window, approximately
    seed: int
    shuffled: bool = True

    @property
    def steps(self) -> int:
        """Number of batches per epoch."""
        return count_steps(len(self.row), self.batch)

    @property
    def steps_a_window(self) -> int:
        """Number of steps per window: windows start and end with a global batch, and are of near equal size, so that
        no epoch ends with a few faces of one row group."""
        most = max(1, self.faces // self.batch)
        return -(-self.steps // -(-self.steps // most))

    @property
    def windows(self) -> int:
        """Number of windows per epoch."""
        return -(-self.steps // self.steps_a_window)

    def size(self, step: int) -> int:
        """Number of faces in the global batch of a step, counted from the training's start."""
        return faces_in(step, len(self.row), self.steps)

    def bounds(self, first: int, last: int) -> Int64[np.ndarray, " steps_and_1"]:
        """Number of faces of an epoch before each step from `first` to `last`."""
        most, rest = divmod(len(self.row), self.steps)
        step = np.arange(first, last + 1)
        return step * most + np.minimum(step, rest)

    def window(self, epoch: int, number: int) -> Window:
        """Window `number` of an epoch."""
        first = number * self.steps_a_window
        last = min(first + self.steps_a_window, self.steps)
        bounds = self.bounds(first, last)
        count = np.diff(self.offset)
        order = np.arange(len(count))
        if self.shuffled:
            order = np.random.default_rng([self.seed, epoch, 0, 2]).permutation(order)
        ends = np.cumsum(count[order])
        group, row = [], []
        # the row groups of the window; one across the border of two windows is read for both
        for place in range(np.searchsorted(ends, bounds[0], "right"), np.searchsorted(ends, bounds[-1], "left") + 1):
            chosen = order[place]
            before = ends[place] - count[chosen]
            start, stop = max(bounds[0] - before, 0), min(bounds[-1] - before, count[chosen])
            row.append(self.row[self.offset[chosen] + start : self.offset[chosen] + stop])
            group.append(np.full(len(row[-1]), chosen, np.int32))
        groups, rows = np.concatenate(group), np.concatenate(row)
        if self.shuffled:
            mixed = np.random.default_rng([self.seed, epoch, number + 1, 2]).permutation(len(rows))
            groups, rows = groups[mixed], rows[mixed]
        return Window(epoch, first, bounds - bounds[0], groups, rows)


def make_windows(
    index: FacesIndex, chosen: Int[np.ndarray, " chosen"], *, batch: int, faces: int, seed: int, shuffled: bool = True
) -> Windows:
    """Windows of about `faces` faces over the faces `chosen` of the index. Raises ValueError where there are none."""
    if len(chosen) == 0:
        raise ValueError("no faces to train on")
    by_place = chosen[np.lexsort((index.row[chosen], index.group[chosen]))]
    count = np.bincount(index.group[by_place], minlength=len(index.groups))
    offset = np.concatenate([[0], np.cumsum(count)])
    return Windows(index.row[by_place], offset, min(batch, len(chosen)), faces, seed, shuffled)


def usual_window(index: FacesIndex) -> int:
    """Faces per window with which windows differ by less than APART in mean age; MOST where none has so many."""
    sizes = [USUAL]
    while sizes[-1] < MOST:
        sizes.append(2 * sizes[-1])
    return next((faces for faces in sizes if apart(index, faces) <= APART), MOST)


def apart(index: FacesIndex, faces: int) -> float:
    """By how much the mean ages of windows of about `faces` faces differ (years, one standard deviation)."""
    count = np.bincount(index.group, minlength=len(index.groups))
    there = count > 0
    mean = np.bincount(index.group, index.age, minlength=len(index.groups))[there] / count[there]
    spread = np.sqrt(np.average((mean - index.age.mean()) ** 2, weights=count[there]))
    windows = -(-len(index) // faces)
    groups = len(mean) / windows  # of each window, drawn without replacement
    return float(spread / np.sqrt(groups) * np.sqrt(max(0.0, 1 - groups / len(mean))))


def share(faces: int, rank: int, world: int) -> slice:
    """Worker `rank`'s part of a global batch of `faces`: the slices of numpy.array_split."""
    most, rest = divmod(faces, world)
    start = rank * most + min(rank, rest)
    return slice(start, start + most + (rank < rest))
