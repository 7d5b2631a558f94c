"""Training faces streamed from Parquet by Ray Data: read, decoded and augmented outside the training process.

A stream is one Ray Data dataset from its first step to the end of the training. It includes the validation faces of
each epoch, so that training does not wait between epochs. Its rows are windows (trainables.faces.windows). One task at
a time turns a window into batches, in order, at most AHEAD bytes ahead of the training. The task requests 0 CPUs of
Ray and runs on the training worker's node, on cores that the worker has reserved: it cannot wait for a core that
training holds, and it does not take a core from others.

Ray Data's own splits (ray.train.get_dataset_shard) are not used: which worker gets a block depends on their speed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from trainables.config import TrialConfig
from trainables.faces.augmentation import augment
from trainables.faces.batches import batch_chances, to_device
from trainables.faces.index import FacesIndex
from trainables.faces.table import decode_face, open_parquet
from trainables.faces.windows import Window, Windows, make_windows, share

AHEAD = 512 * 2**20
"""Most bytes of decoded faces that a worker's stream keeps ready."""

PAUSE = 0.02
"""Seconds between two iterations of Ray Data's scheduling loop."""

BLOCK = 4 * 2**20
"""Bytes of batches in one Ray Data block: few, so that the first arrives soon; more than one batch, since each block
takes milliseconds."""


@dataclass(frozen=True)
class Tables:
    """What a stream reads: files and row groups, and the windows of training and validation faces, and
    the training faces' ages (years). It has no pixels."""

    files: tuple[str, ...]
    groups: np.ndarray
    train: Windows
    validation: Windows
    age: np.ndarray


def make_tables(
    index: FacesIndex,
    train: Int[np.ndarray, " train"],
    validation: Int[np.ndarray, " validation"],
    config: TrialConfig,
    *,
    window: int,
) -> Tables:
    """The Tables of a training with config.batch and config.seed; about `window` faces are shuffled together."""
    cut = partial(make_windows, index, batch=config.batch, faces=window, seed=config.seed)
    return Tables(index.files, index.groups, cut(train), cut(validation, shuffled=False), index.age[train])


@dataclass(frozen=True)
class Feed:
    """Turns windows into one worker's batches, inside a Ray Data task.

    augmented "here": faces are augmented in this task and leave as float32. "later": they leave as uint8, and the
    training's device augments them. Both use the same random numbers, so results differ only by rounding between GPU
    and CPU. On a CPU, "here" keeps the work out of the training process; a GPU augments faster than the cores, and
    uint8 is a quarter of the bytes.
    """

    tables: Tables
    config: TrialConfig
    rank: int
    world: int
    threads: int
    augmented: Literal["here", "later"]
    start: int  # steps before this one are left out

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Rows {part, epoch, number} of windows to rows of batches: part, age (int16) and pixels (NHWC), as bytes."""
        torch.set_num_threads(1)
        with ThreadPoolExecutor(self.threads) as pool:
            for row in rows.to_pylist():
                windows = self.tables.train if row["part"] == "train" else self.tables.validation
                yield from self._batches(row["part"], windows, windows.window(row["epoch"], row["number"]), pool)

    def _batches(self, part: str, windows: Windows, window: Window, pool: ThreadPoolExecutor) -> Iterator[pa.Table]:
        shares: dict[int, np.ndarray] = {}
        for step in range(len(window.bounds) - 1):
            start, stop = window.bounds[step : step + 2]
            faces = np.arange(start, stop)
            if part != "train":
                shares[step] = faces
            elif window.epoch * windows.steps + window.first + step >= self.start:
                shares[step] = faces[share(len(faces), self.rank, self.world)]
        encoded = read_faces(self.tables, window, np.concatenate(list(shares.values())), pool)
        for step, faces in shares.items():
            # pop, so that the memory of a window is freed as it is used
            some = [encoded.pop(int(face)) for face in faces]
            pixels = np.stack(list(pool.map(partial(decode_face, px=self.config.px), [face for face, _ in some])))
            if part == "train" and self.augmented == "here":
                size = int(window.bounds[step + 1] - window.bounds[step])
                chances = batch_chances(self.config.seed, window.epoch, window.first + step, size)
                chosen = chances[share(size, self.rank, self.world)]
                changed = augment(as_nchw(torch.from_numpy(pixels)).float(), chosen, self.config.augmentation)
                pixels = changed.permute(0, 2, 3, 1).contiguous().numpy()
            yield pa.table(
                {
                    "part": [part],
                    "age": pa.array([np.array([age for _, age in some], np.int16).tobytes()], pa.binary()),
                    "pixels": pa.array([pixels.data.cast("B")], pa.large_binary()),
                }
            )


def read_faces(
    tables: Tables, window: Window, faces: Int[np.ndarray, " faces"], pool: ThreadPoolExecutor
) -> dict[int, tuple[bytes, int]]:
    """Encoded face and age (years) of some faces of a window, by their position in it. Each row group is read once."""

    def read(group: int) -> dict[int, tuple[bytes, int]]:
        number, inner = tables.groups[group]
        wanted = faces[window.group[faces] == group]
        with open_parquet(tables.files[number]) as file:
            rows = file.read_row_group(int(inner), columns=["age", "face"], use_threads=False)
        found = rows.take(pa.array(window.row[wanted]))
        return dict(
            zip(wanted.tolist(), zip(found["face"].to_pylist(), found["age"].to_pylist(), strict=True), strict=True)
        )

    found: dict[int, tuple[bytes, int]] = {}
    for part in pool.map(read, np.unique(window.group[faces]).tolist()):
        found |= part
    return found


class Unhurried:
    """An execution callback of Ray Data (its base class is private): pauses after each turn of its scheduling loop.

    The loop runs in the training process. While the stream is as far ahead as allowed, ray.wait returns at once and the
    loop is a busy one: it took more than half a core, and Python's lock, from the training.
    """

    def before_execution_starts(self, executor: object) -> None:
        """Nothing."""

    def on_execution_step(self, executor: object) -> None:
        """The pause."""
        time.sleep(PAUSE)

    def after_execution_succeeds(self, executor: object) -> None:
        """Nothing."""

    def after_execution_fails(self, executor: object, error: Exception) -> None:
        """Nothing."""


@dataclass
class FaceStream:
    """A Source for trainables.fitting.train: one worker's share of each global batch, from Ray Data.

    After the last step of an epoch validation() gives the validation faces, to worker 0 only.
    """

    tables: Tables
    config: TrialConfig
    device: torch.device
    rank: int = 0
    world: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        if self.tables.train.batch % self.world:
            raise ValueError(f"batch {self.tables.train.batch} does not divide among {self.world} workers")
        self._rows: Iterator[tuple[Tensor, Tensor]] = iter(())

    @property
    def steps(self) -> int:
        """Number of steps per epoch."""
        return self.tables.train.steps

    def size(self, step: int) -> int:
        """Number of faces in the global batch of a step, counted from the training's start."""
        return self.tables.train.size(step)

    def stream(self, start: int) -> Iterator[tuple[Float[Tensor, "batch 3 px px"], Int[Tensor, " batch"]]]:
        """Pixels (0 to 255) and ages (years) from step `start` on, augmented, on the device."""
        later = self.device.type == "cuda"
        feed = Feed(self.tables, self.config, self.rank, self.world, self.threads, "later" if later else "here", start)
        self._rows = self._run(feed)
        for step, (pixels, age) in enumerate(self._rows, start):
            if later:
                epoch, inner = divmod(step, self.steps)
                chances = batch_chances(self.config.seed, epoch, inner, self.size(step))
                chosen = chances[share(self.size(step), self.rank, self.world)]
                yield augment(pixels.float(), chosen, self.config.augmentation), age
            else:
                yield pixels, age

    def validation(self) -> Iterator[tuple[UInt8[Tensor, "batch 3 px px"], Int[Tensor, " batch"]]]:
        """Batches of the validation faces, not augmented. Read them all after the last step of every epoch."""
        for _ in range(self.tables.validation.steps):
            yield next(self._rows)

    def _run(self, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
            object_store_memory=AHEAD
        )
        context.target_max_block_size = BLOCK
        context.custom_execution_callback_classes = [Unhurried]  # type: ignore[list-item]
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = self._windows(feed.start)
        batches = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            feed.__call__,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=1),
            num_cpus=0,
            label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
        )
        for block in batches.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            assert isinstance(block, pa.Table)
            for number in range(block.num_rows):
                yield self._tensors(block, number, feed.augmented)

    def _windows(self, start: int) -> list[dict[str, str | int]]:
        """The stream's rows: for each epoch from that of step `start` on, its windows, then the validation windows."""
        train = self.tables.train
        rows: list[dict[str, str | int]] = []
        for epoch in range(start // self.steps, self.config.epochs):
            first = max(0, start - epoch * self.steps) // train.steps_a_window
            rows += [{"part": "train", "epoch": epoch, "number": number} for number in range(first, train.windows)]
            if self.rank == 0:
                numbers = range(self.tables.validation.windows)
                rows += [{"part": "validation", "epoch": epoch, "number": number} for number in numbers]
        return rows

    def _tensors(self, block: pa.Table, row: int, augmented: str) -> tuple[Tensor, Tensor]:
        """The tensors of a batch, on the device. They are copied, since the object store's memory is read-only."""
        part, px = block["part"][row].as_py(), self.config.px
        kind = np.float32 if part == "train" and augmented == "here" else np.uint8
        age = np.frombuffer(block["age"][row].as_buffer(), np.int16).astype(np.int64)
        pixels = np.frombuffer(block["pixels"][row].as_buffer(), kind).reshape(len(age), px, px, 3).copy()
        return as_nchw(to_device(pixels, self.device)), to_device(age, self.device)


def as_nchw(pixels: Tensor) -> Tensor:
    """(batch, px, px, 3) as (batch, 3, px, px) without a copy: in channels_last order both are the same memory."""
    return pixels.permute(0, 3, 1, 2)
