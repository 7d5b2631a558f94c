"""Whom the kill tests shoot: a command's driver, or one of Ray's processes that descend from it. No others."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

KINDS = {"driver": "", "worker": "ray::", "raylet": "raylet/raylet", "head": "gcs_server"}
"""What can be killed, and what its command line holds: the command itself, a process that works for it (which Ray
starts again within the run), the node, and Ray's head."""


def descendants(pid: int) -> dict[int, str]:
    """Processes that descend from a process, with their command lines."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, IndexError):  # it ended meanwhile
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: lines[child] for child in found - {pid}}


def strike(process: subprocess.Popen, kind: str) -> bool:
    """SIGKILL the driver, or one process of that kind below it; False where there is none (yet, or any more).

    Of the workers one that is busy, where one is: the death of an idle one would not be noticed.
    """
    if kind == "driver":
        process.send_signal(signal.SIGKILL)
        return True
    lines = {pid: line for pid, line in sorted(descendants(process.pid).items()) if KINDS[kind] in line}
    busy = [pid for pid, line in lines.items() if "IDLE" not in line]
    for pid in (busy or list(lines))[-1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True
    return False
