"""One command per folder: a second command that would write into it ends with one line that names the first."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock

from study.files.storage import write_json

GRACE = 2.0
"""Seconds to wait for a lock: the rerun of a command that was just killed does not fail on its last moments."""


@contextmanager
def hold(out: Path, name: str = "") -> Iterator[None]:
    """Lock out/name (or `out` itself) for this process until the block ends.

    The lock is the operating system's, on a hidden file in `out`. So it ends with the process, however that ends, and
    stays when the folder's contents are replaced (--force, a new checkpoint). Ray's processes do not inherit it.

    Raises ValueError, with the command that holds the folder, its host and its start, where another process does.
    """
    out.mkdir(parents=True, exist_ok=True)
    place, stem = (out / name if name else out), f".{name}" if name else ""
    holder = out / f"{stem}.holder.json"  # not in the locked file: filelock before 3.29 empties that when it tries
    lock = filelock.FileLock(out / f"{stem}.lock", timeout=GRACE)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(
            f"{place} is in use by {_describe(holder)}: wait until that command has ended, or end it, and type this "
            "one again"
        ) from None
    try:
        write_json(holder, _self())
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _self() -> dict[str, Any]:
    """This process, as the refused command will name it."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = (
        f"python -m {spec.name.removesuffix('.__main__')}" if spec is not None else Path(sys.argv[0] or "python").name
    )
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        # without the key and secret that a URI may hold
        "command": re.sub(r"://[^/@\s]*@", "://", f"{name} {shlex.join(sys.argv[1:])}".strip())[:300],
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }


def _describe(holder: Path) -> str:
    try:
        record = json.loads(holder.read_bytes())
        return f"process {record['pid']} on {record['host']} ({record['command']}, since {record['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # not written yet
        return "another command"
