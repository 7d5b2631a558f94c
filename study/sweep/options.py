"""What a sweep is asked, and what is refused before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from study.artifacts.choice import Select
from study.cli.about import About
from study.cli.options import Allowed, Joining, Training, refuse_ignored
from study.cli.words import Folder
from trainables.config import TrialConfig
from trainables.fields import Chance, Count, Part, Positive, Range, Whole

if TYPE_CHECKING:
    from search_spaces import Space

Objective = Literal["mae", "mae+macs", "mae+parameters", "mae+latency"]
"""What the sampler minimises: the MAE, or the MAE and a cost together (Pareto)."""

ABOUT = About(
    "search for the network, the loss weights and the learning rate, without looking at who is tested",
    (
        ("The study's 17 networks", "python -m study.sweep --faces runs/fgnet"),
        ("What an hour allows, of three", "python -m study.sweep --faces runs/fgnet --space small --minutes 60"),
    ),
    ("faces", "space", "networks", "trials", "minutes", "blocks"),
    """A trial's score is the MAE on people it never trained on. By default the people are cut into blocks, and each
    block has a sweep of its own on the other blocks' people: a person is later tested with the config that their own
    block's sweep chose. First it says what it will take. Interrupted, it goes on where it was: type the same command
    again. The winner is what study.lopo --best runs.""",
    "docs/sweep.md",
)


@dataclass(frozen=True)
class Sweep:
    """Options of study.sweep."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    space: str = "study"
    """What is asked: study (EfficientNet-B0 to B7 and Lite0, AlexNet, VGG and ResNets, both lambdas, learning rate,
    drop path), small (three networks, both lambdas, learning rate: for small machines), mean_variance, losses (six of
    them), backbones, efficientnet (B0 to B7 with size and drop path), frozen (four networks and how many of their
    early stages stay frozen), companions (the same, and how many faces of --beside train beside), transformers (ViT,
    Swin, ConvNeXt, EfficientNetV2), paper (its eleven networks), or tour (what make study runs)."""
    networks: tuple[str, ...] = ()
    """Narrows the space to these of its networks; with the space study also any classifier of timm, as timm/NAME."""
    trials: Count | None = None
    """Trials of each block. Default: three for each network of the space, at least 12; with --minutes or --gpu-hours
    as many as these allow."""
    minutes: Positive | None = None
    """Spend so many minutes, all blocks together, by cost in place of a number of trials: each network gets an equal
    share of the time, the cheapest first, until it is clearly worse. Finalists' seeds are run all the same."""
    gpu_hours: Positive | None = None
    """The same for so many hours of a whole GPU, summed over the GPUs."""
    select: Select = "blocks"
    """On whom the config is chosen. blocks: for each block of people on the other blocks' people. dev: for everyone on
    a dev part of the pretraining data, touching no label of --faces. none: on everyone, whose LOPO figure is then
    marked as optimistic."""
    blocks: Count = 4
    """With --select blocks: how many; 2 for a quick look."""
    folds: Annotated[int, Range(2)] = 3
    """Inner folds over people that score a trial (with --select dev it has the dev part alone)."""
    faces: tuple[Folder, ...] = ()
    """Faces tables with people (OUT of study.align). Default: the synthetic people."""
    beside: tuple[Folder, ...] = ()
    """Faces tables of which --companions faces train beside the others in every trial; nobody of them is tested. Such
    as those of the pretraining, against forgetting them. Not with --select dev."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    pretrain_faces: tuple[Folder, ...] = ()
    """With --select dev: the faces tables that study.pretrain was given. Default: the synthetic strangers."""
    dev_share: Part = 0.1
    """With --select dev: the dev part's share, as study.pretrain had it (or less)."""
    pretrained: Folder | None = None
    """Folder of study.pretrain: a backbone found there starts from its checkpoint. Default: runs/pretrained, or
    runs/synthetic/pretrained for synthetic people."""
    weights: str | None = None
    """Where a backbone has no checkpoint there: random or imagenet. Default: random; with --trial the file's own, which
    its backbone then starts from in any case."""
    objective: Objective = "mae"
    """What the sampler minimises besides the MAE: multiply-adds, parameters, or a face's measured time. The
    Pareto front is drawn and printed; --best takes the lowest MAE all the same."""
    finalists: Whole = 3
    """So many of a block's best trials are run once more with each of --final-seeds further seeds, and the lowest
    mean over the seeds is chosen."""
    final_seeds: Whole = 1
    """Further seeds of each finalist; 0: the trials' one seed decides."""
    parallel: Count | None = None
    """Folds trained side by side. Default: as many as the resources hold; all blocks go on at once, and each has no
    more trials side by side than a sixth of --trials, so that most trials can learn from others."""
    cpus_per_trial: int = 1
    """Cores of each training."""
    gpus_per_trial: float | None = None
    """Share of a GPU: 0.1 puts ten trials on one. Default: 0.25 where there are GPUs, else none."""
    prune: Chance = 0.1
    """Level of the paired test that ends a trial which is worse than the best; 0 never prunes."""
    name: str | None = None
    """Folder under --out and name in MLflow; default: the space's."""
    out: Folder | None = None
    """Where each sweep gets a folder. Default: runs/sweeps, or runs/synthetic/sweeps of synthetic people."""
    force: bool = False
    """Discard a sweep of this name that was made with other settings."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)


_ONLY = {"blocks": ("blocks",), "pretrain_faces": ("dev",), "dev_share": ("dev",), "beside": ("blocks", "none")}
"""Options that not every --select looks at, and which do."""


def read_question(options: Sweep) -> tuple[Space, TrialConfig]:
    """The space and its base config. Raises ValueError where the options ask for what cannot be, before any face is
    read."""
    from search_spaces import find_space  # here: the spaces import Optuna

    space = replace(find_space(options.space), own=options.training.own)
    if options.networks:
        space = space.narrowed(options.networks)
    if options.select == "blocks" and options.blocks < 2:
        raise ValueError(f"--blocks {options.blocks} seals nothing: expected 2 or more, or --select dev or none")
    refuse_ignored(
        options,
        [name for name, only in _ONLY.items() if options.select not in only],
        why=f"with --select {options.select}",
    )
    base = options.training.config_beside(options.beside, weights=options.weights)
    if options.space == "companions" and not base.companions:
        raise ValueError(
            "--space companions asks how many faces of other tables train beside: name those after --beside"
        )
    base.replace(seed=base.seed + options.final_seeds)  # the finalists' last one: a number too
    space.check(base)
    return space, base
