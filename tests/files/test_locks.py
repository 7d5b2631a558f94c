"""One command per folder: the second ends with one line that names the first; a killed one leaves no lock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from study.cli.run import message
from study.crosstest import command as crosstest
from study.files import locks
from study.files.locks import hold
from study.lopo import command as lopo
from study.pretrain import command as pretrain
from study.sweep import command as sweep
from study.tracking import runs as tracking
from trainables.checkpoints import Checkpoint, save_checkpoint
from trainables.config import TrialConfig
from trainables.fitting import build_net

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from study.files.locks import hold
with hold(Path(sys.argv[1]), "net"):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(locks, "GRACE", 0.0)


def test_a_second_process_is_told_who_holds_the_folder_until_that_one_is_killed(tmp_path, monkeypatch):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, str(tmp_path), "s3://key:secret@bucket"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with (
            pytest.raises(ValueError, match=f"net is in use by process {process.pid} on ") as error,
            hold(tmp_path, "net"),
        ):
            pass
        line = message(error.value)
        assert line
        assert "since 2" in line
        assert "secret" not in line
        with hold(tmp_path, "another"):
            pass
        process.kill()
        process.wait()
        os.kill(child, 0)  # its child process lives on, as Ray's do for a while
        with hold(tmp_path, "net"):
            pass
    finally:
        process.kill()
        os.kill(child, 9)


def test_a_lock_ends_with_its_block_and_is_not_in_the_folder(tmp_path):
    with pytest.raises(KeyError), hold(tmp_path, "net"):
        raise KeyError
    with hold(tmp_path, "net"):
        assert not (tmp_path / "net").exists()
        with pytest.raises(ValueError, match=f"process {os.getpid()}"), hold(tmp_path, "net"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [".net.lock"]


@contextmanager
def taken(out: Path, name: str = "") -> Iterator[None]:
    """Replaces hold: another command has the folder already."""
    with hold(out, name), hold(out, name):
        yield


def run_crosstest(place: Path) -> None:
    config = TrialConfig(backbone="resnet18", px=32)
    save_checkpoint(place / "net", Checkpoint(build_net(config).state_dict(), config))
    crosstest.crosstest(crosstest.CrossTest(place / "net", (place / "people",), out=place / "out"))


COMMANDS: dict[str, Callable[[Path], object]] = {
    "pretrain": lambda place: pretrain.pretrain(
        pretrain.Pretrain(backbone=("resnet18",), faces=(str(place / "people"),), out=place / "out", dev_share=0.5)
    ),
    "sweep": lambda place: sweep.sweep(sweep.Sweep(faces=(place / "people",), out=place / "out")),
    "lopo": lambda place: lopo.lopo(lopo.Lopo(faces=(place / "people",), backbone="resnet18", out=place / "out")),
    "crosstest": run_crosstest,
}
MODULES = {"pretrain": pretrain, "sweep": sweep, "lopo": lopo, "crosstest": crosstest}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_touches_nothing_in_a_folder_that_another_one_holds(name, tmp_path, monkeypatch, make_table):
    make_table(tmp_path / "people", people=12, photos=2)
    monkeypatch.setattr(MODULES[name], "hold", taken)
    monkeypatch.setattr(tracking, "connect", lambda: None)
    monkeypatch.setattr("study.cluster.start.start_ray", lambda **_: None)
    monkeypatch.setattr(lopo, "gpu_share", lambda _: 0.0)
    monkeypatch.setattr(lopo, "check_room", lambda *_, **__: 1)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="is in use by process"):
        COMMANDS[name](tmp_path)
    assert all(path.name.startswith(".") for path in (tmp_path / "out").iterdir())
