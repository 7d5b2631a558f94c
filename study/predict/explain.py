"""Pictures that show where the network looks in each face, and the printed deletion test of these maps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from study.landmarks.photos import PhotoError
from study.model.ages import AgeModel
from study.model.explain import deletion_test, explain_face
from study.model.maps import draw_map
from study.model.network import read_net
from study.pictures import save_picture
from study.plain import apart, slug
from study.predict.photos import Named, read_photo

MOST = 24
"""Faces that are explained at most: each takes some 80 predictions."""


def explain_photos(photos: Sequence[Named], model: AgeModel, folder: Path, out: Path) -> list[Path]:
    """Write a picture for each face (of the first MOST), and print the deletion test; returns the files."""
    net = read_net(folder)
    named, faces = [], []
    for photo in photos:
        data = read_photo(photo)
        found = data if isinstance(data, PhotoError) else model.look(data)
        if isinstance(found, PhotoError):
            continue
        for number, face in enumerate(found, start=1):
            named.append(f"{slug(Path(photo.name).stem)}-face{number}")
            faces.append(face.pixels)
    if len(faces) > MOST:
        print(f"Explaining the first {MOST} of {len(faces)} faces", file=sys.stderr)
        named, faces = named[:MOST], faces[:MOST]
    if not faces:
        return []
    maps = [explain_face(net, face) for face in faces]
    files = []
    for name, pixels, years in zip(apart(named), faces, maps, strict=True):
        files.append(out / f"{name}.png")
        save_picture(draw_map(pixels, years), files[-1], dpi=110)
    print(f"Where it looks: {len(files)} pictures in {out}", file=sys.stderr)
    for result in deletion_test(net, faces, maps):
        print(f"Deletion test, faces {len(faces)}: {result.sentence}", file=sys.stderr)
    return files
