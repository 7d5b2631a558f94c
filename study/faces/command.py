"""A summary of a faces table, and a contact sheet of its faces."""

from __future__ import annotations

import io
import json
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image, ImageDraw

from study.artifacts.aligned import Recipe
from study.faces.options import Options
from study.files.storage import Folder, open_folder
from trainables.faces.table import ALIGNMENT_KEY, damaged, decode_face, open_parquet, table_files


def show(options: Options) -> int:
    """Print the summary of a table, and draw its contact sheet where asked."""
    folder = open_folder(options.table)
    faces, recipe = read_table(folder)
    print("\n".join(summary(faces, recipe, rejects=read_rejects(folder))))
    if options.sheet is not None:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(faces, count=options.count, px=options.px).save(options.sheet)
        print(f"contact sheet: {options.sheet}")
    return 0


def read_table(folder: Folder) -> tuple[pd.DataFrame, Recipe | None]:
    """All rows of a faces table, and how they were made (None: its files do not say).

    Raises FileNotFoundError or ValueError where there are no rows, or a file is damaged.
    """
    files = table_files(folder.name)
    tables = [_read(file) for file in files]
    faces = pd.concat([table.to_pandas() for table in tables], ignore_index=True)
    if faces.empty:
        raise ValueError(f"the faces table at {folder} has no rows; {folder}/rejects says why")
    made = (tables[0].schema.metadata or {}).get(ALIGNMENT_KEY)
    try:
        return faces, Recipe.from_json(json.loads(made)) if made else None
    except ValueError as error:
        raise damaged(files[0], error) from error


def read_rejects(folder: Folder) -> Counter[str]:
    """Rejected photos by reason; empty where the table has no rejects/."""
    reasons: Counter[str] = Counter()
    for name in folder.names("rejects"):
        reasons.update(_read(f"{folder.name}/rejects/{name}")["reason"].to_pylist())
    return reasons


def _read(file: str) -> pa.Table:
    try:
        with open_parquet(file) as table:
            return table.read()
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, error) from error


def summary(faces: pd.DataFrame, recipe: Recipe | None, *, rejects: Counter[str]) -> list[str]:
    """Lines on the number of faces, people, ages and tries of the landmarker, and how the table was made."""
    ages = faces["age"].to_numpy()
    decades = Counter((ages // 10 * 10).tolist())
    photos = faces.groupby("person").size()
    people = f"{len(photos)} people, {photos.min()} to {photos.max()} faces each" if len(photos) else "not named"
    with Image.open(io.BytesIO(faces["face"].iloc[0])) as first:
        kind = f"{first.width} x {first.height} px {first.format}"
    megabytes = faces["face"].str.len().sum() / 1e6
    return [
        f"{len(faces):,} faces of {', '.join(sorted(faces['dataset'].unique()))}: {kind}, {megabytes:,.1f} MB",
        f"people: {people}",
        f"ages: {ages.min()} to {ages.max()}, median {np.median(ages):g}; a constant guess of it is off by "
        f"{np.abs(ages - np.median(ages)).mean():.2f} years on average",
        "by decade: " + ", ".join(f"{decade}s {decades[decade]:,}" for decade in sorted(decades)),
        "found by: " + ", ".join(f"{name} {count:,}" for name, count in faces["found_by"].value_counts().items()),
        "rejected: " + (", ".join(f"{name} {count:,}" for name, count in rejects.most_common()) or "none"),
        "made with: "
        + (
            f"landmarker {recipe.landmarker}, weights {recipe.weights}, template {recipe.template}, coverage "
            f"{recipe.coverage:g}, version {recipe.version}"
            if recipe
            else "its files do not say"
        ),
    ]


def contact_sheet(faces: pd.DataFrame, *, count: int, px: int) -> Image.Image:
    """Faces in order of age, evenly spread over the table's ranks, each with its age."""
    order = faces.sort_values(["age", "dataset", "photo"], kind="stable").reset_index(drop=True)
    chosen = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    columns = int(np.ceil(np.sqrt(len(chosen) * 1.5)))
    rows = int(np.ceil(len(chosen) / columns))
    sheet = Image.new("RGB", (columns * px, rows * (px + 14)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, index in enumerate(chosen):
        face = order.iloc[index]
        x, y = place % columns * px, place // columns * (px + 14)
        sheet.paste(Image.fromarray(decode_face(face["face"], px=px)), (x, y + 14))
        draw.text((x + 3, y + 1), f"{face['age']}", fill="black")
    return sheet
