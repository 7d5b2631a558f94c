"""How accurate landmarks and aligned faces are, compared with points marked by hand.

    python -m benchmarks.align_truth --data ../shared/data --table runs/fgnet --out runs/truth

1. landmarks68: the landmarker's 68 points against the given ones, on each marked face.
2. FG-NET: the given pupils, taken through each photo's own transform, against the template's eyes (with a picture).
3. FG-NET: the same photo tilted by 30 degrees and at half the size, against its upright crop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import tyro

from study.landmarks.landmarkers import LANDMARKERS, parse_points
from study.landmarks.photos import decode_photo
from study.landmarks.search import Landmarker, Landmarks, Portrait, Runtime
from study.landmarks.warp import TEMPLATE, align_face, face_matrix, five_points


@dataclass(frozen=True)
class Options:
    """Options of the comparison."""

    data: Path
    """Folder with landmarks68/ and fgnet/."""
    table: Path
    """FG-NET aligned (OUT of study.align, landmarker dlib or fan)."""
    out: Path
    """Folder for truth.json and pupils.png (of real people's points: not to be committed)."""
    landmarker: str = "dlib"
    """For parts 1 and 3."""
    photos: int = 120
    """FG-NET photos of part 3."""
    size: int = 256
    """Pixels of a face."""


def given_points(data: Path, landmarker: Landmarker) -> dict[str, float]:
    """Part 1: the mean distance over 68 points, as a share of the distance of the outer eye corners (300-W's)."""
    errors, missed = [], 0
    for file in sorted((data / "landmarks68").glob("*.xml")):
        for image in ElementTree.parse(file).iter("image"):
            photo = decode_photo((file.parent / str(image.get("file"))).read_bytes())
            for box in image.iter("box"):
                truth = np.array([(float(p.get("x", 0)), float(p.get("y", 0))) for p in box.iter("part")])
                left, top, width, height = (float(box.get(k, 0)) for k in ("left", "top", "width", "height"))
                x0, y0 = max(0, int(left - 0.6 * width)), max(0, int(top - 0.6 * height))
                part = photo[y0 : int(top + 1.6 * height), x0 : int(left + 1.6 * width)].copy()
                (found,) = landmarker.find([Portrait(part)])
                ocular = np.linalg.norm(truth[36] - truth[45])
                if not isinstance(found, Landmarks):
                    missed += 1
                    continue
                error = np.linalg.norm(found.points + np.array([x0, y0]) - truth, axis=1).mean()
                errors.append(float(error / ocular))
    return {
        "faces": len(errors) + missed,
        "missed": missed,
        "mean": float(np.mean(errors)),
        "median": float(np.median(errors)),
        "worst": max(errors),
        "above 0.1": sum(error > 0.1 for error in errors),
    }


def pupils(root: Path, table: Path, *, size: int, picture: Path) -> dict[str, float]:
    """Part 2: where the given pupils land in each face, in pixels of a face of `size`; and the picture of it."""
    faces = pd.read_parquet(table / "faces")
    landed = []
    for photo, points in zip(faces["photo"], faces["landmarks"], strict=True):
        file = root / "points" / f"{Path(photo).stem.lower()}.pts"
        given = parse_points(file.read_bytes())[[31, 36]]
        landmarks = Landmarks(np.asarray(points, np.float32).reshape(68, 2), "ibug", "")
        matrix = face_matrix(landmarks, size=size)
        landed.append(given @ matrix[:, :2].T + matrix[:, 2])
    places = np.array(landed)  # faces x 2 pupils x (x, y)
    template = TEMPLATE[:2] * size - 0.5
    ocular = template[1, 0] - template[0, 0]
    distance = np.linalg.norm(places - template, axis=2)
    _draw(places, template, size=size, path=picture)
    spread = places.std(axis=0)
    return {
        "faces": len(places),
        "offset x left": float((places - template)[:, 0, 0].mean()),
        "offset y left": float((places - template)[:, 0, 1].mean()),
        "offset x right": float((places - template)[:, 1, 0].mean()),
        "offset y right": float((places - template)[:, 1, 1].mean()),
        "sd x": float(spread[:, 0].mean()),
        "sd y": float(spread[:, 1].mean()),
        "median distance": float(np.median(distance)),
        "95 % within": float(np.quantile(distance, 0.95)),
        "99 % within": float(np.quantile(distance, 0.99)),
        "worst": float(distance.max()),
        "median distance, share of the inter-ocular": float(np.median(distance) / ocular),
        "beyond a quarter of the inter-ocular": int((distance.max(axis=1) > ocular / 4).sum()),
    }


def _draw(places: np.ndarray, template: np.ndarray, *, size: int, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter(*places[:, 0].T, s=6, alpha=0.4, linewidth=0, color="#31688e", label="given pupils, left and right")
    axes.scatter(*places[:, 1].T, s=6, alpha=0.4, linewidth=0, color="#31688e")
    axes.plot(*template.T, "+", markersize=16, markeredgewidth=2, color="#d1495b", label="template's eyes")
    axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal", xlabel="pixels", ylabel="pixels")
    axes.set_title(f"FG-NET: pupils of {len(places):,} aligned faces of {size} px")
    axes.legend(loc="lower center", frameon=False)
    figure.savefig(path, dpi=120)


def moved(root: Path, landmarker: Landmarker, *, photos: int, size: int) -> dict[str, dict[str, float]]:
    """Part 3: how far the five points of the upright photo lie from the template when placed by the moved photo's
    landmarks (pixels), and the mean grey difference of the two crops."""
    files = sorted((root / "images").iterdir())
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, photos).astype(int)]
    shifts: dict[str, list[float]] = {"tilted by 30 degrees": [], "tilted by -30 degrees": [], "half the size": []}
    greys: dict[str, list[float]] = {name: [] for name in shifts}
    missed = dict.fromkeys(shifts, 0)
    for file in chosen:
        photo = decode_photo(file.read_bytes())
        (upright,) = landmarker.find([Portrait(photo)])
        if not isinstance(upright, Landmarks):
            continue
        five = five_points(upright.points, scheme="ibug")
        crop = align_face(photo, upright, size=size)
        for name, matrix in zip(shifts, _motions(photo), strict=True):
            corners = np.array([(0, 0), (photo.shape[1], 0), (0, photo.shape[0]), (photo.shape[1], photo.shape[0])])
            there = corners @ matrix[:, :2].T + matrix[:, 2]
            matrix = matrix.copy()
            matrix[:, 2] -= there.min(0)
            width, height = np.ceil(np.ptp(there, axis=0)).astype(int)
            flags = cv2.INTER_AREA if name == "half the size" else cv2.INTER_CUBIC
            seen = (
                cv2.resize(photo, (width, height), interpolation=flags)
                if name == "half the size"
                else cv2.warpAffine(photo, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            )
            (found,) = landmarker.find([Portrait(seen)])
            if not isinstance(found, Landmarks):
                missed[name] += 1
                continue
            to_face = face_matrix(found, size=size)
            carried = five @ matrix[:, :2].T + matrix[:, 2]
            landed = carried @ to_face[:, :2].T + to_face[:, 2]
            own = face_matrix(upright, size=size)
            wanted = five @ own[:, :2].T + own[:, 2]
            shifts[name].append(float(np.linalg.norm(landed - wanted, axis=1).mean()))
            again = align_face(seen, found, size=size)
            greys[name].append(float(np.abs(again.astype(int) - crop).mean()))
    return {
        name: {
            "photos": len(values) + missed[name],
            "missed": missed[name],
            "median shift": float(np.median(values)),
            "90 % within": float(np.quantile(values, 0.9)),
            "95 % within": float(np.quantile(values, 0.95)),
            "median grey difference": float(np.median(greys[name])),
        }
        for name, values in shifts.items()
    }


def _motions(photo: np.ndarray) -> list[np.ndarray]:
    centre = photo.shape[1] / 2, photo.shape[0] / 2
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])
    return [cv2.getRotationMatrix2D(centre, 30, 1), cv2.getRotationMatrix2D(centre, -30, 1), half]


def run(options: Options) -> None:
    """Measure, print, and write truth.json and pupils.png."""
    landmarker = LANDMARKERS[options.landmarker].load(Runtime())
    options.out.mkdir(parents=True, exist_ok=True)
    root = options.data / "fgnet"
    found = {
        "68 points against landmarks68 (share of the outer eye corners' distance)": given_points(
            options.data, landmarker
        ),
        f"given pupils on the template (pixels of {options.size})": pupils(
            root, options.table, size=options.size, picture=options.out / "pupils.png"
        ),
    }
    for name, numbers in moved(root, landmarker, photos=options.photos, size=options.size).items():
        found[f"{name}, against the upright crop (pixels of {options.size})"] = numbers
    (options.out / "truth.json").write_text(json.dumps(found, indent=2) + "\n")
    for title, numbers in found.items():
        print(title)
        for name, value in numbers.items():
            print(f"  {name:<44}{value:>10,.3f}" if isinstance(value, float) else f"  {name:<44}{value:>6,}")


if __name__ == "__main__":
    run(tyro.cli(Options, prog="python -m benchmarks.align_truth", description=__doc__))
