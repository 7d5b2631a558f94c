"""What an interrupted command becomes at its end: a program without Ray that ends the child processes, with status 130.

Run as `python -P leaving.py`, by os.execv, which keeps the process and its children but none of its threads. Ray's core
has threads that end the process with status 1 as soon as the raylet is gone and anything in the process still asks for
an object ("The connection to the plasma store is failed. Terminate the process"), in the middle of whatever is done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

INTERRUPTED = 130
"""The exit status that shells use for Ctrl-C."""


def end_children(seconds: float = 2.0) -> None:
    """End the child processes of this process: Ray's raylet ends its workers, who finish what they write; what is
    left after so many seconds is killed."""
    import psutil  # every command imports this file, for its --help, too

    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            if child.name() in ("raylet", "gcs_server"):
                child.terminate()
    left = psutil.wait_procs(children, timeout=seconds)[1]
    for child in left:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(left, timeout=seconds)


def leave() -> None:
    """End this process as interrupted, with its children: it becomes this file's program. Does not return.

    ray.shutdown() is not called: as soon as it has closed Ray's core, a thread that gives up an ObjectRef ends the
    process with status 1.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if os.name == "nt":  # there os.execv starts another process and ends this one with status 0
        end_children()
        os._exit(INTERRUPTED)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # what is ignored stays ignored in the new program
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.execv(sys.executable, [sys.executable, "-P", __file__])


if __name__ == "__main__":
    end_children()
    os._exit(INTERRUPTED)
