"""Loads a real tracking server, MLflow with PostgreSQL as on a cluster's head, with many writers, and kills it.

    python -m tests.tracking.tracking_server

Prints a row per scenario: how many runs were written, how many PostgreSQL has in the end, lost and doubled; and which
status a client gets without a password or with another Host header.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import tyro

from tests.chaos.servers import ROOT, Mlflow, Postgres, servers
from tests.tracking.tracking_writers import STEPS


@dataclass(frozen=True)
class Options:
    """How much is written."""

    writers: int = 64
    runs: int = 6
    away: float = 8.0
    """Seconds until a killed server or database is started again."""


@dataclass(frozen=True)
class Held:
    """The database's content: number of runs by key, of FINISHED runs, of metric values."""

    keys: Counter[str]
    finished: int
    metrics: int


def held(postgres: Postgres, *, prefix: str) -> Held:
    """The runs whose key begins so, read from PostgreSQL itself, not through MLflow."""
    with psycopg2.connect(host=str(postgres.folder), user="study", dbname="postgres") as database:
        cursor = database.cursor()
        cursor.execute(
            "SELECT tags.value, runs.status, (SELECT count(*) FROM metrics WHERE metrics.run_uuid = runs.run_uuid) "
            "FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'study.key' WHERE tags.value LIKE %s",
            (f"{prefix}%",),
        )
        rows = cursor.fetchall()
    return Held(
        Counter(key for key, _, _ in rows), sum(row[1] == "FINISHED" for row in rows), sum(row[2] for row in rows)
    )


def forget(postgres: Postgres) -> None:
    """Rename all keys, so that the next scenario starts from an empty server."""
    with psycopg2.connect(host=str(postgres.folder), user="study", dbname="postgres") as database:
        database.cursor().execute("UPDATE tags SET value = 'old-' || value WHERE key = 'study.key'")


def write_together(mlflow: Mlflow, homes: Path, *, writers: int, runs: int) -> subprocess.Popen:
    """Start the writers' process; its output goes to homes/log."""
    words = ["--homes", str(homes), "--writers", str(writers), "--runs", str(runs)]
    environment = {**os.environ, **mlflow.key(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.tracking.tracking_writers", *words]
    with (homes / "log").open("w") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def knock(mlflow: Mlflow, *, host: str | None = None) -> int:
    """The HTTP status that a client without a password gets; host: its Host header."""
    body = b'{"experiment_ids": ["0"], "max_results": 1}'
    request = urllib.request.Request(
        f"{mlflow.uri}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
    )
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def scenario(
    name: str, options: Options, postgres: Postgres, mlflow: Mlflow, trouble: Callable[[], None] | None
) -> bool:
    """Run the writers, cause trouble when a tenth of the runs is there, print a row; returns whether all is right."""
    forget(postgres)
    wanted = options.writers * options.runs
    with tempfile.TemporaryDirectory() as homes:
        began = time.monotonic()
        process = write_together(mlflow, Path(homes), writers=options.writers, runs=options.runs)
        while process.poll() is None and held(postgres, prefix="w").keys.total() < wanted / 10:
            time.sleep(0.5)
        if trouble and process.poll() is None:
            trouble()
        status = process.wait()
        took = time.monotonic() - began
        if status:
            print((Path(homes) / "log").read_text()[-2000:])
    there = held(postgres, prefix="w")
    runs = Counter({key: number for key, number in there.keys.items() if key != "writers"})
    lost, doubled = wanted - len(runs), runs.total() - len(runs)
    values = wanted * (2 * STEPS + 1)
    print(
        f"{name:34} {wanted:6} {runs.total():6} {lost:5} {doubled:8} {values:8} {there.metrics:8} {took:7.1f} "
        f"{status:6}",
        flush=True,
    )
    return lost == doubled == status == 0 and there.metrics == values


def main(options: Options) -> int:
    """Run all scenarios; status 1 where runs were lost or doubled, or a client without the password was served."""
    with servers() as (postgres, mlflow):

        def mlflow_away() -> None:
            mlflow.kill()
            time.sleep(options.away)
            mlflow.start()

        def postgres_away() -> None:
            postgres.kill()
            time.sleep(options.away)
            postgres.start()

        print(
            f"{options.writers} writers at once, {options.runs} runs each; a killed server is away {options.away:g} s"
        )
        print(f"{'':34} {'runs':>6} {'held':>6} {'lost':>5} {'doubled':>8} {'values':>8} {'held':>8} {'s':>7} status")
        right = [
            scenario("nothing happens", options, postgres, mlflow, None),
            scenario("MLflow killed, started again", options, postgres, mlflow, mlflow_away),
            scenario("PostgreSQL killed, started again", options, postgres, mlflow, postgres_away),
        ]
        without, foreign = knock(mlflow), knock(mlflow, host="elsewhere.example")
        print(f"without a password: {without}; with a foreign Host header: {foreign}")
    return int(not all(right) or without != 401 or foreign != 403)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
