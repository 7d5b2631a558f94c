"""Random changes of a batch of training faces: seeded random numbers, applied on the batch's device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trainables.config import Augmentation

CHANCES = 14
"""Random numbers drawn per face; the last four are unused. All are always drawn, so that an option does not change the
numbers of the others. Another count would change every training."""


def draw_chances(faces: int, generator: torch.Generator) -> Float[Tensor, "faces chances"]:
    """Uniform numbers in [0, 1), one row per face. Drawn on the CPU: the same on every device, for any worker."""
    return torch.rand(faces, CHANCES, generator=generator)


def augment(
    pixels: Float[Tensor, "batch 3 px px"], chances: Float[Tensor, "batch chances"], how: Augmentation
) -> Float[Tensor, "batch 3 px px"]:
    """Faces (0 to 255) rotated, scaled, shifted and mirrored in one resampling, then changed in light and sharpness."""
    u = chances.to(pixels.device)
    if how.flip or how.rotate or how.scale or how.shift:
        pixels = _move(pixels, u, how)
    if how.blur:
        amount = torch.where(u[:, 5] < how.blur, u[:, 6], 0.0).view(-1, 1, 1, 1)
        pixels = pixels + amount * (F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False) - pixels)
    if how.grey:
        # Rec. 601 luma, as in JPEG
        luma = (pixels * pixels.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        pixels = torch.where((u[:, 7] < how.grey).view(-1, 1, 1, 1), luma, pixels)
    if how.brightness or how.contrast:
        gain = (1 + how.contrast * (2 * u[:, 8] - 1)).view(-1, 1, 1, 1)
        lift = (1 + how.brightness * (2 * u[:, 9] - 1)).view(-1, 1, 1, 1)
        middle = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = ((pixels - middle) * gain + middle * lift).clamp(0, 255)
    return pixels


def _move(pixels: Tensor, u: Tensor, how: Augmentation) -> Tensor:
    mirror = torch.where(u[:, 0] < how.flip, -1.0, 1.0)
    angle = (2 * u[:, 1] - 1) * math.radians(how.rotate)
    # a face twice as large is as likely as one half as large
    zoom = torch.exp((2 * u[:, 2] - 1) * math.log1p(how.scale))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    dx, dy = (
        (2 * u[:, 3] - 1) * 2 * how.shift,
        (2 * u[:, 4] - 1) * 2 * how.shift,
    )  # grid units: the side is 2
    theta = torch.stack([torch.stack([mirror * cos, -sin, dx], 1), torch.stack([mirror * sin, cos, dy], 1)], 1)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
