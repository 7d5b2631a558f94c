"""What a sweep records while Ray Tune runs: the journal, MLflow's child runs, and a line a trial for people."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from study.cli.describe import describe, describe_loss, flat
from study.sweep.finalists import finals_folder
from study.sweep.journal import FINISHED
from study.sweep.optuna_storage import Mirror, mirror_trial
from study.sweep.search import Tried, best, ranked, write_tried
from study.tracking import runs as tracking
from trainables.config import TrialConfig
from trainables.costs import count_cost
from trainables.trial import WORST_MAE


class Recorder(Callback):
    """Tune's callback in the driver: every finished trial to the journal, its own MLflow run, and the mirror.

    A finalist with another seed (point["repeat"]) is kept beside the journal and marked in MLflow; Optuna's storage,
    which numbers trials, does not show it.
    """

    def __init__(
        self,
        journal: dict[int, Tried],
        folder: Path,
        store: tracking.Tracking,
        *,
        parent: str,
        key: str,
        block: str,
        mirror: Mirror,
        trials: int,
        expected: int,
        brand: str = "",
    ) -> None:
        """trials: of the block in all. expected: at most so many will run here, finalists' seeds among them. brand: the
        sweep's (study.artifacts.brands), for each trial's run in MLflow."""
        self.journal, self.folder, self.store = journal, folder, store
        self.parent, self.key, self.block, self.trials = parent, key, block, trials
        self.mirror, self.expected, self.brand = mirror, expected, brand
        self.runs: dict[tuple[int, int], str] = {}
        self.folds: dict[tuple[int, int], dict[str, float]] = {}
        self.last: dict[tuple[int, int], dict[str, Any]] = {}
        self.began: dict[tuple[int, int], float] = {}
        self.at_work: set[tuple[int, int]] = set()
        self.start = time.monotonic()
        self.here = 0

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._begin(trial)
        self.at_work.add(_which(trial))

    def _begin(self, trial: Any) -> None:
        which = number, repeat = _which(trial)
        self.began[which], self.folds[which], self.last[which] = time.monotonic(), {}, {}
        config = TrialConfig.from_json(trial.config["trial"])
        self.runs[which] = tracking.find_or_start(
            self.store,
            key=f"{self.key}-{self.block}-{number}" + (f"-seed{repeat}" if repeat else ""),
            name=f"{self.block} trial {number:03d} {config.backbone}" + (f", seed {config.seed}" if repeat else ""),
            stage="trial",
            parent=self.parent,
            params=flat(config) | {"block": self.block},
            tags={
                "study.block": self.block,
                "study.trial": str(number),
                "study.brand": self.brand or "none",
                **({"study.final": str(repeat)} if repeat else {}),
            },
        )

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        which = _which(trial)
        step = int(result["step"])
        curve = {
            name: result[name]
            for name in ("validation_mae", "train_loss", "learning_rate", "faces_per_second")
            if name in result
        }
        if result.get("people"):  # a fold is over
            self.folds[which][str(result["fold"])] = result["mae"]
            curve["mae"] = result["mae"]
        if "mae" in result or result["state"] in FINISHED:
            self.last[which] = result
        tracking.log_steps(self.store, self.runs[which], [(step, curve)])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end(trial, "failed", "the trial ended without a result")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        file = Path(trial.error_file)  # Tune copies it to where get_error() looks only later
        self._end(trial, "failed", reason(file.read_text() if file.is_file() else ""))

    def _end(self, trial: Any, state: str, why: str) -> None:
        which = number, repeat = _which(trial)
        if which not in self.runs:  # its process was ended before it could start
            self._begin(trial)
        self.at_work.discard(which)
        last = self.last.get(which, {})
        if last.get("state") in FINISHED:
            state, why = last["state"], last.get("why", "")
        if last.get("mae") is not None and not math.isfinite(last["mae"]):  # never to be chosen, nor told to Optuna
            state, why = "diverged", f"its MAE is {last['mae']}"
            self.folds[which] = {}
            last = {"mae": WORST_MAE, "latency_ms": last.get("latency_ms", 0.0)}
        config = TrialConfig.from_json(trial.config["trial"])
        cost = count_cost(config.backbone, config.px, config.ages)
        tried = Tried(
            number,
            state,
            trial.config["trial"],
            trial.config["params"],
            last.get("mae") if state != "failed" else None,
            last.get("people", {}),
            {str(row): value for row, value in last.get("predicted", {}).items()},
            self.folds.get(which, {}),
            last.get("trial_seconds", time.monotonic() - self.began[which]),
            why,
            cost.parameters,
            cost.macs,
            last.get("latency_ms", 0.0),
            repeat,
            last.get("halfway", {}),
        )
        write_tried(finals_folder(self.folder) if repeat else self.folder, tried)
        if not repeat:
            self.journal[number] = tried
        self.here += 1
        run = self.runs[which]
        final = {"final_mae": tried.mae} if tried.mae is not None and state == "complete" else {}
        status = "FAILED" if state in ("failed", "diverged") else "FINISHED"
        tracking.log_json(self.store, run, "trial.json", {"trial": dict(tried.trial)})
        told = {"study.state": state, tracking.COMPLETE: "yes"} | ({"study.why": why} if why else {})
        costs = {"seconds": tried.seconds, "parameters": tried.parameters, "macs": tried.macs}
        costs |= {"latency_ms": tried.latency_ms} if tried.latency_ms else {}
        tracking.finish(self.store, run, metrics={**final, **costs}, tags=told, status=status)
        if not repeat:
            mirror_trial(self.mirror, tried, run_id=run)
        print(self._line(tried), flush=True)

    def _line(self, tried: Tried) -> str:
        leader = best(self.journal)
        lead = f"best {leader.mae:.2f} (trial {leader.number})" if leader else "none complete yet"
        left = (time.monotonic() - self.start) / self.here * (self.expected - self.here)
        score = f"MAE {tried.mae:.2f}" if tried.mae is not None else tried.why
        done = f"seed {tried.config.seed}" if tried.repeat else f"{len(self.journal)}/{self.trials}"
        return (
            f"[{self.block}] {done}  trial {tried.number:03d} {tried.state:<8} {score}  "
            f"{describe(tried.config)}  {tried.seconds:.0f} s | {lead} | {left / 60:.0f} min left"
        )


def _which(trial: Any) -> tuple[int, int]:
    """A trial's number, and which further seed of a finalist it is (0: none)."""
    return trial.config["number"], trial.config.get("repeat", 0)


def reason(text: str) -> str:
    """One line on why a trial's process failed, from Ray's text on it, which is a page for one that was killed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(sign in text for sign in ("memory pressure", "(OOM)", "OutOfMemoryError", "out of memory")):
        return "it needs more memory than there is: Ray's memory monitor ended its process"
    return lines[-1][:300] if lines else "the trial's process died"


def best_table(journal: Mapping[int, Tried], finals: Sequence[Tried] = (), *, most: int = 10) -> str:
    """The best complete trials, the best first, as text; finalists with the MAE of each further seed."""
    rows = [["trial", "MAE", "backbone", "frozen", "px", "loss", "lr", "seconds"]]
    for tried in ranked(journal)[:most]:
        config = tried.config
        shown = [str(config.frozen), str(config.px), describe_loss(config)]
        rate, seconds = f"{config.learning_rate:.2g}", f"{tried.seconds:.0f}"
        again = [f"{f.mae:.2f}" if f.mae is not None else f.state for f in finals if f.number == tried.number]
        mae = " ".join([f"{tried.mae:.2f}", *again])
        rows.append([f"{tried.number:03d}", mae, config.backbone, *shown, rate, seconds])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    count = {state: sum(t.state == state for t in journal.values()) for state in FINISHED}
    lines.append(", ".join(f"{number} {state}" for state, number in count.items() if number))
    return "\n".join(lines)
