"""Photos a second of the align command against a bare landmarker on the same cores, and how cost and memory grow.

    python -m benchmarks.align_speed --root ../shared/data/utkface --photos 1000 4000 16000
    python -m benchmarks.align_speed --root ../shared/data/fgnet --dataset fgnet --landmarker pts --photos 5000 50000

The bare landmarker is what one would write by hand: as many processes as there are cores, each reads, decodes and
finds the landmarks of its share, and no more; the command also hashes, cuts, encodes and writes. Both see the same
photos. Copies beyond the dataset's own get a few bytes after the end of the JPEG, so that none is a duplicate.

The command's start (Ray, the model) is in its first row; its rate is taken between the smallest and the largest run,
where the start cancels out. Seconds are the wall's and the processors' (of all its processes, Ray's too): on a machine
that others use as well, only the latter compare. Memory is the sum of the proportional set sizes of all processes,
sampled.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import tyro

from study.landmarks.landmarkers import LANDMARKERS
from study.landmarks.photos import decode_photo
from study.landmarks.search import Portrait, Runtime
from tests.chaos.victims import descendants

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    root: Path
    """The dataset's folder."""
    dataset: str = "utkface"
    """utkface or fgnet."""
    photos: tuple[int, ...] = (1000, 4000, 16000)
    """Sizes of the runs."""
    landmarker: str = "dlib"
    """dlib, fan, or pts (fgnet's own points: hardly any work a photo, so that memory is soon seen)."""
    bare: int = 2000
    """Photos of the bare loop; 0 leaves it out."""
    cores: int = os.cpu_count() or 1
    """Workers of the command, and processes of the bare loop."""


@dataclass(frozen=True)
class Cost:
    """Of one run: photos, seconds by the wall and of processors, and the most memory at once (bytes)."""

    photos: int
    seconds: float
    processor: float
    memory: int = 0


def copy_photos(options: Options, folder: Path, *, count: int) -> None:
    """`count` different photos in a folder, in the dataset's layout."""
    if options.dataset == "fgnet":
        return _copy_fgnet(options.root, folder, count=count)
    files = sorted(options.root.glob("*.jpg"))
    folder.mkdir(parents=True)
    for number in range(count):
        file = files[number * 7919 % len(files)]  # a prime: the first thousand are of all ages, as are all
        _copy(file, folder / f"{file.name.split('_')[0]}_0_0_{number:017}.jpg", number)
    return None


def _copy_fgnet(root: Path, folder: Path, *, count: int) -> None:
    for name in ("images", "points"):
        (folder / name).mkdir(parents=True)
    files = sorted((root / "images").iterdir())
    for number in range(count):
        file = files[number % len(files)]
        stem = f"{number // 70 + 1:03}A{number % 70:02}"
        _copy(file, folder / "images" / f"{stem}.JPG", number)
        shutil.copyfile(root / "points" / f"{file.stem.lower()}.pts", folder / "points" / f"{stem.lower()}.pts")


def _copy(file: Path, copy: Path, number: int) -> None:
    shutil.copyfile(file, copy)
    with copy.open("ab") as tail:
        tail.write(number.to_bytes(8, "big"))


def bare(folder: Path, options: Options) -> Cost:
    """Hand-written processes, one a core, from the moment all have their model."""
    files = sorted(folder.rglob("*.[jJ][pP][gG]"))[: options.bare]
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(options.cores), context.SimpleQueue()
    processes = [
        context.Process(target=_bare_share, args=(files[core :: options.cores], options.landmarker, ready, times))
        for core in range(options.cores)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds, processor = zip(*(times.get() for _ in processes), strict=True)
    return Cost(len(files), max(seconds), sum(processor))


def _bare_share(files: list[Path], landmarker: str, ready: Barrier, times: SimpleQueue[tuple[float, float]]) -> None:
    cv2.setNumThreads(1)
    model = LANDMARKERS[landmarker].load(Runtime())
    ready.wait()
    began, processor = time.perf_counter(), time.process_time()
    for file in files:
        model.find([Portrait(decode_photo(file.read_bytes()))])
    times.put((time.perf_counter() - began, time.process_time() - processor))


def command(folder: Path, out: Path, options: Options, *, count: int) -> Cost:
    """The align command on a folder, its start included."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "study.align", options.dataset, "--root", str(folder), "--out", str(out),
            "--landmarker", options.landmarker, "--workers", str(options.cores), "--no-track",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=(log := out.with_suffix(".log")).open("wb"),
    )  # fmt: skip
    peak, processor = 0, {process.pid: 0.0}
    while process.poll() is None:
        pids = [process.pid, *descendants(process.pid)]
        peak = max(peak, sum(_proportional(pid) for pid in pids))
        processor |= {pid: seconds for pid in pids if (seconds := _processor(pid))}
        time.sleep(1)
    if process.returncode:
        raise RuntimeError(f"the command ended with status {process.returncode}: see {log}")
    return Cost(count, time.perf_counter() - begun, sum(processor.values()), peak)


def _processor(pid: int) -> float:
    """Seconds of processors a process has used; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proportional(pid: int) -> int:
    """A process's memory in bytes, what it shares with others divided among them; 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def run(options: Options) -> None:
    """Measure and print a table, the rate between sizes, and the ratio to the bare loop."""
    folder = Path(tempfile.mkdtemp(prefix="align-speed-"))
    costs: list[Cost] = []
    for count in sorted(options.photos):
        copy_photos(options, folder / f"photos{count}", count=count)
        cost = command(folder / f"photos{count}", folder / f"out{count}", options, count=count)
        costs.append(cost)
        print(
            f"{count:>7,} photos: {cost.seconds:7.1f} s, {cost.processor:7.1f} s of processors, "
            f"at most {cost.memory / 1e9:.2f} GB",
            flush=True,
        )
    for small, large in pairwise(costs):
        print(f"{small.photos:>7,} to {large.photos:,}: {_each(_further(small, large))}")
    if options.bare:
        alone = bare(folder / f"photos{costs[0].photos}", options)
        print(f"bare {options.landmarker}, {options.cores} processes, {alone.photos:,} photos: {_each(alone)}")
        if len(costs) > 1:
            whole = _further(costs[0], costs[-1])
            print(
                "photos/s, pipeline / bare, once it is up: "
                f"{alone.seconds / alone.photos * whole.photos / whole.seconds:.2f} by the wall, "
                f"{alone.processor / alone.photos * whole.photos / whole.processor:.2f} by the processors"
            )
    shutil.rmtree(folder)


def _further(small: Cost, large: Cost) -> Cost:
    """What the photos beyond those of the smaller run cost."""
    return Cost(large.photos - small.photos, large.seconds - small.seconds, large.processor - small.processor)


def _each(cost: Cost) -> str:
    each = 1000 / cost.photos
    return (
        f"{cost.photos / cost.seconds:6.1f} photos/s; a photo {each * cost.seconds:.2f} ms by the wall, "
        f"{each * cost.processor:.2f} ms of processors"
    )


if __name__ == "__main__":
    run(tyro.cli(Options, prog="python -m benchmarks.align_speed", description=__doc__))
