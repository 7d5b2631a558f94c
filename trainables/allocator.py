"""Memory that a training frees and asks for again at every step stays with the process meanwhile."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""mallopt()'s names for these numbers, in glibc's malloc.h."""

_KEPT = 1 << 30
"""Bytes: more than a step frees."""


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within it, glibc does not give freed memory back to the system, which would clear it again page by page.

    On a processor that is a fifth of AlexNet's step at 64 px (docs/lopo.md). In a thread other than the main one it
    holds for tensors below 64 MB only, all that glibc has room for there. Nothing happens with another C library. What
    is free goes back at the end; what the process frees later is kept again, since glibc's thresholds stay.
    """
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _KEPT)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        library.malloc_trim(0)
