"""Shows that a change of the training loop changes no result: fingerprints of short trainings on noise, bit for bit.

    python -m benchmarks.fingerprints > before.txt      before the change
    python -m benchmarks.fingerprints | diff before.txt -      after it: no line may differ

One line per training: SHA-256 of its predicted age distributions, and the mean loss of each epoch. It runs on one
thread; the same version of torch on the same kind of processor gives the same lines. Half a minute on one core.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from trainables.config import TrialConfig
from trainables.faces.table import Faces
from trainables.fitting import build_net
from trainables.fold import run_fold, run_freeze
from trainables.losses import CORAL, DLDLv2

CONFIGS = {
    "resnet18": TrialConfig(backbone="resnet18", epochs=2, batch=8),
    "efficientnet_b0, averaged weights, dropout, drop path": TrialConfig(
        backbone="efficientnet_b0", epochs=2, batch=8, ema=0.9, dropout=0.3, drop_path=0.2
    ),
    "efficientnet_lite0, CORAL, SGD": TrialConfig(
        backbone="efficientnet_lite0", epochs=2, batch=8, loss=CORAL(), optimizer="sgd", learning_rate=0.01
    ),
    "vgg16, DLDL-v2, one view": TrialConfig(backbone="vgg16", epochs=1, batch=16, loss=DLDLv2(), views="face"),
    "resnet18, 2 frozen": TrialConfig(
        backbone="resnet18", epochs=2, batch=8, frozen=2, frozen_views=2, weights="given"
    ),
}


def drawn_faces(faces: int = 40, px: int = 64) -> Faces:
    """Pictures whose brightness is their age, four of a person."""
    random = np.random.default_rng(0)
    age = random.integers(0, 70, faces).astype(np.int16)
    pixels = np.clip(random.normal(30 + 2.5 * age[:, None, None, None], 12, (faces, px, px, 3)), 0, 255)
    number = np.arange(faces).astype(str)
    person = np.array([f"p{i // 4}" for i in range(faces)])
    return Faces(pixels.astype(np.uint8), age, person, np.char.add("x/", number), number, "drawn")


def fingerprint(config: TrialConfig, faces: Faces) -> str:
    """The fingerprint of a fold that leaves out the first two people."""
    rows, initial = np.arange(len(faces)), None
    if config.frozen:
        whole = build_net(config.replace(weights="random", frozen=0, seed=5)).state_dict()
        initial = {name: value.numpy() for name, value in whole.items()}
    given = run_freeze(config.to_json(), faces, initial, 1, "cpu") if config.frozen else faces
    result = run_fold(config.to_json(), given, initial, rows[8:], rows[:8], 1, "cpu")
    losses = ", ".join(f"{epoch['train_loss']:.12f}" for epoch in result.history)
    return f"{hashlib.sha256(result.distribution.tobytes()).hexdigest()[:16]}  loss {losses}"


def main() -> None:
    """Print one line per config."""
    torch.set_num_threads(1)
    faces = drawn_faces()
    for name, config in CONFIGS.items():
        print(f"{name:<55} {fingerprint(config, faces)}", flush=True)


if __name__ == "__main__":
    main()
