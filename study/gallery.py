"""Every tested photo with its error, and a gallery of the worst and the best, as one HTML file and a CSV.

They show faces of the dataset's people: for this machine only.
"""

from __future__ import annotations

import base64
import csv
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image

from study.artifacts.predictions import Predictions
from study.files.storage import write_whole
from trainables.faces.table import Faces

SHOWN = 20
"""Faces in each half of the gallery."""

WARNING = (
    "Local only. Do not publish this page or send it on: it shows faces of a research data set, whose licence does not "
    "allow it, and of people who were not asked."
)
DRAWN = "Synthetic people: nobody is shown, and nothing here is about real faces."

_STYLE = """
:root{color-scheme:light dark}body{font:14px/1.4 system-ui,sans-serif;margin:1rem}
.faces{display:flex;flex-wrap:wrap;gap:12px}figure{margin:0;width:128px}img{width:128px;height:128px;display:block}
figcaption{font-size:12px;overflow-wrap:anywhere}svg{display:block;width:128px;height:34px}
.warning{border:2px solid #c33;padding:.5rem;font-weight:600}table{border-collapse:collapse}
td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #8884}td:first-child,td:nth-child(2){text-align:left}
"""


def write_photos(folder: Path, predictions: Predictions, faces: Faces, *, synthetic: bool) -> list[Path]:
    """Write photos.html and photos.csv; returns both. Several seeds count with the mean of their predictions."""
    mean = predictions.average_seeds()
    order = worst_first(mean)
    files = [folder / "photos.html", folder / "photos.csv"]
    write_whole(files[0], _page(mean, faces, order, synthetic=synthetic).encode())
    write_whole(files[1], _table(mean, order).encode())
    return files


def _page(mean: Predictions, faces: Faces, order: list[int], *, synthetic: bool) -> str:
    parts = [head("Worst and best photos", synthetic=synthetic), gallery(mean, faces)]
    columns = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(mean, i)) + "</tr>" for i in order
    )
    parts.append(f"<h2>All {len(order)} photos, worst first</h2><table><tr>{columns}</tr>{body}</table></html>")
    return "\n".join(parts)


def head(title: str, *, synthetic: bool) -> str:
    """The start of a page with faces: its style, and what must not be done with it."""
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><p class='warning'>{DRAWN if synthetic else WARNING}</p>"
    )


def gallery(mean: Predictions, faces: Faces) -> str:
    """The faces with the largest errors and the smallest, as HTML. mean: one prediction a photo (average_seeds)."""
    order = worst_first(mean)
    rows = {str(photo): row for row, photo in enumerate(faces.photo)}
    parts = [
        "<p>Under each face: true age, predicted age, photo. The curve is the predicted distribution over ages; the "
        "solid line is the true age, the dashed one the predicted.</p>"
    ]
    for name, shown in {"worst": order[:SHOWN], "best": order[::-1][:SHOWN]}.items():
        figures = "".join(_figure(mean, i, faces.pixels[rows[str(mean.photo[i])]]) for i in shown)
        parts.append(f"<h2 id='{name}'>The {len(shown)} {name} photos</h2><div class='faces'>{figures}</div>")
    return "\n".join(parts)


def worst_first(mean: Predictions) -> list[int]:
    """The rows of the predictions, the largest error first."""
    order: list[int] = np.argsort(-np.abs(mean.predicted - mean.age), kind="stable").tolist()
    return order


def _figure(mean: Predictions, i: int, pixels: np.ndarray) -> str:
    """One face with its ages and its distribution."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=85)
    picture = base64.b64encode(data.getvalue()).decode()
    photo, age, predicted = html.escape(str(mean.photo[i])), int(mean.age[i]), float(mean.predicted[i])
    return (
        f"<figure><img alt='{photo}' src='data:image/jpeg;base64,{picture}'>"
        f"{_curve(mean.distribution[i], age, predicted)}"
        f"<figcaption><b>{age}</b>, predicted <b>{predicted:.1f}</b><br>{photo}</figcaption></figure>"
    )


def _curve(distribution: np.ndarray, age: int, predicted: float) -> str:
    """The distribution over ages as a small SVG curve: a unit in x is a year."""
    last = len(distribution) - 1
    height = 30 * distribution / max(float(distribution.max()), 1e-9)
    points = " ".join(f"{year},{32 - y:.1f}" for year, y in enumerate(height))
    return (
        f"<svg viewBox='0 0 {last} 34' preserveAspectRatio='none' role='img' aria-label='distribution over ages'>"
        f"<polyline points='{points}' fill='none' stroke='#0072B2' stroke-width='1.5'/>"
        f"<path d='M{age} 0V34' stroke='#555'/>"
        f"<path d='M{predicted:.1f} 0V34' stroke='#D55E00' stroke-dasharray='3 2'/>"
        "</svg>"
    )


_COLUMNS = ("photo", "person", "age", "predicted", "error", "probability within 5 years")


def _cells(mean: Predictions, i: int) -> list[str]:
    age, predicted = int(mean.age[i]), float(mean.predicted[i])
    near = float(mean.distribution[i, max(0, age - 5) : age + 6].sum())
    return [
        str(mean.photo[i]), str(mean.person[i]), str(age), f"{predicted:.2f}", f"{predicted - age:+.2f}", f"{near:.3f}",
    ]  # fmt: skip


def _table(mean: Predictions, order: list[int]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(_COLUMNS)
    writer.writerows(_cells(mean, i) for i in order)
    return sink.getvalue()
