"""How long one network's training takes here: a few real steps of the real loop, in two batch sizes. No Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trainables.backbones import AgeNet, find_backbone
from trainables.config import TrialConfig
from trainables.costs import count_cost
from trainables.faces.batches import Batches
from trainables.faces.table import Faces
from trainables.fitting import build_net, predict, train
from trainables.frozen.features import FeatureBatches, Features, compute_features

SMALL, LARGE = 2, 8
"""Photos in the batches that are timed: what a step costs whatever its batch shows in the difference."""

MACS = 2e9
"""Networks that need more multiply-adds a photo are timed on smaller pictures, and the rest is counted."""


@dataclass(frozen=True)
class Timing:
    """Seconds that a training takes: start (before its first step), step (each, whatever its batch), photo (trained on
    once), answer (a photo predicted once, in all of the config's views)."""

    start: float
    step: float
    photo: float
    answer: float

    def fold(self, config: TrialConfig, train: int, test: int) -> float:
        """Seconds of one fold's training on so many photos, with its predictions after each epoch."""
        steps = max(1, round(train / config.batch))
        return self.start + config.epochs * (steps * self.step + train * self.photo + test * self.answer)


def _clock(device: str) -> float:
    """Seconds. On one core the process's own, so that what others do there at this moment is not counted."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


class _Enough(Exception):
    """Ends the training that was begun for its steps' times."""


class _Steps:
    """A Source of batches in two sizes that writes down how long each step takes: twice SMALL, then twice a larger one
    of as many photos as the time allows, at most LARGE. The first of each size is a warm-up."""

    def __init__(self, config: TrialConfig, faces: Faces | Features, device: torch.device, *, seconds: float) -> None:
        rows = np.arange(len(faces))
        self.batches: Batches | FeatureBatches
        if isinstance(faces, Features):
            self.batches = FeatureBatches(faces, rows, LARGE, config.seed, device)
        else:
            self.batches = Batches(faces, rows, LARGE, config.seed, config.augmentation, device)
        self.device, self.seconds, self.most = device, seconds, min(config.batch, LARGE)
        self.took: list[tuple[int, float]] = []
        self.began = 0.0

    steps, rank, world = 1000, 0, 1

    def size(self, step: int) -> int:
        return SMALL if step < 2 else LARGE

    def stream(self, start: int) -> Iterator[tuple[Float[Tensor, " batch *shape"], Int[Tensor, " batch"]]]:
        photos = SMALL
        for step, (pixels, age) in enumerate(self.batches.stream(start)):
            if step == 2:
                left = self.seconds - sum(took for _, took in self.took)
                photos = min(self.most, int(left / 2 / (self.took[1][1] / SMALL)))
                if photos < 2 * SMALL:  # too slow for a second size
                    raise _Enough
            if step == 4:
                raise _Enough
            began = self._now()
            yield pixels[:photos], age[:photos]
            self.took.append((photos, self._now() - began))

    def _now(self) -> float:
        return _clock(self.device.type)


def time_network(config: TrialConfig, device: str, *, seconds: float) -> Timing:
    """The times of a config's training on this device with torch's current threads. seconds: about as long as its steps
    may take here.

    With frozen stages, of the later ones alone; computing the features, once in a process, is not among the times. The
    caller gives it a process of its own, since torch's random state changes.
    """
    small = config.replace(px=_smaller(config), weights="random", epochs=1)
    cost = count_cost(small.backbone, small.px, small.ages)
    share = count_cost(config.backbone, config.px, config.ages).macs / cost.macs
    noise = _noise(small.px)
    faces: Faces | Features = noise
    nets, where = list[nn.Module](), torch.device(device)
    if small.frozen:  # which weights the early stages have costs nothing
        early = build_net(small).to(where)
        faces = compute_features(early, small.frozen, noise, small.augmentation, views=1)
    source = _Steps(small, faces, where, seconds=seconds)

    def keep(net: nn.Module) -> nn.Module:
        nets.append(net)
        times.append(_clock(device))
        return net

    times = [_clock(device)]
    with contextlib.suppress(_Enough):
        train(small, source, device=where, wrap=keep)
    net = nets[0]
    assert isinstance(net, AgeNet)
    prepared = (
        _seconds_of(device, lambda: next(source.batches.stream(0))) / LARGE
    )  # augmented in the loop's own process
    photos, large = source.took[-1]
    few, little = source.took[1]
    update = _update(device) * sum(weight.numel() for weight in net.parameters())
    photo = (large - little) / (photos - few) if photos > few else 0.0
    if photo <= 0.2 * large / photos:  # disturbed: a step's own part is at least its update's
        photo = (large - min(update, 0.8 * large)) / photos
    answer = _seconds_of(device, lambda: predict(small, net, faces, np.arange(LARGE))) / LARGE
    if photos == few:  # one size alone: a backward pass is about two forward passes (VGG-16: within 10 %)
        photo = min(3 * answer / (2 if small.views == "face+mirror" else 1), large / photos)
    step = max(0.0, large - photo * photos)
    return Timing(times[1] - times[0], step, photo * share + prepared, answer * share)


@cache
def _update(device: str) -> float:
    """Seconds that clipping and AdamW take for each parameter."""
    weight = nn.Parameter(torch.zeros(4_000_000, device=device))
    optimizer = torch.optim.AdamW([weight], fused=True)
    took = []
    for _ in range(3):
        weight.grad = torch.ones_like(weight)
        began = _clock(device)
        nn.utils.clip_grad_norm_([weight], 5.0)
        optimizer.step()
        took.append(_clock(device) - began)
    return min(took) / weight.numel()


def time_networks(configs: Sequence[TrialConfig], device: str, *, threads: int, seconds: float) -> dict[str, Timing]:
    """The times of as many of these configs' networks as so many seconds allow, by name; the first one in any case.

    The later ones are left out where they would take longer than is left, judged by the ones before.
    """
    torch.set_num_threads(threads)
    began, found, pace = time.perf_counter(), dict[str, Timing](), 0.0
    for config in configs:
        left = seconds - (time.perf_counter() - began)
        size = _size(config)
        if found and pace * size > left:
            continue
        before = time.perf_counter()
        found[config.backbone] = time_network(config, device, seconds=max(0.5, min(left, 2.0)))
        pace = max(pace, (time.perf_counter() - before) / size)
        if device == "cuda":
            torch.cuda.empty_cache()
    return found


def _size(config: TrialConfig) -> float:
    """What timing a network costs, roughly: its multiply-adds, and its weights once for the initial values."""
    cost = count_cost(config.backbone, _smaller(config), config.ages)
    return 4.0 * SMALL * cost.macs + 10.0 * cost.parameters


def _smaller(config: TrialConfig) -> int:
    """The picture size to time a network at: its own, or halved until it needs no more than MACS."""
    backbone, px = find_backbone(config.backbone), config.px
    least = max(64, backbone.least_px)
    while count_cost(config.backbone, px, config.ages).macs > MACS and px // 2 >= least and not backbone.img_size:
        px = px // 2 // 32 * 32
    return px


def _seconds_of(device: str, action: Callable[[], object]) -> float:
    began = _clock(device)
    action()
    return _clock(device) - began


def _noise(px: int) -> Faces:
    """Faces to train on: what they show costs nothing."""
    random = np.random.default_rng(0)
    names = np.array(["0"] * LARGE)
    pixels = random.integers(0, 255, (LARGE, px, px, 3), dtype=np.uint8)
    return Faces(pixels, np.linspace(10, 70, LARGE).astype(np.int16), names, names, names, "noise")
