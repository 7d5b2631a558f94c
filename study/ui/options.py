"""What is asked of MLflow's page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from study.cli.about import About
from study.cli.words import Word
from trainables.fields import Range

ABOUT = About(
    "serve MLflow's page with this study's runs, and print the link to every saved view",
    (("The runs of this folder", "python -m study.ui --open"),),
    ("folder", "open", "port", "host"),
    """One process, on this machine alone, without telemetry, assistant or job runner. It works on a copied folder too.
    Another --host needs a password (STUDY_UI_PASSWORD, or typed when asked), with the user name "study".""",
    "docs/tracking.md",
)


@dataclass(frozen=True)
class Ui:
    """Options of study.ui."""

    folder: Annotated[Path, tyro.conf.Positional, Word("FOLDER")] = Path(".")
    """The folder with mlruns/ in it (the one in which the study's commands were typed), or a copy of it."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own needs a password."""
    port: Annotated[int, Range(0, 65535)] | None = None
    """Default: 5000, or any free one where that is taken; 0: any free one."""
    open: bool = False
    """Open the first link in the browser."""
