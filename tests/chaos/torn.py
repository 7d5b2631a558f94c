"""Finds files that a fault left half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open


def torn_files(place: Path) -> list[Path]:
    """Results in runs/ that cannot be read. Hidden files are no results: they are being written, or Ray's own state."""
    files = [file for file in sorted((place / "runs").rglob("*")) if file.is_file()]
    shown = [file for file in files if not any(part.startswith(".") for part in file.relative_to(place).parts)]
    return [file for file in shown if not _is_whole(file)]


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".parquet":
            pq.read_table(file)
        elif file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (it is no dict)
                    tensors.get_tensor(name)
        elif file.suffix == ".png":
            return file.read_bytes().endswith(b"IEND\xaeB`\x82")
    except FileNotFoundError:  # a temporary file that has been renamed
        return True
    except (ValueError, pa.ArrowException, SafetensorError):
        return False
    return True
