"""What a sweep says before it starts: counts, times of networks that were not measured, when a small space is named."""

from __future__ import annotations

import pytest
import torch

from search_spaces import SPACES
from study.sweep.estimate import (
    Work,
    complete,
    fold_seconds,
    measuring_order,
    network_configs,
    plan_lines,
    random_lines,
    read_costs,
    write_costs,
)
from study.sweep.options import Sweep
from study.sweep.plan import compute
from study.sweep.timing import Timing, time_network, time_networks
from trainables.config import TrialConfig
from trainables.costs import count_cost

BASE = TrialConfig(px=64, epochs=2, batch=10)
WORK = Work(blocks=2, trials=4, folds=3, finals=6, train=100.0, test=50.0, places=2, gpu=0.0)


def test_a_fold_is_its_start_its_steps_and_its_photos():
    timing = Timing(start=3.0, step=0.5, photo=0.1, answer=0.01)
    assert timing.fold(BASE, 100, 50) == pytest.approx(3 + 2 * (10 * 0.5 + 100 * 0.1 + 50 * 0.01))


@pytest.mark.slow
def test_a_network_that_was_not_measured_is_judged_by_the_nearest_of_its_family():
    configs = network_configs(SPACES["study"], BASE)
    assert len(configs) == 17
    vgg, other = Timing(1.0, 1.0, 1.0, 1.0), Timing(9.0, 9.0, 9.0, 9.0)
    found = complete({"vgg16": vgg, "resnet152": other}, configs)
    macs, weights = (
        [getattr(count_cost(name, 64, 101), field) for name in ("vgg16", "vgg19")] for field in ("macs", "parameters")
    )
    assert found.keys() == configs.keys()
    assert found["vgg16"] == vgg
    assert found["vgg19"].photo == pytest.approx(macs[1] / macs[0])
    assert found["vgg19"].step == pytest.approx(weights[1] / weights[0])
    assert complete({}, configs) == {}


@pytest.mark.slow
def test_one_of_each_family_is_measured_first():
    order = [config.backbone for config in measuring_order(network_configs(SPACES["study"], BASE))]
    assert sorted(order[:4]) == ["alexnet", "efficientnet_lite0", "resnet18", "vgg16"]
    assert len(order) == len(set(order)) == 17


def test_the_lines_count_trainings_and_add_up_times():
    folds = {"resnet18": 10.0, "resnet34": 20.0}
    starts = {"resnet18": "random", "resnet34": "runs/pretrained/resnet34"}

    def lines(work: Work, **changes) -> str:
        usual = {"first": list(folds), "measured": 1, "budget": None, "smaller": 1.0}
        return "\n".join(plan_lines(folds, starts, work, **{**usual, **changes}))

    said = lines(WORK)
    assert "2 block(s) x 4 trials x 3 folds: at most 24 trainings, and up to 6 further seeds" in said
    assert "from runs/pretrained/resnet34" in said
    # 2 x (10 + 20 + 2 x 15) s for first folds; three times that and 6 x 3 x 15 s if nothing is pruned; on two places
    assert "time: 2 min if every trial is pruned after its first fold, 5 min if none is, with 2 side by side" in said
    assert "GPU-hours" not in said
    assert "--space small" not in said
    many = Work(**{**vars(WORK), "trials": 20_000, "gpu": 0.5})
    assert "GPU-hours" in lines(many)
    assert "That is days: --space small has three networks (60 min" in lines(many)
    assert "--space small" not in lines(many, smaller=None)
    # resnet18 has 10 of 30 s; by cost both networks get the same
    assert "From random weights, since no checkpoint of them is there: resnet18, about 33% of the time" in said
    assert "--networks resnet34 leaves them out" in said
    assert "resnet18, about 50% of the time" in lines(WORK, budget=120.0)
    assert random_lines({"resnet18": "random"}, {}) == [], "there is nothing to narrow to"
    spends = lines(WORK, budget=120.0)
    assert "60 s for all blocks, spent by cost" in spends
    assert "a network's share of a block is 30 s of compute: not all of a trial of resnet34" in spends
    assert "time: not measured" in "\n".join(
        plan_lines({}, starts, WORK, first=[], measured=0, budget=None, smaller=None)
    )


def test_a_budget_is_of_places_and_of_shares_of_gpus():
    assert compute(Sweep(), 4, 0.25) is None
    assert compute(Sweep(minutes=2.0), 4, 0.0) == 480.0
    assert compute(Sweep(gpu_hours=1.0), 4, 0.25) == 4 * 3600.0
    assert compute(Sweep(minutes=2.0, gpu_hours=1.0), 4, 0.25) == 480.0
    with pytest.raises(ValueError, match="--gpu-hours is for trials on GPUs, and these take none"):
        compute(Sweep(gpu_hours=1.0), 4, 0.0)


@pytest.mark.slow
def test_times_are_of_real_steps_and_kept(tmp_path):
    threads = torch.get_num_threads()
    config = BASE.replace(backbone="efficientnet_lite0", px=32)
    found = time_networks([config, BASE.replace(backbone="vgg19", px=224)], "cpu", threads=threads, seconds=0.01)
    assert found.keys() == {"efficientnet_lite0"}, "for the other there was no time"
    timing = found["efficientnet_lite0"]
    assert min(timing.start, timing.photo, timing.answer) > 0
    assert timing.step >= 0
    write_costs(tmp_path / "costs.json", found)
    assert read_costs(tmp_path / "costs.json") == found
    assert read_costs(tmp_path / "none.json") is None
    (tmp_path / "costs.json").write_text((tmp_path / "costs.json").read_text().replace('"photo": ', '"photo": 1'))
    with pytest.raises(ValueError, match=r"costs\.json is no sound record of times: .*digest"):
        read_costs(tmp_path / "costs.json")


@pytest.mark.slow
def test_large_pictures_are_timed_smaller_and_counted():
    timing = time_network(BASE.replace(backbone="resnet18", px=448), "cpu", seconds=0.5)
    small = time_network(BASE.replace(backbone="resnet18", px=64), "cpu", seconds=0.5)
    assert timing.photo > small.photo


@pytest.mark.slow
def test_frozen_stages_are_not_in_the_time_of_a_training():
    whole = time_network(BASE.replace(backbone="efficientnet_lite0", px=64), "cpu", seconds=0.5)
    frozen = time_network(BASE.replace(backbone="efficientnet_lite0", px=64, frozen=7), "cpu", seconds=0.5)
    assert 0 < frozen.photo < whole.photo / 3
    assert 0 < frozen.answer < whole.answer / 3


def test_folds_are_of_the_networks_asked():
    configs = network_configs(SPACES["small"], BASE)
    seconds = fold_seconds(complete({"resnet18": Timing(0.0, 0.0, 0.1, 0.0)}, configs), configs, WORK)
    assert seconds.keys() == set(SPACES["small"].backbones)
    assert seconds["resnet18"] == pytest.approx(2 * 100 * 0.1)
