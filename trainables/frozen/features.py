"""What the frozen stages make of every face, computed once and read by every training instead of pixels.

A training face is seen in a number of views, each augmented once and for all by chances that belong to the face and the
view alone: every fold, seed and config that freezes the same stages of the same weights reads the same features. In
each epoch a face shows the next of its views, in an order of its own that depends on the training's seed. Nothing leaks
between folds: a face's features depend on its own pixels and on the pretrained weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, Int16
from torch import Tensor

from trainables.backbones import AgeNet
from trainables.config import NO_AUGMENTATION, Augmentation
from trainables.faces.augmentation import augment, draw_chances
from trainables.faces.batches import count_steps, faces_in, to_device
from trainables.faces.table import Faces
from trainables.frozen.cut import early_stages

FACE, MIRROR, FIRST_TRAINING = 0, 1, 2
"""Views of a face: as it is, its mirror image (both for testing), then those to train on."""

_LUCK = 2026
"""Seeds the views' chances: a constant, since all trainings share them."""


@dataclass(frozen=True)
class Features:
    """Output of the first `frozen` stages for every face of a table and each of its views, in half precision.

    channels_last: a picture's channels lie last in memory, as convolutions like it (the network is given them first).
    age is the faces' (years).
    """

    values: Float16[np.ndarray, "faces views *shape"]
    channels_last: bool
    age: Int16[np.ndarray, " faces"]
    frozen: int

    def __len__(self) -> int:
        return len(self.age)

    @property
    def training_views(self) -> int:
        """Views to train on; 0: there was no augmentation, and training shows the face as it is."""
        return self.values.shape[1] - FIRST_TRAINING

    def take(
        self, rows: Int[np.ndarray, " batch"], views: Int[np.ndarray, " batch"] | int, device: torch.device
    ) -> Float[Tensor, " batch *shape"]:
        """The features of faces `rows` in `views`, as the later stages take them."""
        values = to_device(self.values[rows, views], device).float()
        return values.permute(0, 3, 1, 2) if self.channels_last else values


def compute_features(
    net: AgeNet, frozen: int, faces: Faces, how: Augmentation, views: int, *, batch: int = 128
) -> Features:
    """All views of all faces through the net's first `frozen` stages, on the net's device.

    Raises ValueError where an output is too large for half precision.
    """
    early, device = early_stages(net, frozen), net.mean.device
    if how == NO_AUGMENTATION:
        views = 0
    values: np.ndarray | None = None
    channels_last = False
    for view in range(FIRST_TRAINING + views):
        # a view's chances are drawn for the whole table: a face's do not depend on how many views there are
        chances = draw_chances(len(faces), torch.Generator().manual_seed(_LUCK + view))
        for rows in np.array_split(np.arange(len(faces)), -(-len(faces) // batch)):
            pixels = to_device(faces.pixels[rows], device).permute(0, 3, 1, 2).float()
            if view == MIRROR:
                pixels = pixels.flip(3)
            elif view >= FIRST_TRAINING:
                pixels = augment(pixels, chances[rows], how)
            found = early(pixels)
            if values is None:
                channels_last = found.ndim == 4 and not found.is_contiguous()
                shape = found.permute(0, 2, 3, 1).shape[1:] if channels_last else found.shape[1:]
                values = np.empty((len(faces), FIRST_TRAINING + views, *shape), np.float16)
            half = found.half()
            if not bool(half.isfinite().all()):
                raise ValueError(f"stage {frozen} of the network answers beyond half precision: freeze another number")
            values[rows, view] = (half.permute(0, 2, 3, 1) if channels_last else half).cpu().numpy()
    if values is None:
        raise ValueError("no faces to compute features of")
    return Features(values, channels_last, faces.age, frozen)


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of features: the same faces in the same order as trainables.faces.batches.Batches gives for a seed."""

    features: Features
    rows: Int[np.ndarray, " rows"]
    batch: int
    seed: int
    device: torch.device
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise ValueError("no faces to train on")

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return count_steps(len(self.rows), self.batch)

    def size(self, step: int) -> int:
        """Faces in the batch of a step, counted from the training's start."""
        return faces_in(step, len(self.rows), self.steps)

    def stream(self, start: int) -> Iterator[tuple[Float[Tensor, " batch *shape"], Int[Tensor, " batch"]]]:
        """Features and ages (years) of step `start` and all after it, without end, on the device."""
        orders = self._orders()
        for epoch in itertools.count(start // self.steps):
            shuffled = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            for step, chosen in enumerate(np.array_split(shuffled, self.steps)):
                if epoch * self.steps + step >= start:
                    age = to_device(self.features.age[chosen].astype(np.int64), self.device)
                    yield self.features.take(chosen, self._views(orders, chosen, epoch), self.device), age

    def _orders(self) -> Int[np.ndarray, "faces views"]:
        """Each face's views to train on in an order of its own: a face's does not depend on who else trains."""
        views = np.arange(FIRST_TRAINING, FIRST_TRAINING + self.features.training_views)
        among = np.tile(views, (len(self.features), 1))
        return np.random.default_rng([self.seed, _LUCK]).permuted(among, axis=1)

    @staticmethod
    def _views(
        orders: Int[np.ndarray, "faces views"], chosen: Int[np.ndarray, " batch"], epoch: int
    ) -> Int[np.ndarray, " batch"]:
        if orders.shape[1] == 0:
            return np.full(len(chosen), FACE)
        return orders[chosen, epoch % orders.shape[1]]
