"""Every space: all draws are valid configs, its first points are used unchanged, and conditionals are real."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import warnings

import numpy as np
import optuna
import pytest

from search_spaces import SPACES, find_space
from search_spaces.efficientnet import compound_px
from trainables.backbones import find_backbone
from trainables.config import TrialConfig
from trainables.losses import LOSSES, MeanVariance

BASE = TrialConfig(backbone="resnet18", px=64)


def drawn(name: str, *, trials: int) -> list[tuple[optuna.Trial, TrialConfig]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = []
    for _ in range(trials):
        trial = study.ask()
        asked.append((trial, SPACES[name].config(trial, BASE)))
    return asked


@pytest.mark.parametrize("name", SPACES)
def test_every_draw_is_a_valid_config(name):
    space, base = SPACES[name], BASE.to_json()
    for _, config in drawn(name, trials=50):
        fields = config.to_json()
        assert TrialConfig.from_json(json.loads(json.dumps(fields))) == config
        backbone = find_backbone(config.backbone)
        assert config.backbone in (space.backbones or (BASE.backbone,)), "its checkpoint is searched for"
        assert config.px in space.sizes(BASE), "its faces are loaded"
        assert config.px >= backbone.least_px
        assert config.px % backbone.px_step == 0
        assert backbone.drop_path or config.drop_path == 0
        changed = {key: value for key, value in fields.items() if value != base[key]}
        varied = {"backbone", "loss", "px", "learning_rate", "drop_path", "warmup", "frozen", "rare_ages", "rare_power"}
        assert changed.keys() <= varied


@pytest.mark.parametrize("name", SPACES)
def test_every_first_point_is_taken_as_it_is(name):
    space = SPACES[name]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point in space.first:
        study.enqueue_trial(dict(point))
    for point in space.first:
        trial = study.ask()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna only warns where a value lies outside its range
            space.config(trial, BASE)
        assert point.items() <= trial.params.items(), "every value of the point was used"


@pytest.mark.parametrize("name", SPACES)
def test_a_space_travels_to_other_processes(name):
    assert pickle.loads(pickle.dumps(SPACES[name])) == SPACES[name]


def test_a_loss_is_asked_for_its_own_weights_only():
    own = {
        "cross_entropy": {"label_smoothing"},
        "mean_variance": {"mean_term", "mean_weight", "variance_term", "variance_weight"},
        "dldl_v2": {"sigma", "expectation_weight"},
        "sord": {"distance", "squared_scale", "absolute_scale"},
        "coral": set(),
        "mean_residue": {"residue_mean_weight", "residue_weight"},
    }
    assert own.keys() == LOSSES.keys()
    seen = set()
    for trial, config in drawn("losses", trials=100):
        name = trial.params["loss"]
        seen.add(name)
        assert type(config.loss) is LOSSES[name]
        assert trial.params.keys() - {"loss", "learning_rate", "rare_ages", "rare_power"} <= own[name]
        assert config.rare_ages == trial.params["rare_ages"]
        assert ("rare_power" in trial.params) == (config.rare_ages != "none")
        assert not {"squared_scale", "absolute_scale"} <= trial.params.keys()
    assert seen == LOSSES.keys()


@pytest.mark.parametrize("name", ["losses", "small", "mean_variance", "paper"])
def test_the_papers_own_loss_comes_first(name):
    study = optuna.create_study()
    study.enqueue_trial(dict(SPACES[name].first[0]))
    assert SPACES[name].config(study.ask(), BASE).loss == MeanVariance(0.2, 0.05)


def test_losses_start_as_their_papers_have_them():
    study = optuna.create_study()
    for point in SPACES["losses"].first:
        study.enqueue_trial(dict(point))
        loss = SPACES["losses"].config(study.ask(), BASE).loss
        assert loss == type(loss)(), "the defaults are the papers' own"
    assert [point["rare_ages"] for point in SPACES["losses"].first] == ["none"] * 6 + ["reweight", "balance"]


def test_efficientnets_grow_with_their_pictures():
    native = BASE.replace(px=224)
    for name in SPACES["efficientnet"].backbones:
        assert compound_px(name, native) == find_backbone(name).px
    assert SPACES["efficientnet"].sizes(BASE) == (64, 69, 74, 86, 109, 130, 151, 171)
    for trial, config in drawn("efficientnet", trials=50):
        assert ("resolution" in trial.params) == (config.backbone != "efficientnet_b0")
        assert ("drop_path" in trial.params) == trial.params["stochastic_depth"]
        compound = trial.params.get("resolution") == "compound"
        assert config.px == (compound_px(config.backbone, BASE) if compound else 64)


def test_the_study_begins_with_the_papers_eleven_rows_at_its_learning_rate():
    study = optuna.create_study()
    space, rows = SPACES["study"], SPACES["paper"].backbones
    assert len(rows) == 11
    for point in space.first:
        study.enqueue_trial(dict(point))
    asked = [space.config(study.ask(), BASE) for _ in space.first]
    assert tuple(config.backbone for config in asked[:11]) == rows
    assert sorted(config.backbone for config in asked) == sorted(space.backbones), "and each network once"
    for config in asked:
        assert (config.loss, config.drop_path) == (MeanVariance(0.2, 0.05), 0.0)
        assert config.learning_rate == pytest.approx(1e-3)


def test_the_networks_of_the_study_share_their_parameters():
    """What one network's trial has to say about the learning rate and the lambdas, it says about all."""
    shared, ratios = None, {}
    for trial, config in drawn("study", trials=200):
        own = {"mean_weight", "variance_weight"} | (
            {"drop_path"} if find_backbone(config.backbone).drop_path else set()
        )
        shared = trial.params.keys() - own if shared is None else shared
        assert trial.params.keys() - own == shared == {"backbone", "rate_factor", "mean_term", "variance_term"}
        assert ("mean_weight" in trial.params) == trial.params["mean_term"] == (config.loss.mean_weight > 0)
        assert ("variance_weight" in trial.params) == trial.params["variance_term"] == (config.loss.variance_weight > 0)
        assert ("drop_path" in trial.params) == find_backbone(config.backbone).drop_path
        ratios[config.backbone] = config.learning_rate / trial.params["rate_factor"]
    assert ratios.keys() == set(SPACES["study"].backbones)
    assert ratios["resnet50"] == pytest.approx(1e-3)
    assert ratios["vgg16"] == pytest.approx(3e-4)


@pytest.mark.slow
def test_the_sampler_learns_the_rate_across_the_networks_of_the_study():
    """Simulated: the best factor is 0.4, networks differ by an offset. Random draws have a mean distance of 0.97."""
    found, space = [], SPACES["study"]
    for seed in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=8)
        study = optuna.create_study(sampler=sampler)
        offset = np.random.default_rng(seed).normal(0, 0.3, len(space.backbones))
        for point in space.first:
            study.enqueue_trial(dict(point))
        for number in range(40):
            trial = study.ask()
            backbone = space.config(trial, BASE).backbone
            distance = abs(math.log(trial.params["rate_factor"] / 0.4))
            study.tell(trial, 4 + offset[space.backbones.index(backbone)] + 0.4 * distance)
            if number >= 25:
                found.append(distance)
    assert np.mean(found) < 0.6


@pytest.mark.parametrize("name", [name for name, space in SPACES.items() if space.backbones])
def test_a_narrowed_space_has_only_its_networks_and_their_first_points(name):
    whole, chosen = SPACES[name], (SPACES[name].backbones[-1], SPACES[name].backbones[0])
    space = whole.narrowed(chosen)
    assert space.backbones == (whole.backbones[0], whole.backbones[-1]), "in the space's order"
    assert space.first == tuple(point for point in whole.first if point["backbone"] in chosen)
    assert len(space.first) < len(whole.first) or len(whole.backbones) == 2
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [space.config(study.ask(), BASE) for _ in range(20)]
    assert {config.backbone for config in asked} == set(chosen)
    assert {config.px for config in asked} <= set(space.sizes(BASE)) <= set(whole.sizes(BASE))


def test_narrowing_keeps_the_sizes_of_compound_scaling():
    whole, native = SPACES["efficientnet"], BASE.replace(px=600)
    space = dataclasses.replace(whole, own=("px",)).narrowed(["efficientnet_b1", "efficientnet_b7"])
    assert space.sizes(native) == (224, 240, 600)
    study = optuna.create_study()
    study.enqueue_trial({"backbone": "efficientnet_b7", "resolution": "compound"})
    assert space.config(study.ask(), native).px == 600


def test_networks_that_a_space_lacks_are_one_line():
    for name, networks, said in (
        ("small", ["resnet81"], "unknown backbone 'resnet81'. Did you mean 'resnet18'"),
        ("small", ["resnet34"], "the space has no network 'resnet34'. Did you mean 'resnet18'"),
        ("small", ["timm/resnet10t"], "the space has no network 'timm/resnet10t'. Did you mean 'resnet18'"),
        ("study", ["timm/resnet10tt"], "Did you mean 'timm/resnet10t'"),
        ("losses", ["resnet18"], "the space has no networks to choose from"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            SPACES[name].narrowed(networks)
        assert "\n" not in str(error.value)


def test_the_study_takes_any_network_of_timm():
    space = SPACES["study"].narrowed(["timm/regnetx_002", "alexnet"])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [space.config(study.ask(), BASE.replace(drop_path=0.1)) for _ in range(10)]
    assert {config.backbone for config in asked} == {"alexnet", "timm/regnetx_002"}


def test_a_near_name_is_suggested():
    with pytest.raises(ValueError, match="Did you mean 'transformers'"):
        find_space("transformer")
