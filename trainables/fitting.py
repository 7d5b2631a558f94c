"""The one training loop, train(). Pretraining streams faces into it; trials and folds run it in memory (fit)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, UInt8
from torch import Tensor, nn

from trainables.allocator import memory_kept
from trainables.backbones import AgeNet, age_net, find_backbone, load_weights
from trainables.config import TrialConfig
from trainables.device import autocast, set_up
from trainables.faces.batches import Batches, to_device
from trainables.faces.table import Faces
from trainables.frozen.checks import check_batch_norm, check_frozen
from trainables.frozen.cut import LaterNet, later_stages
from trainables.frozen.features import FACE, MIRROR, FeatureBatches, Features, compute_features
from trainables.losses import decode_age
from trainables.rare import age_weights


class Diverged(ValueError):
    """Raised where a training's loss, weights or predictions are not finite."""


@dataclass(frozen=True)
class Epoch:
    """Metrics of an epoch: mean loss over its batches, MAE (years) on the validation faces (NaN if there are none).

    After a resume within the epoch, seconds, faces_per_second and waited cover only the part after the resume.
    """

    epoch: int  # counted from 1
    train_loss: float
    validation_mae: float
    learning_rate: float
    seconds: float
    faces_per_second: float  # over all workers
    waited: float  # share of the seconds in which the loop waited for faces


@dataclass(frozen=True)
class Snapshot:
    """Everything that train() needs to continue exactly after a step. Tensors and numbers only.

    It holds no random state: the random numbers of a step (dropout, drop path) depend only on the seed and the step.
    """

    step: int  # steps done, counted from the training's start
    losses: Float[Tensor, " steps"]  # of the current epoch
    net: Mapping[str, Tensor]
    average: Mapping[str, Tensor] | None
    optimizer: Mapping[str, object]

    def as_dict(self) -> dict[str, object]:
        """A dict for torch.save. from_dict(torch.load(..., weights_only=True)) restores the snapshot."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, record: Mapping) -> Snapshot:
        return cls(**record)


@dataclass(frozen=True)
class Saving:
    """Snapshots within an epoch: after each step for which due(steps done) is true, save(snapshot) is called.

    With several workers, due must give every worker the same answer; each of them calls save.
    """

    due: Callable[[int], bool]
    save: Callable[[Callable[[], Snapshot]], None]


@runtime_checkable
class Source(Protocol):
    """Where train() gets its faces: the same global batches in the same order for a seed, each worker its share."""

    @property
    def steps(self) -> int:
        """Steps an epoch, the same in every epoch."""

    @property
    def rank(self) -> int:
        """Which worker this is, of `world`."""

    @property
    def world(self) -> int:
        """Number of workers that train together."""

    def size(self, step: int) -> int:
        """Number of faces in the global batch of a step. Steps are counted from the training's start."""

    def stream(self, start: int) -> Iterator[tuple[Float[Tensor, "batch 3 px px"], Int[Tensor, " batch"]]]:
        """This worker's pixels (0 to 255) and ages (years) from step `start` on, on the device."""


@dataclass(frozen=True)
class Fitted:
    """A trained network and its learning curve."""

    net: AgeNet
    history: tuple[Epoch, ...]


def fit(
    config: TrialConfig,
    faces: Faces | Features,
    rows: Int[np.ndarray, " train"],
    *,
    measure: Callable[[AgeNet], float] | None = None,
    device: torch.device | str = "cpu",
    initial: Mapping[str, Tensor] | None = None,
    report: Callable[[Epoch, Callable[[], Snapshot]], None] | None = None,
    resume: Snapshot | None = None,
) -> Fitted:
    """train() on faces[rows] in memory, and on the first config.companions of the faces' companions beside them.

    With config.frozen, pass the result of freeze() as faces, so that many trainings share it.
    """
    device = torch.device(device)
    rows = with_companions(config, faces, rows)
    source = freeze(config, faces, initial, device)
    batch = min(config.batch, len(rows))
    weights = rare_weights(config, faces.age[rows])
    chances = None
    if config.rare_ages == "balance" and weights is not None:
        chances = weights[np.minimum(faces.age[rows], config.ages - 1)]
        chances, weights = chances / chances.sum(), None
    batches: Source
    if isinstance(source, Features):
        batches = FeatureBatches(source, rows, batch, config.seed, device, chances=chances)
    else:
        batches = Batches(source, rows, batch, config.seed, config.augmentation, device, chances=chances)
    return train(
        config, batches, weights=weights, measure=measure, device=device, initial=initial, report=report, resume=resume
    )


def with_companions(
    config: TrialConfig, faces: Faces | Features, rows: Int[np.ndarray, " train"]
) -> Int[np.ndarray, " more"]:
    """The rows and those of the config's companions. Raises ValueError where the faces have fewer."""
    if config.companions > faces.companions:
        raise ValueError(f"the config has {config.companions} companions, and {faces.companions} came with the faces")
    first = len(faces) - faces.companions
    return np.concatenate([rows, np.arange(first, first + config.companions)]) if config.companions else rows


def rare_weights(config: TrialConfig, age: Int[np.ndarray, " train"]) -> Float64[np.ndarray, " ages"] | None:
    """The weight of each age by the training faces' ages alone; None where every face counts alike."""
    if config.rare_ages == "none":
        return None
    return age_weights(age, ages=config.ages, power=config.rare_power, sigma=config.rare_sigma)


def freeze(
    config: TrialConfig,
    faces: Faces | Features,
    initial: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> Faces | Features:
    """The input of the trainable part: the faces, or with config.frozen the output of the frozen stages for each face.

    Raises ValueError where the frozen stages were never trained, or the given features are of other stages.
    """
    found = faces.frozen if isinstance(faces, Features) else 0
    if found not in (0, config.frozen):
        raise ValueError(f"features of {found} frozen stages were given to a config with frozen={config.frozen}")
    if found == config.frozen or isinstance(faces, Features):
        return faces
    check_frozen(config)
    set_up(config, torch.device(device))
    net = build_net(config, initial).to(device)
    return compute_features(net, config.frozen, faces, config.augmentation, config.frozen_views)


@memory_kept()
def train(
    config: TrialConfig,
    source: Source,
    *,
    weights: Float64[np.ndarray, " ages"] | None = None,
    measure: Callable[[AgeNet], float] | None = None,
    device: torch.device | str = "cpu",
    initial: Mapping[str, Tensor] | None = None,
    report: Callable[[Epoch, Callable[[], Snapshot]], None] | None = None,
    saving: Saving | None = None,
    resume: Snapshot | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda net: net,
) -> Fitted:
    """The network trained on the source's batches. measure(net) (years) and report(epoch, snapshot) run every epoch.

    The config fixes the number of epochs: no epoch is chosen by a validation or test error.
    weights: by which the loss of a face of each age is multiplied (trainables.rare).
    initial: tensors to start from (read_weights), if the caller has them in memory; otherwise config.weights is read.
    With config.frozen the source gives features (trainables.frozen.features), and only the stages after them are
    trained; the returned network is complete.
    wrap: DDP, where several workers train together. The gradient is that of the mean loss over the global batch, even
    where the workers' shares differ in size. Batch norm uses each worker's own share, unless it is synchronised.
    Raises Diverged where after an epoch the loss, a weight, a statistic or the measured value is not finite.
    """
    device = torch.device(device)
    set_up(config, device)
    torch.manual_seed(config.seed)
    whole = build_net(config, initial).to(device)
    net = later_stages(whole, config.frozen) if config.frozen else whole
    model = wrap(net)
    optimizer = _optimizer(config, net)
    average = _copy(net.state_dict()) if config.ema else None
    by_age = None if weights is None else torch.from_numpy(weights).float().to(device)
    start, losses = 0, []
    if resume is not None:
        start, losses = resume.step, list(resume.losses.to(device))
        net.load_state_dict(dict(resume.net))
        optimizer.load_state_dict(dict(resume.optimizer))
        average = {name: value.to(device) for name, value in resume.average.items()} if resume.average else None
    total, history = config.epochs * source.steps, []
    stream = source.stream(start)
    for epoch in range(start // source.steps, config.epochs):
        began, waited, seen = time.perf_counter(), 0.0, 0
        end = (epoch + 1) * source.steps
        model.train()
        for step in range(max(start, end - source.steps), end):
            asked = time.perf_counter()
            pixels, age = next(stream)
            waited += time.perf_counter() - asked
            if step == start:
                check_batch_norm(config, net, pixels, least=min(map(source.size, range(source.steps))) // source.world)
            torch.manual_seed(_step_seed(config.seed, step, source.rank))
            rate = config.learning_rate * rate_factor(config, step, total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(config, device):
                logits = model(pixels)
            # UTKFace has ages of up to 116: they count as the oldest class
            age = age.clamp(max=config.ages - 1)
            each = config.loss.each(logits.float(), age)
            loss = (each if by_age is None else each * by_age[age]).mean()
            if source.world > 1:  # DDP averages over workers with equal weights
                loss = loss * (len(age) * source.world / source.size(step))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip:
                nn.utils.clip_grad_norm_(net.parameters(), config.clip)
            optimizer.step()
            if average is not None:
                _move_average(average, net.state_dict(), min(config.ema, (1 + step) / (10 + step)))
            losses.append(loss.detach())  # read once an epoch, since reading waits for the GPU
            seen += source.size(step)
            if saving is not None and step + 1 < end and saving.due(step + 1):
                losses = list(_over_workers(torch.stack(losses), source.world))
                saving.save(partial(_snapshot, step + 1, losses, net, average, optimizer))
        train_loss = float(_over_workers(torch.stack(losses), source.world).mean())
        losses = []
        if not math.isfinite(train_loss):
            raise Diverged(
                f"the loss became {train_loss} in epoch {epoch + 1} of {config.backbone} at learning rate "
                f"{config.learning_rate:g}: a lower --learning-rate, or more warmup in a --trial FILE, may help"
            )
        seconds = time.perf_counter() - began
        error = measure(_with_state(net, average)) if measure is not None else float("nan")
        # The last step can spoil weights or batch norm's statistics after the last loss was computed
        wrong = not _finite(average or net.state_dict()) or (measure is not None and not math.isfinite(error))
        if _over_workers(torch.tensor([float(wrong)], device=device), source.world).item():  # any worker's
            raise Diverged(f"weights or predictions of {config.backbone} are not finite after epoch {epoch + 1}")
        record = Epoch(epoch + 1, train_loss, error, rate, seconds, seen / seconds, waited / seconds)
        history.append(record)
        if report is not None:
            report(record, partial(_snapshot, end, losses, net, average, optimizer))
    tested = _with_state(net, average)
    if config.frozen:
        whole.load_state_dict(tested.state_dict(), strict=False)  # it has the frozen stages already
        tested = whole
    return Fitted(tested, tuple(history))


def build_net(config: TrialConfig, initial: Mapping[str, Tensor] | None = None) -> AgeNet:
    """The config's network with its initial weights: `initial` if given, else config.weights."""
    net = age_net(
        config.backbone, ages=config.ages, weights="random" if initial is not None else config.weights,
        drop_path=config.drop_path, dropout=config.dropout, px=config.px,
    )  # fmt: skip
    if initial is not None:
        load_weights(net, initial, head=f"network.{find_backbone(config.backbone).head}", source=config.weights)
    return net


def predict(
    config: TrialConfig, net: AgeNet, faces: Faces | Features, rows: Int[np.ndarray, " rows"], *, batch: int = 256
) -> Float32[np.ndarray, "rows ages"]:
    """The distribution over ages of each face in faces[rows]; with views="face+mirror" the mean over both views.

    Given Features, only the stages after the frozen ones run. Raises Diverged where a prediction is not finite.
    """
    device = net.mean.device
    if isinstance(faces, Features) and not isinstance(net, LaterNet):
        net = later_stages(net, faces.frozen)
    found = []
    for chosen in np.array_split(rows, max(1, math.ceil(len(rows) / batch))):
        if isinstance(faces, Features):
            views = [faces.take(chosen, view, device) for view in (FACE, MIRROR)]
            found.append(_mean_over_views(config, net, views).cpu())
        else:
            found.append(predict_batch(config, net, to_device(faces.pixels[chosen], device).permute(0, 3, 1, 2)).cpu())
    if not (distribution := torch.cat(found)).isfinite().all():
        raise Diverged(f"the predictions of {config.backbone} at {config.px} px are not finite")
    return distribution.numpy()


def predict_batch(
    config: TrialConfig, net: AgeNet, pixels: UInt8[Tensor, "batch 3 px px"]
) -> Float32[Tensor, "batch ages"]:
    """predict() for a batch of pixels (0 to 255) on the network's device."""
    return _mean_over_views(config, net, [pixels, pixels.flip(3)])


@torch.inference_mode()
def _mean_over_views(config: TrialConfig, net: AgeNet, views: list[Tensor]) -> Float32[Tensor, "batch ages"]:
    """The distribution of the first view; with views="face+mirror" the mean over both."""
    set_up(config, views[0].device)
    net.eval()
    with autocast(config, views[0].device):
        probability = net(views[0]).float().softmax(dim=1)
        if config.views == "face+mirror":
            probability = (probability + net(views[1]).float().softmax(dim=1)) / 2
    return probability


def decode(distribution: Float32[np.ndarray, "rows ages"], config: TrialConfig) -> Float[np.ndarray, " rows"]:
    """Ages (years) that the config's decoder reads from distributions."""
    return decode_age(torch.from_numpy(distribution), config.decoder).numpy()


def has_batch_norm(config: TrialConfig) -> bool:
    """Whether the network has batch norm, whose statistics depend on the number of faces in a batch."""
    with torch.device("meta"):
        net = age_net(config.backbone, ages=config.ages, weights="random", px=config.px)
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


def rate_factor(config: TrialConfig, step: int, total: int) -> float:
    """The learning rate at a step, as a share of the peak: linear warm-up, then a cosine to zero, or constant."""
    warm = config.warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


def _optimizer(config: TrialConfig, net: AgeNet) -> torch.optim.Optimizer:
    """An optimiser with weight decay for matrices and kernels only. Biases, norms and the parameters that timm excludes
    (position tables and class tokens of ViT and Swin) have none."""
    spared = {f"network.{name}" for name in getattr(net.network, "no_weight_decay", set)()}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        decays = parameter.ndim > 1 and name not in spared
        groups.setdefault(config.weight_decay if decays else 0.0, []).append(parameter)
    options = [{"params": group, "weight_decay": decay} for decay, group in groups.items()]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(options, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(options, lr=config.learning_rate, momentum=0.9, nesterov=True, fused=True)


def _finite(state: Mapping[str, Tensor]) -> bool:
    """Whether all weights and statistics are finite."""
    return all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


@torch.no_grad()
def _move_average(average: dict[str, Tensor], state: Mapping[str, Tensor], decay: float) -> None:
    """average <- decay * average + (1 - decay) * state, in place. Integer counters are copied."""
    moving = [name for name, value in average.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in moving], [state[name] for name in moving], 1 - decay)
    for name in average.keys() - set(moving):
        average[name].copy_(state[name])


def _with_state(net: AgeNet, average: Mapping[str, Tensor] | None) -> AgeNet:
    """The network to test: with the averaged weights where there are some, else the net itself."""
    if average is None:
        return net
    tested = copy.deepcopy(net)
    tested.load_state_dict(dict(average))
    return tested


def _step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a step on a worker. The 1 makes it differ from the seeds in Batches."""
    return int(np.random.default_rng([seed, step, rank, 1]).integers(2**62))


def _over_workers(losses: Float[Tensor, " steps"], world: int) -> Float[Tensor, " steps"]:
    """The mean over workers; every worker must call this at the same step."""
    if world > 1:
        torch.distributed.all_reduce(losses)
        losses = losses / world
    return losses


def _snapshot(
    step: int, losses: list[Tensor], net: nn.Module, average: Mapping[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
) -> Snapshot:  # fmt: skip
    return Snapshot(
        step,
        torch.stack(losses).cpu() if losses else torch.zeros(0),
        _copy(net.state_dict()),
        _copy(average) if average is not None else None,
        optimizer.state_dict(),
    )
