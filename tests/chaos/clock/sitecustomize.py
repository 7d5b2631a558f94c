"""A clock that can jump: Python imports this module at its start if the folder is in PYTHONPATH.

The file named by CHAOS_CLOCK holds one float64: the seconds by which time.time and time.time_ns are wrong, in all
Python processes of the command (driver and Ray's workers) at once. time.monotonic, datetime and Ray's C++ programs are
not changed.
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
