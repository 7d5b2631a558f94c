"""Ray, started in one way by every command."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray._private import worker
from ray._private.state import state


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
    watch = _Watch()
    watch.start()
    try:
        with _without(b"Set ray log level"):
            ray.init(
                address="local",
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                object_store_memory=object_store_bytes,
                include_dashboard=False,
                log_to_driver=log_to_driver,
                logging_level=logging.WARNING,
            )
    except BaseException:
        watch.off = True
        raise
    watch.node = worker._global_node


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
        time.sleep(2)  # at a proper shutdown Ray says that it is over before it ends its processes
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


def room() -> dict[str, float]:
    """CPU and GPU that Ray has or, where its workers come and go, may come to have by its cluster's config.

    A cluster whose workers scale from zero has no GPU until something asks for one. What may come is what the
    autoscaler reported or, on the head of a cluster that `ray up` made, what its config declares.
    """
    there = ray.cluster_resources()
    most = state.get_max_resources_from_cluster_config() or declared(Path.home() / "ray_bootstrap_config.yaml")
    return {name: max(float(there.get(name, 0)), float(most.get(name, 0))) for name in ("CPU", "GPU")}


def declared(file: Path) -> dict[str, float]:
    """CPU and GPU of all workers that a cluster config allows; nothing where there is no such file."""
    if not file.is_file():
        return {}
    config = yaml.safe_load(file.read_text()) or {}
    most: dict[str, float] = {}
    for kind in (config.get("available_node_types") or {}).values():
        workers = min(int(kind.get("max_workers", 0)), int(config.get("max_workers", 0)))
        for name, each in (kind.get("resources") or {}).items():
            most[name] = most.get(name, 0.0) + workers * float(each)
    return most


def gpu_share(asked: float | None) -> float:
    """The share of a GPU that a training takes: as asked, else a quarter where Ray has GPUs, else none."""
    if asked is not None:
        return asked
    return 0.25 if room()["GPU"] else 0.0


def side_by_side(cpus: int | float, gpus: float) -> int:
    """How many processes of so many CPUs and (shares of) GPUs the cluster holds at once, when it is full grown."""
    there = room()
    fit = [there[name] / each for name, each in (("CPU", cpus), ("GPU", gpus)) if each]
    return int(min(fit) + 1e-6)


def fits(cpus: int, gpus: float) -> int:
    """How many trainings the cluster holds side by side. Raises ValueError where it holds none."""
    most = side_by_side(cpus, gpus)
    if most < 1:
        there = room()
        raise ValueError(
            f"no room for one trial of {cpus} CPUs and {gpus:g} GPUs: Ray has {there['CPU']:g} CPUs and "
            f"{there['GPU']:g} GPUs; where machines are still to come, say how many trials are to run side by side: "
            "--parallel N"
        )
    return most
