"""Skin, lips, brows and eyes: colours and relief painted on the front of the template face.

A map is a picture of the template seen from the front (`SCALE` pixels a decimetre); every pixel of a photo looks up
the map where its point lies on the template, so what is painted once sits on every face at every age. Colours are
linear light, 0..1, RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from tools.built_in_people.head import Build, mesh

Number = int | float | np.floating

SCALE = 160.0  # pixels a dm
_LEFT, _TOP = -1.1, 1.25  # dm: where the map begins
WIDTH, HEIGHT = 352, 480


@dataclass(frozen=True)
class Complexion:
    """What skin, eyes and hair keep over a person's ages."""

    melanin: float  # 0 fair .. 1 deep
    warmth: float  # -1 pink .. 1 olive
    redness: float
    freckles: float
    moles: int
    iris: tuple[float, float, float]
    hair: tuple[float, float, float]  # linear RGB, as a young adult
    fair_child: float  # how much fairer the hair is in childhood
    curl: float  # 0 straight .. 1 tight
    grey_from: float  # years
    grey_over: float  # years from the first grey to all grey
    receding: float  # 0 never .. 1 early and far
    brows: float  # thickness
    beard: float  # 0 none .. 1 dark shadow
    lips: tuple[float, float, float]  # what the skin's colour is multiplied by
    wrinkles: float  # 1 = as most
    marks: int  # seed of what is scattered on the skin


@dataclass(frozen=True)
class SkinMap:
    """A face's paint: colour (linear RGB), relief (dm), gloss 0..1."""

    colour: Float[np.ndarray, "height width 3"]
    relief: Float[np.ndarray, "height width"]
    gloss: Float[np.ndarray, "height width"]


def linear(srgb: Sequence[int | float] | np.ndarray) -> np.ndarray:
    """Linear light of an 8-bit sRGB colour, by the plain 2.2 power."""
    return (np.asarray(srgb, np.float32) / 255) ** 2.2


_SKINS = np.stack(
    [linear(c) for c in ((240, 204, 186), (224, 178, 150), (188, 138, 106), (138, 100, 78), (88, 64, 52))]
)
_HAIRS = [(28, 24, 24), (44, 32, 26), (78, 54, 38), (112, 78, 50), (168, 128, 82), (205, 170, 118), (140, 66, 34)]
_IRISES = [(52, 32, 20), (78, 50, 28), (110, 84, 48), (98, 108, 72), (92, 122, 140), (110, 140, 170)]


def _three(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def draw_complexion(build: Build, random: np.random.Generator) -> Complexion:
    """A complexion at random, as ancestry makes it likely."""
    african, asian, caucasian = build.ancestry
    melanin = 0.92 * african + 0.36 * asian + 0.14 * caucasian + random.normal(0, 0.07)
    fair = caucasian**2
    hair_odds = np.array([african + asian, 0.8, 0.5, fair, fair * 0.9, fair * 0.5, fair * 0.22])
    iris_odds = np.array([african + asian, 0.7, 0.35, fair * 0.6, fair * 0.8, fair * 0.8])
    hair = linear(_HAIRS[random.choice(len(_HAIRS), p=hair_odds / hair_odds.sum())]) * random.uniform(0.85, 1.2)
    iris = linear(_IRISES[random.choice(len(_IRISES), p=iris_odds / iris_odds.sum())]) * random.uniform(0.85, 1.2)
    male = build.male > 0.5
    return Complexion(
        melanin=float(np.clip(melanin, 0, 1)),
        warmth=float(random.normal(0, 0.4)),
        redness=float(random.uniform(0.3, 1)),
        freckles=float(max(0, random.normal(-0.3, 0.6)) * fair),
        moles=int(random.poisson(1.6)),
        iris=_three(iris),
        hair=_three(hair),
        fair_child=float(random.uniform(0, 0.9) * fair),
        curl=float(np.clip(0.9 * african + random.normal(0.12, 0.2), 0, 1)),
        grey_from=float(random.normal(38, 4)),
        grey_over=float(random.uniform(24, 34)),
        receding=float(np.clip(random.normal(0.45, 0.3), 0, 1)) if male else 0.0,
        brows=float(random.uniform(0.7, 1.3) * (1.15 if male else 0.85)),
        beard=float(random.uniform(0, 0.8)) if male else 0.0,
        lips=_three(np.array((0.98, 0.68, 0.66) if male else (0.98, 0.54, 0.54)) + random.normal(0, 0.04, 3)),
        wrinkles=float(np.clip(random.normal(1.1, 0.1), 0.8, 1.4)),
        marks=int(random.integers(2**31)),
    )


def rises(age: Number, start: Number, end: Number) -> float:
    """0 up to `start` years, 1 from `end` years, a straight line between."""
    return float(np.clip((age - start) / (end - start), 0, 1))


def hair_colour(complexion: Complexion, age: float) -> np.ndarray:
    """The colour of hair that has not turned grey: fairer in childhood, linear RGB."""
    fair = complexion.fair_child * (1 - rises(age, 3, 17))
    colour = np.array(complexion.hair, np.float32)
    return colour + fair * 0.55 * (linear((214, 184, 136)) - colour)


def grey_share(complexion: Complexion, age: float) -> float:
    """Which share of the hairs has turned grey."""
    return rises(age, complexion.grey_from, complexion.grey_from + complexion.grey_over) ** 1.1


GREY = linear((196, 194, 190))


def to_map(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
    """Map pixels of points of the template (x, y in dm)."""
    return np.stack([(points[:, 0] - _LEFT) * SCALE, (_TOP - points[:, 1]) * SCALE], axis=1).astype(np.float32)


def _blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), sigma)


def _noise(random: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise over the map, mean 0, deviation about 1, with features of WIDTH/cells pixels."""
    coarse = random.normal(0, 1, (cells * HEIGHT // WIDTH + 2, cells + 2)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) * 1.3


def _blob(centre: tuple[Number, Number], wide: float, high: float) -> np.ndarray:
    """A Gaussian hill of height 1 on the map; all in dm."""
    px, py = to_map(np.array([centre]))[0]
    across = np.exp(-(((np.arange(WIDTH, dtype=np.float32) - px) / (wide * SCALE)) ** 2) / 2)
    down = np.exp(-(((np.arange(HEIGHT, dtype=np.float32) - py) / (high * SCALE)) ** 2) / 2)
    return down[:, None] * across


def _curve(canvas: np.ndarray, points: np.ndarray, width: float, strength: Number) -> None:
    """Adds a soft line through the points (dm) that fades at both ends; width in dm."""
    fine = np.linspace(0, len(points) - 1, 24)
    low = np.minimum(fine.astype(int), len(points) - 2)
    # A Catmull-Rom spline, so that a few points make a smooth fold.
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = (fine - low)[:, None]
    a, b, c, d = padded[low], padded[low + 1], padded[low + 2], padded[low + 3]
    path = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    pixel = np.round(to_map(path) * 16).astype(np.int32)
    fade = np.minimum(1, 4 * np.minimum(np.linspace(0, 1, 24), np.linspace(1, 0, 24)) + 0.1)
    for k in range(23):
        layer = float(strength * (fade[k] + fade[k + 1]) / 2)
        cv2.line(canvas, pixel[k].tolist(), pixel[k + 1].tolist(), layer, max(1, round(width * SCALE)), cv2.LINE_AA, 4)


def _mirrored(points: np.ndarray, side: int) -> np.ndarray:
    return points * (side, 1)


def _folds(age: float, complexion: Complexion, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fine lines and broad folds of a face (map, 0..1), as deep as age and person make them."""
    corner = mesh().template[mesh().landmarks][:, :2]
    fine = np.zeros((HEIGHT, WIDTH), np.float32)
    broad = np.zeros((HEIGHT, WIDTH), np.float32)
    deep = complexion.wrinkles
    forehead = deep * rises(age, 26, 72)
    for k in range(5):  # drawn at every age, with strength 0 in youth, so that a person's lines stay where they are
        level, tilt = 0.36 + 0.085 * k + random.normal(0, 0.012), random.normal(0, 0.015)
        reach, own = random.uniform(0.32, 0.55), random.uniform(0.55, 1.0)
        x = np.linspace(-reach, reach, 6)
        y = level + 0.05 * np.cos(x * 3.2) + tilt * x / reach + random.normal(0, 0.008, 6)
        _curve(fine, np.stack([x, y], 1), 0.022, own * forehead)
    for side in (-1, 1):
        outer = corner[45] * (side, 1) if side == 1 else corner[36]
        crow = deep * rises(age, 28, 72)
        for angle in (-0.75, -0.4, -0.08, 0.25, 0.6):
            spread, reach = angle + random.normal(0, 0.07), random.uniform(0.16, 0.3)
            start = outer + np.array([side * 0.055, 0.0]) + 0.03 * np.array([0, np.sin(spread)])
            end = start + reach * np.array([side * np.cos(spread), np.sin(spread)])
            bend = (start + end) / 2 + np.array([0, -0.012])
            _curve(fine, np.stack([start, bend, end]), 0.016, crow * random.uniform(0.6, 1))
        inner = corner[42] if side == 1 else corner[39]
        bag = deep * rises(age, 24, 70)
        for k in range(3):
            drop = 0.10 + 0.065 * k + random.normal(0, 0.008)
            line = np.array([[0.05, -0.05 - drop * 0.7], [0.16, -0.09 - drop], [0.3, -0.03 - drop * 0.75]])
            _curve(broad if k == 1 else fine, inner + line * (side, 1), 0.02, bag * (0.6, 0.6, 0.35)[k])
        nose, mouth = corner[35 if side == 1 else 31], corner[54 if side == 1 else 48]
        smile = deep * (0.12 + 0.88 * rises(age, 18, 66))
        fold = np.stack(
            [
                nose + np.array([side * 0.07, 0.10]),
                nose + np.array([side * 0.17, -0.02]),
                mouth + np.array([side * 0.12, 0.07]),
                mouth + np.array([side * 0.12, -0.07]),
            ]
        )
        _curve(broad, fold + random.normal(0, 0.008, fold.shape), 0.035, smile)
        sad = deep * rises(age, 38, 76)
        fold = np.stack(
            [
                mouth + np.array([side * 0.03, -0.02]),
                mouth + np.array([side * 0.06, -0.12]),
                mouth + np.array([side * 0.05, -0.24]),
            ]
        )
        _curve(broad, fold, 0.026, sad)
        frown = deep * rises(age, 30, 72)
        brow = np.array([side * 0.065, 0.13])
        _curve(
            fine,
            np.stack([brow, brow + np.array([side * 0.01, 0.09]), brow + np.array([side * 0.025, 0.17])]),
            0.018,
            frown * random.uniform(0.5, 1),
        )
        cheek = deep * rises(age, 50, 85)
        for _ in range(5):
            start = np.array([side * random.uniform(0.4, 0.62), random.uniform(-0.75, -0.25)])
            end = start + np.array([side * random.uniform(-0.02, 0.08), -random.uniform(0.12, 0.26)])
            _curve(
                fine,
                np.stack([start, (start + end) / 2 + (side * 0.02, 0), end]),
                0.014,
                cheek * random.uniform(0.4, 0.9),
            )
    lips = deep * rises(age, 48, 82)
    for x in np.linspace(-0.2, 0.2, 9):
        start = np.array([x + random.normal(0, 0.008), corner[51, 1] + 0.03])
        _curve(fine, np.stack([start, start + np.array([0.15 * x, 0.1])]), 0.012, 0.7 * lips * random.uniform(0.4, 1))
    chin = deep * rises(age, 36, 78)
    x = np.linspace(-0.2, 0.2, 5)
    _curve(broad, np.stack([x, corner[57, 1] - 0.13 - 0.25 * x**2], 1), 0.03, 0.8 * chin)
    return _blur(fine, 1.1), _blur(broad, 2.1)


def _brows(colour: np.ndarray, age: float, complexion: Complexion, random: np.random.Generator) -> np.ndarray:
    corner = mesh().template[mesh().landmarks][:, :2]
    full = 0.35 + 0.65 * rises(age, 0, 16)
    grey = 0.65 * grey_share(complexion, age - 6)
    strokes = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    cover = np.zeros((HEIGHT, WIDTH), np.float32)
    hair = hair_colour(complexion, age)
    dark = np.minimum(hair * 0.8, 0.2)
    thick = 0.05 * complexion.brows * full
    for side, row in ((-1, corner[17:22]), (1, corner[26:21:-1])):
        row = row * (0.96, 0.6) + (0, 0.4 * row[:, 1].mean() - 0.03)
        for _ in range(170):
            along, across = random.beta(1.1, 1.3), random.normal(0, 0.5)
            turned, bushy = random.uniform() < grey, random.uniform(0.8, 1.3)
            if random.uniform() > full * (1.0 - 0.25 * rises(age, 60, 90)) * (1 if along > 0.15 else 0.6):
                continue
            place = along * 4
            low = min(int(place), 3)
            base = row[low] + (place - low) * (row[low + 1] - row[low])
            taper = min(1.0, 0.35 + 2.2 * along)  # along = 0 is the tail
            start = base + np.array([0, thick * taper * across])
            lean = np.array([side * (0.06 - 0.015 * along), 0.045 * along - 0.02 * (1 - along) - 0.03 * across])
            end = start + lean * (0.65 + 0.35 * full) * bushy
            shade = GREY * 0.55 if turned else dark * random.uniform(0.75, 1.3)
            a, b = (np.round(to_map(np.array([start, end])) * 16).astype(np.int32)).tolist()
            cv2.line(strokes, a, b, [float(value) for value in shade], 1, cv2.LINE_AA, 4)
            cv2.line(cover, a, b, 1.0, 1, cv2.LINE_AA, 4)
    strokes = _blur(strokes, 0.7)
    cover = _blur(cover, 0.7)
    alpha = np.clip(cover * 1.25, 0, 0.2 + 0.65 * full)[..., None]
    return colour * (1 - alpha) + strokes / np.maximum(cover[..., None], 1e-3) * alpha


def _lips() -> np.ndarray:
    """The red of the lips on the map, 0..1."""
    corner = to_map(mesh().template[mesh().landmarks][:, :2])
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.fillPoly(mask, [np.round(corner[48:60] * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return mask


def paint(complexion: Complexion, build: Build, age: float) -> SkinMap:
    """The face of a person at an age, without light. A person's marks and lines stay in their places."""
    random = np.random.default_rng(complexion.marks)
    tone = np.stack(
        [np.interp(complexion.melanin, np.linspace(0, 1, len(_SKINS)), _SKINS[:, c]) for c in range(3)]
    ).astype(np.float32)
    tone = tone * (1 + 0.05 * complexion.warmth * np.array([-0.2, 0.3, -1.2], np.float32))
    colour = np.tile(tone, (HEIGHT, WIDTH, 1))
    corner = mesh().template[mesh().landmarks][:, :2]

    # Blood: cheeks, nose, chin; it shows less through dark skin.
    rosy = complexion.redness * (1 - 0.8 * complexion.melanin)
    blood = 0.7 * (_blob((-0.42, -0.45), 0.16, 0.14) + _blob((0.42, -0.45), 0.16, 0.14))
    blood += 0.65 * _blob((0.0, corner[30, 1]), 0.12, 0.12) + 0.35 * _blob((0.0, corner[8, 1] + 0.1), 0.16, 0.1)
    blood += 0.3 * (_blob((-0.85, -0.2), 0.1, 0.25) + _blob((0.85, -0.2), 0.1, 0.25))
    blotches = np.stack([_noise(random, 14), _noise(random, 40)])
    uneven = 0.02 + 0.05 * rises(age, 30, 80)
    colour *= 1 - (blood * rosy * (0.8 + 0.2 * blotches[0]))[..., None] * np.array([0.0, 0.22, 0.2], np.float32)
    colour *= 1 + (uneven * (blotches[0] + 0.6 * blotches[1]))[..., None] * np.array([0.8, 1.1, 1.2], np.float32)

    # Rings under the eyes and shade of the lids.
    ring = _blob((-0.29, -0.13), 0.12, 0.055) + _blob((0.29, -0.13), 0.12, 0.055)
    lid = _blob((-0.29, 0.075), 0.14, 0.045) + _blob((0.29, 0.075), 0.14, 0.045)
    colour *= 1 - (ring * (0.1 + 0.25 * rises(age, 20, 75)))[..., None] * np.array([0.7, 1.0, 0.85], np.float32)
    colour *= 1 - (lid * 0.22)[..., None] * np.array([0.7, 1.0, 1.0], np.float32)

    # Freckles and moles are a person's; spots come with age, always in the same places.
    def dots(count: int, size: tuple[float, float], where: tuple[float, float, float, float], shade: float) -> None:
        layer = np.zeros((HEIGHT, WIDTH), np.float32)
        for _ in range(count):
            x, y = random.uniform(where[0], where[1]), random.uniform(where[2], where[3])
            radius = random.uniform(*size) * SCALE
            px, py = to_map(np.array([[x, y]]))[0]
            axes = (max(1, round(radius)), max(1, round(radius * random.uniform(0.6, 1))))
            cv2.ellipse(
                layer,
                (round(float(px)), round(float(py))),
                axes,
                float(random.uniform(0, 180)),
                0,
                360,
                float(random.uniform(0.4, 1)),
                -1,
            )
        layer = _blur(layer, 0.9)
        nonlocal colour
        colour = colour * (1 - (layer * shade)[..., None] * np.array([0.55, 0.8, 0.9], np.float32))

    dots(int(90 * complexion.freckles), (0.006, 0.012), (-0.6, 0.6, -0.6, 0.1), 0.4 * rises(age, 2, 8))
    dots(complexion.moles, (0.011, 0.02), (-0.6, 0.6, -1.0, 0.6), 0.8)
    spots = rises(age, 44, 85)
    dots(28, (0.015, 0.045), (-0.7, 0.7, -0.2, 0.8), 0.4 * spots * (0.5 + 0.5 * complexion.wrinkles))
    dots(14, (0.015, 0.04), (-0.7, 0.7, -0.9, -0.2), 0.36 * spots * (0.5 + 0.5 * complexion.wrinkles))

    if complexion.beard > 0:
        jaw = np.clip(_blob((0.0, -0.95), 0.55, 0.28) * 1.5 + _blob((0.0, corner[33, 1] - 0.08), 0.2, 0.05), 0, 1)
        jaw *= 0.85 + 0.15 * _noise(random, 160)
        shadow = complexion.beard * rises(age, 15, 24) * (1 - 0.4 * grey_share(complexion, age))
        colour *= 1 - (0.42 * np.clip(jaw, 0, 1) * shadow)[..., None] * np.array([1.0, 0.95, 0.85], np.float32)

    lips = _blur(_lips(), 1.5)
    pale = 0.5 * rises(age, 40, 85)
    red = np.array(complexion.lips, np.float32) + pale * (1 - np.array(complexion.lips, np.float32)) * 0.8
    colour *= 1 - lips[..., None] * (1 - red)
    line = np.zeros((HEIGHT, WIDTH), np.float32)
    inner = corner[[48, 60, 61, 62, 63, 64, 54]]
    _curve(line, inner, 0.012, 0.7)
    line = _blur(line, 1.0)

    fine, broad = _folds(age * build.ageing**0.3, complexion, random)
    dark = 0.42 * fine + 0.34 * broad + 0.5 * line
    colour *= 1 - np.clip(dark, 0, 0.75)[..., None] * np.array([0.75, 1.0, 1.05], np.float32)
    colour = _brows(colour, age, complexion, random)

    # Below the map lies the throat, which repeats its last row: that row must be plain, or it would be streaked.
    plain = np.clip((HEIGHT - 1 - np.arange(HEIGHT, dtype=np.float32)) / 50, 0, 1)[:, None]
    colour = tone + plain[..., None] * (colour - tone)
    pores = _noise(random, 130) * (0.0002 + 0.0005 * rises(age, 15, 80)) + _noise(random, 60) * 0.0005 * rises(
        age, 45, 90
    )
    relief = plain * (pores - 0.02 * fine - 0.026 * broad)
    gloss = np.clip(
        0.35 + 0.45 * _blob((0.0, -0.1), 0.12, 0.5) + 0.25 * _blob((0.0, 0.45), 0.4, 0.2) + 0.6 * lips, 0, 1
    )
    gloss = gloss * (1 - 0.3 * rises(age, 40, 85))
    return SkinMap(
        colour=np.clip(colour, 0.004, 1).astype(np.float32),
        relief=relief.astype(np.float32),
        gloss=gloss.astype(np.float32),
    )


def look_up(table: np.ndarray, template: Float[np.ndarray, "points 3"]) -> np.ndarray:
    """Values of a map at points of the template (dm); past its border the border's."""
    where = to_map(template[:, :2])
    # OpenCV's remap takes at most 32,767 columns: fold the list into rows.
    columns = 1024
    rows = -(-len(where) // columns)
    padded = np.zeros((rows * columns, 2), np.float32)
    padded[: len(where)] = where
    grid = padded.reshape(rows, columns, 2)
    found = cv2.remap(table, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(rows * columns, -1)[: len(where)]


def eye_colour(
    direction: Float[np.ndarray, "points 3"],
    gaze: Float[np.ndarray, " 3"],
    complexion: Complexion,
    age: float,
    *,
    pupil: float,
) -> Float[np.ndarray, "points 3"]:
    """Colours of eyeball points given as unit directions from the eyeball's centre.

    gaze: unit direction of the look; pupil: its radius as a share of the iris.
    """
    off = np.linalg.norm(direction - (direction @ gaze)[:, None] * gaze, axis=1)
    off = np.where(direction @ gaze > 0, off, 2.0) / 0.47  # 1 at the rim of the iris
    around = np.arctan2(direction[:, 1] - gaze[1], direction[:, 0] - gaze[0])
    white = linear((232, 226, 220)) * (1 - 0.12 * rises(age, 30, 85) * np.array([0.3, 0.6, 1.2], np.float32))
    ray = 0.85 + 0.12 * np.sin(around * 17) + 0.08 * np.sin(around * 31 + 1)
    iris = np.array(complexion.iris, np.float32) * (ray * (1.25 - 0.45 * off))[:, None]
    rim = np.clip((off - 0.78) / 0.2, 0, 1)[:, None]
    iris = iris * (1 - 0.65 * rim)
    # With the years a pale ring clouds the rim of the iris.
    iris = iris + 0.12 * rises(age, 55, 85) * rim * (white - iris)
    dark = np.clip((pupil - off) / 0.06, 0, 1)[:, None]
    iris = iris * (1 - dark) + 0.004 * dark
    share = np.clip((1.04 - off) / 0.08, 0, 1)[:, None]
    veins = np.clip((off - 1.2) / 1.2, 0, 1)[:, None] * np.array([0.0, 0.16, 0.18], np.float32)
    return (white * (1 - veins)) * (1 - share) + iris * share
