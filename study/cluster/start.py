"""Starts or joins Ray, in the same way for every command, and puts Ray's errors into one line."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import ray

from study.cluster import internals
from study.cluster.joining import check_address, joined_address
from study.process import ends
from study.process.cores import usable_cores
from study.process.home import is_writable_home

_HELD_BACK = (b"Set ray log level", b"gcs_client.cc", b"rpc_client.h")
"""Marks of lines that Ray's core writes to stderr at its start, about nothing or about what is said in other words."""


STARTS = 3
"""How often a Ray is started here before the machine is called too busy for it."""

GIVES_UP = 90
"""Seconds that Ray is given to give up on a raylet that died at the start; it takes 30 to 60."""


def start_ray(
    *,
    address: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    object_store_bytes: int | None = None,
    log_to_driver: bool = False,
    quiet_core: bool = False,
) -> None:
    """Join the cluster at `address` (or RAY_ADDRESS), or start a Ray here that ends with this process.

    A Ray that this process has started before is kept. Without an address a Ray of others on this machine is ignored,
    since two on one machine make parts of Ray fail with "Found multiple active Ray instances". num_cpus (default:
    usable_cores), num_gpus and object_store_bytes are for a Ray started here. quiet_core: hide the errors of Ray's
    core, which reports as an error that Ray Data's actors keep arguments in the object store.

    Raises ValueError or OSError where the address is wrong or Ray cannot start on this machine.
    """
    if ray.is_initialized():
        return
    # Hide the GPUs from tasks that ask for none. Without it Ray does so too, with a long warning that this will change
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without it Ray silently repeats for ever a task that its memory monitor has killed
    os.environ.setdefault("RAY_task_oom_retries", "3")
    logging.getLogger(internals.TOKEN_LOGGER).setLevel(logging.ERROR)
    if quiet_core:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if num_cpus is not None and num_cpus < 1:
        raise ValueError(f"--cpus must be >= 1, got {num_cpus}")
    if not log_to_driver:
        internals.print_errors_with(_in_a_line)
    joined = joined_address(address)
    try:
        if joined is not None:
            if num_cpus is not None:
                raise ValueError(f"--cpus is for a Ray started here; the cluster at {joined} has its own")
            _join(joined, log_to_driver)
        else:
            _start(num_cpus or usable_cores(), num_gpus, object_store_bytes, log_to_driver)
    except SystemExit:  # from Ray's own handler of SIGTERM, active while Ray starts
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
    """Start Ray, up to STARTS times where the machine is too busy: Ray's raylet gives its agents 15 s and then ends
    itself (ray-project/ray#65983; in Ray 2.60 the time cannot be set)."""
    if not is_writable_home():  # where Ray would keep its processes' common token
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for left in reversed(range(STARTS)):
        try:
            return _start_once(cpus, gpus, store, log_to_driver)
        except _TooBusy as error:
            if not left:
                raise OSError(f"Ray cannot be started here, {STARTS} times: {error}") from error
            print("Ray did not start within the time it gives itself: this machine is busy. Once more ...", flush=True)


def _start_once(cpus: int, gpus: int | None, store: int | None, log_to_driver: bool) -> None:
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
    except Exception as error:  # of any kind: Ray raises a bare Exception where a node does not start in time
        watch.off = True
        if watch.raylet_died:
            ray.shutdown()
            _end_processes(watch.before)
            raise _TooBusy(_first(error)) from error
        raise OSError(f"Ray cannot be started here: {_first(error)}") from error
    except BaseException:
        watch.off = True
        raise
    watch.node = ray.get_runtime_context().get_node_id()


class _TooBusy(Exception):
    """Ray's raylet ended itself while Ray started."""


def _end_processes(before: Container[psutil.Process]) -> None:
    """End Ray's processes that this one has started since then."""
    ours = [child for child in psutil.Process().children() if child not in before and _is_rays(child)]
    for child in ours:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(ours, timeout=5)


def _is_rays(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(part.startswith(ray.__path__[0]) for part in process.cmdline())
    return False


def explain(error: BaseException) -> str | None:
    """One line for an error of Ray itself; None for one that a task raised."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "it needs more memory than there is: Ray's memory monitor ended its process"
    if isinstance(error, ray.exceptions.RayTaskError) or not isinstance(error, ray.exceptions.RayError):
        return None
    return f"{type(error).__name__}: {_first(error)}"


def _in_a_line(data: dict[str, Any], ignore_prefix: bool) -> None:
    """Print the first line of Ray's message about a task that it killed or cannot place.

    Its warning of many Python processes is not for people: Ray Train starts a dozen small actors at once, as meant.
    """
    for text in data["lines"]:
        if "worker processes have been started on node" not in text:
            print(f"Ray: {text.strip().splitlines()[0][:250]}", file=sys.stderr, flush=True)


def _first(error: BaseException) -> str:
    """The first 300 characters of Ray's text, which may be a page, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__


class _Watch(threading.Thread):
    """Ends this command with one line when Ray's processes die, also while Ray starts: a driver may wait for ever for a
    dead node. Ray itself gives up on a raylet that died at the start; only where it does not, this does."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="ray-watch")
        self.node: str | None = None  # Ray's id for the node that it started here, once it has
        self.off = False
        self.raylet_died = False  # while Ray starts
        self.before = set(psutil.Process().children())  # may be of an earlier Ray of this process
        self.stderr = os.dup(2)  # Python's own is redirected while Ray starts

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
        self.raylet_died = self.node is None and gone == ["raylet"]
        # Both may have got a signal. In a regular shutdown Ray is no longer initialised when its processes end
        time.sleep(2)
        if ends.interrupted():
            return
        until = time.monotonic() + (GIVES_UP if self.raylet_died else 0)
        while not self.off and time.monotonic() < until:
            time.sleep(0.2)
        starting = self.node is None and not self.off
        if starting or (ray.is_initialized() and ray.get_runtime_context().get_node_id() == self.node):
            sys.stdout.flush()
            os.write(self.stderr, f"error: Ray's {gone[0]} died; the same command goes on where it stopped\n".encode())
            os._exit(1)  # Ray's other processes end with this one


def _is_gone(process: psutil.Process) -> bool:
    """Whether a child process has ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def _without(*lines: bytes) -> Iterator[None]:
    """Hold back what Python and C++ write to stderr; at the end, show the lines that contain none of `lines`."""
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
    """A reference to tensors put into Ray's object store as arrays, which tasks read without a copy; None for None."""
    return None if state is None else ray.put({name: value.numpy() for name, value in state.items()})
