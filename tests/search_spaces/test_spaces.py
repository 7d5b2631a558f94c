"""Every space: all draws are valid configs, its first points are used unchanged, and conditionals are real."""

from __future__ import annotations

import json
import pickle
import warnings

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
        asked.append((trial, SPACES[name].ask(trial, BASE)))
    return asked


@pytest.mark.parametrize("name", SPACES)
def test_every_draw_is_a_valid_config(name):
    space = SPACES[name]
    for _, config in drawn(name, trials=50):
        assert TrialConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
        backbone = find_backbone(config.backbone)
        assert config.backbone in (space.backbones or (BASE.backbone,)), "its checkpoint is searched for"
        assert config.px in space.px(BASE), "its faces are loaded"
        assert config.px >= backbone.least_px
        assert config.px % backbone.px_step == 0
        assert backbone.drop_path or config.drop_path == 0
        changed = {key: value for key, value in config.to_json().items() if value != BASE.to_json()[key]}
        assert changed.keys() <= {"backbone", "loss", "px", "learning_rate", "drop_path", "warmup", "frozen"}


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
            space.ask(trial, BASE)
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
        assert trial.params.keys() - {"loss", "learning_rate"} <= own[name]
        assert not {"squared_scale", "absolute_scale"} <= trial.params.keys()
    assert seen == LOSSES.keys()


@pytest.mark.parametrize("name", ["losses", "small", "mean_variance", "paper"])
def test_the_papers_own_loss_comes_first(name):
    study = optuna.create_study()
    study.enqueue_trial(dict(SPACES[name].first[0]))
    assert SPACES[name].ask(study.ask(), BASE).loss == MeanVariance(0.2, 0.05)


def test_losses_start_as_their_papers_have_them():
    study = optuna.create_study()
    for point in SPACES["losses"].first:
        study.enqueue_trial(dict(point))
        loss = SPACES["losses"].ask(study.ask(), BASE).loss
        assert loss == type(loss)(), "the defaults are the papers' own"


def test_efficientnets_grow_with_their_pictures():
    native = BASE.replace(px=224)
    for name in SPACES["efficientnet"].backbones:
        assert compound_px(name, native) == find_backbone(name).px
    assert SPACES["efficientnet"].px(BASE) == (64, 69, 74, 86, 109, 130, 151, 171)
    for trial, config in drawn("efficientnet", trials=50):
        assert ("resolution" in trial.params) == (config.backbone != "efficientnet_b0")
        assert ("drop_path" in trial.params) == trial.params["stochastic_depth"]
        compound = trial.params.get("resolution") == "compound"
        assert config.px == (compound_px(config.backbone, BASE) if compound else 64)


def test_a_near_name_is_suggested():
    with pytest.raises(ValueError, match="Did you mean 'transformers'"):
        find_space("transformer")
