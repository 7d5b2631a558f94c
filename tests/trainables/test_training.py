"""The training loop: it learns, resumes exactly, is reproducible, and shares a batch among workers exactly."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables import checkpoints
from trainables.backbones import AgeNet, age_net, read_weights
from trainables.checkpoints import Checkpoint, CheckpointRecord, load_checkpoint, read_trial, save_checkpoint
from trainables.config import NO_AUGMENTATION, Augmentation, TrialConfig
from trainables.costs import measure_latency
from trainables.device import set_up
from trainables.faces.augmentation import augment, draw_chances
from trainables.faces.batches import Batches, batch_chances
from trainables.faces.table import Faces, load_faces
from trainables.fitting import Diverged, Saving, Snapshot, _optimizer, decode, fit, freeze, predict, rate_factor, train
from trainables.folders import standing
from trainables.metrics import mae
from trainables.pretraining import read_snapshot, write_snapshot

CONFIG = TrialConfig(backbone="resnet18", px=32, epochs=4, batch=16, learning_rate=1e-3, augmentation=NO_AUGMENTATION)


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory) -> Faces:
    return load_faces([make_table(tmp_path_factory.mktemp("faces"), people=16, photos=8)], px=32)


@pytest.mark.slow
def test_it_learns_what_can_be_seen(faces):
    train, test = np.arange(96), np.arange(96, 128)
    config = CONFIG.replace(epochs=12)

    def measure(net) -> float:
        return float(mae(decode(predict(config, net, faces, test), config), faces.age[test]))

    fitted = fit(config, faces, train, measure=measure)
    constant = mae(np.full(32, np.median(faces.age[train])), faces.age[test])
    error = measure(fitted.net)
    assert error < constant / 2
    assert fitted.history[-1].validation_mae == pytest.approx(error)


@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.0, 0.9], ids=["last weights", "averaged weights"])
def test_two_epochs_and_then_two_are_four(faces, tmp_path, ema):
    config, rows = CONFIG.replace(ema=ema), np.arange(64)

    def keep(epoch, snapshot):
        torch.save(snapshot().as_dict(), tmp_path / f"{epoch.epoch}.pt")

    whole = fit(config, faces, rows, report=keep)
    snapshot = Snapshot.from_dict(torch.load(tmp_path / "2.pt", weights_only=True))
    resumed = fit(config, faces, rows, resume=snapshot)
    assert [epoch.epoch for epoch in resumed.history] == [3, 4]
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name


@pytest.mark.slow
def test_a_snapshot_within_an_epoch_resumes_exactly_with_dropout_and_averaging(faces, tmp_path):
    config = CONFIG.replace(ema=0.9, dropout=0.3, drop_path=0.2, epochs=2, augmentation=Augmentation())
    batches = Batches(faces, np.arange(70), 16, 0, config.augmentation, torch.device("cpu"))
    saving = Saving(due=lambda step: step == 6, save=lambda s: torch.save(s().as_dict(), tmp_path / "6.pt"))
    whole = train(config, batches, saving=saving)
    snapshot = Snapshot.from_dict(torch.load(tmp_path / "6.pt", weights_only=True))
    resumed = train(config, batches, resume=snapshot)
    assert (batches.steps, snapshot.step, len(snapshot.losses)) == (4, 6, 2)
    assert resumed.history[0].train_loss == whole.history[1].train_loss
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "spared"),
    [("vit_tiny", {"pos_embed", "cls_token"}), ("swin_tiny", {"relative_position_bias_table"}), ("resnet18", set())],
)
def test_weight_decay_spares_biases_norms_and_position_tables(name, spared):
    net = age_net(name, px=32)
    groups = _optimizer(CONFIG.replace(backbone=name, weight_decay=0.1), net).param_groups
    decays = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    flat = {key for key, parameter in net.named_parameters() if parameter.ndim > 1 and id(parameter) not in decays}
    assert {key.split(".")[-1] for key in flat} == spared
    assert all(parameter.ndim > 1 for parameter in net.parameters() if id(parameter) in decays)
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network_and_another_another(faces):
    def digest(config):
        return sum(float(v.double().sum()) for v in fit(config, faces, np.arange(48)).net.state_dict().values())

    config = CONFIG.replace(epochs=1, augmentation=Augmentation())
    assert digest(config) == digest(config)
    assert digest(config) != digest(config.replace(seed=1))


def test_the_seed_decides_the_initial_weights_as_torchs_seed_does(faces):
    torch.manual_seed(7)
    by_hand = age_net("resnet18", px=32).state_dict()["network.layer1.0.conv1.weight"]
    torch.manual_seed(99)  # random numbers drawn before do not matter
    almost_fixed = CONFIG.replace(seed=7, epochs=1, learning_rate=1e-12)
    for seed in (7, 8):
        state = fit(almost_fixed.replace(seed=seed), faces, np.arange(16)).net.state_dict()
        assert torch.allclose(state["network.layer1.0.conv1.weight"], by_hand, atol=1e-6) == (seed == 7)


@dataclasses.dataclass(frozen=True)
class SameBatch:
    """The same faces at every step."""

    pixels: torch.Tensor
    age: torch.Tensor
    rank: int = 0
    world: int = 1
    steps: int = 1

    def size(self, step):
        return len(self.age)

    def stream(self, start):
        while True:
            yield self.pixels, self.age


@pytest.fixture
def batch(faces) -> SameBatch:
    pixels = torch.from_numpy(faces.pixels[:12]).permute(0, 3, 1, 2).float()
    return SameBatch(pixels, torch.from_numpy(faces.age[:12].astype(np.int64)))


def test_one_step_is_the_one_written_by_hand(batch):
    """Clipped gradient, warm-up, weight decay of kernels only, and ages above 100 count as 100."""
    config = CONFIG.replace(
        epochs=4, warmup=0.5, optimizer="sgd", learning_rate=0.5, clip=0.7, weight_decay=0.1,
    )  # fmt: skip
    batch = dataclasses.replace(batch, age=torch.where(batch.age > 30, 116, batch.age))
    torch.manual_seed(config.seed)
    net = age_net("resnet18", px=32).train()
    start = {name: value.detach().clone() for name, value in net.named_parameters()}
    config.loss(net(batch.pixels), batch.age.clamp(max=100)).backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    norm = math.sqrt(sum(float(each.double().square().sum()) for each in gradients.values()))
    assert norm > 2 * config.clip
    rate = 0.5 * 1 / 3  # two of four steps warm up: a third, two thirds, then all
    states = []
    fitted = train(config, batch, report=lambda epoch, snapshot: states.append((epoch, snapshot().net)))
    assert [epoch.learning_rate for epoch in fitted.history[:3]] == pytest.approx([0.5 / 3, 1 / 3, 0.5])
    for name, value in start.items():
        pull = gradients[name] * config.clip / norm + (0.1 * value if value.ndim > 1 else 0)
        by_hand = value - rate * 1.9 * pull  # Nesterov's 1 + 0.9
        assert torch.allclose(states[0][1][name], by_hand, atol=1e-5), name


@pytest.mark.slow
def test_averaged_weights_are_the_average_of_every_steps(batch):
    config = CONFIG.replace(epochs=6, ema=0.4)
    states = []
    torch.manual_seed(config.seed)
    by_hand = {name: value.clone() for name, value in age_net("resnet18", px=32).state_dict().items()}
    measured = []

    def measure(net) -> float:
        measured.append(net.state_dict()["network.fc.weight"].clone())
        return 0.0

    fitted = train(config, batch, measure=measure, report=lambda _, snapshot: states.append(snapshot().net))
    for step, state in enumerate(states):
        decay = min(0.4, (1 + step) / (10 + step))  # the average starts with a smaller decay
        by_hand = {name: decay * value + (1 - decay) * state[name] for name, value in by_hand.items()}
        assert torch.allclose(measured[step], by_hand["network.fc.weight"], atol=1e-6)
    for name, value in fitted.net.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, by_hand[name], atol=1e-5), name
    assert not torch.allclose(by_hand["network.fc.weight"], states[-1]["network.fc.weight"], atol=1e-4)


@pytest.mark.slow
def test_every_step_worker_and_seed_drops_other_units(batch):
    """Same faces, learning rate about zero: only dropout can change the loss."""
    torch.manual_seed(0)
    initial = age_net("resnet18", px=32).state_dict()

    def losses(dropout: float, **changes) -> list[float]:
        source = dataclasses.replace(batch, rank=changes.pop("rank", 0))
        config = CONFIG.replace(dropout=dropout, epochs=3, learning_rate=1e-12, **changes)
        return [epoch.train_loss for epoch in train(config, source, initial=initial).history]

    assert np.ptp(losses(0.0)) < 1e-4
    found = [*losses(0.5), *losses(0.5, seed=1), *losses(0.5, rank=1)]
    assert np.diff(sorted(found)).min() > 1e-4
    assert losses(0.5) == found[:3]


def test_no_epoch_repeats_another_ones_batches_or_changes(faces):
    batches = Batches(faces, np.arange(48), 16, 0, Augmentation(), torch.device("cpu"))
    first, second = (list(batches.epoch(epoch)) for epoch in (0, 1))
    assert [age.tolist() for _, age in first] != [age.tolist() for _, age in second]
    everyone = [batch_chances(0, epoch, step, 16) for epoch in range(2) for step in range(3)]
    assert len({each[0, 0].item() for each in everyone}) == 6


def test_a_test_averages_a_face_and_its_mirror_image_and_ignores_other_faces(faces):
    net = fit(CONFIG.replace(epochs=1), faces, np.arange(48)).net
    rows, config = np.arange(48, 53), CONFIG.replace(views="face")
    mirrored = dataclasses.replace(faces, pixels=faces.pixels[:, :, ::-1].copy())
    alone, mirror = (predict(config, net, table, rows) for table in (faces, mirrored))
    assert np.abs(alone - mirror).max() > 1e-5
    both = predict(config.replace(views="face+mirror"), net, faces, rows)
    np.testing.assert_allclose(both, (alone + mirror) / 2, atol=1e-6)
    apart = np.concatenate([predict(config, net, faces, some) for some in (rows[:2], rows[2:])])
    np.testing.assert_allclose(alone, apart, atol=1e-5)


def test_an_epoch_sees_every_face_once_whatever_the_number_of_workers(faces):
    def ages(rank, world):
        batches = Batches(faces, np.arange(50), 16, 0, NO_AUGMENTATION, torch.device("cpu"), rank=rank, world=world)
        return [age.tolist() for _, age in batches.epoch(3)]

    alone = ages(0, 1)
    sizes = Batches(faces, np.arange(50), 16, 0, NO_AUGMENTATION, torch.device("cpu"))
    assert [sizes.size(sizes.steps * 3 + step) for step in range(sizes.steps)] == [len(step) for step in alone]
    assert sorted(age for step in alone for age in step) == sorted(faces.age[:50].tolist())
    assert alone == [a + b for a, b in zip(ages(0, 2), ages(1, 2), strict=True)]


def test_augmentation_keeps_size_and_range_and_can_be_off(faces):
    pixels = torch.from_numpy(faces.pixels[:8]).permute(0, 3, 1, 2).float()
    chances = draw_chances(8, torch.Generator().manual_seed(0))
    changed = augment(pixels, chances, Augmentation(brightness=0.9))
    assert changed.shape == pixels.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert torch.equal(augment(pixels, chances, NO_AUGMENTATION), pixels)


def test_a_certain_mirror_is_the_mirror_image(faces):
    pixels = torch.from_numpy(faces.pixels[:4]).permute(0, 3, 1, 2).float()
    only_flip = dataclasses.replace(NO_AUGMENTATION, flip=1.0)
    mirrored = augment(pixels, draw_chances(4, torch.Generator().manual_seed(0)), only_flip)
    assert torch.allclose(mirrored, pixels.flip(3), atol=1e-2)


def test_a_diverged_training_says_so(faces):
    with pytest.raises(Diverged, match="a lower --learning-rate"):
        fit(CONFIG.replace(optimizer="sgd", learning_rate=1e12, clip=0.0, warmup=0.0), faces, np.arange(64))


def test_the_rate_warms_up_and_falls_to_zero():
    config = TrialConfig(warmup=0.1)
    factors = [rate_factor(config, step, 100) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert max(factors) == pytest.approx(1)
    assert factors[-1] < 0.001


def test_a_checkpoint_comes_back_and_a_damaged_one_says_so(faces, tmp_path):
    net = fit(CONFIG.replace(epochs=1), faces, np.arange(32)).net
    save_checkpoint(tmp_path / "net", Checkpoint(net.state_dict(), CONFIG, CheckpointRecord("drawn faces")))
    back = load_checkpoint(tmp_path / "net")
    assert back.config == CONFIG
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in back.state.items())
    again = fit(CONFIG.replace(epochs=1, weights=str(tmp_path / "net")), faces, np.arange(32))
    assert again.history[0].train_loss < 100
    file = tmp_path / "net" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(tmp_path / "net")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none")


def test_a_kill_between_its_two_renames_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    def checkpoint(value: float) -> Checkpoint:
        return Checkpoint({"weight": torch.full((3,), value)}, CONFIG)

    def value(folder: Path) -> float:
        return float(load_checkpoint(folder).state["weight"][0])

    folder = tmp_path / "net"
    save_checkpoint(folder, checkpoint(1.0))
    rename, moved = Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, checkpoint(2.0))
    monkeypatch.setattr(Path, "rename", rename)
    assert not folder.exists()
    assert value(folder) == 1.0
    assert standing(folder).is_dir()
    assert read_weights("resnet18", str(folder))["network.weight"][0] == 1.0
    save_checkpoint(folder, checkpoint(3.0))
    assert value(folder) == 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    folder = tmp_path / "net"
    save_checkpoint(folder, Checkpoint({"weight": torch.ones(1)}, CONFIG, CheckpointRecord("old")))
    load = checkpoints._load

    def slowly(place: Path) -> Checkpoint:
        found = load(place)
        if found.about.trained_on == "old":
            save_checkpoint(folder, Checkpoint({"weight": torch.zeros(1)}, CONFIG, CheckpointRecord("new")))
        return found

    monkeypatch.setattr(checkpoints, "_load", slowly)
    assert load_checkpoint(folder).about.trained_on == "new"


def test_a_flipped_bit_in_a_snapshot_is_not_trained_on(tmp_path):
    """torch.load itself would give another number and no error."""
    ones = {"weight": torch.ones(1000)}
    write_snapshot(tmp_path, Snapshot(3, torch.zeros(2), ones, None, {}))
    assert torch.equal(read_snapshot(tmp_path).net["weight"], ones["weight"])
    (file,) = tmp_path.glob("*.pt")
    data = bytearray(file.read_bytes())
    data[bytes(data).find(b"\0\0\x80\x3f" * 100) + 202] ^= 0x40
    file.write_bytes(bytes(data))
    with pytest.raises(OSError, match="is damaged.*--force"):
        read_snapshot(tmp_path)


def test_a_trial_file_may_be_bare(tmp_path):
    (tmp_path / "t.json").write_text('{"backbone": "vgg16"}')
    assert read_trial(tmp_path / "t.json")[0].backbone == "vgg16"
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_trial(tmp_path / "t.json")


@pytest.mark.parametrize(("count", "batch"), [(1, 8), (3, 2), (5, 1)])
def test_a_batch_of_one_face_that_batch_norm_cannot_take_is_said_before_training(faces, count, batch, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", None)  # not one step is made
    with pytest.raises(ValueError, match="one face is too small for resnet18's batch norm at 32 px") as error:
        fit(CONFIG.replace(batch=batch, epochs=1), faces, np.arange(count))
    assert "\n" not in str(error.value)


def test_a_batch_of_one_face_trains_where_batch_norm_has_more_values_or_there_is_none(faces):
    larger = Faces(**{**vars(faces), "pixels": faces.pixels.repeat(2, axis=1).repeat(2, axis=2)})
    for config, seen in ((CONFIG.replace(px=64), larger), (CONFIG.replace(backbone="vit_tiny"), faces)):
        fit(config.replace(epochs=1), seen, np.arange(1))


def test_ages_that_are_equal_and_ages_above_the_classes_train_and_predict_within_the_classes(faces):
    for ages in (np.full(len(faces), 30, np.int16), np.full(len(faces), 116, np.int16)):
        same = Faces(**{**vars(faces), "age": ages})
        config = CONFIG.replace(epochs=1)
        fitted = fit(config, same, np.arange(16))
        assert np.isfinite(fitted.history[-1].train_loss)
        predicted = decode(predict(config, fitted.net, same, np.arange(16)), config)
        assert ((predicted >= 0) & (predicted <= 100)).all()


def test_the_second_training_of_a_process_equals_the_first(faces):
    config, rows = CONFIG.replace(epochs=1), np.arange(32)
    first, second = (fit(config, faces, rows).net.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("precision", "exact"), [("float32", True), ("auto", False), ("bfloat16", False)])
def test_float32_on_a_gpu_is_float32(precision, exact, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", exact)  # starts from the opposite; monkeypatch restores it
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = torch.get_float32_matmul_precision()
    try:
        set_up(CONFIG.replace(precision=precision), torch.device("cuda"))
        assert torch.get_float32_matmul_precision() == ("highest" if exact else "high")
        assert torch.backends.cudnn.allow_tf32 is not exact
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("compute", ["freeze", "fit", "predict", "measure_latency"])
def test_whatever_computes_sets_the_device_up_first(compute, faces, monkeypatch):
    """Otherwise the first training of a process would differ from later ones on a GPU."""
    order = []
    for module in ("fitting", "costs"):
        monkeypatch.setattr(f"trainables.{module}.set_up", lambda *_: order.append("set up"))
    forward = AgeNet.forward
    monkeypatch.setattr(AgeNet, "forward", lambda self, x: (order.append("computed"), forward(self, x))[1])
    net, rows = age_net("resnet18", px=32), np.arange(16)
    config = CONFIG.replace(epochs=1)
    if compute == "freeze":
        freeze(config.replace(frozen=1, weights="given"), faces, dict(net.state_dict()))
    elif compute == "fit":
        fit(config, faces, rows)
    elif compute == "predict":
        predict(config, net, faces, rows)
    else:
        measure_latency(config, "cpu", times=1)
    assert order[0] == "set up"
    assert "computed" in order
