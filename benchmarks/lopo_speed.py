"""LOPO folds per second of study.lopo and of hand-written loops. Prints a table of ratios.

    python benchmarks/lopo_speed.py --faces runs/synthetic/people
    python benchmarks/lopo_speed.py --faces runs/fgnet --backbone efficientnet_lite0 --frozen 2

Three ways to train the same folds (same network, batch, epochs, mirror augmentation, one thread a process):
  script      one fold after another on one core, each photo decoded again in every epoch, as public LOPO scripts do
  two loops   two such loops side by side, their data already decoded in memory, channels_last
  study.lopo  our folds as Ray tasks, faces and weights in the object store
With --frozen K all three train only the stages after the first K. The loops then run the frozen stages without gradient
for every batch; study.lopo computes their output once for all 82 folds, and is charged its share of that time.
Starting processes and importing torch is left out of all three. Rounds are interleaved; the table has their medians.
"""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import ray
import torch
import tyro
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from study.cluster.start import start_ray
from study.folds import Fold, lopo_folds
from trainables.backbones import age_net
from trainables.config import NO_AUGMENTATION, TrialConfig
from trainables.convolutions import plain_convolutions
from trainables.faces.table import Faces, load_faces, table_files
from trainables.fold import run_fold, run_freeze
from trainables.frozen.cut import stages_of
from trainables.losses import MeanVariance


@dataclass(frozen=True)
class Options:
    """What is timed."""

    faces: Path = Path("runs/synthetic/people")
    backbone: str = "efficientnet_b0"
    px: int = 64
    batch: int = 32
    epochs: int = 1
    folds: int = 4
    frozen: int = 0
    rounds: int = 3


class FaceFiles(Dataset):
    """Encoded faces, decoded again on every access."""

    def __init__(self, encoded: list[bytes], age: np.ndarray, px: int) -> None:
        self.encoded, self.age, self.px = encoded, age, px

    def __len__(self) -> int:
        return len(self.age)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with Image.open(io.BytesIO(self.encoded[row])) as image:
            small = image.convert("RGB").resize((self.px, self.px), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float()
        return pixels.flip(2) if torch.rand(()) < 0.5 else pixels, int(self.age[row])


def start_net(options: Options) -> torch.nn.Module:
    """A network to train by hand: its first stages get no gradient and keep their batch norm's statistics."""
    net = age_net(options.backbone, px=options.px).train()
    plain_convolutions(net)
    for name in (name for stage in stages_of(net)[: options.frozen] for name in stage):
        net.network.get_submodule(name).eval().requires_grad_(False)
    return net


def train_step(net: torch.nn.Module, optimizer: Any, pixels: torch.Tensor, age: torch.Tensor) -> None:
    """A step as written by hand."""
    loss = MeanVariance()(net(pixels), age)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def script(options: Options, encoded: list[bytes], faces: Faces, folds: list[Fold]) -> None:
    """One fold after another; every epoch reads and decodes every face."""
    torch.set_num_threads(1)
    for fold in folds:
        net = start_net(options).to(memory_format=torch.contiguous_format)
        optimizer = torch.optim.AdamW([each for each in net.parameters() if each.requires_grad], lr=1e-3)
        data = FaceFiles([encoded[row] for row in fold.train], faces.age[fold.train], options.px)
        for _ in range(options.epochs):
            for pixels, age in DataLoader(data, batch_size=options.batch, shuffle=True, drop_last=True):
                train_step(net, optimizer, pixels, age)


def memory_loop(options: Options, faces: Faces, folds: list[Fold]) -> None:
    """One fold after another; the faces lie decoded in memory."""
    torch.set_num_threads(1)
    everything = torch.from_numpy(faces.pixels).permute(0, 3, 1, 2)
    age = torch.from_numpy(faces.age.astype(np.int64))
    for fold in folds:
        net = start_net(options)
        optimizer = torch.optim.AdamW([each for each in net.parameters() if each.requires_grad], lr=1e-3, fused=True)
        rows = torch.from_numpy(fold.train)
        for _ in range(options.epochs):
            for chosen in rows[torch.randperm(len(rows))].split(options.batch):
                pixels = everything[chosen]
                pixels = torch.where(torch.rand(len(chosen), 1, 1, 1) < 0.5, pixels.flip(3), pixels)
                train_step(net, optimizer, pixels, age[chosen])


def looping(options: Options, faces: Faces, jobs: Any, done: Any) -> None:
    """A process that waits for folds, so that its start is not timed."""
    done.put("ready")
    while (folds := jobs.get()) is not None:
        memory_loop(options, faces, folds)
        done.put("done")


def main(options: Options) -> None:
    """Time each way, interleaved, and print the table."""
    faces = load_faces([options.faces], px=options.px)
    columns = pads.dataset(table_files(options.faces)).to_table(["dataset", "photo", "face"])
    columns = columns.sort_by([("dataset", "ascending"), ("photo", "ascending")])
    encoded = columns["face"].to_pylist()
    folds = lopo_folds(faces)[: options.folds]
    trained = sum(len(fold.train) for fold in folds) * options.epochs
    config = TrialConfig(
        backbone=options.backbone,
        px=options.px,
        batch=options.batch,
        epochs=options.epochs,
        augmentation=dataclasses.replace(NO_AUGMENTATION, flip=0.5),
        frozen=options.frozen,
        frozen_views=options.epochs,
        weights="given" if options.frozen else "random",
    )
    initial = None
    if options.frozen:
        state = age_net(options.backbone, px=options.px).state_dict()
        initial = {name: value.numpy() for name, value in state.items()}
    spawn = multiprocessing.get_context("spawn")
    jobs, done = [spawn.Queue(), spawn.Queue()], spawn.Queue()
    loops = [spawn.Process(target=looping, args=(options, faces, queue, done), daemon=True) for queue in jobs]
    for process in loops:
        process.start()
    for _ in loops:
        done.get()
    start_ray(num_cpus=2)
    table = ray.put(faces)
    task = ray.remote(run_fold).options(num_cpus=1)
    freeze = ray.remote(run_freeze).options(num_cpus=1)
    began = time.perf_counter()
    given = freeze.remote(config.to_json(), table, initial, 1, "cpu")  # a copy of the table without frozen stages
    ray.wait([given], fetch_local=False)
    freezing = (time.perf_counter() - began) / len(lopo_folds(faces)) * len(folds) if options.frozen else 0.0
    warm = config.to_json() | {"epochs": 1}
    ray.get([task.remote(warm, given, initial, np.arange(64), np.arange(2), 1, "cpu") for _ in range(4)])

    def two_loops() -> None:
        for side, queue in enumerate(jobs):
            queue.put(folds[side::2])
        for _ in loops:
            done.get()

    def ours() -> None:
        ray.get([task.remote(config.to_json(), given, initial, fold.train, fold.test, 1, "cpu") for fold in folds])

    ways = {"script": lambda: script(options, encoded, faces, folds), "two loops": two_loops, "study.lopo": ours}
    rate: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            more = freezing if name == "study.lopo" else 0.0
            rate[name].append(trained / (time.perf_counter() - began + more))
    for queue in jobs:
        queue.put(None)
    how = f"{options.px} px, batch {options.batch}, {options.frozen} frozen stages, {options.epochs} epochs"
    print(f"{options.backbone}, {how}, {len(folds)} folds of {len(faces)} faces")
    print(f"{'way':<12} {'faces/s':>8} {'least':>7} {'most':>7}  ours / this")
    for name, rates in rate.items():
        ratios = [mine / other for mine, other in zip(rate["study.lopo"], rates, strict=True)]
        median = statistics.median(rates)
        print(f"{name:<12} {median:>8.0f} {min(rates):>7.0f} {max(rates):>7.0f}  {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
