"""Joining a Ray cluster that others started: its address is checked first, since Ray itself tries for 15 minutes."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from ray.exceptions import AuthenticationError

from study.cluster.internals import ask_gcs, check_token, find_address

CONNECT, ANSWER = 10.0, 15.0
"""Seconds that an address has to accept a connection, and then to answer as Ray does."""

_HOW = "give HOST:PORT of a Ray cluster (the port is 6379 by default), or unset RAY_ADDRESS to start Ray here"


def joined_address(address: str | None) -> str | None:
    """The address of the cluster to join (as given, else RAY_ADDRESS), or None to start Ray here."""
    asked = address or os.environ.get("RAY_ADDRESS")
    return None if asked == "local" else asked or None


def check_address(address: str) -> str:
    """HOST:PORT of the Ray cluster at `address`, after it answered and accepted this machine's token.

    "auto" stands for the Ray that runs on this machine. Raises ValueError for another kind of address, ConnectionError
    where no Ray answers, PermissionError for a missing or wrong token.
    """
    if address.startswith(("http://", "https://")):
        raise ValueError(
            f"{address} is the address of Ray's dashboard and jobs: submit this command there with `ray job submit -- "
            f"python -m study...` (docs/cluster.md), or {_HOW}"
        )
    if address.startswith("ray://"):
        raise ValueError(
            f"{address} is an address of Ray Client, which the study does not support: run this command on a machine "
            f"of the cluster, by `ray job submit` (docs/cluster.md), or {_HOW}"
        )
    if address == "auto":
        address = find_address() or ""
        if not address:
            raise ConnectionError(f"RAY_ADDRESS or --address is auto, but no Ray runs on this machine: {_HOW}")
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is no address of a Ray cluster: {_HOW}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
    except OSError as error:
        raise ConnectionError(f"nothing answers at {address} ({_brief(error)}): {_HOW}") from error
    try:
        check_token()
    except AuthenticationError as error:
        raise PermissionError(
            "RAY_AUTH_MODE is token, but this machine has none: copy ~/.ray/auth_token from the cluster's head"
        ) from error
    _ask(address)
    return address


def _ask(address: str) -> None:
    """Raise where no Ray answers, or it wants another token. In a thread, since Ray's own waiting has no time-out."""
    answer: list[BaseException | None] = []

    def ask() -> None:
        try:
            ask_gcs(address)
            answer.append(None)
        except BaseException as error:
            answer.append(error)

    asking = threading.Thread(target=ask, daemon=True, name="ask")
    asking.start()
    asking.join(timeout=ANSWER)
    error: Any = answer[0] if answer else TimeoutError(f"no answer within {ANSWER:.0f} s")
    if isinstance(error, AuthenticationError):
        mode = os.environ.get("RAY_AUTH_MODE", "disabled")
        raise PermissionError(
            f"the Ray cluster at {address} wants another token (RAY_AUTH_MODE is {mode}): copy ~/.ray/auth_token from "
            "its head to this machine, and export RAY_AUTH_MODE=token"
        ) from error
    if error is not None:
        raise ConnectionError(f"what answers at {address} is no Ray cluster ({_brief(error)}): {_HOW}") from error


def _brief(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:150] or type(error).__name__
