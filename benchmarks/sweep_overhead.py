"""Share of a sweep's wall time that its trials take. The rest is Tune, Optuna, MLflow, the journal and Ray's start.

    python -m benchmarks.sweep_overhead --faces runs/synthetic/people --trials 8 --epochs 7

Runs study.sweep as a user types it, with trials of about a minute on all cores, and divides the seconds that the trials
took, in their own processes, by the command's wall time times the trials side by side. Start-up is counted, and so is
the end, where one core waits for the other's last trial: `--trials` should be a multiple of the cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """Of the sweep that is timed."""

    faces: Path = Path("runs/synthetic/people")
    px: int = 48
    epochs: int = 7
    trials: int = 8
    backbone: str = "efficientnet_lite0"
    parallel: int = 2
    bar: float = 0.95


def main(options: Options) -> int:
    """Prints the share; status 1 below the bar."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "start.json").write_text(json.dumps({"backbone": options.backbone}))
        command = [
            sys.executable, "-m", "study.sweep", "--faces", str(options.faces.resolve()), "--trial", "start.json",
            "--space", "mean_variance", "--select", "none", "--trials", str(options.trials), "--finalists", "0",
            "--prune", "0", "--px", str(options.px), "--epochs", str(options.epochs),
            "--parallel", str(options.parallel), "--out", "runs/sweeps",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
        began = time.monotonic()
        subprocess.run(command, cwd=place, env=environment, check=True)
        wall = time.monotonic() - began
        files = sorted((place / "runs/sweeps/mean_variance/all").glob("*.json"))
        records = [json.loads(file.read_text()) for file in files]
    assert [record["state"] for record in records] == ["complete"] * options.trials, records
    # counted in the trial's own process: not what that took to start, nor what Tune took to hear of the end
    took = [record["seconds"] for record in records]
    trained = sum(took)
    share = trained / (wall * options.parallel)
    print(
        f"{options.trials} trials of {min(took):.0f} to {max(took):.0f} s, {options.parallel} side by side: wall "
        f"{wall:.0f} s, in trials {trained:.0f} s: {share:.1%} (bar {options.bar:.0%})"
    )
    return 0 if share >= options.bar else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m benchmarks.sweep_overhead", description=__doc__)))
