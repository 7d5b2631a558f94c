"""Joining a Ray cluster that is there: what its address may be, whether it answers, and what its errors say."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from ray._private import services
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError

CONNECT, ANSWER = 10.0, 15.0
"""Seconds that an address has to take a connection, and then to answer as Ray does. Ray itself tries for 15 minutes."""

_HOW = (
    "give HOST:PORT of a Ray cluster (port 6379 unless it was told otherwise), or unset RAY_ADDRESS to start Ray here"
)


def joined_address(address: str | None) -> str | None:
    """The address of the cluster to join: as given, or RAY_ADDRESS; None where Ray is to be started here."""
    asked = address or os.environ.get("RAY_ADDRESS")
    return None if asked == "local" else asked or None


def check_address(address: str) -> str:
    """HOST:PORT of a Ray cluster that answers there and lets this process in.

    "auto" stands for the one that runs on this machine. Raises ValueError for another kind of address, ConnectionError
    where nothing answers or what answers is no Ray, PermissionError for a wrong token.
    """
    if address.startswith(("http://", "https://")):
        raise ValueError(
            f"{address} is the address of Ray's page and jobs: send this command there with `ray job submit -- python "
            f"-m study...` (docs/cluster.md), or {_HOW}"
        )
    if address.startswith("ray://"):
        raise ValueError(
            f"{address} is Ray Client's door, through which Ray Tune, Ray Train and Ray Data do not go: run this "
            f"command on a machine of the cluster, by `ray job submit` (docs/cluster.md), or {_HOW}"
        )
    if address == "auto":
        address = services.canonicalize_bootstrap_address("auto") or ""
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
        ensure_token_if_auth_enabled(None, create_token_if_missing=False)  # Ray's core ends the process where none is
    except AuthenticationError as error:
        raise PermissionError(
            "RAY_AUTH_MODE is token, but this machine has no token: copy the cluster's to ~/.ray/auth_token"
        ) from error
    _ask(address)
    return address


def _ask(address: str) -> None:
    """Ask the cluster's control who it is. In a thread, since Ray's own waiting can't be cut short."""
    answer: list[BaseException | None] = []

    def ask() -> None:
        try:
            GcsClient(address=address)
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
            f"the Ray cluster at {address} wants another token (RAY_AUTH_MODE is {mode}): copy its ~/.ray/auth_token "
            "to this machine's, and export RAY_AUTH_MODE=token"
        ) from error
    if error is not None:
        raise ConnectionError(f"what answers at {address} is no Ray cluster ({_brief(error)}): {_HOW}") from error


def _brief(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:150] or type(error).__name__
