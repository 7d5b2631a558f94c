"""FAN: face-alignment's 68-point network with its S3FD detector, the paper's landmarks."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from study.landmarks.search import Box, Boxed, Detector, Landmarker, Pixels, Points, Runtime, search

FAN_WEIGHTS = ("2DFAN4-11f355bf06.pth.tar", "s3fd-619a316812.pth")
"""Files of face-alignment: the 68-point network and the S3FD detector."""

MAX_BATCH = 16
"""Faces of one forward pass: 16 crops of 256 px take about 3 GB on a GPU."""

DTYPES = ("float32", "bfloat16", "float16")
"""Types that FAN may compute in; the two of 16 bits are for GPUs."""


def fan_weights() -> tuple[Path, ...]:
    """The files of FAN's weights. Raises FileNotFoundError with the missing ones. Nothing is downloaded."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = [name for name in FAN_WEIGHTS if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--landmarker fan needs {' and '.join(missing)} in {folder} "
            "($TORCH_HOME/hub/checkpoints); get them from https://www.adrianbulat.com/downloads/python-fan/ "
            "or choose --landmarker dlib (needs no download) or pts (points that come with the photos)"
        )
    return tuple(folder / name for name in FAN_WEIGHTS)


def load_fan(runtime: Runtime) -> Landmarker:
    """face-alignment's own FAN and S3FD on the runtime's device, in its dtype.

    Detection takes one photo of at most DETECTION_SIDE pixels at a time, since photos differ in size; the points of a
    batch are computed together. flip_input is off: it halves the speed and changes the points little. torch.compile is
    off: it takes over a minute at the start, and was no faster on a processor.
    """
    weights = fan_weights()
    import face_alignment
    import torch

    check_device(runtime.device)
    torch.set_num_threads(runtime.threads)
    try:
        network = face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D,
            device=runtime.device,
            dtype=getattr(torch, runtime.dtype),
            flip_input=False,
            compile=False,
            max_batch_size=MAX_BATCH,
            face_detector="sfd",
            face_detector_kwargs={"filter_threshold": 0.2},
        )
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        files = " or ".join(map(str, weights))
        raise ValueError(f"{files} does not hold FAN's weights, download it again ({reason})") from None

    def detect(pixels: Pixels, threshold: float) -> list[Box]:
        boxes = network.face_detector.detect_from_image(pixels.copy())
        # Python floats: float32 boxes crash face-alignment's crop.
        return [box for box in (Box(*map(float, row[:5])) for row in boxes) if box.score >= threshold]

    def fit(faces: Sequence[Boxed]) -> list[Points]:
        if not faces:
            return []
        sheet, shifts = contact_sheet(faces)
        boxes = [
            [box.left + x, box.top + y, box.right + x, box.bottom + y]
            for (_, box), (x, y) in zip(faces, shifts, strict=True)
        ]
        found = network.get_landmarks_from_image(sheet, detected_faces=boxes)
        return [
            (np.asarray(points, np.float64) - shift).astype(np.float32)
            for points, shift in zip(found, shifts, strict=True)
        ]

    sfd = Detector(detect, fit, sure=0.8, weak=0.3)
    return Landmarker("fan", lambda portraits: search(portraits, sfd), sfd)


def check_device(device: str) -> None:
    """Raise ValueError where torch has no such device here."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise ValueError(f"--device {device} is not available here ({reason}); choose --device cpu") from None


def contact_sheet(faces: Sequence[Boxed]) -> tuple[UInt8[np.ndarray, "_ _ 3"], list[np.ndarray]]:
    """The surroundings of several faces in one image, one below the other, and each face's shift (x, y) into it.

    face-alignment computes the faces of one image in one batch, but takes a list of images one by one (also in
    get_landmarks_from_batch). Each part is as large as FAN's crop, 200/195 of the box's width plus height, and is black
    outside its photo, as that crop is.
    """
    parts, corners = [], []
    for pixels, box in faces:
        reach = math.ceil(0.65 * (box.right - box.left + box.bottom - box.top)) + 3
        x0 = math.floor((box.left + box.right) / 2) - reach
        y0 = math.floor((box.top + box.bottom) / 2) - reach
        part = np.zeros((2 * reach, 2 * reach, 3), np.uint8)
        height, width = pixels.shape[:2]
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x0 + 2 * reach, width), min(y0 + 2 * reach, height)
        if left < right and top < bottom:
            part[top - y0 : bottom - y0, left - x0 : right - x0] = pixels[top:bottom, left:right]
        parts.append(part)
        corners.append((x0, y0))
    sheet = np.zeros((sum(len(part) for part in parts), max(part.shape[1] for part in parts), 3), np.uint8)
    shifts, row = [], 0
    for part, (x0, y0) in zip(parts, corners, strict=True):
        sheet[row : row + len(part), : part.shape[1]] = part
        shifts.append(np.array([-x0, row - y0], dtype=np.float64))
        row += len(part)
    return sheet, shifts
