"""A block's trials and its finalists' seeds by Ray Tune: the one module of this room that runs it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.artifacts.brands import brand
from study.cluster.placing import Unit, explaining, gpu_share
from study.cluster.start import put_tensors
from study.starts import Start, read_tensors
from study.sweep.finalists import BlockSearch, Winner, choose, finalists, missing_finals, read_finals
from study.sweep.options import Sweep
from study.sweep.plan import SweepRun
from study.sweep.recorder import Recorder, best_table
from study.sweep.search import JournalSearch, Tried, read_journal
from study.sweep.selection import (
    Block,
)
from trainables.faces.table import Faces, load_faces
from trainables.trial import tune_trial


def share(faces: Faces, folders: Sequence[Path], sizes: tuple[int, ...], starts: Mapping[str, Start]) -> dict[str, Any]:
    """What every trial reads from the object store, without a copy of its own: the faces in every size, and weights."""
    there = faces.pixels.shape[1]
    return {
        "faces": {px: ray.put(faces if px == there else load_faces(folders, px=px)) for px in sizes},
        "weights": {(start.backbone, start.weights): put_tensors(read_tensors(start)) for start in starts.values()},
    }


def block_search(running: SweepRun, journal: dict[int, Tried], ends: float | None) -> JournalSearch:
    return JournalSearch(
        running.space, running.base, journal, trials=running.options.trials, lag=running.lag, seed=running.base.seed,
        ends=ends, objective=running.options.objective,
        pretrained={name: start.weights for name, start in running.starts.items()},
    )  # fmt: skip


def run_block(running: SweepRun, block: Block, ends: float | None) -> Winner:
    """The block's trials and its finalists' seeds, as far as they are missing; its choice."""
    options, place = running.options, running.folder / block.name
    journal = read_journal(place)
    if journal:
        print(f"{block.name}: {len(journal)} of {options.trials} trials are already there", flush=True)
    missing = options.trials - sum(number < options.trials for number in journal)
    most = options.finalists if options.final_seeds else 0
    if missing > 0 or missing_finals(finalists(journal, most), read_finals(place), options.final_seeds):
        search = block_search(running, journal, ends)
        expected = missing + most * options.final_seeds
        record = Recorder(
            journal, place, running.store, parent=running.parent, key=running.key, block=block.name,
            mirror=running.mirror(block), trials=options.trials, expected=expected,
            brand=brand(sealed=options.select != "none", learned_from=running.learned_from),
        )  # fmt: skip
        both = BlockSearch(search, place, most=most, seeds=options.final_seeds)
        unit = trial_unit(options)
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


def trial_unit(options: Sweep) -> Unit:
    """What a trial takes of the cluster."""
    gpus = gpu_share(options.gpus_per_trial)
    return Unit("trial", options.cpus_per_trial, gpus, "--cpus-per-trial and --gpus-per-trial")


def _check_done(running: SweepRun, block: Block, journal: Mapping[int, Tried], ended: bool) -> None:
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


def _tune(running: SweepRun, block: Block, search: BlockSearch, record: Recorder, trials: int) -> None:
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
