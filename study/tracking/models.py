"""Models in MLflow: logged as code with their files, registered under a name, and fetched again."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, infer_signature

from study.tracking import runs
from study.tracking.errors import translated
from study.tracking.records import Tracking

CONTENT, SYNTHETIC = "study.content", "study.synthetic"
"""Tags of a registered version: what decided it, and whether it was trained on synthetic people."""

FOLDER = "artifacts"
"""Where MLflow puts a model's own files, next to its code."""


def registered_version(tracking: Tracking, name: str, content: str) -> str | None:
    """The version of a registered model with this content; None where there is none."""
    with translated(tracking.place):
        found = tracking.client.search_model_versions(f"name='{name}' and tags.`{CONTENT}`='{content}'")
    return max((str(each.version) for each in found), key=int, default=None)


def log_model(
    tracking: Tracking,
    run_id: str,
    *,
    title: str,
    code: Path,
    code_paths: Sequence[Path],
    folder: Path,
    requirements: Sequence[str],
    example: tuple[pd.DataFrame, pd.DataFrame],
    metadata: Mapping[str, Any],
) -> str:
    """Log a model folder with the code that serves it as a LoggedModel of a run; returns its URI.

    code: a file that ends in mlflow.models.set_model. example: an input and its output, for the signature.
    """
    given, answer = example
    with translated(tracking.place), _fluent(tracking), mlflow.start_run(run_id=run_id, log_system_metrics=False):
        signature: ModelSignature = infer_signature(given, answer)
        logged = mlflow.pyfunc.log_model(
            name=title,
            python_model=str(code),
            code_paths=[str(path) for path in code_paths],
            artifacts={"model": str(folder)},
            pip_requirements=list(requirements),
            signature=signature,
            input_example=given,
            metadata=dict(metadata),
        )
    return str(logged.model_uri)


def register_model(tracking: Tracking, uri: str, *, name: str, alias: str, tags: Mapping[str, str]) -> tuple[str, bool]:
    """Register a logged model; returns its version, and whether it now has the alias.

    A model of synthetic people does not take the alias from one of real people.
    """
    client = tracking.client
    with translated(tracking.place), _fluent(tracking):
        with contextlib.redirect_stderr(io.StringIO()):  # it prints two lines of its own
            version = str(mlflow.register_model(uri, name, tags=dict(tags)).version)
        before = None
        with contextlib.suppress(MlflowException):  # nobody has the alias yet
            before = client.get_model_version_by_alias(name, alias)
        takes = before is None or tags.get(SYNTHETIC) != "yes" or before.tags.get(SYNTHETIC) == "yes"
        if takes:
            client.set_registered_model_alias(name, alias, version)
    return version, takes


def download_model(uri: str, folder: Path) -> Path:
    """The model folder of a models:/ URI, copied into `folder`. Raises OSError where MLflow has no such model."""
    tracking = runs.connect()
    with translated(tracking.place), _fluent(tracking):
        try:
            place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        except MlflowException as error:
            reason = " ".join(str(error).split())[:200]
            raise FileNotFoundError(
                f"no model {uri} in {tracking.place.shown} ({reason}): make one with: python -m study.refit --best, or "
                "give its folder with --model"
            ) from error
    found = sorted((place / FOLDER).glob("*/model.json"))
    if not found:
        raise FileNotFoundError(f"{uri} is no model of study.refit: expected {FOLDER}/*/model.json in it")
    return found[0].parent


@contextlib.contextmanager
def _fluent(tracking: Tracking) -> Iterator[None]:
    """MLflow's global state set to this place, and quiet; as it was before at the end, also in the environment, where
    MLflow writes the place for child processes. The registry is that of the place, unless MLFLOW_REGISTRY_URI names
    another."""
    names = ("MLFLOW_TRACKING_URI", "TQDM_DISABLE")
    before = {name: os.environ.get(name) for name in names}
    level = logging.getLogger("mlflow").level
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["TQDM_DISABLE"] = "1"
    mlflow.set_tracking_uri(tracking.uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own parts about each other
            yield
    finally:
        logging.getLogger("mlflow").setLevel(level)
        mlflow.set_tracking_uri(before["MLFLOW_TRACKING_URI"] or None)  # type: ignore[arg-type]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
