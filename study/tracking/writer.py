"""A process that writes finished runs to MLflow behind a command that has many: MLflow's own work is most of a run's.

    python -m study.tracking.writer LOCK

It reads lines of JSON from its standard input: where MLflow is (not an argument, since an address may hold a password,
and every user sees arguments), then records, in order, until the line "end" or the end of the input. It holds LOCK
meanwhile, and says "ready" once it does; a command sends nothing before. So a rerun of a command that was killed waits
for the records that were still being written, and then sees which runs are missing: none is there twice.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import filelock

if TYPE_CHECKING:
    from study.tracking.records import Record, Tracking

MANY = 50
"""Runs from which on they get a process of their own, whose start takes two to three seconds of another core."""

PATIENCE, GRACE = 600.0, 5.0
"""Seconds that a rerun waits for the records of a killed command; and that an interrupted one waits for its own."""


@contextmanager
def behind(tracking: Tracking, lock: Path, *, runs: int) -> Iterator[Callable[[Record], None]]:
    """A function that writes records of whole runs, which may lag behind until the block ends.

    lock: a file of this command's result. Call wait_for_earlier with it before asking which runs there are. runs: how
    many to expect; fewer than MANY are written by this process, at once. Where the block raises, some of the records
    may be lost. Raises OSError where they cannot be written, at the next record or at the end.
    """
    if runs < MANY:
        from study.tracking.outage import write

        def put(record: Record) -> None:
            write(tracking, record)

        yield put
        return
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    process = _start(lock)
    lines.put(_place(tracking))
    feeder = threading.Thread(target=_feed, args=(process, lines), daemon=True, name="mlflow-records")
    feeder.start()

    def add(record: Record) -> None:
        if process.poll() is not None:
            raise OSError(_why(process))
        lines.put(json.dumps(asdict(record)))

    try:
        yield add
    except BaseException:
        lines.put(None)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        raise
    lines.put(None)
    _wait(process, lines)
    if process.returncode:
        raise OSError(_why(process))


def wait_for_earlier(lock: Path) -> None:
    """Return when no process writes the records of an earlier command that was killed. Raises OSError after 10 min."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(lock, timeout=1.0)
    with suppress(filelock.Timeout), held:
        return
    print("Waiting for the MLflow runs of the command before, which are still being written", file=sys.stderr)
    try:
        with filelock.FileLock(lock, timeout=PATIENCE):
            return
    except filelock.Timeout:
        raise OSError(
            f"MLflow runs of an earlier command are still being written after {PATIENCE:.0f} s, by a process that "
            f"holds {lock}: end it, and type the same command again"
        ) from None


def _place(tracking: Tracking) -> str:
    spool = str(tracking.spool.folder) if tracking.spool else ""
    return json.dumps({"uri": tracking.uri, "experiment": tracking.experiment, "spool": spool})


def _start(lock: Path) -> subprocess.Popen[str]:
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # a test's folder is not the project's
    return subprocess.Popen(
        [sys.executable, "-m", "study.tracking.writer", str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,  # Ctrl-C is the command's: what it sent before is still written
    )


def _feed(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    """Send the queue's lines, once the process holds the lock, until a None; a pipe holds only some of them."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError, ValueError):  # it ended: its status says so
        if process.stdout.readline().strip() == "ready":
            while (line := lines.get()) is not None:
                process.stdin.write(line + "\n")
                if lines.empty():
                    process.stdin.flush()
            process.stdin.write("end\n")
        process.stdin.close()


def _wait(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    """Wait until the process has written everything, with a line every half minute."""
    said = time.monotonic()
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        if time.monotonic() > said + 30.0:
            said = time.monotonic()
            print(f"Writing MLflow's runs: {lines.qsize()} or a few more are left", file=sys.stderr, flush=True)


def _why(process: subprocess.Popen[str]) -> str:
    """One line on why the writer ended, as it said itself."""
    said = process.stdout.read().strip() if process.stdout else ""
    return said or (
        f"the process that writes MLflow's runs ended with status {process.returncode}: type the same command again, "
        "which writes those that are missing"
    )


def main(lock: str, lines: IO[str]) -> int:
    """Write the records of `lines`, of which the first says where; the exit status.

    Standard output gets "ready", and an error as one line.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints here must not fill the pipe
    with filelock.FileLock(lock):
        print("ready", file=answers, flush=True)
        # imported under the lock: it takes seconds, in which the command may be killed and typed again
        from study.tracking.outage import write
        from study.tracking.records import Tracking
        from study.tracking.spool import Spool

        place = lines.readline()
        if not place.endswith("\n"):  # the command was killed before it sent anything
            return 0
        told = json.loads(place)
        tracking = Tracking(told["uri"], told["experiment"], Spool(Path(told["spool"])) if told["spool"] else None)
        try:
            for line in lines:
                if line == "end\n" or not line.endswith("\n"):  # the command was killed while it sent this one
                    break
                write(tracking, _record(json.loads(line)))
        except Exception as error:
            with suppress(OSError):  # nobody listens any more
                print(" ".join(str(error).split()) or type(error).__name__, file=answers, flush=True)
            return 1
    return 0


def _record(told: dict[str, Any]) -> Record:
    from study.tracking.records import Begin, Record

    return Record(**{**told, "begin": told["begin"] and Begin(**told["begin"])})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.stdin))
