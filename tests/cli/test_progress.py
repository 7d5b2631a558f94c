"""Progress in a pipe is plain lines, now and then; on a terminal it is a bar."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

from study.cli import progress as module
from study.cli.progress import progress
from study.plain import clock
from study.pretrain.shown import Shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_it_is_lines_without_control_codes(capsys, monkeypatch):
    monkeypatch.setattr(module, "CALM", 0.0)
    with progress("folds", total=1200, done=1198, unit="") as bar:
        bar.update()
        bar.note("MAE 4.10")
        bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("folds: 1,199 of 1,200, 0 s, about 0 s left")
    assert lines[1].endswith("left, MAE 4.10")
    assert lines[-1] == "folds: 1,200 of 1,200, 0 s, MAE 4.10"
    assert all(line.isprintable() for line in lines)


def test_a_short_stage_is_one_line_in_a_pipe_also_where_it_fails(capsys):
    try:
        with progress("aligning", total=9, unit="photos") as bar:
            bar.update(4)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert capsys.readouterr().err == "aligning: 4 of 9 photos, 0 s, about 0 s left\n"


def test_where_the_rate_says_nothing_no_time_is_promised(capsys, monkeypatch):
    monkeypatch.setattr(module, "CALM", 0.0)
    with progress("folds", total=3, timed=False) as bar:
        bar.update()
    assert "left" not in capsys.readouterr().err


def test_on_a_terminal_it_is_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("folds", total=3) as bar:
        bar.update(3)
        bar.note("MAE 4.10")
    shown = terminal.getvalue()
    assert "3/3" in shown
    assert "MAE 4.10" in shown
    assert "━" in shown


def test_durations_are_in_peoples_units():
    assert [clock(s) for s in (0.4, 89.0, 90.0, 3600.0, 12_000.0)] == ["0 s", "89 s", "2 min", "60 min", "3 h 20 min"]


def test_what_an_earlier_command_did_says_nothing_of_the_rate(capsys, monkeypatch):
    monkeypatch.setattr(module, "CALM", 0.0)
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))
    with progress("pretraining", total=1000, unit="faces") as bar:
        bar.skip(900)
        bar.update(50)
    first = capsys.readouterr().err.splitlines()[0]
    took = int(first.split(", ")[1].removesuffix(" s"))
    assert first.startswith("pretraining: 950 of 1,000 faces")
    assert f"about {took - 10} s left" in first, "the 50 that are left take as long as the 50 since the work began"


def test_trainings_side_by_side_are_one_display_that_also_goes_back():
    done: list[int] = []
    skipped: list[int] = []
    bar = SimpleNamespace(update=done.append, note=done.append, skip=skipped.append)
    shown = Shown(bar)
    shown.reach("resnet18", 300, resumed=True)
    shown.reach("efficientnet_b0", 0, resumed=True)
    shown.reach("resnet18", 450)
    shown.reach("efficientnet_b0", 80)
    shown.reach("resnet18", 400, resumed=True)  # its process died, and it goes on from its last snapshot
    assert skipped == [300, 0]
    assert sum(done) == 100 + 80
