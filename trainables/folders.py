"""Where a checkpoint's folder lies, also after a kill while it was replaced."""

from __future__ import annotations

from pathlib import Path


def old_name(folder: Path) -> Path:
    """The name under which the old checkpoint waits while the new one is moved in."""
    return folder.with_name(f".{folder.name}.old")


def standing(folder: Path) -> Path:
    """The folder, or the old one under its waiting name where trainables.checkpoints.save_checkpoint was killed (or is
    now) between moving that away and the new one in. `folder` where there is neither."""
    for _ in range(2):  # the new one may have come while the second name was looked at
        for place in (folder, old_name(folder)):
            if place.is_dir():
                return place
    return folder
