"""The commands, run as a user runs them, on drawn faces: pretrain, sweep, LOPO; killed, sealed, repeated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient

from study.artifacts.predictions import read_predictions
from study.folds import dev_split
from study.landmarks.warp import TEMPLATE, TEMPLATE_NAME
from tests.commands.typed import command, environment, fails, run
from trainables.faces.table import ALIGNMENT_KEY, load_faces
from trainables.losses import decode_age

FAST = ["--px", "32", "--batch", "16"]
SWEEP = ["--space", "mean_variance", "--trials", "3", "--blocks", "2", "--folds", "2", "--epochs", "1", *FAST]
SWEEP += ["--finalists", "2", "--final-seeds", "1"]


def fails_alone(cwd: Path, stage: str, *args: object) -> str:
    """fails() in a process of its own, with a Ray of its own."""
    done = subprocess.run(
        command(stage, *args), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def run_and_kill(cwd: Path, stage: str, *args: object, when: Path, files: int) -> None:
    """Start a command and SIGKILL its whole session once `when` and the folders in it hold that many files."""
    process = subprocess.Popen(
        command(stage, *args), cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + 240
    while (
        sum(file.is_file() for file in when.rglob("[!.]*")) < files
        and process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.05)
    assert process.poll() is None, f"{stage} ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tracked(cwd: Path, stage: str) -> list:
    client = MlflowClient(f"sqlite:///{cwd / 'mlruns' / 'mlflow.db'}")
    experiments = client.search_experiments(filter_string="name LIKE 'age-study%'")
    assert experiments
    ids = [each.experiment_id for each in experiments]
    return client.search_runs(ids, f"tags.`study.stage` = '{stage}'", max_results=1000)


def journal(cwd: Path, block: str, *, name: str = "mean_variance") -> list[dict]:
    """What a block's trials were and scored, without the clock."""
    return [without_clock(file) for file in sorted((cwd / "runs" / "sweeps" / name / block).glob("*.json"))]


def without_clock(file: Path) -> dict:
    return {k: v for k, v in json.loads(file.read_text()).items() if k not in ("seconds", "latency_ms", "digest")}


def finals(cwd: Path, block: str, *, name: str = "mean_variance") -> list[dict]:
    """The same of its finalists' further seeds."""
    return journal(cwd, f"{block}/finals", name=name)


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_table, one_ray) -> Path:
    """A working directory after pretraining and a sweep."""
    cwd = tmp_path_factory.mktemp("study")
    make_table(cwd / "people", people=12, photos=6)
    make_table(cwd / "strangers", people=120, photos=1, named=False, dataset="crowd")
    shown = run(
        cwd, "pretrain", "--backbone", "resnet18", "--faces", "strangers", "--epochs", 2, "--cpus-per-worker", 1, *FAST
    )
    assert "checkpoint at runs/pretrained/resnet18" in shown
    assert "epoch 2/2" in shown
    (cwd / "start.json").write_text('{"backbone": "resnet18"}')
    run(cwd, "sweep", "--faces", "people", "--trial", "start.json", *SWEEP)
    return cwd


def test_a_finished_pretraining_is_not_repeated(place):
    again = run(place, "pretrain", "--backbone", "resnet18", "--faces", "strangers", "--epochs", 2, *FAST)
    assert "already there" in again
    assert len(tracked(place, "pretrain")) == 1
    other = fails(place, "pretrain", "--backbone", "resnet18", "--faces", "strangers", "--epochs", 3, *FAST)
    assert "--force" in other


def test_a_pretraining_starts_from_a_checkpoint_that_only_the_command_can_see(place):
    """Ray Train's workers have another working directory, and on a cluster other disks."""
    relative = ["--weights", "runs/pretrained/resnet18", "--out", "runs/longer"]
    args = ["--faces", "strangers", "--epochs", 1, "--cpus-per-worker", 1, *FAST]
    assert "checkpoint at runs/longer/resnet18" in run(place, "pretrain", "--backbone", "resnet18", *relative, *args)


def test_a_backbone_that_fails_is_said_at_the_end_while_the_others_go_on(place):
    args = ["--faces", "strangers", "--epochs", 2, *FAST]
    told = fails(place, "pretrain", "--backbone", "alexnet", "resnet18", *args)
    assert "alexnet failed: alexnet needs pictures of at least 64 px" in told
    assert "1 of 2 failed" in told


def test_a_sweep_starts_from_the_pretrained_and_is_tracked(place):
    for block in ("block1of2", "block2of2"):
        trials = journal(place, block)
        assert [trial["number"] for trial in trials] == [0, 1, 2]
        assert all(trial["trial"]["weights"] == "runs/pretrained/resnet18" for trial in trials)
        # the paper's own point comes first
        assert trials[0]["trial"]["loss"] == {
            "name": "mean_variance",
            "mean_weight": 0.2,
            "variance_weight": 0.05,
            "label_smoothing": 0.0,
        }
    runs = tracked(place, "trial")
    assert len(runs) == 6 + 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all("lambda1" in run.data.params for run in runs)
    finished = [run for run in runs if run.data.tags["study.state"] == "complete"]
    assert all(run.info.run_name.endswith(f"{run.data.metrics['mae']:.2f}") for run in finished)
    assert {"mae", "seconds", "fold1/validation_mae", "fold2/train_loss", "folds/mae"} <= finished[
        0
    ].data.metrics.keys()
    assert {each.dataset.name for run in runs for each in run.inputs.dataset_inputs} == {"drawn"}
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs}
    assert parents == {run.info.run_id for run in tracked(place, "sweep")}


def test_a_sweep_is_mirrored_for_optuna_and_drawn(place):
    folder = place / "runs/sweeps/mean_variance"
    for block in ("block1of2", "block2of2"):
        rows = optuna.load_study(
            study_name=f"mean_variance/{block}", storage=f"sqlite:///{folder / 'optuna.db'}"
        ).trials
        trials = journal(place, block)
        assert [(row.number, row.params) for row in rows] == [(trial["number"], trial["params"]) for trial in trials]
        assert [row.value for row in rows] == [trial["mae"] for trial in trials]
        runs = {
            run.info.run_id: run.data.tags["study.trial"]
            for run in tracked(place, "trial")
            if run.data.tags["study.state"] != "finalist"
        }
        assert [runs[row.user_attrs["mlflow_run"]] for row in rows] == ["0", "1", "2"]
        assert (folder / f"{block}-history.png").is_file()
    (parent,) = tracked(place, "sweep")
    client = MlflowClient(f"sqlite:///{place / 'mlruns' / 'mlflow.db'}")
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"block1of2-history.png", "block2of2-history.png"} <= artifacts


def test_finalists_are_run_with_another_seed_and_the_mean_decides(place):
    best = json.loads((place / "runs/sweeps/mean_variance/best.json").read_text())
    for block in best["blocks"]:
        trials = sorted(journal(place, block["name"]), key=lambda trial: (trial["mae"], trial["number"]))
        again = {trial["number"]: trial for trial in finals(place, block["name"])}
        assert again.keys() == {trial["number"] for trial in trials[:2]}
        means = {}
        for trial in trials[:2]:
            final = again[trial["number"]]
            assert final["trial"] == trial["trial"] | {"seed": 1}
            assert final["mae"] != trial["mae"]
            for decoder in ("expectation", "argmax", "median"):  # all people have as many photos
                both = [np.mean(list(each["decoded"][decoder].values())) for each in (trial, final)]
                means[trial["number"], decoder] = np.mean(both)
            assert means[trial["number"], "expectation"] == pytest.approx((trial["mae"] + final["mae"]) / 2)
        assert (block["number"], block["trial"]["decoder"]) == min(
            means, key=lambda key: (round(means[key], 9), key[0])
        )
        assert block["mae"] == pytest.approx(min(means.values()))
        assert block["seeds"] == 2
    marked = [run for run in tracked(place, "trial") if run.data.tags.get("study.final") == "1"]
    assert len(marked) == 4
    assert all("latency_ms" in run.data.metrics and run.data.metrics["macs"] > 0 for run in marked)


def test_a_config_chosen_on_pretraining_data_touches_no_label_of_the_tested(place, tmp_path, make_table):
    few = ["--space", "mean_variance", "--trials", "2", "--finalists", "0", "--epochs", "1", *FAST]
    dev = ["--select", "dev", "--trial", place / "start.json", "--pretrained", place / "runs/pretrained", *few]
    own = ["--pretrain-faces", place / "strangers"]
    make_table(tmp_path / "people", people=12, photos=6)
    shutil.rmtree(tmp_path / "people" / "faces")
    (tmp_path / "people" / "faces").mkdir()
    table = pq.read_table(place / "people" / "faces" / "00000.parquet")
    blank = pa.array([0] * len(table), pa.int16())  # the tested people's ages are gone
    index = table.schema.get_field_index("age")
    ageless = table.set_column(index, table.schema.field("age"), blank)
    pq.write_table(ageless, tmp_path / "people" / "faces" / "00000.parquet")
    run(tmp_path, "sweep", "--faces", "people", "--name", "dev", *dev, *own)
    best = json.loads((tmp_path / "runs/sweeps/dev/best.json").read_text())
    assert best["sealed"]
    assert [block["people"] for block in best["blocks"]] == [[]]
    strangers = load_faces([place / "strangers"], px=32)
    (split,) = [dev_split(strangers, share=0.1, seed=0)]
    for trial in journal(tmp_path, "dev", name="dev"):
        assert sorted(map(int, trial["predicted"])) == split.test.tolist()
        errors = [abs(years - strangers.age[int(row)]) for row, years in trial["predicted"].items()]
        assert trial["mae"] == pytest.approx(np.mean(errors))
    # the checkpoint must have left the same dev part out
    assert "people of the dev part" in fails(tmp_path, "sweep", "--faces", "people", "--seed", "1", *dev, *own)
    shown = run(tmp_path, "lopo", "--best", "--faces", place / "people")
    assert "sealed: the config was chosen on a dev part of the pretraining data" in shown


def test_a_trial_that_rays_memory_monitor_ends_says_so(place, monkeypatch):
    """Ray's own monitor, told that 1 % of the machine's memory is all there is: it ends every trial's process."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
    few = ["--space", "mean_variance", "--trials", "1", "--select", "none", "--folds", "2", "--epochs", "1", *FAST]
    told = fails_alone(place, "sweep", "--faces", "people", "--trial", "start.json", "--name", "oom", *few)
    assert "no trial of all was completed" in told
    (tried,) = journal(place, "all", name="oom")
    assert tried["state"] == "failed"
    assert tried["why"] == "it needs more memory than there is: Ray's memory monitor ended its process"


def test_a_killed_sweep_goes_on_and_ends_as_if_undisturbed(place):
    args = ["--faces", "people", "--trial", "start.json", "--name", "killed", *SWEEP]
    run_and_kill(place, "sweep", *args, when=place / "runs/sweeps/killed/block1of2", files=1)
    assert "of 3 trials are already there" in run(place, "sweep", *args)
    for block in ("block1of2", "block2of2"):
        assert journal(place, block, name="killed") == journal(place, block)
        assert finals(place, block, name="killed") == finals(place, block)
    by_key: dict[str, int] = {}
    for trial in tracked(place, "trial"):
        by_key[trial.data.tags["study.key"]] = by_key.get(trial.data.tags["study.key"], 0) + 1
    assert set(by_key.values()) == {1}


def test_lopo_tests_everybody_once_and_survives_a_kill(place):
    args = ["--best", "--sweep", "mean_variance", "--seeds", 2]
    shown = run(place, "lopo", *args)
    assert "sealed" in shown
    assert "A constant guess scores" in shown
    (folder,) = (place / "runs/lopo").glob("[!.]*")
    whole, about = read_predictions(folder / "predictions.parquet")
    assert len(whole) == 12 * 6 * 2
    assert (whole.person == whole.fold).all()
    assert about["people"] == 12
    best = json.loads((place / "runs/sweeps/mean_variance/best.json").read_text())
    for block in best["blocks"]:  # each with the decoder that its block chose
        mine = np.isin(whole.person, block["people"])
        years = decode_age(torch.from_numpy(whole.distribution[mine]), block["trial"]["decoder"]).numpy()
        assert np.allclose(years, whole.predicted[mine], atol=1e-3)
    folds = tracked(place, "fold")
    assert len(folds) == 24
    (parent,) = tracked(place, "lopo")
    assert {run.data.tags["mlflow.parentRunId"] for run in folds} == {parent.info.run_id}
    by_hand = np.mean([np.mean(np.abs(whole.predicted - whole.age)[whole.person == p]) for p in whole.people])
    assert parent.data.metrics["mae"] == pytest.approx(by_hand, abs=1e-6)

    other = place / "runs" / "again"
    run_and_kill(place, "lopo", *args, "--out", other, when=other / folder.name / "folds", files=3)
    kept = {file: file.stat().st_mtime_ns for file in (other / folder.name / "folds").glob("*.parquet")}
    run(place, "lopo", *args, "--out", other)
    assert all(file.stat().st_mtime_ns == when for file, when in kept.items()), "finished folds are not run again"
    again, _ = read_predictions(other / folder.name / "predictions.parquet")
    assert (again.predicted == whole.predicted).all()
    assert len(tracked(place, "fold")) == 24


def test_what_is_wrong_is_said_in_one_line(tmp_path, place):
    assert "run one first with: python -m study.sweep" in fails(tmp_path, "lopo", "--best")
    assert "Did you mean 'efficientnet_b0'?" in fails(tmp_path, "pretrain", "--backbone", "efficientnet_bo")
    assert "trains the whole network" in fails(tmp_path, "pretrain", "--frozen", 2)
    assert "Did you mean 'small'?" in fails(tmp_path, "sweep", "--space", "smal")
    missing = fails(
        tmp_path, "lopo", "--backbone", "resnet18", "--weights", "runs/nothing", "--faces", place / "people"
    )
    assert "python -m study.pretrain --backbone resnet18" in missing
    assert "python -m study.align" in fails(tmp_path, "sweep", "--faces", tmp_path / "none")
    assert "--select dev or none" in fails(tmp_path, "sweep", "--blocks", "1")
    assert "name no person" in fails(tmp_path, "lopo", "--faces", place / "strangers", "--backbone", "resnet18")


def test_the_tree_is_another_result_of_the_same_folds(place):
    frozen = ["--weights", "runs/pretrained/resnet18", "--frozen", 2, "--frozen-views", 2]
    args = ["--faces", "people", "--trial", "start.json", "--schedule", "tree", "--epochs", 1]
    assert "mean over 12 people" in run(place, "lopo", *args, *frozen, *FAST)
    tree = [run for run in tracked(place, "lopo") if run.data.params.get("frozen") == "2"]
    assert [run.data.params["epochs"] for run in tree] == ["1"]


def test_a_checkpoint_is_tested_on_people_that_it_did_not_learn_from(place):
    shown = run(place, "crosstest", "--checkpoint", "runs/pretrained/resnet18", "--faces", "people")
    assert "on 72 faces of 12 people; none of the tested photos or people is among the" in shown


def say_alignment(table: Path) -> None:
    """Give a faces table the metadata that study.align writes; its content stays the same."""
    recipe = {
        "dataset": "drawn", "landmarker": "dlib", "template": TEMPLATE_NAME, "points": TEMPLATE.tolist(), "size": 48,
        "quality": 90,
    }  # fmt: skip
    file = table / "faces" / "00000.parquet"
    rows = pq.read_table(file)
    pq.write_table(rows.replace_schema_metadata({ALIGNMENT_KEY: json.dumps(recipe).encode()}), file)


def test_a_refit_gives_one_model_and_a_later_lopo_calibrates_it_without_training(place, tmp_path):
    args = ["--best", "--sweep", "mean_variance", "--out", tmp_path / "models", "--seeds", 2]
    if not pq.read_schema(place / "people" / "faces" / "00000.parquet").metadata:
        assert "does not say how its faces were aligned" in fails(place, "refit", *args)
        say_alignment(place / "people")
    for run_of in tracked(place, "lopo"):  # as if nobody had been tested yet
        MlflowClient(f"sqlite:///{place / 'mlruns' / 'mlflow.db'}").set_tag(run_of.info.run_id, "study.complete", "no")
    told = run(place, "refit", *args)
    assert "not measured" in told
    assert "now facial-age@champion" in told
    (folder,) = (tmp_path / "models").glob("[!.]*")
    record = json.loads((folder / "model.json").read_text())
    assert record["measured"] is None
    best = json.loads((place / "runs/sweeps/mean_variance/best.json").read_text())
    (winner,) = [block["trial"] for block in best["blocks"] if block["name"] == record["chosen"]["block"]]
    assert record["trial"] == winner
    (tracked_run,) = tracked(place, "refit")
    assert "Nothing to do" in run(place, "refit", *args)
    assert tracked(place, "refit")[0].info.end_time == tracked_run.info.end_time

    run(place, "lopo", "--best", "--sweep", "mean_variance", "--seeds", 2)
    again = run(place, "refit", *args)
    assert "The trainings are kept" in again
    assert "facial-age version 2" in again
    (same,) = (tmp_path / "models").glob("[!.]*")
    after = json.loads((same / "model.json").read_text())
    assert after["files"]["model.safetensors"] == record["files"]["model.safetensors"]
    assert after["measured"]["people"] == 12
    assert after["measured"]["committee"] is True
    assert [scale["factor"] is None for scale in after["measured"]["scales"]] == [False, True]
    assert "has no effect without --best" in fails(place, "refit", "--sweep", "mean_variance")
