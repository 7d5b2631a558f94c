"""What is written to one run of MLflow at a time, and how: writing a record twice has the effect of writing it once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from study.tracking import store
from study.tracking.errors import Place
from study.tracking.spool import Spool

KEY, STAGE, COMPLETE = "study.key", "study.stage", "study.complete"
PARENT, NAME, NOTE = "mlflow.parentRunId", "mlflow.runName", "mlflow.note.content"
PENDING = "key:"
"""Followed by its key, this replaces the id of a run that the server could not create yet."""

settled: set[str] = set()
"""Ids of complete runs that a command of this process found again: nothing is written to them (runs.reopen)."""

_BATCH = 1000 - 200
"""Metrics per call: MLflow's server takes 1000 metrics, params and tags together."""


@cache
def _client(uri: str) -> MlflowClient:
    """One client per process: it holds the connections."""
    return MlflowClient(tracking_uri=uri)


@dataclass(frozen=True)
class Tracking:
    """A connection to the place of the runs: plain values, so that it can be pickled.

    spool: records that wait while a server does not answer; None where the runs are not on a server.
    """

    uri: str
    experiment: str
    spool: Spool | None = None

    @property
    def client(self) -> MlflowClient:
        return _client(self.uri)

    @property
    def place(self) -> Place:
        """The place of the runs, for messages."""
        return store.place_of(self.uri)


@dataclass(frozen=True)
class Begin:
    """How to start a run that is not there yet. known_new: the key need not be looked up. at: milliseconds."""

    name: str
    stage: str
    parent: str | None
    at: int
    known_new: bool


@dataclass(frozen=True)
class Record:
    """What is written to one run, in values that JSON knows; times in milliseconds, as they were measured.

    run: the run's id; or else key and begin. metrics: (name, value, time, step). end: (status, time). lasted: how long
    the run took in its own processes, from which its end is counted; None: until `end`. datasets: as runs.dataset
    describes them. experiment: where a run with this key is found or created.
    """

    run: str | None = None
    key: str = ""
    begin: Begin | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: Sequence[Sequence[Any]] = ()
    end: Sequence[Any] | None = None
    lasted: int | None = None
    datasets: Sequence[Mapping[str, Any]] = ()
    experiment: str = ""


def put(tracking: Tracking, record: Record, files: Sequence[Path] = (), *, again: bool = False) -> str:
    """Write a record and its artifacts; returns the run's id. again: an earlier attempt may have succeeded.

    Repeating it is harmless: runs are found by their key, params and tags stay the same, and MLflow keeps only one of
    two metrics with equal step, time and value.
    """
    client = tracking.client
    run_id, params, tags = _run_of(tracking, record, again=again)
    if run_id in settled:
        _log_missing(tracking, run_id, files)
        return run_id
    name = record.tags.get(NAME)
    metrics = [Metric(name, value, at, step) for name, value, at, step in record.metrics]
    written = [Param(name, value) for name, value in params.items()]
    marks = [RunTag(name, value) for name, value in tags.items()]
    if metrics or marks or written:
        client.log_batch(run_id, metrics=metrics[:_BATCH], params=written, tags=marks)
        for start in range(_BATCH, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    if files:
        repository = artifacts(tracking, run_id)
        for file in files:
            repository.log_artifact(str(file))
    if name:
        client.update_run(run_id, name=name)
    if record.datasets:
        client.log_inputs(run_id, [_dataset(each) for each in record.datasets])
    if record.end is not None:
        status, at = record.end
        if record.lasted is not None:
            at = client.get_run(run_id).info.start_time + record.lasted
        client.set_terminated(run_id, status=status, end_time=at)
    return run_id


def _run_of(tracking: Tracking, record: Record, *, again: bool) -> tuple[str, dict[str, str], dict[str, str]]:
    """The id of a record's run, created where it is missing; the params it still lacks; and the tags, among them a
    changed parent."""
    begin, tags = record.begin, {key: value for key, value in record.tags.items() if key != NAME}
    if begin is None:
        run_id = record.run or ""
        if run_id.startswith(PENDING):
            there = _find(tracking, run_id.removeprefix(PENDING), record.experiment)
            if there is None:
                raise MlflowException(f"no run {run_id}", error_code=RESOURCE_DOES_NOT_EXIST)
            run_id = there.info.run_id
            if _is_complete(there):
                settled.add(run_id)
        return run_id, record.params, tags
    links = {PARENT: begin.parent} if begin.parent else {}
    there = None if begin.known_new and not again else _find(tracking, record.key, record.experiment)
    if there is None:
        # all tags with the run's creation: they cost a third of a run that is logged as a whole
        marks = {**tags, KEY: quoted(record.key), STAGE: begin.stage, NAME: begin.name, **links}
        where = record.experiment or tracking.experiment
        made = tracking.client.create_run(where, start_time=begin.at, tags=marks, run_name=begin.name)
        return made.info.run_id, record.params, {}
    if _is_complete(there):
        settled.add(there.info.run_id)
        return there.info.run_id, {}, {}
    tracking.client.update_run(there.info.run_id, status="RUNNING", name=begin.name)
    params = {name: value for name, value in record.params.items() if name not in there.data.params}
    # the parent differs where its predecessor was deleted in MLflow's UI
    moved = links if begin.parent != there.data.tags.get(PARENT) else {}
    return there.info.run_id, params, {**tags, **moved}


def _find(tracking: Tracking, key: str, experiment: str) -> Any:
    """The run with this key, or None."""
    query = f"tags.`{KEY}` = '{quoted(key)}'"
    found = tracking.client.search_runs([experiment or tracking.experiment], query, max_results=1)
    return found[0] if found else None


def _log_missing(tracking: Tracking, run_id: str, files: Sequence[Path]) -> None:
    """Artifacts of a complete run that are gone or were others: the only thing that is written to one."""
    if files:
        repository = artifacts(tracking, run_id)
        there = {file.path: file.file_size for file in repository.list_artifacts()}
        for file in files:
            same = there.get(file.name) == file.stat().st_size and _content(repository, file.name) == file.read_bytes()
            if not same:
                repository.log_artifact(str(file))


def _content(repository: Any, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return Path(repository.download_artifacts(name, folder)).read_bytes()


ENDED = ("FINISHED", "FAILED", "KILLED")


def _is_complete(run: Any) -> bool:
    return run.data.tags.get(COMPLETE) == "yes" and run.info.status in ENDED


def _dataset(told: Mapping[str, Any]) -> DatasetInput:
    """What the page shows of a dataset: its name and digest in the list, its size and source behind a click."""
    size = json.dumps({"num_rows": told["faces"], "people": told["people"]})
    kept = Dataset(
        name=told["name"][:500], digest=told["digest"][:36], source_type="local",
        source=json.dumps({"uri": told["source"]}), profile=size,
    )  # fmt: skip
    return DatasetInput(kept, [InputTag("mlflow.data.context", told["context"])])


def quoted(key: str) -> str:
    """A key as it stands in tags and queries: a sweep's name may hold quotation marks."""
    return quote(key, safe=" ()+,./:=@-_", errors="surrogateescape")


def artifacts(tracking: Tracking, run_id: str) -> Any:
    """The run's artifact repository, looked up each time: MLflow's client keeps using the first location it saw."""
    run = tracking.client.get_run(run_id)
    return get_artifact_repository(run.info.artifact_uri, tracking_uri=tracking.uri)
