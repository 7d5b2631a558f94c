"""A server that may be away: what a command does meanwhile, when it waits, and what it says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from study.plain import brief
from study.process import ends
from study.tracking.errors import is_outage, translated, why_never
from study.tracking.records import PENDING, Begin, Record, Tracking, put
from study.tracking.spool import Spool

PATIENCE, RETRY = 60.0, 5.0
"""Seconds that a command waits for a server where it needs the answer; and between two attempts where it does not."""

Answer = TypeVar("Answer")


_troubles: dict[str, tuple[str, float]] = {}
"""By a server's URI: why it did not answer, and the time (time.monotonic) before which it is not asked again."""


def write(tracking: Tracking, record: Record, files: Sequence[Path] = ()) -> str:
    """Write a record, or keep it while the server does not answer. Returns the run's id, or PENDING and its key."""
    record = replace(record, experiment=record.experiment or tracking.experiment)
    with translated(tracking.place):
        if tracking.spool is None:
            with ends.held():  # interrupted inside SQLAlchemy, a connection may keep the lock that closing waits for
                return put(tracking, record, files)
        if flush(tracking, tracking.spool):  # else it would overtake the records that wait
            try:
                return put(tracking, record, files)
            except Exception as error:
                _postpone(tracking, tracking.spool, error)
        tracking.spool.add(asdict(record), files)
        return record.run or f"{PENDING}{record.key}"


def ask(tracking: Tracking, question: Callable[[], Answer]) -> Answer:
    """The answer to a question, after all waiting records were sent. A server that is away is asked for a minute.

    Raises ConnectionError where it still does not answer, and at once where asking again is of no use (why_never).
    """
    with translated(tracking.place):
        if tracking.spool is None:
            with ends.held():
                return question()
        until = time.monotonic() + PATIENCE
        while True:
            try:
                if flush(tracking, tracking.spool) or time.monotonic() > until:
                    return question()
            except Exception as error:
                if never := why_never(error, tracking.place):
                    raise never from error
                _postpone(tracking, tracking.spool, error)
                if time.monotonic() > until:
                    raise ConnectionError(
                        f"the MLflow server at {tracking.place.shown} has not answered for {PATIENCE:.0f} s "
                        f"({brief(error)}): when it is back, type the same command again"
                    ) from error
            time.sleep(1)


def flush(tracking: Tracking, spool: Spool) -> bool:
    """Send the waiting records; returns whether none is left. A server that just failed is not asked."""
    if not spool.waiting():
        return True
    if time.monotonic() < _troubles.get(tracking.uri, ("", 0.0))[1]:
        return False
    try:
        sent = spool.send(lambda record, files: _is_taken(tracking, record, files))
    except Exception as error:
        _postpone(tracking, spool, error)
        return False
    if _troubles.pop(tracking.uri, None) and sent:
        print(f"The MLflow server at {tracking.place.shown} answers again; {sent} records sent", file=sys.stderr)
    return not spool.waiting()


def settle(tracking: Tracking, spool: Spool, *, wait: bool) -> str | None:
    """Send the waiting records before a command ends, trying for a minute if `wait`; a line where some are left."""
    until = time.monotonic() + PATIENCE
    while not flush(tracking, spool) and wait and time.monotonic() < until:
        time.sleep(1)
    if not (left := len(spool.waiting())):
        return None
    why, _ = _troubles.get(tracking.uri, ("another command is sending them", 0.0))
    return (
        f"{left} records wait for the MLflow server at {tracking.place.shown} ({why}): to send them, type the same "
        "command again"
    )


def _is_taken(tracking: Tracking, record: dict[str, Any], files: list[Path]) -> bool:
    try:
        begin = record["begin"] and Begin(**record["begin"])
        put(tracking, Record(**{**record, "begin": begin}), files, again=True)
    except Exception as error:
        if is_outage(error):
            raise
        print(f"The MLflow server refused a record, which is set aside: {brief(error)}", file=sys.stderr)
        return False
    return True


def _postpone(tracking: Tracking, spool: Spool, error: Exception) -> None:
    """After a failed attempt: ask again in some seconds, and say so once. Raises an error that is no outage."""
    if not is_outage(error):
        raise error
    if tracking.uri not in _troubles:
        print(
            f"The MLflow server at {tracking.place.shown} does not answer ({brief(error)}); records wait in "
            f"{spool.folder}",
            file=sys.stderr,
        )
    _troubles[tracking.uri] = (brief(error), time.monotonic() + RETRY)
