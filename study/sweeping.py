"""What a sweep records while Ray Tune runs: the journal, MLflow's child runs, and a line a trial for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune import Callback

from study import tracking
from study.mirror import Mirror, mirror_trial
from study.searching import FINISHED, JournalSearch, Tried, best, write_tried
from trainables.config import TrialConfig
from trainables.losses import MeanVariance, loss_name


class Recorder(Callback):
    """Tune's callback in the driver: every finished trial to the journal, its own MLflow run, and the mirror."""

    def __init__(
        self,
        search: JournalSearch,
        folder: Path,
        store: tracking.Tracking,
        *,
        parent: str,
        key: str,
        block: str,
        mirror: Mirror,
    ) -> None:
        self.search, self.folder, self.store = search, folder, store
        self.parent, self.key, self.block = parent, key, block
        self.mirror = mirror
        self.runs: dict[int, str] = {}
        self.folds: dict[int, dict[str, float]] = {}
        self.last: dict[int, dict[str, Any]] = {}
        self.began: dict[int, float] = {}
        self.start = time.monotonic()
        self.here = 0

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        self.began[number], self.folds[number], self.last[number] = time.monotonic(), {}, {}
        config = TrialConfig.from_json(trial.config["trial"])
        self.runs[number] = tracking.find_or_start(
            self.store,
            key=f"{self.key}-{self.block}-{number}",
            name=f"{self.block} trial {number:03d} {config.backbone}",
            stage="trial",
            parent=self.parent,
            params=flat(config) | {"block": self.block},
            tags={"study.block": self.block, "study.trial": str(number)},
        )

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        number = trial.config["number"]
        step = int(result["step"])
        curve = {
            name: result[name]
            for name in ("validation_mae", "train_loss", "learning_rate", "faces_per_second")
            if name in result
        }
        if "mae" in result:
            self.folds[number][str(result["fold"])] = result["mae"]
            self.last[number] = result
            curve["mae"] = result["mae"]
        tracking.log_steps(self.store, self.runs[number], [(step, curve)])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end(trial, "failed", "the trial ended without a result")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = trial.get_error()
        text = str(getattr(error, "cause", error)).strip().splitlines()
        self._end(trial, "failed", text[-1] if text else "the trial's process died")

    def _end(self, trial: Any, state: str, why: str) -> None:
        number = trial.config["number"]
        last = self.last.get(number, {})
        if last.get("state") in FINISHED:
            state, why = last["state"], last.get("why", "")
        tried = Tried(
            number,
            state,
            trial.config["trial"],
            dict(self.search.asked[number][0].params),
            last.get("mae") if state != "failed" else None,
            last.get("people", {}),
            {str(row): value for row, value in last.get("predicted", {}).items()},
            self.folds.get(number, {}),
            time.monotonic() - self.began[number],
            why,
        )
        write_tried(self.folder, tried)
        self.search.journal[number] = tried
        self.here += 1
        final = {"final_mae": tried.mae} if tried.mae is not None and state == "complete" else {}
        status = "FAILED" if state in ("failed", "diverged") else "FINISHED"
        tracking.log_json(self.store, self.runs[number], "trial.json", {"trial": dict(tried.trial)})
        told = {"study.state": state, tracking.COMPLETE: "yes"} | ({"study.why": why} if why else {})
        tracking.finish(
            self.store,
            self.runs[number],
            metrics={**final, "seconds": tried.seconds},
            tags=told,
            status=status,
        )
        mirror_trial(self.mirror, tried, run_id=self.runs[number])
        print(self._line(tried), flush=True)

    def _line(self, tried: Tried) -> str:
        done, all_trials = len(self.search.journal), self.search.trials
        leader = best(self.search.journal)
        lead = f"best {leader.mae:.2f} (trial {leader.number})" if leader else "none complete yet"
        left = (time.monotonic() - self.start) / max(1, self.here) * (all_trials - done)
        score = f"MAE {tried.mae:.2f}" if tried.mae is not None else tried.why
        return (
            f"[{self.block}] {done}/{all_trials}  trial {tried.number:03d} {tried.state:<8} {score}  "
            f"{describe(tried.config)}  {tried.seconds:.0f} s | {lead} | {left / 60:.0f} min left"
        )


def flat(config: TrialConfig) -> dict[str, Any]:
    """MLflow's params of a trial: the paper's names for the weights of the loss beside our own."""
    values: dict[str, Any] = dict(config.flat())
    if isinstance(config.loss, MeanVariance):
        values |= {"lambda1": config.loss.mean_weight, "lambda2": config.loss.variance_weight}
    return values


def describe(config: TrialConfig) -> str:
    """What differs between trials, in a few words."""
    return f"{config.backbone} {config.px} px {describe_loss(config)} lr {config.learning_rate:.2g}"


def describe_loss(config: TrialConfig) -> str:
    """The loss and its weights: "λ1 0.2 λ2 0.05", or "dldl_v2 (sigma 2, expectation_weight 1)"."""
    if isinstance(config.loss, MeanVariance):
        return f"λ1 {config.loss.mean_weight:.3g} λ2 {config.loss.variance_weight:.3g}"
    weights = [f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in asdict(config.loss).items()]
    return loss_name(config.loss) + (f" ({', '.join(weights)})" if weights else "")


def best_table(journal: Mapping[int, Tried], *, most: int = 10) -> str:
    """The best complete trials, the best first, as text."""
    complete = sorted((t for t in journal.values() if t.state == "complete"), key=lambda t: (t.mae, t.number))
    rows = [["trial", "MAE", "backbone", "px", "loss", "lr", "seconds"]]
    for tried in complete[:most]:
        config = tried.config
        shown = [str(config.px), describe_loss(config)]
        rate, seconds = f"{config.learning_rate:.2g}", f"{tried.seconds:.0f}"
        rows.append([f"{tried.number:03d}", f"{tried.mae:.2f}", config.backbone, *shown, rate, seconds])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    count = {state: sum(t.state == state for t in journal.values()) for state in FINISHED}
    lines.append(", ".join(f"{number} {state}" for state, number in count.items() if number))
    return "\n".join(lines)
