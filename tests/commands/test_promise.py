"""The promise: no photo and no label of a person has a say in the model that is tested on this person.

Of one person all ages are replaced, and the pixels of every second photo. The answers for the other photos must then be
the same, bit for bit: they depend on no label of this person, and on no other photo. Whoever else is tested learned
from this person, so that their answers must change: that is how each test shows that it can fail.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file

from study.artifacts.predictions import Predictions, read_predictions
from study.cli.options import Allowed, Training
from study.folds import dev_split, lopo_folds
from study.lopo.command import Lopo, lopo
from study.lopo.jobs import Schedule, make_jobs
from study.lopo.plan import plan_by_hand, plan_of_sweep
from study.pretrain.command import Pretrain, pretrain
from study.starts import check_starts, read_start
from study.sweep.command import Sweep, sweep
from study.sweep.journal import read_journal
from study.sweep.selection import person_blocks
from study.tracking import runs as tracking
from trainables.checkpoints import load_checkpoint
from trainables.config import TrialConfig
from trainables.faces.index import index_faces
from trainables.faces.table import Faces, load_faces
from trainables.fitting import build_net
from trainables.fold import run_fold, run_freeze
from trainables.trial import score_fold

PERSON, OTHER = "drawn/002", "drawn/004"
CONFIG = TrialConfig(backbone="resnet18", px=32, epochs=1, batch=8)
TRAINING = Training(px=32, epochs=1, batch=8)


def changed(folder: Path, into: Path, *, kept: int, people: tuple[str, ...] = (PERSON,)) -> Path:
    """A copy of a faces table in which these people's ages are others and, but for every second photo from number
    `kept` on, their faces are noise. Names, and how many photos a person has, stay."""
    table = pq.read_table(folder / "faces" / "00000.parquet")
    rows, noise, shot = table.to_pylist(), np.random.default_rng(kept), 0
    for row in rows:
        if f"{row['dataset']}/{row['person']}" in people:
            row["age"] = (row["age"] + 35) % 70
            if shot % 2 != kept:
                picture = Image.fromarray(noise.integers(0, 256, (48, 48, 3), np.uint8))
                picture.save(data := io.BytesIO(), "PNG")
                row |= {"face": data.getvalue(), "photo_sha256": f"noise {kept} {shot}"}
            shot += 1
    (into / "faces").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), into / "faces" / "00000.parquet")
    return into


@pytest.fixture(scope="module")
def folders(make_table, tmp_path_factory) -> list[Path]:
    """Five people's faces as they are, and changed with either half of the photos kept."""
    place = tmp_path_factory.mktemp("tables")
    before = make_table(place / "people", people=5, photos=4)
    return [before, *(changed(before, place / f"changed{kept}", kept=kept) for kept in (0, 1))]


@pytest.fixture(scope="module")
def tables(folders) -> list[Faces]:
    return [load_faces([folder], px=32) for folder in folders]


def same_photos(one: Faces, other: Faces) -> np.ndarray:
    """Rows of PERSON whose faces are the same in both tables."""
    same = (one.pixels == other.pixels).all(axis=(1, 2, 3)) & (one.person == PERSON)
    assert 0 < same.sum() < (one.person == PERSON).sum()
    assert (one.age != other.age)[one.person == PERSON].all()
    return np.flatnonzero(same)


@pytest.fixture(scope="module")
def start() -> dict[str, np.ndarray]:
    """Weights to start from."""
    return {name: value.numpy() for name, value in build_net(CONFIG.replace(seed=5)).state_dict().items()}


# ---- a training, as Ray's tasks run it ---------------------------------------------------------------


def fold_answers(faces: Faces, start: dict[str, np.ndarray], *, person: str, frozen: int) -> np.ndarray:
    """What the fold of a person answers for each of that person's photos."""
    config = CONFIG.replace(weights="given", frozen=frozen, frozen_views=2).to_json()
    (fold,) = (fold for fold in lopo_folds(faces) if fold.name == person)
    given = run_freeze(config, faces, start, 1, "cpu") if frozen else faces
    return run_fold(config, given, start, fold.train, fold.test, 1, "cpu").distribution


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 2], ids=["whole", "frozen features"])
def test_a_fold_learns_nothing_of_the_person_it_tests(tables, start, frozen):
    before = fold_answers(tables[0], start, person=PERSON, frozen=frozen)
    for table in tables[1:]:
        kept = np.isin(np.flatnonzero(table.person == PERSON), same_photos(tables[0], table))
        after = fold_answers(table, start, person=PERSON, frozen=frozen)
        assert (after[kept] == before[kept]).all()
    others = [fold_answers(table, start, person=OTHER, frozen=frozen) for table in tables[:2]]
    assert (others[0] != others[1]).any()


@pytest.mark.slow
def test_a_trial_learns_nothing_of_the_people_that_it_is_scored_on(tables):
    """The first inner fold tests PERSON and another; the second learns from them."""
    tested = np.isin(tables[0].person, [PERSON, OTHER])
    folds = [(np.flatnonzero(~tested), np.flatnonzero(tested)), (np.flatnonzero(tested), np.flatnonzero(~tested))]

    def predicted(faces: Faces) -> dict[int, float]:
        found: dict[int, float] = {}
        for train, test in folds:
            rows: list[dict] = []
            score_fold(CONFIG, faces, train, test, report=rows.append)
            found |= rows[-1]["predicted"]
        return found

    before = predicted(tables[0])
    for table in tables[1:]:
        after = predicted(table)
        kept = [*same_photos(tables[0], table).tolist(), *np.flatnonzero(table.person == OTHER).tolist()]
        assert [after[row] for row in kept] == [before[row] for row in kept]
        learned_from_them = np.flatnonzero(~tested).tolist()
        assert [after[row] for row in learned_from_them] != [before[row] for row in learned_from_them]


# ---- what is taken for finished ----------------------------------------------------------------------


def test_a_result_is_not_replaced_by_one_of_the_same_config_that_was_chosen_in_another_way(tables, tmp_path):
    """By hand, optimistic, or from another sweep: each keeps its name, its selection and its brand."""
    by_hand = plan_by_hand(Training(px=32), backbone="resnet18", weights=None)
    random = {("resnet18", "random"): read_start("resnet18", "random")}
    places = [
        make_jobs(plan, tables[0], random, Schedule("plain", 1, 1, 0.0), tmp_path)[1]
        for plan in (
            dataclasses.replace(by_hand, **change)
            for change in ({}, {"name": "other"}, {"sealed": False}, {"sweep": ("a", "k1")}, {"sweep": ("b", "k2")},
                           {"sweep": ("a", "k1"), "sealed": False})
        )
    ]  # fmt: skip
    assert places[0] == places[1]
    assert len(set(places)) == 5


def test_a_finished_fold_is_used_again_for_the_very_same_work_alone(tables, tmp_path, monkeypatch):
    """Whatever decides a fold's result, other code too, gives every fold another file; the same gives the same."""
    plan = plan_by_hand(Training(px=32), backbone="resnet18", weights=None)
    random = {("resnet18", "random"): read_start("resnet18", "random")}

    def files(plan=plan, faces=tables[0], weights=random, seeds=2, schedule="plain", gpus=0.0) -> set[str]:
        jobs, _ = make_jobs(plan, faces, weights, Schedule(schedule, seeds, 1, gpus), tmp_path)
        assert len({job.key for job in jobs}) == len(jobs) == 5 * seeds
        assert {job.config.seed for job in jobs} == set(range(seeds))
        return {job.key for job in jobs}

    exact = plan_by_hand(Training(px=32, precision="float32"), backbone="resnet18", weights=None)
    first = files()
    assert files() == first
    assert files(seeds=1) < first, "a further seed leaves the others' folds as they are"
    otherwise = [
        files(faces=tables[1]),
        files(faces=dataclasses.replace(tables[0], digest="other")),
        files(plan=plan_by_hand(Training(px=32, epochs=2), backbone="resnet18", weights=None)),
        files(weights={which: dataclasses.replace(start, digest="other tensors") for which, start in random.items()}),
        files(schedule="tree"),
        files(gpus=0.5),
        *(files(plan=exact, gpus=gpus) for gpus in (0.0, 0.5)),  # of one precision on both kinds of device
    ]
    monkeypatch.setattr("study.lopo.jobs.code_version", lambda: "other code")
    otherwise.append(files())
    for index, keys in enumerate(otherwise):
        assert all(keys.isdisjoint(others) for others in [first, *otherwise[:index]]), index


def test_a_tables_digest_names_all_that_a_training_sees(folders, tmp_path):
    """By which a sweep's faces, a finished fold and a checkpoint's are known: any age, name or pixel counts."""
    table = pq.read_table(folders[0] / "faces" / "00000.parquet")
    changes = {"person": "005", "age": 99, "face": pq.read_table(folders[1] / "faces")["face"][9].as_py()}
    changes["photo_sha256"] = "another photo's"
    digests = [load_faces([folders[0]], px=32).digest]
    for name, value in changes.items():
        rows = table.to_pylist()
        assert rows[9][name] != value
        rows[9][name] = value
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / name / "0.parquet")
        digests.append(load_faces([tmp_path / name], px=32).digest)
        assert index_faces([str(tmp_path / name)]).digest == digests[-1]
    assert len(set(digests)) == 5


# ---- what a finished sweep is used for ---------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    """A working directory with an MLflow of its own."""
    cwd = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{cwd / 'mlflow.db'}")
        yield cwd


CHOICE = {
    "blocks": [], "optimism": dict.fromkeys(("claimed", "corrected", "gap", "gap_low", "gap_high"), 0.0),
    "backbones": ["resnet18"], "spread": {}, "common_trials": 0, "rank_correlation": None,
}  # fmt: skip

RATES = (0.01, 0.003, 0.0001)


@pytest.fixture
def finished(home, folders, tables):
    """finished(name, **changes): a sealed sweep of this name in MLflow, whose three blocks chose other learning rates,
    with changes to its best.json. It gives the record."""

    def write(name: str, **changes) -> dict:
        blocks = [
            {"name": block.name, "people": list(block.people), "number": 0, "mae": 5.0, "seeds": 1,
             "trial": CONFIG.replace(learning_rate=rate).to_json()}
            for block, rate in zip(person_blocks(tables[0], blocks=3, folds=2, seed=0), RATES, strict=True)
        ]  # fmt: skip
        record = {
            "sweep": name, "key": name, "faces": [str(folders[0])], "faces_digest": tables[0].digest,
            "select": "blocks", "sealed": True, "apart_from": [], "choice": CHOICE, "blocks": blocks, "starts": [],
            "learned_from": dataclasses.asdict(check_starts([], tables[0].identities, Allowed())), "unlike": "",
            **changes,
        }  # fmt: skip
        store = tracking.connect()
        run_id = tracking.find_or_start(store, key=name, name=name, stage="sweep", params={})
        tracking.log_json(store, run_id, "best.json", record)
        tags = {tracking.COMPLETE: "yes", "study.name": record["sweep"], "study.folder": f"runs/{name}"}
        tracking.finish(store, run_id, metrics={}, tags=tags)
        return record

    return write


@pytest.mark.slow
def test_everybody_is_tested_with_the_config_that_their_own_block_chose(finished, tables):
    record = finished("sealed")
    plan = plan_of_sweep(tracking.connect(), name="sealed", training=Training())
    found = {person: plan.config(person).learning_rate for person in tables[0].people}
    assert found == {who: rate for block, rate in zip(record["blocks"], RATES, strict=True) for who in block["people"]}
    assert set(found.values()) == set(RATES)
    assert plan.sealed
    assert "sealed: each person is tested with the config chosen on other blocks' people alone" in plan.selection
    assert plan.sweep == ("sealed", "sealed")


@pytest.mark.slow
def test_of_two_sweeps_of_one_name_the_folder_says_which_is_meant(finished, tables):
    finished("sweeps/small", sweep="small")
    newer = finished("synthetic/sweeps/small", sweep="small")
    newer["blocks"][0]["trial"] = CONFIG.replace(learning_rate=0.5).to_json()
    finished("synthetic/sweeps/small", sweep="small", blocks=newer["blocks"])
    person = newer["blocks"][0]["people"][0]
    for folder, rate in {"runs/sweeps/small": RATES[0], "runs/synthetic/sweeps/small/": 0.5, "small": 0.5}.items():
        plan = plan_of_sweep(tracking.connect(), name=folder, training=Training())
        assert plan.config(person).learning_rate == rate
    with pytest.raises(ValueError, match="no finished sweep named 'runs/small'"):
        plan_of_sweep(tracking.connect(), name="runs/small", training=Training())


@pytest.mark.slow
def test_a_choice_that_was_not_sealed_is_called_optimistic(finished):
    finished("unsealed", sealed=False, select="none")
    plan = plan_of_sweep(tracking.connect(), name="unsealed", training=Training())
    assert not plan.sealed
    assert plan.selection.startswith("OPTIMISTIC")


def no_ray(**_: object) -> None:
    raise AssertionError("what must be refused began to run")


@pytest.mark.slow
def test_a_sweeps_winner_is_not_tested_on_other_faces_than_it_was_sealed_for(finished, folders, tmp_path, monkeypatch):
    monkeypatch.setattr("study.cluster.start.start_ray", no_ray)
    finished("sealed")
    with pytest.raises(ValueError, match="not those the sweep chose on"):
        lopo(Lopo(best=True, sweep="sealed", faces=(folders[1],), out=tmp_path))
    finished("in sight", select="dev", faces_digest=None, apart_from=[str(folders[2])])
    with pytest.raises(ValueError, match="with the help of tested photos"):
        lopo(Lopo(best=True, sweep="in sight", faces=(folders[0],), out=tmp_path))


def test_a_config_is_not_chosen_on_data_that_holds_the_tested_photos(folders, monkeypatch):
    monkeypatch.setattr("study.cluster.start.start_ray", no_ray)
    with pytest.raises(ValueError, match="with the help of tested photos"):
        sweep(Sweep(select="dev", faces=(folders[0],), pretrain_faces=(folders[1],)))


# ---- the commands, on one Ray ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(home, make_table, one_ray) -> Path:
    """The working directory with Ray, and a network pretrained on strangers."""
    make_table(home / "strangers", people=24, photos=1, dataset="crowd")
    (home / "start.json").write_text('{"backbone": "resnet18"}')
    pretrain_on(home / "strangers", home / "pretrained")
    return home


def pretrain_on(faces: Path, out: Path) -> dict[str, object]:
    """The tensors of a network pretrained on a table, a third of whose people are its dev part."""
    options = {"backbone": ("resnet18",), "faces": (str(faces),), "dev_share": 0.3, "cpus_per_worker": 1}
    assert pretrain(Pretrain(TRAINING, out=out, **options)) == 0
    return load_file(out / "resnet18" / "model.safetensors")


def run_lopo(faces: Path | None, out: Path, **options) -> Predictions:
    assert lopo(Lopo(faces=(faces,) if faces else (), out=out, **options)) == 0
    (folder,) = out.glob("[!.]*")
    return read_predictions(folder / "predictions.parquet")[0]


def assert_same_for_person(one: Predictions, other: Predictions, tables: list[Faces]) -> None:
    """The same answers for PERSON's photos that are the same in both tables, and others for somebody else."""
    photos = tables[0].photo[same_photos(*tables)]
    assert (one.photo == other.photo).all()
    kept = np.isin(one.photo, photos)
    assert kept.sum() == len(photos)
    assert (one.distribution[kept] == other.distribution[kept]).all()
    assert (one.predicted[kept] == other.predicted[kept]).all()
    someone = one.person == OTHER
    assert (one.distribution[someone] != other.distribution[someone]).any()


WAYS = {
    "plain": {},
    "tree": {"schedule": "tree"},
    "frozen": {"training": dataclasses.replace(TRAINING, frozen=2, frozen_views=2)},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_persons_lopo_answers_depend_on_nothing_of_theirs(place, folders, tables, way):
    options = {"training": TRAINING, "weights": "pretrained/resnet18", "backbone": "resnet18", **WAYS[way]}
    one, other = (run_lopo(folders[i], place / f"{way}{i}", **options) for i in (0, 1))
    assert_same_for_person(one, other, tables[:2])


@pytest.fixture(scope="module")
def sweeps(place, folders) -> list[str]:
    """A sealed sweep on the faces as they are, and one on the faces changed."""
    for index in (0, 1):
        options = Sweep(
            dataclasses.replace(TRAINING, trial=place / "start.json"), space="mean_variance", trials=2, blocks=2,
            folds=2, faces=(folders[index],), finalists=0, name=f"sweep{index}", out=place / "sweeps",
            pretrained=place / "none", parallel=2,
        )  # fmt: skip
        assert sweep(options) == 0
    return ["sweep0", "sweep1"]


def test_a_persons_config_and_answers_after_a_sealed_sweep_depend_on_nothing_of_theirs(place, tables, sweeps):
    best = [json.loads((place / "sweeps" / name / "best.json").read_text()) for name in sweeps]
    for block, again in zip(*(each["blocks"] for each in best), strict=True):
        journals = []
        for name in sweeps:
            folder = place / "sweeps" / name / block["name"]
            tried = read_journal(folder).values()
            journals.append([dataclasses.replace(each, seconds=0.0, latency_ms=0.0) for each in tried])
        sealed = PERSON in block["people"]
        assert (journals[0] == journals[1]) == sealed
        assert (block == again) or not sealed
    one, other = (run_lopo(None, place / f"best{name}", best=True, sweep=name) for name in sweeps)
    assert_same_for_person(one, other, tables[:2])


def test_a_pretraining_learns_nothing_of_its_dev_part(place):
    strangers = load_faces([place / "strangers"], px=32)
    dev = set(strangers.person[dev_split(strangers, share=0.3, seed=0).test].tolist())
    other = changed(place / "strangers", place / "others", kept=0, people=tuple(dev))
    before, maes = load_file(place / "pretrained/resnet18/model.safetensors"), []
    after = pretrain_on(other, place / "again")
    assert all(bool((after[name] == value).all()) for name, value in before.items())
    for out in ("pretrained", "again"):
        about = json.loads((place / out / "resnet18" / "trial.json").read_text())["about"]
        assert about["dev_faces"] == len(dev)
        maes.append(about["dev_mae"])
    assert maes[0] != maes[1], "they are measured on"


def test_a_checkpoint_remembers_what_its_start_learned_from(place, make_table):
    """And not its dev part: a network pretrained in two steps learned from both."""
    more = make_table(place / "more", people=16, photos=1, dataset="others", seed=1)
    first = load_checkpoint(place / "pretrained/resnet18")
    options = {"backbone": ("resnet18",), "faces": (str(more),), "dev_share": 0.3, "cpus_per_worker": 1}
    start = str(place / "pretrained/resnet18")
    assert pretrain(Pretrain(TRAINING, weights=start, out=place / "second", **options)) == 0
    second = load_checkpoint(place / "second/resnet18")
    both = [load_faces([place / name], px=32) for name in ("strangers", "more")]
    trained = [faces.content[dev_split(faces, share=0.3, seed=0).train].tolist() for faces in both]
    assert sorted(first.photos["photo_sha256"].to_pylist()) == sorted(trained[0])
    assert sorted(second.photos["photo_sha256"].to_pylist()) == sorted(trained[0] + trained[1])
    assert second.about.datasets == ("crowd", "others")
