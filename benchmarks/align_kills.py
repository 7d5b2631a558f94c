"""Aligning, killed at random moments: the table must end as that of an undisturbed run, file by file.

    python -m benchmarks.align_kills --root ../shared/data/fgnet --kills 20

The command runs until it is killed, and is started again, until it ends by itself; then its table is compared and
begun anew, until there were enough kills. Killed are, by turns: the driver, a worker (which Ray restarts within
the run), the raylet (the node), and the GCS (Ray's head). Only processes that descend from the command are touched.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.victims import KINDS, strike

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Options:
    """Options of the kill test."""

    root: Path
    """The dataset's folder."""
    dataset: str = "fgnet"
    """Its name."""
    landmarker: str = "dlib"
    """The landmarker; dlib takes its time, and so leaves more moments to be killed at."""
    kills: int = 20
    """At least so many."""
    longest: float = 40.0
    """A kill comes at a random moment up to so many seconds after the start."""
    shard: int = 64
    """Photos a shard."""
    seed: int = 0
    """Of the moments."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """What is killed, by turns."""


def content(out: Path) -> dict[str, str]:
    """SHA-256 of every file of a table, by name."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def start(options: Options, out: Path) -> subprocess.Popen[bytes]:
    """The align command under way."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "study.align", options.dataset, "--root", str(options.root.absolute()),
            "--out", str(out), "--landmarker", options.landmarker, "--shard", str(options.shard),
            "--workers", "1", "--no-track",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=(out.parent / "stderr.log").open("ab"),
    )  # fmt: skip


def run(options: Options) -> Counter[str]:
    """Kills by kind. RuntimeError where a table ends otherwise than the undisturbed one."""
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="align-kills-"))
    begun = time.monotonic()
    if start(options, folder / "undisturbed").wait():
        raise RuntimeError(f"the undisturbed run failed: see {folder / 'stderr.log'}")
    alone = time.monotonic() - begun
    whole = content(folder / "undisturbed")
    print(f"undisturbed: {len(whole)} files in {alone:.0f} s", flush=True)
    kills: Counter[str] = Counter()
    left: Counter[int] = Counter()
    tables = starts = 0
    while kills.total() < options.kills:
        out = folder / f"table{tables}"
        process = start(options, out)
        starts += 1
        while process.poll() is None:
            kind = options.kinds[kills.total() % len(options.kinds)]
            moment = time.monotonic() + rng.uniform(0, options.longest)
            while process.poll() is None and time.monotonic() < moment:
                time.sleep(0.05)
            if process.poll() is None and strike(process, kind):
                kills[kind] += 1
                done = len(list(out.glob("faces/*.parquet")))
                left[done] += 1
                print(f"kill {kills.total()}: {kind}, {done} shards done", flush=True)
                if kind != "worker":
                    _end(process)
        if process.returncode == 0:
            if content(out) != whole:
                raise RuntimeError(f"{out} differs from {folder / 'undisturbed'}")
            tables += 1
            print(f"table {tables} ended as the undisturbed one", flush=True)
    while start(options, folder / f"table{tables}").wait():
        starts += 1
    if content(folder / f"table{tables}") != whole:
        raise RuntimeError(f"{folder / f'table{tables}'} differs from {folder / 'undisturbed'}")
    print(
        f"{kills.total()} kills ({', '.join(f'{kind} {count}' for kind, count in kills.items())}) in {starts} starts, "
        f"at {len(left)} different counts of finished shards: {tables + 1} tables, each the undisturbed one byte for "
        f"byte; {time.monotonic() - begun:.0f} s"
    )
    shutil.rmtree(folder)
    return kills


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a driver whose cluster was shot; one that still waits for it after a minute is ended."""
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    run(tyro.cli(Options, prog="python -m benchmarks.align_kills", description=__doc__))
