"""One steady progress display for every stage: a bar on a terminal, a plain line now and then in a pipe or a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Display

from study.cli import log
from study.plain import clock, printable

CALM = 30.0
"""Seconds between two lines where there is no terminal."""


@runtime_checkable
class Bar(Protocol):
    """A stage's progress."""

    def update(self, number: int = 1) -> None:
        """So many more are done."""

    def note(self, text: str) -> None:
        """What to show next to the count, such as the MAE so far."""

    def skip(self, number: int) -> None:
        """So many were done by an earlier command, and the work begins now: the rate is what follows."""


@contextmanager
def progress(what: str, *, total: int, done: int = 0, unit: str = "", timed: bool = True) -> Iterator[Bar]:
    """Show on stderr how many of `total` are done, and how long the others will take.

    what: the stage's work, such as "folds". timed: whether the time that is left can be told from the rate so far.
    On a terminal it is a bar, above which other lines are printed; elsewhere a line without control codes after
    CALM seconds and at the end. The stage's log gets those lines in any case.
    """
    shown = sys.stderr.isatty()
    lines = _Lines(what, total, done, unit, timed, shown)
    try:
        if shown:
            with _display(timed) as display, log.above():
                yield _OnTerminal(display, lines)
        else:
            yield lines
    finally:
        lines.say()


def _display(timed: bool) -> Display:
    left = [TextColumn("left"), TimeRemainingColumn(compact=True)] if timed else []
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *left]
    console = Console(file=log.terminal(sys.stderr))
    return Display(*columns, TextColumn("{task.fields[note]}"), console=console, refresh_per_second=2)


class _OnTerminal:
    def __init__(self, display: Display, lines: _Lines) -> None:
        self.display, self.lines = display, lines
        self.task = display.add_task(lines.what, total=lines.total, completed=lines.done, note="")

    def update(self, number: int = 1) -> None:
        self.display.update(self.task, advance=number)
        self.lines.update(number)

    def note(self, text: str) -> None:
        self.display.update(self.task, note=printable(text))
        self.lines.note(text)

    def skip(self, number: int) -> None:
        self.lines.skip(number)
        self.display.reset(self.task, completed=self.lines.done)


class _Lines:
    def __init__(self, what: str, total: int, done: int, unit: str, timed: bool, logged_only: bool) -> None:
        self.what, self.total, self.done, self.unit, self.timed = what, total, done, unit, timed
        self.logged_only = logged_only
        self.first, self.began, self.text = done, time.monotonic(), ""
        self.said = self.rated_from = self.began

    def update(self, number: int = 1) -> None:
        self.done += number
        if time.monotonic() - self.said >= CALM:
            self.say()

    def note(self, text: str) -> None:
        self.text = printable(text)
        if time.monotonic() - self.said >= CALM:
            self.say()

    def skip(self, number: int) -> None:
        self.done += number
        self.first, self.rated_from = self.done, time.monotonic()

    def say(self) -> None:
        """Print where it is, to the log alone where a bar shows it."""
        self.said = time.monotonic()
        took, here = self.said - self.began, self.done - self.first
        parts = [f"{self.what}: {self.done:,} of {self.total:,}{' ' + self.unit if self.unit else ''}", clock(took)]
        if self.timed and here and self.done < self.total:
            pace = (self.said - self.rated_from) / here
            parts.append(f"about {clock(pace * (self.total - self.done))} left")
        line = ", ".join([*parts, *([self.text] if self.text else [])])
        log.only(f"{line}\n")
        if not self.logged_only:
            print(line, file=log.terminal(sys.stderr), flush=True)
