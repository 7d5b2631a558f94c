"""Many processes that write runs through study.tracking at once, each like a command: see tracking_server.py.

    python -m tests.tracking.tracking_writers --writers 64 --runs 4 --homes FOLDER

They write to the server of MLFLOW_TRACKING_URI. Status 1 where a writer could not send all its records.
"""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import tyro

from study.tracking import runs as tracking
from study.tracking import spool
from study.tracking.outage import write as send

STEPS = 5


@dataclass(frozen=True)
class Options:
    """How much is written: half of the runs in one call each, like a fold, half in several calls, like a trial."""

    homes: Path
    """Folder for the records that wait, one subfolder per writer."""
    writers: int = 64
    runs: int = 4


def write(store: tracking.Tracking, parent: str, writer: int, number: int) -> None:
    """One run of 2 * STEPS + 1 metric values."""
    about = {"key": f"w{writer}-{number}", "name": f"writer {writer} run {number}", "parent": parent}
    curve = [(step, {"loss": 1 / (step + 1), "mae": 9.0 - step}) for step in range(STEPS)]
    if number % 2:
        params = {"writer": writer, "number": number}
        steps = [*curve, (STEPS, {"seconds": 1.0})]
        send(store, tracking.whole_run(None, **about, stage="fold", params=params, steps=steps))
        return
    run = tracking.find_or_start(store, **about, stage="trial", params={"writer": writer}, tags={"study.trial": "1"})
    for step in curve:
        tracking.log_steps(store, run, [step])
    tracking.log_json(store, run, "trial.json", {"writer": writer, "number": number})
    tracking.finish(store, run, metrics={"seconds": 1.0}, tags={tracking.COMPLETE: "yes"})


def run_writer(options: Options, parent: str, writer: int) -> None:
    """One writer's process."""
    try:
        store = tracking.connect(home=options.homes / str(writer))
        for number in range(options.runs):
            write(store, parent, writer, number)
        left = [spool.at_end[store.spool.folder](wait=True)] if store.spool else []
    except Exception:
        traceback.print_exc()
        left = ["failed"]
    sys.exit(any(left))


def main(options: Options) -> int:
    """Fork the writers: with MLflow imported only once, a small machine has room for 64 of them."""
    store = tracking.connect(home=options.homes / "parent")
    parent = tracking.find_or_start(store, key="writers", name="writers", stage="lopo")
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=run_writer, args=(options, parent, number)) for number in range(options.writers)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    failed = sum(process.exitcode != 0 for process in writers)
    tracking.finish(store, parent, status="FAILED" if failed else "FINISHED")
    print(f"{failed} of {options.writers} writers failed")
    return int(failed > 0 or any(spool.settle(wait=True)))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
