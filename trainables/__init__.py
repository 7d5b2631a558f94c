"""What is learned: losses, backbones, the faces table, and the one training loop. Plain torch."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def code_version() -> str:
    """12 hex digits of all source code in this package: changed code may compute another result, so its key differs."""
    return source_digest(Path(__file__).parent)


def source_digest(folder: Path, *further: Path) -> str:
    """12 hex digits of the names and contents of all Python files under a folder, and of further files."""
    digest = hashlib.sha256()
    for file in (*sorted(folder.rglob("*.py")), *further):
        name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
        digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
