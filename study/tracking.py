"""MLflow, and the only module that imports it: runs found again by a key, so that a rerun never doubles one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from requests import RequestException

from study import ends
from study.outage import Server, ask, flush, settle, write
from study.spool import Spool, at_end

# Before the import: the study tells nobody that it runs, and prints no emoji after every run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# MLflow's own retries would send a run's creation again whose answer was lost, and double it; and would hold a training
# up for four minutes. What to do with a server that does not answer is decided here.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

# Pages on what SQLite could not do, which is told in a line, and lines on its tables
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

EXPERIMENT = "age-study"
KEY, STAGE, COMPLETE = "study.key", "study.stage", "study.complete"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_SERVERS = ("http://", "https://")
_PENDING = "key:"
"""In place of the id of a run that could not be begun yet; its key follows."""

_BATCH = 1000 - 200
"""Metrics a call: MLflow's server takes 1000 metrics, params and tags together."""

Answer = TypeVar("Answer")

_open: dict[str, tuple[Tracking, str]] = {}
"""Runs that this process has begun and not ended, by key: where they are, and their id."""


@cache
def _client(uri: str) -> MlflowClient:
    """One client a process: it holds the connections."""
    return MlflowClient(tracking_uri=uri)


@dataclass(frozen=True)
class Tracking:
    """A connection: plain values and a client, so that it travels to Ray tasks.

    spool: where records wait while a server does not answer; None where there is no server.
    """

    uri: str
    experiment: str
    spool: Spool | None = None

    @property
    def client(self) -> MlflowClient:
        return _client(self.uri)


@dataclass(frozen=True)
class Begin:
    """A run to be found by its record's key, or begun. known_new: nobody can have begun it before. at: milliseconds."""

    name: str
    stage: str
    parent: str | None
    at: int
    known_new: bool


@dataclass(frozen=True)
class Record:
    """What is to be written to one run, in JSON's terms: values and times (milliseconds) as they were measured.

    run: its id; or key and begin. metrics: (name, value, time, step). end: (status, time).
    """

    run: str | None = None
    key: str = ""
    begin: Begin | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: Sequence[Sequence[Any]] = ()
    end: Sequence[Any] | None = None


@dataclass(frozen=True)
class LopoRun:
    """A complete LOPO result: about.json and predictions.parquet of one parent run."""

    run_id: str
    name: str
    about: dict[str, Any]
    predictions: Path


def connect(*, home: Path | None = None) -> Tracking:
    """MLFLOW_TRACKING_URI where set, else SQLite in mlruns/ of the working directory. Creates what is missing.

    Called once in a command's driver, before any fan-out: creating the schema from many processes is a race. What an
    earlier command could not send is sent first.
    """
    home = (home or Path("mlruns")).resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        (home / "artifacts").mkdir(parents=True, exist_ok=True)
        # absolute: a worker's working directory is Ray's
        uri, artifacts = f"sqlite:///{home / 'mlflow.db'}", (home / "artifacts").as_uri()
        with _full_disk(uri):
            _make_store(home / "mlflow.db", artifacts)
            experiment = _experiment(MlflowClient(uri), artifacts)
        _write_ahead(home / "mlflow.db")
        return Tracking(uri, experiment)
    if not uri.startswith(_SERVERS):
        return Tracking(uri, _experiment(MlflowClient(uri), None))
    waiting = Spool(home / "waiting" / hashlib.sha256(uri.encode()).hexdigest()[:12])
    # asked with no records in sight: what waits needs the experiment's id
    asking = Tracking(uri, "", Spool(waiting.folder / "none"))
    tracking = Tracking(uri, _ask(asking, lambda: _experiment(asking.client, None)), waiting)
    server = _server(tracking)
    flush(server)
    at_end[waiting.folder] = partial(settle, server)
    return tracking


@contextlib.contextmanager
def _full_disk(uri: str) -> Iterator[None]:
    """A full disk below SQLite, of which MLflow makes errors of its own, as an OSError."""
    try:
        yield
    except Exception as error:
        if "disk is full" not in str(error) and "disk I/O error" not in str(error):
            raise
        raise OSError(
            f"{uri.removeprefix('sqlite:///')} cannot be written, its disk is full or broken: make room, and type the "
            "same command again"
        ) from error


def _experiment(client: MlflowClient, artifacts: str | None) -> str:
    """The id of the study's experiment, made where it is missing."""
    there = client.get_experiment_by_name(EXPERIMENT)
    if there is not None:
        return there.experiment_id
    try:
        return client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException:  # another command was faster
        there = client.get_experiment_by_name(EXPERIMENT)
        if there is None:
            raise
        return there.experiment_id


def _make_store(file: Path, artifacts: str) -> None:
    """MLflow makes its tables in some fifty steps, and a kill among them leaves a file that no later command can open:
    so they are made under another name, and renamed."""
    if file.exists():
        for left in file.parent.glob(f".{file.name}.*"):  # by a command that was killed
            left.unlink(missing_ok=True)
        return
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        _experiment(MlflowClient(f"sqlite:///{new}"), artifacts)
        with contextlib.suppress(FileExistsError, FileNotFoundError):  # another command was faster
            os.link(new, file)
    finally:
        new.unlink(missing_ok=True)


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
    """The id of the run with this key: found again and set running, or started.

    Without a parent, it is the command's own run, and a server that does not answer is an error. With one, the run may
    be begun later, and what is returned then stands for it until it has its id.
    """
    begin = Begin(name, stage, parent, _now(), known_new=False)
    record = Record(key=key, begin=begin, params=_params(params or {}), tags=dict(tags or {}))
    # open already: who is interrupted between the run's beginning and its id finds it by its key
    _open[key], ends.at_end["tracking"] = (tracking, f"{_PENDING}{key}"), _end_open
    run_id = _ask(tracking, lambda: _put(tracking, record, [])) if parent is None else _write(tracking, record)
    _open[key] = (tracking, run_id)
    return run_id


def log_steps(tracking: Tracking, run_id: str, steps: Iterable[tuple[int, Mapping[str, float]]]) -> None:
    """Curves: (step, {metric: value}) pairs in one call. Values that are no numbers are left out."""
    _write(tracking, Record(run_id, metrics=_metrics(steps)))


def log_files(tracking: Tracking, run_id: str, files: Sequence[Path]) -> None:
    """Files as artifacts of a run, under their own names."""
    _write(tracking, Record(run_id), files)


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
    figures = _metrics([(0, metrics or {})])
    with ends.held():  # else a run may be complete and still open
        _write(tracking, Record(run_id, metrics=figures, tags=dict(tags or {}), end=(status, _now())))
        for key in [key for key, (_, known) in _open.items() if known == run_id]:
            del _open[key]


def _end_open(status: str) -> None:
    """Close every run that this process has begun and not ended, as the command ends before they do."""
    for key, (tracking, run_id) in list(_open.items()):
        with contextlib.suppress(Exception):  # such as: it was interrupted before the run began
            _write(tracking, Record(run_id, end=(status, _now())))
        del _open[key]


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
    begin = None if run_id else Begin(name, stage, parent, _now(), known_new=True)
    end = ("FINISHED", _now())
    with ends.held():
        return _write(tracking, Record(run_id, key, begin, _params(params), {}, _metrics(steps), end))


def finished(tracking: Tracking, *, stage: str) -> list[tuple[str, str, dict[str, str]]]:
    """(run id, name, tags) of the complete runs of a stage, newest first."""
    query = f"tags.`{STAGE}` = '{stage}' and tags.`{COMPLETE}` = 'yes'"
    newest = ["attributes.start_time DESC"]
    runs = _ask(
        tracking,
        lambda: tracking.client.search_runs([tracking.experiment], query, order_by=newest, max_results=1000),
    )
    return [(run.info.run_id, run.info.run_name or "", dict(run.data.tags)) for run in runs]


def children(tracking: Tracking, parent: str) -> dict[str, tuple[str, str]]:
    """Key of each child run of a parent: (run id, status)."""
    return _ask(tracking, lambda: _children(tracking, parent))


def _children(tracking: Tracking, parent: str) -> dict[str, tuple[str, str]]:
    query, token = f"tags.`{_PARENT}` = '{parent}'", None
    found: dict[str, tuple[str, str]] = {}
    while True:
        page = tracking.client.search_runs([tracking.experiment], query, max_results=1000, page_token=token)
        found |= {run.data.tags.get(KEY, ""): (run.info.run_id, run.info.status) for run in page}
        token = page.token
        if not token:
            return found


def read_json(tracking: Tracking, run_id: str, name: str) -> Any:
    """A JSON artifact of a run."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(_download(tracking, run_id, name, Path(folder)).read_text())


def finished_lopo(tracking: Tracking, *, folder: Path) -> list[LopoRun]:
    """Every complete LOPO result, newest first, its files copied under `folder`."""
    results = []
    for run_id, name, _ in finished(tracking, stage="lopo"):
        place = folder / run_id
        place.mkdir(parents=True, exist_ok=True)
        predictions = _download(tracking, run_id, "predictions.parquet", place)
        results.append(LopoRun(run_id, name, read_json(tracking, run_id, "about.json"), predictions))
    return results


def _download(tracking: Tracking, run_id: str, name: str, place: Path) -> Path:
    return Path(_ask(tracking, lambda: tracking.client.download_artifacts(run_id, name, str(place))))


def _write(tracking: Tracking, record: Record, files: Sequence[Path] = ()) -> str:
    """Write a record, or keep it where the server does not answer. Returns the run's id, or what stands for it."""

    def put() -> str:
        return _put(tracking, record, files)

    if tracking.spool is None:
        with _full_disk(tracking.uri):
            return put()
    return write(_server(tracking), put, asdict(record), files) or record.run or f"{_PENDING}{record.key}"


def _put(tracking: Tracking, record: Record, files: Sequence[Path], *, again: bool = False) -> str:
    """Write a record and return the run's id. Twice is as once: runs are found by key, params and tags are the same,
    and MLflow keeps one of two metrics with equal step, time and value. again: an earlier try may have got through.
    """
    client, params = tracking.client, record.params
    run_id = record.run or ""
    if record.begin is not None:
        begin = record.begin
        there = None if begin.known_new and not again else _find(tracking, record.key)
        if there is None:
            links = {_PARENT: begin.parent} if begin.parent else {}
            marks = {KEY: record.key, STAGE: begin.stage, _NAME: begin.name, **links}
            made = client.create_run(tracking.experiment, start_time=begin.at, tags=marks, run_name=begin.name)
            run_id = made.info.run_id
        else:
            run_id = there.info.run_id
            client.update_run(run_id, status="RUNNING", name=begin.name)
            params = {name: value for name, value in params.items() if name not in there.data.params}
    elif run_id.startswith(_PENDING):
        there = _find(tracking, run_id.removeprefix(_PENDING))
        if there is None:
            raise MlflowException(f"no run {run_id}", error_code=RESOURCE_DOES_NOT_EXIST)
        run_id = there.info.run_id
    metrics = [Metric(name, value, at, step) for name, value, at, step in record.metrics]
    told = [RunTag(name, value) for name, value in record.tags.items()]
    written = [Param(name, value) for name, value in params.items()]
    if metrics or told or written:
        client.log_batch(run_id, metrics=metrics[:_BATCH], params=written, tags=told)
        for start in range(_BATCH, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    for file in files:
        client.log_artifact(run_id, str(file))
    if record.end is not None:
        status, at = record.end
        client.set_terminated(run_id, status=status, end_time=at)
    return run_id


def _find(tracking: Tracking, key: str) -> Any:
    """The run with this key, or None."""
    found = tracking.client.search_runs([tracking.experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
    return found[0] if found else None


def _server(tracking: Tracking) -> Server:
    """The server as study.outage takes it. Its waiting records are those of this working directory."""
    assert tracking.spool is not None

    def deliver(record: dict[str, Any], files: Sequence[Path]) -> str:
        begin = record["begin"] and Begin(**record["begin"])
        return _put(tracking, Record(**{**record, "begin": begin}), files, again=True)

    return Server(tracking.uri, tracking.spool, deliver, _is_outage, _is_closed)


def _is_outage(error: Exception) -> bool:
    """Whether the server, its database, the network or the password failed, rather than the request."""
    if not isinstance(error, MlflowException):
        return isinstance(error, RequestException)
    status = error.get_http_status_code()
    # BAD_REQUEST is what MLflow makes of a database connection that broke in the middle; a wrong value is another code
    return status >= 500 or status in (401, 403, 408, 429) or error.error_code == "BAD_REQUEST"


def _is_closed(error: Exception) -> bool:
    return isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403)


def _ask(tracking: Tracking, question: Callable[[], Answer]) -> Answer:
    if tracking.spool is None:
        with _full_disk(tracking.uri):
            return question()
    return ask(_server(tracking), question)


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)


def _metrics(steps: Iterable[tuple[int, Mapping[str, float]]]) -> list[tuple[str, float, int, int]]:
    now = _now()
    return [(name, float(v), now, step) for step, values in steps for name, v in values.items() if v == v]


def _params(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value)[:500] for name, value in params.items()}
