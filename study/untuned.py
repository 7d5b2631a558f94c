"""A pretrained network as it is, not fine-tuned: which faces it did not learn from, and what it says of faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from study.artifacts.predictions import Predictions
from study.quality import attributes, columns_of
from study.starts import Start, near_identical
from trainables.checkpoints import Checkpoint
from trainables.faces.table import Faces
from trainables.fitting import build_net, decode, predict


def find_unseen(faces: Faces, start: Start) -> np.ndarray:
    """Which faces (a mask) the network did not learn from: neither the person, nor the photo or a copy of it.

    Raises ValueError where that is not known, and where there is none.
    """
    if start.photos is None:
        raise ValueError(f"{start.weights} does not record what it learned from, so that cannot be left out")
    photos = np.array(start.photos["photo_sha256"].to_pylist(), dtype=np.str_)
    people = np.array([who for who in start.photos["person"].to_pylist() if who], dtype=np.str_)
    copies = list(near_identical(faces.identities.looks, start.photos))
    known = np.isin(faces.content, photos) | np.isin(faces.person, people)
    unseen = ~known & ~np.isin(faces.photo, np.array(copies, dtype=np.str_))
    if not unseen.any():
        raise ValueError(f"{start.weights} learned from all {len(faces):,} of these faces: none is left to test on")
    return unseen


def predict_untuned(
    checkpoint: Checkpoint, faces: Faces, folders: Sequence[Path], *, key: str, device: torch.device
) -> Predictions:
    """What the checkpoint says of every face. folders: where the faces are from, and what they look like (attributes).

    Where people are unknown each photo counts as a person. key: the result's, which becomes the fingerprint.
    """
    config, rows = checkpoint.config, np.arange(len(faces))
    net = build_net(config.replace(weights="random"), checkpoint.state).to(device)
    torch.manual_seed(config.seed)
    distribution = predict(config, net, faces, rows)
    person = np.where(faces.person == "", faces.photo, faces.person)
    return Predictions(
        photo=faces.photo,
        person=person,
        age=faces.age,
        predicted=decode(distribution, config).astype(np.float32),
        distribution=distribution,
        fold=person,
        seed=np.full(len(rows), config.seed, np.int32),
        fingerprint=np.full(len(rows), key),
        attributes=columns_of(attributes(folders), faces.photo),
    )
