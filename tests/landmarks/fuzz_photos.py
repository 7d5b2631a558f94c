"""Mutated photos and .mat files against the decoder and the IMDB-WIKI parser: each is used or refused, in time.

    python -m tests.landmarks.fuzz_photos --inputs 5000

Seed files are made here: JPEG (baseline, progressive, greyscale, CMYK), PNG (RGB, palette, 16-bit, alpha), GIF, TIFF,
WebP, BMP and a compressed and a plain .mat. Anything but an answer or a PhotoError (a ValueError for a .mat) ends
the run with the input's number; a crash of the process would too. Memory is limited to 4 GB.
"""

from __future__ import annotations

import io
import resource
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.io
import tyro
from PIL import Image

from study.align.datasets.matlab import read_struct
from study.landmarks.photos import PhotoError, decode_photo

PNG = b"\x89PNG\r\n\x1a\n"
COLUMNS = ("dob", "photo_taken", "full_path", "face_score", "second_face_score")


@dataclass(frozen=True)
class Options:
    """Options of the fuzzer."""

    inputs: int = 5000
    """Mutated inputs."""
    seed: int = 0
    """Of the mutations: the same seed, the same inputs."""
    seconds: float = 10.0
    """An input that takes longer is a hang."""


def seeds() -> dict[str, bytes]:
    """Small valid files of every kind."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    rgb = Image.fromarray(low).resize((96, 120), Image.Resampling.BICUBIC)
    deep = Image.fromarray(rng.integers(0, 65535, (64, 64), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures: dict[str, tuple[Image.Image, str, dict]] = {
        "jpeg": (rgb, "JPEG", {"exif": exif}),
        "progressive": (rgb, "JPEG", {"progressive": True}),
        "grey jpeg": (rgb.convert("L"), "JPEG", {}),
        "cmyk jpeg": (rgb.convert("CMYK"), "JPEG", {}),
        "png": (rgb, "PNG", {}),
        "palette png": (rgb.convert("P"), "PNG", {}),
        "16-bit png": (deep, "PNG", {}),
        "alpha png": (rgb.convert("RGBA"), "PNG", {}),
        "gif": (rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "tiff": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "webp": (rgb, "WEBP", {}),
        "bmp": (rgb, "BMP", {}),
    }
    files = {}
    for name, (image, kind, options) in pictures.items():
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        files[name] = sink.getvalue()
    for name, compressed in (("mat", False), ("compressed mat", True)):
        files[name] = _mat(compressed=compressed)
    return files


def _mat(*, compressed: bool) -> bytes:
    rows = 20
    paths = np.empty((1, rows), dtype=object)
    paths[0] = [f"00/nm{i:07}_rm{i}_1950-3-1_2000.jpg" for i in range(rows)]
    table = {
        "dob": np.full((1, rows), 712000, np.int32),
        "photo_taken": np.full((1, rows), 2000, np.uint16),
        "full_path": paths,
        "face_score": np.full((1, rows), 3.0),
        "second_face_score": np.full((1, rows), np.nan),
    }
    sink = io.BytesIO()
    scipy.io.savemat(sink, {"imdb": table}, do_compression=compressed)
    return sink.getvalue()


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A broken version of a file: bits flipped, bytes set, cut, doubled, zeroed, lengths blown up, or two spliced."""
    broken = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not broken:
            break
        at = int(rng.integers(len(broken)))
        if rng.random() < 0.5:  # headers are where the harm is
            at = int(rng.integers(min(len(broken), 256)))
        length = int(rng.integers(1, 64))
        kind = int(rng.integers(7))
        if kind == 0:
            broken[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            broken[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
        elif kind == 2:
            del broken[at:]
        elif kind == 3:
            broken[at:at] = broken[at : at + length] * int(rng.integers(1, 50))
        elif kind == 4:
            broken[at : at + length] = bytes(length)
        elif kind == 5:
            broken[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        else:
            broken[at:] = other[int(rng.integers(len(other))) :]
    if bytes(broken[:8]) == PNG and rng.random() < 0.7:  # or the checksums would keep all harm at the door
        return with_checksums(bytes(broken))
    return bytes(broken)


def with_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have right checksums again, as far as its lengths can be followed."""
    parts, at = [PNG], 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            break
        parts += [png[at:end], zlib.crc32(png[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join([*parts, png[at:]])


def judge(name: str, data: bytes) -> str:
    """What became of one input: "used", a reason, or "refused" for a .mat. Other errors pass through."""
    if name.endswith("mat"):
        try:
            read_struct(data, name="imdb", columns=COLUMNS)
        except ValueError:
            return "refused"
        return "used"
    try:
        pixels = decode_photo(data)
    except PhotoError as error:
        return error.reason.value
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise RuntimeError(f"decoded to {pixels.dtype} {pixels.shape}")
    return "used"


def fuzz(options: Options, *, each: Callable[[str, bytes], str] = judge) -> tuple[Counter[tuple[str, str]], float]:
    """Fates of the inputs by seed's name, and the longest time one took (seconds)."""
    files = seeds()
    names = sorted(files)
    fates: Counter[tuple[str, str]] = Counter()
    longest = 0.0
    for number in range(options.inputs):
        rng = np.random.default_rng([options.seed, number])
        name = names[number % len(names)]
        data = mutate(files[name], files[names[int(rng.integers(len(names)))]], rng)
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, options.seconds)
        try:
            fates[name, each(name, data)] += 1
        except BaseException as error:
            raise RuntimeError(f"input {number} of seed {options.seed}, a {name} of {len(data)} bytes") from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        longest = max(longest, time.monotonic() - start)
    return fates, longest


def _hang(signum: int, frame: object) -> None:
    raise TimeoutError("it hangs")


def run(options: Options) -> None:
    """Fuzz, and print the fates."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    signal.signal(signal.SIGALRM, _hang)
    start = time.monotonic()
    fates, longest = fuzz(options)
    for name in sorted({name for name, _ in fates}):
        each = {fate: count for (of, fate), count in sorted(fates.items()) if of == name}
        print(f"{name:<16}" + ", ".join(f"{fate} {count}" for fate, count in each.items()))
    print(
        f"{fates.total()} mutated inputs in {time.monotonic() - start:.0f} s, none crashed or hung; "
        f"the slowest took {longest:.2f} s"
    )


if __name__ == "__main__":
    run(tyro.cli(Options, prog="python -m tests.landmarks.fuzz_photos", description=__doc__))
    sys.exit(0)
