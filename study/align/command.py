"""Photos to aligned faces: find 68 landmarks, normalise size, tilt and position, and write a faces table.

    python -m study.align                                       the synthetic people and strangers
    python -m study.align fgnet --root DIR --out runs/fgnet     your own FG-NET

A photo that cannot be used is listed with its reason in OUT/rejects/, and the run continues. After an interruption the
same command continues where it stopped. FAN's weights are not downloaded; without them choose --landmarker dlib.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

from study.align.datasets import DATASETS
from study.align.listing import keep_first, list_photos
from study.align.options import Options, refuse
from study.align.plan import Plan, make_plan, versions
from study.align.ray_data import configure, find_workers, hash_photos, run_shards
from study.align.shards import claim, claim_source, note_environment, plan_shards, take_stock
from study.align.verdict import conclude
from study.files.locks import hold


def align(options: Options) -> int:
    """Align one dataset, or the synthetic ones; returns the exit status."""
    if options.dataset:
        return align_one(make_plan(options))
    refuse(options)
    return max(align(replace(options, dataset=name)) for name, dataset in DATASETS.items() if dataset.builtin)


def align_one(plan: Plan) -> int:
    """Align the photos that are missing in the plan's table; returns the exit status."""
    options, root, out, recipe = plan.options, plan.root, plan.out, plan.recipe
    if plan.dataset.builtin:
        print("synthetic people: results mean nothing about real faces")
    photos, rejects = list_photos(plan.dataset, root)
    # An object store has no locks: two commands at once on one URI are not noticed
    with hold(out.local) if out.local else nullcontext():
        claim(out, recipe, force=options.force)
        options.ray.start(quiet_core=True)
        configure()
        unit, workers = find_workers(options)
        listing, unusable = keep_first(hash_photos(photos, root, joined=options.ray.joins))
        shards = plan_shards(listing, recipe, out.names("faces"))
        claim_source(out, str(root), listing, shards, force=options.force)
        note_environment(out, versions(recipe.landmarker))
        missing = take_stock(out, shards, recipe, [*rejects, *unusable])
        run_shards(missing, plan, unit, workers)
        conclude(plan, read=len(photos) + len(rejects), worked=bool(missing))
    return 0
