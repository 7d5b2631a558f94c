"""MLflow's runs, found again by a key, so that a rerun never doubles one.

Only this module and the two it stands on, study.tracking.store and study.tracking.errors, import MLflow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from study.artifacts.about import About
from study.plain import printable
from study.process import ends
from study.tracking import store
from study.tracking.errors import Place, is_outage, translated, why_never
from study.tracking.outage import Server, ask, flush, settle, write
from study.tracking.spool import Spool, at_end

# after study.tracking.store, which tells MLflow how to behave
from mlflow import MlflowClient  # isort: skip
from mlflow.entities import Metric, Param, RunTag  # isort: skip
from mlflow.exceptions import MlflowException  # isort: skip
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST  # isort: skip
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # isort: skip

EXPERIMENT = store.EXPERIMENT
KEY, STAGE, COMPLETE = "study.key", "study.stage", "study.complete"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
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

    @property
    def place(self) -> Place:
        """Where it leads, for messages."""
        return store.place_of(self.uri)


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
    about: About
    predictions: Path


def connect(*, home: Path | None = None) -> Tracking:
    """MLFLOW_TRACKING_URI where set, else SQLite in mlruns/ of the working directory. Creates what is missing.

    Called once in a command's driver, before any fan-out: creating the schema from many processes is a race. What an
    earlier command could not send is sent first. Raises OSError or ValueError, in one line, for a place that cannot be
    used; its text holds no password.
    """
    home = (home or Path("mlruns")).resolve()
    uri = store.given()
    if not uri:
        with translated(store.place_of(f"sqlite:///{home / 'mlflow.db'}")):
            return Tracking(*store.open_local(home))
    if not store.is_server(uri):
        with translated(store.place_of(uri)):
            return Tracking(*store.open_given(uri))
    uri = store.server_uri(uri)
    waiting = Spool(home / "waiting" / hashlib.sha256(uri.encode()).hexdigest()[:12])
    # asked with no records in sight: what waits needs the experiment's id
    asking = Tracking(uri, "", Spool(waiting.folder / "none"))
    tracking = Tracking(uri, _ask(asking, lambda: store.experiment(asking.client, None, asking.place)), waiting)
    server = _server(tracking)
    flush(server)
    at_end[waiting.folder] = partial(settle, server)
    return tracking


def how_to_look() -> str:
    """The command that opens the page with all runs, as it is typed in this folder."""
    uri = store.given()
    if store.is_server(uri):
        return f"open {store.server_uri(uri)}"
    if uri:
        return 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"    # http://127.0.0.1:5000'
    return "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db    # http://127.0.0.1:5000"


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
    tags: Mapping[str, str] | None = None,
) -> str:
    """A run that is over, in three calls: made (or `run_id` taken, where it was begun before), filled, closed."""
    begin = None if run_id else Begin(name, stage, parent, _now(), known_new=True)
    end = ("FINISHED", _now())
    with ends.held():
        return _write(tracking, Record(run_id, key, begin, _params(params), dict(tags or {}), _metrics(steps), end))


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
        found |= {unquote(run.data.tags.get(KEY, "")): (run.info.run_id, run.info.status) for run in page}
        token = page.token
        if not token:
            return found


def read_json(tracking: Tracking, run_id: str, name: str) -> Any:
    """A JSON artifact of a run. Raises ValueError where it is none, OSError where it is not there."""
    with tempfile.TemporaryDirectory() as folder:
        file = _download(tracking, run_id, name, Path(folder))
        try:
            return json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"run {run_id}: {name} is not JSON ({printable(error)}): run its command again") from error


def finished_lopo(tracking: Tracking, *, folder: Path) -> list[LopoRun]:
    """Every complete LOPO result, newest first and each once, its files copied under `folder`.

    What cannot be read, or is there twice, is left out with a line on stderr.
    """
    results: list[LopoRun] = []
    keys: set[str] = set()
    for number, (run_id, name, tags) in enumerate(finished(tracking, stage="lopo")):
        key = unquote(tags.get(KEY, run_id))
        try:
            about = About.from_json(read_json(tracking, run_id, "about.json"), where="about.json")
            if about.key and f"lopo-{about.key}" != key:
                raise ValueError(f"about.json is of the result {about.key}, the run of {key.removeprefix('lopo-')}")
            if key in keys:
                raise ValueError("a newer run has the same result")
            place = folder / f"{number:05d}"
            place.mkdir(parents=True, exist_ok=True)
            predictions = _download(tracking, run_id, "predictions.parquet", place)
        except (ValueError, OSError) as error:
            left_out(run_id, name, error)
            continue
        keys.add(key)
        results.append(LopoRun(run_id, name, about, predictions))
    return results


def left_out(run_id: str, name: str, why: Exception) -> None:
    """Say in one line that a result is not used."""
    reason = printable(why).removeprefix(f"run {run_id}: ")
    print(f"Left out: {printable(name)} (run {run_id}): {reason}", file=sys.stderr)


def _download(tracking: Tracking, run_id: str, name: str, place: Path) -> Path:
    try:
        return Path(_ask(tracking, lambda: _artifacts(tracking, run_id).download_artifacts(name, str(place))))
    except OSError as error:
        raise type(error)(f"run {run_id}: {error}") from error


def _artifacts(tracking: Tracking, run_id: str) -> Any:
    """The run's files where MLflow has them now: its client goes on with where they were when it first asked."""
    run = tracking.client.get_run(run_id)
    return get_artifact_repository(run.info.artifact_uri, tracking_uri=tracking.uri)


def _write(tracking: Tracking, record: Record, files: Sequence[Path] = ()) -> str:
    """Write a record, or keep it where the server does not answer. Returns the run's id, or what stands for it."""

    def put() -> str:
        return _put(tracking, record, files)

    with translated(tracking.place):
        if tracking.spool is None:
            return put()
        return write(_server(tracking), put, asdict(record), files) or record.run or f"{_PENDING}{record.key}"


def _put(tracking: Tracking, record: Record, files: Sequence[Path], *, again: bool = False) -> str:
    """Write a record and return the run's id. Twice is as once: runs are found by key, params and tags are the same,
    and MLflow keeps one of two metrics with equal step, time and value. again: an earlier try may have got through.
    """
    client, params, tags = tracking.client, record.params, record.tags
    run_id = record.run or ""
    if record.begin is not None:
        begin = record.begin
        there = None if begin.known_new and not again else _find(tracking, record.key)
        links = {_PARENT: begin.parent} if begin.parent else {}
        if there is None:
            marks = {KEY: _quoted(record.key), STAGE: begin.stage, _NAME: begin.name, **links}
            made = client.create_run(tracking.experiment, start_time=begin.at, tags=marks, run_name=begin.name)
            run_id = made.info.run_id
        else:
            run_id = there.info.run_id
            client.update_run(run_id, status="RUNNING", name=begin.name)
            params = {name: value for name, value in params.items() if name not in there.data.params}
            if begin.parent != there.data.tags.get(_PARENT):  # its parent was deleted in MLflow's page
                tags = {**tags, **links}
    elif run_id.startswith(_PENDING):
        there = _find(tracking, run_id.removeprefix(_PENDING))
        if there is None:
            raise MlflowException(f"no run {run_id}", error_code=RESOURCE_DOES_NOT_EXIST)
        run_id = there.info.run_id
    metrics = [Metric(name, value, at, step) for name, value, at, step in record.metrics]
    told = [RunTag(name, value) for name, value in tags.items()]
    written = [Param(name, value) for name, value in params.items()]
    if metrics or told or written:
        client.log_batch(run_id, metrics=metrics[:_BATCH], params=written, tags=told)
        for start in range(_BATCH, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    if files:
        artifacts = _artifacts(tracking, run_id)
        for file in files:
            artifacts.log_artifact(str(file))
    if record.end is not None:
        status, at = record.end
        client.set_terminated(run_id, status=status, end_time=at)
    return run_id


def _find(tracking: Tracking, key: str) -> Any:
    """The run with this key, or None."""
    query = f"tags.`{KEY}` = '{_quoted(key)}'"
    found = tracking.client.search_runs([tracking.experiment], query, max_results=1)
    return found[0] if found else None


def _quoted(key: str) -> str:
    """A key as it stands in tags and queries: a sweep's name may hold quotation marks."""
    return quote(key, safe=" ()+,./:=@-_", errors="surrogateescape")


def _server(tracking: Tracking) -> Server:
    """The server as study.tracking.outage takes it. Its waiting records are those of this working directory."""
    assert tracking.spool is not None

    def deliver(record: dict[str, Any], files: Sequence[Path]) -> str:
        begin = record["begin"] and Begin(**record["begin"])
        return _put(tracking, Record(**{**record, "begin": begin}), files, again=True)

    never = partial(why_never, place=tracking.place)
    return Server(tracking.place.shown, tracking.spool, deliver, is_outage, never)


def _ask(tracking: Tracking, question: Callable[[], Answer]) -> Answer:
    with translated(tracking.place):
        return question() if tracking.spool is None else ask(_server(tracking), question)


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)


def _metrics(steps: Iterable[tuple[int, Mapping[str, float]]]) -> list[tuple[str, float, int, int]]:
    now = _now()
    return [(name, float(v), now, step) for step, values in steps for name, v in values.items() if v == v]


def _params(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: printable(value)[:500] for name, value in params.items()}
