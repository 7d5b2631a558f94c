"""A home folder and a user name for a job that has neither (docker run --user 12345, env -i).

MLflow, Ray, torch and Python's own getpass ask for both, some already on import.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set HOME (to a private temporary folder) and USER where they cannot be found out."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(private_folder())
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # ImportError: on Windows
        os.environ["USER"] = f"user{_number()}"


def private_folder() -> Path:
    """The same folder each time, unless another user owns that name."""
    user = _number()
    folder = Path(tempfile.gettempdir()) / f"age-study-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid == user and state.st_mode & 0o777 == 0o700 and not folder.is_symlink():
        return folder
    return Path(tempfile.mkdtemp(prefix="age-study-"))


def _number() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # Windows has none


def is_writable_home() -> bool:
    """Whether this user's home can be written to."""
    return os.access(Path.home(), os.W_OK | os.X_OK)
