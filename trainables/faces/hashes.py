"""Hashes of pictures by which a photo is found again after it was re-encoded or resized.

The perceptual hash of Zauner (2010), pHash, with 256 bits in place of its 64: faces on one template look much alike,
and with 64 bits strangers are as near to each other as copies are (docs/pretraining.md has the distances).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, UInt8

SIDE = 32
"""A picture is hashed at this size in pixels, shrunk with an area filter."""

LOW = 16
"""Its lowest LOW x LOW frequencies are used."""

BYTES = LOW * LOW // 8
"""Length of a hash."""

NEAR = 30
"""Pictures of which at most so many of 256 bits differ are near-identical: measured in docs/pretraining.md."""

_COSINES = np.cos(np.pi * np.arange(LOW)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE))
_LUMA = np.array([0.299, 0.587, 0.114])

Hashes = UInt8[np.ndarray, "_ 32"]
"""A hash in each row; all zeros where a picture has none."""


def picture_hash(small: UInt8[np.ndarray, "32 32 3"]) -> bytes:
    """The hash of an RGB picture that was shrunk to SIDE x SIDE: a bit for each of the lowest frequencies of its grey
    values' cosine transform (DCT-II), 1 where it is above the median of all but the mean brightness."""
    frequencies = (_COSINES @ (small @ _LUMA) @ _COSINES.T).ravel()
    return np.packbits(frequencies > np.median(frequencies[1:])).tobytes()


def stacked(hashes: list[bytes | None]) -> Hashes:
    """Hashes as rows, zeros for None."""
    nothing = bytes(BYTES)
    return np.frombuffer(b"".join(each or nothing for each in hashes), np.uint8).reshape(-1, BYTES)


def nearest(of: Hashes, among: Hashes) -> Int[np.ndarray, " _"]:
    """For each row of `of`, in how many bits the most alike row of `among` differs; 256 where either has no hash."""
    found = np.full(len(of), 8 * BYTES)
    known, others = np.flatnonzero(of.any(axis=1)), np.unique(among[among.any(axis=1)], axis=0)
    if len(others) == 0:
        return found
    words = np.ascontiguousarray(others).view(np.uint64)
    for row, one in zip(known.tolist(), np.ascontiguousarray(of[known]).view(np.uint64), strict=True):
        found[row] = np.bitwise_count(words ^ one).sum(axis=1, dtype=np.int64).min()
    return found


def in_parts(hashes: Hashes) -> Iterator[bytes | None]:
    """The rows as bytes, None for one of zeros."""
    for row in hashes:
        yield row.tobytes() if row.any() else None
