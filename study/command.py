"""What every command shares: options from a frozen dataclass, and one clear line for an expected error."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from study.plain import printable
from study.spool import settle

Options = TypeVar("Options")

_OURS = ("study", "trainables", "search_spaces", "__main__")
"""Packages whose ValueErrors are messages; one raised by a library is a bug and keeps its traceback."""

# Before it leaves, Python looks for garbage among the millions of objects that torch and MLflow have made: 3 seconds
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

    An expected error (see `message`) becomes one line on stderr and status 1, Ctrl-C status 130, and records that the
    tracking server could not be told (study.spool) one line and status 1; wrong usage ends in SystemExit(2) by tyro.
    Any other exception passes through with its traceback, and all do where the environment has STUDY_TRACEBACK=1. Use
    it as

        if __name__ == "__main__":
            sys.exit(main(align, Align, prog="python -m study.align", description=__doc__))
    """
    parsed = tyro.cli(options, prog=prog, description=description, args=args)
    try:
        status = run(parsed) or 0
    except KeyboardInterrupt:
        print(f"{prog}: interrupted; the same command continues where it stopped", file=sys.stderr)
        status = 130
    except Exception as error:
        line = message(error)
        if line is None or os.environ.get("STUDY_TRACEBACK"):
            raise
        print(f"{prog}: error: {line}", file=sys.stderr)
        status = 1
    for line in settle(wait=status == 0):  # what the tracking server has not been told
        print(f"{prog}: {line}", file=sys.stderr)
        status = status or 1
    return status


def message(error: BaseException) -> str | None:
    """The one line that explains an expected error, or None where the error is a bug and needs its traceback.

    Expected are: files and folders that are missing or unreadable (OSError), packages not installed
    (ImportError), and ValueErrors raised by this project's own code, here or in a Ray worker.
    """
    cause = getattr(error, "cause", None)  # RayTaskError: its own text holds the worker's whole traceback
    if isinstance(cause, BaseException):
        error, remote = cause, True
    else:
        remote = False
    if isinstance(error, ValueError):
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        raised_by = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
        if not remote and raised_by.split(".")[0] not in _OURS:
            return None
    elif not isinstance(error, OSError | ImportError):
        return None
    return printable(error) or type(error).__name__
