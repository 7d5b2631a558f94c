"""Where a network looks: what an age changes by when a part of the face is hidden, and a test of that map.

Occlusion (Zeiler and Fergus, ECCV 2014) by captum, since it works for every network: a window is replaced by the
blurred face, and the map says by how many years that lowers the age. The deletion test (after Petsiuk, Das and Saenko,
RISE, BMVC 2018) hides a growing share of the face: what the map says makes it older must lower the age more than parts
chosen at random do, what it says makes it younger must raise it more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from captum.attr import Occlusion
from jaxtyping import Float, UInt8
from torch import Tensor

from study.model.network import MeanNet

WINDOW, STRIDE = 1 / 4, 1 / 8
"""Sides of the hidden window and of its steps, as shares of the face."""

CELLS = 8
"""The deletion test hides cells of a grid of 8 x 8."""

SHARES = (0.1, 0.2, 0.3)
"""Shares of the face that the deletion test hides."""

DRAWS = 8
"""Random orders that the map's is compared with."""


@dataclass(frozen=True)
class Deletion:
    """The deletion test over some faces, means in years, where `share` of the face is hidden.

    lower: by how much the age falls where what the map calls older is hidden; higher: by how much it rises where what
    it calls younger is hidden. fall: by how much it falls where random parts are hidden.
    """

    share: float
    lower: float
    higher: float
    fall: float

    @property
    def passed(self) -> bool:
        """Whether both are more than chance."""
        return self.lower > self.fall and self.higher > -self.fall

    @property
    def sentence(self) -> str:
        """The result in words."""
        verdict = "the map says more than chance" if self.passed else "THE MAP SAYS NO MORE THAN CHANCE"
        return (
            f"with {100 * self.share:.0f} % of the face hidden the age changes by {-self.lower:+.2f} years where the "
            f"map says older, {self.higher:+.2f} where it says younger, {-self.fall:+.2f} at random: {verdict}"
        )


def explain_face(net: MeanNet, face: UInt8[np.ndarray, "px px 3"]) -> Float[np.ndarray, "px px"]:
    """Years by which each part of a face raises its age: above 0 it makes the face look older, below 0 younger."""
    pixels, hidden = _tensor(face), _tensor(blurred(face))
    side = face.shape[0]
    window, stride = max(1, math.ceil(side * WINDOW)), max(1, math.ceil(side * STRIDE))
    with torch.no_grad():
        found: Tensor = Occlusion(lambda batch: ages(net, batch)).attribute(
            pixels,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=hidden,
            perturbations_per_eval=16,
        )
    return found[0].mean(dim=0).numpy()


def deletion_test(
    net: MeanNet, faces: Sequence[UInt8[np.ndarray, "px px 3"]], maps: Sequence[Float[np.ndarray, "px px"]]
) -> list[Deletion]:
    """The test at each of SHARES, over all faces; the random orders are seeded."""
    random = np.random.default_rng(0)
    moved: dict[float, list[tuple[float, float, float]]] = {share: [] for share in SHARES}
    for face, found in zip(faces, maps, strict=True):
        weight = cv2.resize(found.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel()
        order = np.argsort(-weight, kind="stable")
        orders = [order, order[::-1], *(random.permutation(CELLS**2) for _ in range(DRAWS))]
        for share in SHARES:
            count = round(share * CELLS**2)
            batch = np.stack([face, *(hide(face, order[:count]) for order in orders)])
            with torch.no_grad():
                years = ages(net, torch.from_numpy(batch).permute(0, 3, 1, 2).float()).numpy()
            fall = years[0] - years[1:]
            moved[share].append((float(fall[0]), -float(fall[1]), float(fall[2:].mean())))
    return [Deletion(share, *np.mean(triples, axis=0).tolist()) for share, triples in moved.items()]


def hide(face: UInt8[np.ndarray, "px px 3"], cells: Sequence[int] | np.ndarray) -> UInt8[np.ndarray, "px px 3"]:
    """The face with some cells of the grid replaced by the blurred face."""
    grid = np.zeros(CELLS**2, np.uint8)
    grid[np.asarray(cells, int)] = 1
    side = face.shape[0]
    mask = cv2.resize(grid.reshape(CELLS, CELLS), (side, side), interpolation=cv2.INTER_NEAREST).astype(bool)
    return np.where(mask[:, :, None], blurred(face), face)


def blurred(face: UInt8[np.ndarray, "px px 3"]) -> UInt8[np.ndarray, "px px 3"]:
    """The face without wrinkles, eyes or mouth: only its colours and light."""
    return cv2.GaussianBlur(face, (0, 0), sigmaX=face.shape[0] / 6, borderType=cv2.BORDER_REFLECT_101)


def ages(net: MeanNet, pixels: Float[Tensor, "faces 3 px px"]) -> Float[Tensor, " faces"]:
    """The expected age (years) of faces as floating-point pixels (0 to 255)."""
    distribution = net.from_pixels(pixels)
    return distribution @ torch.arange(distribution.shape[1], dtype=distribution.dtype)


def _tensor(face: UInt8[np.ndarray, "px px 3"]) -> Float[Tensor, "1 3 px px"]:
    return torch.from_numpy(np.array(face)).permute(2, 0, 1)[None].float()
