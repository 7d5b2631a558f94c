"""The end of aligning: the table marked complete, the funnel's files, MLflow's metrics, and what the terminal says."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from study.align import funnel
from study.align.plan import Plan
from study.align.shards import finish, padded

BORDER = 0.01
"""A photo ends before the square does where more than this share of it lies outside."""


def conclude(plan: Plan, *, read: int, worked: bool = True) -> None:
    """Mark the table complete, write and log its funnel, and print it. read: photos that were listed; worked: whether
    some of them were aligned just now.

    Raises ValueError where not one face was aligned.
    """
    out, recipe = plan.out, plan.recipe
    counts = finish(out, read=read)
    aligned = counts.pop("aligned", 0)
    if read != aligned + counts.total():
        raise RuntimeError(f"{read} photos were read, but {aligned} + {counts.total()} accounted for")
    steps = funnel.funnel(counts, read=read)
    names = {"dataset": recipe.dataset, "landmarker": recipe.landmarker}
    files = {
        "funnel.md": funnel.as_markdown(steps, **names).encode(),
        "funnel.png": funnel.as_png(steps, **names),
    }
    for name, data in files.items():
        out.write(name, data)
    print(f"{recipe.dataset}, landmarker {recipe.landmarker}, {recipe.size} px -> {out}")
    print("\n".join(funnel.as_lines(steps, dataset=recipe.dataset)))
    print(f"read {read:,}, aligned {aligned:,}, rejected {counts.total():,}")
    if shares := padded(out):
        print(padding(shares))
    if plan.options.track:
        log_funnel(plan, steps, counts, files, worked=worked)
    if not aligned:
        raise ValueError(f"none of the {read:,} photos gave a face; {out}/rejects says why for each")


def padding(shares: Sequence[float]) -> str:
    """How many photos end before their face's square does, and how much of all squares is mirrored border."""
    ends = sum(share > BORDER for share in shares)
    return (
        f"photos that end before the face's square does: {ends:,} of {len(shares):,} ({ends / len(shares):.1%}); "
        f"{sum(shares) / len(shares):.1%} of all squares is mirrored border"
    ).replace("%", " %")


def log_funnel(
    plan: Plan, steps: list[funnel.Step], counts: Mapping[str, int], files: Mapping[str, bytes], *, worked: bool
) -> None:
    """One MLflow run for each table: the funnel as metrics and files. A rerun that worked updates it."""
    from study.tracking import runs as tracking  # MLflow takes a second to import

    store, made = tracking.connect(), asdict(plan.recipe)
    params = {name: value for name, value in made.items() if name not in ("points", "tries")}
    key = hashlib.sha256(json.dumps([str(plan.out), made], sort_keys=True).encode()).hexdigest()[:16]
    run_id = tracking.find_or_start(
        store,
        key=f"align-{key}",
        name=f"align {plan.recipe.dataset} {plan.recipe.landmarker}",
        stage="align",
        params=params | {"out": str(plan.out)},
    )
    if worked:
        tracking.reopen(store, run_id, key=f"align-{key}")
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        tracking.log_files(store, run_id, [Path(folder) / name for name in files])
    metrics = {f"left/{step.name}": float(step.left) for step in steps}
    metrics |= {f"rejected/{reason}": float(count) for reason, count in counts.items()}
    tracking.finish(store, run_id, metrics=metrics, tags={tracking.COMPLETE: "yes"})
