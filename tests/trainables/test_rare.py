"""Help for rare ages: the weights against loops, what a training does with them, and whose ages decide them."""

import math

import numpy as np
import pytest
import torch

from study.cli.options import Training
from study.pretrain.options import Pretrain
from study.pretrain.plan import make_plan
from trainables.config import NO_AUGMENTATION, TrialConfig
from trainables.faces.batches import epoch_order
from trainables.faces.table import load_faces
from trainables.fitting import build_net, fit, rare_weights
from trainables.losses import LOSSES
from trainables.rare import age_weights

CONFIG = TrialConfig(backbone="resnet18", px=32, epochs=1, batch=24, augmentation=NO_AUGMENTATION, warmup=0.0)


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory):
    return load_faces([make_table(tmp_path_factory.mktemp("rare"), people=12, photos=2)], px=32)


def test_weights_are_the_inverse_of_the_smoothed_counts():
    age = np.array([3, 3, 3, 4, 20, 130])
    found = age_weights(age, ages=101, power=0.5, sigma=1.5)
    counts = {3: 3, 4: 1, 20: 1, 100: 1}  # older ones count as the oldest
    raw = []
    for y in range(101):
        density = sum(n * math.exp(-((y - x) ** 2) / (2 * 1.5**2)) for x, n in counts.items())
        lowest = min(sum(n * math.exp(-((at - x) ** 2) / (2 * 1.5**2)) for x, n in counts.items()) for at in counts)
        raw.append(1 / math.sqrt(max(density, lowest)))
    mean = sum(raw[min(y, 100)] for y in age.tolist()) / len(age)
    assert found == pytest.approx(np.array(raw) / mean)
    assert found[np.minimum(age, 100)].mean() == pytest.approx(1)
    assert found[20] > found[4] > found[3]
    assert age_weights(age, ages=101, power=0.0, sigma=2.0) == pytest.approx(np.ones(101))
    sharp = age_weights(age, ages=101, power=1.0, sigma=0.01)
    assert sharp[3] * 3 == pytest.approx(sharp[4]), "without smoothing and with power 1 every age counts alike"


def test_a_reweighted_step_is_the_weighted_mean_of_the_faces_losses(faces):
    config = CONFIG.replace(rare_ages="reweight", rare_power=1.0)
    rows = np.arange(len(faces))
    (epoch,) = fit(config, faces, rows).history
    torch.manual_seed(config.seed)
    net = build_net(config).train()
    with torch.no_grad():
        # the order of a batch changes its statistics in the last digits only
        logits = net(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2).float())
    weights = age_weights(faces.age, ages=101, power=1.0, sigma=2.0)
    losses = [config.loss(logits[i : i + 1], torch.tensor([int(faces.age[i])])).item() for i in rows]
    by_hand = sum(weights[faces.age[i]] * losses[i] for i in rows) / len(rows)
    assert epoch.train_loss == pytest.approx(by_hand, rel=1e-4)
    assert abs(by_hand - np.mean(losses)) > 0.01


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_mean_of_each_faces_loss_is_the_loss_of_the_batch(name):
    torch.manual_seed(0)
    logits, age, loss = torch.randn(7, 101), torch.randint(0, 101, (7,)), LOSSES[name]()
    each = [loss(logits[i : i + 1], age[i : i + 1]).item() for i in range(7)]
    assert loss.each(logits, age).tolist() == pytest.approx(each, rel=1e-5)
    assert loss(logits, age).item() == pytest.approx(np.mean(each), rel=1e-5)


def test_balanced_epochs_draw_faces_as_often_as_their_ages_weights_say():
    rows = np.arange(100, 400)
    chances = np.where(np.arange(300) < 30, 3.0, 1.0)
    chances /= chances.sum()
    drawn = np.concatenate([epoch_order(rows, chances, seed=1, epoch=epoch) for epoch in range(200)])
    share = (drawn < 130).mean()
    assert share == pytest.approx(90 / 360, abs=0.01)
    assert sorted(epoch_order(rows, None, seed=1, epoch=3)) == rows.tolist()
    assert (epoch_order(rows, chances, seed=1, epoch=5) == epoch_order(rows, chances, seed=1, epoch=5)).all()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["reweight", "balance"])
def test_no_age_but_the_training_faces_own_has_a_part_in_it(faces, how):
    config = CONFIG.replace(rare_ages=how)
    train = np.arange(0, len(faces), 2)
    other = np.where(np.isin(np.arange(len(faces)), train), faces.age, 99).astype(np.int16)
    corrupted = type(faces)(**{**vars(faces), "age": other})
    one, two = (fit(config, table, train).net.state_dict() for table in (faces, corrupted))
    assert all(torch.equal(one[name], two[name]) for name in one)
    plain = fit(CONFIG, faces, train).net.state_dict()
    assert not all(torch.equal(one[name], plain[name]) for name in one)
    assert rare_weights(CONFIG, faces.age) is None


def test_pretraining_refuses_what_its_stream_cannot_do():
    with pytest.raises(ValueError, match="it takes --rare-ages none or reweight"):
        make_plan(Pretrain(Training(rare_ages="balance")))
