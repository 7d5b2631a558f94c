"""A full disk is one clear error and leaves nothing half-written. Tested with a limit on the size of files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from study.cli.run import message
from study.files.storage import open_folder, write_whole
from study.pictures import save_picture
from study.pretrain.ray_train import _as_failure, _drop_leftovers
from study.pretrain.verdict import Curve
from study.tracking import runs as tracking
from study.tracking.outage import write as send
from study.tracking.spool import Spool
from trainables.checkpoints import Checkpoint, CheckpointRecord, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig
from trainables.fitting import Epoch


@contextmanager
def room(most: int) -> Iterator[None]:
    """Limit the size of files that this process writes, in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def checkpoint(value: float) -> Checkpoint:
    return Checkpoint({"weight": torch.full((4096,), value)}, TrialConfig(), CheckpointRecord("nothing"))


WRITERS: dict[str, Callable[[Path, float], None]] = {
    "a file": lambda place, value: write_whole(place / "file", str(value).encode() * 4096),
    "a table's file": lambda place, value: open_folder(place).write("file", str(value).encode() * 4096),
    "a picture": lambda place, value: save_picture(Figure(figsize=(9 + value, 9)), place / "picture.png"),
    "a checkpoint": lambda place, value: save_checkpoint(place / "checkpoint", checkpoint(value)),
    "a waiting record": lambda place, value: Spool(place).add({"values": [value] * 4096}),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_was_there_stays_and_no_half_is_left(write, tmp_path):
    write(tmp_path, 1.0)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(OSError, match="too large") as error, room(1000):
        write(tmp_path, 2.0)
    assert message(error.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    write(tmp_path, 2.0)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} != before


def test_a_checkpoint_is_the_old_one_still(tmp_path):
    save_checkpoint(tmp_path / "net", checkpoint(1.0))
    with pytest.raises(OSError, match="cannot be written"), room(1000):
        save_checkpoint(tmp_path / "net", checkpoint(2.0))
    assert load_checkpoint(tmp_path / "net").state["weight"].unique().tolist() == [1.0]


def test_sqlite_without_room_is_a_line_and_goes_on_when_there_is_some(tmp_path):
    store = tracking.connect(home=tmp_path)
    whole = {"name": "fold", "stage": "fold", "parent": "parent", "params": {"px": 64}, "steps": [(0, {"mae": 1.0})]}
    send(store, tracking.whole_run(None, key="before", **whole))
    with pytest.raises(OSError, match="make room") as error, room(8192):
        send(store, tracking.whole_run(None, key="full", **whole))
    assert message(error.value)
    with pytest.raises(OSError, match="make room"), room(8192):
        tracking.connect(home=tmp_path / "new")
    send(store, tracking.whole_run(None, key="after", **whole))
    finished = {key for key, (_, status) in tracking.children(store, "parent").items() if status == "FINISHED"}
    assert finished == {"before", "after"}


def test_a_kill_while_mlflow_makes_its_tables_leaves_no_half_store(tmp_path):
    code = "from study.tracking import runs; runs.connect()"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    while process.poll() is None and not list((tmp_path / "mlruns").glob(".mlflow.db*")):
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.wait()
    assert not (tmp_path / "mlruns" / "mlflow.db").exists(), "it was killed among the tables"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert {file.name for file in (tmp_path / "mlruns").iterdir()} == {"artifacts", "mlflow.db"}


def test_a_pretraining_worker_on_a_full_disk_is_one_line_and_a_bug_keeps_its_traceback():
    def failure(raised: Exception) -> Exception:
        wrapped = UserExceptionWithTraceback(raised, f"Traceback ...\n  File ...\n{type(raised).__name__}: {raised}")
        return _as_failure(WorkerGroupError("Training failed", {1: wrapped}))

    full = failure(OSError(28, "No space left on device"))
    assert message(full) == "worker 1 failed: OSError: [Errno 28] No space left on device"
    bug = failure(KeyError("weight"))
    assert message(bug) is None
    assert "worker 1 failed: KeyError: 'weight'" in str(bug)


def test_epochs_that_a_full_disk_did_not_take_are_logged_with_the_next(tmp_path, monkeypatch, capsys):
    logged: list[list[int]] = []

    def full(store: object, run_id: str, steps: list[tuple[int, object]]) -> None:
        if len(steps) < 3:
            raise OSError("mlflow.db cannot be written")
        logged.append([step for step, _ in steps])

    monkeypatch.setattr(tracking, "log_steps", full)
    curve = Curve(TrialConfig(backbone="resnet18", epochs=3), store=tracking.connect(home=tmp_path), run_id="a")
    for epoch in (1, 2, 3):
        curve.add(Epoch(epoch, 1.0, 5.0, 0.001, 10.0, 100.0, 0.0))
    curve.log()
    assert logged == [[1, 2, 3]]
    assert capsys.readouterr().err.count("not logged: mlflow.db cannot be written") == 2


def test_snapshots_that_ray_train_does_not_list_are_taken_away(tmp_path):
    for name in ("checkpoint_1", "checkpoint_2", "checkpoint_3", "other"):
        (tmp_path / "key" / name).mkdir(parents=True)
        (tmp_path / "key" / name / "snapshot.pt").write_bytes(b"weights")
    listing = tmp_path / "key" / "checkpoint_manager_snapshot.json"
    listing.write_text('{"checkpoint_results":[{"checkpoint_dir_name":"checkpoint_2"}]}')
    _drop_leftovers(str(tmp_path), "key")
    _drop_leftovers(str(tmp_path), "a training that has not begun")
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["checkpoint_2", listing.name, "other"]
