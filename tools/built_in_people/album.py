"""The circumstances of a photo: pose, look, clothes, light, background, camera, and what the years did to the print.

Nothing here knows the age of the person in the picture: every draw has the same distribution at every age.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tools.built_in_people.skin import linear


@dataclass(frozen=True)
class Frame:
    """The size and crop of a kind of picture, in pixels."""

    width: int
    height: int
    face: float  # mean size of a face: the square root of its landmarks' box
    spread: float  # standard deviation of the log of that size
    centre: tuple[float, float]  # where the middle of the landmarks goes
    shift: float  # standard deviation of that place
    roll: float  # standard deviation, radians
    file_bytes: tuple[int, int]  # smallest and largest file


PEOPLE = Frame(180, 200, 84.0, 0.08, (90.0, 118.0), 5.5, 0.09, (4100, 5700))
STRANGERS = Frame(144, 144, 72.0, 0.05, (72.0, 84.0), 2.0, 0.035, (2150, 3100))


@dataclass(frozen=True)
class Shot:
    """One photo's circumstances. Angles are radians, distances dm, colours linear RGB."""

    yaw: float
    pitch: float
    roll: float
    expression: dict[str, float]
    gaze: tuple[float, float]
    pupil: float
    distance: float
    face: float  # pixels
    place: tuple[float, float]  # pixels
    key: tuple[float, float, float]  # unit direction to the light
    key_colour: tuple[float, float, float]
    fill: float
    fill_colour: tuple[float, float, float]
    rim: float
    weight_shift: float
    cloth: tuple[float, float, float]
    cloth_other: tuple[float, float, float]
    pattern: str
    neckline: float
    background: int  # seed
    backdrop: str
    grey: bool
    faded: float
    cast: tuple[float, float, float]
    exposure: float
    contrast: float
    blur: float
    grain: float
    vignette: float
    file_bytes: int
    noise: int  # seed


def _cloth(random: np.random.Generator) -> tuple[float, float, float]:
    hue = np.array([[[random.integers(180), random.integers(0, 190), random.integers(40, 235)]]], np.uint8)
    red, green, blue = (float(value) for value in linear(cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0]))
    return red, green, blue


def _expression(random: np.random.Generator) -> dict[str, float]:
    """A look as people have before a camera, as ARKit weights: mostly a smile or none."""
    kind = random.choice(["rest", "smile", "laugh", "brows", "stern"], p=[0.3, 0.42, 0.14, 0.1, 0.04])
    amount = float(random.uniform(0.35, 1))
    both: dict[str, float] = {}
    if kind in ("smile", "laugh"):
        both |= {"mouthSmile": 0.75 * amount, "cheekSquint": 0.4 * amount, "eyeSquint": 0.1 * amount}
    if kind == "laugh":
        both |= {"mouthUpperUp": 0.4 * amount, "mouthLowerDown": 0.25 * amount, "mouthStretch": 0.15 * amount}
    if kind == "brows":
        both |= {"browOuterUp": 0.4 * amount}
    if kind == "stern":
        both |= {"browDown": 0.3 * amount, "mouthFrown": 0.1 * amount}
    both["eyeWide"] = float(random.uniform(0.05, 0.32))
    both["eyeBlink"] = float(np.clip(random.normal(0.0, 0.07), 0, 0.2))
    look = {f"{name}{side}": value for name, value in both.items() for side in ("Left", "Right")}
    look["jawOpen"] = float(random.uniform(0.0, 0.05)) if kind != "laugh" else 0.14 * amount
    if kind == "brows":
        look["browInnerUp"] = 0.5 * amount
    return look


def draw_shot(frame: Frame, random: np.random.Generator) -> Shot:
    """A photo's circumstances at random."""
    sun, height = random.normal(0, 0.65), random.normal(0.55, 0.3)
    key = np.array([np.sin(sun), np.clip(height, 0.0, 1.2), np.cos(sun)])
    key /= np.linalg.norm(key)
    warm = random.normal(0, 0.12)
    cool = random.normal(0, 0.08)
    tint = np.exp(random.normal(0, 0.05, 3))
    return Shot(
        yaw=float(np.clip(random.normal(0, 0.17), -0.38, 0.38)),
        pitch=float(np.clip(random.normal(0.03, 0.09), -0.18, 0.22)),
        roll=float(np.clip(random.normal(0, frame.roll), -2.2 * frame.roll, 2.2 * frame.roll)),
        expression=_expression(random),
        gaze=(float(random.normal(0, 0.07)), float(random.normal(0, 0.05))),
        pupil=float(random.uniform(0.3, 0.5)),
        distance=float(random.uniform(7, 16)),
        face=float(frame.face * np.exp(np.clip(random.normal(0, frame.spread), -0.16, 0.16))),
        place=(
            float(frame.centre[0] + random.normal(0, frame.shift)),
            float(frame.centre[1] + random.normal(0, frame.shift)),
        ),
        key=(float(key[0]), float(key[1]), float(key[2])),
        key_colour=(float(1 + warm), 1.0, float(1 - warm)),
        fill=float(random.uniform(0.42, 0.8)),
        fill_colour=(float(1 - cool), 1.0, float(1 + cool)),
        rim=float(max(0.0, random.normal(0.1, 0.2))),
        weight_shift=float(random.normal(0, 0.05)),
        cloth=_cloth(random),
        cloth_other=_cloth(random),
        pattern=str(random.choice(["plain", "stripes", "checks", "zip"], p=[0.55, 0.2, 0.15, 0.1])),
        neckline=float(random.uniform(0, 1)),
        background=int(random.integers(2**31)),
        backdrop=str(random.choice(["wall", "room", "green", "bokeh", "studio", "sky"])),
        grey=bool(random.uniform() < 0.17),
        faded=float(max(0.0, random.normal(0, 0.5))) if random.uniform() < 0.5 else 0.0,
        cast=(float(tint[0]), float(tint[1]), float(tint[2])),
        exposure=float(np.exp(np.clip(random.normal(0.12, 0.18), -0.3, 0.45))),
        contrast=float(np.clip(random.normal(1.05, 0.12), 0.8, 1.3)),
        blur=float(abs(random.normal(0.15, 0.3))),
        grain=float(random.uniform(0.004, 0.022)),
        vignette=float(max(0.0, random.normal(0.08, 0.14))),
        file_bytes=int(random.integers(*frame.file_bytes)),
        noise=int(random.integers(2**31)),
    )


def backdrop(shot: Shot, *, width: int, height: int) -> Float[np.ndarray, "height width 3"]:
    """The background behind the person, out of focus; linear RGB."""
    random = np.random.default_rng(shot.background)
    w, h = width // 4, height // 4
    y, x = np.mgrid[:h, :w].astype(np.float32)
    x, y = x / w, y / h

    def hue(low: int, high: int, strong: int = 120) -> np.ndarray:
        colour = np.array([[[random.integers(180), random.integers(0, strong), random.integers(low, high)]]], np.uint8)
        return linear(cv2.cvtColor(colour, cv2.COLOR_HSV2RGB)[0, 0])

    lean = random.normal(0, 1, 2)
    slope = (lean[0] * (x - 0.5) + lean[1] * (y - 0.5))[..., None]
    first, second = hue(60, 235), hue(40, 225)
    picture = first + (second - first) * np.clip(0.5 + slope, 0, 1)
    soft = random.uniform(0.8, 2.5)
    if shot.backdrop == "room":
        for _ in range(random.integers(3, 9)):
            left, top = random.uniform(-0.3, 1), random.uniform(-0.3, 1)
            wide, high = random.uniform(0.08, 0.7), random.uniform(0.08, 0.8)
            inside = (x > left) & (x < left + wide) & (y > top) & (y < top + high)
            picture[inside] = hue(30, 245) * random.uniform(0.7, 1.1)
    elif shot.backdrop in ("green", "bokeh"):
        if shot.backdrop == "green":
            leaf = np.array([[[random.integers(28, 60), random.integers(60, 170), random.integers(50, 190)]]], np.uint8)
            picture = 0.4 * picture + 0.6 * linear(cv2.cvtColor(leaf, cv2.COLOR_HSV2RGB)[0, 0])
        for _ in range(random.integers(25, 80)):
            cx, cy, radius = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.02, 0.12)
            disc = np.clip((radius - np.hypot(x - cx, y - cy)) * 40, 0, 1)[..., None]
            picture = picture * (1 - 0.5 * disc) + 0.5 * disc * picture.mean((0, 1)) * random.uniform(0.2, 2.2)
        soft = random.uniform(0.6, 1.8)
    elif shot.backdrop == "studio":
        glow = np.exp(-((x - 0.5) ** 2 + (y - 0.45) ** 2) / 0.18)[..., None]
        picture = first * (0.35 + 0.9 * glow)
        soft = 4
    elif shot.backdrop == "sky":
        horizon = random.uniform(0.35, 0.9)
        low = hue(40, 180)
        picture = np.where((y > horizon)[..., None], low, picture)
        soft = random.uniform(1, 4)
    cloud = cv2.resize(random.normal(0, 1, (6, 6)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    picture = picture * (1 + 0.08 * cloud[..., None])
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), soft)
    return np.clip(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), 0.002, 1)


def develop(light: Float[np.ndarray, "height width 3"], shot: Shot) -> UInt8[np.ndarray, "height width 3"]:
    """The print of a picture given in linear light: exposure, film, fading, grain; sRGB."""
    random = np.random.default_rng(shot.noise)
    height, width = light.shape[:2]
    picture = light * shot.exposure * np.array(shot.cast, np.float32)
    y, x = np.mgrid[:height, :width]
    far = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2)[..., None]
    picture = picture * (1 - shot.vignette * 1.6 * far)
    # A shoulder as film has: what is bright is pressed together, not cut off.
    picture = np.where(picture > 0.6, 0.6 + 0.4 * np.tanh((picture - 0.6) / 0.4), picture)
    picture = np.clip(picture, 0, 1) ** (1 / 2.2)
    picture = 0.45 + (picture - 0.45) * shot.contrast
    if shot.grey:
        tone = picture @ np.array([0.3, 0.59, 0.11], np.float32)
        sepia = np.array([1.0, 0.93, 0.8]) if random.uniform() < 0.35 else np.ones(3)
        picture = tone[..., None] * (1 - (1 - sepia) * random.uniform(0.4, 1))
    if shot.faded:
        share = min(shot.faded, 1.0)
        paper = np.array([0.86, 0.78, 0.68]) * random.uniform(0.85, 1.1, 3)
        grey = picture.mean(axis=2, keepdims=True)
        picture = picture + 0.45 * share * (grey - picture)
        picture = picture * (1 - 0.32 * share) + 0.32 * share * paper * (0.4 + 0.6 * picture)
        picture = picture + 0.05 * share
    if shot.blur > 0.15:
        picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), min(shot.blur, 0.8))
    grain = random.normal(0, shot.grain, (height, width, 1)) + random.normal(0, 0.3 * shot.grain, (height, width, 3))
    if shot.grey:
        grain = grain.mean(axis=2, keepdims=True)
    picture = picture + cv2.GaussianBlur(np.broadcast_to(grain, picture.shape).astype(np.float32), (0, 0), 0.6)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def encode(picture: UInt8[np.ndarray, "height width 3"], *, file_bytes: int, grey: bool = False) -> bytes:
    """The picture as the best JPEG of at most file_bytes.

    The size is chosen at random first: otherwise wrinkles, which take bytes, would show the age in the file's size.
    Raises ValueError where even a poor JPEG does not fit.
    """
    image = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    if grey and (picture == picture[..., :1]).all():
        image = image[..., 0]

    def jpeg(quality: int) -> bytes:
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
        return cv2.imencode(".jpg", image, flags)[1].tobytes()

    low, high, best = 20, 96, b""
    while low <= high:
        quality = (low + high) // 2
        data = jpeg(quality)
        if len(data) <= file_bytes:
            low, best = quality + 1, data
        else:
            high = quality - 1
    quality = 19
    while not best and quality >= 5:  # a picture full of detail and grain, and a small file
        data = jpeg(quality)
        best, quality = (data if len(data) <= file_bytes else b""), quality - 1
    if not best:
        raise ValueError(f"a {image.shape[1]}x{image.shape[0]} picture does not fit {file_bytes} bytes at quality 5")
    return best
