"""One LOPO fold as a pure function: faces, weights and a config in; the left-out faces' age distributions out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int

from trainables.config import TrialConfig
from trainables.faces import Faces
from trainables.fitting import decode, fit, predict


@dataclass(frozen=True)
class FoldResult:
    """Predictions for the left-out faces, in the order of the rows tested, and the training's curve."""

    distribution: Float32[np.ndarray, "faces ages"]
    predicted: Float32[np.ndarray, " faces"]
    history: list[dict[str, Any]]
    seconds: float


def run_fold(
    record: Mapping[str, Any],
    faces: Faces,
    initial: Mapping[str, np.ndarray] | None,
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    threads: int,
) -> FoldResult:
    """Train TrialConfig.from_json(record) on faces[train] for its fixed number of epochs, then predict faces[test].

    The test faces are first looked at when the training is over.
    """
    began = time.perf_counter()
    config = TrialConfig.from_json(record)
    torch.set_num_threads(threads)
    # read-only in the object store, and torch may not write there: a copy of the weights, none of the faces
    tensors = None if initial is None else {name: torch.from_numpy(np.array(a)) for name, a in initial.items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fitted = fit(config, faces, train, device=device, initial=tensors)
    distribution = predict(config, fitted.net, faces, test)
    history = [asdict(epoch) for epoch in fitted.history]
    predicted = decode(distribution, config).astype(np.float32)
    return FoldResult(distribution, predicted, history, time.perf_counter() - began)
