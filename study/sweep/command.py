"""Sweep backbones and loss weights with Ray Tune and Optuna; the winner is what `study.lopo --best` runs.

A trial's score is the MAE on people it never trained on. Selection is sealed: by default the people are cut into
blocks, each block has a sweep of its own on the other blocks' people, and a person is later tested with the config that
its own block's sweep chose, so that nobody's photos had a say in the model they are tested on (see docs/sweep.md).
Interrupted, it goes on where it was: type the same command again.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import optuna
import ray
import tyro
from ray import tune

from search_spaces import Space, find_space
from study.artifacts.brands import brand, branded, unlike
from study.cli.describe import describe
from study.cli.options import PEOPLE, STRANGERS, Allowed, Training, faces_or_synthetic, home, is_synthetic
from study.cli.run import refuse_ignored
from study.cluster.placing import Unit, check_room, explaining, gpu_share
from study.cluster.start import Joining
from study.files.locks import hold
from study.files.seals import seal
from study.files.storage import write_json
from study.starts import Start, check_apart, check_starts, find_starts, put_weights
from study.sweep.finalists import BlockSearch, Choice, check_block, choose, finalists, missing_finals, read_finals
from study.sweep.optimism import describe_choice
from study.sweep.optuna_storage import Mirror, study_of, sync_mirror
from study.sweep.pareto import cost_field, draw_front, front_table
from study.sweep.plots import draw
from study.sweep.recorder import Recorder, best_table
from study.sweep.search import COSTS, JournalSearch, Objective, Tried, read_journal
from study.sweep.selection import (
    Block,
    Select,
    check_never_seen,
    claim,
    dev_block,
    everybody,
    person_blocks,
)
from study.tracking import runs as tracking
from study.tracking.sqlite import sqlite_uri
from trainables import code_version
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.table import Faces, load_faces, read_identities
from trainables.fields import Chance, Count, Part, Positive, Range, Whole
from trainables.provenance import environment
from trainables.trial import tune_trial


@dataclass(frozen=True)
class Sweep:
    """Options of study.sweep."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    space: str = "small"
    """What is asked: small (three networks, both lambdas, learning rate), mean_variance, losses (six of them),
    backbones, efficientnet (B0 to B7 with size and drop path), stages (four networks and how many early stages stay
    frozen), transformers (ViT, Swin, ConvNeXt, EfficientNetV2), paper (its eleven networks), or tour (what make study
    runs)."""
    trials: Count = 12
    """Trials of each block."""
    minutes: Positive | None = None
    """Start no further trial after this long (all blocks together); finalists' seeds are run all the same."""
    select: Select = "blocks"
    """On whom the config is chosen. blocks: for each block of people on the other blocks' people. dev: for everyone on
    a dev part of the pretraining data, touching no label of --faces. none: on everyone, whose LOPO figure is then
    marked as optimistic."""
    blocks: Count = 4
    """With --select blocks: how many; 2 for a quick look."""
    folds: Annotated[int, Range(2)] = 3
    """Inner folds over people that score a trial (with --select dev it has the dev part alone)."""
    faces: tuple[Path, ...] = ()
    """Faces tables with people (OUT of study.align). Default: the synthetic people."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    pretrain_faces: tuple[Path, ...] = ()
    """With --select dev: the faces tables that study.pretrain was given. Default: the synthetic strangers."""
    dev_share: Part = 0.1
    """With --select dev: the dev part's share, as study.pretrain had it (or less)."""
    pretrained: Path | None = None
    """Folder of study.pretrain: a backbone found there starts from its checkpoint. Default: runs/pretrained, or
    runs/synthetic/pretrained for synthetic people."""
    weights: str | None = None
    """Where a backbone has no checkpoint there: random or imagenet. Default: random; with --trial the file's own, which
    its backbone then starts from in any case."""
    objective: Objective = "mae"
    """What the sampler minds beside the MAE: multiply-adds, parameters, or a face's measured time. The front of what is
    best at its cost is drawn and printed; --best takes the lowest MAE all the same."""
    finalists: Whole = 3
    """The best so many trials of a block are run once more with each of --final-seeds further seeds, and the lowest
    mean over the seeds is chosen."""
    final_seeds: Whole = 1
    """Further seeds of each finalist; 0: the trials' one seed decides."""
    parallel: Count | None = None
    """Trials side by side; default: as many as the resources hold."""
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    """Share of a GPU: 0.1 puts ten trials on one. Default: 0.25 where there are GPUs, else none."""
    prune: Chance = 0.1
    """Level of the paired test that ends a trial which is worse than the best; 0 never prunes."""
    name: str | None = None
    """Folder under --out and name in MLflow; default: the space's."""
    out: Path | None = None
    """Default: runs/sweeps, or runs/synthetic/sweeps of synthetic people."""
    force: bool = False
    """Discard a sweep of this name that was made with other settings."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)


_ONLY = {"blocks": "blocks", "pretrain_faces": "dev", "dev_share": "dev"}
"""Options that one --select alone looks at."""


@dataclass(frozen=True)
class Running:
    """What all blocks of a sweep under way share.

    parallel: trials side by side. lag: how far a trial's knowledge is behind (study.sweep.search): twice those side by
    side, so that a slow trial does not keep the others waiting.
    """

    options: Sweep
    folder: Path
    space: Space
    base: TrialConfig
    starts: Mapping[str, Start]
    learned_from: Mapping[str, Any]
    shared: Mapping[str, Any]
    store: tracking.Tracking
    parent: str
    key: str
    parallel: int
    lag: int

    def mirror(self, block: Block) -> Mirror:
        """The block's study in Optuna's storage."""
        return Mirror(self.folder, block.name, self.space, self.base, self.options.objective)


def sweep(options: Sweep) -> int:
    """Run every block's trials that are still missing; returns the exit status."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, base = read_question(options)
    tested = faces_or_synthetic(options.faces, PEOPLE)
    name = options.name or options.space
    folder = (options.out or home(read_identities(tested).datasets) / "sweeps") / name
    with hold(folder.parent, folder.name):
        return run_blocks(options, folder, tested, space, base)


def read_question(options: Sweep) -> tuple[Space, TrialConfig]:
    """The space and its base config. Raises ValueError where the options ask for what cannot be, before any face is
    read."""
    space = replace(find_space(options.space), own=options.training.own)
    if options.select == "blocks" and options.blocks < 2:
        raise ValueError(f"--blocks {options.blocks} seals nothing: expected 2 or more, or --select dev or none")
    refuse_ignored(
        options, [name for name, only in _ONLY.items() if only != options.select], why=f"with --select {options.select}"
    )
    base = options.training.trial_config(weights=options.weights)
    base.replace(seed=base.seed + options.final_seeds)  # the finalists' last one: a number too
    space.check(base)
    return space, base


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
    print(f"Pretraining: {learned_from['sentence']}" + (f". NOTE: {differ}" if differ else ""), flush=True)
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
    unit = _unit(options)
    fit = check_room(unit, joined=options.ray.joins, count=None if options.parallel else "--parallel")
    parallel = options.parallel or fit
    here = {**environment("cpu"), "threads": str(options.cpus_per_trial)}
    lag = claim(folder, settings, lag=2 * parallel, environment=here, force=options.force)
    store = tracking.connect()
    key = f"sweep-{name}-{fingerprint(settings)}"
    told = {"space": options.space, "select": options.select, "blocks": len(blocks), "folds": options.folds}
    told |= {"faces": ", ".join(map(str, folders)), "objective": options.objective}
    mark = {"sealed": options.select != "none", "learned_from": learned_from}
    parent = tracking.find_or_start(
        store,
        key=key,
        name=branded(f"sweep {name}", mark),
        stage="sweep",
        params=told,
        tags={"study.brand": brand(mark) or "none"},
    )
    print(
        f"Sweep {name!r}: {len(blocks)} block(s) x {options.trials} trials, {len(faces)} faces"
        + (f" of {len(faces.people)} people" if faces.people else "")
        + f", {', '.join(map(str, sizes))} px, {len(blocks[0].folds)} inner fold(s), {base.epochs} epochs",
        flush=True,
    )
    shared = _shared(faces, folders, sizes, starts)
    running = Running(options, folder, space, base, starts, learned_from, shared, store, parent, key, parallel, lag)
    for block in blocks:
        check_block(_search(running, read_journal(folder / block.name, faces), None), folder / block.name, faces)
    _sync(running, blocks)
    deadline = None if options.minutes is None else time.monotonic() + options.minutes * 60
    chosen: list[tuple[Block, Choice]] = []
    for index, block in enumerate(blocks):
        ends = None if deadline is None else time.monotonic() + (deadline - time.monotonic()) / (len(blocks) - index)
        chosen.append((block, _run_block(running, block, ends)))
    _sync(running, blocks)  # anew where trials ended side by side: now in the journal's order
    _finish(running, chosen, tested, folders, faces)
    return 0


def make_blocks(options: Sweep, faces: Faces, starts: Mapping[str, Start], *, seed: int) -> list[Block]:
    """The studies that --select asks for. Raises ValueError where a checkpoint learned from the dev part."""
    if options.select == "blocks":
        return person_blocks(faces, blocks=options.blocks, folds=options.folds, seed=seed)
    if options.select == "none":
        return everybody(faces, folds=options.folds, seed=seed)
    (block,) = dev_block(faces, share=options.dev_share, seed=seed)
    for start in starts.values():
        check_never_seen(start, faces, block)
    return [block]


def _shared(
    faces: Faces, folders: Sequence[Path], sizes: tuple[int, ...], starts: Mapping[str, Start]
) -> dict[str, Any]:
    """What every trial reads from the object store, without a copy of its own: the faces in every size, and weights."""
    there = faces.pixels.shape[1]
    return {
        "faces": {px: ray.put(faces if px == there else load_faces(folders, px=px)) for px in sizes},
        "weights": {(start.backbone, start.weights): put_weights(start) for start in starts.values()},
    }


def _sync(running: Running, blocks: Sequence[Block]) -> None:
    """The mirrors made good from the journals."""
    runs = tracking.children(running.store, running.parent)
    for block in blocks:
        journal = read_journal(running.folder / block.name)
        known = {number: runs.get(f"{running.key}-{block.name}-{number}", ("", ""))[0] for number in journal}
        sync_mirror(running.mirror(block), journal, runs=known)


def _search(running: Running, journal: dict[int, Tried], ends: float | None) -> JournalSearch:
    return JournalSearch(
        running.space, running.base, journal, trials=running.options.trials, lag=running.lag, seed=running.base.seed,
        ends=ends, objective=running.options.objective,
        pretrained={name: start.weights for name, start in running.starts.items()},
    )  # fmt: skip


def _run_block(running: Running, block: Block, ends: float | None) -> Choice:
    """The block's trials and its finalists' seeds, as far as they are missing; its choice."""
    options, place = running.options, running.folder / block.name
    journal = read_journal(place)
    if journal:
        print(f"{block.name}: {len(journal)} of {options.trials} trials are already there", flush=True)
    missing = options.trials - sum(number < options.trials for number in journal)
    most = options.finalists if options.final_seeds else 0
    if missing > 0 or missing_finals(finalists(journal, most), read_finals(place), options.final_seeds):
        search = _search(running, journal, ends)
        expected = missing + most * options.final_seeds
        record = Recorder(
            journal, place, running.store, parent=running.parent, key=running.key, block=block.name,
            mirror=running.mirror(block), trials=options.trials, expected=expected,
        )  # fmt: skip
        both = BlockSearch(search, place, most=most, seeds=options.final_seeds)
        unit = _unit(options)
        with explaining(unit, lambda: len(record.at_work), joined=options.ray.joins):
            _tune(running, block, both, record, expected)
        _check_done(running, block, journal, search.ended)
    choice = choose(journal, read_finals(place), most=options.finalists, seeds=options.final_seeds)
    print(f"\n{block.name}: the best trials\n{best_table(journal, read_finals(place))}\n", flush=True)
    if choice is None:
        raise ValueError(
            f"no trial of {block.name} was completed; their reasons stand in {place}/*.json "
            "(raise --trials or --minutes, or --prune 0)"
        )
    return choice


def _unit(options: Sweep) -> Unit:
    """What a trial takes of the cluster."""
    gpus = gpu_share(options.gpus_per_trial)
    return Unit("trial", options.cpus_per_trial, gpus, "--cpus-per-trial and --gpus-per-trial")


def _check_done(running: Running, block: Block, journal: Mapping[int, Tried], ended: bool) -> None:
    """Raise ChildProcessError where Ray Tune came back too early, as it does on SIGUSR1 (which SLURM sends): a choice
    among the trials that happen to be there would pass for the one that was asked for.

    ended: --minutes were over, after which no trial was to be started.
    """
    options, place = running.options, running.folder / block.name
    missing = [] if ended else [number for number in range(options.trials) if number not in journal]
    most = options.finalists if options.final_seeds else 0
    finals = missing_finals(finalists(journal, most), read_finals(place), options.final_seeds)
    if missing or finals:
        raise ChildProcessError(
            f"Ray Tune ended {block.name} before {len(missing)} of {options.trials} trials and {len(finals)} of its "
            "finalists' seeds were run; the same command continues where it stopped"
        )


def _tune(running: Running, block: Block, search: BlockSearch, record: Recorder, trials: int) -> None:
    """Ray Tune over what the searcher suggests, at most so many, each trial on the block's folds."""
    options = running.options
    gpus = gpu_share(options.gpus_per_trial)
    run = partial(
        tune_trial,
        folds=[(fold.train, fold.test) for fold in block.folds],
        threads=options.cpus_per_trial,
        device="cuda" if gpus else "cpu",
        prune_p=options.prune,
        **running.shared,
    )
    # Tune's own handler ends fit() at Ctrl-C as if all trials had been run
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # A trial's failure is told in one line by the recorder; Tune would print pages, and a banner
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # Tune's own state is thrown away: the journal is what a rerun goes on from
    scratch = running.folder.resolve() / ".tune"
    shutil.rmtree(scratch, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(run, {"cpu": options.cpus_per_trial, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=trials,
            max_concurrent_trials=running.parallel,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=block.name,
            storage_path=str(scratch),
            callbacks=[record],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    try:
        tuner.fit()
    except tune.TuneError as error:
        # The recorder's, on a full disk: Tune tells it as its own, on a page
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def _finish(
    running: Running, chosen: Sequence[tuple[Block, Choice]], tested: list[Path], folders: list[Path], faces: Faces
) -> None:
    """Plots, best.json, MLflow's figures, and what is said at the end."""
    options, store, parent, folder = running.options, running.store, running.parent, running.folder
    journals = {block.name: read_journal(folder / block.name) for block, _ in chosen}
    cost = cost_field(options.objective)
    mark = {"sealed": options.select != "none", "learned_from": running.learned_from}
    for block, _ in chosen:
        journal = journals[block.name]
        plots = draw(study_of(running.mirror(block), journal), folder, name=block.name, mark=branded("", mark))
        title = f"{branded(f'{folder.name}/{block.name}', mark)}: what accuracy costs"
        picture = draw_front(journal, cost, folder / f"{block.name}-front.png", title=title)
        tracking.log_files(store, parent, [*plots, *([picture] if picture else [])])
        if options.objective in COSTS:
            print(f"{block.name}: the best at each cost\n{front_table(journal, cost)}\n", flush=True)
    told = describe_choice(list(journals), list(journals.values()), [choice.tried for _, choice in chosen], faces)
    record = {
        "sweep": folder.name,
        "key": running.key,
        "faces": [str(place) for place in tested],
        "faces_digest": None if options.select == "dev" else faces.digest,
        "built_in": is_synthetic(read_identities(tested).datasets),
        "select": options.select,
        "sealed": options.select != "none",
        "starts": [start.record for start in running.starts.values()],
        "learned_from": dict(running.learned_from),
        "unlike": unlike([start.record for start in running.starts.values()]),
        "apart_from": [str(place) for place in folders] if options.select == "dev" else [],
        "space": options.space,
        "trials": options.trials,
        "choice": told,
        "blocks": [
            {
                "name": block.name,
                "people": list(block.people),
                "trial": dict(choice.tried.trial),
                "number": choice.tried.number,
                "mae": choice.mae,
                "seeds": choice.seeds,
            }
            for block, choice in chosen
        ],
    }
    write_json(folder / "best.json", seal(record))
    tracking.log_json(store, parent, "best.json", seal(record))
    figures = {f"mae {block.name}": choice.mae for block, choice in chosen} | told["optimism"]
    tracking.finish(store, parent, metrics=figures, tags={tracking.COMPLETE: "yes", "study.name": folder.name})
    where = {"blocks": "on others", "dev": "on the dev part", "none": "on everyone"}[options.select]
    for block, choice in chosen:
        seeds = f", mean of {choice.seeds} seeds" if choice.seeds > 1 else ""
        print(
            f"{branded(block.name, record)} chose trial {choice.tried.number:03d}: {describe(choice.tried.config)}, "
            f"MAE {choice.mae:.2f} {where}{seeds}"
        )
    gap = told["optimism"]
    print(
        f"Of that choice: the least error claims {gap['claimed']:.2f}, corrected for being the least of many "
        f"{gap['corrected']:.2f} (optimism {gap['gap']:.2f}, 95 % {gap['gap_low']:.2f} to {gap['gap_high']:.2f})"
    )
    print(f"Next: python -m study.lopo --best --sweep {shlex.quote(folder.name)}        Look: {tracking.how_to_look()}")
    print(f"Plots: {folder}/*.png        Live: optuna-dashboard {shlex.quote(sqlite_uri(folder / 'optuna.db'))}")
