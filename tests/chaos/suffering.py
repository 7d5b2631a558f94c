"""Runs one command with one fault until it ends with 0, and measures what that cost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from tests.chaos.faults import QUIET, Fault, Tracking, made, small_disk
from tests.chaos.kills import ended, units_again
from tests.chaos.stages import STAGES, Runs, prepare, read_log, read_runs, start, store_of
from tests.chaos.torn import torn_files

LIMIT = 300.0
"""Seconds that a command may take beyond its undisturbed time and the fault's duration before it counts as hung."""
_PEOPLE = {"pretrain": 16}
"""People in the generated table, where not 8: pretraining keeps a tenth of them to measure on."""
_SMALL = {
    "align": (),
    "pretrain": ("--epochs", "6"),
    "sweep": ("--trials", "4", "--epochs", "1"),
    "lopo": ("--epochs", "1"),
}
HEADER = (
    f"{'stage':9} {'fault':9} {'struck at':>10} {'commands ended':>15} {'lost s':>7} {'again':>6} {'records lost':>13} "
    f"{'doubled':>8} {'metrics':>8} {'torn':>5} result"
)


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed stage leaves, and how long it takes."""

    result: object
    runs: Runs
    seconds: float


@dataclass(frozen=True)
class Ordeal:
    """A stage and a fault to inject. away: the fault's duration in seconds. tracking: the server, if it needs one."""

    stage: str
    kind: str
    away: float
    expected: Undisturbed
    tracking: Tracking | None
    draw: random.Random


@dataclass(frozen=True)
class Row:
    """What one fault did. at: seconds after the command's start, or None if it never struck. again: finished units that
    were done again. lost, doubled: runs in MLflow. metrics: runs with other metrics. pages: tracebacks instead of one
    line. hung: commands that were killed after LIMIT."""

    stage: str
    kind: str
    at: float | None
    statuses: tuple[int, ...]
    lost_seconds: float
    again: int
    lost: int
    doubled: int
    metrics: int
    torn: int
    pages: int
    hung: int
    same: bool

    @property
    def survived(self) -> bool:
        """Whether the fault struck and left no trace."""
        traces = self.lost + self.doubled + self.metrics + self.torn + self.pages + self.hung
        return self.at is not None and self.same and not traces

    @property
    def line(self) -> str:
        """The row as text."""
        at = "never" if self.at is None else f"{self.at:.1f} s"
        ended = " ".join(map(str, self.statuses))
        result = "the same" if self.same else "DIFFERS"
        result += f", {self.pages} tracebacks" if self.pages else ""
        result += f", {self.hung} hung" if self.hung else ""
        return (
            f"{self.stage:9} {self.kind:9} {at:>10} {ended:>15} {self.lost_seconds:7.0f} {self.again:6} {self.lost:13} "
            f"{self.doubled:8} {self.metrics:8} {self.torn:5} {result}"
        )


def undisturbed(place: Path, stage: str, tracking: Tracking | None) -> Undisturbed:
    """Run the stage undisturbed in a new folder, with its own MLflow store or the server of `tracking`."""
    environment = None if tracking is None else tracking.mlflow.key()
    if tracking is not None:
        _empty_server(tracking)
    _prepare(place, stage)
    began = time.monotonic()
    status = start(place, stage, _words(stage), environment=environment).wait()
    assert status == 0, read_log(place)
    seconds = time.monotonic() - began
    return Undisturbed(STAGES[stage].result(place), read_runs(_client(place, tracking)), seconds)


def suffer(place: Path, ordeal: Ordeal) -> Row:
    """Run the command with the fault, and again until it ends with 0. If the fault missed it, try twice more."""
    within = ordeal.expected.seconds
    for attempt in range(3):
        row = _suffer(place.with_name(f"{place.name}-{attempt}"), ordeal, within)
        if row.at is not None:
            break
        within = min(within, ordeal.expected.seconds + row.lost_seconds)
    return row


def _suffer(place: Path, ordeal: Ordeal, within: float) -> Row:
    """within: seconds from the command's start in which the fault strikes."""
    tracking = ordeal.tracking
    if tracking is not None:
        _empty_server(tracking)
    with contextlib.ExitStack() as around:
        if ordeal.kind == "disk":
            around.enter_context(small_disk(place))
        _prepare(place, ordeal.stage)
        fault = around.enter_context(made(ordeal.kind, ordeal.stage, place, tracking, ordeal.draw))
        began = time.monotonic()
        at, statuses, again, torn, hung = _until_done(place, ordeal, fault, within)
        lost_seconds = time.monotonic() - began - ordeal.expected.seconds
        log = read_log(place)
        pages = log.count("Traceback (most recent") if ordeal.kind in QUIET else 0
        same, lost, doubled, metrics = False, len(ordeal.expected.runs.keys), 0, 0
        if statuses[-1] == 0:
            same = STAGES[ordeal.stage].result(place) == ordeal.expected.result
            lost, doubled, metrics = _compare(ordeal.expected.runs, read_runs(_client(place, tracking)))
    row = Row(
        ordeal.stage, ordeal.kind, at, statuses, lost_seconds, again, lost, doubled, metrics, torn, pages, hung, same
    )
    if at is not None and not row.survived:
        print(f"{log[-20000:]}\n--- the end of the output of {ordeal.stage} with {ordeal.kind}", flush=True)
    return row


def _until_done(
    place: Path, ordeal: Ordeal, fault: Fault, within: float
) -> tuple[float | None, tuple[int, ...], int, int, int]:
    """Type the command until it ends with 0, at most six times. Returns when the fault struck, the commands' statuses,
    and how many finished units were done again, files were torn, and commands hung."""
    stage, usual = STAGES[ordeal.stage], ordeal.expected.seconds
    moment = ordeal.draw.uniform(0.1, 0.9) * within
    struck: float | None = None
    at: float | None = None
    statuses: list[int] = []
    again = torn = hung = 0
    whole = False
    while len(statuses) < 6:
        units = stage.units(place)
        environment = {"PYTHONFAULTHANDLER": "1", **fault.environment}
        process = start(place, ordeal.stage, _words(ordeal.stage), environment=environment)
        began = time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            now = time.monotonic()
            if struck is None and now - began >= moment and fault.strike(process):
                struck, at = now, now - began
                again, units = again + units_again(stage, place, units), stage.units(place)
            if struck is not None and not whole and now - struck >= ordeal.away:
                fault.mend()
                whole = True
            if now - began > usual + ordeal.away + LIMIT:
                process.send_signal(signal.SIGABRT)  # its stacks go to the log
                ended(process, 30)
                process.kill()
                process.wait()
                hung += 1
        if struck is not None and not whole and process.returncode != 0:
            fault.mend()
            whole = True
        statuses.append(process.returncode)
        again, torn = again + units_again(stage, place, units), torn + len(torn_files(place))
        if process.returncode == 0:
            break
    if struck is not None and not whole:
        fault.mend()
    return at, tuple(statuses), again, torn, hung


def _compare(expected: Runs, found: Runs) -> tuple[int, int, int]:
    """How many runs are lost (missing, or not ended as expected), doubled, or have other metrics."""
    lost = (expected.keys - found.keys).total() + (found.unfinished - expected.unfinished).total()
    doubled = (found.keys - expected.keys).total()
    return lost, doubled, sum(found.metrics.get(key) != metrics for key, metrics in expected.metrics.items())


def _empty_server(tracking: Tracking) -> None:
    """Give this process the password, and rename the experiment with the server's earlier runs."""
    os.environ.update({name: value for name, value in tracking.mlflow.key().items() if name != "MLFLOW_TRACKING_URI"})
    client = MlflowClient(tracking.mlflow.uri)
    for there in client.search_experiments(filter_string="name LIKE 'age-study%'"):
        client.rename_experiment(there.experiment_id, f"done-{time.time_ns()}")


def _client(place: Path, tracking: Tracking | None) -> MlflowClient:
    return store_of(place) if tracking is None else MlflowClient(tracking.mlflow.uri)


def _prepare(place: Path, stage: str) -> None:
    prepare(place, people=_PEOPLE.get(stage, 8))


def _words(stage: str) -> tuple[str, ...]:
    return (*STAGES[stage].words, *_SMALL[stage])


def print_table(rows: Sequence[Row]) -> None:
    """Print a row per kind of fault: how many struck, how many were survived, and their cost."""
    print(f"\n{'fault':9} {'struck':>7} {'survived':>9} {'lost s, each':>13} {'units again':>12} {'records lost':>13}")
    struck = Counter(row.kind for row in rows if row.at is not None)
    for kind, count in struck.items():
        ours = [row for row in rows if row.kind == kind and row.at is not None]
        seconds = sum(row.lost_seconds for row in ours) / count
        print(
            f"{kind:9} {count:7} {sum(row.survived for row in ours):9} {seconds:13.0f} "
            f"{sum(row.again for row in ours):12} {sum(row.lost for row in ours):13}"
        )
    missed = sum(row.at is None for row in rows)
    print(
        f"{'all':9} {struck.total():7} {sum(row.survived for row in rows):9}"
        + (f", {missed} never struck" if missed else "")
    )
