"""Finds a checkpoint's folder, also after a kill while it was being replaced."""

from __future__ import annotations

from pathlib import Path


def old_name(folder: Path) -> Path:
    """The temporary name of the old checkpoint while the new one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def standing(folder: Path) -> Path:
    """The folder, or the old one under its temporary name where trainables.checkpoints.save_checkpoint is between its
    two renames, or was killed there. `folder` where neither exists."""
    for _ in range(2):  # the new one may have appeared while the second name was checked
        for place in (folder, old_name(folder)):
            if place.is_dir():
                return place
    return folder
