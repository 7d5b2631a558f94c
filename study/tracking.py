"""MLflow, and the only module that imports it: runs found again by a key, so that a rerun never doubles one."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# Before the import: the study tells nobody that it runs, and prints no emoji after every run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

EXPERIMENT = "age-study"
KEY, STAGE, COMPLETE = "study.key", "study.stage", "study.complete"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"


@cache
def _client(uri: str) -> MlflowClient:
    """One client a process: it holds the connections."""
    return MlflowClient(tracking_uri=uri)


@dataclass(frozen=True)
class Tracking:
    """A connection: plain values and a client, so that it travels to Ray tasks."""

    uri: str
    experiment: str

    @property
    def client(self) -> MlflowClient:
        return _client(self.uri)


@dataclass(frozen=True)
class LopoRun:
    """A complete LOPO result: about.json and predictions.parquet of one parent run."""

    run_id: str
    name: str
    about: dict[str, Any]
    predictions: Path


def connect(*, home: Path | None = None) -> Tracking:
    """MLFLOW_TRACKING_URI where set, else SQLite in mlruns/ of the working directory. Creates what is missing.

    Called once in a command's driver, before any fan-out: creating the schema from many processes is a race.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    artifacts: str | None = None
    if not uri:
        home = (home or Path("mlruns")).resolve()
        (home / "artifacts").mkdir(parents=True, exist_ok=True)
        # absolute: a worker's working directory is Ray's
        uri, artifacts = f"sqlite:///{home / 'mlflow.db'}", (home / "artifacts").as_uri()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if artifacts and home:
        _write_ahead(home / "mlflow.db")
    if experiment is not None:
        return Tracking(uri, experiment.experiment_id)
    try:
        return Tracking(uri, client.create_experiment(EXPERIMENT, artifact_location=artifacts))
    except MlflowException:  # another command was faster
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise
        return Tracking(uri, experiment.experiment_id)


def _write_ahead(file: Path) -> None:
    """Switch SQLite to its write-ahead log, for good: a run is written several times faster, and a reader (mlflow ui)
    no longer stops the writer. Where another process holds the file this time, all goes on as before."""
    with contextlib.closing(sqlite3.connect(file)) as database, contextlib.suppress(sqlite3.OperationalError):
        database.execute("PRAGMA journal_mode=WAL")


def how_to_look() -> str:
    """The command that opens the page with all runs."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return f"open {os.environ['MLFLOW_TRACKING_URI']}"
    return "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db, then open http://127.0.0.1:5000"


def find_or_start(
    tracking: Tracking,
    *,
    key: str,
    name: str,
    stage: str,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
) -> str:
    """The id of the run with this key: found again and set running, or started."""
    client = tracking.client
    found = client.search_runs([tracking.experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
    if found:
        run_id = found[0].info.run_id
        client.update_run(run_id, status="RUNNING", name=name)
    else:
        links = {_PARENT: parent} if parent else {}
        made = client.create_run(
            tracking.experiment, tags={KEY: key, STAGE: stage, _NAME: name, **links}, run_name=name
        )
        run_id = made.info.run_id
    write = [Param(k, _short(v)) for k, v in (params or {}).items()] if not found else []
    told = [RunTag(k, v) for k, v in (tags or {}).items()]
    if write or told:
        client.log_batch(run_id, params=write, tags=told)
    return run_id


def log_steps(tracking: Tracking, run_id: str, steps: Iterable[tuple[int, Mapping[str, float]]]) -> None:
    """Curves: (step, {metric: value}) pairs in one call. Values that are no numbers are left out."""
    now = int(time.time() * 1000)
    metrics = [
        Metric(name, float(value), now, step)
        for step, values in steps
        for name, value in values.items()
        if value == value
    ]
    for start in range(0, len(metrics), 1000):  # the server's limit a call
        tracking.client.log_batch(run_id, metrics=metrics[start : start + 1000])


def log_files(tracking: Tracking, run_id: str, files: Sequence[Path]) -> None:
    """Files as artifacts of a run, under their own names."""
    client = tracking.client
    for file in files:
        client.log_artifact(run_id, str(file))


def log_json(tracking: Tracking, run_id: str, name: str, record: object) -> None:
    """A JSON artifact: what code reads back, since MLflow's params come back as strings."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        log_files(tracking, run_id, [file])


def finish(
    tracking: Tracking,
    run_id: str,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    status: str = "FINISHED",
) -> None:
    """Log the last figures and close the run (FINISHED, FAILED or KILLED)."""
    if metrics:
        log_steps(tracking, run_id, [(0, metrics)])
    if tags:
        tracking.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
    tracking.client.set_terminated(run_id, status=status)


def finished(tracking: Tracking, *, stage: str) -> list[tuple[str, str, dict[str, str]]]:
    """(run id, name, tags) of the complete runs of a stage, newest first."""
    runs = tracking.client.search_runs(
        [tracking.experiment],
        f"tags.`{STAGE}` = '{stage}' and tags.`{COMPLETE}` = 'yes'",
        order_by=["attributes.start_time DESC"],
        max_results=1000,
    )
    return [(run.info.run_id, run.info.run_name or "", dict(run.data.tags)) for run in runs]


def children(tracking: Tracking, parent: str) -> dict[str, tuple[str, str]]:
    """Key of each child run of a parent: (run id, status)."""
    query, token = f"tags.`{_PARENT}` = '{parent}'", None
    found: dict[str, tuple[str, str]] = {}
    while True:
        page = tracking.client.search_runs([tracking.experiment], query, max_results=1000, page_token=token)
        found |= {run.data.tags.get(KEY, ""): (run.info.run_id, run.info.status) for run in page}
        token = page.token
        if not token:
            return found


def log_whole(
    tracking: Tracking,
    run_id: str | None,
    *,
    key: str,
    name: str,
    stage: str,
    parent: str,
    params: Mapping[str, Any],
    steps: Sequence[tuple[int, Mapping[str, float]]],
) -> str:
    """A run that is over, in three calls: made (or `run_id` taken, where it was begun before), filled, closed."""
    client = tracking.client
    if run_id is None:
        tags = {KEY: key, STAGE: stage, _PARENT: parent, _NAME: name}
        run_id = client.create_run(tracking.experiment, tags=tags, run_name=name).info.run_id
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(k, float(v), now, step) for step, values in steps for k, v in values.items() if v == v],
        params=[Param(k, _short(v)) for k, v in params.items()],
    )
    client.set_terminated(run_id, status="FINISHED")
    return run_id


def read_json(tracking: Tracking, run_id: str, name: str) -> Any:
    """A JSON artifact of a run."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(Path(tracking.client.download_artifacts(run_id, name, folder)).read_text())


def finished_lopo(tracking: Tracking, *, folder: Path) -> list[LopoRun]:
    """Every complete LOPO result, newest first, its files copied under `folder`."""
    results = []
    for run_id, name, _ in finished(tracking, stage="lopo"):
        place = folder / run_id
        place.mkdir(parents=True, exist_ok=True)
        predictions = Path(tracking.client.download_artifacts(run_id, "predictions.parquet", str(place)))
        results.append(LopoRun(run_id, name, read_json(tracking, run_id, "about.json"), predictions))
    return results


def _short(value: Any) -> str:
    return str(value)[:500]
