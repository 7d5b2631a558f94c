"""MLflow with PostgreSQL, as on a cluster's head: many writers, a LOPO while both are killed, log-in; and no server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from study.artifacts.predictions import read_predictions
from study.cli.run import main
from study.pretrain import command as pretrain
from study.pretrain.plan import Plan, make_job
from study.starts import read_start
from study.tracking import outage, spool
from study.tracking import runs as tracking
from study.tracking.questions import experiments
from tests.chaos.servers import Mlflow, Postgres, postgres_programs, servers
from tests.tracking.tracking_server import held, knock, write_together
from tests.tracking.tracking_writers import STEPS
from trainables.config import TrialConfig
from trainables.faces.index import index_faces
from trainables.metrics import mae

needs_postgres = pytest.mark.skipif(
    postgres_programs() is None, reason="PostgreSQL is not installed (Debian's package postgresql): no initdb found"
)
PEOPLE = 6


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Postgres, Mlflow]]:
    with servers(workers=1) as both:
        yield both


@pytest.fixture
def nobody(tmp_path, monkeypatch) -> tracking.Tracking:
    """A store whose server does not answer."""
    monkeypatch.setattr(outage, "PATIENCE", 0.5)
    monkeypatch.setattr(outage, "_troubles", {})
    monkeypatch.setattr(spool, "at_end", {})
    return tracking.Tracking("http://127.0.0.1:9", "1", spool.Spool(tmp_path / "waiting"))


def test_without_a_server_records_wait_in_order_with_their_files(nobody, tmp_path, capsys):
    run = tracking.find_or_start(nobody, key="trial-1", name="trial 1", stage="trial", parent="abc", params={"px": 64})
    tracking.log_json(nobody, run, "trial.json", {"px": 64})
    tracking.finish(nobody, run, metrics={"mae": 4.5, "nothing": float("nan")})
    assert capsys.readouterr().err.count("does not answer") == 1
    assert nobody.spool is not None
    sent: list[tuple[dict, list[str]]] = []

    def deliver(record: dict, files: list[Path]) -> bool:
        sent.append((record, [file.read_text() for file in files]))
        return len(sent) != 2  # the second is refused

    assert nobody.spool.send(deliver) == 3
    (begun, _), (_, [text]), (ended, _) = sent
    assert begun["key"] == "trial-1"
    assert begun["params"] == {"px": "64"}
    assert json.loads(text) == {"px": 64}
    assert [metric[:2] for metric in ended["metrics"]] == [["mae", 4.5]]
    assert ended["end"][0] == "FINISHED"
    assert nobody.spool.waiting() == []
    assert len(list((tmp_path / "waiting" / "refused").iterdir())) == 1


def test_records_of_two_commands_keep_their_order_whatever_the_clock_says(nobody, monkeypatch):
    earlier = nobody.spool.folder / "01795000000000000000-00000042-00000007"  # as an earlier version named it
    earlier.mkdir(parents=True)
    (earlier / "record.json").write_text('{"run": "0", "files": []}')
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)  # the clock is set back
    for number in range(1, 12):
        nobody.spool.add({"run": str(number)})
    sent: list[str] = []
    nobody.spool.send(lambda record, files: not sent.append(record["run"]))
    assert sent == [str(number) for number in range(12)]


def test_what_is_not_delivered_goes_on_waiting(nobody):
    for number in range(3):
        tracking.log_steps(nobody, "run", [(number, {"mae": 1.0})])
    before = nobody.spool.waiting()

    def deliver(record: dict, files: list[Path]) -> bool:
        if record["metrics"][0][3] == 1:
            raise ConnectionError
        return True

    with pytest.raises(ConnectionError):
        nobody.spool.send(deliver)
    assert nobody.spool.waiting() == before[1:]


def test_a_pretraining_with_nothing_left_to_do_connects_and_so_sends_what_waits(
    nobody, make_table, tmp_path, monkeypatch
):
    connected = []

    def connect() -> tracking.Tracking:
        connected.append(nobody)
        return nobody

    monkeypatch.setattr(tracking, "connect", connect)
    monkeypatch.setattr(pretrain, "is_there", lambda *_: True)
    index = index_faces([str(make_table(tmp_path / "people"))])
    config = TrialConfig(backbone="resnet18", px=32)
    job = make_job(config, read_start("resnet18", "random"), index, 4096, pretrain.Pretrain(), tmp_path)
    assert pretrain.pretrain_all(Plan(pretrain.Pretrain(), index, 4096, tmp_path, [job])) == []
    assert connected == [nobody]


def test_a_command_says_what_waits_and_how_it_is_sent(nobody, monkeypatch, capsys):
    @dataclass(frozen=True)
    class Nothing:
        pass

    def command(options: Nothing) -> int:
        spool.at_end[nobody.spool.folder] = partial(outage.settle, nobody, nobody.spool)
        tracking.log_steps(nobody, "run", [(0, {"mae": 1.0})])
        return 0

    assert main(command, Nothing, prog="p", args=[]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("p: 1 records wait for the MLflow server at http://127.0.0.1:9")
    assert last.endswith("to send them, type the same command again")


def test_a_command_does_not_start_without_its_server(nobody, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody.uri)
    with pytest.raises(ConnectionError, match="has not answered"):
        tracking.connect(home=tmp_path)


@needs_postgres
def test_nobody_comes_in_without_the_password_or_by_another_name(running, monkeypatch, tmp_path):
    _, mlflow = running
    assert knock(mlflow) == 401
    assert knock(mlflow, host="elsewhere.example") == 403
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
    monkeypatch.setenv("HOME", str(tmp_path))  # no credentials file there
    with pytest.raises(PermissionError, match="MLFLOW_TRACKING_PASSWORD"):
        tracking.connect(home=tmp_path)


@needs_postgres
def test_64_writers_at_once_lose_and_double_nothing(running, tmp_path, monkeypatch):
    postgres, mlflow = running
    # on a busy machine 64 requests wait long for the one server, which is not away for that
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "200")
    status = write_together(mlflow, tmp_path, writers=64, runs=2).wait(timeout=600)
    assert status == 0, (tmp_path / "log").read_text()
    there = held(postgres, prefix="w")
    expected = {f"w{writer}-{number}" for writer in range(64) for number in range(2)} | {"writers"}
    assert set(there.keys) == expected
    assert there.keys.total() == there.finished == len(expected)
    assert there.metrics == 128 * (2 * STEPS + 1)


@needs_postgres
def test_lopo_goes_on_while_server_and_database_are_killed(running, tmp_path, make_table, monkeypatch):
    """Each is away for a time while folds are trained; in the end MLflow has the same as after an undisturbed run."""
    postgres, mlflow = running
    make_table(tmp_path / "people", people=PEOPLE, photos=4)
    options = ["--faces", "people", "--backbone", "resnet18", "--px", "32", "--batch", "8", "--epochs", "1"]
    environment = {
        **os.environ, **mlflow.key(), "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"
    }  # fmt: skip

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "study.lopo", *options]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    def folds() -> list[Path]:
        return sorted(tmp_path.glob("runs/lopo/*/folds/*.parquet"))

    process = start()
    wait_for(lambda: len(folds()) >= 1 or process.poll() is not None)
    mlflow.kill()
    wait_for(lambda: len(folds()) >= 3 or process.poll() is not None)
    assert len(folds()) >= 3, process.communicate()[1]  # it went on without its server
    waiting = list(tmp_path.glob("mlruns/waiting/*/[0-9]*"))
    assert len(waiting) >= 2
    postgres.kill()
    postgres.start()
    mlflow.start(workers=1)
    stderr = process.communicate(timeout=300)[1]
    if process.returncode != 0:  # a busy machine brought them back too late
        assert "records wait" in stderr or "has not answered" in stderr, stderr
        again = start()
        stderr = again.communicate(timeout=300)[1]
        assert again.returncode == 0, stderr
    assert list(tmp_path.glob("mlruns/waiting/*/[0-9]*")) == []
    there = held(postgres, prefix="fold-")
    assert sorted(there.keys.values()) == [1] * PEOPLE
    assert there.finished == PEOPLE
    for name, value in mlflow.key().items():
        monkeypatch.setenv(name, value)
    store = tracking.connect(home=tmp_path / "here")
    (result,) = tracking.finished_lopo(store, folder=tmp_path / "copies")
    found = store.client.search_runs(experiments(store), f"tags.`mlflow.parentRunId` = '{result.run_id}'")
    measured = {run.data.params["person"]: run.data.metrics["mae"] for run in found}
    parts = [read_predictions(file)[0] for file in folds()]
    assert measured == {str(part.person[0]): pytest.approx(mae(part.predicted, part.age)) for part in parts}
    assert len(read_predictions(result.predictions)[0]) == PEOPLE * 4


def wait_for(done: Callable[[], bool], *, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        time.sleep(0.1)
