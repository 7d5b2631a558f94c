"""A log file of a stage, runs/logs/<when>-<stage>.log: what the terminal shows, as lines without control codes."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from study.plain import without_secrets

FOLDER = Path("runs") / "logs"
"""In the working directory, beside what the stages write."""

STAGES = ("align", "pretrain", "sweep", "lopo", "crosstest", "report", "refit")
"""The commands whose work is long enough for somebody to ask later what they said."""


class _Log:
    """The file of one command. It is made with the first line of work: what is refused leaves nothing behind."""

    def __init__(self, file: Path, heading: str) -> None:
        self.file, self.held = file, [heading]
        self.to: TextIO | None = None
        self.over = False

    def write(self, text: str, *, work: bool) -> None:
        """Add a text; work: whether it shows that work has begun. A disk that takes no log stops no command."""
        if self.over:
            return
        self.held.append(text)
        if self.to is None and not work:
            return
        try:
            if self.to is None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self.to = self.file.open("a", encoding="utf-8", errors="replace")
            self.to.write("".join(self.held))
            self.to.flush()
        except OSError:
            self.close()
        self.held.clear()

    def close(self) -> None:
        self.over = True
        if self.to is not None:
            with contextlib.suppress(OSError):
                self.to.close()


_log: _Log | None = None


class _Both:
    """A stream that also writes to the log. It stands in for stdout or stderr, which may be rich's or a test's own."""

    def __init__(self, stream: Any, *, work: bool) -> None:
        self.stream, self.work = stream, work

    def write(self, text: str) -> int:
        if _log is not None:
            _log.write(text, work=self.work)
        written: int = self.stream.write(text)
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


@contextlib.contextmanager
def kept(prog: str, words: Sequence[str]) -> Iterator[None]:
    """Keep in a log what a stage prints until the block ends, and the traceback it ends with. Other commands have none.

    prog: "python -m study.<stage>". words: its arguments, for the log's first line.
    """
    global _log
    stage = prog.rpartition(".")[2]
    if stage not in STAGES:
        yield
        return
    now = time.localtime()
    file = Path.cwd() / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S', now)}-{stage}.log"
    typed = without_secrets(shlex.join(words))  # a URI may have a password
    before, _log = _log, _Log(file, f"{time.strftime('%Y-%m-%d %H:%M:%S', now)} $ {prog} {typed}\n")
    try:
        with _doubled():
            yield
    except Exception:
        only(traceback.format_exc())
        raise
    finally:
        _log.close()
        _log = before


def only(text: str) -> None:
    """Write to the log alone: what the terminal shows in a way of its own."""
    if _log is not None:
        _log.write(text, work=True)


def terminal(stream: Any) -> Any:
    """The stream itself, past the log: for what control codes draw."""
    return stream.stream if isinstance(stream, _Both) else stream


@contextlib.contextmanager
def above() -> Iterator[None]:
    """While a bar is shown: rich prints each line above it with control codes, and the log gets the line as it is."""
    if _log is None:
        yield
        return
    with _doubled():
        yield


@contextlib.contextmanager
def _doubled() -> Iterator[None]:
    out: Any = _Both(sys.stdout, work=True)
    error: Any = _Both(sys.stderr, work=False)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        yield
