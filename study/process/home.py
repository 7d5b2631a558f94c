"""A home and a name for who has none: a job that runs under a bare number (docker run --user 12345, env -i).

MLflow, Ray, torch and Python's own getpass ask for both, some of them already when they are imported.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set HOME (to a private folder below the system's temporary one) and USER where nobody knows them."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_private_folder())
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # ImportError: Windows, where it asks the environment alone
        os.environ["USER"] = f"user{_number()}"


def _private_folder() -> Path:
    """The same folder each time, unless another user took its name."""
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
    """Whether something can be kept in this user's home."""
    return os.access(Path.home(), os.W_OK | os.X_OK)
