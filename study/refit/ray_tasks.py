"""The trainings on everyone as Ray tasks, one a seed. A finished seed's weights are kept, so that a rerun goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from study.cli.progress import progress
from study.cluster.placing import Running, Unit, explaining
from study.cluster.start import put_tensors
from study.files.storage import write_whole
from study.refit.plan import Plan
from study.starts import read_tensors
from trainables.config import TrialConfig
from trainables.fold import run_freeze, run_stage


def train_seeds(plan: Plan, folder: Path, unit: Unit, *, joined: bool) -> list[dict[str, Tensor]]:
    """The tensors of each seed, in order; those in `folder` are kept, the others are trained and written there."""
    configs = {seed: plan.config.replace(seed=plan.config.seed + seed) for seed in range(plan.seeds)}
    kept = {seed: state for seed in configs if (state := _read(folder / f"seed{seed}.safetensors")) is not None}
    if kept:
        print(f"{len(kept)} of {plan.seeds} trainings are already there", flush=True)
    missing = [seed for seed in configs if seed not in kept]
    if missing:
        running = Running()
        with explaining(unit, running.count, joined=joined):
            for seed, state in _train({seed: configs[seed] for seed in missing}, plan, unit, running):
                write_whole(folder / f"seed{seed}.safetensors", safetensors.torch.save(state))
                kept[seed] = state
    return [kept[seed] for seed in configs]


def _train(configs: Mapping[int, TrialConfig], plan: Plan, unit: Unit, running: Running) -> Any:
    """(seed, tensors) as they are finished, with a progress bar."""
    device = "cuda" if unit.gpus else "cpu"
    given = {"num_cpus": unit.cpus, "num_gpus": unit.gpus, "max_retries": 3}
    faces, initial = ray.put(plan.drawn.beside(plan.faces)), put_tensors(read_tensors(plan.start))
    first = next(iter(configs.values()))
    if first.frozen:  # its features depend on no seed
        freeze = running.of(run_freeze, **given)
        faces = freeze(first.to_json(), faces, initial, unit.cpus, device)
    stage = running.of(run_stage, **given)
    rows = np.arange(len(plan.faces))
    waiting = {stage(c.to_json(), faces, initial, rows, unit.cpus, device): seed for seed, c in configs.items()}
    with progress("refit", total=len(waiting), unit="trainings") as bar:
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=0.5)
            for reference in done:
                state = {name: torch.from_numpy(np.array(value)) for name, value in ray.get(reference).items()}
                yield waiting.pop(reference), {name: value.contiguous() for name, value in state.items()}
                bar.update()


def _read(file: Path) -> dict[str, Tensor] | None:
    """The tensors of a finished seed; None where there is no sound file."""
    try:
        return safetensors.torch.load(file.read_bytes()) if file.is_file() else None
    except safetensors.SafetensorError:
        return None
