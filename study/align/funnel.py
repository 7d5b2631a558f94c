"""The funnel of aligning: how many photos are left after each stage, and why the others are not."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from study.landmarks.photos import Reason

STAGES: tuple[tuple[str, tuple[Reason, ...]], ...] = (
    ("read", ()),
    ("parseable", (Reason.BAD_NAME, Reason.OUTSIDE_ROOT)),
    ("age in range", (Reason.AGE_OUT_OF_RANGE,)),
    ("one face by the metadata", (Reason.NO_FACE_IN_METADATA, Reason.LOW_FACE_SCORE, Reason.SECOND_FACE)),
    ("on disk", (Reason.MISSING, Reason.UNREADABLE, Reason.EMPTY_FILE)),
    ("not a duplicate", (Reason.DUPLICATE, Reason.CONFLICTING_AGES)),
    ("decoded", (Reason.NOT_A_PHOTO, Reason.TRUNCATED, Reason.TOO_LARGE, Reason.TOO_SMALL)),
    ("detected", (Reason.NO_POINTS, Reason.NO_FACE, Reason.FAILED)),
    ("aligned", (Reason.BAD_POINTS,)),
)
"""Stages in the order in which photos pass them, each with the reasons for which one ends there."""

PAPER = {"imdb": 460_723, "wiki": 62_328, "utkface": 23_612, "fgnet": 1_002}
"""Photos the paper used (section 4.1): IMDB and WIKI together 523,051, UTKFace 23,612 after its own cleaning."""


@dataclass(frozen=True)
class Stage:
    """Photos left after a stage, and those that ended there by reason."""

    name: str
    left: int
    lost: dict[str, int]


def funnel(counts: Mapping[str, int], *, read: int) -> list[Stage]:
    """The STAGES of `read` photos of which counts[reason] were rejected; the last stage's `left` are the faces.

    Raises ValueError for a reason that no stage knows.
    """
    unknown = set(counts) - {reason.value for _, reasons in STAGES for reason in reasons}
    if unknown:
        raise ValueError(f"reasons that no stage of the funnel knows: {sorted(unknown)}")
    stages, left = [], read
    for name, reasons in STAGES:
        lost = {reason.value: counts[reason.value] for reason in reasons if counts.get(reason.value)}
        left -= sum(lost.values())
        stages.append(Stage(name, left, lost))
    return stages


def as_lines(stages: list[Stage], *, dataset: str) -> list[str]:
    """The funnel as lines for a terminal, the paper's number beside ours where it gives one."""
    lines = []
    for stage in stages:
        why = ", ".join(f"{reason} {count:,}" for reason, count in stage.lost.items())
        if stage.name == "read" and dataset in PAPER:
            why = f"the paper: {PAPER[dataset]:,}"
        lines.append(f"  {stage.name:<26}{stage.left:>9,}{'   ' + why if why else ''}")
    return lines


def as_markdown(stages: list[Stage], *, dataset: str, landmarker: str) -> str:
    """The funnel as a Markdown table."""
    paper = f" (the paper used {PAPER[dataset]:,})" if dataset in PAPER else ""
    rows = [
        f"| {stage.name} | {stage.left:,} | "
        + "; ".join(f"{reason} {count:,}" for reason, count in stage.lost.items())
        + " |"
        for stage in stages
    ]
    title = f"# {dataset}, landmarks by {landmarker}: {stages[0].left:,} photos{paper}"
    return "\n".join([title, "", "| stage | left | lost |", "|---|---:|---|", *rows]) + "\n"


def as_png(stages: list[Stage], *, dataset: str, landmarker: str) -> bytes:
    """The funnel as a picture: one bar a stage, what it lost in words."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.5 * len(stages) + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    read = max(stages[0].left, 1)
    for row, stage in enumerate(stages):
        before = stages[row - 1].left if row else stage.left
        axes.barh(row, before, color="#e3e3e3", height=0.72)
        axes.barh(row, stage.left, color="#31688e", height=0.72)
        why = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in stage.lost.items())
        share = f"{stage.left:,}  ({stage.left / read:.1%})"
        inside = stage.left > 0.3 * read
        axes.text(
            0.01 * read if inside else before + 0.01 * read, row, share, va="center",
            color="white" if inside else "#222222",
        )  # fmt: skip
        axes.text(1.02 * read, row, why, va="center", color="#666666", fontsize=9)
    axes.set_yticks(range(len(stages)), [stage.name for stage in stages])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.55 * read)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(left=False)
    paper = f"; the paper used {PAPER[dataset]:,}" if dataset in PAPER else ""
    axes.set_title(f"{dataset}, landmarks by {landmarker}: photos left after each stage{paper}", fontsize=11)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110)
    return sink.getvalue()
