"""Finished sweeps in MLflow, and what they chose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from study.artifacts.best import Best
from study.tracking import runs as tracking


def newest_sweep(store: tracking.Tracking, *, name: str | None) -> Best:
    """best.json of the newest finished sweep (with this name or in this folder). Raises ValueError if there is none."""
    sweeps = tracking.finished(store, stage="sweep")
    named = [(run_id, tags) for run_id, _, tags in sweeps if name is None or _is_named(name, tags)]
    if not named:
        there = sorted({tags.get("study.name", "") for _, _, tags in sweeps})
        raise ValueError(
            f"no finished sweep{f' named {name!r}' if name else ''} in {store.place.shown}"
            + (f" (there is: {', '.join(there)})" if there else "")
            + ": run one first with: python -m study.sweep"
        )
    run_id = named[0][0]
    return Best.from_json(tracking.read_json(store, run_id, "best.json"), where=f"run {run_id}: best.json")


def _is_named(name: str, tags: Mapping[str, str]) -> bool:
    """Whether `name` is the name of a sweep, which several may have, or its folder as its command printed it."""
    return name == tags.get("study.name") or Path(name) == Path(tags.get("study.folder", "."))
