"""The processes that fault tests kill: a command's driver or one of its Ray processes, and no others."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path


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


def strike(process: subprocess.Popen, mark: str, draw: random.Random) -> bool:
    """SIGKILL to a descendant of the command with `mark` in its command line, or to the command itself if `mark` is "".

    False where there is no such process. Prefers busy workers, since nobody notices the death of an idle one. The
    raylet's agents, which are called workers too, are left out.
    """
    if not mark:
        process.send_signal(signal.SIGKILL)
        return True
    lines = {
        pid: line for pid, line in sorted(descendants(process.pid).items()) if mark in line and "Agent" not in line
    }
    busy = [pid for pid, line in lines.items() if "IDLE" not in line]
    if not lines:
        return False
    try:
        os.kill(draw.choice(busy or list(lines)), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
