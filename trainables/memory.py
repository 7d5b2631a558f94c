"""Whether an error says that there is too little memory: libraries have many words for it."""

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
    "could not create a primitive",  # oneDNN, whose code and scratch memory are allocated on its own
    "could not create a memory",
    "could not execute a primitive",
)


def lacking_memory(error: BaseException) -> str | None:
    """One line where the error says that there is too little memory, else None.

    A GPU's is torch.OutOfMemoryError; a processor's is a MemoryError of Python or NumPy, an OSError with ENOMEM, or a
    RuntimeError of torch, of which oneDNN's does not even name memory.
    """
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    known = known or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    known = known or (isinstance(error, RuntimeError) and _says_so(str(error).lower()))
    return f"it needs more memory than there is ({text[:200]})" if known else None


def _says_so(text: str) -> bool:
    # "a primitive descriptor" is of shapes that oneDNN does not know, which is no lack of memory
    text = text.replace("could not create a primitive descriptor", "")
    return any(sign in text for sign in _SIGNS)
