"""The funnel of aligning: how many photos are left after each step, and why the others are not."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from study.landmarks.photos import Reason

STEPS: tuple[tuple[str, tuple[Reason, ...]], ...] = (
    ("read", ()),
    ("parseable", (Reason.BAD_NAME, Reason.OUTSIDE_ROOT)),
    ("age in range", (Reason.AGE_OUT_OF_RANGE,)),
    ("one face by the metadata", (Reason.NO_FACE_IN_METADATA, Reason.LOW_FACE_SCORE, Reason.SECOND_FACE)),
    ("of the splits asked for", (Reason.OTHER_SPLIT,)),
    ("on disk", (Reason.MISSING, Reason.UNREADABLE, Reason.EMPTY_FILE)),
    ("not a duplicate", (Reason.DUPLICATE, Reason.CONFLICTING_AGES)),
    ("decoded", (Reason.NOT_A_PHOTO, Reason.TRUNCATED, Reason.TOO_LARGE, Reason.TOO_SMALL)),
    ("detected", (Reason.NO_POINTS, Reason.NO_FACE, Reason.FAILED)),
    ("aligned", (Reason.BAD_POINTS,)),
)
"""Steps in the order in which photos pass them, each with the reasons for which a photo ends there."""

PAPER = {"imdb": 460_723, "wiki": 62_328, "utkface": 23_612, "fgnet": 1_002}
"""Photos the paper used (section 4.1): IMDB and WIKI together 523,051, UTKFace 23,612 after its own cleaning."""


@dataclass(frozen=True)
class Step:
    """Photos left after a step, and those that ended there by reason."""

    name: str
    left: int
    lost: dict[str, int]


def funnel(counts: Mapping[str, int], *, read: int) -> list[Step]:
    """The STEPS of `read` photos of which counts[reason] were rejected; the last step's `left` are the faces.

    Raises ValueError for a reason that no step knows.
    """
    unknown = set(counts) - {reason.value for _, reasons in STEPS for reason in reasons}
    if unknown:
        raise ValueError(f"reasons that no step of the funnel knows: {sorted(unknown)}")
    steps, left = [], read
    for name, reasons in STEPS:
        lost = {reason.value: counts[reason.value] for reason in reasons if counts.get(reason.value)}
        left -= sum(lost.values())
        steps.append(Step(name, left, lost))
    return steps


def as_lines(steps: list[Step], *, dataset: str) -> list[str]:
    """The funnel as lines for a terminal, with the paper's number where there is one."""
    lines = []
    for step in steps:
        why = ", ".join(f"{reason} {count:,}" for reason, count in step.lost.items())
        if step.name == "read" and dataset in PAPER:
            why = f"the paper: {PAPER[dataset]:,}"
        lines.append(f"  {step.name:<26}{step.left:>9,}{'   ' + why if why else ''}")
    return lines


def as_markdown(steps: list[Step], *, dataset: str, landmarker: str) -> str:
    """The funnel as a Markdown table."""
    paper = f" (the paper used {PAPER[dataset]:,})" if dataset in PAPER else ""
    rows = [
        f"| {step.name} | {step.left:,} | "
        + "; ".join(f"{reason} {count:,}" for reason, count in step.lost.items())
        + " |"
        for step in steps
    ]
    title = f"# {dataset}, landmarks by {landmarker}: {steps[0].left:,} photos{paper}"
    return "\n".join([title, "", "| step | left | lost |", "|---|---:|---|", *rows]) + "\n"


def as_png(steps: list[Step], *, dataset: str, landmarker: str) -> bytes:
    """The funnel as a PNG: one bar for each step, with the reasons for its rejects."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.5 * len(steps) + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    read = max(steps[0].left, 1)
    for row, step in enumerate(steps):
        before = steps[row - 1].left if row else step.left
        axes.barh(row, before, color="#e3e3e3", height=0.72)
        axes.barh(row, step.left, color="#31688e", height=0.72)
        why = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in step.lost.items())
        share = f"{step.left:,}  ({step.left / read:.1%})"
        inside = step.left > 0.3 * read
        axes.text(
            0.01 * read if inside else before + 0.01 * read, row, share, va="center",
            color="white" if inside else "#222222",
        )  # fmt: skip
        axes.text(1.02 * read, row, why, va="center", color="#666666", fontsize=9)
    axes.set_yticks(range(len(steps)), [step.name for step in steps])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.55 * read)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(left=False)
    paper = f"; the paper used {PAPER[dataset]:,}" if dataset in PAPER else ""
    axes.set_title(f"{dataset}, landmarks by {landmarker}: photos left after each step{paper}", fontsize=11)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110)
    return sink.getvalue()
