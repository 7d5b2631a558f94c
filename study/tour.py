"""The whole study on the synthetic people: align, pretrain, sweep, 82 folds, report, a model. `make study` runs this.

Every stage is a command that you can type yourself; each is printed before it runs. After an interruption the same
command continues after what is finished. All stages run in this process, which imports torch, Ray and MLflow and starts
Ray only once: 6 to 9 seconds a stage on two cores.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from study.cli.about import About
from study.cli.options import SYNTHETIC_HOME
from study.cli.run import main
from study.process.cores import usable_cores

ABOUT = About(
    "the whole study on the synthetic people: align to report, and a model that is used",
    (("All of it", "python -m study.tour"), ("A check that every stage runs", "python -m study.tour --size small")),
    ("size",),
    """Every stage is a command that you can type yourself; each is printed before it runs. After an interruption the
    same command continues after what is finished.""",
)

PHOTO = Path(__file__).parent / "align" / "datasets" / "built_in" / "people" / "images" / "001A08.JPG"
"""The photo that is predicted at the end: of a person whom the model was trained on."""

CORES_EACH = str(max(1, usable_cores() // 2))
"""Cores of each training: the tour's two networks are pretrained side by side."""

CORES = str(min(8, usable_cores()))
"""Cores of the refit's one training: at most 8, since it is a small one."""

# Small pictures, ImageNet weights that a package carries, few epochs, most stages frozen: minutes on two cores.
WHOLE: dict[str, tuple[str, ...]] = {
    "align": (),
    "pretrain": (
        "--backbone", "efficientnet_lite0", "efficientnet_lite1", "--weights", "imagenet", "--px", "48",
        "--epochs", "3", "--batch", "32", "--cpus-per-worker", CORES_EACH,
    ),
    "sweep": (
        "--space", "tour", "--px", "48", "--frozen", "7", "--frozen-views", "2", "--epochs", "4", "--batch", "64",
        "--trials", "8", "--blocks", "2", "--finalists", "2",
    ),
    "lopo": ("--best", "--sweep", str(SYNTHETIC_HOME / "sweeps" / "tour")),
    "report": (),
    "refit": ("--best", "--sweep", str(SYNTHETIC_HOME / "sweeps" / "tour"), "--cpus-per-seed", CORES),
    "predict": (str(PHOTO), "--model", str(SYNTHETIC_HOME / "models"), "--draw", str(SYNTHETIC_HOME / "predicted")),
}  # fmt: skip
SMALL: dict[str, tuple[str, ...]] = WHOLE | {
    "pretrain": (
        "--backbone", "efficientnet_lite0", "efficientnet_lite1", "--weights", "imagenet", "--px", "32",
        "--epochs", "1", "--batch", "32", "--cpus-per-worker", CORES_EACH,
    ),
    "sweep": (
        "--space", "tour", "--px", "32", "--frozen", "7", "--frozen-views", "1", "--epochs", "1", "--trials", "2",
        "--blocks", "2", "--finalists", "0", "--name", "small",
    ),
    "lopo": ("--best", "--sweep", str(SYNTHETIC_HOME / "sweeps" / "small")),
    "refit": ("--best", "--sweep", str(SYNTHETIC_HOME / "sweeps" / "small"), "--cpus-per-seed", CORES),
}  # fmt: skip


@dataclass(frozen=True)
class Tour:
    """Options of study.tour."""

    size: Literal["whole", "small"] = "whole"
    """whole: what a newcomer should see, in about four minutes on two cores; small: only a check that every stage
    runs."""


def tour(options: Tour) -> int:
    """Run the stages in order; the exit status of the first that fails, else 0."""
    stages = WHOLE if options.size == "whole" else SMALL
    took: list[tuple[str, float]] = []
    for number, (stage, args) in enumerate(stages.items(), start=1):
        print(f"\n[{number}/{len(stages)}] $ python -m study.{stage} {' '.join(args)}".rstrip(), flush=True)
        began = time.monotonic()
        status = run(stage, args)
        if status != 0:
            print(f"study.{stage} ended with status {status}; the same command continues from here", file=sys.stderr)
            return status
        took.append((stage, time.monotonic() - began))
    print("\n".join(["", *summary(took)]))
    return 0


def summary(took: Sequence[tuple[str, float]]) -> list[str]:
    """What came out, what it took, what to open, and what to type next. took: seconds of each stage."""
    from study.artifacts.model import ModelRecord  # only here: --help needs neither
    from study.cli.describe import backbone_name
    from study.cli.progress import clock
    from study.model.place import model_folder

    record = ModelRecord.read(model_folder(str(SYNTHETIC_HOME / "models")))
    drawn = sorted((SYNTHETIC_HOME / "predicted").glob("*"))
    times = ", ".join(f"{stage} {clock(seconds)}" for stage, seconds in took)
    opened = [
        (f"{SYNTHETIC_HOME}/report/report.html", "the report"),
        *((str(file), "a photo with its age") for file in drawn[:1]),
        ("python -m study.ui --open", "every run, in MLflow's page"),
    ]
    wide = max(len(what) for what, _ in opened)
    return [
        f"The best of these networks and losses: {backbone_name(record.backbone)}, {record.error}.",
        "The people are synthetic: nothing of this is about real faces.",
        f"Took {clock(sum(seconds for _, seconds in took))}: {times}.",
        *(f"{'Open:' if i == 0 else '     '} {what:{wide}}  {why}" for i, (what, why) in enumerate(opened)),
        f"Next: {'python -m study.align --help':{wide}}  your own photos",
    ]


def run(stage: str, args: Sequence[str]) -> int:
    """Exit status of that stage's command with these arguments, run in this process."""
    typed, sys.argv = sys.argv, [f"study.{stage}", *args]
    try:
        runpy.run_module(f"study.{stage}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = typed
    return 0


if __name__ == "__main__":
    sys.exit(main(tour, Tour, prog="python -m study.tour", about=ABOUT))
