"""Memory that is asked for again and again is not cleared by the system each time."""

from __future__ import annotations

import ctypes
import resource

import pytest
import torch

from trainables.allocator import memory_kept

PAGES = 25_000
"""Of 4 KB: 100 MB, which glibc would otherwise ask the system for each time."""


def faults() -> list[int]:
    """Pages that the system had to provide for each of many tensors, of which one is there at a time."""
    found = []
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(PAGES * 1024)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return found


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_freed_memory_is_used_again():
    with memory_kept():
        assert max(faults()[10:]) < PAGES / 100  # the first ones find no room among what is in use
