"""What a sweep records while Ray Tune runs: the journal, MLflow's child runs, and one printed line per trial."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Callback

from study.artifacts.brands import branded
from study.cli.describe import describe, describe_loss
from study.sweep.checks import FINISHED
from study.sweep.journal import Part, Tried, best, ranked, write_part, write_tried
from study.sweep.naming import STATUS, epoch_metrics, final_metrics, state_of, trial_name, trial_params, varying
from study.sweep.optuna_storage import Mirror, mirror_trial
from study.sweep.search import BlockSearch
from study.tracking import runs as tracking
from trainables.config import TrialConfig
from trainables.trial import WORST_MAE


@dataclass(frozen=True)
class BlockRecord:
    """A block under way: the folder of its journal, its search, and its study in Optuna's storage."""

    name: str
    folder: Path
    search: BlockSearch
    mirror: Mirror


_EACH_FACE = ("people", "predicted", "halfway", "decoded")
"""What a fold's last row holds for each person or face."""

Which = tuple[str, int, int]
"""A trial: its block's name, its number, and which further seed of a finalist it is (0: none)."""


class Recorder(Callback):
    """Tune's callback in the driver: every finished fold and trial to the journal, a trial's MLflow run, the mirror.

    A finalist with another seed (repeat > 0) is kept apart in the journal and marked in MLflow; Optuna's storage,
    which numbers trials, does not show it.
    """

    def __init__(
        self,
        blocks: Sequence[BlockRecord],
        store: tracking.Tracking,
        *,
        parent: str,
        key: str,
        brand: str = "",
        datasets: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """parent, key: the sweep's run in MLflow and the key that its children's begin with. brand: the sweep's
        (study.artifacts.brands), datasets: what it trains on, both for each trial's run."""
        self.datasets = datasets
        self.fields = {block.name: varying(block.search.space, block.search.base) for block in blocks}
        self.blocks = {block.name: block for block in blocks}
        self.store, self.parent, self.key, self.brand = store, parent, key, brand
        self.runs: dict[Which, str] = {}
        self.last: dict[str, dict[str, Any]] = {}  # of Tune's trials
        self.began: dict[str, float] = {}
        self.at_work: set[str] = set()
        self.start = time.monotonic()
        self.here = 0

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.at_work.add(trial.trial_id)
        self._begin(trial)

    def _begin(self, trial: Any) -> None:
        self.began[trial.trial_id], self.last[trial.trial_id] = time.monotonic(), {}
        self._run(_which(trial), TrialConfig.from_json(trial.config["trial"]))

    def _run(self, which: Which, config: TrialConfig) -> str:
        """The trial's run in MLflow, begun with its first fold."""
        if which not in self.runs:
            block, number, repeat = which
            self.runs[which] = tracking.find_or_start(
                self.store,
                key=self._key(which),
                name=branded(trial_name(config, repeat=repeat), self.brand),
                stage="trial",
                parent=self.parent,
                params=trial_params(config, block, number, self.fields[block]),
                datasets=self.datasets,
                tags={
                    "study.block": block,
                    "study.trial": str(number),
                    "study.brand": self.brand or "none",
                    **({"study.final": str(repeat)} if repeat else {}),
                },
            )
        return self.runs[which]

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        # Tune would keep each face's numbers, with statistics of every one of them
        each_face = {name: result.pop(name) for name in _EACH_FACE if name in result}
        if result["state"] in FINISHED:
            self.last[trial.trial_id] = {**result, **each_face}
        which, config = _which(trial), TrialConfig.from_json(trial.config["trial"])
        if not self.blocks[which[0]].search.is_over(which[1:]):
            curve = epoch_metrics(result["fold"], result)
            tracking.log_steps(self.store, self._run(which, config), [(result["epoch"], curve)])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end(trial, "the training ended without a result")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        file = Path(trial.error_file)  # Tune copies it to where get_error() looks only later
        self._end(trial, reason(file.read_text() if file.is_file() else ""))

    def _end(self, trial: Any, why: str) -> None:
        """A fold has ended: into the journal, and to its block's search."""
        if trial.trial_id not in self.began:  # its process was ended before it could start
            self._begin(trial)
        self.at_work.discard(trial.trial_id)
        name, number, repeat = _which(trial)
        trial.config["rival"] = {}  # it has done its part, and Tune keeps the point
        block = self.blocks[name]
        if block.search.is_over((number, repeat)):  # its trial ended while it ran side by side with others
            return
        last = self.last.pop(trial.trial_id) or {"state": "failed", "why": why}
        mae = last.get("mae") if last["state"] != "failed" else None
        if mae is not None and not math.isfinite(mae):  # never to be chosen, nor passed to Optuna
            last = {"state": "diverged", "why": f"its MAE is {mae}", "latency_ms": last.get("latency_ms", 0.0)}
            mae = WORST_MAE
        part = Part(
            number,
            repeat,
            trial.config["fold"],
            last["state"],
            trial.config["trial"],
            mae,
            people=last.get("people", {}),
            predicted={str(row): years for row, years in last.get("predicted", {}).items()},
            halfway=last.get("halfway", {}),
            decoded=last.get("decoded", {}),
            seconds=last.get("fold_seconds", time.monotonic() - self.began[trial.trial_id]),
            why=last.get("why", ""),
            latency_ms=last.get("latency_ms", 0.0),
        )
        write_part(block.folder, part)
        block.search.receive(part)
        self.write_over()

    def write_over(self) -> None:
        """Every trial that is over since the last call: to the journal, to MLflow, to the mirror, and a line."""
        for block in self.blocks.values():
            for tried in block.search.take_over():
                write_tried(block.folder, tried)
                self.here += 1
                run = self._run((block.name, tried.number, tried.repeat), tried.config)
                self._finish_run(run, tried)
                if not tried.repeat:
                    mirror_trial(block.mirror, tried, run_id=run)
                print(self._line(block, tried), flush=True)

    def make_good(self) -> None:
        """End the run of every trial that the journal has and MLflow has not: a kill came between the two."""
        there = tracking.children(self.store, self.parent, complete=True)
        for block in self.blocks.values():
            for tried in [*block.search.journal.values(), *block.search.finals.values()]:
                which = (block.name, tried.number, tried.repeat)
                if self._key(which) not in there:
                    self._finish_run(self._run(which, tried.config), tried)

    def _key(self, which: Which) -> str:
        block, number, repeat = which
        return f"{self.key}-{block}-{number}" + (f"-seed{repeat}" if repeat else "")

    def _finish_run(self, run: str, tried: Tried) -> None:
        state = state_of(tried)
        so_far = [(int(fold) + 1, {"folds/mae": mae}) for fold, mae in tried.folds.items()]
        tracking.log_steps(self.store, run, so_far)
        tracking.log_json(self.store, run, "trial.json", {"trial": dict(tried.trial)})
        tags = {"study.state": state, tracking.COMPLETE: "yes"}
        tags |= {"study.why": tried.why} if tried.why else {}
        name = branded(trial_name(tried.config, repeat=tried.repeat, state=state, mae=tried.mae), self.brand)
        tracking.finish(
            self.store, run, metrics=final_metrics(tried), tags=tags, status=STATUS[state], name=name,
            seconds=tried.seconds,
        )  # fmt: skip

    def _line(self, block: BlockRecord, tried: Tried) -> str:
        search = block.search
        leader = best(search.journal)
        lead = f"best {leader.mae:.2f} (trial {leader.number})" if leader else "none complete yet"
        missing = sum(each.search.missing for each in self.blocks.values())
        left = (time.monotonic() - self.start) / self.here * missing
        score = f"MAE {tried.mae:.2f}" if tried.mae is not None else tried.why
        done = f"seed {tried.config.seed}" if tried.repeat else progress(search)
        return (
            f"[{block.name}] {done}  trial {tried.number:03d} {tried.state:<8} {score}  "
            f"{describe(tried.config)}  {tried.seconds:.0f} s | {lead} | {left / 60:.0f} min left"
        )


def progress(search: BlockSearch) -> str:
    """How many trials of a block are there: "5 of 12", or "5" where it spends by cost."""
    return f"{len(search.journal)}" + ("" if search.budget is not None else f" of {search.trials}")


def _which(trial: Any) -> Which:
    return trial.config["block"], trial.config["number"], trial.config["repeat"]


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
