"""A server that may be away: what a command does meanwhile, when it waits, and what it says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from study.plain import brief
from study.tracking.spool import Spool

PATIENCE, RETRY = 60.0, 5.0
"""Seconds that a command waits for a server that does not answer, where it needs the answer; and between two tries
while it can go on without."""

_ask_again: dict[str, float] = {}
_troubles: dict[str, str] = {}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Server:
    """A server as its client sees it.

    uri: for messages, without a password. spool: where records wait for it. deliver: writes a record that may have got
    through before. is_outage: whether an error is the server's, its database's or the network's, and not the request's.
    why_never: the error to end with where it is no use to ask again, as where it lets nobody in.
    """

    uri: str
    spool: Spool
    deliver: Callable[[dict[str, Any], list[Path]], object]
    is_outage: Callable[[Exception], bool]
    why_never: Callable[[Exception], OSError | None]


def write(server: Server, put: Callable[[], Answer], record: Mapping[str, Any], files: Sequence[Path]) -> Answer | None:
    """What `put` returns; or None where the server does not answer: then the record waits, and all goes on."""
    if flush(server):  # else it would overtake those that wait
        try:
            return put()
        except Exception as error:
            _leave_alone(server, error)
    server.spool.add(record, files)
    return None


def flush(server: Server) -> bool:
    """Send what waits; whether nothing waits any more. A server that did not answer just now is not asked."""
    if not server.spool.waiting():
        return True
    if time.monotonic() < _ask_again.get(server.uri, 0.0):
        return False
    try:
        sent = server.spool.send(lambda record, files: _is_taken(server, record, files))
    except Exception as error:
        _leave_alone(server, error)
        return False
    if _troubles.pop(server.uri, None) is not None and sent:
        print(f"The server at {server.uri} answers again; records sent that waited: {sent}", file=sys.stderr)
    return not server.spool.waiting()


def ask(server: Server, question: Callable[[], Answer]) -> Answer:
    """What the server answers, after all that waits for it; asked again for a minute where it does not.

    Raises ConnectionError where it then still does not, and at once what why_never says.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            if flush(server) or time.monotonic() > until:
                return question()
        except Exception as error:
            never = server.why_never(error)
            if never is not None:
                raise never from error
            _leave_alone(server, error)
            if time.monotonic() > until:
                raise ConnectionError(
                    f"the MLflow server at {server.uri} has not answered for {PATIENCE:.0f} s ({brief(error)}); "
                    f"{len(server.spool.waiting())} records wait for it: when it is back, type the same command again"
                ) from error
        time.sleep(1)


def settle(server: Server, *, wait: bool) -> str | None:
    """Before a command ends: send what waits, for as long as that gets on; the line that says what could not be."""
    before, until = -1, 0.0
    while not flush(server) and wait:
        left = len(server.spool.waiting())
        if left != before:
            before, until = left, time.monotonic() + PATIENCE
        if time.monotonic() > until:
            break
        time.sleep(1)
    left = len(server.spool.waiting())
    if not left:
        return None
    why = _troubles.get(server.uri, "another command is sending them")
    return (
        f"{left} records wait for the MLflow server at {server.uri} ({why}): they are sent when the same command is "
        "typed again"
    )


def _is_taken(server: Server, record: dict[str, Any], files: list[Path]) -> bool:
    try:
        server.deliver(record, files)
    except Exception as error:
        if server.is_outage(error):
            raise
        print(f"The MLflow server refused a record, which is set aside: {brief(error)}", file=sys.stderr)
        return False
    return True


def _leave_alone(server: Server, error: Exception) -> None:
    """After a failed try: leave the server alone for some seconds, and say so once. Raises what is no outage."""
    if not server.is_outage(error):
        raise error
    _ask_again[server.uri] = time.monotonic() + RETRY
    if server.uri not in _troubles:
        print(
            f"The MLflow server at {server.uri} does not answer ({brief(error)}); what it is to be told waits in "
            f"{server.spool.folder}",
            file=sys.stderr,
        )
    _troubles[server.uri] = brief(error)
