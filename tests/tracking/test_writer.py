"""MLflow's runs may be written behind a command: each once, in order, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import filelock
import psutil
import pytest

from study.tracking import runs as tracking
from study.tracking import writer
from study.tracking.records import Record
from study.tracking.writer import MANY, behind, wait_for_earlier


@pytest.fixture
def store(tmp_path) -> tracking.Tracking:
    return tracking.connect(home=tmp_path / "mlruns")


def fold(number: int, parent: str) -> Record:
    """The record of one finished run."""
    return tracking.whole_run(
        None, key=f"fold-{number}", name=f"fold {number}", stage="fold", parent=parent,
        params={"person": f"é {number}"}, steps=[(1, {"loss": 2.0}), (2, {"loss": 1.0}), (0, {"mae": float(number)})],
        tags={"study.state": "complete"}, seconds=2.0,
    )  # fmt: skip


def test_many_runs_are_written_by_another_process_as_this_one_would(store, tmp_path):
    parent = tracking.find_or_start(store, key="lopo", name="lopo", stage="lopo")
    with behind(store, tmp_path / "lock", runs=MANY) as write:
        for number in range(3):
            write(fold(number, parent))
        assert psutil.Process().children(), "a process of its own"
    for number in range(3, 5):
        with behind(store, tmp_path / "lock", runs=1) as write:
            write(fold(number, parent))
    assert tracking.children(store, parent).keys() == {f"fold-{number}" for number in range(5)}
    for number in range(5):
        run_id, status = tracking.children(store, parent)[f"fold-{number}"]
        run = store.client.get_run(run_id)
        assert status == "FINISHED"
        assert run.data.params == {"person": f"é {number}"}
        assert run.data.metrics == {"loss": 1.0, "mae": float(number)}
        assert run.data.tags["study.state"] == "complete"
        assert run.info.end_time - run.info.start_time == pytest.approx(2000, abs=100)
        assert [each.value for each in store.client.get_metric_history(run_id, "loss")] == [2.0, 1.0]


def test_what_cannot_be_written_is_one_line(store, tmp_path):
    gone = tracking.whole_run(
        "0" * 32, key="k", name="n", stage="fold", parent="p", params={}, steps=[(0, {"mae": 1.0})]
    )
    with (
        pytest.raises(OSError, match="0{32} .*deleted in MLflow"),
        behind(store, tmp_path / "lock", runs=MANY) as write,
    ):
        write(gone)


def test_a_writer_that_was_killed_is_one_line(store, tmp_path):
    def kill() -> None:
        with behind(store, tmp_path / "lock", runs=MANY):
            (child,) = [each for each in psutil.Process().children() if "study.tracking.writer" in each.cmdline()]
            child.kill()

    with pytest.raises(OSError, match="type the same command again"):
        kill()


COMMAND = """
    import os, signal, sys, time
    from pathlib import Path
    from study.tracking import runs as tracking
    from study.tracking.writer import behind, wait_for_earlier
    sys.path.insert(0, {tests!r})
    from test_writer import fold
    place, die = Path({place!r}), {die}
    store = tracking.connect(home=place / "mlruns")
    wait_for_earlier(place / "lock")
    parent = tracking.find_or_start(store, key="lopo", name="lopo", stage="lopo")
    there = tracking.children(store, parent)
    with behind(store, place / "lock", runs=100) as write:
        for number in range({runs}):
            run_id, status = there.get(f"fold-{{number}}", (None, ""))
            if status != "FINISHED":
                record = fold(number, parent)
                write(record if run_id is None else tracking.whole_run(
                    run_id, key=record.key, name="again", stage="fold", parent=parent, params=record.params, steps=[]))
            if number == die:
                # killed while its writer has some of the records, but not all
                while len(tracking.children(store, parent)) < 3:
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_the_same_command_leaves_each_run_there_once(store, tmp_path):
    told = {"tests": str(Path(__file__).parent), "place": str(tmp_path), "runs": 30}
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(die: int) -> int:
        code = textwrap.dedent(COMMAND.format(**told, die=die))
        return subprocess.run([sys.executable, "-c", code], env=paths, check=False).returncode

    assert run(die=29) == -signal.SIGKILL
    assert run(die=-1) == 0  # at once: the first one's writer may still be at work
    parent = tracking.find_or_start(store, key="lopo", name="lopo", stage="lopo")
    runs = store.client.search_runs([store.experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1000)
    assert sorted(run.data.tags["study.key"] for run in runs) == sorted(f"fold-{number}" for number in range(30))
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_rerun_waits_for_a_writer_and_names_the_lock_of_one_that_hangs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writer, "PATIENCE", 0.1)
    with filelock.FileLock(tmp_path / "lock"), pytest.raises(OSError, match=f"holds {tmp_path}/lock"):
        wait_for_earlier(tmp_path / "lock")
    assert "Waiting for the MLflow runs of the command before" in capsys.readouterr().err
    wait_for_earlier(tmp_path / "lock")


@pytest.mark.parametrize("sent", ["", '{"uri": "sq', '{place}\n{"run": "ab'])
def test_half_a_line_of_a_killed_command_is_no_record(store, tmp_path, sent):
    place = json.dumps({"uri": store.uri, "experiment": store.experiment, "spool": ""})
    done = subprocess.run(
        [sys.executable, "-m", "study.tracking.writer", str(tmp_path / "lock")], input=sent.replace("{place}", place),
        text=True, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ready\n")


def test_no_argument_of_the_writer_holds_a_password(store, tmp_path):
    secret = replace(store, uri=store.uri.replace("sqlite:///", "sqlite:////secret/.."))
    with behind(secret, tmp_path / "lock", runs=MANY):
        (child,) = [each for each in psutil.Process().children() if "study.tracking.writer" in each.cmdline()]
        assert not any("secret" in word for word in child.cmdline())
