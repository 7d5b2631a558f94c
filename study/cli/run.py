"""main() of every command: options from a frozen dataclass, and one line for an expected error."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import importlib
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from study.cli import log
from study.cli.about import About, Option, options_of, show_help
from study.plain import clock, printable
from study.process import ends
from study.process.leaving import INTERRUPTED, leave
from study.tracking.spool import settle
from trainables.fields import check_fields

Options = TypeVar("Options")

WORTH = 20.0
"""Seconds from which on a command says what it took."""

_OURS = ("study", "trainables", "search_spaces", "__main__")
"""Packages whose ValueErrors are messages for people. One raised by a library is a bug and keeps its traceback."""

UNTOLD = About("")
"""Of a command without a --help of its own (in tests)."""

# At exit Python would collect garbage among the millions of objects of torch and MLflow, which takes 3 seconds
atexit.register(gc.freeze)


def main(
    run: Callable[[Options], int | None] | str,
    options: type[Options],
    *,
    prog: str,
    about: About = UNTOLD,
    refuse: Callable[[Options], object] | None = None,
    args: Sequence[str] | None = None,
) -> int:
    """Exit status of a command: parse `options` (a frozen dataclass) from the command line, then run them.

    run: a function, or "module:function", which is imported when the options were read: --help and what `refuse`
    raises ValueError for (options that contradict each other, unknown names) need neither torch nor Ray.

    An expected error (see `message`) is one line on stderr and status 1. So are records that could not be sent to the
    tracking server (study.tracking.spool). Wrong usage is one line and SystemExit(2). Ctrl-C, SIGTERM and SIGHUP end
    the command with one line and status 130 (study.process.ends). Whatever ends a command early, none of its MLflow
    runs stays open. Any other exception keeps its traceback; with STUDY_TRACEBACK=1 in the environment all do. Use it
    as

        if __name__ == "__main__":
            sys.exit(main("study.align.command:align", Align, prog="python -m study.align", about=ABOUT))
    """
    words = sys.argv[1:] if args is None else args
    if not {"-h", "--help", "--help-all"}.isdisjoint(words):
        print(show_help(about, options, prog=prog, everything="--help-all" in words))
        return 0
    parsed = parse(options, words, prog=prog)
    try:
        check_options(parsed)
        if refuse is not None:
            refuse(parsed)
        function = find(run)
    except Exception as error:
        return _failed(error, prog)
    with log.kept(prog, words) if ends.is_command() else contextlib.nullcontext():
        return _carry_out(function, parsed, prog)


def _carry_out(function: Callable[[Options], int | None], parsed: Options, prog: str) -> int:
    """Exit status of a command whose options were read."""
    ends.listen(prog)
    began = time.monotonic()
    try:
        status = function(parsed) or 0
    except KeyboardInterrupt:
        return _interrupted(prog)
    except Exception as error:
        if ends.interrupted():  # raised while the interrupted command was unwinding
            return _interrupted(prog)
        status = _failed(error, prog)
    try:
        for line in settle(wait=status == 0):  # records that the tracking server has not got
            print(f"{prog}: {line}", file=sys.stderr)
            status = status or 1
    except KeyboardInterrupt:
        return _interrupted(prog)
    if (took := time.monotonic() - began) >= WORTH and not status:
        print(f"Took {clock(took)}.", file=sys.stderr)
    ends.listen_no_more(status)
    return status


def parse(options: type[Options], words: Sequence[str], *, prog: str) -> Options:
    """The options of these words. Wrong usage is one line on stderr, and SystemExit(2)."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return tyro.cli(options, prog=prog, args=words)
    except SystemExit:
        line = _usage(said.getvalue(), list(words), {option.flag: option for option in options_of(options)})
        print(f"{prog}: error: {line}; see {prog} --help", file=sys.stderr)
        raise


def _usage(said: str, words: list[str], options: Mapping[str, Option]) -> str:
    """One line for what tyro says of wrong usage: its own is a frame, with Python's names of types."""
    lines = [line.strip("│╭╮╰╯ ") for line in said.splitlines()]
    rule = next((i for i, line in enumerate(lines[2:], start=2) if line.strip("─-") == "" and line), len(lines))
    text = " ".join(" ".join(line for line in lines if not line.startswith("─")).split())
    own = " ".join(" ".join(line for line in lines[1:rule] if line.strip("─-")).split()).rstrip(".")
    if found := re.search(r"Error parsing (--[\w-]+):", text):
        option, given = options.get(found[1]), " ".join(words).partition(found[1])[2].lstrip("= ").split(" ")[0]
        return f"{found[1]} is {given!r}, expected {option.expected if option else 'another value'}"
    if found := re.search(r"Missing value for argument '(--[\w-]+)'", text):
        return f"{found[1]} needs a value"
    if found := re.search(r"Unrecognized options?: (\S+?),?(?: |$)", text):
        near = re.search(r"Perhaps you meant: +(--[\w-]+)", text)
        return f"there is no option {found[1]}" + (f". Did you mean {near[1]}?" if near else "")
    return own or "wrong usage"


def find(run: Callable[[Options], int | None] | str) -> Callable[[Options], int | None]:
    """The function itself, imported where it is named as "module:function". A terminal shows meanwhile that it is
    being done: torch, Ray and MLflow take seconds."""
    if not isinstance(run, str):
        return run
    module, _, name = run.partition(":")
    with _loading():
        return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """A line on a terminal that disappears. No spinner: it hides the cursor, and a signal ends the process here."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write("Loading torch, Ray and MLflow ...")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _failed(error: Exception, prog: str) -> int:
    """Status 1 with one line for an expected error; raises any other again."""
    ends.close("FAILED")
    line = message(error)
    if line is None or os.environ.get("STUDY_TRACEBACK"):
        ends.listen_no_more(1)
        raise error
    print(f"{prog}: error: {line}", file=sys.stderr)
    return 1


def _interrupted(prog: str) -> int:
    """Status 130, after a signal: closes the MLflow runs and prints the line."""
    ends.notice()
    log.only("interrupted\n")
    ends.close("KILLED")
    for line in settle(wait=False):
        print(f"{prog}: {line}", file=sys.stderr)
    ends.say(prog)
    if ends.is_command():
        leave()
    return INTERRUPTED


def check_options(options: Any) -> None:
    """Raise ValueError, in one line that names the option, where a value does not match its annotation.

    options: a command's dataclass. Options of nested dataclasses (Training) have no prefix.
    """
    for value in vars(options).values():
        if dataclasses.is_dataclass(value):
            check_options(value)
    check_fields(options, of="--")


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
