"""What the study uses of Ray that is not public API, in one file: in Ray 2.60 nothing public does the same.

tests/cluster/test_internals.py fails where a version of Ray has changed one of these, and says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray._private import services, state, worker
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.experimental import internal_kv

TOKEN_LOGGER = "ray._private.authentication.authentication_token_setup"
"""Logs one line at every start about token authentication, which is wanted."""

_SPACE = b"age-study"


def find_address() -> str | None:
    """HOST:PORT of the Ray that runs on this machine (RAY_ADDRESS first), or None."""
    try:
        return services.canonicalize_bootstrap_address("auto")
    except ConnectionError:
        return None


def check_token() -> None:
    """Raises AuthenticationError where RAY_AUTH_MODE asks for a token and there is none: Ray's core would end the
    process."""
    ensure_token_if_auth_enabled(None, create_token_if_missing=False)


def ask_gcs(address: str) -> None:
    """Returns where Ray's control (GCS) answers at HOST:PORT; may hang. Raises AuthenticationError and others.

    `ray.init` would try for 15 minutes.
    """
    GcsClient(address=address)


def free_resources() -> list[Mapping[str, float]]:
    """What is free on each live node. `ray.available_resources()` has only the sum over all nodes."""
    return list(state.available_resources_per_node().values())


def node_groups() -> list[tuple[int, Mapping[str, float]]]:
    """For each kind of node that the autoscaler may add: how many at most (-1: any number), and its resources."""
    config = state.state.get_cluster_config()
    return [(group.max_count, group.resources) for group in config.node_group_configs] if config else []


def mark(name: str) -> None:
    """Keep a name in the GCS until `unmark`. The public way, a named actor, would cost a process."""
    internal_kv._internal_kv_put(name, b"", namespace=_SPACE)


def unmark(name: str) -> None:
    """Remove a name from the GCS."""
    internal_kv._internal_kv_del(name, namespace=_SPACE)


def count_marks(prefix: str) -> int:
    """How many names in the GCS begin so."""
    return len(internal_kv._internal_kv_list(prefix, namespace=_SPACE))


def print_errors_with(printer: Callable[[dict[str, Any], bool], None]) -> None:
    """Replace the function with which Ray's driver prints its own errors, a page each. Call it before `ray.init`."""
    worker.print_to_stdstream = printer  # type: ignore[assignment]
