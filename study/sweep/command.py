"""Sweep backbones and loss weights with Ray Tune and Optuna; the winner is what `study.lopo --best` runs.

A trial's score is the MAE on people it never trained on. Selection is sealed: by default the people are cut into
blocks, each block has a sweep of its own on the other blocks' people, and a person is later tested with the config that
its own block's sweep chose, so that nobody's photos had a say in the model they are tested on (see docs/sweep.md).
Interrupted, it goes on where it was: type the same command again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from search_spaces import Space
from study.artifacts.brands import brand, branded, unlike
from study.artifacts.pretraining import Beside
from study.cli.options import PEOPLE, STRANGERS, faces_or_synthetic, home
from study.cluster.placing import check_room, gpu_share
from study.companions import find_companions
from study.files.locks import hold
from study.starts import Start, check_apart, check_starts, find_starts
from study.sweep.budgets import Earlier, describe_change, remember
from study.sweep.estimate import (
    Work,
    complete,
    fold_seconds,
    mean_sizes,
    measuring_order,
    network_configs,
    plan_lines,
    read_costs,
    small_hours,
    write_costs,
)
from study.sweep.finalists import Winner, choose
from study.sweep.journal import read_finals, read_journal
from study.sweep.mapped_faces import read_faces
from study.sweep.optimism import count_photos
from study.sweep.options import Sweep, read_question
from study.sweep.optuna_storage import sync_mirror
from study.sweep.pages import dataset_of, open_questions
from study.sweep.plan import SweepRun, compute, make_blocks, side_by_side
from study.sweep.ray_measure import measure
from study.sweep.ray_tune import block_search, run_blocks, share, trial_unit
from study.sweep.recorder import best_table
from study.sweep.search import check_block
from study.sweep.selection import (
    Block,
    claim,
)
from study.sweep.shares import Budget
from study.sweep.verdict import conclude
from study.tracking import runs as tracking
from trainables import code_version
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.table import Faces, identify, read_identities
from trainables.provenance import environment

COSTS_FILE = "costs.json"
"""In the sweep's folder: what a network's training takes, as measured when it began."""

ENDLESS = 1_000_000
"""Trials of a block that a budget alone ends."""


def sweep(options: Sweep) -> int:
    """Run every block's trials that are still missing; returns the exit status."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, base = read_question(options)
    tested = faces_or_synthetic(options.faces, PEOPLE)
    name = options.name or options.space
    folder = (options.out or home(read_identities(tested).datasets) / "sweeps") / name
    with hold(folder.parent, folder.name):
        return run_sweep(options, folder, tested, space, base)


def run_sweep(options: Sweep, folder: Path, tested: list[Path], space: Space, base: TrialConfig) -> int:
    """The sweep in its folder, which this process holds."""
    sizes = space.sizes(base)
    folders = tested
    if options.select == "dev":
        folders = faces_or_synthetic(options.pretrain_faces, STRANGERS)
        check_apart(folders, tested)
    # in the sweeps' folder, not this one's, which is claimed only once the faces are known
    place = folder.parent / ".faces"
    faces = read_faces(folders, px=sizes[0], place=place)
    identities = identify(tested)
    from_file = options.training.trial is not None and options.weights is None
    pretrained = options.pretrained or home(identities.datasets) / "pretrained"
    starts = find_starts(pretrained, space, base, from_file=from_file)
    learned_from = check_starts(list(starts.values()), identities, options.allowed)
    drawn = find_companions([base], options.beside, identities, options.allowed, known=Beside())
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
    if drawn.companions:
        settings["companions"] = drawn.record.digest
    if options.networks:
        settings["networks"] = list(space.backbones)
    if space.own != ("dropout",):  # as it is without --config, --px and --dropout
        settings["own"] = list(space.own)
    if options.minutes is not None or options.gpu_hours is not None:
        settings["budget"] = "cost"  # its questions are other ones
    unit = trial_unit(options)
    fit = check_room(unit, joined=options.ray.joins, count=None if options.parallel else "--parallel")
    parallel = options.parallel or fit
    trials = options.trials or max(12, 3 * len(space.backbones))
    seconds = compute(options, parallel, unit.gpus)
    lag = side_by_side(parallel, len(blocks), trials, forced=options.parallel is not None)
    here = {**environment("cpu"), "threads": str(options.cpus_per_trial)}
    lag = claim(folder, settings, lag=lag, environment=here, force=options.force)
    store = open_questions(options, folder.name, faces)
    key = f"sweep-{name}-{fingerprint(settings)}"
    told = {"space": options.space, "select": options.select, "blocks": len(blocks), "folds": options.folds}
    told |= {"faces": ", ".join(map(str, folders)), "objective": options.objective}
    told |= {"beside": ", ".join(drawn.record.datasets)} if drawn.companions else {}
    mark = brand(sealed=options.select != "none", learned_from=learned_from)
    parent = tracking.find_or_start(
        store,
        key=key,
        name=branded(f"sweep {name}", mark),
        stage="sweep",
        params=told,
        tags={"study.brand": mark or "none"},
        datasets=[(data := dataset_of(faces, folders))],
    )
    print(
        f"Sweep {name!r}: {len(blocks)} block(s)"
        + (f" x {trials} trials" if seconds is None else "")
        + f", {len(faces)} faces"
        + (f" of {len(faces.people)} people" if faces.people else "")
        + (f" and up to {base.companions} of {', '.join(drawn.record.datasets)} beside" if drawn.companions else "")
        + f", {', '.join(map(str, sizes))} px, {len(blocks[0].folds)} inner fold(s), {base.epochs} epochs\n"
        f"{parallel} folds side by side; {lag} trial(s) of a block at once: each knows all before it"
        + (f" but the last {lag - 1}" if lag > 1 else ""),
        flush=True,
    )
    budget = announce(options, folder, space, base, blocks, starts, places=parallel, trials=trials, seconds=seconds)
    earlier: dict[str, Earlier] = {}
    if budget is not None:
        if changed := describe_change(folder, budget.seconds, blocks=len(blocks), places=parallel):
            print(changed, flush=True)
        earlier = remember(folder, [block.name for block in blocks], budget.seconds)
        trials = options.trials or ENDLESS
    shared = share(faces, folders, sizes, starts, place, drawn)
    running = SweepRun(
        options, folder, space, base, starts, learned_from, shared, store, parent, key, trials, parallel, lag,
        budget, data, earlier, drawn.record,
    )  # fmt: skip
    for block in blocks:
        check_block(block_search(running, block, faces), folder / block.name)
    _sync(running, blocks)
    run_blocks(running, blocks, None if options.minutes is None else time.monotonic() + options.minutes * 60)
    _sync(running, blocks)  # again where trials ended side by side: now in the journal's order
    conclude(running, [(block, choose_winner(running, block, faces)) for block in blocks], tested, folders, faces)
    return 0


def announce(
    options: Sweep,
    folder: Path,
    space: Space,
    base: TrialConfig,
    blocks: Sequence[Block],
    starts: Mapping[str, Start],
    *,
    places: int,
    trials: int,
    seconds: float | None,
) -> Budget | None:
    """Say what is about to be trained; returns each block's budget where the sweep spends by cost.

    The times are measured once for a sweep, and not at all where all its trials are there. Raises ValueError where
    costs are to be minded and could not be measured.
    """
    unit = trial_unit(options)
    configs = network_configs(space, base)
    timings = read_costs(folder / COSTS_FILE)
    missing = any(len(list((folder / block.name).glob("*.json"))) < trials for block in blocks)
    if timings is None and missing:
        device = "cuda" if unit.gpus else "cpu"
        timings = measure(measuring_order(configs), unit, device=device, places=places, joined=options.ray.joins)
        if timings:
            write_costs(folder / COSTS_FILE, timings)
    timings = timings or {}
    if seconds is not None and not timings:
        raise ValueError("what a training costs could not be measured, which --minutes and --gpu-hours need: run again "
                         "when a place is free, or give --trials alone")  # fmt: skip
    train, test = mean_sizes([fold for block in blocks for fold in block.folds])
    finals = len(blocks) * options.final_seeds * options.finalists * (options.finalists > 1)
    work = Work(len(blocks), trials, len(blocks[0].folds), finals, train, test, places, unit.gpus)
    folds = fold_seconds(complete(timings, configs), configs, work)
    if missing:
        first = [str(point.get("backbone", base.backbone)) for point in space.first]
        lines = plan_lines(
            folds, {name: start.weights for name, start in starts.items()}, work, first=first,
            measured=len(timings.keys() & configs.keys()), budget=seconds,
            smaller=None if options.space == "small" else small_hours(timings, space, base, work),
        )  # fmt: skip
        print("\n".join(lines), flush=True)
    return None if seconds is None else Budget(seconds / len(blocks), folds)


def choose_winner(running: SweepRun, block: Block, faces: Faces) -> Winner:
    """The block's choice, with the table of its best trials printed. Raises ValueError where no trial is complete."""
    place = running.folder / block.name
    journal, finals = read_journal(place), read_finals(place)
    options = running.options
    photos = count_photos(faces)
    found = choose(journal, finals, most=options.finalists, seeds=options.final_seeds, photos=photos)
    print(f"\n{block.name}: the best trials\n{best_table(journal, finals)}\n", flush=True)
    if found is None:
        raise ValueError(
            f"no trial of {block.name} was completed; their reasons are in {place}/*.json "
            "(raise --trials, --minutes or --gpu-hours, or --prune 0)"
        )
    return found


def _sync(running: SweepRun, blocks: Sequence[Block]) -> None:
    """The mirrors made good from the journals."""
    runs = tracking.children(running.store, running.parent)
    for block in blocks:
        journal = read_journal(running.folder / block.name)
        known = {number: runs.get(f"{running.key}-{block.name}-{number}", ("", ""))[0] for number in journal}
        sync_mirror(running.mirror(block), journal, runs=known)
