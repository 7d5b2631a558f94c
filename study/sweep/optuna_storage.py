"""The sweep's trials in Optuna's own storage: what optuna-dashboard shows, live and afterwards.

A mirror, never read by the sweep: the journal (study.sweep.search) remains the source of truth. Only finished trials
are written, each in one transaction, so that a kill at any moment leaves no trial that runs for ever, as a study that
is optimised in its storage does; what is missing or differs is made good at the next start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import sqlalchemy.exc
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Space
from study.sweep.journal import Tried
from study.sweep.search import COSTS, Objective, directions
from study.tracking.sqlite import sqlite_uri
from trainables.config import TrialConfig

STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
"""Optuna's word for the journal's. A diverged trial has no MAE to show: the 100 years that the sampler is told would
flatten every plot."""


BROKEN = (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, RuntimeError)
"""What a storage raises that is locked, damaged, or (RuntimeError) of another version of Optuna."""


@dataclass(frozen=True)
class Mirror:
    """One block's study in the sweep's storage: folder is the sweep's, space and base what its trials came from."""

    folder: Path
    block: str
    space: Space
    base: TrialConfig
    objective: Objective = "mae"

    @property
    def file(self) -> Path:
        """The SQLite file of all blocks."""
        return self.folder / "optuna.db"

    @property
    def study(self) -> str:
        """Its name in Optuna: sweep/block."""
        return f"{self.folder.resolve().name}/{self.block}"


def as_trial(mirror: Mirror, tried: Tried, *, run_id: str = "") -> FrozenTrial:
    """A finished trial in Optuna's terms: MAE (years) as value, with the objective's cost where it has one; by fold.

    Its attributes say the journal's number and state, backbone, seconds, MLflow run and, where it failed, why.
    """
    state = STATES[tried.state]
    told = {
        "number": tried.number,
        "state": tried.state,
        "backbone": str(tried.trial["backbone"]),
        "seconds": round(tried.seconds, 1),
        "mlflow_run": run_id,
        "why": tried.why,
        "parameters": tried.parameters or "",
        "macs": tried.macs or "",
        "latency_ms": round(tried.latency_ms, 2) or "",
    }
    values = None if state == TrialState.FAIL or tried.mae is None else [tried.mae]
    if values and mirror.objective in COSTS:
        # a trial of two objectives has no pruned value in Optuna
        values = [*values, getattr(tried, COSTS[mirror.objective])] if state == TrialState.COMPLETE else None
    trial = optuna.trial.create_trial(
        state=state,
        values=values,
        params=dict(tried.params),
        distributions=distributions(mirror.space, mirror.base, tried.params),
        user_attrs={name: value for name, value in told.items() if value != ""},
        intermediate_values={int(fold): mae for fold, mae in tried.folds.items()},
    )
    journal = mirror.folder / mirror.block / f"{tried.number:05d}.json"
    trial.datetime_complete = datetime.fromtimestamp(journal.stat().st_mtime) if journal.exists() else datetime.now()
    trial.datetime_start = trial.datetime_complete - timedelta(seconds=tried.seconds)
    return trial


def distributions(
    space: Space, base: TrialConfig, params: Mapping[str, object]
) -> dict[str, optuna.distributions.BaseDistribution]:
    """What the space asks for on the way to these values: the journal keeps the answers alone."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(dict(params))
    trial = study.ask()
    space.config(trial, base)
    return {name: kind for name, kind in trial.distributions.items() if name in params}


def mirror_trial(mirror: Mirror, tried: Tried, *, run_id: str) -> None:
    """Show one more finished trial. A storage that cannot be written is said, and costs the sweep nothing."""
    with _said(mirror), _storage(mirror.file) as storage:
        study = _study(mirror, storage)
        study.add_trial(as_trial(mirror, tried, run_id=run_id))


def sync_mirror(mirror: Mirror, journal: Mapping[int, Tried], *, runs: Mapping[int, str]) -> int:
    """Bring the block's study in line with the journal, in its order; returns how many trials had to be written.

    runs: MLflow run by trial number. What differs from the journal (rows of another sweep, a row that never ended, the
    order in which trials ended side by side) is written again, so that Optuna's numbers are the journal's.
    """
    wanted = [as_trial(mirror, tried, run_id=runs.get(number, "")) for number, tried in sorted(journal.items())]
    written = 0
    with _said(mirror):
        try:
            written = _write_missing(mirror, wanted)
        except BROKEN as error:
            if "locked" in str(error):  # someone else writes: the file is sound
                raise
            # half a file, or none of ours: it holds nothing that the journal does not
            mirror.file.unlink(missing_ok=True)
            written = _write_missing(mirror, wanted)
    return written


def study_of(mirror: Mirror, journal: Mapping[int, Tried]) -> optuna.Study:
    """The block's trials and their MAE alone as a study in memory, for Optuna's plots."""
    mirror = replace(mirror, objective="mae")
    study = optuna.create_study(study_name=mirror.study)
    study.add_trials([as_trial(mirror, tried) for _, tried in sorted(journal.items())])
    return study


def _write_missing(mirror: Mirror, wanted: Sequence[FrozenTrial]) -> int:
    mirror.file.parent.mkdir(parents=True, exist_ok=True)
    with _storage(mirror.file) as storage:
        study = _study(mirror, storage)
        there = [_content(trial) for trial in study.get_trials(deepcopy=False)]
        if there != [_content(trial) for trial in wanted[: len(there)]]:
            optuna.delete_study(study_name=mirror.study, storage=storage)
            study = _study(mirror, storage)
            there = []
        study.add_trials(wanted[len(there) :])
    return len(wanted) - len(there)


def _study(mirror: Mirror, storage: optuna.storages.RDBStorage) -> optuna.Study:
    return optuna.create_study(
        study_name=mirror.study, storage=storage, directions=directions(mirror.objective), load_if_exists=True
    )


def _content(trial: FrozenTrial) -> tuple[object, ...]:
    """What makes two rows the same trial."""
    return (
        trial.state, trial.values, trial.params, trial.distributions, trial.intermediate_values,
        {name: value for name, value in trial.user_attrs.items() if name != "mlflow_run"},
    )  # fmt: skip


@contextmanager
def _storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    """The storage in a file, closed again: nothing is held between trials that a kill could leave behind."""
    storage = optuna.storages.RDBStorage(sqlite_uri(file), engine_kwargs={"connect_args": {"timeout": 10}})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _said(mirror: Mirror) -> Iterator[None]:
    """A sweep does not end because its mirror broke; the next start makes it good."""
    try:
        yield
    except BROKEN as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        print(f"{mirror.file} could not be written ({reason}); the next start of this sweep makes it good", flush=True)
