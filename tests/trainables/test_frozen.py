"""Frozen stages: a split network equals the whole one, features are the output of its early stages, nothing leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.backbones import age_net, read_weights
from trainables.checkpoints import Checkpoint, CheckpointRecord, save_checkpoint
from trainables.config import NO_AUGMENTATION, Augmentation, TrialConfig
from trainables.faces.batches import Batches
from trainables.faces.table import load_faces
from trainables.fitting import build_net, fit, freeze, predict, rate_factor
from trainables.frozen.cut import early_stages, later_stages, stages_of
from trainables.frozen.features import FIRST_TRAINING, FeatureBatches, compute_features

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory):
    return load_faces([make_table(tmp_path_factory.mktemp("faces"), people=8, photos=6)], px=32)


@pytest.fixture(scope="module")
def config(faces, tmp_path_factory):
    """A config that starts from a checkpoint, which freezing requires."""
    folder = tmp_path_factory.mktemp("pretrained") / "resnet18"
    config = TrialConfig(backbone="resnet18", px=32, epochs=1, batch=16, frozen=2, frozen_views=3)
    net = fit(config.replace(frozen=0), faces, np.arange(len(faces))).net
    save_checkpoint(folder, Checkpoint(net.state_dict(), config.replace(frozen=0), CheckpointRecord("a test")))
    return config.replace(weights=str(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["alexnet", "vgg16", "resnet18", "efficientnet_lite0", "vit_tiny", "swin_tiny", "convnext_tiny"]
)
def test_a_split_network_computes_the_same_as_the_whole(name):
    torch.manual_seed(0)
    net = age_net(name, px=64).eval()
    pixels = torch.randint(0, 256, (2, 3, 64, 64)).float()
    with torch.inference_mode():
        whole = net(pixels)
    for frozen in {1, 2, len(stages_of(net))}:
        later = later_stages(net, frozen).eval()
        features = early_stages(net, frozen)(pixels)
        with torch.inference_mode():
            assert torch.equal(later(features), whole), frozen
        assert sum(p.numel() for p in later.parameters()) < sum(p.numel() for p in net.parameters())


def test_more_stages_than_there_are_or_an_unknown_family_is_one_line():
    net = age_net("resnet18", px=32)
    with pytest.raises(ValueError, match="ResNet has 4 stages to freeze, got frozen=5"):
        later_stages(net, 5)
    net.network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Sequential cannot be frozen"):
        stages_of(net)


@pytest.mark.slow
def test_frozen_stages_do_not_change_and_the_network_that_comes_back_is_whole(config, faces):
    start = read_weights(config.backbone, config.weights)
    state = fit(config, faces, np.arange(40)).net.state_dict()
    assert state.keys() == start.keys()
    same = {name for name, value in state.items() if torch.equal(value, start[name])}
    early = {name for name in state if name.split(".")[1] in ("conv1", "bn1", "layer1", "layer2")}
    assert early <= same
    assert {"network.layer3.0.conv1.weight", "network.layer4.0.bn1.running_mean", "network.fc.weight"}.isdisjoint(same)


@pytest.mark.slow
def test_a_training_from_features_is_that_from_faces_and_they_predict_alike(config, faces):
    rows, rest = np.arange(40), np.arange(40, 48)
    features = freeze(config, faces)
    config = config.replace(epochs=6)  # enough to give different faces different predictions
    one, two = fit(config, faces, rows).net, fit(config, features, rows).net
    assert torch.equal(one.network.fc.weight, two.network.fc.weight)
    by_pixels, by_features = predict(config, one, faces, rest), predict(config, one, features, rest)
    np.testing.assert_allclose(by_pixels, by_features, atol=2e-3)  # features are kept in half precision
    assert np.abs(by_pixels - by_pixels[::-1]).max() > 0.01


@pytest.mark.slow
def test_without_augmentation_training_is_that_of_a_network_whose_stages_stand_still(config, faces):
    """The same losses as the whole network with its early stages in eval mode, up to half precision."""
    plain = config.replace(augmentation=NO_AUGMENTATION, epochs=2, clip=0.0)
    rows = np.arange(40)
    history = fit(plain, faces, rows).history
    torch.manual_seed(plain.seed)
    net = build_net(plain)
    early = [net.network.conv1, net.network.bn1, net.network.layer1, net.network.layer2]
    for parameter in (p for module in early for p in module.parameters()):
        parameter.requires_grad_(False)
    head = [p for p in net.parameters() if p.requires_grad]
    decays = [{"params": [p for p in head if (p.ndim > 1) == many], "weight_decay": 0.01 * many} for many in (0, 1)]
    optimizer = torch.optim.AdamW(decays, lr=1.0)
    batches = Batches(faces, rows, plain.batch, plain.seed, NO_AUGMENTATION, CPU)
    losses, total = [], plain.epochs * batches.steps
    for step, (pixels, age) in zip(range(total), batches.stream(0), strict=False):
        net.train()
        for module in early:
            module.eval()
        for group in optimizer.param_groups:
            group["lr"] = plain.learning_rate * rate_factor(plain, step, total)
        loss = plain.loss(net(pixels), age)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    by_hand = [np.mean(losses[: batches.steps]), np.mean(losses[batches.steps :])]
    np.testing.assert_allclose([epoch.train_loss for epoch in history], by_hand, rtol=5e-3)


def test_a_faces_features_depend_on_it_alone(config, faces):
    """Other faces may change completely: a face's features stay the same."""
    net = build_net(config)
    found = compute_features(net, 2, faces, Augmentation(), 3).values
    noise = faces.pixels.copy()
    noise[:30] = np.random.default_rng(1).integers(0, 256, noise[:30].shape)
    other = compute_features(net, 2, type(faces)(**{**vars(faces), "pixels": noise}), Augmentation(), 3).values
    np.testing.assert_array_equal(found[30:], other[30:])
    assert not np.array_equal(found[:30], other[:30])
    more = compute_features(net, 2, faces, Augmentation(), 5).values
    np.testing.assert_array_equal(found, more[:, : FIRST_TRAINING + 3])


def test_every_view_has_its_turn_and_the_faces_come_in_the_order_of_pixels(config, faces):
    features = freeze(config, faces)
    assert features.training_views == 3
    rows = np.arange(40)
    batches = FeatureBatches(features, rows, 16, 7, CPU)
    pixels = Batches(faces, rows, 16, 7, NO_AUGMENTATION, CPU)
    assert [batches.size(step) for step in range(6)] == [pixels.size(step) for step in range(6)]
    seen = {}
    stream, ages = batches.stream(0), pixels.stream(0)
    for step in range(3 * batches.steps):
        values, age = next(stream)
        assert torch.equal(age, next(ages)[1])
        order = np.random.default_rng([7, step // batches.steps]).permutation(rows)
        for row, value in zip(np.array_split(order, batches.steps)[step % batches.steps], values, strict=True):
            of = features.values[row, FIRST_TRAINING:]
            (view,) = (v for v in range(3) if torch.equal(torch.from_numpy(of[v]).float().permute(2, 0, 1), value))
            seen.setdefault(row, []).append(view)
    assert all(sorted(views) == [0, 1, 2] for views in seen.values())
    assert len({tuple(views) for views in seen.values()}) > 1
    later = FeatureBatches(features, rows, 16, 7, CPU).stream(4)
    again = batches.stream(0)
    assert torch.equal(next(later)[0], [next(again) for _ in range(5)][4][0])


def test_freezing_what_was_never_trained_is_refused(config, faces):
    with pytest.raises(ValueError, match="frozen=2 needs weights, got random"):
        fit(config.replace(weights="random"), faces, np.arange(40))
    with pytest.raises(ValueError, match="features of 2 frozen stages were given to a config with frozen=3"):
        fit(config.replace(frozen=3), freeze(config, faces), np.arange(40))
