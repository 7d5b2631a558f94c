"""Output of the frozen stages for every face, computed once; trainings use it instead of pixels.

Each training face has several augmented views. Their random numbers depend only on the face and the view, so every
fold, seed and config that freezes the same stages of the same weights uses the same features. In each epoch a face is
seen in the next of its views, in an order that depends on the training's seed. Nothing leaks between folds: a face's
features depend only on its own pixels and the pretrained weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, Float64, Int, Int16
from torch import Tensor

from trainables.backbones import AgeNet
from trainables.config import NO_AUGMENTATION, Augmentation
from trainables.faces.augmentation import augment, draw_chances
from trainables.faces.batches import count_steps, epoch_order, faces_in, to_device
from trainables.faces.table import Faces
from trainables.frozen.cut import early_stages

FACE, MIRROR, FIRST_TRAINING = 0, 1, 2
"""Views of a face: the face and its mirror image (both for testing), then the augmented ones (for training)."""

_VIEWS_SEED = 2026
"""Seed of the views' random numbers: a constant, since all trainings share the views."""


@dataclass(frozen=True)
class Features:
    """Output of the first `frozen` stages for every face of a table and each of its views, in half precision.

    channels_last: values are stored with the channels last, and take() gives them first. age is in years.
    companions: as in Faces.
    """

    values: Float16[np.ndarray, "faces views *shape"]
    channels_last: bool
    age: Int16[np.ndarray, " faces"]
    frozen: int
    companions: int = 0

    def __len__(self) -> int:
        return len(self.age)

    @property
    def training_views(self) -> int:
        """Number of augmented views; 0: without augmentation, training uses the plain face."""
        return self.values.shape[1] - FIRST_TRAINING

    def take(
        self, rows: Int[np.ndarray, " batch"], views: Int[np.ndarray, " batch"] | int, device: torch.device
    ) -> Float[Tensor, " batch *shape"]:
        """The features of faces `rows` in `views`: input of the later stages."""
        values = to_device(self.values[rows, views], device).float()
        return values.permute(0, 3, 1, 2) if self.channels_last else values


def compute_features(
    net: AgeNet, frozen: int, faces: Faces, how: Augmentation, views: int, *, batch: int = 128
) -> Features:
    """The features of all views of all faces after the net's first `frozen` stages, computed on the net's device.

    Raises ValueError where an output is too large for half precision.
    """
    early, device = early_stages(net, frozen), net.mean.device
    if how == NO_AUGMENTATION:
        views = 0
    values: np.ndarray | None = None
    channels_last = False
    for view in range(FIRST_TRAINING + views):
        # drawn for the whole table, so that they do not depend on the number of views
        chances = draw_chances(len(faces), torch.Generator().manual_seed(_VIEWS_SEED + view))
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
                raise ValueError(f"the output of stage {frozen} is too large for half precision: freeze another number")
            values[rows, view] = (half.permute(0, 2, 3, 1) if channels_last else half).cpu().numpy()
    if values is None:
        raise ValueError("no faces to compute features of")
    return Features(values, channels_last, faces.age, frozen, faces.companions)


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of features: the same faces in the same order as trainables.faces.batches.Batches with the same seed."""

    features: Features
    rows: Int[np.ndarray, " rows"]
    batch: int
    seed: int
    device: torch.device
    rank: int = 0
    world: int = 1
    chances: Float64[np.ndarray, " rows"] | None = None

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise ValueError("no faces to train on")

    @property
    def steps(self) -> int:
        """Number of batches per epoch."""
        return count_steps(len(self.rows), self.batch)

    def size(self, step: int) -> int:
        """Number of faces in the batch of a step, counted from the training's start."""
        return faces_in(step, len(self.rows), self.steps)

    def stream(self, start: int) -> Iterator[tuple[Float[Tensor, " batch *shape"], Int[Tensor, " batch"]]]:
        """Features and ages (years) from step `start` on, without end, on the device."""
        orders = self._orders()
        for epoch in itertools.count(start // self.steps):
            shuffled = epoch_order(self.rows, self.chances, self.seed, epoch)
            for step, chosen in enumerate(np.array_split(shuffled, self.steps)):
                if epoch * self.steps + step >= start:
                    age = to_device(self.features.age[chosen].astype(np.int64), self.device)
                    yield self.features.take(chosen, self._views(orders, chosen, epoch), self.device), age

    def _orders(self) -> Int[np.ndarray, "faces views"]:
        """The order of each face's training views, which does not depend on the other faces in the training."""
        views = np.arange(FIRST_TRAINING, FIRST_TRAINING + self.features.training_views)
        among = np.tile(views, (len(self.features), 1))
        return np.random.default_rng([self.seed, _VIEWS_SEED]).permuted(among, axis=1)

    @staticmethod
    def _views(
        orders: Int[np.ndarray, "faces views"], chosen: Int[np.ndarray, " batch"], epoch: int
    ) -> Int[np.ndarray, " batch"]:
        if orders.shape[1] == 0:
            return np.full(len(chosen), FACE)
        return orders[chosen, epoch % orders.shape[1]]
