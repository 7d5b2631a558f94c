"""A person in front of a camera: mesh, skin and hair to a lit picture in linear light, and its true landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from tools.built_in_people import hair as hairdo
from tools.built_in_people.album import Frame, Shot, backdrop, develop
from tools.built_in_people.head import (
    LASHES,
    LEFT_EYE,
    RIGHT_EYE,
    SKIN,
    TEETH,
    TONGUE,
    Build,
    Turn,
    mesh,
    neck_share,
    pivot,
    shape,
)
from tools.built_in_people.raster import draw_strands, interpolate, light_reach, rasterise, unit, vertex_normals
from tools.built_in_people.skin import Complexion, SkinMap, eye_colour, linear, look_up

Camera = Callable[[np.ndarray], np.ndarray]  # dm to screen points

_FINE = 2  # pixels are drawn finer by this factor, then averaged


@dataclass(frozen=True)
class Sight:
    """What the camera sees where the mesh covers a pixel; one row a pixel."""

    where: tuple[Int[np.ndarray, " pixels"], Int[np.ndarray, " pixels"]]
    part: Int[np.ndarray, " pixels"]
    template: Float[np.ndarray, "pixels 3"]
    still: Float[np.ndarray, "pixels 3"]  # dm, before the head was turned
    place: Float[np.ndarray, "pixels 3"]  # dm
    normal: Float[np.ndarray, "pixels 3"]


def _collar(template: np.ndarray, neckline: float) -> np.ndarray:
    """How far below the collar template points lie (dm; negative: above it, bare)."""
    from_neck = np.hypot(template[:, 0], template[:, 2] + 0.95)
    throat = np.clip((template[:, 2] + 0.85) / 0.2, 0, 1)
    return np.minimum(from_neck - (0.5 + 0.2 * neckline), -1.2 - 0.45 * throat - template[:, 1])


def _project(points: np.ndarray, *, distance: float, scale: float, centre: np.ndarray) -> np.ndarray:
    """Screen points (pixels, pixels, 1/dm) of points in dm; scale: pixels a dm in the plane of the eyes."""
    inverse = 1.0 / (distance - points[..., 2])
    return np.stack(
        [
            centre[0] + points[..., 0] * inverse * distance * scale,
            centre[1] - points[..., 1] * inverse * distance * scale,
            inverse,
        ],
        axis=-1,
    )


def _shadow(place: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, key: np.ndarray) -> np.ndarray:
    """How much of the key light reaches points, 0..1, with soft edges."""
    up = np.array([0.0, 1.0, 0.0])
    right = np.cross(up, key)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(key, right), key])
    scale, side = 80.0, 340
    frame = np.array([side / 2, side / 2, 50.0])  # 50 dm: so that all is before the light
    flip = np.array([scale, -scale, 1.0])
    _, _, depth = rasterise(vertices @ axes.T * flip + frame, triangles, height=side, width=side)
    rings = [(r * np.cos(a), r * np.sin(a)) for r, n in ((2.2, 3), (4.8, 5)) for a in np.arange(n) * 2 * np.pi / n]
    return light_reach(place @ axes.T * flip + frame, depth, np.array([(0.0, 0.0), *rings]), slack=0.05, soft=0.06)


def _hollow(
    depth: Float[np.ndarray, "height width"], covered: np.ndarray, scale: float
) -> Float[np.ndarray, "height width"]:
    """Ambient light that reaches a point, 0..1: less where it lies behind what is around. depth: dm, nearer larger."""
    height, width = depth.shape
    total = np.ones_like(depth)
    for radius, strength, coarse in ((0.05, 1.6, 1), (0.13, 1.1, 2), (0.35, 0.55, 4)):  # wide blurs are coarse
        size, sigma = (width // coarse, height // coarse), radius * scale / coarse
        share = cv2.resize(covered.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        held = cv2.resize(depth * covered, size, interpolation=cv2.INTER_AREA)
        mean = cv2.GaussianBlur(held, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(share, (0, 0), sigma), 1e-3)
        mean = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
        total *= 1 - np.clip(strength * (mean - depth) / radius * 0.5, 0, 0.55)
    return total


def _cloth_colour(template: np.ndarray, below: np.ndarray, shot: Shot) -> np.ndarray:
    first, second = np.array(shot.cloth, np.float32), np.array(shot.cloth_other, np.float32)
    mix = np.zeros(len(template), np.float32)
    if shot.pattern == "stripes":
        mix = (np.sin(template[:, 1] * 24) > 0.2).astype(np.float32)
    elif shot.pattern == "checks":
        mix = 0.5 * (np.sin(template[:, 0] * 20) > 0) + 0.5 * (np.sin(template[:, 1] * 20) > 0)
    elif shot.pattern == "zip":
        mix = (np.abs(template[:, 0]) < 0.05).astype(np.float32)
    hem = np.clip(1 - below / 0.09, 0, 1) * (below > 0)
    mix = np.maximum(mix, 0.6 * (hem > 0))
    return first + (second - first) * mix[:, None]


def _look(
    vertices: np.ndarray, still: np.ndarray, screen: np.ndarray, size: tuple[int, int]
) -> tuple[Sight, np.ndarray]:
    model = mesh()
    rows = model.part != LASHES
    triangles = model.triangles[rows]
    found, weight, inverse = rasterise(screen, triangles, height=size[0], width=size[1])
    rows_seen, columns_seen = np.nonzero(found >= 0)
    where = rows_seen, columns_seen
    corners, weights = triangles[found[where]], weight[where]
    values = np.concatenate([model.template, still, vertices, vertex_normals(vertices, triangles)], axis=1).astype(
        np.float32
    )
    seen = interpolate(values, corners, weights)
    return Sight(
        where, model.part[rows][found[where]], seen[:, :3], seen[:, 3:6], seen[:, 6:9], unit(seen[:, 9:])
    ), inverse


def _albedo(
    sight: Sight, vertices: np.ndarray, skin: SkinMap, complexion: Complexion, age: float, shot: Shot, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour, gloss and relief of every seen pixel, before light; root: the hair's mean colour."""
    model = mesh()
    colour = look_up(skin.colour, sight.template)
    relief = look_up(skin.relief, sight.template)[:, 0]
    gloss = look_up(skin.gloss, sight.template)[:, 0]
    back = sight.template[:, 2] < -0.6
    relief = np.where(back, 0, relief)

    # The scalp under the hair takes the hair's colour, or skin would shine through between strands.
    bare = hairdo.receded(complexion, age)
    cover = hairdo.hairiness(sight.template, receding=bare, soft=0.22) * min(
        1.0, hairdo.density(complexion, age) + 0.05
    )
    colour = colour + (0.9 * cover)[:, None] * (root * 0.55 - colour)
    gloss = gloss * (1 - cover)

    lip = model.template[model.landmarks[[62, 66]]].mean(axis=0)
    off = np.abs(sight.template - lip)
    throat = (sight.part == SKIN) & (off[:, 0] < 0.22) & (off[:, 1] < 0.12) & (sight.template[:, 2] < lip[2] - 0.1)
    colour[throat] = linear((70, 26, 24)) * 0.5

    below = _collar(sight.template, shot.neckline)
    cloth = (sight.part == SKIN) & (below > 0)
    colour[cloth] = _cloth_colour(sight.template[cloth], below[cloth], shot)
    gloss[cloth] = 0.0
    relief[cloth] = (
        0.01
        * np.sin(sight.template[cloth, 0] * 9 + 4 * sight.template[cloth, 1])
        * np.sin(sight.template[cloth, 1] * 5)
    )

    teeth, tongue = sight.part == TEETH, sight.part == TONGUE
    colour[teeth] = linear((222, 212, 196)) * (1 - 0.15 * np.clip(age / 90, 0, 1))
    colour[tongue] = linear((150, 70, 66))
    gloss[teeth], gloss[tongue] = 0.3, 0.3
    for part in (LEFT_EYE, RIGHT_EYE):
        mine = sight.part == part
        if not mine.any():
            continue
        ball = vertices[np.unique(model.triangles[model.part == part])]
        centre, radius = ball.mean(axis=0), float(np.ptp(ball[:, 0])) / 2
        # The ball's mean lies forward of its centre: its front bulges and has the denser mesh.
        centre = np.array(
            [
                (ball[:, 0].max() + ball[:, 0].min()) / 2,
                (ball[:, 1].max() + ball[:, 1].min()) / 2,
                ball[:, 2].min() + radius,
            ]
        )
        direction = unit(sight.still[mine] - centre)
        gaze = np.array([shot.gaze[0], shot.gaze[1], 1.0])
        colour[mine] = eye_colour(
            direction.astype(np.float32),
            (gaze / np.linalg.norm(gaze)).astype(np.float32),
            complexion,
            age,
            pupil=shot.pupil,
        )
        gloss[mine] = 0.0
    return colour, gloss, relief


def take(
    build: Build,
    complexion: Complexion,
    skin: SkinMap,
    age: float,
    cut: hairdo.Cut,
    shot: Shot,
    frame: Frame,
) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "68 2"]]:
    """A photo (sRGB) and the true landmarks in its pixels, iBUG order."""
    model = mesh()
    random = np.random.default_rng(shot.noise + 1)
    still = shape(build, age, expression=shot.expression, weight_shift=shot.weight_shift)
    below = _collar(model.template, shot.neckline)
    worn = np.clip(below / 0.06, 0, 1) * (below > 0)
    size = float(np.linalg.norm(still[model.landmarks[0]] - still[model.landmarks[16]])) / 1.45
    dressed = still + (0.07 * size * worn)[:, None] * vertex_normals(still, model.triangles)
    turn = Turn(shot.yaw, shot.pitch, shot.roll, pivot(still))
    vertices = turn(dressed, neck_share(turn.body))

    # Camera: the face's landmarks fill the same share of the picture at every age.
    flat = vertices[model.landmarks]
    seen = _project(flat, distance=shot.distance, scale=1.0, centre=np.zeros(2))[:, :2]
    box = np.ptp(seen, axis=0)
    scale = _FINE * shot.face / float(np.sqrt(box[0] * box[1]))
    middle = (seen.max(axis=0) + seen.min(axis=0)) / 2
    centre = _FINE * np.array(shot.place) - middle * scale + (_FINE - 1) / 2

    def camera(points: np.ndarray) -> np.ndarray:
        return _project(points, distance=shot.distance, scale=scale, centre=centre)

    height, width = frame.height * _FINE, frame.width * _FINE
    sight, inverse = _look(vertices, dressed, camera(vertices), (height, width))
    strands = hairdo.grow(still, build, complexion, age, cut, random)
    root = strands.colour.mean(axis=0) if len(strands.colour) else np.array(complexion.hair, np.float32)
    colour, gloss, relief = _albedo(sight, dressed, skin, complexion, age, shot, root)

    # Relief tilts the normals: its slope across the picture.
    table = np.zeros((height, width), np.float32)
    table[sight.where] = relief
    down, right = np.gradient(table)
    slope = np.stack([right, -down], axis=-1)[sight.where] * scale
    normal = sight.normal.copy()
    normal[:, :2] -= np.clip(slope, -0.8, 0.8)
    normal = unit(normal)

    key = np.array(shot.key, np.float32)
    view = unit(np.array([0, 0, shot.distance], np.float32) - sight.place)
    reach = _shadow(sight.place, vertices, model.triangles[model.part != LASHES], key)
    depth = np.where(inverse > 0, shot.distance - 1 / np.maximum(inverse, 1e-6), 0).astype(np.float32)
    hollow = _hollow(depth, inverse > 0, scale)[sight.where]

    # Light goes some way under the skin: it wraps round, the red farthest.
    facing = normal @ key
    wrap = np.array([0.34, 0.2, 0.16], np.float32)
    lit = np.clip((facing[:, None] + wrap) / (1 + wrap), 0, None)
    shade = np.where(facing[:, None] > -0.2, reach[:, None] ** np.array([0.75, 1.0, 1.05], np.float32), 1)
    sky = 0.62 + 0.38 * normal[:, 1]
    ambient = (
        shot.fill
        * sky[:, None]
        * np.array(shot.fill_colour, np.float32)
        * (hollow[:, None] ** np.array([0.85, 1.05, 1.1], np.float32))
    )
    edge = (
        np.clip(1 - (normal * view).sum(axis=1), 0, 1) ** 3
        * shot.rim
        * np.clip(-normal[:, 0] * np.sign(key[0] + 1e-6), 0, 1)
    )
    strong = 0.95 * np.array(shot.key_colour, np.float32)
    light = strong * lit * shade * (0.6 + 0.4 * hollow[:, None]) + ambient + edge[:, None] * hollow[:, None]
    half = unit(view + key)
    shine = np.clip((normal * half).sum(axis=1), 0, 1)
    spec = gloss * (0.10 * shine**14 + 0.06 * shine**50) * reach * hollow
    shown = colour * light + spec[:, None] * strong

    eye = (sight.part == LEFT_EYE) | (sight.part == RIGHT_EYE)
    if eye.any():
        smooth = sight.normal[eye]
        glint = np.clip((smooth * half[eye]).sum(axis=1), 0, 1) ** 140 * 1.1
        lid = np.clip(hollow[eye], 0, 1)[:, None]
        shown[eye] = (
            colour[eye] * (0.35 + 0.65 * lid) * (0.5 * light[eye] + 0.5 * (0.65 + 0.5 * shot.fill)) + glint[:, None]
        )

    teeth = sight.part == TEETH  # the lips' shade is soft: teeth shine in it
    shown[teeth] = 0.85 * colour[teeth] * (0.35 + 0.35 * shot.fill + 0.3 * lit[teeth])
    picture = backdrop(shot, width=width, height=height).astype(np.float32)
    picture[sight.where] = shown
    depth_at = inverse.astype(np.float32)
    _comb_in(strands, turn, camera, key, shot, picture, depth_at)
    _lashes(vertices, camera, picture, depth_at)
    small = cv2.resize(picture, (frame.width, frame.height), interpolation=cv2.INTER_AREA)
    landmarks = (camera(flat)[:, :2] - (_FINE - 1) / 2) / _FINE
    return develop(small, shot), landmarks.astype(np.float32)


def _comb_in(
    strands: hairdo.Strands,
    turn: Turn,
    camera: Camera,
    key: np.ndarray,
    shot: Shot,
    picture: np.ndarray,
    depth_at: np.ndarray,
) -> None:
    """Draws the hair into picture and depth_at."""
    count, steps = strands.points.shape[:2]
    points = turn(strands.points.reshape(-1, 3)).reshape(count, steps, 3)
    ahead = np.diff(points, axis=1, append=points[:, -1:])
    ahead[:, -1] = ahead[:, -2]
    ahead /= np.linalg.norm(ahead, axis=2, keepdims=True) + 1e-9
    middle = turn(strands.centre[None])[0]
    out = points - middle
    out /= np.linalg.norm(out, axis=2, keepdims=True) + 1e-9
    along = ahead @ key
    soft = np.sqrt(np.clip(1 - along**2, 0, 1)) * np.clip(0.45 + 0.55 * (out @ key), 0.05, 1)
    view = np.array([0, 0, 1.0], np.float32)
    half = (key + view) / np.linalg.norm(key + view)
    sheen = np.clip(1 - (ahead @ half + 0.05) ** 2, 0, 1) ** 30 * np.clip(0.2 + 0.8 * (out @ half), 0, 1)
    deep = (0.42 + 0.58 * strands.layer)[:, None, None]
    near = np.linspace(0.7, 1.05, steps, dtype=np.float32)[None, :, None]
    strong = np.array(shot.key_colour, np.float32)
    sky = shot.fill * (0.6 + 0.4 * out[..., 1:2]) * np.array(shot.fill_colour, np.float32)
    light = 0.95 * soft[..., None] * strong + 0.8 * sky
    colour = (
        strands.colour[:, None] * light * deep * near
        + 0.05 * sheen[..., None] * strong * (0.3 + strands.colour[:, None]) * deep
    )
    screen = camera(points)
    draw_strands(screen, colour, strands.lengths, image=picture, depth_at=depth_at, bias=0.0015, wide=2)


def _lashes(vertices: np.ndarray, camera: Camera, picture: np.ndarray, depth_at: np.ndarray) -> None:
    """Short dark lines at the rim of the lids."""
    model = mesh()
    for corners, up, count in (
        ((36, 37, 38, 39), 1, 26),
        ((45, 44, 43, 42), 1, 26),
        ((36, 41, 40, 39), -1, 14),
        ((45, 46, 47, 42), -1, 14),
    ):
        rim = vertices[model.landmarks[list(corners)]]
        span = float(np.linalg.norm(rim[0] - rim[-1]))
        place = np.linspace(0.02, 2.9, count)
        low = np.minimum(place.astype(int), 2)
        t = (place - low)[:, None]
        root = rim[low] + t * (rim[low + 1] - rim[low]) + np.array([0, 0, 0.01])
        out = (root - rim.mean(axis=0)) * np.array([1.0, 0.3, 0]) * 0.35
        reach = span * (0.1 if up > 0 else 0.05)
        tip = root + out * (reach / span * 4) + np.array([0, up * reach * 0.9, reach * 0.9])
        points = np.stack([root, (root + tip) / 2 + np.array([0, -0.1 * up * reach, 0.1 * reach]), tip], axis=1)
        colour = np.full(points.shape, 0.012 if up > 0 else 0.03, np.float32)
        draw_strands(camera(points), colour, np.full(count, 3), image=picture, depth_at=depth_at, bias=0.002)
