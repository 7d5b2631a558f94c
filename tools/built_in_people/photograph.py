"""One sitting to one photo: the file's bytes and the true landmarks, and where they are kept."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from tools.built_in_people import album, cast, light, skin


def photograph(sitting: cast.Sitting, *, seed: int, frame: album.Frame) -> tuple[bytes, Float[np.ndarray, "68 2"]]:
    """The JPEG of a sitting and its landmarks (iBUG order, pixels)."""
    who = cast.person(seed, sitting.person)
    random = cast.luck(seed, sitting)
    shot = album.draw_shot(frame, random)
    # A photo is taken somewhere within the year of age.
    age = sitting.age + float(random.uniform(0, 1))
    paint = skin.paint(who.complexion, who.build, age)
    picture, landmarks = light.take(who.build, who.complexion, paint, age, cast.cut_of(who, random), shot, frame)
    return album.encode(picture, file_bytes=shot.file_bytes, grey=shot.grey), landmarks


def pts(landmarks: Float[np.ndarray, "68 2"]) -> str:
    """The text of a .pts file."""
    lines = [f"{x:.2f} {y:.2f}" for x, y in landmarks]
    return "\n".join(["version: 1", "n_points: 68", "{", *lines, "}", ""])


def folders(out: Path) -> tuple[Path, Path, Path]:
    """Where the people's photos, their points and the strangers' photos go under `out`."""
    return out / "people/images", out / "people/points", out / "strangers"


def store(job: tuple[cast.Sitting, album.Frame, Path, int]) -> None:
    """Draws one (sitting, frame, out, seed) and writes its files; the frame says which data set it belongs to."""
    sitting, frame, out, seed = job
    cv2.setNumThreads(1)  # more threads do not help pictures this small
    images, points, strangers = folders(out)
    data, landmarks = photograph(sitting, seed=seed, frame=frame)
    if frame == album.PEOPLE:
        (images / sitting.name).write_bytes(data)
        (points / f"{Path(sitting.name).stem.lower()}.pts").write_text(pts(landmarks))
    else:
        (strangers / sitting.name).write_bytes(data)
