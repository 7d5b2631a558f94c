"""Options change the config and are named in the selection, or are refused; each network has its size and dropout."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from search_spaces import SPACES, Space
from study.cli.options import Training
from study.lopo import plan as plans
from study.lopo.command import Lopo, lopo
from study.lopo.plan import plan_by_hand, plan_of_sweep
from study.pretrain.command import Pretrain, pretrain
from study.starts import find_starts
from study.sweep.command import Sweep, sweep
from trainables.backbones import BACKBONES, age_net
from trainables.checkpoints import Checkpoint, CheckpointRecord, save_checkpoint
from trainables.config import TrialConfig
from trainables.convolutions import plain_convolutions

# One value, not the default, of every option of a training
GIVEN: dict[str, Any] = {
    "px": 96, "epochs": 7, "batch": 16, "learning_rate": 0.01, "ema": 0.9, "dropout": 0.25, "frozen": 2,
    "frozen_views": 5, "rare_ages": "reweight", "companions": 40, "decoder": "median", "precision": "float32",
    "seed": 11,
}  # fmt: skip


def test_every_option_of_a_training_is_tried_here():
    assert GIVEN.keys() | {"config", "trial"} == {field.name for field in fields(Training)}


@pytest.mark.parametrize("option", GIVEN)
def test_an_option_takes_effect_by_hand_and_next_to_best_where_the_selection_names_it(option, monkeypatch):
    training = Training(**{option: GIVEN[option]})
    assert getattr(training.trial_config(backbone="resnet18"), option) == GIVEN[option]
    winner = TrialConfig(backbone="resnet18", learning_rate=0.002)
    assert getattr(winner, option) != GIVEN[option]
    monkeypatch.setattr(plans.tracking, "finished", lambda *_, **__: [("run", 0, {})])
    monkeypatch.setattr(plans.tracking, "read_json", lambda *_: best_of(winner))
    plan = plan_of_sweep(STORE, name=None, training=training)
    config = plan.config("anybody")
    assert getattr(config, option) == GIVEN[option]
    assert f"--{option.replace('_', '-')} {GIVEN[option]}" in plan.selection
    changed = {name for name in GIVEN if getattr(config, name) != getattr(winner, name)}
    assert changed == {option}, "and nothing else"


STORE = plans.tracking.Tracking.__new__(plans.tracking.Tracking)
"""Never used: tests give what would be read from it."""


def best_of(config: TrialConfig) -> dict[str, Any]:
    block = {"name": "all", "people": [], "trial": config.to_json(), "number": 0}
    return {
        "blocks": [block], "sweep": "s", "select": "dev", "sealed": True, "faces": [], "faces_digest": None,
        "choice": {
            "blocks": [], "optimism": dict.fromkeys(("claimed", "corrected", "gap", "gap_low", "gap_high"), 0.0),
            "backbones": ["resnet18"], "spread": {}, "common_trials": 0, "rank_correlation": None,
        },
        "apart_from": [], "starts": [], "unlike": "",
        "learned_from": {
            "state": "apart", "photos": 0, "people": 0, "compared": 0, "synthetic": False, "sentence": "compared",
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        (lopo, Lopo(Training(config="paper"), best=True), "without --config"),
        (lopo, Lopo(Training(trial=Path("x")), best=True), "--trial"),
        (lopo, Lopo(best=True, backbone="resnet18"), "--backbone"),
        (lopo, Lopo(best=True, weights="random"), "--weights"),
        (lopo, Lopo(sweep="mine"), "--sweep has no effect without --best"),
        (sweep, Sweep(Training(trial=Path("x"), config="paper")), "give one of them"),
        (sweep, Sweep(dev_share=0.2), "--dev-share has no effect with --select blocks"),
        (sweep, Sweep(pretrain_faces=(Path("x"),)), "--pretrain-faces has no effect"),
        (sweep, Sweep(select="dev", blocks=3), "--blocks has no effect with --select dev"),
        (sweep, Sweep(Training(px=32), space="paper"), "alexnet needs pictures of at least 64 px"),
        (sweep, Sweep(Training(px=66), space="transformers"), "swin_tiny needs a picture size that is a multiple of 4"),
        (pretrain, Pretrain(Training(frozen=2)), "trains the whole network"),
        (pretrain, Pretrain(workers=3), "--batch 32 does not divide among --workers 3"),
    ],
    ids=range(13),
)
def test_an_option_that_would_have_no_effect_is_refused_before_anything_starts(
    run, options, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        run(options)
    assert not any(path.name == "runs" for path in tmp_path.iterdir())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_papers_settings_show_each_network_its_native_size(backbone):
    paper = Training(config="paper")
    native = paper.trial_config(backbone=backbone)
    assert native.px == BACKBONES[backbone].px
    assert replace(paper, px=64).trial_config(backbone=backbone).px == 64
    assert Training().trial_config(backbone=backbone).px == TrialConfig().px


def at(training: Training, name: str) -> Space:
    return replace(SPACES[name], own=training.own)


def asked(space: Space, base: TrialConfig) -> list[TrialConfig]:
    """The configs of a space's first points."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point in space.first:
        study.enqueue_trial(dict(point))
    return [space.config(study.ask(), base) for _ in space.first]


@pytest.mark.parametrize("name", SPACES)
def test_a_sweep_of_the_papers_settings_shows_each_network_its_native_size_unless_told_otherwise(name):
    paper = Training(config="paper")
    space, base = at(paper, name), paper.trial_config()
    for config in asked(space, base):
        assert config.px == BACKBONES[config.backbone].px
        assert config.px in space.sizes(base), "its faces lie ready"
    given = replace(paper, px=224)
    if name != "efficientnet":  # asks for sizes itself
        assert {config.px for config in asked(at(given, name), given.trial_config())} == {224}
        assert at(given, name).sizes(given.trial_config()) == (224,)


def test_dropout_is_the_networks_own_unless_told_and_zero_is_none():
    def rates(config: TrialConfig) -> set[float]:
        net = age_net(config.backbone, dropout=config.dropout, px=config.px)
        return {part.p for part in net.modules() if isinstance(part, torch.nn.Dropout)}

    own = Training().trial_config(backbone="alexnet")
    assert rates(own) == {0.5} == rates(TrialConfig.from_json({"backbone": "alexnet"}))
    assert rates(Training(dropout=0.0).trial_config(backbone="alexnet")) == {0.0}
    assert rates(TrialConfig(backbone="alexnet", dropout=0.0)) == {0.0}
    assert TrialConfig.from_json(own.to_json()) == own, "the record holds the rate"
    for space in ("backbones", "paper"):
        found = {c.backbone: c.dropout for c in asked(at(Training(), space), TrialConfig())}
        assert found == {name: BACKBONES[name].dropout for name in found}
        none = Training(dropout=0.0)
        assert {c.dropout for c in asked(at(none, space), none.trial_config())} == {0.0}


def test_a_networks_own_dropout_is_its_librarys():
    import timm
    import torchvision

    alexnet = torchvision.models.get_model("alexnet")
    assert {p.p for p in alexnet.modules() if isinstance(p, torch.nn.Dropout)} == {BACKBONES["alexnet"].dropout}
    for name in ("vgg16", "efficientnet_b0", "resnet18", "vit_tiny"):
        with torch.device("meta"):
            default = timm.create_model(BACKBONES[name].library_name)
            ours = age_net(name, dropout=BACKBONES[name].dropout).network
        plain_convolutions(ours)
        assert [type(p) for p in default.modules()] == [type(p) for p in ours.modules()]
        drops = [[p.p for p in n.modules() if isinstance(p, torch.nn.Dropout)] for n in (default, ours)]
        assert drops[0] == drops[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pretrained") / "mine"
    state = age_net("resnet18", px=32).state_dict()
    save_checkpoint(folder, Checkpoint(state, TrialConfig(backbone="resnet18", px=32), CheckpointRecord("drawn")))
    return folder


def test_a_trial_files_weights_count_unless_others_are_given(checkpoint, tmp_path):
    file = tmp_path / "trial.json"
    file.write_text(json.dumps({"backbone": "resnet18", "px": 32, "weights": str(checkpoint)}))
    training = Training(trial=file)
    assert training.trial_config().weights == str(checkpoint)
    assert training.trial_config(weights=None).weights == str(checkpoint)
    assert training.trial_config(weights="random").weights == "random"
    assert plan_by_hand(training, backbone=None, weights=None).config("x").weights == str(checkpoint)
    base = training.trial_config()
    elsewhere = tmp_path / "pretrained"
    save_checkpoint(
        elsewhere / "resnet18",
        Checkpoint(age_net("resnet18", px=32).state_dict(), base.replace(weights="random")),
    )
    found = find_starts(elsewhere, SPACES["mean_variance"], base, from_file=True)
    assert {name: start.weights for name, start in found.items()} == {"resnet18": str(checkpoint)}
    with pytest.raises(ValueError, match="cannot start efficientnet_lite0, which has no checkpoint"):
        find_starts(elsewhere, SPACES["small"], base, from_file=True)
    found = find_starts(elsewhere, SPACES["small"], base.replace(weights="random"), from_file=False)
    assert {start.weights for start in found.values()} == {str(elsewhere / "resnet18"), "random"}
    assert found["resnet18"].weights == str(elsewhere / "resnet18")


@pytest.mark.slow
def test_a_network_of_timm_is_pretrained_into_one_folder_from_which_it_starts(tmp_path, monkeypatch, make_table):
    monkeypatch.chdir(tmp_path)
    faces = (str(make_table(tmp_path / "crowd", people=60, photos=1)),)
    seen = []
    monkeypatch.setattr("study.pretrain.command.pretrain_all", lambda plan: seen.extend(plan.jobs) or [])
    pretrain(Pretrain(backbone=("timm/resnet10t", "resnet18"), faces=faces, out=Path("made")))
    assert [job.folder for job in seen] == [Path("made/timm-resnet10t"), Path("made/resnet18")]
    state = age_net("timm/resnet10t", px=64).state_dict()
    save_checkpoint(seen[0].folder, Checkpoint(state, seen[0].config, CheckpointRecord("nothing")))
    space = SPACES["study"].narrowed(["resnet18", "timm/resnet10t"])
    found = find_starts(Path("made"), space, TrialConfig(), from_file=False)
    weights = {name: start.weights for name, start in found.items()}
    assert weights == {"resnet18": "random", "timm/resnet10t": "made/timm-resnet10t"}


def test_frozen_stages_that_were_never_trained_are_said_before_anything_starts(checkpoint):
    frozen = TrialConfig(backbone="resnet18", px=32, frozen=2)
    for config, said in (
        (frozen, "got random ones for resnet18"),
        (frozen.replace(weights=str(checkpoint), frozen=5), "has 4 stages to freeze"),
    ):
        with pytest.raises(ValueError, match=said):
            find_starts(Path("nowhere"), SPACES["mean_variance"], config, from_file=False)


@pytest.mark.slow
def test_a_pretraining_is_of_the_trial_files_network(tmp_path, monkeypatch, make_table):
    monkeypatch.chdir(tmp_path)
    Path("trial.json").write_text('{"backbone": "resnet18", "frozen": 1}')
    with pytest.raises(ValueError, match="here --frozen 0"):
        pretrain(Pretrain(Training(trial=Path("trial.json"))))
    seen = []
    faces = (str(make_table(tmp_path / "crowd", people=60, photos=1)),)
    monkeypatch.setattr(
        "study.pretrain.command.pretrain_all", lambda plan: seen.extend(job.config for job in plan.jobs) or []
    )
    pretrain(Pretrain(Training(trial=Path("trial.json"), frozen=0), faces=faces))
    pretrain(Pretrain(Training(trial=Path("trial.json"), frozen=0), backbone=("vgg16",), faces=faces))
    pretrain(Pretrain(faces=faces))
    assert [config.backbone for config in seen] == ["resnet18", "vgg16", "efficientnet_b0"]
