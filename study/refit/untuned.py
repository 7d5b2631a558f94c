"""A pretrained network as a model, as it is: its plan, and its error on the faces that its training left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from study.artifacts.brands import brand
from study.artifacts.model import Chosen, Measured
from study.plain import printable
from study.refit.measure import measure
from study.refit.options import Refit
from study.refit.plan import Plan, read_alignment
from study.starts import check_coverage, check_starts, read_start
from study.untuned import find_unseen, predict_untuned
from trainables import code_version
from trainables.checkpoints import load_checkpoint
from trainables.config import fingerprint
from trainables.faces.table import load_faces

AS_IT_IS = "the network of a checkpoint as it is: nothing was trained or chosen by this command"


def take_untuned(options: Refit, folder: Path) -> tuple[Plan, Measured]:
    """The plan for a checkpoint's folder, and its error on the faces of options.faces that it did not learn from.

    Raises ValueError or FileNotFoundError where it cannot be done.
    """
    checkpoint, folders = load_checkpoint(folder), list(options.faces)
    config = checkpoint.config
    start = read_start(config.backbone, str(folder))
    faces = load_faces(folders, px=config.px)
    check_coverage(start, faces.identities.coverage, options.allowed)
    photos = np.array(start.photos["photo_sha256"].to_pylist() if start.photos is not None else [], dtype=np.str_)
    if missing := int((~np.isin(photos, faces.content)).sum()):  # else the card would tell of a part as of the whole
        raise ValueError(
            f"{missing:,} of the {len(photos):,} photos that {folder} learned from are not in "
            f"{', '.join(map(str, folders))}: give all tables of its pretraining as --faces ({start.what})"
        )
    tested = faces.take(find_unseen(faces, start))  # takes a minute: it looks for copies; refuses start.photos None
    learned_from = check_starts([start], tested.identities, options.allowed)
    key = fingerprint({"checkpoint": start.digest, "faces": tested.digest, "code": code_version()})
    print(f"Its error on {len(tested):,} faces that it did not learn from ...", flush=True)
    predictions = predict_untuned(checkpoint, tested, folders, key=key, device=torch.device("cpu"))
    mark = brand(learned_from=learned_from)
    strangers = int((tested.person == "").sum())
    measured = measure(predictions, result=key, brand=mark, untuned=True, strangers=strangers)
    plan = Plan(
        name=options.name or printable(f"{config.backbone}, not fine-tuned"),
        config=config,
        seeds=1,
        chosen=Chosen(AS_IT_IS),
        winners=(config,),
        faces=faces.take(np.isin(faces.content, photos)),
        start=start,
        alignment=read_alignment(folders),
        brand=mark,
        untuned=checkpoint,
    )
    return plan, measured
