"""Where networks start from: their weights, what those learned from, and whether the tested people are among it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from torch import Tensor

from search_spaces import Space
from study.artifacts.pretraining import LearnedFrom, StartRecord
from study.cli.options import Allowed, is_synthetic
from study.plain import printable
from trainables.backbones import find_backbone, read_weights
from trainables.checkpoints import load_checkpoint
from trainables.config import TrialConfig
from trainables.faces.hashes import NEAR, Hashes, nearest, stacked
from trainables.faces.table import Identities, Looks, identify
from trainables.folders import standing
from trainables.frozen.checks import check_frozen
from trainables.names import folder_name
from trainables.provenance import NO_PHOTOS, tensors_digest

UNRECORDED = "what it learned from is not recorded, so it may have seen the tested people"


@dataclass(frozen=True)
class Start:
    """The weights that a network starts from.

    weights: as a config names them. digest: of their content, or "random". what: in words, what they learned from;
    photos: the same as a trainables.provenance.PHOTOS table, None where it is not recorded; datasets: the study's
    datasets among it; coverage: of the faces it learned from, None where none is known.
    """

    backbone: str
    weights: str
    digest: str
    what: str
    photos: pa.Table | None
    datasets: tuple[str, ...] = ()
    coverage: float | None = None

    @property
    def record(self) -> StartRecord:
        """What best.json and about.json keep of it."""
        return StartRecord(self.backbone, self.weights, self.digest, self.what)


def read_start(backbone: str, weights: str) -> Start:
    """The start that config.weights names.

    Raises FileNotFoundError or ValueError where it cannot be read or is of another network.
    """
    if weights == "random":
        return Start(backbone, weights, "random", "none (random weights)", NO_PHOTOS)
    if weights == "imagenet":
        return Start(backbone, weights, tensors_digest(read_weights(backbone, weights)), "ImageNet", NO_PHOTOS)
    if not standing(Path(weights)).is_dir():
        digest = tensors_digest(read_weights(backbone, weights))
        return Start(backbone, weights, digest, f"weights file {Path(weights).name}", None)
    checkpoint = load_checkpoint(Path(weights))
    if checkpoint.config.backbone != backbone:
        raise ValueError(
            f"{weights} is a checkpoint of {checkpoint.config.backbone}, expected one of {backbone}: pretrain it with: "
            f"python -m study.pretrain --backbone {backbone}"
        )
    about = checkpoint.about
    what = replace(about, trained_on=about.trained_on or weights).described
    return Start(
        backbone, weights, tensors_digest(checkpoint.state), what, checkpoint.photos, about.datasets, about.coverage
    )


def find_starts(folder: Path, space: Space, base: TrialConfig, *, from_file: bool) -> dict[str, Start]:
    """Where each backbone of the space starts: from its checkpoint in the folder, else from base.weights.

    from_file: base.weights came with its backbone (--trial), which then always starts from them. Raises ValueError
    where one file's weights would start other networks too, or where frozen layers were never trained.
    """
    found = {}
    elsewhere = base.weights not in ("random", "imagenet")
    for backbone in space.backbones or (base.backbone,):
        place = folder / folder_name(backbone)
        there = standing(place).is_dir()
        own = backbone == base.backbone and (from_file or (elsewhere and not space.backbones and not there))
        weights = str(place) if there and not (own and base.weights != "random") else base.weights
        if elsewhere and weights == base.weights and not own:
            raise ValueError(
                f"the weights at {base.weights} cannot start {backbone}, which has no checkpoint at {place}: pretrain "
                "it, or give --weights random or imagenet"
            )
        found[backbone] = read_start(backbone, weights)
        hint = f" (no {place}; make it with: python -m study.pretrain --backbone {backbone})"
        print(f"  {backbone}: {found[backbone].what}" + ("" if weights != base.weights or own else hint))
        px = find_backbone(backbone).px if "px" in space.own else base.px
        drop_path = base.drop_path if find_backbone(backbone).drop_path else 0.0
        check_frozen(base.replace(backbone=backbone, weights=weights, px=px, drop_path=drop_path))
    return found


def read_tensors(start: Start) -> dict[str, Tensor] | None:
    """The tensors that a training starts from; None for random ones, which each training draws by its seed.

    Raises ValueError where the file was replaced since the start was read.
    """
    if start.weights == "random":
        return None
    state = read_weights(start.backbone, start.weights)
    if tensors_digest(state) != start.digest:
        raise ValueError(f"the weights of {start.backbone} at {start.weights} were replaced while they were read")
    return state


def check_starts(starts: Sequence[Start], tested: Identities, allowed: Allowed) -> LearnedFrom:
    """What the networks learned from against the tested people and photos, for about.json and best.json.

    state: "apart" (compared, and none of the tested is among it), "overlap", or "unknown" where a start has no record
    of its photos. photos and people: how many of the tested some start learned from; near: how many further photos are
    near-identical to one of its own. compared: photos that the largest start learned from. sentence: all this in words.
    Raises ValueError for an overlap, a pretraining on synthetic faces under real ones, or on faces of another coverage,
    unless it is allowed.
    """
    photos, people, near, compared, synthetic = set[str](), set[str](), dict[str, int](), 0, False
    blind: list[str] = []
    for start in starts:
        check_coverage(start, tested.coverage, allowed)
        synthetic |= is_synthetic(start.datasets) and not is_synthetic(tested.datasets)
        if synthetic and not allowed.allow_synthetic:
            raise ValueError(
                f"{start.weights} was pretrained on synthetic faces ({start.what}), and "
                f"{', '.join(sorted(tested.datasets))} has real ones: pretrain on real faces with: python -m "
                f"study.pretrain --backbone {start.backbone} --faces FACES; or add --allow-synthetic"
            )
        if start.photos is None:
            continue
        compared = max(compared, start.photos.num_rows)
        seen = tested.photos.intersection(start.photos["photo_sha256"].to_pylist())
        known = tested.people.intersection(start.photos["person"].to_pylist())
        alike = near_identical(tested.looks, start.photos)
        if (seen or known or alike) and not allowed.allow_overlap:
            raise ValueError(
                f"{start.weights} learned from {len(seen)} of the tested photos and from {len(known)} of the tested "
                f"people{named(alike)}: a model must not be tested on people that it has seen. Pretrain without them, "
                "or add --allow-overlap, which marks every result"
            )
        photos, people, near = photos | seen, people | known, near | alike
        if start.photos.num_rows and (tested.looks is None or start.photos["face_hash"].null_count):
            blind.append(start.weights)
    if blind:
        print(
            f"{', '.join(blind)}: pretrained by an earlier version, which kept no hashes of pictures: only identical "
            "bytes could be compared, and a re-encoded or resized copy of a tested photo would not be noticed",
            flush=True,
        )
    if near:
        print(f"--allow-overlap: {named(near).removeprefix('; ')}", flush=True)
    unknown = sorted({start.weights for start in starts if start.photos is None})
    state: Literal["apart", "unknown", "overlap"]
    state = "overlap" if photos or people or near else "unknown" if unknown else "apart"
    sentence = _sentence(state, len(photos), len(people), len(near), compared, unknown, blind=bool(blind))
    return LearnedFrom(state, len(photos), len(people), compared, synthetic, sentence, len(near))


def check_coverage(start: Start, coverage: float, allowed: Allowed) -> None:
    """Raise ValueError where a network learned from faces of another coverage than these, unless it is allowed."""
    if start.coverage not in (None, coverage) and not allowed.allow_coverage:
        raise ValueError(
            f"{start.weights} was pretrained on faces cut with --coverage {start.coverage:g}, and these with "
            f"{coverage:g}: the network would see faces of another size. Align these with python -m study.align "
            f"--coverage {start.coverage:g}, pretrain on such faces, or add --allow-coverage"
        )


def near_identical(tested: Looks | None, learned: pa.Table) -> dict[str, int]:
    """The tested photos whose picture is near-identical to one of a PHOTOS table, and in how many bits of 256 they
    differ; without those whose bytes are in it."""
    if tested is None:
        return {}
    known = {name: stacked(learned[name].to_pylist()) for name in ("face_hash", "photo_hash")}
    return _near(tested, known["face_hash"], known["photo_hash"], learned["photo_sha256"].to_pylist())


def near_copies(tested: Looks | None, others: Looks | None) -> dict[str, int]:
    """The same for other faces in place of a PHOTOS table."""
    if tested is None or others is None:
        return {}
    return _near(tested, others.face_hash, others.photo_hash, others.content.tolist())


def _near(tested: Looks, faces: Hashes, photos: Hashes, content: Sequence[str]) -> dict[str, int]:
    bits = np.minimum(nearest(tested.face_hash, faces), nearest(tested.photo_hash, photos))
    found = (bits <= NEAR) & ~np.isin(tested.content, np.array(content, dtype=np.str_))
    return dict(zip(tested.photo[found].tolist(), bits[found].tolist(), strict=True))


def named(near: dict[str, int]) -> str:
    """The near-identical photos, the most alike first, for the end of a sentence; "" where there are none."""
    if not near:
        return ""
    first = sorted(near, key=lambda name: (near[name], name))[:5]
    shown = ", ".join(f"{printable(name)} ({near[name]} of 256 bits differ)" for name in first)
    more = f" and {len(near) - len(first)} more" if len(near) > len(first) else ""
    return f"; {len(near)} tested photos are near-identical to one of its photos: {shown}{more}"


def check_apart(pretraining: Sequence[Path], tested: Sequence[Path]) -> None:
    """Raise ValueError where a tested photo lies in the pretraining data, byte for byte or as a near-identical picture.
    Reads no label."""
    ours, theirs = identify(tested), identify(pretraining)
    shared, alike = theirs.photos & ours.photos, near_copies(ours.looks, theirs.looks)
    if shared or alike:
        raise ValueError(
            f"{len(shared)} photos of {', '.join(map(str, tested))} lie in {', '.join(map(str, pretraining))} too"
            f"{named(alike)}: a config chosen there was chosen with the help of tested photos; give --pretrain-faces "
            "without them"
        )


def worst(records: Sequence[LearnedFrom]) -> LearnedFrom:
    """Of several records of check_starts the one that says least good of a result."""
    order = ("apart", "unknown", "overlap")
    found = max(records, key=lambda record: (order.index(record.state), record.photos))
    return replace(found, synthetic=any(record.synthetic for record in records))


def _sentence(
    state: str, photos: int, people: int, near: int, compared: int, unknown: Sequence[str], *, blind: bool
) -> str:
    if state == "overlap":
        copies = f", and {near} further ones are near-identical to one of them" if near else ""
        return (
            f"{photos} of the tested photos and {people} of the tested people are among those that it was pretrained on"
            f"{copies}"
        )
    if state == "unknown":
        return f"{', '.join(unknown)}: {UNRECORDED}"
    if not compared:
        return "it was pretrained on none of the study's data sets"
    how = "; only identical bytes could be compared" if blind else ", or near-identical to one of them"
    return f"none of the tested photos or people is among the {compared:,} photos that it was pretrained on{how}"
