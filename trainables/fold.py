"""One LOPO fold as a pure function of faces, weights and config: it returns the test faces' age distributions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int

from trainables.config import TrialConfig
from trainables.faces.batches import as_tensors
from trainables.faces.table import Faces
from trainables.fitting import Fitted, decode, fit, freeze, predict
from trainables.frozen.features import Features
from trainables.provenance import environment


@dataclass(frozen=True)
class FoldResult:
    """Predictions for the test faces in the order of the test rows, the training's history, and versions and hardware
    (trainables.provenance.environment)."""

    distribution: Float32[np.ndarray, "faces ages"]
    predicted: Float32[np.ndarray, " faces"]
    history: list[dict[str, Any]]
    seconds: float
    environment: dict[str, str]


def run_fold(
    record: Mapping[str, Any],
    faces: Faces | Features,
    initial: Mapping[str, np.ndarray] | None,
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    threads: int,
    device: str,
) -> FoldResult:
    """The result of training TrialConfig.from_json(record) on faces[train] for its fixed number of epochs, and then
    predicting faces[test]. Test faces are not used before the training has ended.
    """
    began = time.perf_counter()
    config = TrialConfig.from_json(record)
    fitted = _train(config, faces, initial, train, threads, device)
    distribution = predict(config, fitted.net, faces, test)
    history = [asdict(epoch) for epoch in fitted.history]
    predicted = decode(distribution, config).astype(np.float32)
    return FoldResult(distribution, predicted, history, time.perf_counter() - began, environment(device))


def run_freeze(
    record: Mapping[str, Any],
    faces: Faces,
    initial: Mapping[str, np.ndarray] | None,
    threads: int,
    device: str,
) -> Faces | Features:
    """The output of the config's frozen stages for all faces, computed once: folds use it instead of the faces."""
    torch.set_num_threads(threads)
    return freeze(TrialConfig.from_json(record), faces, as_tensors(initial), device)


def run_stage(
    record: Mapping[str, Any],
    faces: Faces | Features,
    initial: Mapping[str, np.ndarray] | None,
    train: Int[np.ndarray, " train"],
    threads: int,
    device: str,
) -> dict[str, np.ndarray]:
    """The weights after training on faces[train]: an inner node of the fold tree, from which its two halves start."""
    fitted = _train(TrialConfig.from_json(record), faces, initial, train, threads, device)
    return {name: value.cpu().numpy() for name, value in fitted.net.state_dict().items()}


def _train(
    config: TrialConfig,
    faces: Faces | Features,
    initial: Mapping[str, np.ndarray] | None,
    train: Int[np.ndarray, " train"],
    threads: int,
    device: str,
) -> Fitted:
    torch.set_num_threads(threads)
    return fit(config, faces, train, device=device, initial=as_tensors(initial))
