"""timm/NAME: any classifier of timm as a backbone, with its own input and options; other names are one-line errors."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import timm
import torch

from study.cli.options import Training
from trainables.backbones import AGES, age_net, check_backbone, find_backbone, read_weights
from trainables.config import TrialConfig
from trainables.costs import count_cost
from trainables.losses import MeanVariance
from trainables.names import folder_name
from trainables.timm_models import refusal, timm_fields

pytestmark = pytest.mark.slow  # builds many networks

NAMES = ["timm/mobilenetv3_small_050", "timm/vit_tiny_patch16_224", "timm/regnetx_002", "timm/resnet10t"]


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_a_step_at_a_small_size_and_predicts_ages(name):
    torch.manual_seed(0)
    net = age_net(name, px=64)
    pixels, age = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8), torch.tensor([3, 60, 100])
    loss = MeanVariance()(net(pixels), age)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
    assert next(net.network.parameters()).grad is not None, "the gradient reaches the first layer"
    with torch.inference_mode():
        assert net.eval()(pixels).shape == (3, AGES)


@pytest.mark.parametrize("name", NAMES)
def test_its_input_is_what_timm_says_and_its_cost_is_the_networks(name):
    cfg = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    backbone, net = find_backbone(name), age_net(name, px=64)
    assert (backbone.mean, backbone.std, backbone.px, backbone.head) == (
        cfg.mean, cfg.std, cfg.input_size[1], cfg.classifier,
    )  # fmt: skip
    assert net.mean.flatten().tolist() == pytest.approx([255 * value for value in cfg.mean])
    cost = count_cost(name, 64, AGES)
    assert cost.parameters == sum(p.numel() for p in net.parameters())
    assert 1e6 < cost.macs < 1e9
    config = TrialConfig(backbone=name, px=64, drop_path=0.1)
    assert TrialConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert Training(config="paper").trial_config(backbone=name).px == cfg.input_size[1]


def test_a_network_has_its_own_dropout_and_no_drop_path_where_timm_has_none():
    assert TrialConfig.from_json({"backbone": "timm/ghostnet_100"}).dropout == 0.2
    with pytest.raises(ValueError, match="expected drop_path=0"):
        TrialConfig(backbone="timm/ghostnet_100", drop_path=0.1)


def test_weights_of_timm_fill_the_body_and_a_tag_chooses_them(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("resnet10t").state_dict()
    safetensors.torch.save_file(source, tmp_path / "w.safetensors")
    net = age_net("timm/resnet10t", weights=str(tmp_path / "w.safetensors"), px=64).state_dict()
    assert all(torch.equal(net[f"network.{key}"], value) for key, value in source.items() if not key.startswith("fc."))
    assert net["network.fc.weight"].shape[0] == AGES
    assert find_backbone("timm/resnet18.a2_in1k").library_name == "resnet18.a2_in1k"
    with pytest.raises(FileNotFoundError, match="could not get ImageNet weights of timm/resnet10t"):
        read_weights("timm/resnet10t", "imagenet")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet10tt", "timm .* does not have it. Did you mean 'timm/resnet10t'"),
        ("timm/resnet18.a1", "Did you mean 'timm/resnet18.a1_in1k'"),
        ("timm/Résnet/..", "does not have it"),
        ("timm/", "does not have it"),
        ("resnet10t", "Did you mean 'timm/resnet10t'"),
        ("resnt18", "Did you mean 'resnet18'.*and timm/NAME for any classifier of timm"),
        ("timm/deepseek_vit_412m_enc", "has no classifier in timm's pretrained_cfg"),
        ("timm/volo_d1_224", r"has several classifiers \(head, aux_head\)"),
        ("timm/vit_5b_patch16_sapiens2", "768 x 1024 px: expected a model for square RGB"),
    ],
)
def test_a_name_that_cannot_be_a_backbone_is_one_line(name, said):
    with pytest.raises(ValueError, match=said) as error:
        TrialConfig(backbone=name, px=64)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("name", "px", "said"),
    [
        ("timm/crossvit_tiny_240", 64, "does not take pictures of 64 px .*give another px, such as 240"),
        ("timm/levit_128s", 66, "does not take pictures of 66 px"),
        ("timm/inception_v3", 64, "such as 299"),
        ("timm/halonet26t", 64, "at least 256 px"),
    ],
)
def test_a_size_that_a_network_cannot_take_is_refused_and_its_own_size_is_taken(name, px, said):
    with pytest.raises(ValueError, match=said) as error:
        check_backbone(name, px=px)
    assert "\n" not in str(error.value)
    assert check_backbone(name, px=find_backbone(name).px).px > px


def test_looking_a_network_up_draws_no_random_numbers():
    """Else initial weights would depend on whether the name was looked up before in the process."""
    timm_fields.cache_clear()
    refusal.cache_clear()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check_backbone("timm/vit_tiny_patch16_224", px=64)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_folder_of_its_name_is_one_folder():
    assert folder_name("timm/resnet18.a1_in1k") == "timm-resnet18.a1_in1k"
    assert folder_name("efficientnet_b0") == "efficientnet_b0"
