"""Whether the synthetic people can be learned from: `python benchmarks/demo_checks.py`.

Five questions, asked of the finished files as any reader of them could: do detectors find the faces and agree with
the true landmarks, does anything but the face tell the age, does the face tell it, do strangers teach it, and is a
person recognisable? Needs the extra `dlib`; takes a few minutes on one core.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from jaxtyping import Float, Int, UInt8
from rich.progress import track
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from torch import nn

from study.align.datasets.built_in import PEOPLE, STRANGERS

SIDE = 64  # pixels of an aligned face
ADULT = 18  # years


@dataclass(frozen=True)
class Config:
    """What is checked, and how long the small networks learn."""

    people: Path = PEOPLE
    strangers: Path = STRANGERS
    epochs: int = 30
    seed: int = 0


@dataclass(frozen=True)
class Faces:
    """A data set in memory; lists run over its photos, in name order."""

    pictures: list[UInt8[np.ndarray, "height width 3"]]  # RGB
    age: Int[np.ndarray, " photos"]
    person: Int[np.ndarray, " photos"]
    file_bytes: Int[np.ndarray, " photos"]
    truth: Float[np.ndarray, "photos 68 2"] | None
    found: Float[np.ndarray, "photos 68 2"]  # dlib's landmarks; NaN where no face was found


def read_pts(path: Path) -> Float[np.ndarray, "68 2"]:
    """The points of a .pts file, pixels."""
    lines = path.read_text().split("{")[1].split("}")[0].split()
    return np.array(lines, np.float64).reshape(68, 2)


class Dlib:
    """dlib's frontal detector (as is, then enlarged once) and its 68-point predictor."""

    def __init__(self) -> None:
        import dlib

        spec = importlib.util.find_spec("face_recognition_models")
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError("face_recognition_models is not installed; pip install -e .[dlib]")
        model = Path(spec.submodule_search_locations[0]) / "models/shape_predictor_68_face_landmarks.dat"
        self.detector, self.predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(model))

    def __call__(self, picture: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "68 2"]:
        """The landmarks of the largest face, or NaN."""
        for enlarge in (0, 1):
            boxes = self.detector(picture, enlarge)
            if len(boxes):
                points = self.predictor(picture, max(boxes, key=lambda box: box.area()))
                return np.array([(points.part(k).x, points.part(k).y) for k in range(68)], np.float64)
        return np.full((68, 2), np.nan)


def load(
    folder: Path, *, points: Path | None, person_of: Callable[[str, int], int], age_of: Callable[[str], int]
) -> Faces:
    """The photos of a folder with dlib's landmarks."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".jpg")
    look = Dlib()
    pictures, found = [], []
    for path in track(paths, folder.parent.name if points else folder.name, disable=not sys.stderr.isatty()):
        pictures.append(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        found.append(look(pictures[-1]))
    return Faces(
        pictures=pictures,
        age=np.array([age_of(path.name) for path in paths]),
        person=np.array([person_of(path.name, k) for k, path in enumerate(paths)]),
        file_bytes=np.array([path.stat().st_size for path in paths]),
        truth=np.stack([read_pts(points / f"{path.stem.lower()}.pts") for path in paths]) if points else None,
        found=np.stack(found),
    )


def eye_distance(landmarks: Float[np.ndarray, "photos 68 2"]) -> Float[np.ndarray, " photos"]:
    """Between the means of the eyes' six points, pixels."""
    return np.linalg.norm(landmarks[:, 36:42].mean(axis=1) - landmarks[:, 42:48].mean(axis=1), axis=1)


def align(
    picture: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "68 2"]
) -> UInt8[np.ndarray, "side side 3"]:
    """The face turned and scaled so that its eyes lie level, 0.36 of the side apart, 0.4 from the top."""
    left, right = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    across = right - left
    scale = 0.36 * SIDE / np.hypot(*across)
    cos, sin = scale * across / np.hypot(*across)
    turn = np.array([[cos, sin], [-sin, cos]])
    shift = np.array([0.5 * SIDE, 0.4 * SIDE]) - turn @ ((left + right) / 2)
    matrix = np.concatenate([turn, shift[:, None]], axis=1)
    return cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def gain_interval(
    gain: Float[np.ndarray, " photos"], person: Int[np.ndarray, " photos"], *, seed: int
) -> tuple[float, float, float]:
    """Mean gain over photos and its 95 % interval, by a bootstrap over persons."""
    random = np.random.default_rng(seed)
    names, index = np.unique(person, return_inverse=True)
    total, count = np.bincount(index, gain), np.bincount(index)
    draws = random.integers(len(names), size=(4000, len(names)))
    means = total[draws].sum(axis=1) / count[draws].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(gain.mean()), float(low), float(high)


# ---- what is not the face ----


def surroundings(faces: Faces) -> dict[str, Float[np.ndarray, "photos features"]]:
    """Everything about a photo from which the age must not be readable."""
    if faces.truth is None:
        raise ValueError("surroundings needs the true landmarks")
    border, background, whole_colour, background_colour = [], [], [], []
    for picture, landmarks in zip(faces.pictures, faces.truth, strict=True):
        height, width = picture.shape[:2]
        y, x = np.mgrid[:height, :width]
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        centre, face = (high + low) / 2, float(np.sqrt(np.prod(high - low))) / 2
        # An ellipse round head and hair, which turns grey: that is the face's business. Its form is the same for
        # all, since the form of the face (a baby's is rounder) would tell the age through the mask.
        round_head = (x - centre[0]) / 1.75, (y - centre[1] + 0.35 * face) / 2.1
        head = np.hypot(*round_head) < face
        outside = ~head
        edge = (x < 0.08 * width) | (x >= 0.92 * width) | (y < 0.08 * height) | (y >= 0.92 * height)
        mean = picture[outside].mean(axis=0)
        masked = np.where(head[..., None], mean, picture).astype(np.float32)
        ring = np.where(edge[..., None], picture, 0).astype(np.float32)
        border.append(cv2.resize(ring, (width // 8, height // 8), interpolation=cv2.INTER_AREA).ravel())
        background.append(cv2.resize(masked, (width // 8, height // 8), interpolation=cv2.INTER_AREA).ravel())
        whole_colour.append(picture.reshape(-1, 3).mean(axis=0))
        background_colour.append(mean)
    size = np.stack([faces.file_bytes, np.log(faces.file_bytes)], axis=1)
    return {
        "border pixels": np.array(border),
        "background pixels": np.array(background),
        "file size": size,
        "mean colour of the picture": np.array(whole_colour),
        "mean colour of the background": np.array(background_colour),
    }


def ridge_gain(
    features: np.ndarray, faces: Faces, *, seed: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """What ridge regression wins over the constant guess, by cross-validation grouped over persons.

    In absolute error (years) against the training median, and in squared error against the training mean, as a
    share of that guess's; each with its 95 % interval. Positive: the features do tell something.
    """
    guess, constant, mean = (np.zeros(len(faces.age)) for _ in range(3))
    for train, test in GroupKFold(8).split(features, groups=faces.person):
        scale = StandardScaler().fit(features[train])
        ridge = RidgeCV(np.logspace(-1, 6, 15)).fit(scale.transform(features[train]), faces.age[train])
        guess[test] = ridge.predict(scale.transform(features[test]))
        constant[test], mean[test] = np.median(faces.age[train]), faces.age[train].mean()
    absolute = np.abs(constant - faces.age) - np.abs(guess - faces.age)
    squared = (mean - faces.age) ** 2 - (guess - faces.age) ** 2
    share = squared / np.mean((mean - faces.age) ** 2)
    return gain_interval(absolute, faces.person, seed=seed), gain_interval(share, faces.person, seed=seed)


# ---- the face ----


class SmallNet(nn.Module):
    """Five convolutions and a mean: faces (batch 3 64 64), 0..1, to ages in units of 20 years."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for wider in (24, 32, 64, 96, 128):
            layers += [
                nn.Conv2d(width, wider, 3, stride=1 if width == 3 else 2, padding=1),
                nn.BatchNorm2d(wider),
                nn.ReLU(),
            ]
            width = wider
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, 1))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        # Each face to mean 0 and deviation 1: exposure and fading are the print's, not the person's.
        mean, deviation = (f((1, 2, 3), keepdim=True) for f in (faces.mean, faces.std))
        return self.body((faces - mean) / (deviation + 1e-3))[:, 0]


def learn(net: SmallNet, faces: torch.Tensor, age: torch.Tensor, *, epochs: int, rate: float, seed: int) -> None:
    """Fits the network to ages (years) by absolute error, with mirrored and re-exposed faces."""
    torch.manual_seed(seed)
    steps = epochs * -(-len(faces) // 32)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(faces)).split(32):
            x = faces[batch]
            x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
            x = x * (0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)) + 0.2 * (torch.rand(len(x), 1, 1, 1) - 0.5)
            grey = x.mean(dim=1, keepdim=True)
            x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.2, grey.expand_as(x), x)
            dy, dx = (int(value) for value in torch.randint(-3, 4, (2,)))
            x = torch.roll(x, (dy, dx), (2, 3))
            loss = (net(x) - age[batch] / 20).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


@torch.inference_mode()
def tell(net: SmallNet, faces: torch.Tensor) -> np.ndarray:
    """Ages in years, the mean over each face and its mirror image."""
    net.eval()
    return (10 * (net(faces) + net(faces.flip(3)))).numpy()


def aligned(faces: Faces) -> tuple[torch.Tensor, np.ndarray]:
    """Faces (photos 3 side side), 0..1, of the photos in which dlib found one, and those photos' indices."""
    seen = np.flatnonzero(~np.isnan(faces.found[:, 0, 0]))
    stack = np.stack([align(faces.pictures[k], faces.found[k]) for k in seen])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255, seen


def recognised(faces: torch.Tensor, person: np.ndarray) -> tuple[float, float]:
    """How often the nearest other face is the same person's, and how often chance would have it.

    Grey pixels of the aligned face's middle, each face to mean 0 and deviation 1, 60 whitened principal components
    without the first two (which are light), cosine.
    """
    grey = faces.mean(dim=1).numpy()[:, 8:-4, 10:-10].reshape(len(faces), -1)
    grey = (grey - grey.mean(axis=1, keepdims=True)) / grey.std(axis=1, keepdims=True)
    parts = PCA(62, whiten=True, svd_solver="full").fit_transform(grey)[:, 2:]
    parts /= np.linalg.norm(parts, axis=1, keepdims=True)
    near = parts @ parts.T
    np.fill_diagonal(near, -np.inf)
    same = person[:, None] == person
    asked = same.sum(axis=1) > 1
    hit = person[near.argmax(axis=1)] == person
    return float(hit[asked].mean()), float(((same.sum(axis=1) - 1) / (len(person) - 1))[asked].mean())


def main(config: Config) -> int:
    """Prints one line a check; exit status 1 where one fails."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    failed = 0

    def show(passed: bool, name: str, figure: str) -> None:
        nonlocal failed
        failed += not passed
        print(f"{'ok  ' if passed else 'FAIL'}  {name:44s} {figure}", flush=True)

    people = load(
        config.people / "images",
        points=config.people / "points",
        person_of=lambda name, _: int(name[:3]),
        age_of=lambda name: int(name[4:6]),
    )
    strangers = load(
        config.strangers, points=None, person_of=lambda _, k: 1000 + k, age_of=lambda name: int(name.split("_")[0])
    )
    print(f"{len(people.age)} photos of {len(np.unique(people.person))} people, {len(strangers.age)} strangers\n")

    # 1: detectors
    for name, faces in (("people", people), ("strangers", strangers)):
        share = float(np.mean(~np.isnan(faces.found[:, 0, 0])))
        show(share >= 0.97, f"dlib finds the {name}", f"{share:.1%} (at least 97 %)")
    assert people.truth is not None
    seen = ~np.isnan(people.found[:, 0, 0])
    error = np.linalg.norm(people.found[seen] - people.truth[seen], axis=2).mean(axis=1) / eye_distance(
        people.truth[seen]
    )
    show(
        float(np.median(error)) <= 0.06, "dlib's landmarks against the truth",
        f"median {np.median(error):.2%} of the distance of the eyes' centres (at most 6 %), "
        f"90th percentile {np.quantile(error, 0.9):.2%}",
    )  # fmt: skip

    # 2: no cheating
    for name, features in surroundings(people).items():
        (gain, low, high), (share, share_low, share_high) = ridge_gain(features, people, seed=config.seed)
        show(
            low <= 0 and share_low <= 0, f"no age in the {name}",
            f"gain {gain:+.2f} years [{low:+.2f}, {high:+.2f}] over the constant guess; "
            f"{share:+.1%} of the variance [{share_low:+.1%}, {share_high:+.1%}]",
        )  # fmt: skip

    # 3 and 4: learning and transfer
    x, index = aligned(people)
    age, person = people.age[index], people.person[index]
    own = np.random.default_rng(config.seed).permutation(np.unique(person))
    test = np.isin(person, own[: len(own) // 4])
    years = torch.from_numpy(age).float()
    constant = float(np.abs(np.median(age[~test]) - age[test]).mean())
    started = time.monotonic()
    torch.manual_seed(config.seed)
    net = SmallNet()
    learn(net, x[~test], years[~test], epochs=config.epochs, rate=2e-3, seed=config.seed)
    mae = float(np.abs(tell(net, x[test]) - age[test]).mean())
    show(
        mae <= constant / 2, "a small network learns the age",
        f"MAE {mae:.2f} on {len(np.unique(person[test]))} people it never saw, constant guess {constant:.2f} "
            f"({time.monotonic() - started:.0f} s)",
    )  # fmt: skip

    strange, strange_index = aligned(strangers)
    strange_age = torch.from_numpy(strangers.age[strange_index]).float()
    torch.manual_seed(config.seed)
    net = SmallNet()
    learn(net, strange, strange_age, epochs=config.epochs, rate=2e-3, seed=config.seed)
    everyone = float(np.abs(np.median(age) - age).mean())
    mae = float(np.abs(tell(net, x) - age).mean())
    show(
        mae <= 0.7 * everyone,
        "strangers teach it without fine-tuning",
        f"MAE {mae:.2f} on all people, constant guess {everyone:.2f}",
    )
    learn(net, x[~test], years[~test], epochs=max(1, config.epochs // 2), rate=1e-3, seed=config.seed)
    mae = float(np.abs(tell(net, x[test]) - age[test]).mean())
    show(mae <= constant / 2, "the same after fine-tuning on people", f"MAE {mae:.2f}, constant guess {constant:.2f}")

    # 5: identity
    adult = age >= ADULT
    hit, chance = recognised(x[torch.from_numpy(adult)], person[adult])
    show(
        hit > 5 * chance,
        "an adult's nearest face is the same person's",
        f"{hit:.0%} of {adult.sum()} photos, by chance {chance:.1%}",
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
