"""Faces per second of a pretraining worker that streams, and of a bare loop with decoded faces in memory.

    python -m benchmarks.pretrain_speed --faces runs/utkface

Both train the same network with the same batch and the same number of threads, one after the other in turns, each for
so many steps. The bare loop is written by hand: no augmentation, no averaging, no measuring; the streaming worker is
study.pretrain's own, augmentation included, with its feeder on another core. Start-up is excluded from both: the
first epoch is warm-up, the others count. Prints both, their ratio, and the share of the time that the worker waited.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import torch
import tyro

from study.cluster.start import start_ray
from study.pretrain.ray_train import Room, train_with_ray
from trainables.backbones import age_net
from trainables.config import TrialConfig
from trainables.convolutions import plain_convolutions
from trainables.faces.index import index_faces
from trainables.faces.stream import make_tables
from trainables.faces.table import Faces, load_faces
from trainables.losses import MeanVariance
from trainables.pretraining import Work


@dataclass(frozen=True)
class Options:
    """What is timed."""

    faces: Path = Path("runs/utkface")
    backbone: str = "efficientnet_b0"
    px: int = 64
    batch: int = 32
    steps: int = 60
    """A round's, of each way."""
    rounds: int = 3
    threads: int = 1
    """That train, of each way."""
    cores: int = 2
    """Ray's; the worker takes them all."""


@ray.remote(num_cpus=0)
def bare_loop(options: Options, faces: Faces) -> list[float]:
    """Faces a second, by rounds."""
    torch.set_num_threads(options.threads)
    net = age_net(options.backbone, px=options.px)
    plain_convolutions(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    everything = torch.from_numpy(np.array(faces.pixels)).permute(0, 3, 1, 2)
    age = torch.from_numpy(faces.age.astype(np.int64))
    net.train()
    rates = []
    for number in range(options.rounds + 1):
        chosen = torch.randperm(len(age))[: options.steps * options.batch].split(options.batch)
        began, seen = time.perf_counter(), 0
        for rows in chosen:
            loss = MeanVariance()(net(everything[rows]), age[rows].clamp(max=100))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(rows)
        if number:
            rates.append(seen / (time.perf_counter() - began))
    return rates


def streamed(options: Options, folder: Path) -> tuple[list[float], list[float]]:
    """Faces a second and the share of waiting, by epochs of as many steps."""
    index = index_faces([str(options.faces)])
    order = np.random.default_rng(0).permutation(len(index))
    train, dev = order[: options.steps * options.batch], order[-options.batch :]
    config = TrialConfig(
        backbone=options.backbone, px=options.px, batch=options.batch, epochs=options.rounds + 1, views="face"
    )
    tables = make_tables(index, train, dev, config, window=4096)
    epochs = []
    train_with_ray(
        config, tables, key="speed", storage=str(folder), on_epoch=epochs.append, room=Room(1, options.cores, 0.0),
        work=Work(threads=options.threads, feeders=1, snapshot_seconds=3600.0, batch_norm="worker"),
    )  # fmt: skip
    return [epoch.faces_per_second for epoch in epochs[1:]], [epoch.waited for epoch in epochs[1:]]


def main(options: Options) -> None:
    """Time both, in turns, and print the table."""
    faces = load_faces([options.faces], px=options.px)
    start_ray(num_cpus=options.cores, quiet_core=True)
    table = ray.put(faces)
    with tempfile.TemporaryDirectory() as folder:
        before = ray.get(bare_loop.remote(options, table))
        rates, waits = streamed(options, Path(folder))
        after = ray.get(bare_loop.remote(options, table))
    bare = statistics.median(before + after)
    rate = statistics.median(rates)
    print(
        f"{options.backbone}, {options.px} px, batch {options.batch}, {options.threads} thread(s), {len(faces)} faces"
    )
    print(f"{'way':<22} {'faces/s':>8} {'least':>7} {'most':>7}")
    print(f"{'bare loop, in memory':<22} {bare:>8.1f} {min(before + after):>7.1f} {max(before + after):>7.1f}")
    print(f"{'streamed, Ray Train':<22} {rate:>8.1f} {min(rates):>7.1f} {max(rates):>7.1f}")
    print(f"streamed / bare {rate / bare:.3f} (at least 0.95); waiting {max(waits):.1%} at most (under 5 %)")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
