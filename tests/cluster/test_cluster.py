"""A command whose Ray dies ends with one line, and does not wait for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

KILL = """
import threading, time
import psutil
from study.cluster.start import start_ray

def kill():
    while True:
        for child in psutil.Process().children():
            if child.name() == NAME:
                time.sleep(0.3)
                child.kill()
                return
        time.sleep(0.01)

killer = threading.Thread(target=kill)
if not LATER:
    killer.start()
start_ray(num_cpus=1, object_store_bytes=80_000_000)
if LATER:
    killer.start()
time.sleep(120)
"""


AGAIN = """
import threading, time
import psutil, ray
from study.cluster.start import start_ray

def kill():
    while True:
        for child in psutil.Process().children():
            if child.name() == "raylet":
                child.kill()
                return
        time.sleep(0.01)

threading.Thread(target=kill).start()
start_ray(num_cpus=1, object_store_bytes=80_000_000)
print("answered", ray.get(ray.remote(lambda: 7).remote()))
names = [child.name() for child in psutil.Process().children()]
print(names.count("raylet"), names.count("gcs_server"))
"""


@pytest.mark.slow  # Ray waits for half a minute
def test_ray_is_started_again_where_its_raylet_gave_up_on_a_busy_machine():
    done = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Ray did not start within the time it gives itself: this machine is busy. Once more ...",
        "answered 7",
        "1 1",
    ]


@pytest.mark.parametrize(
    ("name", "later"), [("gcs_server", False), ("raylet", True)], ids=["while Ray starts", "afterwards"]
)
def test_a_command_ends_with_one_line_when_ray_dies_below_it(name, later):
    code = KILL.replace("NAME", repr(name)).replace("LATER", str(later))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert f"error: Ray's {name} died; the same command goes on where it stopped" in done.stderr
