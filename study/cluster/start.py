"""Ray, started in one way by every command, and what its own errors say."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray._private import worker

from study.cluster.joining import check_address, joined_address
from study.process import ends
from study.process.cores import usable_cores
from study.process.home import is_writable_home

_HELD_BACK = (b"Set ray log level", b"gcs_client.cc", b"rpc_client.h")
"""What Ray's core writes to stderr at the start, though all is well or told in our own words."""


@dataclass(frozen=True)
class Joining:
    """Options of every command that works on Ray."""

    address: str | None = None
    """Ray cluster to join, as HOST:PORT; default: RAY_ADDRESS, else Ray is started here."""
    cpus: int | None = None
    """Cores that a Ray started here uses. Default: all that this process may use (taskset, SLURM and containers bind
    it to some)."""

    @property
    def joins(self) -> bool:
        """Whether a cluster is joined that others started."""
        return joined_address(self.address) is not None

    def start(self, *, quiet_core: bool = False) -> None:
        """start_ray() as these options say."""
        start_ray(address=self.address, num_cpus=self.cpus, quiet_core=quiet_core)


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
    num_cpus (default: usable_cores), num_gpus and object_store_bytes describe a cluster started here; a running one
    has its own. It ends with the process, or with `ray.shutdown()`. quiet_core is for Ray Data, whose own actors make
    Ray's core report as an error that they keep arguments in the object store.

    Raises ValueError or OSError, with what to do, where the address or this machine does not allow it.
    """
    if ray.is_initialized():
        return
    # Ray hides the GPUs from tasks that ask for none, and warns at length that it will stop doing so.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray runs a task that its memory monitor ended again for ever, without a word
    os.environ.setdefault("RAY_task_oom_retries", "3")
    # One line at every start about token authentication, which is how Ray should be.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if quiet_core:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if num_cpus is not None and num_cpus < 1:
        raise ValueError(f"--cpus must be >= 1, got {num_cpus}")
    if not log_to_driver:
        worker.print_to_stdstream = _in_a_line
    joined = joined_address(address)
    try:
        if joined is not None:
            if num_cpus is not None:
                raise ValueError(f"--cpus is for a Ray started here; the cluster at {joined} has its own")
            _join(joined, log_to_driver)
        else:
            _start(num_cpus or usable_cores(), num_gpus, object_store_bytes, log_to_driver)
    except SystemExit:  # Ray's own handler of SIGTERM, which is in place while Ray starts
        raise KeyboardInterrupt from None
    finally:
        ends.listen_again()


def _join(address: str, log_to_driver: bool) -> None:
    with _without(*_HELD_BACK):
        address = check_address(address)
        try:
            ray.init(address=address, log_to_driver=log_to_driver, logging_level=logging.WARNING)
        except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            raise ConnectionError(f"the Ray cluster at {address} cannot be joined: {_first(error)}") from error


def _start(cpus: int, gpus: int | None, store: int | None, log_to_driver: bool) -> None:
    if not is_writable_home():  # Ray would keep the token there, by which its processes know one another
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    watch = _Watch()
    watch.start()
    try:
        with _without(*_HELD_BACK):
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                object_store_memory=store,
                include_dashboard=False,
                log_to_driver=log_to_driver,
                logging_level=logging.WARNING,
            )
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        watch.off = True
        raise OSError(f"Ray cannot be started here: {_first(error)}") from error
    except BaseException:
        watch.off = True
        raise
    watch.node = worker._global_node


def explain(error: BaseException) -> str | None:
    """One line for an error of Ray's own; None where it only carries what a task raised."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "it needs more memory than there is: Ray's memory monitor ended its process"
    if isinstance(error, ray.exceptions.RayTaskError) or not isinstance(error, ray.exceptions.RayError):
        return None
    return f"{type(error).__name__}: {_first(error)}"


def _in_a_line(data: dict[str, Any], ignore_prefix: bool) -> None:
    """What Ray tells of a task that was ended or can't be placed: its first line in the place of a page."""
    for text in data["lines"]:
        print(f"Ray: {text.strip().splitlines()[0][:250]}", file=sys.stderr, flush=True)


def _first(error: BaseException) -> str:
    """The first sentences of Ray's text, which may be a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__


class _Watch(threading.Thread):
    """Ends this command with one line when Ray dies below it, already while it starts: a driver may wait for ever for a
    node that is gone."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="ray-watch")
        self.node: Any = None  # Ray's own record of what it started here, once it has
        self.off = False
        self.before = set(psutil.Process().children())  # of an earlier Ray of this process
        self.stderr = os.dup(2)  # which is held back while Ray starts

    def run(self) -> None:
        vital: dict[str, psutil.Process] = {}
        while not (gone := [name for name, process in vital.items() if _is_gone(process)]):
            if len(vital) < 2:
                for child in set(psutil.Process().children()) - self.before:
                    with suppress(psutil.Error):
                        if child.name() in ("raylet", "gcs_server"):
                            vital[child.name()] = child
            time.sleep(0.2 if self.node is None else 1.0)
            if self.off:
                return
        # A signal may have come to both; at a proper shutdown Ray says that it is over before it ends its processes
        time.sleep(2)
        if ends.interrupted():
            return
        starting = self.node is None and not self.off
        if starting or (ray.is_initialized() and worker._global_node is self.node):
            sys.stdout.flush()
            os.write(self.stderr, f"error: Ray's {gone[0]} died; the same command goes on where it stopped\n".encode())
            os._exit(1)  # Ray's other processes end with this one


def _is_gone(process: psutil.Process) -> bool:
    """Whether a child process has ended, waited for or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def _without(*lines: bytes) -> Iterator[None]:
    """Keep back lines that hold one of `lines` from what is written to stderr, by C++ too; all others are shown at the
    end."""
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            os.write(2, b"".join(text for text in held if not any(line in text for line in lines)))


def put_tensors(state: Mapping[str, Any] | None) -> Any:
    """A reference to tensors in Ray's object store, as arrays that every task reads without a copy; None for none."""
    return None if state is None else ray.put({name: value.numpy() for name, value in state.items()})
