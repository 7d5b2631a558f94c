"""What --help calls the value of an option: FOLDER, FILE, HOST:PORT. Other values are NUMBER, NAME or their choices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated


@dataclass(frozen=True)
class Word:
    """For use in Annotated: what people call the value."""

    word: str


Folder = Annotated[Path, Word("FOLDER")]
File = Annotated[Path, Word("FILE")]
Place = Annotated[str, Word("FOLDER")]
"""A folder or a URI such as s3://bucket/faces."""
