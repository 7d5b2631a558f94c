"""Recognises errors that mean too little memory: every library words them differently."""

from __future__ import annotations

import errno

import torch

_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "status_alloc_failed",  # cuBLAS, cuDNN
    "could not create a primitive",  # oneDNN, which allocates its code and scratch memory itself
    "could not create a memory",
    "could not execute a primitive",
)


def lacking_memory(error: BaseException) -> str | None:
    """One line if the error means too little memory, else None.

    On a GPU that is torch.OutOfMemoryError. On a CPU it is a MemoryError of Python or NumPy, an OSError with ENOMEM, or
    a RuntimeError of torch; oneDNN's message does not mention memory.
    """
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    known = known or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    known = known or (isinstance(error, RuntimeError) and _says_so(str(error).lower()))
    return f"it needs more memory than there is ({text[:200]})" if known else None


def _says_so(text: str) -> bool:
    # "a primitive descriptor" means shapes that oneDNN does not support, not too little memory
    text = text.replace("could not create a primitive descriptor", "")
    return any(sign in text for sign in _SIGNS)
