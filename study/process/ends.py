"""How Ctrl-C, SIGTERM and SIGHUP end a command, at every moment: one line, status 130, nothing marked complete.

`study/__init__.py` calls `while_importing` before anything else is imported; `study.cli.run.main` calls `listen` before
the command's work begins. In any other process than `python -m study.<command>` (tests, Ray's workers), signals are not
changed.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from study.process.leaving import INTERRUPTED, leave

PATIENCE, AGAIN = 30.0, 2.0
"""Seconds after which an interrupted command ends even if its clean-up hangs; and until a lost signal is raised again:
Python drops an exception raised in a destructor or in a callback from C."""

at_end: dict[str, Callable[[str], object]] = {}
"""By name: functions that close what is open when a command ends early; called with KILLED or FAILED."""

_handler: Callable[..., Any] | None = None
_begun, _noticed = threading.Event(), threading.Event()
_held, _postponed, _again = 0, False, False
_listening: list[str] = []
"""The commands that run, the outermost first: study.tour runs others in its process."""


def while_importing() -> None:
    """From here on a signal ends the process at once, with the line: no work has begun yet."""
    place = next(i for i, word in enumerate(sys.orig_argv) if word.startswith("-m"))
    name = sys.orig_argv[place][2:] or sys.orig_argv[place + 1]

    def leave_at_once(*_: object) -> None:
        say(f"python -m {name}")
        os._exit(INTERRUPTED)

    _set(leave_at_once)


def listen(prog: str) -> None:
    """From here on a signal raises KeyboardInterrupt in the main thread, once. If that does not end the command `prog`
    within PATIENCE, the process is ended. A command within another one changes nothing."""

    def interrupt(*_: object) -> None:
        global _postponed, _again
        if _noticed.is_set() or (_begun.is_set() and not _again):
            return  # a second signal must not interrupt the clean-up
        _again = False
        if not _begun.is_set():
            _begun.set()
            threading.Thread(target=_insist, args=(prog,), daemon=True, name="end").start()
        if _held:
            _postponed = True
        else:
            raise KeyboardInterrupt

    if is_command():
        _listening.append(prog)
        if len(_listening) == 1:
            _set(interrupt)


def listen_again() -> None:
    """Set the handlers again after a library has set its own, as Ray does for SIGTERM when it starts."""
    if _handler is not None and threading.current_thread() is threading.main_thread():
        _set(_handler)


def listen_no_more(status: int) -> None:
    """The command is done: from here on a signal ends the process at once, with the command's own status. The end of
    a command within another one changes nothing."""
    del _listening[-1:]
    if is_command() and not _listening:
        _set(lambda *_: os._exit(status))


def is_command() -> bool:
    """Whether this process was started as `python -m study.<command>`."""
    return _handler is not None


def interrupted() -> bool:
    """Whether a signal has come: threads then start no more work."""
    return _begun.is_set()


def notice() -> None:
    """The main thread is ending the command: signals are ignored from here on."""
    _begun.set()
    _noticed.set()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A short block that no signal interrupts: KeyboardInterrupt is raised at its end."""
    global _held, _postponed
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if not _held and _postponed:
            _postponed = False
            raise KeyboardInterrupt


def close(status: str) -> None:
    """Call the functions in at_end. Errors in them are ignored: the command ends anyway."""
    for finish in list(at_end.values()):
        with contextlib.suppress(Exception):
            finish(status)


def say(prog: str) -> None:
    """Print the line of an interrupted command; of the outermost, which is what was typed."""
    prog = _listening[0] if _listening else prog
    with contextlib.suppress(OSError):  # the terminal was closed
        os.write(2, f"{prog}: interrupted; the same command continues where it stopped\n".encode())


def _set(handler: Callable[..., Any]) -> None:
    global _handler
    _handler = handler
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):  # POSIX has no SIGBREAK, Windows no SIGHUP
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):  # nohup
            continue
        signal.signal(number, handler)


def _insist(prog: str) -> None:
    """Raise a signal again that the main thread has not noticed, and end the process if its clean-up hangs."""
    global _again
    until = time.monotonic() + PATIENCE
    while not _noticed.wait(AGAIN) and time.monotonic() < until:
        _again = True
        _thread.interrupt_main()
    time.sleep(max(0.0, until - time.monotonic()))
    say(prog)
    leave()
