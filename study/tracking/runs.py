"""MLflow's runs, found again by a key, so that a rerun never creates a second one.

Only study.tracking imports MLflow: where the runs are kept is in store, how one is written in records, a server that is
away in outage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from study.artifacts.about import About
from study.plain import printable, without_secrets
from study.process import ends
from study.tracking import store
from study.tracking.errors import translated
from study.tracking.outage import ask, flush, settle, write
from study.tracking.questions import experiments
from study.tracking.records import (
    COMPLETE,
    ENDED,
    KEY,
    NAME,
    NOTE,
    PARENT,
    PENDING,
    STAGE,
    Begin,
    Record,
    Tracking,
    artifacts,
    put,
    settled,
)
from study.tracking.source import source_tags
from study.tracking.spool import Spool, at_end

_open: dict[str, tuple[Tracking, str]] = {}
"""Runs that this process has started and not ended, by key: their place and their id."""


@dataclass(frozen=True)
class LopoRun:
    """A complete LOPO result: about.json and predictions.parquet of one parent run."""

    run_id: str
    name: str
    about: About
    predictions: Path


def connect(*, home: Path | None = None) -> Tracking:
    """A connection to MLFLOW_TRACKING_URI if that is set, else to SQLite in mlruns/ of the working directory.

    Creates the database and the experiment if they are missing. Call it once in a command's driver, before any Ray task
    starts: creating the schema from many processes is a race. Records that an earlier command could not send are sent
    first. Raises OSError or ValueError, in one line without passwords, for a place that cannot be used.
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
    # an empty spool: the records that wait need the experiment's id
    asking = Tracking(uri, "", Spool(waiting.folder / "none"))
    tracking = Tracking(uri, ask(asking, lambda: store.experiment(asking.client, None, asking.place)), waiting)
    flush(tracking, waiting)
    at_end[waiting.folder] = partial(settle, tracking, waiting)
    return tracking


def find_or_start(
    tracking: Tracking,
    *,
    key: str,
    name: str,
    stage: str,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
    datasets: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The id of the run with this key: found again and set to RUNNING, or started.

    A complete run that is found stays as it is, whatever the other functions here are given for it, until `reopen`.
    Without a parent it is the command's own run, and a server that does not answer is an error. A child run may be
    started later: then its key is returned, marked as such, and the other functions here take that like an id.
    """
    begin = Begin(name, stage, parent, _now(), known_new=False)
    marks = {**source_tags(stage), **(tags or {})}
    record = Record(key=key, begin=begin, params=_params(params or {}), tags=marks, datasets=datasets)
    # listed before it is started: a command that is interrupted before it has the id finds the run by its key
    _open[key], ends.at_end["tracking"] = (tracking, f"{PENDING}{key}"), _end_open
    run_id = ask(tracking, lambda: put(tracking, record)) if parent is None else write(tracking, record)
    _open[key] = (tracking, run_id)
    if run_id in settled:
        del _open[key]
    return run_id


def reopen(tracking: Tracking, run_id: str, *, key: str) -> None:
    """Go on with a complete run, since there is more to do: it is set to RUNNING, and takes what is logged."""
    if run_id in settled:
        settled.discard(run_id)
        _open[key] = (tracking, run_id)
        ask(tracking, lambda: tracking.client.update_run(run_id, status="RUNNING"))


def dataset(
    name: str, *, digest: str, source: Iterable[object], faces: int, people: int, context: str
) -> dict[str, Any]:
    """A dataset for find_or_start: its name, digest and size, the tables it was read from, and what it was used for."""
    places = without_secrets(", ".join(map(str, source)))
    told: dict[str, Any] = {"name": printable(name), "digest": digest, "source": places, "context": context}
    return {**told, "faces": faces, "people": people}


def log_steps(tracking: Tracking, run_id: str, steps: Iterable[tuple[int, Mapping[str, float]]]) -> None:
    """Log curves, given as (step, {metric: value}) pairs, in one call. NaN is left out."""
    write(tracking, Record(run_id, metrics=_metrics(steps)))


def log_files(tracking: Tracking, run_id: str, files: Sequence[Path]) -> None:
    """Log files as artifacts of a run, under their own names."""
    write(tracking, Record(run_id), files)


def log_json(tracking: Tracking, run_id: str, name: str, record: object) -> None:
    """Log a JSON artifact, for code to read back: MLflow returns params as strings."""
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
    name: str = "",
    note: str = "",
    seconds: float | None = None,
) -> None:
    """Log the last metrics and tags, and end the run (FINISHED, FAILED or KILLED).

    name: with what came out. note: its description, in Markdown. seconds: what its trainings took, which is then the
    run's duration on the page, however long it was interrupted.
    """
    last, marks = _metrics([(0, metrics or {})]), dict(tags or {})
    marks |= {NAME: printable(name)} if name else {}
    marks |= {NOTE: note} if note else {}
    lasted = None if seconds is None else int(1000 * seconds)
    with ends.held():  # else a run may be tagged complete and still be RUNNING
        write(tracking, Record(run_id, metrics=last, tags=marks, end=(status, _now()), lasted=lasted))
        for key in [key for key, (_, known) in _open.items() if known == run_id]:
            del _open[key]


def _end_open(status: str) -> None:
    """End every run that this process has started and not ended, since the command ends early."""
    for key, (tracking, run_id) in list(_open.items()):
        with contextlib.suppress(Exception):  # for example, it was interrupted before the run was started
            write(tracking, Record(run_id, end=(status, _now())))
        del _open[key]


def whole_run(
    run_id: str | None,
    *,
    key: str,
    name: str,
    stage: str,
    parent: str,
    params: Mapping[str, Any],
    steps: Sequence[tuple[int, Mapping[str, float]]],
    tags: Mapping[str, str] | None = None,
    seconds: float = 0.0,
) -> Record:
    """The record of a run that is already over, for study.tracking.writer. run_id: of a run started earlier, if any.

    seconds: how long it took, until now.
    """
    begin = None if run_id else Begin(name, stage, parent, _now() - int(1000 * seconds), known_new=True)
    end = ("FINISHED", _now())
    return Record(run_id, key, begin, _params(params), dict(tags or {}), _metrics(steps), end)


def finished(tracking: Tracking, *, stage: str) -> list[tuple[str, str, dict[str, str]]]:
    """(run id, name, tags) of every complete run of a stage, newest first."""
    query = f"tags.`{STAGE}` = '{stage}' and tags.`{COMPLETE}` = 'yes'"
    newest = ["attributes.start_time DESC"]
    runs = ask(
        tracking,
        lambda: tracking.client.search_runs(experiments(tracking), query, order_by=newest, max_results=1000),
    )
    return [(run.info.run_id, run.info.run_name or "", dict(run.data.tags)) for run in runs]


def children(tracking: Tracking, parent: str, *, complete: bool = False) -> dict[str, tuple[str, str]]:
    """(run id, status) of each child run of a parent, by key. complete: only of those with that tag that have ended; a
    kill may come between the two."""
    query = f"tags.`{PARENT}` = '{parent}'" + (f" and tags.`{COMPLETE}` = 'yes'" if complete else "")
    found = ask(tracking, lambda: _children(tracking, query))
    return {key: run for key, run in found.items() if not complete or run[1] in ENDED}


def _children(tracking: Tracking, query: str) -> dict[str, tuple[str, str]]:
    token = None
    found: dict[str, tuple[str, str]] = {}
    while True:
        page = tracking.client.search_runs([tracking.experiment], query, max_results=1000, page_token=token)
        found |= {unquote(run.data.tags.get(KEY, "")): (run.info.run_id, run.info.status) for run in page}
        token = page.token
        if not token:
            return found


def total(tracking: Tracking, run_id: str, name: str) -> float:
    """The sum of a metric over its steps; of a step that was logged twice, after a kill, the later value counts."""
    history = ask(tracking, lambda: tracking.client.get_metric_history(run_id, name))
    return sum({each.step: each.value for each in sorted(history, key=lambda each: each.timestamp)}.values())


def read_json(tracking: Tracking, run_id: str, name: str) -> Any:
    """A run's JSON artifact, parsed. Raises ValueError where it is not JSON, OSError where it is missing."""
    with tempfile.TemporaryDirectory() as folder:
        file = _download(tracking, run_id, name, Path(folder))
        try:
            return json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"run {run_id}: {name} is not JSON ({printable(error)}): run its command again") from error


def finished_lopo(tracking: Tracking, *, folder: Path) -> list[LopoRun]:
    """Every complete LOPO result, newest first and each once, with its files copied into `folder`.

    A result that cannot be read, or that a newer run has too, is left out with a line on stderr.
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
        return Path(ask(tracking, lambda: artifacts(tracking, run_id).download_artifacts(name, str(place))))
    except OSError as error:
        raise type(error)(f"run {run_id}: {error}") from error


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)


def _metrics(steps: Iterable[tuple[int, Mapping[str, float]]]) -> list[tuple[str, float, int, int]]:
    now = _now()
    return [(name, float(v), now, step) for step, values in steps for name, v in values.items() if v == v]


def _params(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: printable(value)[:500] for name, value in params.items()}
