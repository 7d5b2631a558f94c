"""Ray, started in one way by every command."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray


def start_ray(
    *,
    address: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    object_store_bytes: int | None = None,
    log_to_driver: bool = False,
    quiet_core: bool = False,
) -> None:
    """Connect to the cluster at `address` (or RAY_ADDRESS), or start one here for this process alone.

    A Ray already started by this process is kept. Without an address no neighbour's cluster is looked for:
    two live instances on one machine make parts of Ray fail with "Found multiple active Ray instances".
    num_cpus, num_gpus and object_store_bytes describe a cluster started here; a running one has its own.
    It ends with the process, or with `ray.shutdown()`. quiet_core is for Ray Data, whose own actors make Ray's core
    report as an error that they keep arguments in the object store.
    """
    if ray.is_initialized():
        return
    # Ray hides the GPUs from tasks that ask for none, and warns at length that it will stop doing so.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # One line at every start about token authentication, which is how Ray should be.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if quiet_core:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=log_to_driver, logging_level=logging.WARNING)
        return
    with _without(b"Set ray log level"):
        _start_here(num_cpus, num_gpus, object_store_bytes, log_to_driver)


def _start_here(
    num_cpus: int | None, num_gpus: int | None, object_store_bytes: int | None, log_to_driver: bool
) -> None:
    ray.init(
        address="local",
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        object_store_memory=object_store_bytes,
        include_dashboard=False,
        log_to_driver=log_to_driver,
        logging_level=logging.WARNING,
    )


@contextmanager
def _without(line: bytes) -> Iterator[None]:
    """Keep back lines that hold `line` from what is written to stderr, by C++ too; all others are shown at the end."""
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            os.write(2, b"".join(text for text in held if line not in text))


def gpu_share(asked: float | None) -> float:
    """The share of a GPU that a training takes: as asked, else a quarter where Ray has GPUs, else none."""
    if asked is not None:
        return asked
    return 0.25 if ray.cluster_resources().get("GPU", 0) else 0.0
