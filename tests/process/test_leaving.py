"""The end of an interrupted command."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import psutil
import pytest

COMMAND = """
import os, signal, subprocess, sys, threading, time
from study.process.leaving import leave

child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
threading.Thread(target=lambda: (time.sleep(0.5), os._exit(1))).start()  # as Ray's core does
leaver = threading.Thread(target=leave)
if sys.argv[1] == "main":
    leave()
leaver.start()
leaver.join()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no exec")
@pytest.mark.parametrize("thread", ["main", "other"])
def test_no_thread_of_a_library_decides_the_status(thread):
    """The child outlives the other thread's patience: the program waits two seconds for it, and kills it."""
    done = subprocess.run([sys.executable, "-c", COMMAND, thread], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")
    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.Process(int(done.stdout)).status() == psutil.STATUS_ZOMBIE
