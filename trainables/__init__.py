"""What is learned: losses, backbones, the faces table, and the one training loop. Plain torch."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def code_version() -> str:
    """12 hex digits of all source in this package: another code may compute another result, so it has another key."""
    here, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(here.rglob("*.py")):
        digest.update(f"{file.relative_to(here).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
