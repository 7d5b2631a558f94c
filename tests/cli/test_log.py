"""The log of a stage holds what the terminal shows, as plain lines."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from study.cli import log
from study.cli import progress as module
from study.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logs(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted(folder.glob("runs/logs/*"))]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "CALM", 0.0)
    return tmp_path


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_it_is_the_same_on_a_terminal_and_in_a_pipe(place, monkeypatch, stream):
    monkeypatch.setenv("TERM", "xterm")
    out, error = stream(), stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    with log.kept("python -m study.lopo", ["--best"]):
        print("82 folds of EfficientNet-B0")
        with progress("folds", total=2) as bar:
            bar.update()
            print("001: 3.12 years")
            bar.update()
        print("a warning", file=sys.stderr)
    (text,) = logs(place)
    first, *lines = text.splitlines()
    assert first.endswith(" $ python -m study.lopo --best")
    assert lines == [
        "82 folds of EfficientNet-B0",
        "folds: 1 of 2, 0 s, about 0 s left",
        "001: 3.12 years",
        "folds: 2 of 2, 0 s",
        "folds: 2 of 2, 0 s",
        "a warning",
    ]
    assert "001: 3.12 years" in out.getvalue() + error.getvalue()
    assert ("\x1b[" in error.getvalue()) == isinstance(error, Terminal)
    assert (sys.stdout, sys.stderr) == (out, error)


def test_the_first_line_can_be_typed_again_and_has_no_password(place, capsys):
    with log.kept("python -m study.lopo", ["--name", "two words", "--faces", "s3://me:secret@host/faces"]):
        print("begins")
    (text,) = logs(place)
    assert " $ python -m study.lopo --name 'two words' --faces " in text
    assert "secret" not in text


def test_the_traceback_is_in_it(place):
    def fail() -> None:
        print("begins")
        raise RuntimeError("at fold 3")

    with pytest.raises(RuntimeError), log.kept("python -m study.sweep", []):
        fail()
    (text,) = logs(place)
    assert "begins\nTraceback" in text
    assert text.endswith("RuntimeError: at fold 3\n")


def test_what_is_refused_before_any_work_leaves_none(place, capsys):
    with log.kept("python -m study.sweep", ["--faces", "nowhere"]):
        print("error: nowhere does not exist", file=sys.stderr)
    assert logs(place) == []
    assert "nowhere" in capsys.readouterr().err


def test_a_disk_that_takes_no_log_does_not_stop_the_command(place, capsys):
    (place / "runs").write_text("a file where the folder would be")
    with log.kept("python -m study.align", []):
        print("aligned")
    assert capsys.readouterr().out == "aligned\n"


def test_a_command_without_long_work_has_none(place, capsys):
    with log.kept("python -m study.ui", []):
        print("http://127.0.0.1:5000")
    assert logs(place) == []
    assert capsys.readouterr().out == "http://127.0.0.1:5000\n"
