"""Batches of training faces from memory: shuffled, augmented and shared among workers, all decided by the seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from trainables.config import Augmentation
from trainables.faces.augmentation import augment, draw_chances
from trainables.faces.table import Faces


def count_steps(faces: int, batch: int) -> int:
    """Number of global batches per epoch. Their sizes differ by at most one, so that no last batch of one face is left,
    which batch norm cannot take."""
    return max(1, round(faces / batch))


def faces_in(step: int, faces: int, steps: int) -> int:
    """Number of faces in the global batch of a step, counted from the training's start: the sizes of np.array_split."""
    most, rest = divmod(faces, steps)
    return most + (step % steps < rest)


@dataclass(frozen=True)
class Batches:
    """Batches of the rows `rows` of `faces`, epoch after epoch, without a copy of all pixels.

    A global batch is split into `world` shares; worker `rank` gets one. The faces of a global batch and their
    augmentation depend only on the seed and the epoch, not on the number of workers. chances: see epoch_order.
    """

    faces: Faces
    rows: Int[np.ndarray, " rows"]
    batch: int
    seed: int
    augmentation: Augmentation
    device: torch.device
    rank: int = 0
    world: int = 1
    chances: Float64[np.ndarray, " rows"] | None = None

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise ValueError("no faces to train on")
        if self.batch % self.world:
            raise ValueError(f"batch {self.batch} does not divide among {self.world} workers")

    @property
    def steps(self) -> int:
        """Number of batches per epoch."""
        return count_steps(len(self.rows), self.batch)

    def size(self, step: int) -> int:
        """Number of faces in the global batch of a step, counted from the training's start."""
        return faces_in(step, len(self.rows), self.steps)

    def stream(self, start: int) -> Iterator[tuple[Float[Tensor, "batch 3 px px"], Int[Tensor, " batch"]]]:
        """The batches from step `start` on, without end."""
        for epoch in itertools.count(start // self.steps):
            yield from self.epoch(epoch, first=max(0, start - epoch * self.steps))

    def epoch(
        self, epoch: int, *, first: int = 0
    ) -> Iterator[tuple[Float[Tensor, "batch 3 px px"], Int[Tensor, " batch"]]]:
        """Pixels (0 to 255) and ages (years) of every face once (or as drawn by chances), in this epoch's order, on the
        device.

        first: number of the first batch to give.
        """
        order = epoch_order(self.rows, self.chances, self.seed, epoch)
        for step, chosen in enumerate(np.array_split(order, self.steps)):
            if step < first:
                continue
            chances = batch_chances(self.seed, epoch, step, len(chosen))
            share = np.array_split(np.arange(len(chosen)), self.world)[self.rank]
            # NCHW in channels_last order is NHWC in memory, so permute copies nothing
            pixels = to_device(self.faces.pixels[chosen[share]], self.device).permute(0, 3, 1, 2).float()
            age = to_device(self.faces.age[chosen[share]].astype(np.int64), self.device)
            yield augment(pixels, chances[share], self.augmentation), age


def epoch_order(
    rows: Int[np.ndarray, " rows"], chances: Float64[np.ndarray, " rows"] | None, seed: int, epoch: int
) -> Int[np.ndarray, " rows"]:
    """The rows in an epoch's order, each once. With chances, which sum to 1, as many are drawn with replacement."""
    random = np.random.default_rng([seed, epoch])
    return random.permutation(rows) if chances is None else random.choice(rows, size=len(rows), p=chances)


def batch_chances(seed: int, epoch: int, step: int, faces: int) -> Float[Tensor, "faces chances"]:
    """The random numbers that augment a global batch, for all workers alike. step is counted from the epoch's start."""
    own_seed = int(np.random.default_rng([seed, epoch, step]).integers(2**62))
    return draw_chances(faces, torch.Generator().manual_seed(own_seed))


def as_tensors(arrays: Mapping[str, np.ndarray] | None) -> dict[str, Tensor] | None:
    """Weights from Ray's object store as tensors. They are copied, since that memory is read-only."""
    return None if arrays is None else {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """A tensor on the device. To a GPU it goes through pinned memory and does not wait."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
