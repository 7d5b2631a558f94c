"""Triangles and strands to pixels: a z-buffer on one core.

Screen coordinates are pixels, x right and y down, pixel centres at integers. The third coordinate is the
inverse distance to the camera (1/dm): it is linear on the screen, and larger is nearer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numba import njit

NO_TRIANGLE = -1


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code (numba), kept on disk between runs.

    inspect.unwrap: the tests' type checker wraps every function, and numba cannot see through that.
    """
    return njit(cache=True)(inspect.unwrap(function))


@compiled
def _fill(
    points: np.ndarray, triangles: np.ndarray, triangle_at: np.ndarray, weight_at: np.ndarray, depth_at: np.ndarray
) -> None:
    height, width = depth_at.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx))))
        right = min(width - 1, int(np.floor(max(ax, bx, cx))))
        top = max(0, int(np.ceil(min(ay, by, cy))))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy))))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                v = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
                w = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
                u = 1.0 - v - w
                if u < -1e-6 or v < -1e-6 or w < -1e-6:  # the slack closes the seams that rounding opens
                    continue
                depth = u * points[a, 2] + v * points[b, 2] + w * points[c, 2]
                if depth > depth_at[y, x]:
                    depth_at[y, x] = depth
                    triangle_at[y, x] = t
                    weight_at[y, x, 0] = u
                    weight_at[y, x, 1] = v
                    weight_at[y, x, 2] = w


def rasterise(
    points: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "triangles 3"], *, height: int, width: int
) -> tuple[Int[np.ndarray, "height width"], Float[np.ndarray, "height width 3"], Float[np.ndarray, "height width"]]:
    """The nearest triangle of every pixel (NO_TRIANGLE: none), its corner weights, and the inverse distance."""
    triangle_at = np.full((height, width), NO_TRIANGLE, np.int32)
    weight_at = np.zeros((height, width, 3), np.float32)
    depth_at = np.zeros((height, width), np.float32)
    _fill(points.astype(np.float64), triangles, triangle_at, weight_at, depth_at)
    return triangle_at, weight_at, depth_at


@compiled
def _draw(
    points: np.ndarray,
    colours: np.ndarray,
    lengths: np.ndarray,
    bias: float,
    wide: int,
    image: np.ndarray,
    depth_at: np.ndarray,
) -> None:
    height, width = depth_at.shape
    for s in range(points.shape[0]):
        for k in range(lengths[s] - 1):
            ax, ay, az = points[s, k, 0], points[s, k, 1], points[s, k, 2]
            bx, by, bz = points[s, k + 1, 0], points[s, k + 1, 1], points[s, k + 1, 2]
            steps = int(max(abs(bx - ax), abs(by - ay))) + 1
            for i in range(steps):
                f = i / steps
                x = round(ax + f * (bx - ax))
                y = round(ay + f * (by - ay))
                if x < 0 or y < 0 or x >= width - wide or y >= height:
                    continue
                depth = az + f * (bz - az)
                left = (lengths[s] - 1 - k - f) / lengths[s]  # of the strand, to its tip
                solid = min(1.0, 0.15 + 4.0 * left)
                for side in range(wide if left > 0.2 else 1):
                    if depth * (1.0 + bias) > depth_at[y, x + side]:
                        if solid > 0.6:
                            depth_at[y, x + side] = max(depth, depth_at[y, x + side])
                        for c in range(3):
                            tint = colours[s, k, c] + f * (colours[s, k + 1, c] - colours[s, k, c])
                            image[y, x + side, c] += solid * (tint - image[y, x + side, c])


def draw_strands(
    points: Float[np.ndarray, "strands steps 3"],
    colours: Float[np.ndarray, "strands steps 3"],
    lengths: Int[np.ndarray, " strands"],
    *,
    image: Float[np.ndarray, "height width 3"],
    depth_at: Float[np.ndarray, "height width"],
    bias: float,
    wide: int = 1,
) -> None:
    """Draws strands, `wide` pixels thick, into image and depth_at; their tips fade.

    lengths: points used of each strand. bias: how much nearer, as a share of the distance, a strand is taken to
    be than it is, so that those lying on the skin are not swallowed by it.
    """
    _draw(points.astype(np.float32), colours.astype(np.float32), lengths.astype(np.int64), bias, wide, image, depth_at)


@compiled
def _reach(
    points: np.ndarray, depth: np.ndarray, taps: np.ndarray, slack: np.float32, soft: np.float32, lit: np.ndarray
) -> None:
    height, width = depth.shape
    for k in range(points.shape[0]):
        total = 0.0
        for t in range(taps.shape[0]):
            x = min(max(round(points[k, 0] + taps[t, 0]), 0), width - 1)
            y = min(max(round(points[k, 1] + taps[t, 1]), 0), height - 1)
            total += 1.0 - min(max((depth[y, x] - points[k, 2] - slack) / soft, 0.0), 1.0)
        lit[k] = total / taps.shape[0]


def light_reach(
    points: Float[np.ndarray, "points 3"],
    depth: Float[np.ndarray, "height width"],
    taps: Float[np.ndarray, "taps 2"],
    *,
    slack: float,
    soft: float,
) -> Float[np.ndarray, " points"]:
    """The share of the taps (pixels around a point) at which nothing lies nearer to the light, 0..1.

    points and depth as seen from the light; a point is in full shade from slack + soft behind what is nearest.
    """
    lit = np.zeros(len(points), np.float32)
    _reach(points.astype(np.float32), depth, taps.astype(np.float32), np.float32(slack), np.float32(soft), lit)
    return lit


def unit(rows: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, "rows 3"]:
    """The rows at length 1."""
    return rows / (np.sqrt(np.einsum("ij,ij->i", rows, rows)) + 1e-9)[:, None]


def interpolate(
    values: Float[np.ndarray, "vertices channels"],
    corners: Int[np.ndarray, "pixels 3"],
    weights: Float[np.ndarray, "pixels 3"],
) -> Float[np.ndarray, "pixels channels"]:
    """Values of the vertices at the pixels that triangles cover."""
    return (
        values[corners[:, 0]] * weights[:, :1]
        + values[corners[:, 1]] * weights[:, 1:2]
        + values[corners[:, 2]] * weights[:, 2:]
    )


def vertex_normals(
    vertices: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "triangles 3"]
) -> Float[np.ndarray, "vertices 3"]:
    """Unit normals, area-weighted over the triangles that meet in a vertex."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(triangles.ravel(), np.repeat(face[:, k], 3), len(vertices)) for k in range(3)], axis=1
    )
    return unit(total).astype(np.float32)
