"""What is learned: losses, backbones, the faces table, and the one training loop. Plain torch."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_LEARNING = ("losses", "backbones", "config", "faces", "augmentation", "batches", "fitting", "metrics")


@cache
def code_version() -> str:
    """12 hex digits of the source that decides what a training computes: another code, another result."""
    digest = hashlib.sha256()
    for name in _LEARNING:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]
