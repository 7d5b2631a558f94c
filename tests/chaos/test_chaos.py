"""The short form of python -m tests.chaos: one LOPO with a full disk, another with a clock that jumps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_lopo_ends_as_if_undisturbed_after_faults():
    command = [sys.executable, "-m", "tests.chaos", "--short"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "survived" in done.stdout
