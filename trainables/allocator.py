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

    On a processor that is a third of AlexNet's step at 64 px, a fifth of VGG-16's, a tenth of EfficientNet-Lite0's at
    96 px (docs/lopo.md). In a thread other than the main one it holds for tensors of up to 32 MB. Nothing happens with
    another C library. What was free goes back at the end.
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
