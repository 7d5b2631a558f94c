"""A home folder for a user without one, as in a container that was given any number as its user."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """See that HOME and a user's name can be found: MLflow cannot be imported otherwise, nor can Ray start.

    A home of this kind is a folder for temporary files that only this user may enter. What has a home is left as it is.
    """
    try:
        Path.home()
    except RuntimeError:
        place = Path(tempfile.gettempdir()) / f"home-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
        if place.is_symlink() or place.stat().st_uid != os.getuid():  # somebody else was here first
            place = Path(tempfile.mkdtemp(prefix="home-"))
        os.environ["HOME"] = str(place)
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # the last: Windows without USERNAME
        os.environ["USER"] = os.environ["LOGNAME"] = f"user{os.getuid()}" if hasattr(os, "getuid") else "user"
