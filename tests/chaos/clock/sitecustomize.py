"""A clock that can jump: Python imports this first where its folder is in PYTHONPATH, as in a command under test.

The file CHAOS_CLOCK names holds one float64, the seconds by which time.time and time.time_ns are wrong just now, in
every Python process of the command at once: the driver and Ray's workers. time.monotonic, datetime and Ray's programs
in C++ go on as they are.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

with open(os.environ["CHAOS_CLOCK"], "rb") as _file:
    _wrong = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)
_time, _time_ns = time.time, time.time_ns


def _now() -> float:
    return _time() + struct.unpack_from("d", _wrong)[0]


def _now_ns() -> int:
    return _time_ns() + int(struct.unpack_from("d", _wrong)[0] * 1e9)


time.time, time.time_ns = _now, _now_ns
