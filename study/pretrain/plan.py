"""What pretraining is about to do: a job for each backbone. Refuses early what cannot be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.cli.options import STRANGERS, Allowed, faces_or_synthetic, home, is_synthetic
from study.folds import Fold, dev_split
from study.pretrain.options import Pretrain, read_networks
from study.starts import Start, check_coverage, read_start
from trainables import code_version
from trainables.checkpoints import load_checkpoint
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.index import FacesIndex, index_faces
from trainables.faces.windows import APART, USUAL, apart, usual_window
from trainables.fitting import has_batch_norm
from trainables.folders import standing
from trainables.names import folder_name


@dataclass(frozen=True)
class Job:
    """One training. made_from: all that decides its result, except what may move the last digits. key: its hash."""

    config: TrialConfig
    start: Start
    folder: Path
    made_from: Mapping[str, Any]

    @property
    def key(self) -> str:
        return fingerprint(self.made_from)


@dataclass(frozen=True)
class Plan:
    """The jobs of one command, on the faces of `index`, into `out`. window: faces that are shuffled together.
    failed: (backbone, why) of those without a job."""

    options: Pretrain
    index: FacesIndex
    window: int
    out: Path
    jobs: Sequence[Job]
    failed: Sequence[tuple[str, str]] = ()

    @property
    def alone(self) -> bool:
        """Whether one backbone was asked for alone: its error is the command's."""
        return len(self.jobs) + len(self.failed) == 1

    @property
    def storage(self) -> str:
        """Where Ray Train keeps its snapshots."""
        return self.options.storage or str(self.out.resolve() / ".train")

    def split(self, config: TrialConfig) -> Fold:
        """The faces to train on, and the dev set as test."""
        return dev_split(self.index, share=self.options.dev_share, seed=config.seed)


def make_plan(options: Pretrain) -> Plan:
    """A job for each backbone. Raises ValueError or OSError where one cannot be done; where several were asked for,
    those of a single backbone are kept in `failed`."""
    common, names = read_networks(options)
    places = options.faces or [str(place) for place in faces_or_synthetic((), STRANGERS)]
    print("Indexing the faces tables ...", flush=True)
    index = index_faces(places)
    dev_split(index, share=options.dev_share, seed=common.seed)  # too few faces: an error now, before Ray starts
    window = choose_window(options, index)
    out = options.out or home(index.datasets) / "pretrained"
    jobs: list[Job] = []
    failed: list[tuple[str, str]] = []
    for name in names:
        try:
            config = options.training.trial_config(backbone=name, weights=options.weights)
            jobs.append(make_job(config, read_start(name, config.weights), index, window, options, out))
        except (ValueError, OSError) as error:
            if len(names) == 1:
                raise
            failed.append((name, str(error)))
    return Plan(options, index, window, out, jobs, failed)


def choose_window(options: Pretrain, index: FacesIndex) -> int:
    """Faces that are shuffled together. A line says where they are more than usual, or still too few."""
    window = options.window or usual_window(index)
    years = apart(index, window)
    if options.window is None and window > USUAL:
        print(
            f"Neighbours in these tables are alike in age, so {min(window, len(index)):,} faces are shuffled together, "
            f"not {USUAL:,} (a table that this version's study.align makes anew needs less memory)",
            flush=True,
        )
    if years > APART:
        print(
            f"Caution: neighbours in these tables are alike in age, and groups of {window:,} faces that are shuffled "
            f"together differ by {years:.1f} years in mean age: align anew into another --out, or give a larger "
            "--window",
            flush=True,
        )
    return window


def make_job(config: TrialConfig, start: Start, index: FacesIndex, window: int, options: Pretrain, out: Path) -> Job:
    """The job of one backbone. Raises ValueError where the network cannot be built, or must not start there."""
    check_synthetic(start, index.datasets, options.allowed)
    check_coverage(start, index.coverage, options.allowed)
    device = "cuda" if options.gpus_per_worker else "cpu"
    made_from: dict[str, Any] = {
        "trial": {**config.to_json(), "weights": start.digest},
        "faces": index.digest,
        "dev_share": options.dev_share,
        "window": window,
        "code": code_version(),
        "device": device,
        "precision": resolve_precision(config, device),
    }
    if has_batch_norm(config):  # else the number of workers does not matter
        alone = options.workers == 1 or options.batch_norm == "global"
        made_from["batch_norm_faces"] = config.batch if alone else config.batch // options.workers
    return Job(config, start, out / folder_name(config.backbone), made_from)


def check_synthetic(start: Start, datasets: Sequence[str], allowed: Allowed) -> None:
    """Raise ValueError where a checkpoint of synthetic faces would be trained on real ones, unless it is allowed."""
    if is_synthetic(start.datasets) and not is_synthetic(datasets) and not allowed.allow_synthetic:
        raise ValueError(
            f"{start.weights} was pretrained on synthetic faces ({start.what}), and these are real: start from "
            "--weights random or imagenet, or add --allow-synthetic"
        )


def is_there(job: Job, options: Pretrain) -> bool:
    """Whether the job's checkpoint is finished. Raises ValueError where another one lies in its place."""
    if options.force or not standing(job.folder).is_dir():
        return False
    about = load_checkpoint(job.folder).about
    if about.fingerprint != job.key:
        changed = sorted(name for name, value in job.made_from.items() if about.made_from.get(name) != value)
        raise ValueError(
            f"{job.folder} holds a checkpoint made with other settings ({', '.join(changed)}; it was trained on "
            f"{about.trained_on or 'unknown faces'}): give another --out, or --force to replace it"
        )
    print(f"{job.config.backbone}: already there at {job.folder} ({about.described}); --force trains it again")
    return True
