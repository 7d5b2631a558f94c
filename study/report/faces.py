"""faces.html: the faces behind a report's largest and smallest errors, and where the model of study.refit looks.

It shows people, so it is a file of its own, for this machine only: report.html can be sent on without it.
"""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from study.artifacts.model import FILE, ModelRecord
from study.gallery import gallery, head, worst_first
from study.model.place import HOMES
from study.pictures import as_png
from study.report.document import TITLE
from study.report.sections import Section
from trainables.faces.table import Faces, load_faces

PEOPLE = 8
"""People of each decade over whom the maps are averaged: one face of each."""

WORST = 6
"""Faces with the largest errors whose maps are shown."""


def faces_page(sections: Sequence[Section], *, explain: bool) -> str | None:
    """The page, or None where no section's faces table is here; what is left out is said in a line.

    explain: with the maps, where study.refit has a model of the same faces. Each face takes some 80 predictions.
    """
    parts = []
    for section in sections:
        faces = read_faces(section)
        if faces is None:
            continue
        mean = section.results[section.leader].predictions.average_seeds()
        parts += [f"<h1>{html.escape(section.title)}: {html.escape(section.leader)}</h1>", gallery(mean, faces)]
        if explain:
            parts.append(_maps(section, faces))
    if not parts:
        return None
    start = head(f"{TITLE}: faces", synthetic=all(section.built_in for section in sections))
    return "\n".join([start, *parts, "</html>"])


def read_faces(section: Section) -> Faces | None:
    """The faces that a section was tested on, as its leader saw them; None, with a line, where they are not here."""
    folders, px = [Path(folder) for folder in section.about.faces], section.about.trial.get("px")
    try:
        faces = load_faces(folders, px=int(str(px)))
    except (OSError, ValueError) as error:
        print(f"No faces of {section.title} in faces.html: {error}", file=sys.stderr)
        return None
    photos = section.results[section.leader].predictions.photo
    if missing := set(map(str, photos)) - set(map(str, faces.photo)):
        where = ", ".join(map(str, folders))
        print(f"No faces of {section.title} in faces.html: {where} lacks {len(missing)} of them", file=sys.stderr)
        return None
    return faces


def _maps(section: Section, faces: Faces) -> str:
    """Where the refitted model looks: by decade, and in the worst faces, with the deletion test."""
    from study.model.explain import deletion_test, explain_face  # torch and captum take seconds to import
    from study.model.maps import draw_map, draw_means
    from study.model.network import read_net

    folder = _model_of(section)
    if folder is None:
        print(f"No maps of {section.title}: no model of these faces; make it with: python -m study.refit --best")
        return ""
    record, net = ModelRecord.read(folder), read_net(folder)
    if record.px != faces.pixels.shape[1]:
        faces = load_faces([Path(each) for each in section.about.faces], px=record.px)
    rows = {str(photo): row for row, photo in enumerate(faces.photo)}
    mean = section.results[section.leader].predictions.average_seeds()
    worst = [rows[str(mean.photo[i])] for i in worst_first(mean)[:WORST]]
    chosen = one_face_each(faces)
    shown = dict.fromkeys([*(row for each in chosen.values() for row in each), *worst])
    print(f"Explaining {len(shown)} faces of {section.title} ...", flush=True)
    maps = {row: explain_face(net, faces.pixels[row]) for row in shown}
    tests = deletion_test(net, [faces.pixels[row] for row in shown], list(maps.values()))
    means = {
        f"{decade} to {decade + 9} ({len(each)})": (
            faces.pixels[each].mean(axis=0).round().astype(np.uint8),
            np.mean([maps[row] for row in each], axis=0),
        )
        for decade, each in chosen.items()
    }
    lines = [
        "<h2>Where the network looks</h2>",
        f"<p>The model is {html.escape(record.name)}, trained on everyone, these people among them. Red parts raise "
        "the age, blue parts lower it, measured by hiding them. Means over one face each of the people of a decade "
        "(their number in brackets), on the mean of their faces:</p>",
        _picture(as_png(draw_means(means), dpi=110), "where the network looks, by decade"),
        f"<p>Deletion test over {len(shown)} faces:</p><ul>",
        *(f"<li>{html.escape(each.sentence)}</li>" for each in tests),
        f"</ul><p>The {len(worst)} faces with the largest errors:</p>",
        *(_picture(as_png(draw_map(faces.pixels[row], maps[row]), dpi=110), str(faces.photo[row])) for row in worst),
    ]
    return "\n".join(lines)


def one_face_each(faces: Faces) -> dict[int, list[int]]:
    """The rows of up to PEOPLE faces of each decade of age, each another person where people are known."""
    found: dict[int, dict[str, int]] = {}
    for row in range(len(faces)):
        decade = int(faces.age[row]) // 10 * 10
        who = str(faces.person[row]) or str(faces.photo[row])
        if len(found.setdefault(decade, {})) < PEOPLE:
            found[decade].setdefault(who, row)
    return {decade: list(found[decade].values()) for decade in sorted(found)}


def _model_of(section: Section) -> Path | None:
    """The newest model folder of the section's faces."""
    files = sorted(
        (file for home in HOMES for file in home.glob(f"[!.]*/{FILE}")), key=lambda file: file.stat().st_mtime_ns
    )
    for file in reversed(files):
        if ModelRecord.read(file.parent).faces_digest == section.about.faces_digest:
            return file.parent
    return None


def _picture(png: bytes, words: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    style = "width:auto;height:auto;max-width:100%"
    return f"<p><img style='{style}' alt='{html.escape(words)}' src='{source}'></p>"
