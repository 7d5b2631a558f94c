"""A model folder with small random weights, written by the code of study.refit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from study.artifacts.aligned import Recipe
from study.artifacts.model import Chosen
from study.artifacts.predictions import Predictions
from study.landmarks.warp import TEMPLATE, TEMPLATE_NAME
from study.refit.folder import write_model
from study.refit.measure import measure
from study.refit.plan import Plan
from study.starts import Start
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.fitting import build_net
from trainables.provenance import NO_PHOTOS

PHOTOS = Path(__file__).parents[2] / "study/align/datasets/built_in/people/images"
"""Photos of synthetic people."""

RECIPE = Recipe(
    dataset="drawn",
    landmarker="dlib",
    template=TEMPLATE_NAME,
    points=tuple(map(tuple, TEMPLATE.tolist())),
    size=256,
    quality=95,
)
CONFIG = TrialConfig(backbone="resnet18", px=32)


def random_states(seeds: int) -> list[dict[str, torch.Tensor]]:
    states = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        states.append({name: value.contiguous() for name, value in build_net(CONFIG).state_dict().items()})
    return states


def plan_of(faces: Faces, *, seeds: int = 2, **changes) -> Plan:
    start = Start("resnet18", "random", "random", "none (random weights)", NO_PHOTOS)
    given = {"name": "a test", "config": CONFIG, "seeds": seeds, "chosen": Chosen("by a test"), "winners": (CONFIG,)}
    return Plan(**{**given, "faces": faces, "start": start, "alignment": RECIPE, "brand": "", **changes})


@pytest.fixture(scope="session")
def faces(tmp_path_factory, make_table) -> Faces:
    return load_faces([make_table(tmp_path_factory.mktemp("table") / "people", people=30, photos=6)], px=32)


def random_predictions(faces: Faces) -> Predictions:
    random = np.random.default_rng(0)
    distribution = random.dirichlet(np.ones(101), size=len(faces)).astype(np.float32)
    return Predictions(
        photo=faces.photo,
        person=faces.person,
        age=faces.age,
        predicted=(distribution @ np.arange(101)).astype(np.float32),
        distribution=distribution,
        fold=faces.person,
        seed=np.zeros(len(faces), np.int32),
        fingerprint=np.full(len(faces), "x"),
    )


@pytest.fixture(scope="session")
def measured(faces):
    return measure(random_predictions(faces), result="0123456789ab")


@pytest.fixture(scope="session")
def folder(tmp_path_factory, faces, measured) -> Path:
    place = tmp_path_factory.mktemp("models") / "model"
    write_model(place, plan_of(faces), random_states(2), training="t" * 12, content="c" * 12, measured=measured)
    return place
