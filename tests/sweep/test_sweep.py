"""A sweep's parts: who may be chosen on, what a network costs, what fits, and what becomes of too little memory."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray import tune

from search_spaces import SPACES
from study.cluster import placing
from study.folds import dev_split, person_folds
from study.starts import Start, check_apart
from study.sweep.command import Sweep, make_blocks
from study.sweep.journal import Tried, read_journal
from study.sweep.optuna_storage import Mirror
from study.sweep.ray_search import TuneSearch
from study.sweep.recorder import BlockRecord, Recorder, reason
from study.sweep.search import BlockSearch
from study.sweep.selection import check_never_seen, dev_block, everybody, person_blocks
from study.tracking import runs as tracking
from trainables import trial as module
from trainables.backbones import age_net
from trainables.config import TrialConfig
from trainables.costs import count_cost, measure_latency
from trainables.faces.batches import as_tensors
from trainables.faces.table import Faces, load_faces
from trainables.fitting import freeze
from trainables.frozen.cache import FeaturesCache
from trainables.memory import lacking_memory
from trainables.provenance import photos_of
from trainables.trial import hopeless, score_fold, tune_trial

BASE = TrialConfig(backbone="resnet18", px=32)


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory) -> Faces:
    return load_faces([make_table(tmp_path_factory.mktemp("faces"), people=20, photos=3)], px=32)


def test_blocks_cover_everyone_once_and_never_choose_on_their_own(faces):
    blocks = person_blocks(faces, blocks=4, folds=3, seed=0)
    assert sorted(person for block in blocks for person in block.people) == faces.people
    for block in blocks:
        for fold in block.folds:
            seen = set(faces.person[np.concatenate([fold.train, fold.test])].tolist())
            assert not seen & set(block.people)
    (alone,) = everybody(faces, folds=3, seed=0)
    assert set(alone.people) == set(faces.people)


def test_tested_photos_may_not_lie_in_the_data_chosen_on(make_table, tmp_path):
    people = make_table(tmp_path / "people", people=3)
    strangers = make_table(tmp_path / "strangers", people=3, dataset="strangers", named=False)
    check_apart([strangers], [people])
    with pytest.raises(ValueError, match="18 photos of .*people lie in .*with the help of tested photos"):
        check_apart([strangers, people], [people])


def test_a_start_that_learned_from_the_dev_part_is_refused(faces):
    (block,) = dev_block(faces, share=0.2, seed=0)
    (dev,) = block.folds

    def start(rows, photos=True) -> Start:
        return Start("resnet18", "there", "0", "a test", photos_of(faces, rows) if photos else None)

    check_never_seen(start(dev.train), faces, block)
    smaller = set(dev_split(faces, share=0.1, seed=0).test.tolist())
    assert smaller <= set(dev.test.tolist()), "which is why a larger share left out will do"
    with pytest.raises(ValueError, match="learned from 1 photos and 1 people of the dev part"):
        check_never_seen(start(np.append(dev.train, dev.test[0])), faces, block)
    with pytest.raises(ValueError, match="no record of the photos"):
        check_never_seen(start(dev.train, photos=False), faces, block)
    # and the sweep does compare
    options = Sweep(select="dev", dev_share=0.2)
    (block,) = make_blocks(options, faces, {"resnet18": start(dev.train)}, seed=0)
    assert block.folds[0].test.tolist() == dev.test.tolist()
    with pytest.raises(ValueError, match="of the dev part"):
        make_blocks(options, faces, {"resnet18": start(np.arange(len(faces)))}, seed=0)


@pytest.mark.parametrize(
    ("backbone", "px", "millions", "gigas"),
    # He et al. 2016 and Tan and Le 2019, with 1000 classes; ours have 101
    [("resnet50", 224, 25.6, 4.1), ("efficientnet_b0", 224, 5.3, 0.39), ("vgg16", 224, 138.4, 15.5)],
)
def test_costs_are_those_of_the_networks_papers(backbone, px, millions, gigas):
    cost = count_cost(backbone, px, 1000)
    assert cost.parameters == pytest.approx(millions * 1e6, rel=0.02)
    assert cost.macs == pytest.approx(gigas * 1e9, rel=0.03)


def test_larger_pictures_take_longer():
    assert 0 < measure_latency(BASE, "cpu") < measure_latency(BASE.replace(px=224), "cpu")


def test_what_fits_counts_machines_that_are_still_to_come(monkeypatch, tmp_path, capsys):
    config = tmp_path / "ray_bootstrap_config.yaml"
    config.write_text(
        "max_workers: 6\n"
        "available_node_types:\n"
        "  head: {resources: {CPU: 4}, max_workers: 0}\n"
        "  one: {resources: {CPU: 8, GPU: 1}, max_workers: 4}\n"
        "  four: {resources: {CPU: 48, GPU: 4}, max_workers: 20}\n"
    )
    declared = placing.declared(config)
    assert declared == [(0, {"CPU": 4, "GPU": 0}), (4, {"CPU": 8, "GPU": 1}), (6, {"CPU": 48, "GPU": 4})]
    assert placing.declared(tmp_path / "none.yaml") == []

    def trial(cpus: float, gpus: float) -> placing.Unit:
        return placing.Unit("trial", cpus, gpus, "--cpus-per-trial and --gpus-per-trial")

    def there(*machines: tuple[float, float], coming: list) -> None:
        monkeypatch.setattr(placing, "machines", lambda: [{"CPU": cpus, "GPU": gpus} for cpus, gpus in machines])
        monkeypatch.setattr(placing, "coming", lambda: coming)

    there((4.0, 0.0), coming=[])
    assert placing.check_room(trial(1, 0.0), joined=False) == 4
    assert placing.gpu_share(None) == 0.0
    with pytest.raises(ValueError, match="1 CPU and 0.25 GPU: Ray has 4 CPUs and no GPU; change --cpus-per-trial"):
        placing.check_room(trial(1, 0.25), joined=False)
    with pytest.raises(ValueError, match="--parallel N"):
        placing.check_room(trial(1, 0.25), joined=True, count="--parallel")
    assert placing.check_room(trial(1, 0.25), joined=True) == 1
    assert "no room for a trial" in capsys.readouterr().err
    there((4.0, 0.0), coming=declared)
    assert placing.check_room(trial(1, 0.1), joined=True) == 4 * 8 + 6 * 40
    assert placing.gpu_share(None) == 0.25
    with pytest.raises(ValueError, match="the largest machine that may come has 48 CPUs and 4 GPUs"):
        placing.check_room(trial(64, 0.0), joined=True)


def test_a_piece_of_work_fits_one_machine_and_a_share_of_a_gpu_one_gpu():
    unit = placing.Unit("fold", 1, 0.4, "--gpus-per-fold")
    assert unit.fits({"CPU": 64.0, "GPU": 4.0}) == 4 * 2
    assert placing.Unit("fold", 16, 0.0, "--cpus-per-fold").fits({"CPU": 15.0}) == 0
    for cpus, gpus in ((0, 0.0), (1, 1.5), (1, -1.0), (1, float("nan"))):
        with pytest.raises(ValueError, match="--gpus-per-fold: a fold takes"):
            placing.Unit("fold", cpus, gpus, "--gpus-per-fold")


def make_limited() -> Callable[..., None]:
    """A function that travels by value: Ray's workers cannot import this file."""

    def limited(point: dict, *, faces: dict, folds: dict) -> None:
        """A trial whose process may take 400 MB more than it has after a first small training: torch's own threads and
        oneDNN's code need some of it, and more on a busy machine."""
        config = TrialConfig(backbone="resnet18", px=32, epochs=1)
        score_fold(config, ray.get(faces[config.px]), *folds["all"][0], report=lambda row: None)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, -1))
        try:
            tune_trial(point, faces=faces, folds=folds, weights={}, threads=1, device="cpu", prune_p=0.0)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))

    return limited


def test_a_trial_that_does_not_fit_fails_with_its_reason_and_the_others_go_on(faces, tmp_path, monkeypatch, one_ray):
    """Through Ray Tune: ResNet-101 with its optimiser needs 700 MB. It comes first, and is not tried again."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    store = tracking.connect()
    parent = tracking.find_or_start(store, key="sweep", name="sweep", stage="sweep")
    space = SPACES["paper"].narrowed(("resnet101", "resnet18"))
    space = replace(space, first=({"backbone": "resnet101"}, {"backbone": "resnet18"}))
    base = BASE.replace(epochs=1)
    journal: dict[int, Tried] = {}
    search = BlockSearch(space, base, journal, trials=2, folds=1, lag=1, seed=0, pretrained={})
    block = BlockRecord("all", tmp_path / "all", search, Mirror(tmp_path, "all", space, base))
    record = Recorder([block], store, parent=parent, key="sweep", brand="OVERLAP")
    folds = {"all": [(np.arange(40), np.arange(40, 60))]}
    run = partial(make_limited(), faces={32: ray.put(faces)}, folds=folds)
    tune.Tuner(
        tune.with_resources(run, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=TuneSearch({"all": search}, record), num_samples=-1, max_concurrent_trials=1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"), callbacks=[record], verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    ).fit()  # fmt: skip
    assert journal == read_journal(tmp_path / "all")
    assert [journal[n].state for n in (0, 1)] == ["failed", "complete"]
    assert journal[0].why.startswith("resnet101 at 32 px: it needs more memory than there is")
    assert journal[0].mae is None
    runs = tracking.children(store, parent)
    assert {key: status for key, (_, status) in runs.items()} == {"sweep-all-0": "FAILED", "sweep-all-1": "FINISHED"}
    assert {store.client.get_run(run).data.tags["study.brand"] for run, _ in runs.values()} == {"OVERLAP"}


def test_other_errors_are_not_taken_for_lack_of_memory():
    assert lacking_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert "GPU 0" in (lacking_memory(torch.OutOfMemoryError("CUDA out of memory. GPU 0 has ...")) or "")
    assert reason("a\nb: the last line\n\n") == "b: the last line"
    ended = "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/...\n"
    assert reason(ended) == "it needs more memory than there is: Ray's memory monitor ended its process"
    assert reason("") == "the trial's process died"


def test_the_paired_test_ends_a_trial_for_being_worse_and_never_for_being_better():
    rival = {f"p{i}": 5.0 for i in range(10)}
    years = np.linspace(0.5, 1.5, 10)
    worse, better = ({name: 5 + sign * y for name, y in zip(rival, years, strict=True)} for sign in (1, -1))
    assert hopeless(worse, rival, p=0.05)
    assert not hopeless(better, rival, p=0.05)
    assert not hopeless(dict(list(worse.items())[:5]), rival, p=0.5), "five people cannot show it"


def test_a_trial_far_behind_its_rival_ends_halfway_through_the_first_fold(faces):
    config = BASE.replace(epochs=4, batch=16)
    fold = person_folds(faces, folds=2, seed=0)[0]

    def end(halfway: float) -> tuple[dict, int]:
        """The last row against a rival of so many years' error for everyone, and how many rows there were."""
        rows: list[dict] = []
        rival = dict.fromkeys(faces.people, halfway)
        score_fold(config, faces, fold.train, fold.test, rival=rival, prune_p=0.1, report=rows.append)
        return rows[-1], len(rows)

    early, rows = end(halfway=0.0)
    assert (early["state"], early["epoch"], rows) == ("pruned", 2, 2)
    assert early["mae"] == early["validation_mae"]
    assert set(early["halfway"]) == set(faces.person[fold.test].tolist())
    whole, rows = end(halfway=1000.0)
    assert (whole["state"], whole["epoch"], rows) == ("complete", 4, 4)
    assert whole["halfway"] == early["halfway"]
    # the same distributions by each decoder, the config's own among them
    assert whole["decoded"]["expectation"] == whole["people"]
    assert whole["decoded"].keys() == {"expectation", "median", "argmax"}
    assert whole["decoded"]["median"] != whole["people"]


def test_trials_of_a_process_share_features_and_answer_as_without(faces, monkeypatch, one_ray):
    """Two trials of one frozen network, fold by fold, as Tune brings them to one process."""
    config = BASE.replace(frozen=3, frozen_views=2, epochs=2, weights="start")
    state = {name: value.numpy() for name, value in age_net("resnet18", px=32).state_dict().items()}
    (block,) = everybody(faces, folds=2, seed=0)
    folds = {"all": [(fold.train, fold.test) for fold in block.folds]}
    given = {"faces": {32: ray.put(faces)}, "weights": {("resnet18", "start"): ray.put(state)}, "folds": folds}
    computed: list[TrialConfig] = []
    rows: list[dict] = []
    monkeypatch.setattr(module, "_FEATURES", FeaturesCache())
    monkeypatch.setattr(module.tune, "report", rows.append)
    monkeypatch.setattr(module, "freeze", lambda config, *rest: computed.append(config) or freeze(config, *rest))
    for rate in (1e-3, 1e-2):
        trial = config.replace(learning_rate=rate)
        for number, (train, test) in enumerate(folds["all"]):
            point = {"trial": trial.to_json(), "block": "all", "fold": number, "rival": None}
            tune_trial(point, **given, threads=1, device="cpu", prune_p=0.0)
            alone: list[dict] = []
            source = freeze(trial, faces, as_tensors(state))
            score_fold(trial, faces, train, test, initial=as_tensors(state), source=source, report=alone.append)
            assert rows[-1]["state"] == "complete"
            assert rows[-1]["predicted"] == alone[-1]["predicted"]
    assert computed == [config.replace(learning_rate=1e-3)], "once, for both trials"
