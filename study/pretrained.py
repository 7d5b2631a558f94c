"""What each network of a sweep starts from: a checkpoint of study.pretrain, a file's weights, or --weights."""

from __future__ import annotations

from pathlib import Path

from search_spaces import Space
from study.plans import describe_pretraining
from trainables.backbones import find_backbone, read_weights
from trainables.checkpoints import load_checkpoint
from trainables.checks import check_frozen
from trainables.config import TrialConfig


def find_pretrained(
    folder: Path, space: Space, base: TrialConfig, *, from_file: bool = False
) -> dict[str, tuple[str, str]]:
    """Backbone: (weights, fingerprint), for those of the space that start from more than base.weights says for all.

    These are the networks that study.pretrain has written into the folder, and the base's own where its weights come
    from_file (--trial), or are a file or checkpoint of their own. Raises ValueError where such a file is to start other
    networks too, or where stages are frozen that were never trained.
    """
    found = {}
    for backbone in space.backbones or (base.backbone,):
        place = folder / backbone
        elsewhere = base.weights not in ("random", "imagenet")
        if (
            base.weights != "random"
            and backbone == base.backbone
            and (from_file or (elsewhere and not space.backbones and not place.is_dir()))
        ):
            told = describe_pretraining(base.weights)
            read_weights(backbone, base.weights)  # what is wrong with them is said here, and not by every trial
            found[backbone] = (base.weights, str(told["fingerprint"]))
            print(f"  {backbone}: {told['what']}")
        elif place.is_dir():
            about = load_checkpoint(place).about
            found[backbone] = (str(place), str(about.get("fingerprint", "")))
            print(f"  {backbone}: pretrained, {about.get('trained_on', place)}")
        elif elsewhere:
            raise ValueError(
                f"the weights at {base.weights} cannot start {backbone}, which has no checkpoint at {place}: "
                "pretrain it, or give --weights random or imagenet"
            )
        else:
            print(
                f"  {backbone}: {base.weights} weights (no {place}; "
                f"make it with: python -m study.pretrain --backbone {backbone})"
            )
        weights = found[backbone][0] if backbone in found else base.weights
        px = find_backbone(backbone).px if "px" in space.own else base.px
        drop_path = base.drop_path if find_backbone(backbone).drop_path else 0.0
        check_frozen(base.replace(backbone=backbone, weights=weights, px=px, drop_path=drop_path))
    return found
