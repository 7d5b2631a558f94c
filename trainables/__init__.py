"""What is learned: losses, backbones, the faces table, and the one training loop. Plain torch."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def code_version() -> str:
    """12 hex digits of all source in this package: another code may compute another result, so it has another key."""
    return source_digest(Path(__file__).parent)


def source_digest(folder: Path, *further: Path) -> str:
    """12 hex digits of every Python file under a folder, by name and content, and of some further files."""
    digest = hashlib.sha256()
    for file in (*sorted(folder.rglob("*.py")), *further):
        name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
        digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
