"""main() of every command: options from a frozen dataclass, and one line for an expected error."""

from __future__ import annotations

import atexit
import dataclasses
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import tyro

from study.plain import printable
from study.process import ends
from study.tracking.spool import settle
from trainables.fields import check_fields

Options = TypeVar("Options")

_OURS = ("study", "trainables", "search_spaces", "__main__")
"""Packages whose ValueErrors are messages for people. One raised by a library is a bug and keeps its traceback."""

# At exit Python would collect garbage among the millions of objects of torch and MLflow, which takes 3 seconds
atexit.register(gc.freeze)


def main(
    run: Callable[[Options], int | None],
    options: type[Options],
    *,
    prog: str,
    description: str,
    args: Sequence[str] | None = None,
) -> int:
    """Exit status of a command: parse `options` (a frozen dataclass) from the command line, then run them.

    An expected error (see `message`) is one line on stderr and status 1. So are records that could not be sent to the
    tracking server (study.tracking.spool). Wrong usage is SystemExit(2), by tyro. Ctrl-C, SIGTERM and SIGHUP end the
    command with one line and status 130 (study.process.ends). Whatever ends a command early, none of its MLflow runs
    stays open. Any other exception keeps its traceback; with STUDY_TRACEBACK=1 in the environment all do. Use it as

        if __name__ == "__main__":
            sys.exit(main(align, Align, prog="python -m study.align", description=__doc__))
    """
    parsed = tyro.cli(options, prog=prog, description=description, args=args)
    ends.listen(prog)
    try:
        check_options(parsed)
        status = run(parsed) or 0
    except KeyboardInterrupt:
        return _interrupted(prog)
    except Exception as error:
        if ends.interrupted():  # raised while the interrupted command was unwinding
            return _interrupted(prog)
        ends.close("FAILED")
        line = message(error)
        if line is None or os.environ.get("STUDY_TRACEBACK"):
            ends.listen_no_more(1)
            raise
        print(f"{prog}: error: {line}", file=sys.stderr)
        status = 1
    try:
        for line in settle(wait=status == 0):  # records that the tracking server has not got
            print(f"{prog}: {line}", file=sys.stderr)
            status = status or 1
    except KeyboardInterrupt:
        return _interrupted(prog)
    ends.listen_no_more(status)
    return status


def _interrupted(prog: str) -> int:
    """Status 130, after a signal: closes the MLflow runs and prints the line."""
    ends.notice()
    ends.close("KILLED")
    for line in settle(wait=False):
        print(f"{prog}: {line}", file=sys.stderr)
    ends.say(prog)
    if ends.is_command():
        ends.leave()
    return ends.INTERRUPTED


def check_options(options: Any) -> None:
    """Raise ValueError, in one line that names the option, where a value does not match its annotation.

    options: a command's dataclass. Options of nested dataclasses (Training) have no prefix.
    """
    for value in vars(options).values():
        if dataclasses.is_dataclass(value):
            check_options(value)
    check_fields(options, of="--")


def refuse_ignored(options: Any, names: Iterable[str], *, why: str) -> None:
    """Raise ValueError where an option without effect differs from its default. why: such as "without --best"."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise ValueError(f"--{name.replace('_', '-')} has no effect {why}: leave it out")


def message(error: BaseException) -> str | None:
    """One line for an expected error, or None where the error is a bug and needs its traceback.

    Expected are missing or unreadable files (OSError), packages that are not installed (ImportError), too little
    memory, Ray's own errors, and ValueErrors raised by this project's code, here or in a Ray worker.
    """
    cause = getattr(error, "cause", None)  # RayTaskError: its own text has the worker's whole traceback
    if isinstance(cause, BaseException):
        error, remote = cause, True
    else:
        remote = False
    if type(error).__module__.startswith("ray."):
        from study.cluster.start import explain  # imported only here: Ray takes seconds to import

        return explain(error)
    if isinstance(error, ValueError):
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        raised_by = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
        if not remote and raised_by.split(".")[0] not in _OURS:
            return None
    elif not isinstance(error, OSError | ImportError | MemoryError):
        return None
    return printable(error) or type(error).__name__
