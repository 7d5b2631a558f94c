"""The options of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from study.cli.about import About
from study.cli.words import Folder
from trainables.fields import Range

ABOUT = About(
    "every finished LOPO result as one page: the paper's tables next to yours, pictures, sentences",
    (
        ("All results of this folder", "python -m study.report"),
        ("And where the refitted model looks", "python -m study.report --explain"),
    ),
    ("out", "draws", "explain"),
    "Reads MLflow, trains nothing. Results are compared only if they were tested on the same photos.",
)


@dataclass(frozen=True)
class Report:
    """Options of study.report."""

    out: Folder | None = None
    """Folder for report.html, report.md and its pictures. Default: runs/report, and runs/synthetic/report for synthetic
    people. A folder that is given here gets one report: of the real people, if there are results of both."""
    draws: Annotated[int, Range(2, 1_000_000)] = 4000
    """Bootstrap draws for each interval; fewer are faster and less exact."""
    explain: bool = False
    """Also show in faces.html where the model of study.refit looks, by decade and in the worst faces. Takes minutes."""
