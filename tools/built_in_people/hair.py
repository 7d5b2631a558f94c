"""Hair as some thousands of strands: rooted on the template's scalp, combed, curled, cut, and lit.

Strands grow in the head's own frame (dm, before the head is turned) and keep out of the skull by a table of its
radius in every direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from tools.built_in_people.head import SKIN, Build, mesh
from tools.built_in_people.raster import compiled
from tools.built_in_people.skin import GREY, Complexion, grey_share, hair_colour, rises

STRANDS = 8000
_STEPS = 22
_AZIMUTHS, _ELEVATIONS = 72, 36
_CENTRE = np.array([0.0, 0.22, -0.85], np.float32)  # of the skull, template, dm

# Where hair begins, as height over the eyes (dm) at an angle from the front (degrees), template.
_LINE = np.array(
    [
        (0, 0.66),
        (20, 0.68),
        (35, 0.64),
        (48, 0.52),
        (58, 0.3),
        (66, 0.02),
        (76, -0.12),
        (88, 0.02),
        (100, 0.1),
        (112, -0.3),
        (140, -0.72),
        (180, -0.85),
    ]
)


@dataclass(frozen=True)
class Cut:
    """A hairstyle: lengths in dm on an adult head, and how the comb went."""

    name: str
    length: tuple[float, float]  # on top, at the sides and the back
    crown: float = 1.0  # weights of the comb's directions: away from the crown,
    side: float = 0.0  # away from the parting,
    back: float = 0.0  # towards the back
    forward: float = 0.0
    lift: float = 0.35  # how far hair stands off at its root
    thick: float = 0.16  # dm, depth of the hair on the head
    lie: float = 0.45  # how firmly it lies on the head, 0..1
    gravity: float = 0.25
    lowest: float = -9.0  # dm over the eyes: cut off below
    fringe: float = 0.34  # dm over the eyes: cut off below, over the forehead
    curl: float = 0.0


CUTS = {
    cut.name: cut
    for cut in (
        Cut("buzz", (0.12, 0.09), lift=0.5, thick=0.04, gravity=0.0),
        Cut("crop", (0.3, 0.14), lift=0.5, thick=0.13, lie=0.3, gravity=0.05, forward=0.3),
        Cut("caesar", (0.42, 0.2), forward=0.7, lift=0.35, thick=0.12, gravity=0.15),
        Cut("parting", (0.85, 0.28), crown=0.35, side=1.0, lift=0.35, thick=0.17, gravity=0.15),
        Cut("quiff", (0.6, 0.2), crown=0.2, back=0.9, side=0.35, lift=0.9, thick=0.22, lie=0.15, gravity=0.05),
        Cut("back", (0.9, 0.55), crown=0.1, back=1.0, lift=0.25, thick=0.1, gravity=0.05),
        Cut("mop", (0.95, 0.6), crown=1.0, forward=0.25, side=0.25, lift=0.3, thick=0.2, gravity=0.35,
            lowest=-0.45, fringe=0.3),
        Cut("bob", (2.0, 1.6), crown=0.4, side=0.8, lift=0.3, thick=0.2, gravity=0.6, lowest=-1.0, fringe=0.5),
        Cut("bangs", (1.9, 1.5), crown=1.0, lift=0.3, thick=0.2, gravity=0.6, lowest=-0.9, fringe=0.28),
        Cut("long", (2.6, 2.3), crown=0.3, side=0.9, lift=0.25, thick=0.18, gravity=0.6, lowest=-1.75, fringe=0.55),
        Cut("tied", (0.9, 0.6), crown=0.15, back=1.0, side=0.2, lift=0.15, thick=0.07, gravity=0.0),
        Cut("curls", (0.8, 0.6), crown=0.8, side=0.3, lift=0.7, thick=0.28, lie=0.3, gravity=0.3,
            lowest=-0.8, fringe=0.4, curl=0.7),
        Cut("round", (0.5, 0.4), crown=0.4, lift=1.3, thick=0.34, lie=0.1, gravity=0.0, curl=1.0),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Scalp:
    """Where the strands of everyone are rooted."""

    triangle: Int[np.ndarray, " strands"]
    weight: Float[np.ndarray, "strands 3"]
    template: Float[np.ndarray, "strands 3"]
    luck: Float[np.ndarray, "strands 4"]  # uniform numbers that stay a strand's own
    clump: Int[np.ndarray, " strands"]


def hairline(azimuth: Float[np.ndarray, " points"], *, receding: float = 0.0) -> Float[np.ndarray, " points"]:
    """Height of the hairline over the eyes (dm, template) at angles from the front (radians).

    receding: 0 none .. 1 the front is bare up to the crown, the temples first.
    """
    degrees = np.abs(np.degrees(azimuth))
    line = np.interp(degrees, _LINE[:, 0], _LINE[:, 1])
    temples = np.exp(-(((degrees - 36) / 16) ** 2))
    front = np.exp(-((degrees / 55) ** 4))
    return line + receding * (0.3 * temples + 0.38 * front * receding)


def azimuth(template: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
    """The angle of template points from the front, about the skull's upright axis (radians)."""
    return np.arctan2(template[:, 0], template[:, 2] - _CENTRE[2])


def hairiness(
    template: Float[np.ndarray, "points 3"], *, receding: float, soft: float = 0.05
) -> Float[np.ndarray, " points"]:
    """0 bare skin .. 1 scalp, for template points."""
    above = template[:, 1] - hairline(azimuth(template), receding=receding)
    share = np.clip(above / soft + 0.5, 0, 1)
    ear = (np.abs(template[:, 0]) > 0.765) & (template[:, 1] < 0.3)
    bald = max(0.0, receding - 0.45) * 1.6
    crown = np.exp(-(((template[:, 0]) / 0.42) ** 2 + ((template[:, 2] + 1.2) / 0.5) ** 2)) * (template[:, 1] > 0.6)
    return np.where(ear | (template[:, 1] < -0.9), 0.0, share * (1 - np.clip(crown * bald * 1.4, 0, 1)))


@cache
def scalp() -> Scalp:
    """Roots spread evenly over the template's scalp (the same for everyone)."""
    model = mesh()
    random = np.random.default_rng(20)
    skin = np.flatnonzero((model.part == SKIN) & (model.template[model.triangles].min(axis=1)[:, 1] > -1.0))
    corner = model.template[model.triangles[skin]]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    pick = random.choice(len(skin), 60000, p=area / area.sum())
    weight = random.dirichlet((1, 1, 1), len(pick)).astype(np.float32)
    place = (corner[pick] * weight[..., None]).sum(axis=1)
    keep = np.flatnonzero(hairiness(place, receding=0.0) > 0.5)[:STRANDS]
    centres = place[random.choice(keep, 170, replace=False)]
    clump = ((place[keep][:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    return Scalp(
        triangle=skin[pick[keep]],
        weight=weight[keep],
        template=place[keep].astype(np.float32),
        luck=random.uniform(0, 1, (len(keep), 4)).astype(np.float32),
        clump=clump,
    )


@compiled
def _radius(x: float, y: float, z: float, table: np.ndarray) -> float:
    """The skull's radius in a direction from its centre, between the table's cells."""
    elevations, azimuths = table.shape
    a = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * azimuths - 0.5
    e = (np.arctan2(y, np.sqrt(x * x + z * z)) / np.pi + 0.5) * elevations - 0.5
    e = min(max(e, 0.0), elevations - 1.001)
    a0, e0 = int(np.floor(a)), int(e)
    fa, fe = a - a0, e - e0
    a1, a0 = (a0 + 1) % azimuths, a0 % azimuths
    low = table[e0, a0] * (1 - fa) + table[e0, a1] * fa
    high = table[e0 + 1, a0] * (1 - fa) + table[e0 + 1, a1] * fa
    return low * (1 - fe) + high * fe


@compiled
def _grow(
    root: np.ndarray,
    normal: np.ndarray,
    comb: np.ndarray,
    length: np.ndarray,
    layer: np.ndarray,
    lift: np.float64,
    lie: np.float64,
    hangs: np.float64,
    gravity: np.float64,
    curl: np.float64,
    phase: np.ndarray,
    table: np.ndarray,
    centre: np.ndarray,
    lowest: np.ndarray,
    fringe: np.ndarray,
    points: np.ndarray,
    used: np.ndarray,
) -> None:
    steps = points.shape[1]
    for s in range(root.shape[0]):
        # Position and heading, relative to the skull's centre; plain numbers, since small arrays are slow here.
        px, py, pz = root[s, 0] - centre[0], root[s, 1] - centre[1], root[s, 2] - centre[2]
        dx = normal[s, 0] * lift + comb[s, 0]
        dy = normal[s, 1] * lift + comb[s, 1]
        dz = normal[s, 2] * lift + comb[s, 2]
        size = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
        dx, dy, dz = dx / size, dy / size, dz / size
        step = length[s] / (steps - 1)
        for c in range(3):
            points[s, 0, c] = root[s, c]
        n = 1
        for k in range(1, steps):
            ox, oy, oz = px, py, pz
            dy -= gravity * step * 3.0
            turn = phase[s] + 5.5 * k * step * (1.0 + 2.0 * curl) / 0.35
            ex = dx + curl * 0.55 * np.cos(turn)
            ey = dy + curl * 0.38 * np.sin(turn)
            ez = dz + curl * 0.55 * np.sin(turn + 1.3)
            size = np.sqrt(ex * ex + ey * ey + ez * ez) + 1e-9
            px, py, pz = px + step * ex / size, py + step * ey / size, pz + step * ez / size
            # Keep out of the skull: at the end a strand lies `layer` over it.
            far = np.sqrt(px * px + py * py + pz * pz)
            floor = _radius(px, py, pz, table) + layer[s] * min(1.0, 0.25 + 2.0 * k / steps)
            if far < floor or py > hangs:  # hair lies down on the head unless it is stiff
                pull = (floor if far < floor else far + lie * (floor - far)) / far
                px, py, pz = px * pull, py * pull, pz * pull
            else:  # long hair hangs down from where the head is widest
                out = np.sqrt(px * px + pz * pz) + 1e-9
                widest = _radius(px, 0.0, pz, table) + 0.6 * layer[s]
                if out > widest:
                    pull = (out + 0.35 * (widest - out)) / out
                    px, pz = px * pull, pz * pull
            mx, my, mz = px - ox, py - oy, pz - oz
            size = np.sqrt(mx * mx + my * my + mz * mz) + 1e-9
            dx, dy, dz = 0.55 * dx + 0.45 * mx / size, 0.55 * dy + 0.45 * my / size, 0.55 * dz + 0.45 * mz / size
            size = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            dx, dy, dz = dx / size, dy / size, dz / size
            if py + centre[1] < lowest[s]:
                break
            if pz > 0.55 * abs(px) and pz > 0.35 and py + centre[1] < fringe[s]:
                break
            points[s, k, 0], points[s, k, 1], points[s, k, 2] = px + centre[0], py + centre[1], pz + centre[2]
            n = k + 1
        used[s] = n


@cache
def _skull(ears: bool) -> tuple[np.ndarray, np.ndarray]:
    """The triangles hair must keep out of, with the ears or without, and weights of the points tried on each."""
    model = mesh()
    whole = model.template[model.triangles]
    rows = (model.part == SKIN) & (whole.min(axis=1)[:, 1] > -1.25)
    if not ears:
        rows &= np.abs(whole).max(axis=1)[:, 0] < 0.8
    third = np.linspace(0, 1, 4)
    grid = np.array([(a, b, 1 - a - b) for a in third for b in third if a + b <= 1.001], np.float32)
    return model.triangles[rows], grid


def _radii(vertices: np.ndarray, centre: np.ndarray, *, ears: bool) -> np.ndarray:
    """The skull's radius (dm) by elevation and azimuth."""
    triangles, grid = _skull(ears)
    place = np.einsum("gk,tkc->tgc", grid, vertices[triangles]).reshape(-1, 3) - centre
    radius = np.linalg.norm(place, axis=1)
    a = ((np.arctan2(place[:, 0], place[:, 2]) / (2 * np.pi) + 0.5) * _AZIMUTHS).astype(int) % _AZIMUTHS
    e = (np.arctan2(place[:, 1], np.hypot(place[:, 0], place[:, 2])) / np.pi + 0.5) * _ELEVATIONS
    table = np.zeros((_ELEVATIONS, _AZIMUTHS), np.float32)
    np.maximum.at(table, (np.clip(e.astype(int), 0, _ELEVATIONS - 1), a), radius)
    for _ in range(8):  # empty cells take their neighbours' mean
        empty = table == 0
        if not empty.any():
            break
        padded = np.pad(np.pad(table, ((0, 0), (1, 1)), mode="wrap"), ((1, 1), (0, 0)), mode="edge")
        around = [
            padded[1 + i : 1 + i + _ELEVATIONS, 1 + j : 1 + j + _AZIMUTHS] for i in (-1, 0, 1) for j in (-1, 0, 1)
        ]
        count = sum((cell > 0).astype(np.float32) for cell in around)
        table = np.where(empty & (count > 0), sum(around) / np.maximum(count, 1), table)
    if ears:  # hair that covers the ears hangs over them in one sweep
        for _ in range(2):
            padded = np.pad(np.pad(table, ((0, 0), (2, 2)), mode="wrap"), ((2, 2), (0, 0)), mode="edge")
            around = [
                padded[2 + i : 2 + i + _ELEVATIONS, 2 + j : 2 + j + _AZIMUTHS] for i in (-2, 0, 2) for j in (-2, 0, 2)
            ]
            table = np.maximum(0.97 * table, np.mean(around, axis=0))
    return table


@dataclass(frozen=True)
class Strands:
    points: Float[np.ndarray, "strands steps 3"]  # dm, the head's frame
    lengths: Int[np.ndarray, " strands"]
    colour: Float[np.ndarray, "strands 3"]
    layer: Float[np.ndarray, " strands"]  # 0 deep in the hair .. 1 on top
    centre: Float[np.ndarray, " 3"]


def receded(complexion: Complexion, age: float) -> float:
    """How far the hairline has gone back, 0..1."""
    return complexion.receding * rises(age, 22, 68)


def density(complexion: Complexion, age: float) -> float:
    """How much of the full hair a head has: thin in the first years and again late."""
    return (0.3 + 0.7 * rises(age, 0, 2.5)) * (1 - (0.2 + 0.3 * complexion.receding) * rises(age, 45, 90))


def grow(
    vertices: Float[np.ndarray, "vertices 3"],
    build: Build,
    complexion: Complexion,
    age: float,
    cut: Cut,
    random: np.random.Generator,
) -> Strands:
    """The hair of a head whose vertices (unturned) are given."""
    model, roots = mesh(), scalp()
    ear = np.abs(model.template[:, 0]) < 0.6
    top = (model.template[:, 1] > 0.3) & (model.template[:, 1] < 1.5) & ear
    # The skull's size against the template's, from the same vertices.
    size = float(np.ptp(vertices[top, 2]) / np.ptp(model.template[top, 2]))
    centre = np.array([0.0, 0.22 * size, vertices[top, 2].min() + 0.5 * float(np.ptp(vertices[top, 2]))], np.float32)

    corner = vertices[model.triangles[roots.triangle]]
    place = (corner * roots.weight[..., None]).sum(axis=1)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9

    bare = receded(complexion, age)
    keep = roots.luck[:, 0] < hairiness(roots.template, receding=bare, soft=0.16) * density(complexion, age)
    where, luck = roots.template[keep], roots.luck[keep]
    place, normal, clump = place[keep].astype(np.float32), normal[keep].astype(np.float32), roots.clump[keep]

    parting = float(random.choice((-0.26, 0.26, 0.0)))
    away = where - np.array([0.05, 1.05, -1.35])
    side = np.stack([np.sign(where[:, 0] - parting), np.full(len(where), -0.15), np.full(len(where), 0.2)], axis=1)
    comb = cut.crown * away / np.linalg.norm(away, axis=1, keepdims=True)
    comb = comb + cut.side * side + cut.back * np.array([0, 0.1, -1.0]) + cut.forward * np.array([0, -0.1, 1.0])
    locks = random.normal(0, 0.3, (int(roots.clump.max()) + 1, 3))
    comb = comb + locks[clump] + random.normal(0, 0.12, comb.shape)
    comb -= (comb * normal).sum(axis=1, keepdims=True) * normal
    comb /= np.linalg.norm(comb, axis=1, keepdims=True) + 1e-9

    on_top = np.clip((where[:, 1] - 0.45) / 0.35, 0, 1)
    young = 0.35 + 0.65 * rises(age, 0, 3)
    length = (cut.length[1] + on_top * (cut.length[0] - cut.length[1])) * (0.8 + 0.4 * luck[:, 1]) * size * young
    length *= 1 + 0.25 * random.normal(0, 1, int(roots.clump.max()) + 1)[clump].clip(-1, 1)
    thick = cut.thick * size * young * (0.6 + 0.4 * rises(age, 0, 4))
    layer = (luck[:, 2] * thick).astype(np.float32)
    curl = float(np.clip(max(cut.curl, complexion.curl), 0, 1))
    jitter = random.normal(0, 0.05, len(where))
    points = np.zeros((len(where), _STEPS, 3))
    used = np.zeros(len(where), np.int64)
    numbers = (
        place,
        normal,
        comb,
        length,
        layer,
        cut.lift,
        cut.lie,
        0.0 if cut.length[1] > 0.9 else -9.0,
        cut.gravity,
        curl,
        luck[:, 3] * 6.3,
    )
    table = _radii(vertices, centre, ears=cut.length[1] > 1)
    ends = (table, centre, (cut.lowest + jitter) * size, (cut.fringe + 0.6 * jitter) * size)
    _grow(*(np.float64(value) for value in (*numbers, *ends)), points, used)
    tint = hair_colour(complexion, age) * (0.8 + 0.4 * luck[:, 3:4])
    turned = np.clip((1.5 * grey_share(complexion, age) - 0.7 * luck[:, 1] - 0.3 * luck[:, 2]) / 0.5, 0, 1)[:, None]
    colour = tint + turned * (GREY * (0.75 + 0.25 * luck[:, 2:3]) - tint)
    return Strands(
        points.astype(np.float32),
        used,
        colour.astype(np.float32),
        (layer / max(thick, 1e-6)).astype(np.float32),
        centre,
    )
