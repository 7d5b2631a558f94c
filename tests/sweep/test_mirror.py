"""The mirror says what the journal says, whatever happened to it; the plots are drawn from as little as there is."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image

from search_spaces import SPACES
from study.sweep.journal import Tried, write_tried
from study.sweep.optuna_storage import Mirror, mirror_trial, study_of, sync_mirror
from study.sweep.plots import draw
from trainables.config import TrialConfig

BASE = TrialConfig(backbone="resnet18", px=64)


def tried_of(space: str, trials: int, *, seed: int = 0) -> dict[int, Tried]:
    """A journal of drawn trials, every fifth pruned, one diverged, one failed; MAE is lower near a rate of 0.001."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    random, journal = np.random.default_rng(seed), {}
    for number in range(trials):
        trial = study.ask()
        config = SPACES[space].config(trial, BASE)
        state = {3: "diverged", 6: "failed"}.get(number, "pruned" if number % 5 == 4 else "complete")
        mae = 5 + abs(np.log10(config.learning_rate) + 3) + random.normal(0, 0.2)
        folds = {"0": mae + 0.2} if state == "pruned" else {"0": mae + 0.2, "1": mae + 0.1, "2": mae}
        journal[number] = Tried(
            number=number,
            state=state,
            trial=config.to_json(),
            params=trial.params,
            mae={"diverged": 100.0, "failed": None}.get(state, float(mae)),
            folds={} if state == "failed" else {"0": 100.0} if state == "diverged" else folds,
            seconds=60.0 + number,
            why="the process died" if state == "failed" else "",
        )
    return journal


@pytest.fixture
def mirror(tmp_path) -> Mirror:
    return Mirror(tmp_path / "night", "block1of2", SPACES["losses"], BASE)


def load(mirror: Mirror) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=mirror.study, storage=f"sqlite:///{mirror.file}").trials


def assert_same(mirror: Mirror, journal: dict[int, Tried]) -> None:
    """Row by row, written out once more: what Optuna holds is what the journal holds."""
    rows = load(mirror)
    assert [row.user_attrs["number"] for row in rows] == sorted(journal)
    for row in rows:
        tried = journal[row.user_attrs["number"]]
        expected = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(tried.state, TrialState.FAIL)
        assert row.state == expected
        assert row.value == (tried.mae if tried.state in ("complete", "pruned") else None)
        assert row.params == tried.params
        assert row.distributions.keys() == tried.params.keys()
        assert row.intermediate_values == {int(fold): mae for fold, mae in tried.folds.items()}
        assert row.user_attrs["backbone"] == "resnet18"
        assert row.user_attrs["seconds"] == tried.seconds
        assert row.user_attrs.get("why", "") == tried.why
        assert row.datetime_complete is not None
        assert row.datetime_start is not None
        assert (row.datetime_complete - row.datetime_start).total_seconds() == pytest.approx(tried.seconds)


def test_the_mirror_is_the_journal_and_syncing_twice_writes_once(mirror):
    journal = tried_of("losses", 12)
    assert sync_mirror(mirror, journal, runs={number: f"run{number}" for number in journal}) == 12
    assert_same(mirror, journal)
    assert [row.user_attrs["mlflow_run"] for row in load(mirror)] == [f"run{n}" for n in range(12)]
    assert mirror.study == "night/block1of2"
    assert sync_mirror(mirror, journal, runs={}) == 0
    rate = load(mirror)[0].distributions["learning_rate"]
    assert rate == optuna.distributions.FloatDistribution(2e-4, 4e-3, log=True)


def test_a_mirror_that_is_behind_catches_up(mirror):
    journal = tried_of("losses", 9)
    sync_mirror(mirror, {number: journal[number] for number in range(4)}, runs={})
    assert sync_mirror(mirror, journal, runs={}) == 5
    assert_same(mirror, journal)
    mirror.file.unlink()
    assert sync_mirror(mirror, journal, runs={}) == 9
    assert_same(mirror, journal)


def test_trials_that_end_side_by_side_are_shown_at_once_and_numbered_in_the_end(mirror):
    journal = tried_of("losses", 4)
    sync_mirror(mirror, {}, runs={})
    for number in (1, 0, 3, 2):
        mirror_trial(mirror, journal[number], run_id=f"run{number}")
        assert load(mirror)[-1].user_attrs["mlflow_run"] == f"run{number}"
    assert sync_mirror(mirror, journal, runs={}) == 4
    assert_same(mirror, journal)
    assert [row.number for row in load(mirror)] == [0, 1, 2, 3]


def test_what_differs_from_the_journal_is_written_anew_and_other_blocks_are_left_alone(mirror):
    journal, other = tried_of("losses", 5), replace(mirror, block="block2of2")
    sync_mirror(mirror, journal, runs={})
    sync_mirror(other, tried_of("losses", 3, seed=1), runs={})
    optuna.load_study(study_name=mirror.study, storage=f"sqlite:///{mirror.file}").ask()  # never told: RUNNING
    sync_mirror(mirror, journal, runs={})
    assert_same(mirror, journal)
    changed = {**journal, 2: replace(journal[2], mae=1.0, folds={"0": 1.0})}
    sync_mirror(mirror, changed, runs={})
    assert_same(mirror, changed)
    assert_same(other, tried_of("losses", 3, seed=1))


def test_a_damaged_mirror_is_made_anew(mirror):
    journal = tried_of("losses", 3)
    mirror.folder.mkdir()
    mirror.file.write_bytes(b"half a file" * 1000)
    assert sync_mirror(mirror, journal, runs={}) == 3
    assert_same(mirror, journal)


def test_a_mirror_that_cannot_be_written_is_said_and_does_not_end_the_sweep(mirror, capsys):
    mirror_trial(mirror, tried_of("losses", 1)[0], run_id="run0")  # its folder does not exist
    assert "could not be written" in capsys.readouterr().out


WRITER = """
import sys
sys.path[:0] = {path!r}
from test_mirror import BASE, SPACES, Mirror, Path, mirror_trial, tried_of
mirror = Mirror(Path({folder!r}), "block1of2", SPACES["losses"], BASE)
for tried in tried_of("losses", 60).values():
    mirror_trial(mirror, tried, run_id="")
"""


def count(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT COUNT(*) FROM trials").fetchone()[0]


def test_a_kill_leaves_no_trial_running_and_the_next_start_makes_it_good(mirror):
    mirror.folder.mkdir()
    journal = tried_of("losses", 60)
    here = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    code = WRITER.format(path=here, folder=str(mirror.folder))
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    sync_mirror(mirror, {}, runs={})
    until = time.monotonic() + 120
    while count(mirror.file) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    rows = load(mirror)
    assert 3 <= len(rows) < 60
    assert all(row.state.is_finished() for row in rows)
    few = {number: tried for number, tried in journal.items() if number < len(rows) + 3}
    assert sync_mirror(mirror, few, runs={}) == 3
    assert_same(mirror, few)


def test_a_trial_ended_when_its_journal_says(mirror):
    tried = tried_of("losses", 1)[0]
    write_tried(mirror.folder / mirror.block, tried)
    os.utime(mirror.folder / mirror.block / "00000.json", (1_700_000_000, 1_700_000_000))
    sync_mirror(mirror, {0: tried}, runs={})
    ended = load(mirror)[0].datetime_complete
    assert ended is not None
    assert ended.timestamp() == 1_700_000_000


@pytest.mark.parametrize("space", ["losses", "backbones"])
def test_every_plot_is_drawn_from_a_whole_block(space, tmp_path):
    mirror = Mirror(tmp_path, "block1of2", SPACES[space], BASE)
    before = dict(matplotlib.rcParams)
    files = draw(study_of(mirror, tried_of(space, 25)), tmp_path, name="block1of2")
    assert [file.name for file in files] == [
        f"block1of2-{plot}.png" for plot in ("history", "slice", "importance", "parallel")
    ]
    for file in files:
        with Image.open(file) as picture:
            assert min(picture.size) > 200
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20, "it shows something"
    assert dict(matplotlib.rcParams) == before | {"backend": matplotlib.rcParams["backend"]}


def test_too_few_trials_give_fewer_plots(tmp_path):
    mirror = Mirror(tmp_path, "all", SPACES["losses"], BASE)

    def names(journal):
        return [file.stem for file in draw(study_of(mirror, journal), tmp_path, name="all")]

    journal = tried_of("losses", 7)
    assert names({}) == []
    assert names({3: journal[3], 6: journal[6]}) == []
    assert names({0: journal[0]}) == ["all-history"]
    assert names({0: journal[0], 1: journal[1]}) == ["all-history", "all-slice"]
    # 6 complete and 2 pruned: the pruned ones say what was bad
    assert "all-importance" in names(tried_of("losses", 10))
    assert "all-importance" not in names({n: t for n, t in tried_of("losses", 10).items() if t.state == "complete"})
