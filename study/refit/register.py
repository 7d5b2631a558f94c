"""Logs a model folder to MLflow, with the code that serves it, and registers it."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import pandas as pd

import study
from study.artifacts.model import ModelRecord
from study.model.ages import AgeModel
from study.model.bundle import copy_code, requirements
from study.model.place import ALIAS, NAME
from study.tracking import models
from study.tracking import runs as tracking

EXAMPLE = Path(study.__file__).parent / "align" / "datasets" / "built_in" / "people" / "images"
"""Photos of synthetic people: the input example is one of them, never a real person's."""


def log_and_register(
    store: tracking.Tracking, run_id: str, record: ModelRecord, folder: Path, *, register: bool
) -> str:
    """Log the model, and register it where asked; returns what was done, in words."""
    photo = sorted(EXAMPLE.iterdir())[0].read_bytes()
    given = pd.DataFrame({"photo": [base64.b64encode(photo).decode()]})
    answer = AgeModel.read(folder).predict([photo, b""], names=["0", "1"])  # the second without a face: nulls
    code = Path(study.__file__).parent / "model" / "mlflow_model.py"
    with tempfile.TemporaryDirectory() as place:
        uri = models.log_model(
            store,
            run_id,
            title=NAME,
            code=code,
            code_paths=copy_code(Path(place)),
            folder=folder,
            requirements=requirements(record),
            example=(given, answer),
            metadata={"content": record.content, "training": record.training, "error": record.error},
        )
    if not register:
        return f"logged as {uri}, not registered"
    tags = {
        models.CONTENT: record.content,
        models.SYNTHETIC: "yes" if record.synthetic else "no",
        "study.brand": record.brand or "none",
    }
    version, takes = models.register_model(store, uri, name=NAME, alias=ALIAS, tags=tags)
    whose = f", now {NAME}@{ALIAS}" if takes else f"; {NAME}@{ALIAS} stays a model of real people"
    return f"registered as {NAME} version {version}{whose}"
