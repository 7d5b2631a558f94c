"""All blocks' trials and finalists' seeds in one run of Ray Tune: the one module of this room that runs it."""

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
from study.companions import Drawn
from study.starts import Start, read_tensors
from study.sweep.journal import read_finals, read_journal, read_parts
from study.sweep.mapped_faces import MappedFaces, for_trials, read_faces
from study.sweep.options import Sweep
from study.sweep.plan import SweepRun
from study.sweep.ray_search import TuneSearch
from study.sweep.recorder import BlockRecord, Recorder, progress
from study.sweep.search import BlockSearch
from study.sweep.selection import Block
from study.tracking import runs as tracking
from trainables.faces.table import Faces
from trainables.trial import tune_trial


def share(
    faces: Faces,
    folders: Sequence[Path],
    sizes: tuple[int, ...],
    starts: Mapping[str, Start],
    place: Path,
    drawn: Drawn,
) -> dict[str, Any]:
    """What every trial reads without a copy of its own: the faces in every size, from the object store or, large ones,
    from files in `place`; and weights. With companions, of tables as large as the tested ones, from the object store.
    """

    def given(px: int) -> Faces | MappedFaces:
        if drawn.companions is None:
            return for_trials(faces, folders, px=px, place=place)
        same = faces.pixels.shape[1] == px
        return drawn.beside(faces if same else read_faces(folders, px=px, place=place))

    return {
        "faces": {px: ray.put(given(px)) for px in sizes},
        "weights": {(start.backbone, start.weights): put_tensors(read_tensors(start)) for start in starts.values()},
    }


def block_search(running: SweepRun, block: Block, faces: Faces | None = None, ends: float | None = None) -> BlockSearch:
    """A block's search over what its files hold. faces: to calculate each MAE again from what was predicted."""
    options, place = running.options, running.folder / block.name
    return BlockSearch(
        running.space, running.base, read_journal(place, faces), trials=running.trials, folds=len(block.folds),
        lag=running.lag, seed=running.base.seed, ends=ends, objective=options.objective, prune=options.prune,
        pretrained={name: start.weights for name, start in running.starts.items()},
        finals=read_finals(place, faces), parts=read_parts(place), most=options.finalists, seeds=options.final_seeds,
        budget=running.budget_of(block),
    )  # fmt: skip


def run_blocks(running: SweepRun, blocks: Sequence[Block], ends: float | None) -> None:
    """Every block's trials and finalists' seeds, as far as they are missing."""
    options = running.options
    searches = {block.name: block_search(running, block, ends=ends) for block in blocks}
    for name, search in searches.items():
        folds = sum(len(parts) for parts in search.kept.values())
        if search.journal or folds:
            others = f", and {folds} fold(s) of others" if folds else ""
            print(f"{name}: {progress(search)} trials are already there{others}", flush=True)
    record = Recorder(
        [BlockRecord(name, running.folder / name, search, running.mirror(block)) for (name, search), block in
         zip(searches.items(), blocks, strict=True)],
        running.store, parent=running.parent, key=running.key,
        brand=brand(sealed=options.select != "none", learned_from=running.learned_from),
        datasets=[running.data] if running.data else (),
    )  # fmt: skip
    record.make_good()
    tuning = TuneSearch(searches, record)
    if tuning.nothing_to_train():
        return
    tracking.reopen(running.store, running.parent, key=running.key)
    with explaining(trial_unit(options), lambda: len(record.at_work), joined=options.ray.joins):
        _tune(running, blocks, tuning, record)
    unfinished = [name for name, search in searches.items() if not search.done]
    if unfinished:  # Ray Tune came back too early, as it does on SIGUSR1, which SLURM sends
        raise ChildProcessError(
            f"Ray Tune ended before the trials and finalists' seeds of {', '.join(unfinished)} were run; the same "
            "command continues where it stopped"
        )


def trial_unit(options: Sweep) -> Unit:
    """What a fold's training takes of the cluster."""
    gpus = gpu_share(options.gpus_per_trial)
    return Unit("trial", options.cpus_per_trial, gpus, "--cpus-per-trial and --gpus-per-trial")


def _tune(running: SweepRun, blocks: Sequence[Block], search: TuneSearch, record: Recorder) -> None:
    """Ray Tune over the folds that the searcher suggests."""
    options = running.options
    gpus = gpu_share(options.gpus_per_trial)
    run = partial(
        tune_trial,
        folds={block.name: [(fold.train, fold.test) for fold in block.folds] for block in blocks},
        threads=options.cpus_per_trial,
        device="cuda" if gpus else "cpu",
        prune_p=options.prune,
        **running.shared,
    )
    # Tune's own handler ends fit() at Ctrl-C as if all trials had been run
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # A trial's failure is one line of the recorder; Tune would print pages, and a banner
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # Tune's own state is thrown away: the journal is what a rerun goes on from
    scratch = running.folder.resolve() / ".tune"
    shutil.rmtree(scratch, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(run, {"cpu": options.cpus_per_trial, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=-1,  # until the searcher says that it has finished
            max_concurrent_trials=running.parallel,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            callbacks=[record],
            verbose=0,
            stop=search.is_over,
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    try:
        tuner.fit()
    except tune.TuneError as error:
        # The recorder's, on a full disk: Tune reports it as its own, on a page
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    shutil.rmtree(scratch, ignore_errors=True)
