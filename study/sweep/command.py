"""Sweep backbones and loss weights with Ray Tune and Optuna; the winner is what `study.lopo --best` runs.

A trial's score is the MAE on people it never trained on. Selection is sealed: by default the people are cut into
blocks, each block has a sweep of its own on the other blocks' people, and a person is later tested with the config that
its own block's sweep chose, so that nobody's photos had a say in the model they are tested on (see docs/sweep.md).
Interrupted, it goes on where it was: type the same command again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from search_spaces import Space
from study.artifacts.brands import brand, branded, unlike
from study.cli.options import PEOPLE, STRANGERS, faces_or_synthetic, home
from study.cluster.placing import check_room, gpu_share
from study.files.locks import hold
from study.starts import check_apart, check_starts, find_starts
from study.sweep.finalists import Winner, check_block
from study.sweep.options import Sweep, read_question
from study.sweep.optuna_storage import sync_mirror
from study.sweep.plan import SweepRun, make_blocks
from study.sweep.ray_tune import block_search, run_block, share, trial_unit
from study.sweep.search import read_journal
from study.sweep.selection import (
    Block,
    claim,
)
from study.sweep.verdict import conclude
from study.tracking import runs as tracking
from trainables import code_version
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.table import load_faces, read_identities
from trainables.provenance import environment


def sweep(options: Sweep) -> int:
    """Run every block's trials that are still missing; returns the exit status."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, base = read_question(options)
    tested = faces_or_synthetic(options.faces, PEOPLE)
    name = options.name or options.space
    folder = (options.out or home(read_identities(tested).datasets) / "sweeps") / name
    with hold(folder.parent, folder.name):
        return run_blocks(options, folder, tested, space, base)


def run_blocks(options: Sweep, folder: Path, tested: list[Path], space: Space, base: TrialConfig) -> int:
    """The sweep in its folder, which this process holds."""
    sizes = space.sizes(base)
    folders = tested
    if options.select == "dev":
        folders = faces_or_synthetic(options.pretrain_faces, STRANGERS)
        check_apart(folders, tested)
    faces = load_faces(folders, px=sizes[0])
    identities = read_identities(tested)
    from_file = options.training.trial is not None and options.weights is None
    pretrained = options.pretrained or home(identities.datasets) / "pretrained"
    starts = find_starts(pretrained, space, base, from_file=from_file)
    learned_from = check_starts(list(starts.values()), identities, options.allowed)
    differ = unlike([start.record for start in starts.values()])
    print(f"Pretraining: {learned_from.sentence}" + (f". NOTE: {differ}" if differ else ""), flush=True)
    blocks = make_blocks(options, faces, starts, seed=base.seed)
    name = options.name or options.space
    options.ray.start()
    device = "cuda" if gpu_share(options.gpus_per_trial) else "cpu"
    settings: dict[str, Any] = {
        "space": options.space,
        "base": base.to_json(),
        "faces": faces.digest,
        "select": options.select,
        "split": options.dev_share if options.select == "dev" else [len(blocks), options.folds],
        "prune": options.prune,
        "objective": options.objective,
        "starts": {backbone: start.digest for backbone, start in starts.items()},
        "code": code_version(),
        "device": device,
        "precision": resolve_precision(base, device),
    }
    if space.own != ("dropout",):  # as it is without --config, --px and --dropout
        settings["own"] = list(space.own)
    unit = trial_unit(options)
    fit = check_room(unit, joined=options.ray.joins, count=None if options.parallel else "--parallel")
    parallel = options.parallel or fit
    here = {**environment("cpu"), "threads": str(options.cpus_per_trial)}
    lag = claim(folder, settings, lag=2 * parallel, environment=here, force=options.force)
    store = tracking.connect()
    key = f"sweep-{name}-{fingerprint(settings)}"
    told = {"space": options.space, "select": options.select, "blocks": len(blocks), "folds": options.folds}
    told |= {"faces": ", ".join(map(str, folders)), "objective": options.objective}
    mark = brand(sealed=options.select != "none", learned_from=learned_from)
    parent = tracking.find_or_start(
        store,
        key=key,
        name=branded(f"sweep {name}", mark),
        stage="sweep",
        params=told,
        tags={"study.brand": mark or "none"},
    )
    print(
        f"Sweep {name!r}: {len(blocks)} block(s) x {options.trials} trials, {len(faces)} faces"
        + (f" of {len(faces.people)} people" if faces.people else "")
        + f", {', '.join(map(str, sizes))} px, {len(blocks[0].folds)} inner fold(s), {base.epochs} epochs",
        flush=True,
    )
    shared = share(faces, folders, sizes, starts)
    running = SweepRun(options, folder, space, base, starts, learned_from, shared, store, parent, key, parallel, lag)
    for block in blocks:
        check_block(block_search(running, read_journal(folder / block.name, faces), None), folder / block.name, faces)
    _sync(running, blocks)
    deadline = None if options.minutes is None else time.monotonic() + options.minutes * 60
    chosen: list[tuple[Block, Winner]] = []
    for index, block in enumerate(blocks):
        ends = None if deadline is None else time.monotonic() + (deadline - time.monotonic()) / (len(blocks) - index)
        chosen.append((block, run_block(running, block, ends)))
    _sync(running, blocks)  # anew where trials ended side by side: now in the journal's order
    conclude(running, chosen, tested, folders, faces)
    return 0


def _sync(running: SweepRun, blocks: Sequence[Block]) -> None:
    """The mirrors made good from the journals."""
    runs = tracking.children(running.store, running.parent)
    for block in blocks:
        journal = read_journal(running.folder / block.name)
        known = {number: runs.get(f"{running.key}-{block.name}-{number}", ("", ""))[0] for number in journal}
        sync_mirror(running.mirror(block), journal, runs=known)
