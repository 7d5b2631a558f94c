"""Where a model is: a folder of study.refit, a model that MLflow has registered, or the one that was made last."""

from __future__ import annotations

import tempfile
from pathlib import Path

from study.artifacts.model import FILE, ModelRecord
from study.model.ages import AgeModel
from study.plain import printable

NAME, ALIAS = "facial-age", "champion"
"""The registered model, and the alias of the version to use."""

CHAMPION = f"models:/{NAME}@{ALIAS}"

HOMES = (Path("runs/models"), Path("runs/synthetic/models"))
"""Where study.refit writes models of real and of synthetic people. The first that has a model counts."""


def load_model(place: str | Path | None = None, *, threads: int = 1) -> AgeModel:
    """The model in a folder of study.refit (or the newest in a folder of such folders), or of a models:/ URI. Default:
    the one that was made here last.

    threads: of the network and the landmarker. Raises FileNotFoundError or ValueError, in one line, where there is
    none or it is damaged.
    """
    place = find_model() if place is None else str(place)
    if not place.startswith("models:/"):
        return AgeModel.read(model_folder(place), threads=threads)
    with tempfile.TemporaryDirectory() as folder:  # the files are read into memory
        return AgeModel.read(fetch_model(place, Path(folder)), threads=threads)


def find_model() -> str:
    """The folder that study.refit wrote last here, of real people if there is one; else the registered champion."""
    for home in HOMES:
        if made := _newest(home):
            return str(made)
    return CHAMPION


def model_folder(place: str) -> Path:
    """The model folder that is meant by a path: itself, or the newest one directly in it."""
    folder = Path(place).expanduser()
    return folder if (folder / FILE).is_file() else _newest(folder) or folder


def _newest(home: Path) -> Path | None:
    made = sorted(home.glob(f"[!.]*/{FILE}"), key=lambda file: (file.stat().st_mtime_ns, str(file)))
    return made[-1].parent if made else None


def fetch_model(uri: str, folder: Path) -> Path:
    """The model folder of a models:/ URI, copied into `folder`. Raises OSError or ValueError where there is none."""
    from study.tracking.models import download_model  # only here: MLflow takes seconds to import

    return download_model(uri, folder)


def describe_model(record: ModelRecord, where: str) -> list[str]:
    """What is said before a model's first answer: which it is, its expected error, and what it must not be used for."""
    lines = [f"Model: {where} ({printable(record.name)}, {record.error})"]
    if record.synthetic:
        lines.append("It was trained on synthetic people: its ages mean nothing for real faces.")
    if record.measured is None:
        lines.append("Its intervals are the network's own, not calibrated: run study.lopo --best, then study.refit.")
    return lines
